"""A cell that trains an adapter of a small GPT-2, from its task file to its snapshots."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

import rote_bench
from rote_bench.cli import main
from rote_bench.errors import Faults, UserError
from rote_bench.models.content import of_snapshot
from rote_bench.models.load import ModelRequest
from rote_bench.models.pretrained import FromPretrained

from ..conftest import SMALL_THR
from ..models.test_adapters import adapter_on

pytest.importorskip("peft")

LORA: Mapping[str, Any] = {"model.peft.rank": 2, "model.peft.targets": ["c_attn", "c_fc"], "training.max_steps": 30}
SHORT = {"training.schedule.warmup": 2, "training.schedule.anneal": 5, "training.evaluate_every": 10}
SHORTER = {**SHORT, "training.max_steps": 12, "training.evaluate_every": 6}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, thr_cell: Path) -> Path:
    """A task file, and beside it the base: weights that a training left behind, with their tokenizer."""
    folder = tmp_path_factory.mktemp("adapters")
    (folder / "task.yaml").write_text(SMALL_THR.partition("diagnostics:")[0] + "diagnostics: [logit_lens]\n")
    shutil.copytree(thr_cell / "checkpoints" / "post_memorization", folder / "base")
    return folder


def run(place: Path, changes: Mapping[str, Any], **options: Any) -> rote_bench.Report:
    given = {"model": f"hf:{place / 'base'}", "output_path": place / "runs", "quiet": True, **options}
    report = rote_bench.run(place / "task.yaml", overrides={**SHORT, **changes}, **given)
    assert isinstance(report, rote_bench.Report)
    return report


@pytest.fixture(scope="module")
def trained(place: Path) -> rote_bench.Report:
    return run(place, LORA)


def test_only_the_adapter_is_trained_and_the_report_says_so(place: Path, trained: rote_bench.Report) -> None:
    model = trained.record.model
    said: Any = model.config["peft"]
    weights = load_file(trained.folder / "checkpoints" / "post_memorization" / "adapter_model.safetensors")
    assert said["kind"] == "lora" and said["rank"] == 2 and said["alpha"] == 4
    assert said["targets"] == ["c_attn", "c_fc"]
    assert said["trainable_parameters"] == sum(value.numel() for value in weights.values())
    base = FromPretrained().load(ModelRequest(f"hf:{place / 'base'}", 0, 0))
    assert model.parameters == sum(p.numel() for p in base.model.parameters()) + said["trainable_parameters"]
    assert model.weights == base.weights and all("lora_" in name for name in weights)
    assert any(value.any() for name, value in weights.items() if "lora_B" in name)
    assert trained.record.training.steps > 0 and trained.record.diagnostics["logit_lens"].status == "success"
    assert model.anatomy["parts_sum"].ok and model.anatomy["heads"].ok and model.anatomy["lens"].ok


def test_snapshots_are_adapters_that_load_again(trained: rote_bench.Report, place: Path) -> None:
    folder = trained.folder / "checkpoints" / "post_memorization"
    assert not (folder / "model.safetensors").exists() and not (folder / "config.json").exists()
    assert json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"] == str(place / "base")
    loaded = FromPretrained().load(ModelRequest(f"hf:{folder}", 0, 0))
    opened = trained.load("post")
    ids = torch.tensor([[1, 2, 3]])
    theirs = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        torch.testing.assert_close(opened.model(input_ids=ids).logits, loaded.model(input_ids=ids).logits)
        torch.testing.assert_close(theirs(input_ids=ids).logits, loaded.model(input_ids=ids).logits)
    again = run(place, LORA, rediagnose=True)
    assert {name: m.value for name, m in again.record.metrics.items()} == {
        name: m.value for name, m in trained.record.metrics.items()
    }


def test_rank_and_targets_belong_to_the_identity(trained: rote_bench.Report, place: Path, tmp_path: Path) -> None:
    assert run(place, LORA).record.identity == trained.record.identity
    changed: list[Mapping[str, Any]] = [{}, {"model.peft.rank": 3}, {"model.peft.targets": ["c_attn"]}]
    hashes = {
        run(place, {**LORA, **SHORTER, **changes}, output_path=tmp_path / str(i)).record.identity.hash
        for i, changes in enumerate(changed)
    }
    assert len(hashes) == 3


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"model.peft.ranks": 2}, "'ranks'.*rank"),
        ({"model.peft.rank": 0}, "at least 1"),
        ({"model.peft.kind": "ia3"}, "must be one of lora"),
        ({"model.peft.targets": []}, "must not be empty"),
        ({"model.peft.targets": ["c_atn"]}, "'c_atn' is no matrix of gpt2.*c_attn"),
        ({"model.peft.targets": ["zzz"]}, "'zzz' is no matrix of gpt2.*known: c_attn, c_fc, c_proj"),
    ],
)
def test_what_cannot_be_adapted_is_said_before_training(
    place: Path, tmp_path: Path, changes: Mapping[str, Any], says: str
) -> None:
    with pytest.raises((UserError, Faults), match=says) as raised:
        run(place, changes, output_path=tmp_path)
    assert "\n" not in str(raised.value)


def test_models_without_a_base_of_their_own_are_refused(place: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="gpt2-nano has no base that an adapter could name"):
        run(place, {"model.peft.rank": 2}, model="gpt2-nano", output_path=tmp_path)
    adapter_on(place / "base", tmp_path / "adapter", ["c_attn"])
    with pytest.raises(UserError, match="is an adapter itself"):
        run(place, {"model.peft.rank": 2}, model=f"hf:{tmp_path / 'adapter'}", output_path=tmp_path)


def test_an_adapter_is_asked_as_it_is(place: Path, tmp_path: Path) -> None:
    adapter_on(place / "base", tmp_path / "adapter", ["c_attn"])
    report = run(place, {}, model=f"hf:{tmp_path / 'adapter'}", output_path=tmp_path, train=False)
    model = report.record.model
    assert model.base is not None and model.base != model.weights
    parts: Any = report.record.identity.parts["model"]
    assert (parts["base"], parts["weights"]) == (model.base, model.weights)
    assert report.record.diagnostics["logit_lens"].status == "success"


def test_snapshots_that_are_adapters_are_their_base_with_them(
    place: Path, trained: rote_bench.Report, tmp_path: Path
) -> None:
    adapter_on(place / "base", tmp_path / "other", ["c_attn"])
    named = {"pre": str(tmp_path / "other"), "post": str(trained.folder / "checkpoints" / "post_memorization")}
    asked: dict[str, Any] = {"model": f"hf:{named['post']}", "train": False, "output_path": tmp_path}
    report = run(place, {}, snapshots=named, **asked)
    assert report.record.model.base is not None
    merged = dict(named)
    for name, folder in named.items():  # the same as whole models
        whole = FromPretrained().load(ModelRequest(f"hf:{folder}", 0, 0))
        whole.model.save_pretrained(tmp_path / name)
        merged[name] = str(tmp_path / name)
    as_wholes = run(place, {}, snapshots=merged, **{**asked, "output_path": tmp_path / "wholes"})
    both = [{name: m.value for name, m in each.record.metrics.items()} for each in (report, as_wholes)]
    assert both[0] == pytest.approx(both[1], abs=1e-6, nan_ok=True)
    hashes = [each.record.identity.parts["snapshots"] for each in (report, as_wholes)]
    assert hashes[0] != hashes[1]


def test_the_base_of_a_snapshot_belongs_to_the_identity_and_must_be_there(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "base", tmp_path / "base")
    adapter_on(tmp_path / "base", tmp_path / "adapter", ["c_attn"])
    first = of_snapshot(str(tmp_path / "adapter"))
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    model.transformer.wte.weight.data.mul_(2)
    model.save_pretrained(tmp_path / "base")
    assert of_snapshot(str(tmp_path / "adapter")) != first
    shutil.rmtree(tmp_path / "base")
    given: dict[str, Any] = {"model": f"hf:{place / 'base'}", "train": False, "output_path": tmp_path}
    with pytest.raises(UserError, match=r"--snapshot: cannot load .*adapter': its base .* is not there"):
        run(place, {}, snapshots={"pre": str(tmp_path / "adapter")}, **given)


def test_a_base_that_changed_is_not_taken_for_what_it_was(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "base", tmp_path / "base")
    report = run(place, {**LORA, **SHORTER}, model=f"hf:{tmp_path / 'base'}", output_path=tmp_path)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    model.transformer.wte.weight.data.mul_(2)
    model.save_pretrained(tmp_path / "base")
    with pytest.raises(UserError, match="its base is not the one that it was trained on"):
        report.load("post")
    moved = run(place, {**LORA, **SHORTER}, model=f"hf:{tmp_path / 'base'}", output_path=tmp_path, overwrite=True)
    assert moved.record.identity.hash != report.record.identity.hash


def test_what_is_wrong_with_the_flag_names_the_flag(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "thr", "--model", "gpt2-nano", "--peft", "lora", "-o", str(tmp_path)]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("rote-bench: --peft: gpt2-nano has no base")


def test_a_size_asked_of_weights_that_are_there_is_refused(place: Path, tmp_path: Path) -> None:
    for given in (["model.layers=1"], {"model.layers": 1}):
        with pytest.raises(UserError, match=r"model.layers: hf:\S+ does not read model.layers"):
            rote_bench.run(place / "task.yaml", model=f"hf:{place / 'base'}", overrides=given, output_path=tmp_path)


def test_the_flag_is_short_for_the_key(place: Path, tmp_path: Path) -> None:
    keys = [f"{key}={value}" for key, value in {**SHORT, **SHORTER, "model.peft.rank": 3}.items()]
    flags = ["--model", f"hf:{place / 'base'}", "--peft", "lora", "-o", str(tmp_path), "--quiet"]
    assert main(["run", str(place / "task.yaml"), *flags, *(word for key in keys for word in ("--set", key))]) == 0
    (file,) = tmp_path.rglob("report.json")
    said = json.loads(file.read_text())["model"]["config"]["peft"]
    assert (said["kind"], said["rank"], said["targets"]) == ("lora", 3, ["c_attn", "c_fc", "c_proj"])


def test_a_peft_model_of_python_is_a_module_like_others(place: Path, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    base = AutoModelForCausalLM.from_pretrained(place / "base")
    tokenizer = AutoTokenizer.from_pretrained(place / "base")
    with warnings.catch_warnings():  # of names that transformers will change
        warnings.simplefilter("ignore")
        config = LoraConfig(r=2, target_modules=["c_attn"], fan_in_fan_out=True, task_type="CAUSAL_LM")
        given = get_peft_model(base, config)
    before = {name: value.clone() for name, value in given.state_dict().items()}
    report = run(place, SHORTER, model=given, tokenizer=tokenizer, output_path=tmp_path)
    assert all(torch.equal(value, before[name]) for name, value in given.state_dict().items())
    after = load_file(report.folder / "checkpoints" / "post_memorization" / "model.safetensors")
    moved = {name for name, value in after.items() if name in before and not torch.equal(value, before[name])}
    assert moved and all("lora_" in name for name in moved)
    assert report.record.model.anatomy["heads"].ok and report.record.diagnostics["logit_lens"].status == "success"
