"""One process at a time in a cell's folder."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import UserError
from ..writing import sweep_out

FILE = ".lock"  # where the system knows no locks of its own
_held: dict[Path, int] = {}  # folder -> the thread that holds it


@contextmanager
def alone(folder: Path, patience: float = 0.0) -> Iterator[None]:
    """Hold a cell's folder, so that no two processes write to it; who holds it already may hold it again.

    What a process that was killed while it wrote left there is removed.

    Args:
        folder: made where it is missing.
        patience: seconds to wait for another process to let go.

    Raises:
        UserError: when it does not.
    """
    folder.mkdir(parents=True, exist_ok=True)
    place, me = folder.resolve(), threading.get_ident()
    if _held.get(place) == me:
        yield
        return
    until = time.monotonic() + patience
    while (handle := _take(place)) is None:
        if time.monotonic() >= until:
            raise UserError(
                "another process is running this cell", where=str(folder), hint="wait for it, or choose another -o"
            )
        time.sleep(min(0.2, patience))
    _held[place] = me
    try:
        sweep_out(place)
        yield
    finally:
        del _held[place]
        with contextlib.suppress(FileNotFoundError):
            (place / FILE).unlink()
        os.close(handle)


def _take(folder: Path) -> int | None:
    """What holds the folder until it is closed, or this process ends; None when another has it."""
    try:
        import fcntl
    except ImportError:  # not a POSIX system
        ends = getattr(os, "O_TEMPORARY", 0)  # Windows then removes the file with the process
        try:
            return os.open(folder / FILE, os.O_CREAT | os.O_EXCL | os.O_RDWR | ends)
        except FileExistsError:
            return None
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    except OSError:  # a file system without locks: nothing can be held there
        pass
    return handle
