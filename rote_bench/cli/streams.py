"""Standard output is for results alone, and what becomes of either stream never decides what becomes of a run."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast

from .. import terminal
from ..progress import put

_results: TextIO | None = None  # while standard output is set apart


def say(text: str) -> None:
    """A result, on standard output."""
    stream = _results or sys.stdout
    if stream is None:
        return
    text = text if text.endswith("\n") else f"{text}\n"
    try:
        stream.write(text)
    except UnicodeEncodeError:
        encoding = stream.encoding or "ascii"
        stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
    except BrokenPipeError:  # the reader has enough, as `| head` does
        _close(stream)


def dump(value: Any) -> None:
    """A result as JSON, in characters that the stream has and no terminal obeys."""
    stream = _results or sys.stdout
    text = json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False)
    text = "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)
    try:
        text.encode(getattr(stream, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(value, indent=1, allow_nan=False)
    say(text)


def complain(text: str) -> None:
    """A line on standard error."""
    put(f"{text}\n")


def colored() -> bool:
    """Whether results go to a terminal that shows colours."""
    stream = _results or sys.stdout
    try:
        plain = os.environ.get("TERM", "dumb") in ("dumb", "") or bool(os.environ.get("NO_COLOR"))
        return stream is not None and stream.isatty() and not plain
    except ValueError:  # it is closed
        return False


def flush() -> None:
    """Let results arrive.

    Raises:
        OSError: when they cannot, but for a reader that went away.
    """
    stream = _results or sys.stdout
    if stream is None:
        return
    try:
        stream.flush()
    except BrokenPipeError:
        _close(stream)
    except OSError:
        _close(stream)
        raise


def _close(stream: TextIO) -> None:
    """What is still to come goes nowhere, also what the interpreter writes at its end."""
    with contextlib.suppress(OSError, ValueError, io.UnsupportedOperation):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


@contextmanager
def apart() -> Iterator[None]:
    """What plugins, their children and libraries print meanwhile goes to standard error; results do not."""
    global _results
    before = sys.stdout
    if _results is not None or before is None:
        yield
        return
    own = _own(before)
    _results = terminal.results = own or before
    sys.stdout = sys.stderr if sys.stderr is not None else cast(TextIO, open(os.devnull, "w"))  # noqa: SIM115
    try:
        yield
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
        sys.stdout, _results, terminal.results = before, None, None
        if own is not None:
            with contextlib.suppress(OSError, ValueError):
                own.flush()
            with contextlib.suppress(OSError):
                os.dup2(own.fileno(), 1)
            with contextlib.suppress(OSError, ValueError):
                own.close()


def _own(stream: TextIO) -> TextIO | None:
    """A stream to where the process's standard output goes, whose place standard error has then; None without one."""
    try:
        if stream is not sys.__stdout__ or stream.fileno() != 1:
            return None
        stream.flush()
        own = _away(1)
    except (OSError, ValueError):
        return None
    try:
        os.dup2(2, 1)
    except OSError:  # there is no standard error
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, 1)
        os.close(nothing)
    return open(own, "w", encoding=stream.encoding, errors="backslashreplace")


def _away(handle: int) -> int:
    """Another handle of the same file, whose number is none that a standard stream has, even where one is closed."""
    try:
        from fcntl import F_DUPFD_CLOEXEC, fcntl
    except ImportError:  # not a POSIX system
        return os.dup(handle)
    return int(fcntl(handle, F_DUPFD_CLOEXEC, 3))


class _Lasting:
    """Standard error, to which can be written whether or not anybody reads it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except (OSError, ValueError):
            return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def lasting() -> Iterator[None]:
    """Libraries, too, write to standard error: progress bars and warnings. A reader that went away harms none."""
    before = sys.stderr
    stream = before if before is not None else open(os.devnull, "w")  # noqa: SIM115
    sys.stderr = cast(TextIO, _Lasting(stream))
    try:
        yield
    finally:
        sys.stderr.flush()
        sys.stderr = before
        if before is None:
            stream.close()
        else:
            try:
                before.flush()
            except (OSError, ValueError):
                _close(before)
