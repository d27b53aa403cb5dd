"""Diagnostics of one cell, one after the other and several at a time: the same numbers, and failures kept apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import rote_bench
from rote_bench import machine
from rote_bench.pipeline import diagnose
from rote_bench.pipeline.forks import possible
from tests.pipeline.test_runner import tiny

STRANGERS = """
import os
import random

import numpy as np
import torch

from rote_bench import hookimpl
from rote_bench.diagnostics import Diagnostic, Estimate, Measure, Result


class Draws(Diagnostic):
    def run(self, subject):
        subject.warn(f"{self.name} draws")
        drawn = [random.random(), float(np.random.random()), float(torch.rand(()))]
        return Result(details={"drawn": drawn, "pid": os.getpid()}, records={"drawn": drawn})


class First(Draws):
    name = "first"


class Second(Draws):
    name = "second"


class Dies(Diagnostic):
    name = "dies"

    def run(self, subject):
        os._exit(7)


class Leaves(Diagnostic):
    name = "leaves"

    def run(self, subject):
        raise SystemExit("enough")


@hookimpl
def register_diagnostics(register):
    for each in (First, Second, Dies, Leaves):
        register(each)
"""


@pytest.fixture
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(machine, "count_cores", lambda: 2)
    if not possible():
        pytest.skip("children cannot go on from a fork here")


def run(folder: Path, diagnostics: str, **options: Any) -> rote_bench.Report:
    (plugin := folder / "strangers.py").write_text(STRANGERS)
    task = tiny(folder, f"diagnostics: [{diagnostics}]\n")
    report: rote_bench.Report = rote_bench.run(task, model="gpt2-nano", plugins=[plugin], quiet=True, **options)
    return report


def without_time(report: rote_bench.Report) -> dict[str, Any]:
    entries = {name: dict(entry) for name, entry in report.data["diagnostics"].items()}
    for entry in entries.values():
        assert entry.pop("seconds") >= 0 and entry.pop("cpu_seconds") >= 0
        entry["details"] = {key: value for key, value in entry["details"].items() if key != "pid"}
    return {"metrics": report.data["metrics"], "diagnostics": entries, "warnings": report.data["warnings"]}


@pytest.mark.usefixtures("two_cores")
def test_several_at_a_time_give_the_numbers_of_one_after_the_other(tmp_path: Path) -> None:
    names = "second, logit_lens, activation_patching, leaves, circuits, first, neurons, probe, nearest, ablation"
    apart = run(tmp_path, names, output_path=tmp_path / "apart", forks=True)
    in_turn = run(tmp_path, names, output_path=tmp_path / "in_turn")
    assert list(apart.data["diagnostics"]) == names.split(", ")
    line = 1 + next(n for n, text in enumerate(STRANGERS.splitlines()) if "SystemExit" in text)
    assert without_time(apart) == without_time(in_turn)
    assert apart.data["warnings"] == [
        "second draws",
        f"diagnostic leaves failed: SystemExit: enough (strangers.py:{line})",
        "first draws",
    ]
    pids = [{r.data["diagnostics"][name]["details"]["pid"] for name in ("first", "second")} for r in (apart, in_turn)]
    assert [len(found) for found in pids] == [2, 1]
    for report in (apart, in_turn):
        drawn = [report.data["diagnostics"][name]["details"]["drawn"] for name in ("first", "second")]
        assert drawn[0] != drawn[1], "each begins with generators of its own"
        assert (report.folder / "first.parquet").is_file()
    timings = apart.data["timings"]
    spent = sum(entry["cpu_seconds"] for entry in apart.data["diagnostics"].values())
    assert timings["cpu_by_stage"]["diagnostics"] > 0.9 * spent, "the time of children counts"
    assert sum(timings["cpu_by_stage"].values()) < timings["cpu_seconds"] + 0.1


@pytest.mark.usefixtures("two_cores")
@pytest.mark.parametrize("task", ["thr", "fda"])
def test_a_cell_without_wrong_labels_is_diagnosed_several_at_a_time(tmp_path: Path, task: str) -> None:
    spec = rote_bench.load_task(task)
    names = ", ".join(each.name for each in spec.diagnostics if each.name != "learning_dynamics")  # it keeps times
    apart = run(tmp_path, names, output_path=tmp_path / "apart", forks=True, noise_rate=0)
    in_turn = run(tmp_path, names, output_path=tmp_path / "in_turn", noise_rate=0)
    assert apart.status == "success" and without_time(apart) == without_time(in_turn)
    assert apart.data["data"]["n_noisy"] == 0


@pytest.mark.usefixtures("two_cores")
def test_a_diagnostic_whose_process_dies_has_failed_and_the_others_go_on(tmp_path: Path) -> None:
    report = run(tmp_path, "first, dies, second", output_path=tmp_path / "runs", forks=True)
    entries = report.data["diagnostics"]
    assert report.status == "success"
    assert [entries[name]["status"] for name in ("first", "dies", "second")] == ["success", "failed", "success"]
    assert entries["dies"]["reason"] == "its process ended with exit code 7"
    assert report.data["warnings"] == [
        "first draws",
        "diagnostic dies failed: its process ended with exit code 7",
        "second draws",
    ]


@pytest.mark.usefixtures("two_cores")
@pytest.mark.parametrize("cause", ["unasked", "one core", "no memory", "many cores"])
def test_one_after_the_other_where_several_would_not_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cause: str
) -> None:
    if cause == "one core":
        monkeypatch.setenv("OMP_NUM_THREADS", "1")
    if cause == "no memory":
        monkeypatch.setattr(diagnose, "memory_at_hand", lambda: diagnose.WORKING)
    if cause == "many cores":
        monkeypatch.setattr(machine, "count_cores", lambda: 16)
    report = run(tmp_path, "first, second", output_path=tmp_path / "runs", forks=cause != "unasked")
    entries = report.data["diagnostics"]
    assert len({entries[name]["details"]["pid"] for name in ("first", "second")}) == 1
