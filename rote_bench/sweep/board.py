"""The cells of a sweep while it runs: a live table on a terminal, a line for each event elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..notebook import Bar, in_notebook
from ..progress import draws, duration, put
from ..terminal import clean
from .cells import Job

if TYPE_CHECKING:
    from rich.console import RenderableType

STYLES: Mapping[str, str] = {"done": "green", "failed": "bold red", "running": "yellow", "interrupted": "magenta"}


@dataclass
class State:
    """One cell and how it fares.

    Attributes:
        state: ``waiting``, ``running``, ``done``, ``failed`` or ``interrupted``.
        where: what it is doing.
        since: when it began to run, on the monotonic clock; None while it waits.
        seconds: what it took.
        predicted: seconds that it is expected to take in all; None when nothing is known.
        expected: the same as its own process says once it has timed a few steps.
        skipped: it was done before.
    """

    job: Job
    state: str = "waiting"
    where: str = ""
    since: float | None = None
    seconds: float | None = None
    predicted: float | None = None
    expected: float | None = None
    skipped: bool = False
    reason: str | None = None
    exit_code: int | None = None
    log: Sequence[str] = ()

    def left(self) -> float | None:
        """Seconds still to go; None when nothing is known."""
        if self.state not in ("waiting", "running"):
            return 0.0
        if self.predicted is None:
            return None
        return max(0.0, self.predicted - (0.0 if self.since is None else time.monotonic() - self.since))


def time_left(states: Sequence[State], share: Mapping[str, float]) -> tuple[float, int]:
    """Seconds until all cells are done, and how many cells are left out because nothing is known of them.

    Args:
        share: name of a cell -> the part of the machine that it takes.
    """
    left = [(each.left(), share[each.job.name]) for each in states]
    known = [(seconds, part) for seconds, part in left if seconds is not None]
    work = sum(seconds * part for seconds, part in known)
    return max([work, *(seconds for seconds, _ in known)]), len(left) - len(known)


class Board:
    """Shows the cells on standard error.

    Args:
        quiet: only failures, a line each.
        every: seconds between lines that say how far all is, when standard error is not a terminal.

    Attributes:
        totals: tells how many cells each phase has, where there are several.
    """

    def __init__(self, title: str, *, quiet: bool, every: float = 60.0) -> None:
        self.title = title
        self.quiet = quiet
        self.every = every
        self.totals: Callable[[], Mapping[str, int]] = dict
        self.live: Any = None
        self.bar = Bar() if in_notebook() else None
        self._said = time.monotonic()

    def __enter__(self) -> Board:
        if not self.quiet and draws():
            from rich.console import Console
            from rich.live import Live

            self.live = Live(console=Console(stderr=True), auto_refresh=False, transient=True)
            self.live.start()
        return self

    def __exit__(self, *unused: Any) -> None:
        if self.live is not None:
            self.live.stop()
            self.live = None

    def say(self, text: str, *, always: bool = False) -> None:
        """A line that stays."""
        if self.quiet and not always:
            return
        text = clean(text)
        if self.bar is not None:
            self.bar.say(text)
        elif self.live is not None:
            self.live.console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            put(f"{text}\n")

    def changed(self, each: State) -> None:
        """A cell began or ended."""
        name = each.job.name
        if each.state == "running":
            if self.live is None:
                about = f", some {duration(each.predicted)}" if each.predicted else ""
                self.say(f"{name}: started{about}")
        elif each.state == "failed":
            self.say(f"{name}: failed: {each.reason}", always=True)
        elif each.skipped:
            self.say(f"{name}: already done")
        else:
            took = f" after {duration(each.seconds)}" if each.seconds is not None else ""
            why = f" ({each.reason})" if each.state == "done" and each.reason else ""
            self.say(f"{name}: {each.state}{took}{why}")

    def show(self, states: Sequence[State], share: Mapping[str, float]) -> None:
        """All cells as they are now."""
        if self.quiet:
            return
        if self.bar is not None:
            ended = sum(each.state not in ("waiting", "running") for each in states)
            self.bar.show(summary(states, share), ended, len(states))
        elif self.live is not None:
            self.live.update(self._table(states, share), refresh=True)
        elif time.monotonic() - self._said >= self.every:
            self._said = time.monotonic()
            running = [f"{s.job.name} ({s.where})" for s in states if s.state == "running" and s.where]
            self.say("; ".join([summary(states, share, self.totals()), *running]))

    def _table(self, states: Sequence[State], share: Mapping[str, float]) -> RenderableType:
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, header_style="bold")
        phased = bool(self.totals())
        for head in (*(("phase",) if phased else ()), "cell", "state", "", "time", "predicted"):
            table.add_column(head, justify="right" if head in ("time", "predicted") else "left", no_wrap=True)
        shown = _most_telling(states, max(3, self.live.console.height - 4))
        for each in shown:
            seconds = each.seconds
            if seconds is None and each.since is not None:
                seconds = time.monotonic() - each.since
            table.add_row(
                *((Text(each.job.phase),) if phased else ()),
                Text(clean(each.job.name)),
                Text(each.state, style=STYLES.get(each.state, "dim")),
                Text(clean(each.reason or each.where)[:60]),
                "" if seconds is None else duration(seconds),
                "unknown" if each.predicted is None else f"~{duration(each.predicted)}",
            )
        hidden = len(states) - len(shown)
        more = Text(f"... and {hidden} more", style="dim") if hidden else Text("")
        return Group(Text(f"{self.title}: {summary(states, share, self.totals())}"), table, more)


def progress_of(states: Sequence[State], totals: Mapping[str, int]) -> str:
    """How many cells of each phase are done, of how many there will be."""
    done = {phase: sum(s.job.phase == phase and s.state == "done" for s in states) for phase in totals}
    return ", ".join(f"{phase} {done[phase]}/{n}" for phase, n in totals.items())


def summary(states: Sequence[State], share: Mapping[str, float], totals: Mapping[str, int] | None = None) -> str:
    """How many cells are in which state, and how long it will still take.

    Args:
        totals: phase -> its cells, where there are several phases; those that are not planned yet count at most.
    """
    counts = {name: sum(s.state == name for s in states) for name in (*STYLES, "waiting")}
    text = f"{len(states)} cells: " + ", ".join(f"{n} {name}" for name, n in counts.items() if n)
    text = f"{named}; {text}" if (named := progress_of(states, totals or {})) else text
    if counts["running"] or counts["waiting"]:
        seconds, unknown = time_left(states, share)
        if unknown == counts["running"] + counts["waiting"]:
            text += "; time left unknown"
        else:
            text += f"; about {duration(seconds)} left"
            text += f" and {unknown} cells of unknown length" if unknown else ""
            text += ", without those to be planned" if sum((totals or {}).values()) > len(states) else ""
    return text


def _most_telling(states: Sequence[State], room: int) -> list[State]:
    """As many cells as fit, in their order: those that run, then failed ones, then the next, then the latest done."""
    rank = {"running": 0, "failed": 1, "interrupted": 1, "waiting": 2, "done": 3}
    order = sorted(range(len(states)), key=lambda i: (rank[states[i].state], -i if states[i].state == "done" else i))
    return [states[i] for i in sorted(order[:room])]
