"""Code of plugins runs inside this process: whatever it does, it does not take the process with it."""

from __future__ import annotations

import contextlib
import os
import select
import sysconfig
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from .errors import clipped

leave = os._exit  # the system's own, also while a plugin's is another one
COPY = b"x"  # what a copy of this process says when it comes back
OURS = os.path.dirname(os.path.abspath(__file__))
PATIENCE = 5.0  # seconds that a forked process has to end, or to come back

_forks = 0  # of this process so far
in_child = False  # this process was forked to do a piece of work, and its parent sees how it ends


def _forked() -> None:
    global _forks
    _forks += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_parent=_forked)


class ProcessLeft(Exception):
    """A plugin's code asked to leave the process, or came back as a copy of it; the text says how."""


def reason_of(error: BaseException, most: int | None = None) -> str:
    """What went wrong, in one line, and the file and line where a plugin's or a user's own code did.

    Args:
        most: letters of the text; None keeps all.
    """
    said = " ".join((str(error) if isinstance(error, ProcessLeft) else f"{type(error).__name__}: {error}").split())
    said = said.rstrip(": ") if most is None else clipped(said.rstrip(": "), most)
    cause = error.__cause__ if isinstance(error, ProcessLeft) else None
    at = _place(cause or error)
    return f"{said} ({at})" if at else said


def _place(error: BaseException) -> str | None:
    """The innermost place that is neither the harness's, nor Python's, nor an installed library's."""
    others = (OURS, *(sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib", "purelib", "platlib")))
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        file = os.path.abspath(frame.filename)
        if not frame.filename.startswith("<") and not any(file.startswith(f"{each}{os.sep}") for each in others):
            return f"{os.path.basename(file)}:{frame.lineno}"
    return None


@contextmanager
def contained() -> Iterator[None]:
    """Run a plugin's code, after which this is the same process in the same folder.

    Raises:
        ProcessLeft: in the place of SystemExit and whatever else is no Exception, of ``os._exit``, and where the code
            forked the process and both came back.
        KeyboardInterrupt: as it is.
    """
    me, folder, before = (os.getpid(), threading.get_ident()), _folder(), _forks
    real = os._exit

    def left(code: int) -> NoReturn:
        if (os.getpid(), threading.get_ident()) == me:
            raise ProcessLeft(f"os._exit({code})")
        real(code)

    with _pipe() as (heard, said):
        if not in_child:
            os._exit = left  # type: ignore[assignment]
        try:
            yield
        except KeyboardInterrupt:
            raise
        except Exception:
            raise
        except BaseException as error:
            raise ProcessLeft(" ".join(f"{type(error).__name__}: {error}".split()).rstrip(": ")) from error
        finally:
            os._exit = real
            if os.getpid() != me[0]:
                with contextlib.suppress(OSError):
                    os.write(said, COPY)
                leave(0)
            if folder is not None and _folder() != folder:
                with contextlib.suppress(OSError):
                    os.chdir(folder)
        if _forks != before and _came_back(heard, said):
            raise ProcessLeft("os.fork(): it came back as two processes")


@contextmanager
def _pipe() -> Iterator[tuple[int, int]]:
    ends = list(os.pipe())
    try:
        yield ends[0], ends[1]
    finally:
        for end in ends:
            with contextlib.suppress(OSError):
                os.close(end)


def _came_back(heard: int, said: int) -> bool:
    """Whether a copy of this process ran on to where this one is; those that end by themselves are nobody's concern."""
    with open(os.devnull, "wb") as nothing:
        os.dup2(nothing.fileno(), said)  # closed here, so that its end is heard once all copies are gone
    ready, _, _ = select.select([heard], [], [], PATIENCE)
    return bool(ready) and os.read(heard, 1) == COPY


def _folder() -> str | None:
    try:
        return os.getcwd()
    except OSError:  # it was removed
        return None
