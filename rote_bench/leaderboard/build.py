"""From folders of reports to the files of a leaderboard."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UserError
from ..findings import ACROSS
from ..machine import check_writable
from ..measures import Measure
from ..report.write import write_text, write_texts
from . import tables
from .assemble import assemble
from .collect import collect, find
from .export import file_name, record
from .published import accept
from .schema import check
from .select import select
from .shipped import known_tasks

if TYPE_CHECKING:
    from ..comparison.rules import Comparison
    from ..plugins import Registry
    from .assemble import Measures
    from .collect import Collection
    from .page.asked import Asked
    from .published import Accepted
    from .shipped import Known

FILES = ("leaderboard.json", "leaderboard.md", "leaderboard.tex", "index.html")
EXPORTS = ("every-eval-ever",)
EXPORT_FOLDER = "every_eval_ever"
DEPTH = 4  # levels of the JSON that are broken into lines: below them stands a row


def known_measures(registry: Registry) -> dict[str, Measure]:
    """Every metric that is declared, those of several cells among them."""
    return registry.measures() | {measure.name: measure for measure in ACROSS}


def build(
    places: Sequence[str | Path],
    output: Path,
    *,
    registry: Registry,
    plugins: Sequence[str | Path] = (),
    comparisons: Sequence[Comparison] = (),
    export: str | None = None,
    workers: int = 1,
    say: Callable[[str], None] = lambda text: None,
    warn: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Check reports, rank models, and write ``leaderboard.json``, ``.md``, ``.tex`` and ``index.html``.

    Args:
        places: ``report.json`` files, and folders that hold some.
        comparisons: planned anew from the files of published ones; each becomes one table across recipes.
        plugins: the single files among the plugins of the registry, which other processes load too.
        export: ``every-eval-ever`` also writes one record for each counted report.
        workers: processes that read reports.
        warn: is told of every report that is left out.

    Where two reports contradict each other and bring as much evidence, the one counts that stood on the board that the
    output holds already.

    Returns:
        The content of ``leaderboard.json``.

    Raises:
        UserError: when there is no report, a comparison is not what its rules make of the reports, or the output cannot
            be written.
    """
    from .page.asked import asked

    if export is not None and export not in EXPORTS:
        raise UserError(f"cannot export {export!r}", where="--export", hint=f"known: {', '.join(EXPORTS)}")
    check_writable(output)
    root, paths = find(places)
    say(f"{len(paths)} reports under {root}")
    collection = collect(root, paths, registry, files=plugins, workers=workers)
    known, measures = known_tasks(registry), known_measures(registry)
    published = stood(output / FILES[0])
    accepted = _accepted(comparisons, collection, known, root, published)
    board = assemble(collection, known, measures, published, accepted)
    for one in board["refused"]:
        warn(f"left out: {one['path']}: {one['reason']}")
    check(board)
    examples, here = asked(board["tasks"], registry), Path(os.path.abspath(output))
    below = root.relative_to(here).as_posix() if root.is_relative_to(here) else None
    try:
        write(board, output, examples, below)
        if export is not None:
            aside = {each.source.path for one in accepted for each in one.tried}
            for path, content in records(collection, known, measures, board["rote_bench"], published, aside):
                write_text(output / EXPORT_FOLDER / path, content)
    except OSError as error:
        raise UserError(f"cannot be written: {error.strerror}", where=str(output)) from None
    return board


def _accepted(
    comparisons: Sequence[Comparison], collection: Collection, known: Known, root: Path, published: frozenset[str]
) -> list[Accepted]:
    """Every task of every comparison."""
    named = [each.name for each in comparisons]
    twice = next((name for name in named if named.count(name) > 1), None)
    if twice is not None:
        raise UserError(f"two comparisons are called {twice}", where="--comparison", hint="give each file once")
    counted = select(collection.entries, known, published).counted if comparisons else []
    ordered = sorted(comparisons, key=lambda each: each.name)
    return [one for each in ordered for one in accept(each, counted, collection.refusals, root, published)]


def stood(file: Path) -> frozenset[str]:
    """Hashes of the reports that count on a board, trials among them; none where there is no board that can be read."""
    try:
        board = json.loads(file.read_text(encoding="utf-8"))
        counted = [report for task in board["tasks"] for row in task["rows"] for report in row["reports"]]
        for task in board["tasks"]:
            counted += ((task.get("comparison") or {}).get("tuning") or {}).get("trials", ())
        return frozenset(str(report["sha256"]) for report in counted)
    except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return frozenset()


def write(
    board: Mapping[str, Any], output: Path, examples: Mapping[str, Asked] | None = None, reports: str | None = None
) -> None:
    """All files of the board, each in one step, once all are known to fit on the disk.

    Args:
        examples: label of a task -> a question of it.
        reports: path from the output to the common root of the reports, where they lie below it.
    """
    from .page import render

    page = render(board, examples, reports)
    contents = (lines(board) + "\n", tables.markdown(board), tables.latex(board), page)
    write_texts({output / name: content for name, content in zip(FILES, contents, strict=True)})


def lines(value: Any, depth: int = DEPTH) -> str:
    """JSON with sorted keys, one row of the board on each line."""
    if depth and isinstance(value, Mapping) and value:
        inside = ",\n".join(f"{json.dumps(key)}: {lines(value[key], depth - 1)}" for key in sorted(value))
        return f"{{\n{inside}\n}}"
    if depth and isinstance(value, list) and value and not isinstance(value[0], int | float | str):
        return "[\n" + ",\n".join(lines(item, depth - 1) for item in value) + "\n]"
    return json.dumps(value, sort_keys=True, allow_nan=False, ensure_ascii=False)


def records(
    collection: Collection,
    known: Known,
    measures: Measures,
    version: str,
    published: frozenset[str],
    aside: Set[str] = frozenset(),
) -> Iterator[tuple[str, str]]:
    """Path and content of the interchange record of every counted report that does not lie aside, as trials do."""
    counted = select(collection.entries, known, published).counted
    for entry in (each for each in counted if each.path not in aside):
        made = record(entry, measures, version)
        yield file_name(entry), json.dumps(made, indent=1, sort_keys=True, allow_nan=False) + "\n"


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
