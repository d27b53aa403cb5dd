"""Files that are written whole or not at all, and what a write that was cut short leaves behind."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

ENDING = ".partial"
# What only a write that was cut short leaves: the names of today, and those that earlier versions gave.
REMAINS = re.compile(
    r"\..*\.partial|training-state\.partial|\.progress\.json|\.rediagnosis"
    r"|\.(report\.json|report\.html|dynamics\.jsonl|README\.md|[^/]*\.parquet)\.[A-Za-z0-9_]{4,16}"
)
FIGURE = re.compile(r"\..*\.png")


@contextmanager
def whole(path: Path) -> Iterator[IO[bytes]]:
    """A binary file that takes the place of ``path`` at the end, and only if nothing goes wrong on the way.

    Whoever reads it sees the old content or the new, never a part, also after a loss of power. Its rights are those
    that the process gives new files. Missing folders are made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}{ENDING}")
    handle = os.open(partial, os.O_CREAT | os.O_EXCL | os.O_RDWR | getattr(os, "O_BINARY", 0), 0o666)
    try:
        with os.fdopen(handle, "w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(partial)
        raise


def sweep_out(folder: Path) -> list[Path]:
    """Remove what writes that were cut short left in a cell's folder; only who holds the folder may do this.

    Returns:
        What was removed.
    """
    found: list[Any] = []
    for place in (folder, folder / "figures", folder / "checkpoints", *_below(folder / "checkpoints")):
        for entry in _below(place):
            named = REMAINS.fullmatch(entry.name) or (place.name == "figures" and FIGURE.fullmatch(entry.name))
            if not named or entry.is_symlink():
                continue
            if entry.is_dir():
                shutil.rmtree(entry, ignore_errors=True)
            else:
                entry.unlink(missing_ok=True)
            found.append(entry)
    return found


def _below(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:  # there is none
        return []
