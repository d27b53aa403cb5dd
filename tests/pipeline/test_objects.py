"""Whole cells of models that are no names: reports, snapshots, resuming, and what is refused before training."""

from __future__ import annotations

import functools
import random
import re
import string
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast
from transformers.utils import logging as transformers_logging

import rote_bench
from rote_bench.cli import main
from rote_bench.errors import UserError
from rote_bench.models.content import of_state
from rote_bench.models.names import NAME
from rote_bench.report.write import faults
from rote_bench.strangers import ProcessLeft
from tests.models.loose import Ahead, Looped, Plain, Skipping
from tests.pipeline.test_runner import tiny

LOOKS = "diagnostics: [learning_dynamics, logit_lens, probe, circuits, neighbourhood]\n"
WORDS = 60  # more than the task has
LONG = """
name: long
generator: addition
parameters: {digits: 4, order: least_first}
splits: {train: 60, selection: 10, validation: 20}
noise: {rates: [0.1]}
training: {max_steps: 8, evaluate_every: 4, schedule: {warmup: 1, anneal: 4}}
diagnostics: [learning_dynamics]
"""


def run(folder: Path, model: Any, looks: str = "diagnostics: [learning_dynamics]\n", **options: Any) -> Any:
    return rote_bench.run(tiny(folder, looks), model=model, output_path=folder / "runs", quiet=True, **options)


def statuses(report: Any) -> dict[str, str]:
    return {name: entry.status for name, entry in report.record.diagnostics.items()}


def gpt2() -> GPT2LMHeadModel:
    return GPT2LMHeadModel(GPT2Config(vocab_size=WORDS, n_positions=32, n_embd=16, n_layer=2, n_head=2))


def test_four_kinds_of_models_make_four_reports(tmp_path: Path) -> None:
    torch.manual_seed(0)
    given = {
        "object": gpt2(),
        "plain": Plain(WORDS),
        "function": Plain,
        "looped": Looped(WORDS),
        "skip": Skipping(WORDS),
    }
    found = {name: run(tmp_path, model, LOOKS) for name, model in given.items()}
    assert len({report.folder for report in found.values()}) == 5
    for name, report in found.items():
        model = report.record.model
        assert report.record.status == "success" and not faults(report.data)
        assert model.source == "object" and model.builder and model.weights
        assert all(
            (report.folder / "checkpoints" / s / "model.safetensors").is_file()
            for s in report.record.training.snapshots
        )
        if name != "skip":
            assert set(statuses(report).values()) == {"success"}, (name, statuses(report))
    assert found["object"].record.model.model_type == "gpt2"
    proofs = {name: {k for k, p in r.record.model.anatomy.items() if not p.ok} for name, r in found.items()}
    assert proofs["object"] == proofs["plain"] == proofs["function"] == set() and proofs["looped"] == {"prefix"}
    skipped = found["skip"].record.diagnostics
    assert statuses(found["skip"]) == {
        "learning_dynamics": "success",
        "logit_lens": "not_applicable",
        "probe": "not_applicable",
        "circuits": "not_applicable",
        "neighbourhood": "success",
    }
    assert all(
        "more than the last block's output" in (e.reason or "") for e in skipped.values() if e.status != "success"
    )
    for model in (given["plain"], given["looped"]):
        assert isinstance(model, nn.Module) and not any(m._forward_hooks for m in model.modules())


def test_the_object_is_as_it_was_and_its_cell_is_found_again(tmp_path: Path) -> None:
    model = Plain(WORDS)
    before = of_state(model)
    first = run(tmp_path, model, seed=[0, 1], model_name="mine")
    assert of_state(model) == before
    assert [r.record.model.weights for r in first] == [before, before]
    assert [r.folder.parts[-3] for r in first] == ["mine", "mine"]
    assert first[0].value("memorization_rate") is not None
    stamp = (first[0].folder / "report.json").stat().st_mtime_ns
    assert run(tmp_path, model, model_name="mine").folder == first[0].folder
    assert (first[0].folder / "report.json").stat().st_mtime_ns == stamp
    with torch.no_grad():
        model.head.weight.mul_(2)
    with pytest.raises(UserError, match=r"differs in model\.weights"):
        run(tmp_path, model, model_name="mine")
    assert run(tmp_path, model).folder != first[0].folder


def test_an_object_is_diagnosed_as_it_is_and_again(tmp_path: Path) -> None:
    model = Looped(WORDS)
    report = run(tmp_path, model)
    again = run(tmp_path, model, rediagnose=True, overrides={"diagnostics": ["logit_lens"]})
    assert statuses(again) == {"logit_lens": "success"}
    assert again.value("validation_accuracy") == report.value("validation_accuracy")
    snapshot = report.folder / "checkpoints" / "post_memorization"
    looked = rote_bench.run(
        tiny(tmp_path),
        model=model,
        train=False,
        snapshots={"post": str(snapshot)},
        output_path=tmp_path / "other",
        quiet=True,
    )
    assert looked.value("validation_accuracy") == report.value("validation_accuracy")


def test_a_snapshot_is_opened_with_what_was_run(tmp_path: Path) -> None:
    report = run(tmp_path, Plain, model_name="gru")
    opened = report.load("post", model=Plain)
    with torch.no_grad():
        right = opened.validation.true.correct(opened.model(input_ids=opened.validation.true.input_ids).logits)
    assert float(right.double().mean()) == pytest.approx(report.value("validation_accuracy"))
    with pytest.raises(UserError, match="gru is no model by name"):
        report.load("post")
    with pytest.raises(UserError, match="made by other code"):
        report.load("post", model=lambda vocab_size: Plain(vocab_size, layers=1))


def test_what_it_takes_is_told_before_and_nothing_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = Looped(WORDS)
    before = of_state(model)
    found = rote_bench.expect_cells(tiny(tmp_path), model=model, output_path=tmp_path / "runs")
    assert all(each is not None and each.total > 0 for each in found.values()) and of_state(model) == before
    (folder,) = found
    report = rote_bench.run(tiny(tmp_path), model=model, output_path=tmp_path / "runs")
    assert report.folder == folder and "training" in capsys.readouterr().err


def test_its_report_is_shown_checked_and_ranked_as_others_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = run(tmp_path, Plain, model_name="gru", seed=0)
    assert main(["show", str(report.folder)]) == 0 and main(["show", str(report.folder), "--html"]) == 0
    assert main(["leaderboard", "check", str(report.folder)]) in (0, 3)
    capsys.readouterr()
    assert main(["leaderboard", "check", str(report.folder), "--rerun"]) == 3
    assert "the code that makes gru does not come with a report" in " ".join(capsys.readouterr().out.split())
    card = (report.folder / "checkpoints" / "post_memorization" / "README.md").read_text()
    assert "load_model(model" in card and "tests.models.loose.Plain" in card and "library_name: pytorch" in card
    assert main(["leaderboard", "build", str(report.folder), "-o", str(tmp_path / "board")]) == 0
    assert r"gru \[" in (tmp_path / "board" / "leaderboard.md").read_text()


def test_twins_of_a_function_begin_alike(tmp_path: Path) -> None:
    report = run(tmp_path, Plain, twin=True, model_name="gru")
    twin = rote_bench.load_report(tmp_path / "runs" / "tiny" / "gru" / "noise-0" / "seed-0")
    models = [replace(each.record.model, signature=None) for each in (twin, report)]
    assert models[0] == models[1]
    assert report.record.training.schedule.twin in (None, twin.record.identity.hash)
    line, *_ = rote_bench.compare(report.folder, report.folder).lines
    assert (line.metric, line.first) == ("noise_transfer", report.noise_transfer)
    assert rote_bench.compare(twin.folder, twin.folder).lines[0].metric != "noise_transfer"


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (lambda: Plain(5), {}, "Plain has a vocabulary of 5 tokens"),
        (lambda: Ahead(WORDS), {}, "sees later tokens"),
        (lambda: Plain(WORDS).requires_grad_(False), {}, "no parameter requires a gradient"),
        (lambda: Plain(WORDS), {"model_name": "gpt2-nano"}, "is that of a model of 'config'"),
        (lambda: "gpt2-nano", {"model_name": "mine"}, "model_name: 'gpt2-nano' brings its own"),
        (lambda: 3, {}, "int is no model"),
    ],
)
def test_what_cannot_be_run_is_refused_before_it_is_trained(
    model: Any, options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        run(tmp_path, model(), **options)
    assert not list(tmp_path.rglob("dynamics.jsonl"))


def test_sizes_of_the_task_that_do_not_reach_a_model_are_said_or_refused(tmp_path: Path) -> None:
    idle = {"model.mlp_width": 9, "model.activation": "relu"}
    task = tiny(tmp_path)
    text = task.read_text()
    task.write_text(text + "profiles: {flat: {model: {layers: 1, mlp_width: 9, activation: relu}}}\n")
    common: dict[str, Any] = {"output_path": tmp_path / "runs", "quiet": True}
    report = rote_bench.run(task, model=Plain, profile="flat", model_name="gru", **common)
    assert report.record.warnings == ("the task's heads=2, mlp_width=9 does not reach gru, which has sizes of its own",)
    for key, value in idle.items():
        with pytest.raises(UserError, match=rf"--set {key}: gru does not read {key}"):
            rote_bench.run(task, model=Plain, model_name="gru", overrides=[f"{key}={value}"], **common)
    with pytest.raises(UserError, match=r"--set model: gru does not read model\.mlp_width"):
        rote_bench.run(
            task, model=Plain, profile="flat", model_name="gru", overrides=["model={mlp_width: 9}"], **common
        )


def test_a_tokenizer_is_used_where_one_is_given(tmp_path: Path) -> None:
    from rote_bench.encoding import build_tokenizer
    from rote_bench.splits import make_task

    spec = rote_bench.load_task(tiny(tmp_path))
    from rote_bench import plugins

    tokenizer = build_tokenizer([*make_task(spec, plugins.built_in()).words(), "more"])
    report = run(tmp_path, Plain, tokenizer=tokenizer)
    assert report.record.model.tokenizer is not None
    assert report.record.model.config["vocab_size"] == len(tokenizer)


asked_for: list[tuple[int, ...]] = []


class Placed(Plain):
    """Has a place for each token, and notes what it is asked for."""

    def __init__(self, vocab_size: int, max_length: int, pad_token_id: int, eos_token_id: int) -> None:
        super().__init__(vocab_size)
        asked_for.append((vocab_size, max_length, pad_token_id, eos_token_id))
        self.place = nn.Embedding(max_length, 32)

    def forward(self, input_ids: Tensor) -> Any:
        x = self.embed(input_ids) + self.place(torch.arange(input_ids.shape[1]))
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


def test_a_function_is_asked_for_the_tokens_of_its_own_tokenizer(tmp_path: Path) -> None:
    vocabulary = {word: number for number, word in enumerate([*string.printable, "<end>", "<pad>", "<unk>"])}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", eos_token="<end>", unk_token="<unk>")
    asked_for.clear()
    (tmp_path / "long.yaml").write_text(LONG)
    given: dict[str, Any] = {"output_path": tmp_path / "runs", "quiet": True, "tokenizer": tokenizer}
    report = rote_bench.run(tmp_path / "long.yaml", model=Placed, **given)
    texts = rote_bench.data(tmp_path / "long.yaml", n=10_000)
    longest = max(len(f"{each['prompt']} {each['answer']}") for each in texts)
    assert longest > 16 and len(set(asked_for)) == 1
    words, length, pad, end = asked_for[0]
    assert (words, pad, end) == (len(tokenizer), vocabulary["<pad>"], vocabulary["<end>"]) and length >= longest
    assert report.load("post", model=Placed) and len(set(asked_for)) == 1, "it is asked alike when it is opened"


def test_check_model_leaves_its_caller_alone() -> None:
    before = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    with torch.no_grad():
        assert rote_bench.check_model(Plain(WORDS))["status"] == "proved"
    with torch.inference_mode():
        assert rote_bench.check_model("gpt2-nano")["status"] == "proved"
    assert (transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()) == before

    class Leaving(Plain):
        def forward(self, input_ids: Tensor) -> Any:
            raise SystemExit(3)

    with pytest.raises(ProcessLeft, match="SystemExit: 3"):
        rote_bench.check_model(Leaving(WORDS))


def test_weights_that_are_no_parameters_are_said_and_others_are_another_model(tmp_path: Path) -> None:
    class Hiding(Plain):
        def __init__(self, vocab_size: int) -> None:
            super().__init__(vocab_size)
            self.hidden = [nn.Linear(32, 32)]

        def forward(self, input_ids: Tensor) -> Any:
            return self.head(self.norm(self.hidden[0](self.embed(input_ids))))

    report = run(tmp_path, Hiding)
    assert any("answers by 2 weights that are none of its parameters" in text for text in report.record.warnings)


def test_a_snapshot_is_opened_with_the_weights_that_were_run(tmp_path: Path) -> None:
    torch.manual_seed(0)
    report = run(tmp_path, Plain(WORDS), model_name="mine")
    with pytest.raises(UserError, match="it begins with other weights than mine did"):
        report.load("post", model=Plain(WORDS))


def test_a_changed_model_of_transformers_is_opened_and_diagnosed_again(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = gpt2()
    model.transformer.h = model.transformer.h[:1]
    report = run(tmp_path, model)
    opened = report.load("post", model=model)
    assert len(opened.model.transformer.h) == 1
    assert "load_model(model" in (opened.folder / "README.md").read_text()
    again = run(tmp_path, model, "diagnostics: [learning_dynamics, probe]\n", rediagnose=True)
    assert statuses(again)["probe"] == "success"


def test_check_model_takes_objects() -> None:
    found = {kind.__name__: rote_bench.check_model(kind(WORDS)) for kind in (Plain, Looped, Skipping, Ahead)}
    assert {name: one["status"] for name, one in found.items()} == {
        "Plain": "proved",
        "Looped": "proved",
        "Skipping": "partial",
        "Ahead": "refused",
    }
    assert "last block's output" in found["Skipping"]["reason"] and found["Skipping"]["checks"]["trains"]["ok"]
    assert rote_bench.check_model(Plain)["parameters"] is not None


def test_check_model_refuses_what_run_refuses() -> None:
    with pytest.raises(UserError, match="Plain has a vocabulary of 60 tokens where 128 are asked for"):
        rote_bench.check_model(lambda vocab_size: Plain(WORDS))
    found = rote_bench.check_model(Normalised(WORDS))
    assert found["status"] == "refused" and "BatchNorm1d, which mixes the rows" in found["reason"]


class Normalised(Plain):
    """Plain, normalised over the batch."""

    def __init__(self, vocab_size: int) -> None:
        super().__init__(vocab_size)
        self.rows = nn.BatchNorm1d(32)

    def states(self, x: torch.Tensor) -> torch.Tensor:
        return self.rows(super().states(x).mT).mT  # type: ignore[no-any-return]


class Drawing(Plain):
    """Dropout that nobody turned off."""

    def states(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.dropout(super().states(x))


class Warming(Plain):
    """Its answers grow with the training steps that it counts itself."""

    def forward(self, ids: Any) -> Any:
        self.steps = getattr(self, "steps", 0) + self.training
        return super().forward(ids) * (1 + self.steps / 1000)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (Drawing, "answers the same tokens otherwise when it is asked again"),
        (Warming, r"answers by something \(steps\)"),
    ],
)
def test_answers_that_follow_chance_or_the_past_are_refused(model: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=said):
        run(tmp_path, model, model_name="m")
    assert not list(tmp_path.rglob("report.json"))
    found = rote_bench.check_model(model)
    assert found["status"] == "refused" and re.search(said, found["reason"])


class Counting(Plain):
    """What it learns is turned round after so many steps, which it counts outside of its weights."""

    steps: torch.Tensor
    after = 30

    def __init__(self, vocab_size: int) -> None:
        super().__init__(vocab_size)
        self.register_buffer("steps", torch.zeros(1), persistent=False)

    def forward(self, ids: Any) -> Any:
        if self.training:
            self.steps += 1
        return super().forward(ids) * torch.where(self.steps > self.after, 1.0, -1.0)


class AtOnce(Counting):
    after = 0


def test_a_snapshot_that_does_not_answer_as_the_model_did_replaces_no_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answers themselves tell, where the comparison of logits should not."""
    for name in ("check_kept", "left_out"):
        monkeypatch.setattr(f"rote_bench.models.outside.{name}", lambda *given: None)
    report = run(tmp_path, AtOnce, model_name="m", overrides={"training.max_steps": 60})
    before = (report.folder / "report.json").read_bytes()
    with pytest.raises(UserError, match=r"does not answer as the model did: .*state outside of its weights"):
        run(tmp_path, AtOnce, LOOKS, model_name="m", overrides={"training.max_steps": 60}, rediagnose=True)
    assert (report.folder / "report.json").read_bytes() == before


def test_a_model_whose_snapshot_is_another_says_so_and_is_not_diagnosed_again(tmp_path: Path) -> None:
    report = run(tmp_path, Counting, model_name="m", overrides={"training.max_steps": 60})
    assert any(re.search(r"\(steps\).*the snapshot saved is not", text) for text in report.record.warnings)
    assert set(report.record.training.snapshots) == {"post_memorization"}
    before = (report.folder / "report.json").read_bytes()
    with pytest.raises(UserError, match="cannot be diagnosed without training: the snapshot saved is not"):
        run(tmp_path, Counting, LOOKS, model_name="m", overrides={"training.max_steps": 60}, rediagnose=True)
    assert (report.folder / "report.json").read_bytes() == before


def test_what_a_modules_own_code_draws_follows_the_seed(tmp_path: Path) -> None:
    """Layers that are dropped by Python's generator, and by numpy's; and what is kept of a step is in nobody's way."""

    class Dropping(Plain):
        def forward(self, ids: Any) -> Any:
            x = self.embed(ids)
            for block in self.blocks:
                if not self.training or random.random() + np.random.random() < 1.3:
                    x = block(x)
            if self.training:
                self.auxiliary = x.pow(2).mean()
            return self.head(self.norm(x))

    found = []
    for seed in (1, 2):
        random.seed(seed)
        np.random.seed(seed)
        (tmp_path / str(seed)).mkdir()
        report = run(tmp_path / str(seed), Dropping, model_name="m")
        found.append({name: report.value(name) for name in report.metrics})
        assert report.record.training.snapshots
    assert found[0] == found[1]
    for seed in range(3, 9):  # whatever was drawn before, it is the same model, and nothing is drawn from the caller's
        random.seed(seed)
        np.random.seed(seed)
        before = random.getstate()
        assert run(tmp_path / "1", Dropping, model_name="m").record.identity == report.record.identity
        assert random.getstate() == before


def test_it_trains_where_gradients_are_off(tmp_path: Path) -> None:
    with torch.no_grad():
        assert run(tmp_path, Plain, model_name="m").record.status == "success"
        assert not torch.is_grad_enabled()
    with torch.inference_mode():
        assert run(tmp_path, Plain, model_name="n").record.status == "success"
        assert torch.is_inference_mode_enabled()


def test_what_surrounds_a_run_does_not_reach_into_it(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Plain(WORDS)
    plain = run(tmp_path, model, model_name="plain").record.metrics
    with torch.autocast("cpu"):
        assert run(tmp_path, model, model_name="cast").record.metrics == plain
        assert torch.is_autocast_enabled("cpu")
    with torch.device("meta"):
        assert run(tmp_path, model, model_name="placed").record.metrics == plain
        assert torch.zeros(1).is_meta


class Scaled(nn.Module):
    """What it multiplies by stands where no hash looks: in an object of a class of its own."""

    def __init__(self, held: Any) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.embed, self.head, self.held = nn.Embedding(WORDS, 16), nn.Linear(16, WORDS), held
        for p in self.parameters():
            p.data = torch.randn(p.shape, generator=generator)

    def forward(self, ids: Any) -> Any:
        return self.head(self.embed(ids) * self.held.factor)


class Held:
    def __init__(self, factor: float) -> None:
        self.factor = factor


def test_a_model_that_answers_otherwise_is_not_taken_for_done(tmp_path: Path) -> None:
    one, other = Scaled(Held(1.0)), Scaled(Held(1.5))
    report = run(tmp_path, one, model_name="m")
    before = (report.folder / "report.json").read_bytes()
    for more in ({}, {"rediagnose": True}):
        with pytest.raises(UserError, match="m answers otherwise than the model of that report"):
            run(tmp_path, other, LOOKS if more else "diagnostics: [learning_dynamics]\n", model_name="m", **more)
    with pytest.raises(UserError, match="it answers otherwise than m did"):
        report.load("post", model=other)
    assert (report.folder / "report.json").read_bytes() == before
    assert run(tmp_path, Scaled(Held(1.0)), model_name="m").record.identity == report.record.identity
    assert report.load("post", model=one).step == report.record.training.steps


class Short(Plain):
    def forward(self, tokens: Any) -> Any:
        if tokens.shape[1] > 7:
            raise IndexError("out of places")
        return super().forward(tokens)


class Detached(Plain):
    @torch.no_grad()
    def forward(self, tokens: Any) -> Any:
        return super().forward(tokens)


class Growing(Plain):
    places: torch.Tensor

    def __init__(self, vocab_size: int) -> None:
        super().__init__(vocab_size)
        self.register_buffer("places", torch.zeros(6))

    def forward(self, tokens: Any) -> Any:
        self.places = torch.zeros(len(self.places) + 1)
        return super().forward(tokens)


class Sparse(Plain):
    def __init__(self, vocab_size: int) -> None:
        super().__init__(vocab_size)
        self.embed = nn.Embedding(vocab_size, 32, sparse=True)


def by_chance(vocab_size: int) -> nn.Module:
    model = Plain(vocab_size)
    model.head.weight.data[0, 0] = np.random.default_rng().normal()
    return model


@pytest.mark.parametrize(
    ("model", "options", "said"),
    [
        (Short, {}, "the model fails for 8 tokens: IndexError: out of places"),
        (Detached, {}, "Detached fails in a step of training: .*does not require grad"),
        (Growing, {}, "changes the shape of places as it reads"),
        (Sparse, {}, r"Sparse has sparse gradients: embed.weight \(nn.Embedding"),
        (by_chance, {}, "builds another module when it is asked again with the same seed"),
        (Plain(WORDS).to("meta"), {}, "Plain has no values for embed.weight, which is on the device meta"),
        (dict, {}, "dict does not say what it takes"),
        (Plain, {"tokenizer": "gpt2"}, "tokenizer: str is no tokenizer of transformers"),
        (Plain, {"model_name": "../x"}, "model_name: no model can be called '../x'"),
        (Plain, {"model_name": "x" * 300}, "model_name: no model can be called"),
    ],
)
def test_what_cannot_be_used_is_refused_in_a_line(
    model: Any, options: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=said):
        run(tmp_path, model, **options)
    assert not list(tmp_path.rglob("report.json"))


def _of_any(**sizes: int) -> nn.Module:
    return Plain(sizes["vocab_size"])


def test_names_of_classes_and_functions_are_names_of_models(tmp_path: Path) -> None:
    for model, name in ((_of_any, "of_any"), (functools.partial(Plain, width=16), "Plain")):
        found = run(tmp_path, model).record.model.name
        assert found.rpartition("-")[0] == name and NAME.fullmatch(found)


class Aside(Plain):
    """The states first, which are taken for the logits."""

    def forward(self, tokens: Any) -> Any:
        x = self.states(self.embed(tokens))
        return x, self.head(self.norm(x))


def test_parameters_that_no_logit_depends_on_are_said(tmp_path: Path) -> None:
    (said,) = [w for w in run(tmp_path, Aside(WORDS, width=64)).record.warnings if "took no part" in w]
    assert said.startswith("3 parameters of Aside") and "(norm.weight, norm.bias, head.weight)" in said


class Overflowing(Plain):
    """NaN for one row of each large batch."""

    def forward(self, tokens: Any) -> Any:
        logits = super().forward(tokens)
        return logits.index_fill(0, torch.tensor(3), torch.nan) if len(tokens) > 8 and not self.training else logits


def test_logits_that_are_nan_at_the_end_are_said(tmp_path: Path) -> None:
    said = [text for text in run(tmp_path, Overflowing).record.warnings if "NaN" in text]
    assert {text.partition("questions of ")[2] for text in said} == {
        f"{split}, which count as not answered" for split in ("validation", "train_clean")
    }
    assert all(text.startswith("logits are NaN for 1 of ") for text in said)
