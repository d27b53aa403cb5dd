"""A request to stop, by the interrupt or termination of a process, that is heeded where stopping loses nothing."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


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
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    heeded = {number: handler for number, handler in before.items() if handler not in (signal.SIG_IGN, None)}

    def restore() -> None:
        for number, handler in heeded.items():
            signal.signal(number, handler)

    def ask(number: int, frame: Any) -> None:
        asked.set()
        restore()

    for number in heeded:
        signal.signal(number, ask)
    try:
        yield asked.is_set
    finally:
        restore()
