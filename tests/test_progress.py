"""The time that is left, from the first steps on."""

from __future__ import annotations

import io
import sys
from typing import Any

import pytest

from rote_bench.progress import Pace, Progress, duration
from rote_bench.training.curve import Evaluation
from rote_bench.training.schedule import evaluation_steps


@pytest.mark.parametrize("done", [5, 10, 40, 400])
def test_the_time_left_is_known_from_the_start_though_evaluations_crowd_there(done: int) -> None:
    """A step of one second and an evaluation of twenty: the truth is what the remaining ones take."""
    total, every = 900, Pace.SPACING
    evaluated = evaluation_steps(every, total)
    pace, now, record = Pace(), 0.0, object()
    for step in range(1, done + 1):
        now += 1.0 + 20.0 * (step in evaluated)
        record = object() if step in evaluated else record
        pace.tick(now, record)
    truth = (total - done) + 20.0 * sum(step > done for step in evaluated)
    assert pace.each == 1.0
    assert pace.left(total - done) == pytest.approx(truth, rel=0.1)


def test_nothing_is_promised_before_a_step_is_measured() -> None:
    pace = Pace()
    assert pace.each is None and pace.left(10) is None
    pace.tick(3.0, None)
    assert pace.left(10) is None
    pace.tick(5.0, object())
    assert pace.left(10) == 20.0


def test_a_line_says_how_far_how_fast_and_how_long(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = iter(float(t) for t in range(0, 1000, 2))
    monkeypatch.setattr("rote_bench.progress.time.monotonic", lambda: next(now))
    progress = Progress(every=0.0)
    progress.stage("training")
    record = Evaluation(step=1, examples_seen=1, epoch=0, seconds=0, loss=1, lr=1, validation_accuracy=0.5)
    for step in range(1, 4):
        progress.step(step, 100, record)
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == f"training: 3/100, 2.0 s/step, {duration(97 * 2)} left at most, held-out 0.50"


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0:00"), (65, "1:05"), (7384, "2:03:04")])
def test_durations_read_like_a_clock(seconds: float, text: str) -> None:
    assert duration(seconds) == text


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("term", "width"), [("xterm-256color", 80), ("xterm", 40), ("xterm", 1), ("dumb", 80), ("", 80)]
)
def test_no_line_is_longer_than_the_terminal_and_a_plain_one_gets_no_escapes(
    monkeypatch: pytest.MonkeyPatch, term: str, width: int
) -> None:
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", term)
    monkeypatch.setenv("COLUMNS", str(width))
    progress = Progress()
    assert progress.live == term.startswith("xterm")
    progress.stage("training")
    progress.every = 0.0 if progress.live else 1000.0
    record = Evaluation(
        step=1, examples_seen=1, epoch=0, seconds=0, loss=1, lr=1, validation_accuracy=0.5, memorization_rate=0.5
    )
    for step in range(1, 50):
        progress.step(step, 10000, record)
    progress.say("done")
    said = stream.getvalue()
    if not progress.live:
        assert "\x1b" not in said and said.count("\n") == 3
        return
    assert said.count("\n") == 2  # no update leaves a line
    shown = [part.rpartition("\x1b[2K")[2] for part in said.partition("\n")[2].split("\r")]
    assert max(len(line.rstrip("\n")) for line in shown[:-1]) <= max(1, width - 1)


def test_a_total_that_changes_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    progress = Progress(every=1000.0)
    for stage in ("training", "training of the twin"):
        progress.stage(stage)
        for step in range(1, 6):
            progress.step(step, 1400 if step < 3 else 850)
    told = [line for line in stream.getvalue().splitlines() if "falls" in line]
    assert told == ["the learning rate falls from here on: 850 steps in all, and not 1400"] * 2


class Closed(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError


@pytest.mark.parametrize("stream", [None, Closed(), io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="strict")])
def test_whoever_hears_it_progress_never_fails(monkeypatch: pytest.MonkeyPatch, stream: Any) -> None:
    monkeypatch.setattr(sys, "stderr", stream)
    progress = Progress(every=0.0)
    progress.stage("模型")
    progress.warn("é")
    progress.step(1, 2)
    if isinstance(stream, io.TextIOWrapper):
        assert stream.buffer.getvalue().splitlines()[:2] == [rb"\u6a21\u578b", rb"warning: \xe9"]
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stderr", closed)
    Progress().say("nobody hears it")
