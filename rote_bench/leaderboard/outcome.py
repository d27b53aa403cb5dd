"""What became of every claim of a report that was checked, and what that means for the report."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

from .. import terminal
from ..plain import JsonObject
from ..report.record import Metric
from ..report.table import text
from .implied import Implied, shown
from .untrusted import printable

CONFIRMED, DIFFERS, UNKNOWN = "confirmed", "differs", "not recomputed"
WIDE = "too wide to tell"
TRUST = "on trust"
VERDICTS = (CONFIRMED, DIFFERS, UNKNOWN, WIDE, TRUST)
COUNTED = (CONFIRMED, DIFFERS, UNKNOWN)  # said of every report, the others where there are some


@dataclass(frozen=True)
class Outcome:
    """What became of one claim.

    Attributes:
        claim: a metric, or another part of the report.
        verdict: confirmed; differs; not recomputed, where what it needs is missing; too wide to tell, where a repeated
            run was made and says nothing; or on trust, where nothing that a report keeps determines it.
        claimed, recomputed: as text, empty where there is none.
        note: from what it was recomputed, or why it could not be.
    """

    claim: str
    verdict: str
    claimed: str = ""
    recomputed: str = ""
    note: str = ""

    def __post_init__(self) -> None:
        for name in ("claim", "claimed", "recomputed", "note"):  # strangers wrote them
            object.__setattr__(self, name, printable(getattr(self, name))[:500])

    @classmethod
    def of(cls, name: str, verdict: str, claimed: Metric, again: Metric | Implied, note: str) -> Outcome:
        """Of a metric that was found again."""
        return cls(name, verdict, shown(claimed), shown(again), note)

    def lines(self, columns: int) -> list[str]:
        """As text that keeps to a width."""
        found = f"claimed {self.claimed or '-'}, recomputed {self.recomputed or '-'}"
        if self.claimed == self.recomputed:
            found = self.claimed
        told = "; ".join(part for part in (found, self.note) if part)
        lines = terminal.fold(f"{self.verdict:<17}{self.claim}", columns, hang="  ")
        return [*lines, *terminal.fold(told, columns, "  ")] if told else lines


@dataclass
class Check:
    """All outcomes of one report."""

    path: str
    outcomes: list[Outcome] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        """Nothing differs."""
        return all(outcome.verdict != DIFFERS for outcome in self.outcomes)

    @property
    def complete(self) -> bool:
        """Nothing that could be recomputed was left out because what it needs is missing, or says too little."""
        return all(outcome.verdict not in (UNKNOWN, WIDE) for outcome in self.outcomes)

    def entry(self) -> JsonObject:
        """As JSON."""
        outcomes = [asdict(outcome) for outcome in self.outcomes]
        return {"path": printable(self.path), "holds": self.holds, "complete": self.complete, "outcomes": outcomes}

    def table(self, style: str = "simple") -> str:
        """As text."""
        rows = [[o.claim, o.verdict, o.claimed, o.recomputed, o.note] for o in self.outcomes]
        header = ["claim", "", "claimed", "recomputed", "from, or why not"]
        found = text(header, rows, style)
        if style == "simple" and max(map(len, found.splitlines())) > terminal.width():
            found = "\n".join(line for outcome in self.outcomes for line in outcome.lines(terminal.width()))
        counts = {verdict: sum(o.verdict == verdict for o in self.outcomes) for verdict in VERDICTS}
        told = ", ".join(f"{n} {verdict}" for verdict, n in counts.items() if n or verdict in COUNTED)
        return f"{printable(self.path)}\n\n{found}\n\n{told}"
