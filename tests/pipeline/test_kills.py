"""Runs that are killed and interrupted at every stage, again and again, end as one that nothing disturbs."""

from __future__ import annotations

import copy
import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from rote_bench.hashing import sha256
from tests.pipeline.test_runner import numbers, tiny

STAGES = (
    "making examples",
    "loading",
    "training",
    "training: ",
    "evaluating",
    "diagnosing 1",
    "diagnosing 2",
    "drawing",
)
ENDS = {
    signal.SIGKILL: {-signal.SIGKILL: ""},
    signal.SIGTERM: {143: "rote-bench: terminated; "},
    signal.SIGINT: {130: "rote-bench: interrupted; "},
}


def disturbed(command: list[str], number: signal.Signals, stage: str, delay: float) -> tuple[int, list[str]]:
    """Exit code and messages of a process that gets a signal some time after a stage began."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    said: list[str] = []
    with process:
        assert process.stderr is not None
        for line in process.stderr:
            said.append(line.rstrip("\n"))
            if line.startswith(stage):
                time.sleep(delay)
                process.send_signal(number)
                break
        said += process.stderr.read().splitlines()
    return process.returncode, said


def report_of(folder: Path) -> dict[str, Any]:
    (file,) = folder.rglob("report.json")
    report: dict[str, Any] = json.loads(file.read_text())
    listed = {a["path"]: a["sha256"] for a in report["artifacts"]}
    assert {path: sha256(file.parent / path) for path in listed} == listed
    here = {p.relative_to(file.parent).as_posix() for p in file.parent.rglob("*") if p.is_file()}
    assert here == {*listed, "report.json"}
    return report


def details(report: dict[str, Any]) -> dict[str, Any]:
    found = {name: entry["details"] for name, entry in copy.deepcopy(report["diagnostics"]).items()}
    for point in found["learning_dynamics"]["curve"]:
        del point["seconds"]
    return found


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    return [sys.executable, "-m", "rote_bench", "run", str(tiny(tmp_path)), "--model", "gpt2-nano", "-o"]


def run_with(command: list[str], output: Path, kills: int, draw: random.Random) -> tuple[dict[str, Any], list[str]]:
    """The report of a cell that is disturbed so often, and what was done to it."""
    done = []
    for _ in range(kills):
        number, stage, delay = draw.choice(list(ENDS)), draw.choice(STAGES), draw.random() ** 2
        code, said = disturbed([*command, str(output)], number, stage, delay)
        done.append(f"{number.name} {delay:.2f} s after {stage!r}: {code}")
        assert not any("Traceback" in line for line in said), (done, said)
        if code != 0:  # what comes too late finds nothing to stop
            assert code in ENDS[number], (done, said)
            assert ENDS[number][code] in ("", said[-1][: len(ENDS[number][code])]), (done, said)
        if code == 0:
            command = [*command[:-1], "--overwrite", "-o"]  # begin again
    assert subprocess.run([*command, str(output), "--quiet"], check=False).returncode == 0
    return report_of(output), done


@pytest.mark.slow
def test_forty_kills_at_every_stage_change_no_number(command: list[str], tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    assert subprocess.run([*command, str(whole), "--quiet"], check=False).returncode == 0
    expected, draw = report_of(whole), random.Random(7)
    for sequence in range(4):
        found, done = run_with(command, tmp_path / str(sequence), 10, draw)
        print("\n".join(done))
        assert numbers(found) == numbers(expected) and details(found) == details(expected), done
