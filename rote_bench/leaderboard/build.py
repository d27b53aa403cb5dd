"""From folders of reports to the files of a leaderboard."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UserError
from ..machine import check_writable
from ..report.write import write_text
from . import tables
from .assemble import assemble, group, select
from .collect import collect, find
from .export import file_name, record

if TYPE_CHECKING:
    from ..plugins import Registry
    from .assemble import Known
    from .collect import Collection

FILES = ("leaderboard.json", "leaderboard.md", "leaderboard.tex", "index.html")
EXPORTS = ("every-eval-ever",)
EXPORT_FOLDER = "every_eval_ever"
DEPTH = 4  # levels of the JSON that are broken into lines: below them stands a row


@lru_cache(maxsize=1)
def schema() -> dict[str, Any]:
    """The JSON schema of ``leaderboard.json``."""
    loaded: dict[str, Any] = json.loads((Path(__file__).parent / "leaderboard.schema.json").read_text(encoding="utf-8"))
    return loaded


def known_tasks(registry: Registry) -> dict[str, tuple[int, str]]:
    """Label of every shipped task and of its profiles -> version and content hash."""
    from ..spec.loader import load_task, shipped
    from ..spec.source import read

    out = {}
    for name, file in shipped().items():
        for profile in (None, *sorted(read(file).data.get("profiles") or {})):
            spec = load_task(file, registry, profile=profile)
            out[f"{name}-{profile}" if profile else name] = (spec.version, spec.content_hash())
    return out


def build(
    places: Sequence[str | Path],
    output: Path,
    *,
    registry: Registry,
    export: str | None = None,
    workers: int = 1,
    say: Callable[[str], None] = lambda text: None,
    warn: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Check reports, rank models, and write ``leaderboard.json``, ``.md``, ``.tex`` and ``index.html``.

    Args:
        places: ``report.json`` files, and folders that hold some.
        export: ``every-eval-ever`` also writes one record for each counted report.
        workers: processes that read reports.
        warn: is told of every report that is left out.

    Returns:
        The content of ``leaderboard.json``.

    Raises:
        UserError: when there is no report, or the output cannot be written.
    """
    if export is not None and export not in EXPORTS:
        raise UserError(f"cannot export {export!r}", where="--export", hint=f"known: {', '.join(EXPORTS)}")
    check_writable(output)
    root, paths = find(places)
    say(f"{len(paths)} reports under {root}")
    collection = collect(root, paths, workers=workers)
    known = known_tasks(registry)
    board = assemble(collection, known)
    for one in board["refused"]:
        warn(f"left out: {one['path']}: {one['reason']}")
    check(board)
    try:
        write(board, output)
        if export is not None:
            for path, content in records(collection, known, board["rote_bench"]):
                write_text(output / EXPORT_FOLDER / path, content)
    except OSError as error:
        raise UserError(f"cannot be written: {error.strerror}", where=str(output)) from None
    return board


def check(board: Mapping[str, Any]) -> None:
    """Make sure that the board fits its schema.

    Raises:
        ValueError: when it does not, which is a fault of this program.
    """
    import fastjsonschema

    try:
        _compiled()(board)
    except fastjsonschema.JsonSchemaValueException as error:
        raise ValueError(f"the leaderboard does not fit its schema: {error}") from None


@lru_cache(maxsize=1)
def _compiled() -> Any:
    import fastjsonschema

    return fastjsonschema.compile({k: v for k, v in schema().items() if k != "$id"}, use_default=False)


def write(board: Mapping[str, Any], output: Path) -> None:
    """All files of the board, each in one step."""
    from .page import render

    contents = (lines(board) + "\n", tables.markdown(board), tables.latex(board), render(board))
    for name, content in zip(FILES, contents, strict=True):
        write_text(output / name, content)


def lines(value: Any, depth: int = DEPTH) -> str:
    """JSON with sorted keys, one row of the board on each line."""
    if depth and isinstance(value, Mapping) and value:
        inside = ",\n".join(f"{json.dumps(key)}: {lines(value[key], depth - 1)}" for key in sorted(value))
        return f"{{\n{inside}\n}}"
    if depth and isinstance(value, list) and value and not isinstance(value[0], int | float | str):
        return "[\n" + ",\n".join(lines(item, depth - 1) for item in value) + "\n]"
    return json.dumps(value, sort_keys=True, allow_nan=False, ensure_ascii=False)


def records(collection: Collection, known: Known, version: str) -> Iterator[tuple[str, str]]:
    """Path and content of the interchange record of every counted report."""
    counted, _ = select(sorted(collection.entries, key=lambda e: e.path), known)
    for one in group(counted, known):
        for entry in one.entries:
            yield file_name(entry), json.dumps(record(entry, version), indent=1, sort_keys=True, allow_nan=False) + "\n"


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
