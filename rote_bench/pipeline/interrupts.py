"""A request to stop, by the interrupt or termination of a process, that is heeded where stopping loses nothing.

The first SIGINT or SIGTERM stops at the next safe point: training saves its state, everything else stops where it is,
as files are written whole or not at all. The second, of either kind, ends the process at once.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..strangers import leave

SIGNALS = (signal.SIGINT, signal.SIGTERM)
AT_ONCE = b"\nrote-bench: stopped at once; what was kept before is there, and the same command goes on from it\n"
_heard: list[int] = []  # signals that this process, where it is rote-bench's own, has got
_listening = False


@contextmanager
def listening() -> Iterator[list[int]]:
    """Heed signals for the time of a command, in a process that is rote-bench's own.

    Yields:
        The signals that came, the first one first.
    """
    global _listening
    if _listening or threading.current_thread() is not threading.main_thread():
        yield []
        return

    def stop(number: int, frame: Any) -> None:
        note(number)
        if len(_heard) > 1:
            with contextlib.suppress(OSError):
                os.write(2, AT_ONCE)
            leave(128 + number)
        raise KeyboardInterrupt

    _heard.clear()
    before = {number: signal.getsignal(number) for number in SIGNALS}
    heeded = {number: handler for number, handler in before.items() if handler not in (signal.SIG_IGN, None)}
    for number in heeded:
        signal.signal(number, stop)
    _listening = True
    try:
        yield _heard
    finally:
        _listening = False
        _heard.clear()
        for number, handler in heeded.items():
            signal.signal(number, handler)


def note(number: int) -> None:
    """A signal came; where the process is rote-bench's own, that counts until its end."""
    if _listening:
        _heard.append(number)


def heard() -> bool:
    """Whether a signal that counts has come before."""
    return bool(_heard)


def own() -> None:
    """This process is rote-bench's own, and has its own way to heed signals."""
    global _listening
    _listening = True


def heed() -> None:
    """Stop here where that was asked for and something swallowed the interrupt, as a plugin's bare ``except`` does.

    Raises:
        KeyboardInterrupt: then.
    """
    if _heard:
        raise KeyboardInterrupt


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Turn the first SIGINT or SIGTERM into a request to stop; the second, of either kind, stops at once.

    A signal that was ignored stays ignored, and whatever heeded the signals before does so again afterwards, from the
    first one on.

    Yields:
        Whether a stop was requested; always false outside the main thread, which alone gets signals.
    """
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    heeded = {number: handler for number, handler in before.items() if handler not in (signal.SIG_IGN, None)}

    def restore() -> None:
        for number, handler in heeded.items():
            signal.signal(number, handler)

    def ask(number: int, frame: Any) -> None:
        asked.set()
        note(number)
        restore()

    for number in heeded:
        signal.signal(number, ask)
    try:
        yield asked.is_set
    finally:
        restore()
    if asked.is_set():  # after the last look at it
        raise KeyboardInterrupt


def kept(folder: Path, state: str) -> str:
    """What an interrupted cell leaves, in words.

    Args:
        folder: the cell's.
        state: the name of the file that holds the state of training.
    """
    if (folder / state).is_file():
        return f"the state of training is kept in {folder}, and the same command goes on from it"
    return f"nothing of {folder} is kept yet, and the same command begins it again"
