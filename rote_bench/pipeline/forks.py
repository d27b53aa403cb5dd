"""Work in forked children of this process, several at a time: they find its memory as it is, and share it until they
change it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import pickle
import selectors
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, NoReturn, TypeVar

from .. import strangers

T = TypeVar("T")

PR_SET_PDEATHSIG = 1  # a name of Linux's sys/prctl.h
SIGNALS = (signal.SIGINT, signal.SIGTERM)
POLL = 0.5  # seconds between looks at children of whose pipe nothing is heard


@dataclass(frozen=True)
class Ended(Generic[T]):
    """What became of a child.

    Attributes:
        number: of its work.
        result: of the work; None where the child was lost.
        lost: how it ended without a result, None where it has one.
        cpu_seconds: its processor time.
        peak_bytes: its largest resident size, with what it shared with its parent.
    """

    number: int
    result: T | None
    lost: str | None
    cpu_seconds: float
    peak_bytes: int


@dataclass
class _Child:
    number: int
    pid: int
    pipe: int
    said: bytearray = field(default_factory=bytearray)

    def listen(self) -> None:
        """Take what the pipe holds by now."""
        try:
            while part := os.read(self.pipe, 1 << 20):
                self.said += part
        except BlockingIOError:
            pass

    def ended(self) -> Ended[Any] | None:
        """What became of it; None while it runs."""
        pid, status, usage = os.wait4(self.pid, os.WNOHANG)
        if not pid:
            return None
        self.listen()
        os.close(self.pipe)
        code = os.waitstatus_to_exitcode(status)
        lost = None if code == 0 else death(code)
        result = None if lost else pickle.loads(bytes(self.said))
        return Ended(self.number, result, lost, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)

    def kill(self) -> None:
        """End it at once and leave nothing of it."""
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.pipe)


def possible() -> bool:
    """Whether a child of this process can go on where it was forked: on Linux, with all of torch on the processor.

    The threads that torch keeps for an accelerator do not exist in a child, where whatever waits for them waits for
    ever. Its pool for the processor does not either, so that children have one thread and need none of it.
    """
    if sys.platform != "linux":
        return False
    import torch

    return not torch.accelerator.is_available()


def in_children(
    work: Mapping[int, Callable[[], T]], at_once: int, started: Callable[[int], object]
) -> Iterator[Ended[T]]:
    """Do each piece of work in a child of its own with one thread; the results, as they come.

    Whatever ends the iteration, an interrupt or an error, ends the children too; so does the end of this process.

    Args:
        work: number -> what is to be done, begun in this order; what it returns is pickled.
        at_once: how many children at a time.
        started: called with the number of each when it begins.
    """
    waiting, running = list(work), list[_Child]()
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                number = waiting.pop(0)
                started(number)
                _start(number, work[number], running)
            with selectors.DefaultSelector() as heard:
                for child in running:
                    heard.register(child.pipe, selectors.EVENT_READ, child)
                for key, _ in heard.select(POLL):
                    key.data.listen()
            for child in list(running):
                if end := child.ended():
                    running.remove(child)
                    yield end
    finally:
        for child in running:
            child.kill()


def _start(number: int, work: Callable[[], object], running: list[_Child]) -> None:
    _flush()  # else the child has what is in their buffers too
    parent, (pipe, answer) = os.getpid(), os.pipe()
    os.set_blocking(pipe, False)
    with _deferred(), warnings.catch_warnings():
        # Python warns of locks that threads may hold while it forks: those of torch are idle here and hold none
        warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
        pid = os.fork()
        if not pid:
            _be_child(parent, work, answer)
        running.append(_Child(number, pid, pipe))
    os.close(answer)


@contextmanager
def _deferred() -> Iterator[None]:
    """Signals wait until the child is known, and in the child until it heeds its own."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _be_child(parent: int, work: Callable[[], object], answer: int) -> NoReturn:
    code = 1
    strangers.in_child = True
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's interrupt reaches the parent, which ends this
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() == parent:  # it may have died before the line above
            if torch := sys.modules.get("torch"):
                torch.set_num_threads(1)
            said = pickle.dumps(work())
            with os.fdopen(answer, "wb") as file:
                file.write(said)
            code = 0
    except BaseException:
        with contextlib.suppress(Exception):
            traceback.print_exc()
    finally:
        _flush()
        strangers.leave(code)  # what the parent has registered for its own end is not the child's to do


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            with contextlib.suppress(OSError, ValueError):  # whoever read it has gone
                stream.flush()


def death(code: int) -> str:
    """How a process ended that did not say so itself.

    Args:
        code: its exit code; minus the number of the signal that ended it.
    """
    if code >= 0:
        return f"its process ended with exit code {code}"
    name = signal.Signals(-code).name if -code in signal.Signals._value2member_map_ else f"signal {-code}"
    memory = ", as the system does when memory runs out" if -code == signal.SIGKILL else ""
    return f"its process was ended by {name}{memory}"
