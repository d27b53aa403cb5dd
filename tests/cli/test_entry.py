"""How commands end: what plugins do, what signals ask for, what the system refuses; and where results go."""

from __future__ import annotations

import errno
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import rote_bench
from rote_bench import cli
from rote_bench.cli import entry, streams
from rote_bench.pipeline import runner
from tests.pipeline.test_runner import tiny

PLUGIN = """
import os, signal, sys
from dataclasses import dataclass
from rote_bench.plugin import Diagnostic, Measure, Result, hookimpl, wilson
from rote_bench.tasks.addition import Addition

HOW = {how!r}
print("printed at import")

def act(place):
    if place == {place!r}:
        print("printed at run")
        os.write(1, b"")
        {act}

@dataclass(frozen=True)
class Options: pass

class Mine(Diagnostic):
    name, description, version, Options = "mine", "x", 1, Options
    metrics = (Measure("mine", "x", split="validation"),)

    def run(self, subject):
        act("diagnosing")
        return Result({{"mine": wilson(3, 10)}}, {{}}, {{}})

    def implied(self, details, records):
        return {{}}

    @staticmethod
    def draw(details, path):
        act("drawing")
        return False

class Task(Addition):
    name = "mine"

    def example(self, *given):
        act("data")
        return super().example(*given)

@hookimpl
def register_diagnostics(register):
    register(Mine)

@hookimpl
def register_tasks(register):
    act("registering")
    register(Task)
"""


def plugin(folder: Path, place: str, act: str) -> Path:
    file = folder / "mine.py"
    file.write_text(PLUGIN.format(place=place, act=act, how=act))
    return file


def task(folder: Path, generator: str = "addition") -> Path:
    file = tiny(folder, "diagnostics: [mine, learning_dynamics]\n")
    file.write_text(file.read_text().replace("generator: addition", f"generator: {generator}"))
    return file


def run(folder: Path, place: str, act: str, *more: str) -> int:
    generator = "mine" if place == "data" else "addition"
    given = ["--model", "gpt2-nano", "-o", str(folder / "runs"), "--plugin", str(plugin(folder, place, act))]
    return cli.main(["run", str(task(folder, generator)), *given, *more])


def status(folder: Path) -> str | None:
    found = list(folder.rglob("report.json"))
    return json.loads(found[0].read_text())["status"] if found else None


KILL = "os.kill(os.getpid(), signal.{name})"
SWALLOWED = """
        try: os.kill(os.getpid(), signal.SIGTERM)
        except BaseException: pass"""


@pytest.mark.parametrize(
    ("place", "name", "code"),
    [
        ("data", "SIGTERM", 143),
        ("diagnosing", "SIGINT", 130),
        ("drawing", "SIGTERM", 143),
    ],
)
def test_a_signal_means_the_same_at_every_stage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], place: str, name: str, code: int
) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    assert run(tmp_path, place, KILL.format(name=name), "--quiet") == code
    last = capsys.readouterr().err.splitlines()[-1]
    how = "terminated" if name == "SIGTERM" else "interrupted"
    kept = "cells that are done are kept" if place == "data" else "nothing of "  # no cell has begun with its data
    assert last.startswith(f"rote-bench: {how}; {kept}") and "the same command " in last
    assert status(tmp_path) == (None if place == "data" else "interrupted")
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    assert run(tmp_path, place, "pass", "--quiet") == 0 and status(tmp_path) == "success"


def test_a_signal_that_a_plugin_swallows_is_heeded_all_the_same(tmp_path: Path) -> None:
    assert run(tmp_path, "diagnosing", SWALLOWED, "--quiet") == 143
    assert status(tmp_path) == "interrupted"


def test_a_state_that_is_kept_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    leave = 'open(next(__import__("pathlib").Path(%r).rglob("noise-*/*")) / "training-state.pt", "w").close();'
    act = leave % str(tmp_path / "runs") + KILL.format(name="SIGINT")
    assert run(tmp_path, "diagnosing", act, "--quiet") == 130
    said = capsys.readouterr().err
    assert "the state of training is kept in" in said and "the same command goes on from it" in said
    assert run(tmp_path, "diagnosing", "pass", "--quiet") == 0
    assert "training begins anew" in capsys.readouterr().err  # what is kept there is no state


AT_ONCE = """
import time
from rote_bench.pipeline.interrupts import interruptible, listening
with listening():
    with interruptible() if {training} else listening():
        try:
            print("ready", flush=True)
            while True: time.sleep(0.01)
        except KeyboardInterrupt:
            print("stopping", flush=True)
            while True: time.sleep(0.01)
"""


@pytest.mark.parametrize("training", [True, False])
def test_the_second_signal_ends_the_process_at_once(training: bool) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", AT_ONCE.format(training=training)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        if not training:
            assert process.stdout.readline() == "stopping\n"
        while process.poll() is None:  # one that comes before the first is heeded is the same signal
            process.send_signal(signal.SIGINT)
            time.sleep(0.05)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode in (130, 143) and "stopped at once" in said and "Traceback" not in said


@pytest.mark.parametrize("act", ["sys.exit(0)", "os._exit(0)"])
def test_a_diagnostic_that_leaves_has_failed_and_json_is_all_there_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], act: str
) -> None:
    assert run(tmp_path, "diagnosing", act, "--json") == 0
    said = capsys.readouterr()
    report = json.loads(said.out)
    assert report["status"] == "success" and report["diagnostics"]["learning_dynamics"]["status"] == "success"
    assert report["diagnostics"]["mine"]["status"] == "failed"
    assert "diagnostic mine failed: " in said.err and "printed at import" in said.err and "printed at run" in said.err


def test_a_task_that_leaves_is_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, "data", "sys.exit(0)", "--quiet") == 1
    assert (
        capsys.readouterr().err.splitlines()[-1]
        == "rote-bench: failed: SystemExit: 0 (mine.py:14) (--debug shows where)"
    )


@pytest.mark.parametrize("act", ["raise BaseException('gone')", "sys.exit(0)", "os._exit(0)"])
def test_a_plugin_that_leaves_when_it_is_loaded_is_a_users_mistake(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], act: str
) -> None:
    file = plugin(tmp_path, "registering", act)
    assert cli.main(["list", "tasks", "--json", "--plugin", str(file)]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.splitlines()[-1].startswith(f"rote-bench: --plugin {file}: did not load: ")


PRINTS = "import os\nprint('mine')\nos.write(1, b'raw')\nos.system('echo child')\n"


def test_whatever_a_plugin_prints_real_standard_output_holds_json_alone(tmp_path: Path) -> None:
    file = tmp_path / "prints.py"
    file.write_text(PRINTS + "from rote_bench.plugin import hookimpl\n@hookimpl\ndef register_tasks(register): pass\n")
    done = subprocess.run(
        [sys.executable, "-m", "rote_bench", "list", "noise", "--json", "--plugin", str(file)],
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0 and {item["name"] for item in json.loads(done.stdout)} >= {"uniform"}
    assert all(word in done.stderr for word in ("mine", "raw", "child"))


def command(*more: str, **options: Any) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "rote_bench", *more], **options)


def test_a_reader_that_goes_away_is_no_failure() -> None:
    process = command("schema", "report", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert process.wait(60) == 0 and process.stderr.read() == b""
    process.stderr.close()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_results_that_cannot_be_written_are_a_line_and_no_success() -> None:
    with open("/dev/full", "wb") as full:
        process = command("schema", "report", stdout=full, stderr=subprocess.PIPE)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 2 and said.decode() == (
        "rote-bench: No space left on device (make room, and the same command goes on)\n"
    )


class Gone(io.StringIO):
    """A stream whose reader went away."""

    def write(self, text: str) -> int:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")


@pytest.mark.parametrize("stream", [Gone(), None])
def test_a_run_ends_well_whether_or_not_anybody_hears_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stream: Any
) -> None:
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(sys, "stdout", stream)
    file = tiny(tmp_path, "diagnostics: [learning_dynamics]\n")
    assert cli.main(["run", str(file), "--model", "gpt2-nano", "-o", str(tmp_path / "runs")]) == 0
    monkeypatch.undo()
    assert status(tmp_path) == "success" and sys.stderr is not stream
    report = rote_bench.load_report(next(tmp_path.rglob("report.json")))
    monkeypatch.setattr(sys, "stderr", stream)  # and from Python, where nothing stands between
    again = rote_bench.run(file, model="gpt2-nano", output_path=tmp_path / "python")
    monkeypatch.undo()
    assert again.value("validation_accuracy") == report.value("validation_accuracy")


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_words_that_a_terminal_has_no_letters_for_are_spelt(monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    out = io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="\n")
    monkeypatch.setattr(sys, "stdout", out)
    streams.say("模型 a")
    streams.dump({"title": "模型"})
    streams.flush()
    said = out.buffer.getvalue().decode(encoding)
    line, _, rest = said.partition("\n")
    assert line == r"\u6a21\u578b a" and json.loads(rest) == {"title": "模型"}


def test_what_the_system_says_of_a_place_is_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tiny(tmp_path)
    for error, said in (
        (OSError(errno.ENOSPC, "full", "/x/y"), "/x/y: No space left on device (make room, and the same command"),
        (RuntimeError("I/O error: no space (os error 28)"), "No space left on device (make room"),
        (OSError(errno.EROFS, "ro", "/x"), "/x: Read-only file system (name another place)"),
    ):

        def fail(*unused: Any, error: Exception = error, **more: Any) -> None:
            raise error

        monkeypatch.setattr(runner, "prepare", fail)
        assert cli.main(["run", str(file), "--model", "gpt2-nano", "-o", str(tmp_path / "runs"), "--quiet"]) == 2
        last = capsys.readouterr().err.splitlines()[-1]
        assert last.startswith(f"rote-bench: {said}")
    assert entry._of_system(OSError(errno.ECONNREFUSED, "no")) is None and entry._of_system(ValueError("x")) is None


@pytest.mark.parametrize("name", ["loop/x", "dangling", "dangling/x", "n" * 300, "file/x"])
def test_an_output_that_cannot_be_is_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "file").touch()
    assert cli.main(["run", str(tiny(tmp_path)), "--model", "gpt2-nano", "-o", name, "--quiet"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("rote-bench: ") and str(tmp_path) in line


def test_the_home_is_found_and_a_folder_that_is_gone_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    file = tiny(tmp_path, "diagnostics: [learning_dynamics]\n")
    report = rote_bench.run(file, model="gpt2-nano", output_path="~/mine", quiet=True)
    assert report.folder.is_relative_to(tmp_path / "mine") and (report.folder / "samples.parquet").is_file()
    assert cli.main(["show", "~/mine"]) == 0
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    capsys.readouterr()
    try:
        assert cli.main(["run", str(file), "--model", "gpt2-nano", "-o", "here", "--quiet"]) == 2
    finally:
        os.chdir(tmp_path)
    assert "a folder that was removed" in capsys.readouterr().err
