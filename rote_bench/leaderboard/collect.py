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
from ..errors import UserError
from ..plugins import Registry
from ..report.record import Report
from ..report.write import find_reports
from .entry import Entry, make
from .verify import Refused, check_names, read, verify

CHUNK = 64  # reports that a process takes at a time
WORTH_PROCESSES = 200


@dataclass(frozen=True)
class Refusal:
    """A report that is left out.

    Attributes:
        path: relative to the common root.
        reason: one line.
        cell: task, model and noise rate of a run that failed, which its row counts; None for every other.
    """

    path: str
    reason: str
    cell: tuple[str, str, float] | None = None


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
    """A report's entry, or why it is left out."""
    file = root / path
    shown = path if path.isprintable() else ascii(path)[1:-1]
    try:
        if not file.resolve().is_relative_to(root.resolve()):
            raise Refused("is a link that leaves the folder")
        report, content = read(file)
    except Refused as error:
        return Refusal(shown, str(error))
    try:
        artifacts = verify(report, file.parent, registry)
    except Refused as error:
        return Refusal(shown, str(error), _cell(report) if report.status != "success" else None)
    return make(report, registry, path=shown, sha256=content, artifacts=artifacts)


def _cell(report: Report) -> tuple[str, str, float] | None:
    """The row that a failed run would have belonged to; None when it names none that a board could show."""
    try:
        check_names(report)
    except Refused:
        return None
    return report.task.label, report.model.name, float(report.data.noise_rate)
