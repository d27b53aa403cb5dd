"""Finding reports, and taking from each what the board needs: thousands of them, in little memory."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from .. import plugins
from ..comparison.trials import diverged
from ..errors import UserError
from ..plugins import Registry
from ..report import escape
from ..report.conditions import at
from ..report.record import Report
from ..report.write import find_reports
from .entry import Cell, Entry, Trial, cell_of, make, trial_of
from .implied import listed
from .traces import DYNAMICS
from .untrusted import Unreadable, lines
from .verify import Refused, check_identity, check_names, read, verify

# Of a report, before anything of it is read into memory: far beyond what a run writes.
LARGEST, MOST_PARTS = 12 * 2**20, 1_000_000  # bytes, and objects and lists
CHUNK = 64  # reports that a process takes at a time
WORTH_PROCESSES = 200


@dataclass(frozen=True)
class Diverged:
    """A training whose loss was no longer finite.

    Attributes:
        path: relative to the common root.
        sha256: of its report.
        identity: hash of it.
    """

    path: str
    sha256: str
    identity: str
    trial: Trial


@dataclass(frozen=True)
class Refusal:
    """A report that is left out.

    Attributes:
        path: relative to the common root.
        reason: one line.
        cell: of a run that failed and whose identity is its own, which its row may count; None for every other.
        diverged: of such a run whose loss was no longer finite, which is what a trial may come to.
    """

    path: str
    reason: str
    cell: Cell | None = None
    diverged: Diverged | None = None


@dataclass(frozen=True)
class Collection:
    """What was found under the given places."""

    entries: list[Entry]
    refusals: list[Refusal]


def find(places: Sequence[str | Path]) -> tuple[Path, list[str]]:
    """All reports under folders and files.

    Returns:
        The common root of the given places, and the reports' paths relative to it, sorted.

    Raises:
        UserError: when a place is missing, or holds no report.
    """
    if not places:
        raise UserError("names no reports", where="REPORTS", hint="give report.json files or folders that hold some")
    found: set[Path] = set()
    folders = []
    for place in map(Path, places):
        absolute = Path(os.path.abspath(place))
        if absolute.is_file():
            folders.append(absolute.parent)
            found.add(absolute)
        elif absolute.is_dir():
            folders.append(absolute)
            inside = find_reports(absolute)
            if not inside:
                raise UserError("holds no reports", where=str(place), hint="`rote-bench run` makes some")
            found.update(inside)
        else:
            raise UserError("no such file or folder", where=str(place))
    root = Path(os.path.commonpath(folders))
    return root, sorted(path.relative_to(root).as_posix() for path in found)


def collect(
    root: Path, paths: Sequence[str], registry: Registry, *, files: Sequence[str | Path] = (), workers: int = 1
) -> Collection:
    """Read and check reports; several processes share the work when there is enough of it.

    Args:
        files: the single plugin files of the registry, from which other processes make theirs.
    """
    entries: list[Entry] = []
    refusals: list[Refusal] = []
    for found in _spread(root, paths, registry, files, workers):
        if isinstance(found, Entry):
            entries.append(found)
        else:
            refusals.append(found)
    return Collection(entries, refusals)


def _spread(
    root: Path, paths: Sequence[str], registry: Registry, files: Sequence[str | Path], workers: int
) -> Iterator[Entry | Refusal]:
    if workers < 2 or len(paths) < WORTH_PROCESSES:
        yield from (admit(root, path, registry) for path in paths)
        return
    chunks = [paths[start : start + CHUNK] for start in range(0, len(paths), CHUNK)]
    given = tuple(map(os.path.abspath, files))
    # Started afresh, as a fork of a process with threads, such as torch's, may hang.
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        for part in pool.map(_admit_all, [root] * len(chunks), chunks, [given] * len(chunks)):
            yield from part


@lru_cache(maxsize=1)
def _registry(files: tuple[str, ...]) -> Registry:
    return plugins.load(files, warn=lambda text: None)  # the first process has warned already


def _admit_all(root: Path, paths: Iterable[str], files: tuple[str, ...]) -> list[Entry | Refusal]:
    return [admit(root, path, _registry(files)) for path in paths]


def admit(root: Path, path: str, registry: Registry) -> Entry | Refusal:
    """A report's entry, or why it is left out; whatever stands in it, it harms no other."""
    shown = escape.plain(path)
    try:
        return _admitted(root, path, registry)
    except Refused as error:
        return Refusal(shown, escape.plain(str(error)))
    except _Ended as error:
        return Refusal(shown, escape.plain(str(error)), *error.known)
    except Exception as error:  # of a file that a stranger wrote anything can be expected
        said = escape.plain(" ".join(f"{type(error).__name__}: {error}".split()))
        return Refusal(shown, f"cannot be checked ({said[:200]})")


class _Ended(Exception):
    """A run that did not come to its end."""

    def __init__(self, reason: str, cell: Cell | None, of_trial: Diverged | None) -> None:
        super().__init__(reason)
        self.known = cell, of_trial


def _admitted(root: Path, path: str, registry: Registry) -> Entry:
    file = root / path
    if not file.resolve().is_relative_to(root.resolve()):
        raise Refused("is a link that leaves the folder")
    _check_size(file)
    report, content = read(file)
    try:
        artifacts = verify(report, file.parent, registry)
    except Refused as error:
        if report.status == "success":
            raise
        cell, shown = _cell(report), escape.plain(path)
        trial = trial_of(report) if cell is not None and diverged(report) else None
        of_trial = None if trial is None else Diverged(shown, content, report.identity.hash, trial)
        raise _Ended(str(error), cell, of_trial) from None
    _check_curve(report, file.parent)
    return make(report, registry, file.parent, path=escape.plain(path), sha256=content, artifacts=artifacts)


def _check_curve(report: Report, folder: Path) -> None:
    """The learning curve in the details is that of ``dynamics.jsonl``, where it is there: recipes are chosen by it."""
    if not listed(report, DYNAMICS) or not (folder / DYNAMICS).is_file():
        return
    try:
        kept = lines(folder / DYNAMICS)
    except Unreadable as error:
        raise Refused(f"{DYNAMICS} {error}") from None
    for name, entry in report.diagnostics.items():
        if at(entry.details, "curve") not in (None, kept):
            raise Refused(f"{DYNAMICS} is not the curve in the details of {name[:80]!a}")


def _check_size(file: Path) -> None:
    if file.exists() and not file.is_file():  # what is no file may never end
        raise Refused("is no file")
    try:
        size = file.stat().st_size
        content = file.read_bytes() if size <= LARGEST else b""
    except OSError as error:
        raise Refused(f"cannot be read: {error.strerror}") from None
    if size > LARGEST:
        raise Refused(f"is larger than {LARGEST >> 20} MiB")
    if content.count(b"{") + content.count(b"[") > MOST_PARTS:
        raise Refused(f"holds more than {MOST_PARTS} objects and lists")


def _cell(report: Report) -> Cell | None:
    """What a run that failed was a run of; None when its identity is not its own."""
    try:
        check_names(report)
        check_identity(report)
    except Refused:
        return None
    return cell_of(report)
