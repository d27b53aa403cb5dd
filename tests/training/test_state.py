"""Which snapshots are kept while training goes on, and when its state is written."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rote_bench.training import candidates
from rote_bench.training.candidates import IN_MEMORY, Candidates
from rote_bench.training.curve import Evaluation
from rote_bench.training.state import SavedState, Standing

SHARES = st.integers(0, 12).map(lambda n: n / 12)  # coarse, so that there are ties
FALLING = [(step / 12, 0.0, 1 - step / 12) for step in range(13)]  # none is better than another in every respect
Point = tuple[float, float, float]  # true answers and noisy labels on the noisy examples, accuracy

POINT = Evaluation(step=2, examples_seen=8, epoch=0.5, seconds=1.5, loss=0.25, lr=1.0, selection_accuracy=0.5)


@example(points=FALLING, end=(0.0, 0.9, 0.5), share=0.9)
@example(points=FALLING, end=(0.0, 0.0, 0.0), share=0.9)
@given(st.lists(st.tuples(SHARES, SHARES, SHARES), max_size=25), st.tuples(SHARES, SHARES, SHARES), st.floats(0.5, 1))
@settings(deadline=None)
def test_few_copies_in_memory_choose_what_all_of_them_would(points: list[Point], end: Point, share: float) -> None:
    """Against the plain rule over every evaluation, weights included."""
    points = [*points, end]
    last = replace(POINT, step=len(points) - 1, memorization_rate=end[1], selection_accuracy=end[2])
    before = [i for i, p in enumerate(points[:-1]) if p[2] >= share * end[2] and p[1] < end[1] / 2]
    highest = max((points[i][0] - points[i][1] for i in before), default=None)
    with TemporaryDirectory() as folder:
        for place in (None, Path(folder) / "state.pt"):
            kept = Candidates(place)
            for step, (true, memorized, accuracy) in enumerate(points):
                kept.offer(true, memorized, accuracy, step, partial(state_of, step))
                assert sum(each.weights is not None for each in kept.kept) <= IN_MEMORY
                seen = [(t - m, -m, a) for t, m, a in points[: step + 1]]
                front = {p for p in seen if not any(better(q, p) for q in seen)}
                assert {(each.score, -each.memorized, each.accuracy) for each in kept.kept} == front
                assert len(list(Path(folder).iterdir())) <= max(0, len(front) - 1)
            chosen = kept.choose(last, share)
            # some snapshot that is better in every respect always stands in for one that was dropped
            assert (chosen is None) == (highest is None)
            if chosen is not None:
                step, weights = chosen
                assert step in before and points[step][0] - points[step][1] == highest
                assert torch.equal(weights["weight"], torch.full((2,), float(step)))
            kept.tidy()
        assert not list(Path(folder).iterdir())


@pytest.mark.parametrize("large", [False, True])
def test_large_snapshots_all_wait_in_files(large: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidates, "LARGE_SNAPSHOT", 8 if large else 9)  # two numbers of four bytes
    kept = Candidates(tmp_path / "state.pt")
    for step, point in enumerate(FALLING):
        kept.offer(*point, step, partial(state_of, step))
    inside = [each.step for each in kept.kept if each.weights is not None]
    assert inside == ([] if large else [11, 12])
    assert len(list(tmp_path.iterdir())) == len(kept.kept) - len(inside)
    end = replace(POINT, step=99, memorization_rate=0.9, selection_accuracy=0.0)
    chosen, weights = kept.choose(end, 1.0) or (None, {})
    assert chosen == 12 and torch.equal(weights["weight"], torch.full((2,), 12.0))


def state_of(step: int) -> dict[str, torch.Tensor]:
    return {"weight": torch.full((2,), float(step))}


def better(one: Point, other: Point) -> bool:
    return one != other and all(a >= b for a, b in zip(one, other, strict=True))


def test_a_state_that_takes_long_to_write_is_written_seldom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    net = torch.nn.Linear(2, 2)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    saved = SavedState(tmp_path / "state.pt", "x", least=30.0)
    at = Standing(step=3, earlier=5.0)

    def slow(*arguments: object) -> None:
        now[0] += 10.0

    now[0] = 29.0
    assert not saved.due
    now[0] = 30.0
    assert saved.due
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", slow)
        saved.write(net, optimizer, at)
    now[0] += 299.0
    assert not saved.due
    now[0] += 1.0
    assert saved.due


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    net, other = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    at = Standing(curve=[POINT], step=3, tokens=12, running=[torch.tensor(0.5)], evaluating=1.0, earlier=5.0)
    at.candidates.offer(0.5, 0.0, 0.5, 2, lambda: {"weight": torch.ones(1)})
    SavedState(tmp_path / "state.pt", "x", 30.0).write(net, optimizer, at)
    again = SavedState(tmp_path / "state.pt", "x", 30.0).read(other, optimizer)
    assert torch.equal(net.weight, other.weight)
    assert (again.curve, again.step, again.tokens, again.evaluating) == ([POINT], 3, 12, 1.0)
    assert again.running == at.running and again.candidates.kept == at.candidates.kept
    assert again.stop_reason == "budget"
    assert again.earlier >= 5.0
    fresh = SavedState(tmp_path / "state.pt", "y", 30.0).read(other, optimizer)
    assert (fresh.step, fresh.earlier, fresh.curve) == (0, 0.0, [])


def test_a_saved_state_stays_whole_while_another_training_has_the_folder(tmp_path: Path) -> None:
    net = torch.nn.RMSNorm(2)  # whose only weight has the shape of those below
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)

    def offered(at: Standing) -> Standing:
        for step, point in enumerate(FALLING):
            at.candidates.offer(*point, step, partial(state_of, step))
        return at

    one = SavedState(tmp_path / "state.pt", "one", 0.0)
    one.write(net, optimizer, offered(one.read(net, optimizer)))
    files = {file.name for file in tmp_path.iterdir()}
    assert len(files) == 1 + len(FALLING) - IN_MEMORY
    assert (tmp_path / "state.pt").stat().st_size < 30_000
    other = SavedState(tmp_path / "state.pt", "other", 0.0)
    at = other.read(net, optimizer)
    at.candidates.tidy()
    assert files == {file.name for file in tmp_path.iterdir()}
    offered(at)
    again = one.read(net, optimizer)
    end = replace(POINT, step=99, memorization_rate=0.9, selection_accuracy=0.8)
    step, weights = again.candidates.choose(end, 1.0) or (None, {})
    assert step == 2 and torch.equal(weights["weight"], torch.full((2,), 2.0))
    offered(at)
    other.write(net, optimizer, at)
    assert len(list(tmp_path.iterdir())) == len(files)
    assert one.read(net, optimizer).candidates.kept == []
    next(iter(at.candidates.waiting())).unlink()
    assert other.read(net, optimizer).step == 0  # a state that is not whole is none


def test_the_generators_of_all_gpus_in_use_go_on_where_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of a model on two GPUs, without any: each generator is one of this processor's."""
    devices = [torch.device("cuda", 0), torch.device("cuda", 1)]
    gpus = {device: torch.Generator().manual_seed(device.index) for device in devices}
    monkeypatch.setattr("rote_bench.training.state._accelerators", lambda model: devices)
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: gpus[device].get_state())
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: gpus[device].set_state(state))
    net = torch.nn.Linear(2, 2)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)

    def drawn() -> list[torch.Tensor]:
        return [torch.rand(3), *(torch.rand(3, generator=generator) for generator in gpus.values())]

    drawn()
    SavedState(tmp_path / "state.pt", "x", 30.0).write(net, optimizer, Standing())
    expected = drawn()
    drawn()
    SavedState(tmp_path / "state.pt", "x", 30.0).read(net, optimizer)
    assert all(torch.equal(a, b) for a, b in zip(drawn(), expected, strict=True))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_dropout_on_a_gpu_goes_on_where_it_was(tmp_path: Path) -> None:
    net = torch.nn.Linear(2, 2).cuda()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    saved = SavedState(tmp_path / "state.pt", "x", 30.0)
    saved.write(net, optimizer, Standing())
    expected = torch.nn.functional.dropout(torch.ones(64, device="cuda"))
    saved.read(net, optimizer)
    assert torch.equal(torch.nn.functional.dropout(torch.ones(64, device="cuda")), expected)
