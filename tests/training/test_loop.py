"""The training loop: what it learns, how it resumes, which snapshot it keeps."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch.nn import functional as F

from rote_bench.encoding import build_tokenizer, encode
from rote_bench.errors import UserError
from rote_bench.evaluation import matches
from rote_bench.models.anatomy import Anatomy
from rote_bench.models.columns import WORTH_FROM
from rote_bench.models.compiling import compiled
from rote_bench.models.load import FromConfig, ModelRequest
from rote_bench.spec.model import Recipe, Schedule
from rote_bench.tasks.addition import Addition, AdditionParameters
from rote_bench.training import state
from rote_bench.training.curve import Evaluation, Levels
from rote_bench.training.loop import answer_loss, train
from rote_bench.training.optimizers import MuonAdamW

TASK = Addition(AdditionParameters(digits=1), 0)
EXAMPLES = [TASK.example(i) for i in range(100)]
TOKENIZER = build_tokenizer(TASK.words())
DATA = encode(TOKENIZER, EXAMPLES, named=False)
RECIPE = Recipe(
    batch_size=32, max_steps=30, evaluate_every=5, stop_at=None, schedule=Schedule(warmup=3, hold_until=1.0, anneal=5)
)


def model(seed: int = 0) -> Any:
    overrides = {"layers": 1, "width": 32, "heads": 2}
    request = ModelRequest("gpt2-nano", len(TOKENIZER), 16, pad_token_id=0, seed=seed, overrides=overrides)
    return FromConfig().load(request).model


def measured(net: Any) -> Callable[[], Levels]:
    def measure() -> Levels:
        (hits,) = matches(net, [DATA])
        accuracy = float(hits.float().mean())
        return Levels(memorization_rate=0.0, noisy_true_rate=accuracy, selection_accuracy=accuracy)

    return measure


def learn(net: Any, recipe: Recipe = RECIPE, **changes: Any) -> Any:
    options: dict[str, Any] = {
        "seed": 0,
        "precision": "float32",
        "progress": lambda *a: None,
        "record": lambda e: None,
        **changes,
    }
    return train(net, DATA, torch.arange(100), recipe, measured(net), **options)


def test_the_loss_is_the_cross_entropy_of_the_answer_tokens() -> None:
    net = model()
    logits = net(input_ids=DATA.input_ids).logits
    total = []
    for row, example in enumerate(EXAMPLES):
        start = int(DATA.positions["last"][row])
        wanted = TOKENIZER(example.answer, add_special_tokens=False)["input_ids"]
        total += [F.cross_entropy(logits[row, start + k], torch.tensor(t)) for k, t in enumerate(wanted)]
    assert torch.allclose(answer_loss(net, DATA), torch.stack(total).mean(), atol=1e-5)


def test_a_large_vocabulary_is_unembedded_where_it_is_scored_and_learned_alike() -> None:
    def large() -> Any:
        overrides = {"layers": 1, "width": 32, "heads": 2}
        return FromConfig().load(ModelRequest("gpt2-nano", WORTH_FROM, 16, pad_token_id=0, overrides=overrides)).model

    whole, part = large(), large()
    Anatomy.of(part)
    losses = answer_loss(whole, DATA), answer_loss(part, DATA)
    assert torch.allclose(*losses, rtol=1e-6)
    for loss in losses:
        torch.autograd.backward(loss)
    for a, b in zip(whole.parameters(), part.parameters(), strict=True):
        assert a.grad is not None and b.grad is not None
        assert torch.allclose(a.grad, b.grad, rtol=0, atol=1e-6 * float(a.grad.abs().max()))
    part.zero_grad()
    columns = set()
    part.get_output_embeddings().register_forward_hook(lambda _, args, __: columns.add(args[0].shape[1]))
    curve = learn(part).curve
    assert columns == {len(DATA.scored)} and len(DATA.scored) < DATA.max_length
    other = learn(large()).curve
    assert curve[-1].loss == pytest.approx(other[-1].loss, rel=1e-5) and curve[-1].loss < 0.9 * curve[0].loss


def test_training_learns_and_is_the_same_twice() -> None:
    first, second = model(), model()
    a, b = learn(first), learn(second)
    assert [dataclasses.replace(p, seconds=0) for p in a.curve] == [dataclasses.replace(p, seconds=0) for p in b.curve]
    assert all(torch.equal(x, y) for x, y in zip(first.parameters(), second.parameters(), strict=True))
    assert a.curve[-1].loss < 0.8 * a.curve[0].loss
    assert (a.steps, a.examples_seen, a.stop_reason) == (30, 960, "budget")


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_records_hold_the_learning_rate_itself(
    monkeypatch: pytest.MonkeyPatch, optimizer: Literal["muon", "adamw"]
) -> None:
    """Not the schedule's share of it: what the optimizer stepped with, seen from inside the step."""
    stepped: list[float] = []
    whole = MuonAdamW.step

    def step(self: MuonAdamW, closure: Any = None) -> None:
        stepped.append(max(g["lr"] for g in self.param_groups if g["algorithm"] == optimizer))
        whole(self, closure)

    monkeypatch.setattr(MuonAdamW, "step", step)
    recipe = dataclasses.replace(RECIPE, optimizer=optimizer, learning_rate=0.03, adam_learning_rate=0.004)
    curve = learn(model(), recipe).curve
    assert [point.lr for point in curve] == [stepped[point.step - 1] for point in curve]
    assert max(r.lr for r in curve) == (0.03 if optimizer == "muon" else 0.004)
    assert len({r.lr for r in curve}) > 2


@pytest.mark.parametrize("stop", [7, 10, 19])
def test_an_interrupted_run_ends_as_one_never_interrupted(tmp_path: Path, stop: int) -> None:
    straight = model()
    expected = learn(straight)
    asked = {"steps": 0}

    def after(done: int, total: int, record: Any) -> None:
        asked["steps"] = done

    broken = model()
    path = tmp_path / "state.pt"
    with pytest.raises(KeyboardInterrupt):
        learn(broken, checkpoint=path, identity="x", progress=after, stop_requested=lambda: asked["steps"] >= stop)
    resumed = model(seed=5)
    result = learn(resumed, checkpoint=path, identity="x")
    assert all(torch.equal(x, y) for x, y in zip(straight.parameters(), resumed.parameters(), strict=True))
    assert [(p.step, p.loss) for p in result.curve] == [(p.step, p.loss) for p in expected.curve]
    assert (result.pre_step, result.tokens_seen) == (expected.pre_step, expected.tokens_seen)
    assert all(torch.equal(v, result.pre_state[k]) for k, v in expected.pre_state.items())
    assert expected.earlier_seconds == 0.0 < result.earlier_seconds < result.seconds


@pytest.mark.parametrize("stop", [None, 4, 14, 17])
def test_a_cell_takes_over_its_twins_step_whether_interrupted_or_not(tmp_path: Path, stop: int | None) -> None:
    """The twin falls by its event, the cell by the step, and neither by what the other reads."""
    recipe = dataclasses.replace(RECIPE, schedule=dataclasses.replace(RECIPE.schedule, hold_until=0.12))
    twin = learn(model(), recipe)
    settled = twin.steps - recipe.schedule.anneal
    assert 3 < settled < recipe.max_steps - recipe.schedule.anneal
    never = dataclasses.replace(recipe, schedule=dataclasses.replace(recipe.schedule, hold_until=1.0))
    state, asked = tmp_path / "state.pt", {"steps": 0}

    def after(done: int, total: int, record: Any) -> None:
        asked["steps"] = done

    if stop is not None:
        with pytest.raises(KeyboardInterrupt):
            learn(
                model(),
                never,
                settle=settled,
                checkpoint=state,
                identity="x",
                progress=after,
                stop_requested=lambda: asked["steps"] >= stop,
            )
    cell = learn(model(), never, settle=settled, checkpoint=state, identity="x")
    assert [(p.step, p.lr, p.loss) for p in cell.curve] == [(p.step, p.lr, p.loss) for p in twin.curve]


class Killed(BaseException):
    """The process ends here."""


def test_a_run_that_is_killed_at_any_moment_ends_as_one_never_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between any two changes of the disk, with more snapshots to choose from than memory may hold."""
    recipe = dataclasses.replace(RECIPE, max_steps=12, evaluate_every=2, snapshot_share=0.7)
    never, save = 10**9, torch.save
    left = [never]

    def dying(change: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **more: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                if change is save:
                    arguments[1].write(b"half a file")
                raise Killed
            return change(*arguments, **more)

        return call

    def run(path: Path) -> Any:
        net = model()
        records: list[Evaluation] = []
        accuracy = measured(net)

        def falling() -> Levels:
            n = len(records)
            return dataclasses.replace(
                accuracy(), noisy_true_rate=1 - n / 20, memorization_rate=(n / 20) ** 8, selection_accuracy=n / 20
            )

        options: dict[str, Any] = {"seed": 0, "precision": "float32", "identity": "x", "checkpoint_seconds": 0.0}
        return train(
            net,
            DATA,
            torch.arange(100),
            recipe,
            falling,
            **options,
            progress=lambda *a: None,
            record=records.append,
            checkpoint=path,
        )

    monkeypatch.setattr(state, "SAVING_SHARE", 0.0)  # a state after every evaluation, however long it takes
    for owner, name in ((torch, "save"), (os, "replace"), (Path, "unlink")):
        monkeypatch.setattr(owner, name, dying(getattr(owner, name)))
    expected = run(tmp_path / "straight" / "state.pt")
    moments = never - left[0]
    assert moments > 20 and 0 < expected.pre_step < expected.steps
    for moment in range(moments):
        path = tmp_path / str(moment) / "state.pt"
        left[0] = moment
        with pytest.raises(Killed):
            run(path)
        left[0] = never
        result = run(path)
        assert (result.pre_step, result.steps) == (expected.pre_step, expected.steps)
        assert all(torch.equal(value, result.pre_state[key]) for key, value in expected.pre_state.items())
        assert [r.loss for r in result.curve] == [r.loss for r in expected.curve]
        assert {file.name for file in path.parent.glob("[!.]*")} <= {"state.pt", "state.before.pt"}
        state.forget(path)
        assert list(path.parent.iterdir()) == []


def test_where_memorization_comes_with_learning_nothing_precedes_it() -> None:
    def together(rate: float | None) -> Any:
        levels = iter(
            Levels(memorization_rate=rate, noisy_true_rate=k / 20, selection_accuracy=k / 20) for k in range(20)
        )
        options: dict[str, Any] = {"seed": 0, "precision": "float32", "progress": lambda *a: None}
        return train(model(), DATA, torch.arange(100), RECIPE, lambda: next(levels), record=lambda e: None, **options)

    for rate, says in (
        (0.9, "gives less than half of the noisy labels that the end gives (0.900)"),
        (None, "no noisy"),
    ):
        trained = together(rate)
        assert (trained.pre_step, trained.pre_state) == (None, {})
        assert trained.snapshots == {"post_memorization": trained.steps}
        assert says in trained.without_pre(0.9)


def test_a_state_of_another_run_is_a_warning(tmp_path: Path) -> None:
    path, said = tmp_path / "state.pt", list[str]()
    with pytest.raises(KeyboardInterrupt):
        learn(model(), checkpoint=path, identity="x", stop_requested=lambda: True)
    fresh = learn(model(), checkpoint=path, identity="y", warn=said.append)
    assert fresh.curve[0].step == 1
    assert said == [f"{path}: is of a training with other settings or versions; training begins anew"]


def test_a_stop_that_is_asked_for_during_the_last_evaluation_is_heeded(tmp_path: Path) -> None:
    straight, path = model(), tmp_path / "state.pt"
    expected, asked = learn(straight), list[bool]()

    def after(done: int, total: int, record: Any) -> None:
        if done == total:
            asked.append(True)

    with pytest.raises(KeyboardInterrupt):
        learn(model(), checkpoint=path, identity="x", progress=after, stop_requested=lambda: bool(asked))
    resumed, steps = model(seed=5), list[int]()
    result = learn(resumed, checkpoint=path, identity="x", progress=lambda done, *_: steps.append(done))
    assert steps == [] and [p.loss for p in result.curve] == [p.loss for p in expected.curve]
    assert all(torch.equal(x, y) for x, y in zip(straight.parameters(), resumed.parameters(), strict=True))


def test_training_stops_when_memorization_is_complete() -> None:
    recipe = Recipe(batch_size=32, max_steps=30, evaluate_every=5, stop_at=0.9, schedule=Schedule(warmup=3, anneal=5))
    net = model()
    levels = iter([0.0, 0.5, 0.95, 1.0])

    def measure() -> Levels:
        return Levels(memorization_rate=next(levels), noisy_true_rate=0.0, selection_accuracy=0.5)

    out = train(
        net,
        DATA,
        torch.arange(100),
        recipe,
        measure,
        seed=0,
        precision="float32",
        progress=lambda *a: None,
        record=lambda e: None,
    )
    assert out.stop_reason == "memorized" and len(out.curve) == 3


def test_a_loss_that_is_not_finite_stops_the_run() -> None:
    net = model()
    with torch.no_grad():
        net.get_output_embeddings().weight.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="lower the learning rate"):
        learn(net)


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_a_compiled_step_learns_the_same_as_one_that_is_not(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the compiler's own code, which takes a minute to make, and with what is traced before it."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    plain, fast = model(), model()
    try:
        call = compiled(fast)
    except UserError as error:
        pytest.skip(str(error))
    curves = [learn(plain).curve, learn(fast, compiled=call).curve]
    for a, b in zip(*curves, strict=True):
        assert a.loss == pytest.approx(b.loss, rel=1e-3)
    for one, other in zip(plain.parameters(), fast.parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-3)
