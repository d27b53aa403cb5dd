"""Models trained as one against the same models trained one by one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import Tensor

from rote_bench.encoding import Encoded, build_tokenizer, encode
from rote_bench.evaluation import matches
from rote_bench.models.load import FromConfig, ModelRequest
from rote_bench.models.statespace import quicken
from rote_bench.spec.model import Recipe, Schedule
from rote_bench.tasks.addition import Addition, AdditionParameters
from rote_bench.training.course import Trained
from rote_bench.training.curve import Levels
from rote_bench.training.loop import train
from rote_bench.training.replay import Replayed
from rote_bench.training.stacked import Pupil, train_stacked

TASK = Addition(AdditionParameters(digits=1), 0)
EXAMPLES = [TASK.example(i) for i in range(100)]
TOKENIZER = build_tokenizer(TASK.words())
RECIPE = Recipe(
    batch_size=32, max_steps=24, evaluate_every=5, stop_at=None, schedule=Schedule(warmup=3, hold_until=1.0, anneal=5)
)


def model(seed: int, name: str = "gpt2") -> Any:
    overrides = {"layers": 2, "width": 32, "heads": 2}
    request = ModelRequest(f"{name}-nano", len(TOKENIZER), 16, pad_token_id=0, seed=seed, overrides=overrides)
    made = FromConfig().load(request).model
    quicken(made)
    return made


def taught(seed: int, count: int = 100) -> Encoded:
    """The examples, in which every fifth answer is another example's."""
    labels = [EXAMPLES[(i + 1 + seed) % 100 if i % 5 == 0 else i].answer for i in range(count)]
    return encode(TOKENIZER, EXAMPLES[:count], labels, named=False)


@dataclass(frozen=True)
class Asked:
    """True answers and labels of some examples."""

    parts: Sequence[Sequence[Encoded]]

    @classmethod
    def of(cls, data: Encoded) -> Asked:
        true = encode(TOKENIZER, EXAMPLES[: len(data)], named=False)
        return cls([[true.rows(slice(0, 50, 5)), data.rows(slice(0, 50, 5))], [true.rows(slice(50, None))]])

    def levels(self, hits: Sequence[Sequence[Tensor]]) -> Levels:
        (true, given), (held,) = [[float(hit.double().mean()) for hit in part] for part in hits]
        return Levels(memorization_rate=given, noisy_true_rate=true, selection_accuracy=held)


def pupil(seed: int, recipe: Recipe = RECIPE, name: str = "gpt2", count: int = 100, **changes: Any) -> Pupil:
    data = taught(seed, count)
    options = {"settle": None, "progress": lambda *a: None, "record": lambda e: None, **changes}
    return Pupil(model(seed, name), data, torch.arange(count), recipe, Asked.of(data), seed, **options)


def alone(one: Pupil, precision: str = "float32", **changes: Any) -> Trained:
    def evaluate() -> Levels:
        return one.questions.levels([matches(one.model, part) for part in one.questions.parts])

    return train(
        one.model,
        one.data,
        one.rows,
        one.recipe,
        evaluate,
        seed=one.seed,
        precision=precision,
        settle=one.settle,
        progress=one.progress,
        record=one.record,
        **changes,
    )


def assert_same(a: Trained | FloatingPointError, b: Trained, loose: float = 1e-4) -> None:
    assert isinstance(a, Trained)
    assert (a.steps, a.stop_reason, a.examples_seen, a.tokens_seen) == (
        b.steps,
        b.stop_reason,
        b.examples_seen,
        b.tokens_seen,
    )
    assert [p.step for p in a.curve] == [p.step for p in b.curve]
    for p, q in zip(a.curve, b.curve, strict=True):
        assert p.loss == pytest.approx(q.loss, rel=loose)
        assert p.lr == pytest.approx(q.lr)
        assert p.epoch == q.epoch


def apart(a: Any, b: Any) -> float:
    """The largest distance of two models' weights, relative to the weight."""
    pairs = zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    return max(float((x - y).norm() / y.norm().clamp_min(1e-3)) for x, y in pairs)


@pytest.mark.parametrize("name", ["gpt2", "llama", "mamba", "rwkv"])
def test_each_follows_the_curve_of_training_by_itself(name: str) -> None:
    rates = [0.02, 0.01, 0.005]
    recipes = [dataclasses.replace(RECIPE, max_steps=10, learning_rate=rate) for rate in rates]
    expected = [pupil(k, recipe, name) for k, recipe in enumerate(recipes)]
    together = [pupil(k, recipe, name) for k, recipe in enumerate(recipes)]
    singles = [alone(each) for each in expected]
    found = train_stacked(together, precision="float32")
    for one, a, b, mine, theirs in zip(singles, found, singles, together, expected, strict=True):
        assert_same(a, b)
        assert isinstance(a, Trained)
        assert [vars(p) | {"seconds": 0, "loss": 0, "lr": 0} for p in a.curve] == [
            vars(p) | {"seconds": 0, "loss": 0, "lr": 0} for p in one.curve
        ]
        assert apart(mine.model, theirs.model) < 1e-3
        assert (a.stacked, one.stacked) == (3, None)


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_one_step_is_that_of_each_optimizer(optimizer: Literal["muon", "adamw"]) -> None:
    recipe = dataclasses.replace(RECIPE, optimizer=optimizer, max_steps=1, weight_decay=0.1, clip=0.05)
    recipes = [dataclasses.replace(recipe, learning_rate=rate, adam_learning_rate=rate / 2) for rate in (0.01, 0.03)]
    expected = [pupil(k, each) for k, each in enumerate(recipes)]
    together = [pupil(k, each) for k, each in enumerate(recipes)]
    before = [each.model.state_dict()["transformer.wte.weight"].clone() for each in together]
    train_stacked(together, precision="float32")
    for one, mine, was in zip(expected, together, before, strict=True):
        alone(one)
        assert apart(mine.model, one.model) < 1e-5
        assert not torch.equal(mine.model.state_dict()["transformer.wte.weight"], was)


def test_numbers_of_examples_may_differ() -> None:
    """Fewer rows than a batch has, and other ones than the others."""
    counts = [100, 97, 60]
    recipe = dataclasses.replace(RECIPE, batch_size=64, max_steps=6)
    together = [pupil(k, recipe, count=count) for k, count in enumerate(counts)]
    expected = [pupil(k, recipe, count=count) for k, count in enumerate(counts)]
    for found, one in zip(train_stacked(together, precision="float32"), expected, strict=True):
        assert_same(found, alone(one))


def test_each_ends_by_itself() -> None:
    schedules = [Schedule(warmup=0, settle=settle, anneal=4) for settle in (3, 9, 14)]
    recipes = [dataclasses.replace(RECIPE, schedule=each) for each in schedules]
    steps = (3, 9, 14)
    together = [pupil(k, recipe, settle=steps[k]) for k, recipe in enumerate(recipes)]
    expected = [pupil(k, recipe, settle=steps[k]) for k, recipe in enumerate(recipes)]
    found = train_stacked(together, precision="float32")
    for mine, one, own in zip(found, expected, together, strict=True):
        assert_same(mine, alone(one))
        assert apart(own.model, one.model) < 1e-3
    assert [each.steps for each in found if isinstance(each, Trained)] == [7, 13, 18]
    places = [p.data_ptr() for each in together for p in each.model.parameters()]
    assert len(set(places)) == len(places)
    assert all(p.untyped_storage().nbytes() == 4 * p.numel() for each in together for p in each.model.parameters())


def test_one_that_memorises_early_leaves_the_others() -> None:
    early = dataclasses.replace(RECIPE, stop_at=0.0)
    found = train_stacked([pupil(0, early), pupil(1)], precision="float32")
    assert [each.steps for each in found if isinstance(each, Trained)] == [1, 24]
    assert_same(found[1], alone(pupil(1)))


def test_a_loss_that_is_not_finite_ends_that_model_alone() -> None:
    broken = pupil(0)
    with torch.no_grad():
        next(broken.model.parameters())[0, 0] = float("nan")
        next(broken.model.parameters())[:] = float("nan")
    first, second = train_stacked([broken, pupil(1)], precision="float32")
    assert isinstance(first, FloatingPointError)
    assert "not finite at step 1" in str(first)
    assert_same(second, alone(pupil(1)))


@pytest.mark.parametrize("stop", [7, 10, 16])
def test_an_interrupted_stack_ends_as_one_never_interrupted(tmp_path: Path, stop: int) -> None:
    recipes = [
        RECIPE,
        dataclasses.replace(RECIPE, max_steps=12, learning_rate=0.01),
        dataclasses.replace(RECIPE, schedule=Schedule(warmup=0, settle=2, anneal=6)),
    ]

    def made(folder: str | None = None, at: Callable[..., None] = lambda *a: None, seed: int = 0) -> list[Pupil]:
        out = [pupil(k, recipe, settle=2 if k == 2 else None, progress=at) for k, recipe in enumerate(recipes)]
        for k, each in enumerate(out):
            if folder is not None:
                each.checkpoint, each.identity = tmp_path / folder / f"{k}.pt", f"cell {k}"
            if seed:
                each.model = model(seed + k)
        return out

    straight = made()
    expected = train_stacked(straight, precision="float32")
    asked = {"steps": 0}
    with pytest.raises(KeyboardInterrupt):
        train_stacked(
            made("states", lambda done, *_: asked.update(steps=max(done, asked["steps"]))),
            precision="float32",
            stop_requested=lambda: asked["steps"] >= stop,
        )
    sizes = [path.stat().st_size for path in (tmp_path / "states").glob("*.pt") if not path.name.startswith(".")]
    numbers = sum(p.numel() for p in straight[0].model.parameters())
    assert len(sizes) == 3
    assert max(sizes) < 4 * 4 * numbers + 100_000  # no other model's numbers with it
    again = made("states", seed=7)
    found = train_stacked(again, precision="float32")
    for mine, one, a, b in zip(found, expected, again, straight, strict=True):
        assert isinstance(one, Trained)
        assert_same(mine, one, loose=1e-6)
        assert isinstance(mine, Trained)
        assert mine.pre_step == one.pre_step
        assert apart(a.model, b.model) < 1e-5


def test_states_of_single_training_are_of_another_identity(tmp_path: Path) -> None:
    """What names itself stacked is not taken for what was trained alone."""
    one = pupil(0, checkpoint=tmp_path / "state.pt", identity="alone")
    steps = iter([False] * 5 + [True])
    with pytest.raises(KeyboardInterrupt):
        alone(one, checkpoint=one.checkpoint, identity="alone", stop_requested=lambda: next(steps))
    seen: list[int] = []
    again = pupil(0, checkpoint=tmp_path / "state.pt", identity="stacked", progress=lambda done, *_: seen.append(done))
    train_stacked([again], precision="float32")
    assert seen[0] == 1


def test_recipes_that_cannot_be_followed_together_are_refused() -> None:
    with pytest.raises(ValueError, match="share batch size"):
        train_stacked([pupil(0), pupil(1, dataclasses.replace(RECIPE, batch_size=8))], precision="float32")


def test_a_step_that_cannot_be_recorded_is_done_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an accelerator nothing can: the step is called on copies of its inputs, and says why."""
    state, said = torch.zeros(2), list[str]()

    def step(x: Tensor) -> Tensor:
        state.add_(x)
        return state.sum()

    def refused(device: Any) -> Any:
        step(torch.ones(2))  # a recording that breaks off half-way
        raise RuntimeError("no accelerator\nat all")

    monkeypatch.setattr(torch.cuda, "Stream", refused)
    replayed = Replayed(step, [torch.ones(2)], [state], said.append)
    assert said == ["steps are not recorded as a CUDA graph: no accelerator"]
    assert state.tolist() == [0, 0]
    assert float(replayed(torch.full((2,), 3.0))) == 6


@pytest.mark.parametrize("faithful", [True, False])
def test_a_recording_that_does_something_else_is_not_used(monkeypatch: pytest.MonkeyPatch, faithful: bool) -> None:
    state, said = torch.ones(2), list[str]()

    def step(x: Tensor) -> Tensor:
        state.mul_(x)
        return state.sum()

    class Recording:
        """In the place of a CUDA graph, which needs an accelerator: the step again, or another one."""

        def replay(self) -> None:
            output.copy_(step(replayed.inputs[0] if faithful else torch.full((2,), 7.0)))

    output = torch.zeros(())
    monkeypatch.setattr(Replayed, "_record", lambda self: (Recording(), output))
    replayed = Replayed.__new__(Replayed)
    replayed.__init__(step, [torch.full((2,), 3.0)], [state], said.append)  # type: ignore[misc]
    assert state.tolist() == [1, 1]
    assert bool(said) != faithful
    assert float(replayed(torch.full((2,), 2.0))) == 4
    assert state.tolist() == [2, 2]
