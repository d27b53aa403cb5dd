"""Which reports count: one for each cell, and what is said of the others.

Nothing here hangs on how many reports say a thing, as anybody can write many. Where two reports cannot both stand, the
one stands that brings the answers behind its numbers, then the one that stood on the board before, then the one with
more files to compute from, then the one that lies where runs put it, and only then the one from committed code.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ..report.record import Report
from .entry import APART, Cell, Entry
from .names import imitated, skeleton
from .shipped import Known
from .verify import ANSWERED

REFUSED, BARRED, DUPLICATE, CONFLICT = "refused", "barred", "duplicate", "conflict"


@dataclass
class Selection:
    """The reports that count, and those that are set aside.

    Attributes:
        aside: path, reason and kind of each that does not count.
        marks: path of a counted report -> what its row says because of it.
    """

    counted: list[Entry] = field(default_factory=list)
    aside: list[dict[str, str]] = field(default_factory=list)
    marks: dict[str, list[str]] = field(default_factory=dict)

    def put_aside(self, entry: Entry, kind: str, reason: str) -> None:
        self.aside.append({"path": entry.path, "reason": reason, "kind": kind})

    def mark(self, entry: Entry, text: str) -> None:
        self.marks.setdefault(entry.path, []).append(text)


def select(entries: Iterable[Entry], known: Known, published: Collection[str] = ()) -> Selection:
    """The reports that count.

    Args:
        published: hashes of the reports that stood on the board before.
    """
    versions = {one.name: one.version for one in known.values()}
    found = Selection()
    by_cell: dict[Cell, Entry] = {}
    by_trace: dict[tuple[str, str], Entry] = {}
    by_look: dict[str, Entry] = {}

    for entry in sorted(entries, key=lambda each: standing(each, published)):
        barred = entry.barred or _outdated(entry.report, versions)
        first = by_cell.get(entry.cell)
        look = skeleton(entry.report.model.name)
        rival = by_look.get(look, entry)
        original = next((by_trace[key] for key in _keys(entry) if key in by_trace), None)
        like = imitated(entry.report.model.name)
        if barred is not None:
            found.put_aside(entry, BARRED, barred)
        elif like is not None:
            found.put_aside(entry, REFUSED, f"its model's name looks like {like} and is another one")
        elif first is not None:
            _second(found, entry, first)
        elif original is not None:
            found.put_aside(entry, REFUSED, f"the same training as {original.path}: equal losses or equal weights")
        elif _other_name(entry, rival) and _weaker(entry, rival, published):
            found.put_aside(entry, REFUSED, f"its model's name looks like that of {rival.path} and is another one")
        else:
            if _other_name(entry, rival):
                found.mark(entry, f"its name looks like {rival.model}")
            by_cell[entry.cell] = entry
            by_look.setdefault(look, entry)
            for key in _keys(entry):
                by_trace[key] = entry
            found.counted.append(entry)
    _copied_answers(found)
    found.counted.sort(key=lambda entry: entry.path)
    return found


def standing(entry: Entry, published: Collection[str]) -> tuple[object, ...]:
    """What reports that cannot all stand are ordered by, the strongest first."""
    dirty = bool(entry.report.environment.git_dirty)
    return not entry.answers, entry.sha256 not in published, -entry.files, entry.place, dirty, entry.path


def _outdated(report: Report, versions: Mapping[str, int]) -> str | None:
    name, newest = report.task.name, versions.get(report.task.name, 0)
    if report.task.version >= newest:
        return None
    return f"version {report.task.version} of the task {name}; this rote-bench has version {newest}"


def _keys(entry: Entry) -> list[tuple[str, str]]:
    return [(entry.cell.content, trace) for trace in sorted(entry.traces.training)]


def _other_name(entry: Entry, rival: Entry) -> bool:
    return entry.model.partition(" [")[0] != rival.model.partition(" [")[0]


def _weaker(entry: Entry, rival: Entry, published: Collection[str]) -> bool:
    """Whether it is more than chance that another report comes first."""
    return (entry.answers, entry.sha256 in published) < (rival.answers, rival.sha256 in published)


def _second(found: Selection, entry: Entry, first: Entry) -> None:
    """What becomes of another report of a cell that has one."""
    apart = [name for (name, *_), a, b in zip(APART, entry.apart, first.apart, strict=True) if a != b]
    other = _differing(entry.report, first.report)
    same = entry.report.identity.hash == first.report.identity.hash
    same_run = same or apart in ([], ["bootstrap seed"])
    if other and (same or "examples" in apart or (same_run and _differing(entry.report, first.report, ANSWERED))):
        found.put_aside(entry, CONFLICT, f"contradicts {first.path}, a report of the same cell: {other}")
        if entry.evidence == first.evidence:
            found.mark(first, f"another report of seed {first.seed} has other numbers and as many files")
    elif same_run:
        found.put_aside(entry, DUPLICATE, f"the same cell as {first.path}")
    else:
        found.put_aside(entry, BARRED, f"another run of the cell in {first.path}, which differs in {', '.join(apart)}")


def _differing(report: Report, other: Report, only: Collection[str] = ()) -> str:
    """In which of some or of all numbers two reports differ, in words; empty when in none."""
    names = sorted(only or {*report.metrics, *other.metrics})
    pairs = [(name, report.value(name), other.value(name)) for name in names]
    apart = [pair for pair in pairs if pair[1] != pair[2]]
    if not apart:
        return ""
    name, a, b = apart[0]
    more = f", and {len(apart) - 1} numbers more" if len(apart) > 1 else ""
    return f"{name} is {_said(a)} instead of {_said(b)}{more}"


def _said(value: float | None) -> str:
    return "not known" if value is None else f"{value:.6g}"


def _copied_answers(found: Selection) -> None:
    """Equal wrong answers are no proof, as two good models may share a few; the later report's row says so."""
    by_answers: dict[tuple[str, str], Entry] = {}
    for entry in found.counted:  # the strongest first
        if entry.traces.wrong is None:
            continue
        first = by_answers.setdefault((entry.cell.content, entry.traces.wrong), entry)
        if first is not entry:
            whose = f"seed {first.seed} of {first.model} at noise rate {first.cell.rate:g}"
            found.mark(entry, f"seed {entry.seed} gives the same {entry.traces.n_wrong} wrong answers as {whose}")


def failures(cells: Iterable[tuple[str, Cell]], counted: Sequence[Entry]) -> Counter[Cell]:
    """How many cells of each row failed, told by ``row_of``: those that lie in the folder of its counted cells.

    Args:
        cells: path and cell of every failed run whose identity is its own.
    """
    done = {entry.cell for entry in counted}
    homes = {(row_of(entry.cell), _beside(entry.path)) for entry in counted}
    found = {cell for path, cell in cells if cell not in done and (row_of(cell), _beside(path)) in homes}
    return Counter(map(row_of, found))


def row_of(cell: Cell) -> Cell:
    """What the cells of a row share."""
    return cell._replace(seeds=())


def _beside(path: str) -> str:
    """The folder of the cells that differ in their seeds."""
    return path.rsplit("/", 2)[0] if path.count("/") > 1 else ""
