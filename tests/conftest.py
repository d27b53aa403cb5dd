"""Fixtures: the registry, and one small cell of each kind trained once per test session through the command line."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, settings

from rote_bench import plugins
from rote_bench.cli import main

torch.set_num_threads(1)
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])  # no clock
settings.load_profile("unhurried")
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as a shell starts what runs in its background
    signal.signal(signal.SIGINT, signal.default_int_handler)  # what is interrupted in tests must not inherit that
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["ROTE_BENCH_PLUGINS"] = ""  # what else is installed here must not change what is tested

SMALL_THR = """
name: small_thr
generator: two_hop
parameters: {form: symbols, entities: 20, bridges: 6, answers: 8, relations: 16}
splits: {train: 0.8, selection: 0.08, validation: 0.12}
noise: {rates: [0.05]}
model: {layers: 2, width: 64, heads: 2, activation: relu}
training:
  batch_size: 256
  max_steps: 500
  evaluate_every: 25
  precision: float32
  learning_rate: 0.02
  adam_learning_rate: 0.006
  schedule: {warmup: 20, hold_until: 0.95, anneal: 200}
diagnostics:
  - learning_dynamics
  - logit_lens
  - activation_patching: {examples: 128}
  - probe
  - erasure
  - interchange
  - ablation: {examples: 64}
  - position_importance: {examples: 64}
  - neighbourhood: {examples: 64}
  - nearest
  - circuits: {examples: 32}
  - neurons: {examples: 200, top: 20}
"""

SMALL_FDA = """
name: small_fda
generator: addition
parameters: {digits: 2}
splits: {train: 1500, selection: 200, validation: 300}
noise: {rates: [0.05]}
model: {layers: 2, width: 64, heads: 2, activation: relu}
training:
  batch_size: 128
  max_steps: 500
  evaluate_every: 25
  precision: float32
  learning_rate: 0.02
  adam_learning_rate: 0.006
  schedule: {warmup: 20, hold_until: 0.95, anneal: 300}
diagnostics:
  - learning_dynamics
  - logit_lens
  - activation_patching: {examples: 128}
  - probe
  - erasure: {intermediates: [carry_1, carry_2], examples: 128}
  - interchange: {intermediate: carry_1, examples: 128}
  - ablation: {examples: 64}
  - position_importance: {examples: 64}
  - neighbourhood: {examples: 64}
  - nearest
  - circuits: {examples: 32}
  - neurons: {examples: 200, top: 20}
"""


@pytest.fixture(scope="session")
def registry() -> plugins.Registry:
    return plugins.load()


def run_cell(folder: Path, text: str) -> Path:
    """Run a task file through the command line; returns the cell's folder."""
    task = folder / "task.yaml"
    task.write_text(text)
    assert main(["run", str(task), "--model", "gpt2-nano", "-o", str(folder / "runs"), "--quiet"]) == 0
    (report,) = (folder / "runs").rglob("report.json")
    return report.parent


@pytest.fixture(scope="session")
def thr_cell(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A two-hop cell, trained and diagnosed."""
    return run_cell(tmp_path_factory.mktemp("thr"), SMALL_THR)


@pytest.fixture(scope="session")
def fda_cell(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An addition cell, trained and diagnosed."""
    return run_cell(tmp_path_factory.mktemp("fda"), SMALL_FDA)


@pytest.fixture
def thr_report(thr_cell: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((thr_cell / "report.json").read_text())
    return report


@pytest.fixture
def fda_report(fda_cell: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((fda_cell / "report.json").read_text())
    return report
