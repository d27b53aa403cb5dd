"""A comparison from its trials to its cells: both rounds, the choices, the protocol, and going on from anywhere."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import rote_bench
from rote_bench.cli import main
from rote_bench.comparison import protocol
from rote_bench.comparison.trials import DIVERGED
from rote_bench.errors import UserError
from rote_bench.plugins import Registry
from rote_bench.sweep.cells import plan
from rote_bench.sweep.comparing import compare
from rote_bench.sweep.definition import load
from rote_bench.sweep.phases import Phases
from tests.sweep.test_conduct import command, everyone, needs_ray, reports, wait

TINY = """
name: tiny
generator: addition
parameters: {digits: 1}
splits: {train: 60, selection: 10, validation: 20}
noise: {rates: [0.1]}
model: {layers: 1, width: 16, heads: 2}
training:
  batch_size: 32
  max_steps: 60
  evaluate_every: 4
  precision: float32
  schedule: {warmup: 2, anneal: 20, hold_until: 0.1}
diagnostics: [learning_dynamics, logit_lens]
"""
SWEEP = """name: both
title: Two models
tasks: [tiny.yaml]
models:
  - llama-nano
  - {model: gpt2-nano, overrides: {training: {schedule: {hold_until: 1.0}}}}
noise_rates: [0, 0.1]
seeds: [0]
tuning:
  seeds: [100]
  configurations:
    wild: {training: {learning_rate: 1.0e+30, adam_learning_rate: 1.0e+30}}
    calm: {training: {learning_rate: 0.02, adam_learning_rate: 0.006}}
  memorised: 0.1
"""
FIRST = [f"tuning/{name}/tiny/{m}/noise-0/seed-100" for name in ("calm", "wild") for m in ("gpt2-nano", "llama-nano")]
SECOND = "tuning/calm/tiny/llama-nano/noise-0.1/seed-100"
CELLS = [f"tiny/llama-nano/noise-{rate}/seed-0" for rate in ("0", "0.1")]


def written(folder: Path, text: str = SWEEP) -> Path:
    (folder / "tiny.yaml").write_text(TINY)
    path = folder / "both.yaml"
    path.write_text(text)
    return path


def swept(path: Path, output: Path) -> dict[str, Any]:
    return dict(rote_bench.sweep_cells(path, output_path=output, workers=1, quiet=True))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A comparison that nothing disturbed."""
    folder = tmp_path_factory.mktemp("both")
    return folder / "runs", swept(written(folder), folder / "runs")


@pytest.fixture
def output(whole: tuple[Path, Any], tmp_path: Path) -> Path:
    """A copy of its output folder, beside a copy of its files."""
    written(tmp_path)
    return Path(shutil.copytree(whole[0], tmp_path / "runs"))


def test_trials_come_before_the_choice_and_cells_have_the_recipe_that_was_chosen(
    whole: tuple[Path, dict[str, Any]],
) -> None:
    folder, result = whole
    assert result["complete"] and result["counts"] == {"done": 7}
    phases = {cell["folder"]: cell["phase"] for cell in result["cells"]}
    assert phases == {**dict.fromkeys(FIRST, "first round"), SECOND: "second round", **dict.fromkeys(CELLS, "cells")}
    assert [(each["phase"], each["done"], each["planned"]) for each in result["phases"]] == [
        ("first round", 4, 4),
        ("second round", 1, 1),
        ("cells", 2, 2),
    ]
    chosen, missing = result["choices"]
    assert (chosen["model"], chosen["configuration"], chosen["reason"]) == ("llama-nano", "calm", None)
    assert (missing["model"], missing["configuration"]) == ("gpt2-nano", None)
    assert missing["reason"] == "not learned within the budget"
    made = {name: json.loads((folder / name / "report.json").read_text()) for name in phases}
    for name in (*CELLS, SECOND):
        training = made[name]["task"]["spec"]["training"]
        assert training["learning_rate"] == 0.02 and training["schedule"]["settle"] == chosen["settle"]
        assert made[name]["training"]["steps"] == chosen["steps"] == chosen["settle"] + 20
    assert {made[name]["task"]["spec"]["training"]["schedule"]["settle"] for name in FIRST} == {"event"}
    assert [list(made[name]["diagnostics"]) for name in (SECOND, CELLS[0])] == [
        ["learning_dynamics"],
        ["learning_dynamics", "logit_lens"],
    ]


def test_a_trial_that_diverges_is_done_and_says_so(whole: tuple[Path, dict[str, Any]]) -> None:
    folder, result = whole
    reasons = {cell["folder"]: cell["reason"] for cell in result["cells"] if cell["reason"]}
    assert set(reasons) == {name for name in FIRST if "wild" in name}
    assert all(reason.startswith(DIVERGED) for reason in reasons.values())
    kept = json.loads((folder / FIRST[2] / "report.json").read_text())
    assert kept["status"] == "failed"


def test_the_protocol_holds_rules_and_choices_with_their_numbers(whole: tuple[Path, dict[str, Any]]) -> None:
    found = protocol.read(whole[0] / "both.protocol.json")
    assert found["planned"] == 2 and found["tuning"]["seeds"] == [100] and found["tuning"]["noise_rate"] == 0.1
    chosen = next(each for each in found["choices"] if each["model"] == "llama-nano")
    wild, calm = chosen["table"]
    assert wild["settled"] == [None] and not wild["finalist"] and wild["memorised_at"] is None
    assert calm["chosen"] and calm["finalist"] and calm["settle"] == chosen["settle"]
    assert calm["steps"] == chosen["steps"] and 0 < calm["memorised_at"][0] <= calm["steps"]


def test_what_is_done_is_not_done_again_and_a_title_is_no_rule(
    whole: tuple[Path, Any], output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = SWEEP.replace("Two models", "Another title").replace(
        "seeds: [0]\n", "seeds: [0]\nrun: {threads_per_cell: 1}\n"
    )
    path = written(output.parent, text)
    before = (output / "both.protocol.json").read_text()
    assert main(["sweep", str(path), "-o", str(output)]) == 0
    said = capsys.readouterr().out
    assert "7 cells: 7 done" in said and "second round: 1 of 1" in said
    assert (
        "tiny gpt2-nano: not learned within the budget" in said and "tiny llama-nano: calm, the rate falls from" in said
    )
    assert (output / "both.protocol.json").read_text() == before
    kept = json.loads((output / "both.sweep.json").read_text())
    assert all(cell["skipped"] for cell in kept["cells"])


@pytest.mark.parametrize("left", [FIRST[:1] + FIRST[2:], [*FIRST, SECOND], [*FIRST, SECOND, CELLS[0]]])
def test_it_goes_on_from_wherever_it_was_stopped(whole: tuple[Path, Any], output: Path, left: Sequence[str]) -> None:
    for file in list(output.rglob("report.json")):
        if file.parent.relative_to(output).as_posix() not in left:
            shutil.rmtree(file.parent)
    if CELLS[0] not in left:
        (output / "both.protocol.json").unlink()
    result = swept(output.parent / "both.yaml", output)
    assert result["complete"] and {cell["folder"] for cell in result["cells"] if cell["skipped"]} == set(left)
    assert reports(output) == reports(whole[0])
    assert protocol.read(output / "both.protocol.json") == protocol.read(whole[0] / "both.protocol.json")


CHANGES = [
    ("memorised: 0.1", "memorised: 0.2"),
    ("seeds: [0]", "seeds: [0, 1]"),
    ("learning_rate: 0.02", "learning_rate: 0.03"),
    ("  - llama-nano\n", ""),
    ("noise_rates: [0, 0.1]", "noise_rates: [0, 0.1, 0.2]"),
    ("noise_rates: [0, 0.1]", "noise_rates: [0, 0.1]\nrun: {dtype: bfloat16}"),
]


@pytest.mark.parametrize(("old", "new"), CHANGES)
def test_rules_do_not_change_once_cells_are_run(
    output: Path, old: str, new: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(output.parent, SWEEP.replace(old, new))
    before = {file: file.read_bytes() for file in output.glob("*.json")}
    assert main(["sweep", str(path), "-o", str(output)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "has other rules than the sweep file has now" in line and "such as tiny/llama-nano/noise-0" in line
    assert "give the sweep another name and output folder" in line
    assert {file: file.read_bytes() for file in output.glob("*.json")} == before


def phases(path: Path, output: Path, registry: Registry) -> Phases:
    definition = load(path)
    planned = compare(definition, plan(definition, registry, output=output), registry)
    assert planned is not None
    return Phases(planned, output, registry)


def test_rules_may_change_while_no_cell_has_begun(output: Path, registry: Registry) -> None:
    path = written(output.parent, SWEEP.replace("memorised: 0.1", "memorised: 0.2"))
    with pytest.raises(UserError, match="other rules"):
        phases(path, output, registry)
    shutil.rmtree(output / "tiny")
    assert phases(path, output, registry).known is None


def test_other_choices_than_those_of_the_cells_are_refused(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = output / "both.protocol.json"
    kept = protocol.read(file)
    kept["choices"][0]["settle"] += 1
    protocol.write(file, kept)
    assert main(["sweep", str(output.parent / "both.yaml"), "-o", str(output), "--quiet"]) == 2
    said = capsys.readouterr().err
    assert "has other choices than the trials here come to: llama-nano at tiny has calm from step" in said


def test_a_protocol_that_is_none_is_refused(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (output / "both.protocol.json").write_text("{}")
    assert main(["sweep", str(output.parent / "both.yaml"), "-o", str(output), "--quiet"]) == 2
    assert "is no protocol" in capsys.readouterr().err


def test_without_a_trial_there_is_no_choice_and_no_cell(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(output / "tiny")
    (output / "both.protocol.json").unlink()
    (output / FIRST[1] / "report.json").write_bytes((output / SECOND / "report.json").read_bytes())  # another recipe's
    assert main(["sweep", str(output.parent / "both.yaml"), "-o", str(output)]) == 1
    said = capsys.readouterr().out
    assert f"{FIRST[1]}: failed: " in said and "no cell was run: the recipes of all models must be known before" in said
    assert "first round: 3 of 4" in said and "tiny gpt2-nano: not learned within the budget" in said
    assert not (output / "tiny").exists() and not (output / "both.protocol.json").exists()
    assert not json.loads((output / "both.sweep.json").read_text())["complete"]


def test_another_sweep_takes_over_the_choices(whole: tuple[Path, Any], output: Path) -> None:
    more = output.parent / "more.yaml"
    more.write_text(
        "name: more\ntasks: [tiny.yaml]\nmodels: [llama-nano]\nnoise_rates: [0.2]\nseeds: [7]\ntuning: both.yaml\n"
    )
    before = reports(output)
    result = swept(more, output)
    assert [cell["folder"] for cell in result["cells"] if not cell["skipped"]] == ["tiny/llama-nano/noise-0.2/seed-7"]
    assert result["complete"] and [each["model"] for each in result["choices"]] == ["llama-nano"]
    after = reports(output)
    assert {name: after[name] for name in before} == before
    cell = after["tiny/llama-nano/noise-0.2/seed-7"]
    assert cell["task"]["spec"]["training"] == after[CELLS[1]]["task"]["spec"]["training"]
    assert protocol.read(output / "more.protocol.json")["choices"] == [
        each for each in protocol.read(output / "both.protocol.json")["choices"] if each["model"] == "llama-nano"
    ]


def test_what_is_not_planned_yet_is_foretold_as_it_may_be(tmp_path: Path, registry: Registry) -> None:
    found = phases(written(tmp_path), tmp_path / "runs", registry)
    assert {job.name for job in found.first()} == set(FIRST) and found.peek([]) == []
    assert found.totals() == {"first round": 4, "second round": 4, "cells": 4}
    later = found.later()
    assert len(later) == 8 and {job.phase for job in later} == {"second round", "cells"}
    assert all(job.spec.training.schedule.settle == 40 for job in later)
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
@pytest.mark.parametrize("executor", ["local", pytest.param("ray", marks=needs_ray)])
def test_a_comparison_killed_in_each_phase_ends_as_if_nothing_had_happened(
    whole: tuple[Path, Any], tmp_path: Path, executor: str
) -> None:
    path, folder, how = written(tmp_path), tmp_path / "runs", ("--executor", executor, "--workers", "1")
    for done in (1, 4, 6):  # in the first round, in the second, among the cells
        process = subprocess.Popen(command(path, folder, *how), start_new_session=True)
        wait(lambda done=done: len(list(folder.rglob("report.json"))) >= done, process)  # type: ignore[misc]
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for pid in everyone(folder):
            os.kill(pid, signal.SIGKILL)
        wait(lambda: not everyone(folder))
    assert subprocess.run(command(path, folder, *how), check=False).returncode == 0
    assert reports(folder) == reports(whole[0])
    assert protocol.read(folder / "both.protocol.json") == protocol.read(whole[0] / "both.protocol.json")
