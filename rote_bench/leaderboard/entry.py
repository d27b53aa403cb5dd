"""What the board keeps of a report: a few kilobytes of its content, and nothing that was not looked at."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from ..comparison.choice import Learned
from ..comparison.trials import climb, key_of_report, known_at_settle, learned
from ..errors import UserError
from ..findings import decide
from ..hashing import canonical, digest
from ..pipeline.cell import folder_name
from ..plain import JsonObject
from ..report.conditions import at, setup
from ..report.record import Report
from .implied import implied, listed
from .names import canonical as canonical_name
from .names import is_sized
from .series import series
from .shipped import recipe_hash, recipe_of
from .traces import DYNAMICS, SAMPLES, Traces, traces
from .verify import ANSWERED

if TYPE_CHECKING:
    from ..plugins import Registry

SHORT = 12  # characters of a hash in a name: more than can be searched for
OF_WEIGHTS = ("source", "revision", "weights", "tokenizer", "base", "builder")
# What two runs of one cell may differ in, and what it is called.
APART = (
    ("bootstrap seed", "seeds", "bootstrap"),
    ("precision", "precision"),
    ("device", "device"),
    ("way of training", "way"),
    ("schedule", "schedule"),
    ("diagnostics", "diagnostics"),
    ("configuration", "model", "config"),
    ("examples", "task", "data"),
)


class Cell(NamedTuple):
    """What makes a cell one and not another: all but what only measures it, as the bootstrap seed.

    Attributes:
        task: its label.
        content: hash of what decides the examples.
        recipe: hash of how it trained.
        model: as the board calls it.
        seeds: of data, noise, first weights and order.
    """

    task: str
    content: str
    recipe: str
    model: str
    rate: float
    seeds: tuple[int, ...]


class Checked(NamedTuple):
    """How many of a report's numbers were found again, by what they rest on.

    Attributes:
        recomputed: from the files beside the report.
        consistent: following from the details inside it.
        trusted: neither.
    """

    recomputed: int
    consistent: int
    trusted: int


class Trial(NamedTuple):
    """What a report says where it is a trial of a comparison, or one of its cells.

    Attributes:
        key: what a planned trial or cell shares with its reports.
        under: hash of the versions and the type of numbers that it was trained with, which a comparison never mixes.
        learned: what it came to without wrong labels; None where it does not say.
        climb: the steps at which it gave more wrong labels than before, with the part; None where it does not say.
        known: accuracy on the selection split when the learning rate began to fall; None where it does not say.
    """

    key: str
    under: str
    learned: Learned | None
    climb: tuple[tuple[int, float], ...] | None
    known: float | None


@dataclass(frozen=True, slots=True)
class Entry:
    """One admitted report.

    Attributes:
        path: relative to the common root, with forward slashes.
        sha256: of its file.
        report: without details, configuration, identity parts and artifacts, which no board needs.
        cell: what it is a report of.
        setup: hash of what decides a model's result apart from task, noise rate and seeds.
        recipe: how it was trained, as JSON.
        apart: what another run of the cell may differ in, each as a short hash.
        trial: what it says where it belongs to a comparison; None where it cannot.
        drawn: ``series`` as JSON, which takes a tenth of the memory.
        artifacts: how many of the files beside the report are there, and how many are not.
        answers: whether the answers that its headline numbers count are among them.
        files: how many of those are that others can compute its numbers from.
        place: 0 where a run put it, more the further it was moved.
    """

    path: str
    sha256: str
    report: Report
    cell: Cell
    setup: str
    recipe: str
    apart: tuple[str, ...]
    trial: Trial | None
    drawn: str
    artifacts: tuple[int, int]
    answers: bool
    files: int
    place: int
    checked: Checked
    traces: Traces

    @property
    def model(self) -> str:
        """What the board calls its model."""
        return self.cell.model

    @property
    def seed(self) -> str:
        """A short name: the seed, or all five when they differ."""
        return self.report.seeds.label

    @property
    def evidence(self) -> tuple[bool, int]:
        """What came with the report that others can compute its numbers from."""
        return self.answers, self.files

    @property
    def series(self) -> Mapping[str, JsonObject]:
        """Diagnostic -> what the page draws of it."""
        found: Mapping[str, JsonObject] = json.loads(self.drawn)
        return found

    @property
    def barred(self) -> str | None:
        """Why the report does not count although nothing is wrong with it."""
        limit = self.report.data.limit
        return None if limit is None else f"only {limit} examples of each split were used (--limit)"


def make(
    report: Report, registry: Registry, folder: Path, *, path: str, sha256: str, artifacts: tuple[int, int]
) -> Entry:
    """The entry of a report that was found to be sound.

    Args:
        folder: that it lies in.
    """
    files = (SAMPLES, DYNAMICS, *(f"{name}.parquet" for name in report.diagnostics))
    here = [file for file in files if listed(report, file) and (folder / file).is_file()]
    return Entry(
        path,
        sha256,
        _slim(report),
        cell_of(report),
        setup(report),
        sys.intern(canonical(recipe_of(report))),
        tuple(sys.intern(digest(at(report.identity.parts, *keys))[:SHORT]) for _, *keys in APART),
        trial_of(report),
        json.dumps(series(report, registry)),
        artifacts,
        SAMPLES in here,
        len(here),
        _place(report, path),
        _checked(report, registry, answers=SAMPLES in here),
        traces(report, folder),
    )


def cell_of(report: Report) -> Cell:
    """The cell of a report whose identity is its own."""
    return Cell(
        report.task.label,
        report.task.content_hash,
        recipe_hash(recipe_of(report)),
        called(report),
        float(report.data.noise_rate),
        astuple(report.seeds)[:-1],  # the last is that of resampling
    )


def trial_of(report: Report) -> Trial | None:
    """What a report says of itself as a trial; None where it was not trained here from its first weights."""
    recipe = recipe_of(report)
    if recipe["training"] is None or recipe["snapshots"]:
        return None
    under = digest({key: recipe[key] for key in ("dtype", "versions")})
    told = (_told(learned, report), _told(climb, report), _told(known_at_settle, report))
    return Trial(key_of_report(report), sys.intern(under), *told)


Told = TypeVar("Told")


def _told(tell: Callable[[Report], Told], report: Report) -> Told | None:
    try:
        return tell(report)
    except (UserError, TypeError):  # of a curve that is none, or lacks what is asked of it
        return None


def called(report: Report) -> str:
    """The model's name on the board, which hangs on nothing but the report itself.

    A type and a size alone mean random weights, and any other name alone a plugin's; weights, tokenizers and code from
    elsewhere come with a part of their hash.
    """
    name = canonical_name(report.model.name)
    own = {key: getattr(report.model, key) for key in OF_WEIGHTS}
    expected = "scratch" if is_sized(name) else "plugin"
    if own == {**dict.fromkeys(OF_WEIGHTS), "source": expected}:
        return name
    return f"{name} [{digest(own)[:SHORT]}]"


def _place(report: Report, path: str) -> int:
    """How far from the folder of its cell, as runs lay them out, a report lies below the common root."""
    task, model = folder_name(report.task.label), folder_name(report.model.name)
    own = f"{task}/{model}/noise-{report.data.noise_rate:g}/seed-{report.seeds.label}/report.json"
    return 0 if path == own else 1 if path.endswith(f"/{own}") else 2


def _checked(report: Report, registry: Registry, *, answers: bool) -> Checked:
    known = {name for name, metric in report.metrics.items() if metric.value is not None}
    recomputed = {name for name in ANSWERED if answers} & known
    follows = {metric for name in report.diagnostics for metric in implied(report, name, registry)}
    consistent = (follows & known) - recomputed
    return Checked(len(recomputed), len(consistent), len(known) - len(recomputed) - len(consistent))


def _slim(report: Report) -> Report:
    task, spec = report.task, report.task.spec
    # texts that thousands of reports share are kept once
    metrics = {
        sys.intern(name): replace(m, split=sys.intern(m.split), ci_method=m.ci_method and sys.intern(m.ci_method))
        for name, m in report.metrics.items()
    }
    diagnostics = {
        name: replace(entry, metrics=tuple(map(sys.intern, entry.metrics)), details={})
        for name, entry in report.diagnostics.items()
    }
    return replace(
        report,
        identity=replace(report.identity, parts={}, code={}),
        task=replace(task, spec={key: spec.get(key) for key in ("name", "profile")}),
        model=replace(report.model, config={}, anatomy={}),
        metrics=metrics,
        findings=decide(report),  # equal to its own, or it would not be sound
        diagnostics=diagnostics,
        artifacts=(),
        warnings=(),
    )
