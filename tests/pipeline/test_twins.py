"""A cell and its twin: trained in this order, by one schedule, and what becomes of the one where the other fails."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import rote_bench
from rote_bench.cli import main
from rote_bench.errors import UserError
from rote_bench.pipeline.twins import remedy
from rote_bench.report.record import Report
from rote_bench.report.schedules import equal_schedules, falls_from
from rote_bench.report.write import load_report
from tests.sweep.test_conduct import reports

TASK = """
name: pair
generator: addition
parameters: {digits: 1}
splits: {train: 60, selection: 20, validation: 20}
noise: {rates: [0.6]}
model: {layers: 1, width: 32, heads: 2}
diagnostics: [learning_dynamics]
training:
  batch_size: 32
  max_steps: 60
  evaluate_every: 5
  precision: float32
  learning_rate: 0.02
  adam_learning_rate: 0.01
  schedule: {warmup: 2, anneal: 15, hold_until: 0.05}
"""
NEVER = "training.schedule.hold_until=1.0"


@pytest.fixture
def task(tmp_path: Path) -> Path:
    path = tmp_path / "pair.yaml"
    path.write_text(TASK)
    return path


def run(task: Path, output: Path, *more: str) -> int:
    return main(["run", str(task), "--model", "gpt2-nano", "-o", str(output), *more])


def pair(output: Path) -> tuple[Report, Report]:
    """The cell and its twin."""
    folder = output / "pair" / "gpt2-nano"
    return load_report(folder / "noise-0.6" / "seed-0"), load_report(folder / "noise-0" / "seed-0")


def test_a_cell_takes_over_the_schedule_of_its_twin(
    task: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "runs"
    assert run(task, output, "--twin") == 0
    said = capsys.readouterr()
    cell, twin = pair(output)
    fell = twin.training.settled_step
    assert fell is not None and twin.training.steps == fell + 15 == cell.training.steps
    assert vars(twin.training.schedule) == {"settle": "event", "twin": None, "step": None}
    assert vars(cell.training.schedule) == {"settle": "twin", "twin": twin.identity.hash, "step": fell}
    assert cell.identity.parts["schedule"] == vars(cell.training.schedule)
    assert cell.training.settled_step == fell and cell.training.final_rate == twin.training.final_rate
    assert equal_schedules(cell, twin) is None and falls_from(cell) == falls_from(twin) == fell
    assert cell.identity.parts["training"] == twin.identity.parts["training"]
    assert said.err.index("noise 0,") < said.err.index("noise 0.6,")
    assert "What a wrong label costs cannot be said" in " ".join(said.out.split())  # it learned nothing in 60 steps
    assert said.out.count(".png") == 0 and said.out.count("report.json") == said.out.count("figures  ") == 1
    before = reports(output)
    assert run(task, output, "--noise-rate", "0.6", "--noise-rate", "0") == 0
    assert capsys.readouterr().err.count("already done") == 2 and reports(output) == before
    found = rote_bench.run(task, model="gpt2-nano", twin=True, output_path=output, quiet=True)
    assert found.twin is not None and len(found.twin.curve())
    assert found.record == cell and found.twin.record == twin and found.noise_transfer.value is None


def test_a_twin_that_never_settles_and_its_cell_fall_at_the_last_moment(task: Path, tmp_path: Path) -> None:
    assert run(task, tmp_path / "runs", "--twin", "--quiet", "--set", NEVER) == 0
    cell, twin = pair(tmp_path / "runs")
    assert twin.training.settled_step is None and cell.training.schedule.step == 60 - 15
    assert equal_schedules(cell, twin) is None and cell.training.steps == twin.training.steps == 60


def test_a_cell_that_was_run_by_its_own_event_stands_where_that_fell_on_its_twins_step(
    task: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "runs"
    assert run(task, output, "--quiet", "--set", NEVER) == 0
    file = output / "pair/gpt2-nano/noise-0.6/seed-0/report.json"
    before = file.read_bytes()
    capsys.readouterr()
    assert run(task, output, "--twin", "--set", NEVER) == 0
    assert "already done" in capsys.readouterr().err and file.read_bytes() == before
    earlier = json.loads(before)  # as if its event had come ten steps earlier
    earlier["training"].update(steps=50, settled_step=35)
    file.write_text(json.dumps(earlier))
    assert run(task, output, "--twin", "--quiet", "--set", NEVER) == 2
    said = capsys.readouterr().err
    assert "schedule.settle" in said and "the rates fell from steps 35 and 45" in said and "--overwrite" in said
    assert run(task, output, "--twin", "--quiet", "--overwrite", "--set", NEVER) == 0
    assert equal_schedules(*pair(output)) is None and pair(output)[0].training.schedule.settle == "twin"


def test_a_step_is_the_same_for_all(task: Path, tmp_path: Path) -> None:
    assert run(task, tmp_path / "runs", "--twin", "--quiet", "--set", "training.schedule.settle=20") == 0
    cell, twin = pair(tmp_path / "runs")
    assert [vars(r.training.schedule) for r in (cell, twin)] == [{"settle": "fixed", "twin": None, "step": 20}] * 2
    assert cell.training.steps == twin.training.steps == 35 and equal_schedules(cell, twin) is None
    stopped = "training.stop_at=0.98"
    assert run(task, tmp_path / "stopped", "--twin", "--quiet", "--set", stopped) == 0
    assert "stop_at" in str(equal_schedules(*pair(tmp_path / "stopped")))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--twin", "--no-train"], "--twin: a model that is not trained has no twin"),
        (["--twin", "--noise-rate", "0"], "--twin: the cell at noise rate 0 is the twin itself"),
        (
            ["--set", "training.schedule.settle=1"],
            "after step 1: warmup ends at 2, and the last step from which annealing fits is 45",
        ),
        (["--set", "training.schedule.settle=46"], "give schedule.settle a step from 2 to 45"),
        (["--set", "training.schedule.settle=soon"], "an integer or"),
    ],
)
def test_what_cannot_be_timed_is_refused(
    task: Path, tmp_path: Path, arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(task, tmp_path / "runs", *arguments) == 2
    assert says in capsys.readouterr().err and not (tmp_path / "runs").exists()


def test_cells_that_stop_early_are_named_by_validate(task: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", str(task)]) == 0
    assert "twin" not in capsys.readouterr().out
    task.write_text(TASK + "  stop_at: 0.9\n")
    assert main(["validate", str(task)]) == 0
    assert "cells that end before their schedule does are compared with no twin" in capsys.readouterr().out


SWEEP = "name: s\ntasks: [pair.yaml]\nmodels: [gpt2-nano]\nnoise_rates: [0.6, 0]\n"


def test_in_a_sweep_a_cell_waits_for_its_twin_and_is_not_run_where_that_failed(
    task: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep, output = tmp_path / "s.yaml", tmp_path / "runs"
    sweep.write_text(SWEEP)
    barred = ["--noise-rate", "0", "--set", "training.max_steps=30", "--quiet"]
    assert run(task, output, *barred) == 0  # another recipe's report in the twin's place
    command = ["sweep", str(sweep), "-o", str(output), "--workers", "2"]
    assert main([*command, "--json"]) == 1
    said: dict[str, Any] = json.loads(capsys.readouterr().out)
    twin, cell = said["cells"]
    assert twin["noise_rate"] == 0 and cell["state"] == "failed" and not said["complete"]
    assert cell["reason"] == "not run: its twin pair/gpt2-nano/noise-0/seed-0 failed"
    assert not (output / "pair/gpt2-nano/noise-0.6").exists()
    assert main([*command, "--quiet", "--overwrite"]) == 0
    assert equal_schedules(*pair(output)) is None
    assert main([*command, "--json"]) == 0
    assert all(each["skipped"] for each in json.loads(capsys.readouterr().out)["cells"])
    sweep.write_text(SWEEP.replace("[0.6, 0]", "[0.6]") + "overrides: {training: {schedule: {settle: twin}}}\n")
    assert main(["validate", str(sweep)]) == 2
    assert "add 0 to noise_rates" in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_that_is_killed_between_twin_and_cell_ends_as_one_never_killed(task: Path, tmp_path: Path) -> None:
    output, whole = tmp_path / "runs", tmp_path / "whole"
    command = [sys.executable, "-m", "rote_bench", "run", str(task), "--model", "gpt2-nano", "--twin", "--quiet", "-o"]
    process = subprocess.Popen([*command, str(output)])
    while not (output / "pair/gpt2-nano/noise-0/seed-0/report.json").is_file():
        assert process.poll() is None
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL and len(reports(output)) == 1
    assert run(task, output, "--twin", "--quiet") == 0 and run(task, whole, "--twin", "--quiet") == 0
    assert reports(output) == reports(whole) and len(reports(whole)) == 2


def test_a_task_that_asks_for_twins_gets_them(task: Path, tmp_path: Path) -> None:
    task.write_text(TASK.replace("hold_until: 0.05", "hold_until: 0.05, settle: twin"))
    assert run(task, tmp_path / "runs", "--quiet") == 0
    assert equal_schedules(*pair(tmp_path / "runs")) is None
    with pytest.raises(UserError, match="no twin"):
        from rote_bench import plugins
        from rote_bench.pipeline.settings import Settings
        from rote_bench.pipeline.twins import schedule_of
        from rote_bench.spec.loader import load_task

        schedule_of(load_task(task, plugins.built_in()), 0.6, Settings(), None)


def test_the_remedy_of_a_report_in_the_way_keeps_what_can_be_kept() -> None:
    elsewhere = "choose another folder with -o, or replace it with --overwrite"
    assert remedy(["training.max_steps"], None) == elsewhere
    assert remedy(["schedule.twin", "schedule.settle"], None) == f"with or without --twin as before; or {elsewhere}"
    diagnostics = ["diagnostics.probe", "diagnostics.neurons"]
    assert remedy(diagnostics, None) == f"--rediagnose measures it anew without training; or {elsewhere}"
    assert remedy([*diagnostics, "training.max_steps"], None) == elsewhere


def test_a_twin_whose_weights_were_left_behind_is_compared_by_its_answers(task: Path, tmp_path: Path) -> None:
    """Reports travel without their weights."""
    text = task.read_text().replace("diagnostics: [learning_dynamics]", "diagnostics: [leakage_kernel]")
    task.write_text(text.replace("hold_until: 0.05", "settle: 20"))
    out = tmp_path / "runs"
    assert run(task, out, "--twin", "--quiet") == 0
    folder = out / "pair" / "gpt2-nano"
    whole = load_report(folder / "noise-0.6" / "seed-0")
    assert whole.value("leakage_kernel") is not None and whole.value("leakage_kernel_states") is not None
    shutil.rmtree(folder / "noise-0" / "seed-0" / "checkpoints")
    shutil.rmtree(folder / "noise-0.6")
    assert run(task, out, "--twin", "--quiet") == 0
    left = load_report(folder / "noise-0.6" / "seed-0")
    assert left.diagnostics["leakage_kernel"].status == "success"
    assert left.metrics["leakage_kernel"] == whole.metrics["leakage_kernel"]
    assert left.metrics["leakage_kernel_states"].reason_if_null == "the twin's model was not kept"
