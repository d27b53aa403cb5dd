"""Work in forked children: results come back, a child that dies is told, and none is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch

from rote_bench.pipeline.forks import death, in_children, possible

pytestmark = pytest.mark.skipif(not possible(), reason="children cannot go on from a fork here")


def test_results_come_back_whole_however_large_and_each_child_has_one_thread() -> None:
    weight = torch.randn(64, 64)
    work: dict[int, Callable[[], object]] = {
        7: lambda: (torch.get_num_threads(), float((weight @ weight).sum())),
        3: lambda: b"x" * 3_000_000,
        5: lambda: os.getpid(),
    }
    begun: list[int] = []
    ends = {end.number: end for end in in_children(work, 2, begun.append)}
    assert begun == [7, 3, 5] and all(end.lost is None for end in ends.values())
    assert ends[7].result == (1, float((weight @ weight).sum()))
    assert ends[3].result == b"x" * 3_000_000
    assert ends[5].result != os.getpid()
    assert all(end.peak_bytes > 1 << 20 for end in ends.values())


def test_no_more_run_at_a_time_than_were_asked_for(tmp_path: Path) -> None:
    def work(number: int) -> int:
        (tmp_path / f"{number}").touch()
        time.sleep(0.05)
        beside = len(list(tmp_path.iterdir()))
        (tmp_path / f"{number}").unlink()
        return beside

    beside = [end.result for end in in_children({n: partial(work, n) for n in range(6)}, 2, lambda n: None)]
    assert len(beside) == 6 and max(b for b in beside if b is not None) <= 2


@pytest.mark.parametrize(
    ("way", "said"),
    [
        (lambda: os.kill(os.getpid(), signal.SIGKILL), "was ended by SIGKILL, as the system does when memory runs out"),
        (lambda: os._exit(3), "ended with exit code 3"),
        (lambda: dict[str, int]()["missing"], "ended with exit code 1"),
    ],
)
def test_a_child_that_dies_is_told_and_the_others_go_on(
    way: Callable[[], object], said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    first, second = sorted(in_children({0: way, 1: lambda: "done"}, 2, lambda n: None), key=lambda end: end.number)
    assert first.result is None and first.lost is not None and said in first.lost
    assert (second.result, second.lost) == ("done", None)
    assert ("KeyError: 'missing'" in capfd.readouterr().err) == ("code 1" in said)


def test_whatever_ends_the_work_ends_the_children(tmp_path: Path) -> None:
    def forever() -> None:
        (tmp_path / str(os.getpid())).touch()
        time.sleep(600)

    def first() -> None:
        while len(list(tmp_path.iterdir())) < 2:
            time.sleep(0.01)

    ends = in_children({0: first, 1: forever, 2: forever}, 3, lambda n: None)
    assert next(ends).number == 0
    ends.close()  # type: ignore[attr-defined]
    for path in tmp_path.iterdir():
        with pytest.raises(ChildProcessError):  # it was ended, and its end was heeded
            os.waitpid(int(path.name), os.WNOHANG)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupt_leaves_no_child_behind_and_a_killed_parent_neither(tmp_path: Path, how: signal.Signals) -> None:
    code = (
        "import os, sys, time\nfrom pathlib import Path\nfrom rote_bench.pipeline.forks import in_children\n"
        "def forever():\n    Path(sys.argv[1], str(os.getpid())).touch()\n    time.sleep(600)\n"
        "list(in_children({0: forever, 1: forever}, 2, lambda n: None))\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stderr=subprocess.DEVNULL)
    while len(list(tmp_path.iterdir())) < 2:
        assert parent.poll() is None
        time.sleep(0.02)
    parent.send_signal(how)
    assert parent.wait() == -how
    while any(runs(path.name) for path in tmp_path.iterdir()):
        time.sleep(0.02)


def runs(pid: str) -> bool:
    """Whether there is such a process, but for one whose end nobody has asked for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_how_a_process_ended_is_said_in_words() -> None:
    assert death(2) == "its process ended with exit code 2"
    assert death(-signal.SIGSEGV) == "its process was ended by SIGSEGV"
    assert death(-99) == "its process was ended by signal 99"
