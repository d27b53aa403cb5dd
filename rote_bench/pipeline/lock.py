"""One process at a time in a cell's folder."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import UserError
from ..writing import sweep_out

FILE = ".lock"  # the system's lock is on it, and it says who holds that; a killed process leaves it, unlocked
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
                f"another process is running this cell{_holder(place)}",
                where=str(folder),
                hint="wait for it, or choose another -o",
            )
        time.sleep(min(0.2, patience))
    _held[place] = me
    try:
        _sign(handle)
        sweep_out(place)
        yield
    finally:
        del _held[place]
        with contextlib.suppress(OSError):  # a folder that somebody removed, or a disk that is gone
            (place / FILE).unlink()
        os.close(handle)


def _take(folder: Path) -> int | None:
    """What holds the folder until it is closed, or this process ends; None when another has it."""
    file = folder / FILE
    try:
        import fcntl
    except ImportError:  # not a POSIX system
        ends = getattr(os, "O_TEMPORARY", 0)  # Windows then removes the file with the process
        try:
            return os.open(file, os.O_CREAT | os.O_EXCL | os.O_RDWR | ends)
        except FileExistsError:
            return None
    handle = os.open(file, os.O_CREAT | os.O_RDWR | getattr(os, "O_CLOEXEC", 0), 0o666)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        free = os.path.samestat(os.fstat(handle), os.stat(file))  # else its holder has just removed it
    except BlockingIOError:
        free = False
    except FileNotFoundError:
        free = False
    except OSError:  # a file system without locks: who has signed the file holds it, while that process lives
        free = not _lives(_signed(folder))
    if free:
        return handle
    os.close(handle)
    return None


def _sign(handle: int) -> None:
    """Write into the file of a lock who holds it, for those that find it taken."""
    signed = f"{os.getpid()} {socket.gethostname()} {time.strftime('%Y-%m-%d %H:%M:%S')}\n".encode()
    with contextlib.suppress(OSError):  # a full disk; the lock holds all the same
        os.ftruncate(handle, 0)
        os.pwrite(handle, signed, 0) if hasattr(os, "pwrite") else os.write(handle, signed)


def _signed(folder: Path) -> tuple[int, str, str] | None:
    """Process, machine and time of whoever holds a folder; None where its file does not say."""
    try:
        pid, host, when = (folder / FILE).read_text(encoding="utf-8").strip().split(maxsplit=2)
        return int(pid), host, when
    except (OSError, ValueError):
        return None


def _lives(signed: tuple[int, str, str] | None) -> bool:
    """Whether the process that signed may still run: one of another machine may."""
    if signed is None or signed[0] == os.getpid():
        return False
    if signed[1] != socket.gethostname():
        return True
    try:
        os.kill(signed[0], 0)
    except ProcessLookupError:
        return False
    except OSError:  # it is somebody else's
        pass
    return True


def _holder(folder: Path) -> str:
    signed = _signed(folder)
    if signed is None:
        return ""
    pid, host, when = signed
    here = host == socket.gethostname()
    return f": process {pid}{'' if here else f' on {host}'}, since {when}"
