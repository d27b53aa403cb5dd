"""Task files with faults of every kind are refused line by line, or give data; fast, and in little memory."""

from __future__ import annotations

import random
from pathlib import Path

import datasets
import pytest
import yaml

from rote_bench.errors import UserError
from rote_bench.plugins import Registry
from rote_bench.spec.loader import load_task, shipped
from rote_bench.spec.preflight import check_drawable
from rote_bench.splits import make_data, make_noise, make_task, rates_of
from tests import fuzzing
from tests.fuzzing import changed, written

TABLE = """name: table
generator: dataset
parameters: {path: rows.csv, prompt: prompt, answer: answer, positions: [a], features: [b], facts: rows2.csv}
splits: {train: 12, selection: 2, validation: 0.1}
noise: {kind: uniform, rates: [0.2]}
training: {max_steps: 40, evaluate_every: 10, schedule: {warmup: 1, anneal: 30}}
diagnostics: [learning_dynamics, logit_lens: {}]
profiles:
  other: {seeds: {data: 3}, parameters: {group: b}}
"""


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """A path that is no file would be looked for on the hub."""

    def load_dataset(*given: object) -> None:
        raise ConnectionError("no network in this test")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)


def pool(folder: Path) -> list[object]:
    rows = [f"what is {i} ?,{'xyz'[i % 3]},{i},{i % 2}" for i in range(20)]
    (folder / "rows.csv").write_text("\n".join(["prompt,answer,a,b", *rows]))
    (folder / "rows2.csv").write_text("prompt,answer\nf 1,x\n")
    small = {"entities": 6, "bridges": 3, "answers": 4, "relations": 3}
    thr = yaml.safe_load(shipped()["thr"].read_text())
    fda = yaml.safe_load(shipped()["fda"].read_text())
    thr["parameters"] = {**thr.get("parameters", {}), **small}
    thr["splits"] = {"train": 0.5, "selection": 0.2, "validation": 0.2}
    fda["splits"] = {"train": 300, "selection": 20, "validation": 20}
    for data in (thr, fda):
        for profile in data["profiles"].values():
            profile.pop("parameters", None)
            profile.pop("splits", None)
    return [thr, fda, yaml.safe_load(TABLE)]


def accepted(path: Path, registry: Registry) -> bool:
    """Whether a file is accepted; it then gives data. Else each of its faults is one line."""
    try:
        spec = load_task(path, registry)
        faults = check_drawable(spec, registry)
        if not faults:
            rate = rates_of(spec, registry)[0]
            made = make_data(make_task(spec, registry), spec, make_noise(spec, registry), rate, limit=50)
            assert len(made.train) and made.fingerprint()
            return True
    except UserError as error:
        faults = [error]
    for line in "\n".join(map(str, faults)).splitlines():
        assert line.strip() and len(line) < 3000, line[:200]
    return False


def trial(count: int, folder: Path, registry: Registry) -> tuple[int, float]:
    rng, bases = random.Random(f"tasks-{count}"), pool(folder)
    contents = (written(changed(rng.choice(bases), rng), rng) for _ in range(count))
    return fuzzing.trial(contents, folder / "task.yaml", lambda path: accepted(path, registry))


def test_some_task_files(registry: Registry, tmp_path: Path) -> None:
    good, _ = trial(60, tmp_path, registry)
    assert 0 < good < 60


@pytest.mark.slow
def test_many_task_files(registry: Registry, tmp_path: Path) -> None:
    good, slowest = trial(2000, tmp_path, registry)
    assert slowest < 2 and 100 < good < 1900
    print(f"{good} of 2000 accepted; the slowest took {slowest:.2f} s")
