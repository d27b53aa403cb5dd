"""Progress: a live line on a terminal, a bar in a notebook, a plain line on standard error now and then elsewhere."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections import deque
from statistics import fmean, median
from typing import TYPE_CHECKING, Any

from .notebook import Bar, in_notebook
from .terminal import clean

if TYPE_CHECKING:
    from .training.curve import CurveName, Evaluation

CURVES: tuple[tuple[str, CurveName], ...] = (
    ("held-out", "validation_accuracy"),
    ("memorised", "memorization_rate"),
    ("true on noisy", "noisy_true_rate"),
)


def put(text: str) -> None:
    """Write to standard error; where nobody reads it any more, or there is none, nothing comes of it."""
    stream = sys.stderr
    if stream is None:
        return
    try:
        try:
            stream.write(text)
        except UnicodeEncodeError:
            stream.write(text.encode("ascii", "backslashreplace").decode("ascii"))
        stream.flush()
    except (OSError, ValueError):  # a run is worth more than what is said about it
        pass


def draws() -> bool:
    """Whether standard error is a terminal that can erase a line."""
    try:
        return sys.stderr is not None and sys.stderr.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "")
    except ValueError:  # it is closed
        return False


def columns() -> int:
    """The width of the terminal that standard error is; 80 where it does not say."""
    named = os.environ.get("COLUMNS", "")
    if named.isdecimal() and int(named):
        return int(named)
    with contextlib.suppress(OSError, ValueError, AttributeError):
        return os.get_terminal_size(sys.stderr.fileno()).columns or 80
    return 80


def duration(seconds: float) -> str:
    """``1:05`` or ``2:03:04``."""
    whole = max(0, round(seconds))
    hours, rest = divmod(whole, 3600)
    minutes, secs = divmod(rest, 60)
    return f"{hours}:{minutes:02d}:{secs:02d}" if hours else f"{minutes}:{secs:02d}"


def _whole(text: str, columns: int) -> str:
    """As much of a line as fits, in whole parts: one that wraps is not erased by the next."""
    columns = max(1, columns)
    while len(text) > columns and ", " in text:
        text = text.rpartition(", ")[0]
    return text[:columns]


class Pace:
    """How long a step takes apart from the evaluations among them, and so how long is left.

    Evaluations crowd at the start of a training and are ``SPACING`` steps apart later, so that a mean over all steps
    would promise many times the true time at first.
    """

    SPACING = 25

    def __init__(self) -> None:
        self.steps: deque[float] = deque(maxlen=50)
        self.evaluated: deque[float] = deque(maxlen=10)
        self._before: tuple[float, Any] | None = None

    def tick(self, now: float, record: Any) -> None:
        """A step is done at ``now``; with a record that is not the last one, it was evaluated too."""
        if self._before is not None:
            then, last = self._before
            (self.steps if record is last else self.evaluated).append(now - then)
        self._before = now, record

    @property
    def each(self) -> float | None:
        """Seconds of a step without evaluation; None while nothing is known."""
        if self.steps:
            return median(self.steps)
        return min(self.evaluated) if self.evaluated else None

    def left(self, steps: int) -> float | None:
        """Seconds that so many steps will take, their evaluations included."""
        if self.each is None:
            return None
        extra = fmean(self.evaluated) - self.each if self.evaluated and self.steps else 0.0
        return steps * (self.each + max(0.0, extra) / self.SPACING)


class Progress:
    """Says what is going on: stage, how far, how fast, how long still.

    Args:
        quiet: say nothing but warnings.
        debug: let the errors of diagnostics through with their tracebacks.
        every: seconds between lines when standard error is not a terminal.
    """

    def __init__(self, *, quiet: bool = False, debug: bool = False, every: float = 10.0) -> None:
        self.quiet = quiet
        self.debug = debug
        self.live = draws()
        self.bar = Bar() if in_notebook() else None
        self.every = 0.2 if self.live or self.bar else every
        self._shown = -1e9
        self._open = False
        self._pace = Pace()
        self._last_stage = ""
        self._total: int | None = None

    def say(self, text: str) -> None:
        """A line that stays."""
        if not self.quiet:
            self._line(text)

    def passing(self, text: str) -> None:
        """On a terminal or in a notebook, a line until the next one takes its place; none when the text is empty."""
        if not self.quiet:
            self._live(text)

    def warn(self, text: str) -> None:
        """A line that stays even when quiet."""
        self._line(f"warning: {text}")

    def expect(self, seconds: float, text: str) -> None:
        """What is to come will take so many seconds; the text says it in words."""
        self.say(f"expected: {text}")

    def stage(self, name: str) -> None:
        """A new stage begins."""
        self._last_stage, self._total = name, None
        self._pace = Pace()
        self._shown = -1e9
        if self.bar is None:
            self.say(name)
        else:
            self.passing(name)

    def step(self, done: int, total: int, point: Evaluation | None = None) -> None:
        """``done`` of ``total`` steps; the curves of the last evaluation are shown when there is one.

        A total that changes is told: how long the learning rate is held, a training finds out as it goes.
        """
        if self._total not in (None, total):
            self.say(f"the learning rate falls from here on: {total} steps in all, and not {self._total}")
        self._total = total
        now = time.monotonic()
        self._pace.tick(now, point)
        if self.quiet or (now - self._shown < self.every and done < total):
            return
        self._shown = now
        text = f"{self._last_stage}: {done}/{total}"
        each, left = self._pace.each, self._pace.left(total - done)
        if each is not None and left is not None:
            speed = f"{1 / each:.1f} steps/s" if each < 1 else f"{each:.1f} s/step"
            text += f", {speed}, {duration(left)} left at most"
        if point is not None:
            levels = ((label, point.level(name)) for label, name in CURVES)
            text += "".join(f", {label} {level:.2f}" for label, level in levels if level is not None)
        if not self._live(text, done, total):
            self._line(text)

    def _live(self, text: str, done: int | None = None, total: int | None = None) -> bool:
        """Show what is going on where it can be replaced; whether it can."""
        if self.bar is not None:
            self.bar.show(text, done, total)
        elif self.live:
            put(f"\r\x1b[2K{_whole(text, columns() - 1)}")
            self._open = bool(text)
        return self.bar is not None or self.live

    def _line(self, text: str) -> None:
        if self.bar is not None:
            self.bar.say(text)
            return
        erased = "\r\x1b[2K" if self._open else ""
        self._open = False
        put(f"{erased}{clean(text)}\n")
