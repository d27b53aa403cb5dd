"""A snapshot opened again gives the very answers that its report has, and leaves its caller alone."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path

import pytest
import torch

import rote_bench
from rote_bench.cli import main
from rote_bench.errors import UserError

OWN = """
name: own
generator: dataset
parameters: {path: rows.csv}
splits: {train: 60, selection: 10, validation: 20}
model: {layers: 1, width: 16, heads: 2}
training: {max_steps: 8, evaluate_every: 4, precision: float32, schedule: {warmup: 1, anneal: 4}}
diagnostics: [learning_dynamics]
"""


@pytest.fixture
def cell(thr_cell: Path, tmp_path: Path) -> Path:
    shutil.copytree(thr_cell, tmp_path / "cell")
    return tmp_path / "cell"


@pytest.mark.parametrize("name", ["pre", "post_memorization"])
def test_a_snapshot_gives_the_answers_of_its_report(thr_cell: Path, name: str) -> None:
    report = rote_bench.load_report(thr_cell)
    before = torch.get_rng_state(), torch.get_num_threads(), list(warnings.filters)
    opened = report.load(name)
    after = torch.get_rng_state(), torch.get_num_threads(), list(warnings.filters)
    assert torch.equal(before[0], after[0]) and before[1:] == after[1:]
    with torch.no_grad():
        right = [
            float(view.correct(opened.model(input_ids=view.input_ids).logits).double().mean())
            for view in (opened.validation.true, opened.noisy.taught)
        ]
    curve = report.curve().loc[opened.step]
    stated = [report.value(m) for m in ("validation_accuracy", "memorization_rate")]
    if name == "pre":
        stated = [None, curve["memorization_rate"]]  # the curve's held-out questions are some of them
    assert [a for a, b in zip(right, stated, strict=True) if b is not None] == pytest.approx(
        [b for b in stated if b is not None]
    )
    assert opened.step == report.record.training.snapshots[opened.name] and str(opened.step) in repr(opened)


def test_its_examples_have_labels_and_named_positions(thr_cell: Path) -> None:
    opened = rote_bench.load_report(thr_cell).load()
    noisy = opened.noisy
    assert all(label != e.answer for label, e in zip(noisy.labelled.labels, noisy.labelled.examples, strict=True))
    assert len(opened.clean) > len(noisy) > 0
    example, places = noisy.labelled.examples[0], noisy.places
    for name, (start, end) in example.positions.items():
        token = int(noisy.true.input_ids[0, places[name][0]])
        assert opened.tokenizer.decode([token]) == example.prompt[start:end]


def test_a_snapshot_that_is_not_there_is_named(cell: Path) -> None:
    report = rote_bench.load_report(cell)
    with pytest.raises(UserError, match="did you mean 'post_memorization'"):
        report.load("post_memorisation")
    with pytest.raises(UserError, match="there is pre_memorization and post_memorization"):
        report.load("twin")
    weights = cell / "checkpoints" / "post_memorization" / "model.safetensors"
    shutil.copy(cell / "checkpoints" / "pre_memorization" / "model.safetensors", weights)
    with pytest.raises(UserError, match=r"model\.safetensors: is not the file that the report names"):
        report.load()
    stated = json.loads((cell / "report.json").read_text())
    stated["data"]["fingerprint"] = "0" * 64
    (cell / "report.json").write_text(json.dumps(stated))
    with pytest.raises(UserError, match="the examples made again are others"):
        rote_bench.load_report(cell).load("pre")


def test_questions_in_files_need_their_task(tmp_path: Path) -> None:
    rows = [f"{a} plus {b} is,{a + b}" for a in range(10) for b in range(10)]
    (tmp_path / "rows.csv").write_text("\n".join(["prompt,answer", *rows]))
    (tmp_path / "own.yaml").write_text(OWN)
    task, output = str(tmp_path / "own.yaml"), str(tmp_path / "runs")
    assert main(["run", task, "--model", "gpt2-nano", "--noise-rate", "0.1", "-o", output, "--quiet"]) == 0
    (file,) = (tmp_path / "runs").rglob("report.json")
    report = rote_bench.load_report(file)
    with pytest.raises(UserError, match=r"files that do not come with a report \(name your own.*task=\.\.\.\)"):
        report.load()
    assert len(report.load(task=task).noisy) == report.record.data.n_noisy == 6
    assert main(["leaderboard", "check", output, "--quiet"]) == 3
    assert main(["leaderboard", "check", output, "--task", task, "--rerun", "--quiet"]) == 0
    assert main(["leaderboard", "check", output, "--task", "thr", "--quiet"]) == 3, "another task"
    (tmp_path / "rows.csv").write_text((tmp_path / "rows.csv").read_text().replace("9 plus 9 is,18", "9 plus 9 is,17"))
    assert main(["leaderboard", "check", output, "--task", task, "--quiet"]) == 1
    (tmp_path / "own.yaml").write_text(OWN.replace("train: 60", "train: 59"))
    with pytest.raises(UserError, match=r"own\.yaml: it is not the task of the report"):
        report.load(task=task)


def test_a_cell_that_was_not_trained_kept_none(tmp_path: Path) -> None:
    from tests.reports import report

    with pytest.raises(UserError, match="was not trained, and kept no snapshots"):
        rote_bench.Report(report(), tmp_path).load()
