"""Cells of a sweep that are trained as one: which go together, and what they leave behind."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import rote_bench
from rote_bench.cli import main
from rote_bench.errors import UserError
from rote_bench.plugins import Registry
from rote_bench.sweep.cells import plan
from rote_bench.sweep.definition import load
from rote_bench.sweep.local import Local
from rote_bench.sweep.stacks import even, gathered, kind
from tests.sweep.test_conduct import command, in_the_middle, reports, wait
from tests.sweep.test_definition import write


def held(output: Path) -> dict[str, dict[str, Any]]:
    return {
        path.parent.relative_to(output).as_posix(): json.loads(path.read_text()) for path in output.rglob("report.json")
    }


def close(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    """Whether two cells measure the same, but for a question or two on the edge."""
    metrics = ("validation_accuracy", "memorization_rate", "train_clean_accuracy")
    pairs = [(a["metrics"][name]["value"], b["metrics"][name]["value"]) for name in metrics]
    return all(x is y is None or abs(x - y) < 0.051 for x, y in pairs)


def test_cells_that_differ_in_seeds_noise_and_rates_go_together(registry: Registry, tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """name: s
tasks: [tiny.yaml, {task: tiny.yaml, profile: adam}]
models: [gpt2-nano, llama-nano]
noise_rates: [0, 0.1]
seeds: [0, 1]
run: {compile: [llama-nano]}
""",
    )
    jobs = plan(load(path), registry, output=tmp_path / "runs")
    plain = [job for job in jobs if job.model == "gpt2-nano" and job.spec.profile is None]
    other = [job for job in jobs if job.model == "gpt2-nano" and job.spec.profile == "adam"]
    assert len({kind(job) for job in plain}) == len({kind(job) for job in other}) == 1
    assert kind(plain[0]) != kind(other[0])
    assert {kind(job) for job in jobs if job.model == "llama-nano"} == {None}
    assert {job.settings.stacked for job in plain + other} == {None}
    faster = plain[1].spec.replace(training=replace(plain[1].spec.training, learning_rate=0.5))
    assert kind(replace(plain[1], spec=faster)) == kind(plain[0])
    group = gathered(plain[0], jobs, 3)
    assert [job.folder for job in group.cells] == [job.folder for job in plain[:3]]
    assert gathered(plain[0], jobs, 1) is plain[0]
    assert gathered(jobs[-1], jobs, 8) is jobs[-1]
    assert gathered(replace(plain[0], size=3e8), jobs, 8).others == ()
    assert (even(64, 8), even(3, 8), even(100, 1), even(9, 2)) == (8, 1, 64, 5)


def test_only_gpus_stack_unasked(registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    assert Local(workers=None, device="auto").stacks(100) == 50
    assert Local(workers=8, device="cuda").stacks(24) == 3
    assert Local(workers=8, device="cpu").stacks(24) == 1
    for said, meant in (("null", None), ("1", False), ("4", True)):
        path = write(tmp_path, f"name: s\ntasks: [tiny.yaml]\nmodels: [gpt2-nano]\nrun: {{stack: {said}}}\n")
        assert {job.settings.stacked for job in plan(load(path), registry, output=tmp_path)} == {meant}


def test_a_stacked_sweep_leaves_a_report_of_each_cell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Twins first, as the others take over their schedules; and one that cannot be stacked trains by itself."""
    sweep = write(
        tmp_path,
        "name: s\ntasks: [tiny.yaml]\nmodels: [gpt2-nano]\nnoise_rates: [0, 0.1]\nseeds: [0, 1]\n"
        "include: [{models: [recurrent_gemma-nano], noise_rates: [0], seeds: [0]}]\n",
    )
    output = tmp_path / "runs"
    assert main(["sweep", str(sweep), "-o", str(output), "--workers", "1", "--stack", "2", "--quiet"]) == 0
    found = held(output)
    ways = {name: (report["training"]["way"], report["training"]["stacked"]) for name, report in found.items()}
    single = "tiny/recurrent_gemma-nano/noise-0/seed-0"
    assert ways.pop(single) == ("alone", None)
    assert set(ways.values()) == {("stacked", 2)} and len(ways) == 4
    assert "is trained by itself, as it cannot be stacked" in (output / single / "run.log").read_text()
    for name in ways:
        assert (output / name / "run.log").read_text().count("trained as one with 1 other cells") == 1
        assert not (output / name / "training-state.pt").exists()
    noisy = found["tiny/gpt2-nano/noise-0.1/seed-1"]
    assert noisy["training"]["schedule"]["twin"] == found["tiny/gpt2-nano/noise-0/seed-1"]["identity"]["hash"]
    alone = tmp_path / "alone"
    rote_bench.run_cells(
        tmp_path / "tiny.yaml", model="gpt2-nano", noise_rates=[0, 0.1], seeds=[0, 1], output_path=alone
    )
    for name, report in held(alone).items():
        assert report["training"]["way"] == "alone"
        assert close(found[name], report)
        for key in ("data", "seeds", "task"):
            assert found[name][key] == report[key]
    before = {path: path.stat().st_mtime_ns for path in output.rglob("report.json")}
    assert main(["sweep", str(sweep), "-o", str(output), "--workers", "1", "--stack", "2", "--quiet"]) == 0
    assert {path: path.stat().st_mtime_ns for path in output.rglob("report.json")} == before
    with pytest.raises(UserError, match=r"it differs in way"):
        rote_bench.run(tmp_path / "tiny.yaml", model="gpt2-nano", noise_rate=0, seed=0, output_path=output)
    assert main(["sweep", str(sweep), "-o", str(alone), "--workers", "1", "--stack", "2", "--quiet"]) == 1
    assert "it differs in way" in capsys.readouterr().err
    checked = rote_bench.check_report(output / "tiny/gpt2-nano/noise-0/seed-0", rerun=True)
    again = [o for o in checked.outcomes if o.claim.startswith("rerun: ") and o.claim[7:] in noisy["metrics"]]
    assert again and all("size of the stack (1 instead of 2)" in outcome.note for outcome in again)
    assert checked.holds, checked.table()


def test_a_stack_that_is_interrupted_goes_on(tmp_path: Path) -> None:
    sweep = write(
        tmp_path,
        "name: s\ntasks: [tiny.yaml]\nmodels: [gpt2-nano]\nseeds: [0, 1]\noverrides: {training: {max_steps: 150}}\n",
    )
    output, whole = tmp_path / "runs", tmp_path / "whole"
    more = ("--workers", "1", "--stack", "2")
    process = subprocess.Popen(command(sweep, output, *more), start_new_session=True)
    wait(lambda: in_the_middle(output, done=0), process)
    process.send_signal(signal.SIGINT)
    assert process.wait() == 130
    assert len(list(output.rglob("training-state.pt"))) == 2
    assert {report["status"] for report in held(output).values()} == {"interrupted"}
    for place in (output, whole):
        assert main([*command(sweep, place)[3:], *more]) == 0
    assert reports(output) == reports(whole) and len(reports(whole)) == 2


@pytest.mark.parametrize("size", ["0", "-1"])
def test_a_stack_holds_one_cell_at_least(tmp_path: Path, size: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", str(write(tmp_path, "name: s\n")), "--stack", size]) == 2
    assert f"--stack: must be at least 1, not {size}" in capsys.readouterr().err
