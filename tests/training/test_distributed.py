"""Several processes train as one does."""

from __future__ import annotations

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
from rote_bench.training.distributed import Processes

TASK = """
name: shared
generator: two_hop
parameters: {form: symbols, entities: 10, bridges: 4, answers: 6, relations: 6}
splits: {train: 0.7, selection: 0.1, validation: 0.2}
model: {layers: 2, width: 32, heads: 2}
training:
  batch_size: 63
  max_steps: 40
  evaluate_every: 10
  precision: float32
  learning_rate: 0.01
  schedule: {warmup: 5, anneal: 20}
diagnostics: [learning_dynamics]
"""


def launch(task: Path, output: Path, *more: str) -> subprocess.Popen[str]:
    """The run of a task by two processes."""
    starter = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "rote_bench"]
    arguments = ["run", str(task), "--model", "gpt2-nano", "-o", str(output)]
    return subprocess.Popen(
        [sys.executable, *starter, *arguments, "--device", "cpu", "--json", *more],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def curve(folder: Path) -> list[dict[str, Any]]:
    (file,) = folder.rglob("dynamics.jsonl")
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.fixture
def task(tmp_path: Path) -> Path:
    path = tmp_path / "task.yaml"
    path.write_text(TASK)
    return path


def test_two_processes_follow_the_curve_of_one(task: Path, tmp_path: Path) -> None:
    two = launch(task, tmp_path / "two")
    rote_bench.run(task, model="gpt2-nano", output_path=tmp_path / "one", device="cpu", quiet=True)
    out, errors = two.communicate(timeout=240)
    assert two.returncode == 0, errors
    report = json.loads(out)  # one report, from the first process alone
    assert report["environment"]["processes"] == 2
    assert report["training"]["effective_batch_size"] == 63
    a, b = curve(tmp_path / "one"), curve(tmp_path / "two")
    assert [r["step"] for r in a] == [r["step"] for r in b]
    assert [r["loss"] for r in a] == pytest.approx([r["loss"] for r in b], rel=1e-3)
    assert a[0]["loss"] > 1.3 * a[-1]["loss"]


def test_a_process_alone_is_first_and_keeps_everything() -> None:
    alone = Processes()
    assert alone.first and alone.part(list(range(5))) == list(range(5))
    assert alone.agree({"x": 1}) == {"x": 1} and alone.any(True, "cpu") and not alone.any(False, "cpu")


def test_parts_of_a_batch_are_disjoint_and_complete() -> None:
    parts = [Processes(rank, 3).part(list(range(10))) for rank in range(3)]
    assert sorted(i for part in parts for i in part) == list(range(10))


@pytest.mark.slow
def test_an_interrupted_pair_goes_on(task: Path, tmp_path: Path) -> None:
    output = tmp_path / "runs"
    first = launch(task, output, "--set", "training.max_steps=4000", "--set", "training.stop_at=null")
    while not list(output.rglob("dynamics.jsonl")):
        assert first.poll() is None, first.communicate()
        time.sleep(1)
    os.killpg(first.pid, signal.SIGINT)
    first.communicate(timeout=120)
    assert list(output.rglob("training-state.pt"))
