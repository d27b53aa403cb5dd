"""Which snapshots are kept while training goes on, and when its state is written."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rote_bench.training.curve import Evaluation
from rote_bench.training.state import Candidates, SavedState, Standing

POINT = Evaluation(step=2, examples_seen=8, epoch=0.5, seconds=1.5, loss=0.25, lr=1.0, selection_accuracy=0.5)


@given(st.lists(st.tuples(st.floats(-1, 1), st.floats(0, 1)), min_size=1, max_size=25), st.floats(0.5, 1))
def test_keeping_few_candidates_chooses_as_if_all_were_kept(points: list[tuple[float, float]], share: float) -> None:
    kept = Candidates()
    for step, (score, accuracy) in enumerate(points):
        kept.offer(score, accuracy, step, dict)
    final = points[-1][1]
    step, _ = kept.choose(final, share)
    eligible = [p for p in points if p[1] >= share * final]
    assert points[step][1] >= share * final
    assert points[step][0] == max(score for score, _ in eligible)


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
    at.candidates.offer(0.5, 0.5, 2, lambda: {"weight": torch.ones(1)})
    SavedState(tmp_path / "state.pt", "x", 30.0).write(net, optimizer, at)
    again = SavedState(tmp_path / "state.pt", "x", 30.0).read(other, optimizer)
    assert torch.equal(net.weight, other.weight)
    assert (again.curve, again.step, again.tokens, again.evaluating) == ([POINT], 3, 12, 1.0)
    assert again.running == at.running and again.candidates.kept == at.candidates.kept
    assert again.earlier >= 5.0
    fresh = SavedState(tmp_path / "state.pt", "y", 30.0).read(other, optimizer)
    assert (fresh.step, fresh.earlier, fresh.curve) == (0, 0.0, [])
