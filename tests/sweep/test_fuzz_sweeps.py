"""Sweep files with faults of every kind are refused line by line, or make cells; fast, and in little memory."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import yaml

from rote_bench.errors import UserError
from rote_bench.plugins import Registry
from rote_bench.sweep.cells import plan
from rote_bench.sweep.comparing import compare
from rote_bench.sweep.definition import load
from tests import fuzzing
from tests.fuzzing import changed, written

TINY = """name: tiny
generator: two_hop
parameters: {entities: 8, bridges: 3, answers: 4, relations: 4}
splits: {train: 0.6, selection: 0.2, validation: 0.2}
noise: {rates: [0.1]}
training: {precision: float32, max_steps: 40, evaluate_every: 10, schedule: {warmup: 1, anneal: 30}}
profiles: {adam: {training: {optimizer: adamw}}}
"""
SWEEP = """name: many
title: Many cells
tasks: [tiny.yaml, {task: tiny.yaml, profile: adam, overrides: {training: {max_steps: 50}}}]
models: [gpt2-nano, {model: llama-nano, overrides: {model: {mlp_width: 64}}}]
noise_rates: [0.0, 0.1]
seeds: [0, 1, 2, 3]
overrides: [training.batch_size=16]
include:
  - {noise_rates: [0.2], models: [mamba-nano]}
  - {tasks: [{task: tiny.yaml, overrides: [title=x]}], seeds: {data: [5], init: [5, 6]}, noise_rates: [0.3]}
run: {device: cpu, limit: 50, threads_per_cell: 1, gpus_per_cell: 0.5, compile: [gpt2-nano]}
tuning:
  configurations: {slow: {training: {learning_rate: 0.01}}, long: {training: {schedule: {anneal: 35}}}}
  seeds: [100, 101]
  memorised: 0.9
  margin: 1.5
contrasts:
  - {name: a, task: tiny, models: [gpt2-nano, llama-nano], metric: noise_transfer, noise_rate: 0.1, sd: 0.1}
"""


def accepted(path: Path, registry: Registry) -> bool:
    """Whether a file is accepted; it then has cells, each in a folder of its own. Else each fault is one line."""
    try:
        definition = load(path)
        jobs = plan(definition, registry, output=path.parent / "runs")
        planned = compare(definition, jobs, registry)
        assert planned is None or planned.comparison.rules()
        assert jobs and len({job.folder for job in jobs}) == len(jobs)
        return True
    except UserError as error:
        for line in str(error).splitlines():
            assert line.strip() and len(line) < 3000, line[:200]
    return False


def trial(count: int, folder: Path, registry: Registry) -> tuple[int, float]:
    (folder / "tiny.yaml").write_text(TINY)
    rng, base = random.Random(f"sweeps-{count}"), yaml.safe_load(SWEEP)
    contents = (written(changed(base, rng), rng) for _ in range(count))
    found = fuzzing.trial(contents, folder / "sweep.yaml", lambda path: accepted(path, registry))
    assert not (folder / "runs").exists()
    return found


def test_some_sweep_files(registry: Registry, tmp_path: Path) -> None:
    good, _ = trial(60, tmp_path, registry)
    assert 0 < good < 60


@pytest.mark.slow
def test_many_sweep_files(registry: Registry, tmp_path: Path) -> None:
    good, slowest = trial(1000, tmp_path, registry)
    assert slowest < 2 and 20 < good < 980
    print(f"{good} of 1000 accepted; the slowest took {slowest:.2f} s")
