"""Two processes and one folder."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from rote_bench.errors import UserError
from rote_bench.pipeline import lock
from rote_bench.pipeline.lock import alone

HOLD = """
import sys, time
from pathlib import Path
if sys.argv[2] == "blocked":
    sys.modules["fcntl"] = None
from rote_bench.pipeline.lock import alone
with alone(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def holder(folder: Path, how: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder), how], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


@pytest.mark.parametrize("how", ["posix", "blocked"])
def test_a_folder_is_one_processs_at_a_time(tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if how == "blocked":
        monkeypatch.setitem(sys.modules, "fcntl", None)
    folder = tmp_path / "cell"
    other = holder(folder, how)
    try:
        with pytest.raises(UserError, match="another process is running this cell") as caught, alone(folder):
            pass
        assert caught.value.where == str(folder) and "\n" not in str(caught.value)
        assert f"another process is running this cell: process {other.pid}, since " in str(caught.value)
        threading.Timer(0.3, other.communicate).start()  # which ends it
        with alone(folder, patience=60):  # waits for as long as it is told
            with alone(Path(os.path.relpath(folder))):  # whoever has it may take it again
                pass
            found: list[type] = []

            def elsewhere() -> None:
                try:
                    with alone(folder):
                        pass
                except UserError as error:
                    found.append(type(error))

            thread = threading.Thread(target=elsewhere)
            thread.start()
            thread.join()
            assert found == [UserError]
        with alone(folder):
            pass
        assert not list(folder.iterdir())
    finally:
        other.kill()


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX")
def test_whoever_is_killed_lets_go(tmp_path: Path) -> None:
    other = holder(tmp_path, "posix")
    other.kill()
    other.communicate()
    with alone(tmp_path):
        pass


def test_where_the_file_system_knows_no_locks_whoever_signed_and_lives_holds_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fcntl = pytest.importorskip("fcntl")

    def unknown(*unused: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", unknown)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        for signed, free in (
            (f"{other.pid} {socket.gethostname()} then", False),
            (f"{other.pid} elsewhere then", False),
            (f"{2**22 + 1} {socket.gethostname()} then", True),  # no process has such a number
            ("half a wri", True),
            ("", True),
        ):
            (tmp_path / lock.FILE).write_text(signed)
            if free:
                with alone(tmp_path):
                    assert (tmp_path / lock.FILE).read_text().startswith(f"{os.getpid()} ")
            else:
                with pytest.raises(UserError, match=f"process {other.pid}"), alone(tmp_path):
                    pass
        other.communicate(b"\n")
