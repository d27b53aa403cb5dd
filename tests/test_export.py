"""Exported tasks: what is written, and that it runs."""

from __future__ import annotations

import json
from pathlib import Path

import datasets
import pytest
import yaml

import rote_bench
from rote_bench.cli import main
from rote_bench.export import COLUMNS, to_dataset
from rote_bench.noise import Labelled
from rote_bench.tasks.example import Example
from tests.conftest import SMALL_THR


@pytest.fixture
def small(tmp_path: Path) -> Path:
    file = tmp_path / "task.yaml"
    file.write_text(SMALL_THR)
    return file


def test_splits_are_datasets(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = rote_bench.dataset(small, noise_rate=0.1)
    assert "examples/s" not in capsys.readouterr().err and not datasets.are_progress_bars_disabled()
    assert isinstance(made, datasets.DatasetDict)
    assert set(made) == {"train", "selection", "validation", "facts"}
    assert made["train"].column_names == list(COLUMNS)
    train = made["train"].to_list()
    assert sum(row["noisy"] for row in train) == round(0.1 * len(train))
    assert all(row["noisy"] == (row["label"] != row["answer"]) for row in train)
    for row in made["validation"].to_list():
        assert row["label"] == row["answer"] and not row["noisy"] and row["phantom"] not in (None, row["answer"])
        start, stop = row["positions"]["entity"]
        assert row["prompt"][start:stop] == row["features"]["entity"]


def test_an_exported_folder_is_a_dataset_and_a_task(small: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    assert main(["data", str(small), "--export", str(folder)]) == 0
    loaded = datasets.load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))  # by the card's own description
    assert set(loaded) == {"train", "selection", "validation"}
    card = (folder / "README.md").read_text()
    head = yaml.safe_load(card.split("---")[1])
    assert {c["config_name"] for c in head["configs"]} == {"default", "facts"}
    assert rote_bench.validate([folder / "task.yaml"]) == []
    original = {(e["prompt"], e["answer"]) for e in rote_bench.data(small, n=10_000)}
    exported = rote_bench.data(folder, n=10_000)
    assert {(e["prompt"], e["answer"]) for e in exported} == original
    assert exported[0]["positions"].keys() == {"entity", "relation_1", "relation_2"}
    arguments = ["--set", "training.max_steps=6", "--set", "training.schedule={warmup: 1, anneal: 3}"]
    arguments += ["--set", "training.evaluate_every=3", "--set", "diagnostics=[learning_dynamics, logit_lens, probe]"]
    assert main(["run", str(folder), "--model", "gpt2-nano", "--quiet", "-o", str(tmp_path / "runs"), *arguments]) == 0
    (report,) = (tmp_path / "runs").rglob("report.json")
    found = json.loads(report.read_text())
    assert found["data"]["counts"] == {name: len(part) for name, part in rote_bench.dataset(small).items()}
    assert found["diagnostics"]["probe"]["status"] == "success"


def test_questions_out_of_distribution_are_exported_too(small: Path, tmp_path: Path) -> None:
    small.write_text(SMALL_THR.replace("validation: 0.12}", "validation: 0.1, ood: 20}"))
    assert main(["data", str(small), "--export", str(tmp_path / "out")]) == 0
    assert rote_bench.validate([tmp_path / "out" / "task.yaml"]) == []
    first, again = (rote_bench.data(task, split="ood", n=30) for task in (small, tmp_path / "out"))
    assert len(first) == 20 and all(row["phantom_label"] not in (None, row["answer"]) for row in first)
    assert {row["prompt"] for row in again} == {row["prompt"] for row in first}
    rows = rote_bench.dataset(small)["ood"].to_list()
    assert all(row["label"] == row["answer"] and row["phantom"] != row["answer"] for row in rows)


def test_a_folder_that_is_in_use_stays_as_it_is(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    assert main(["data", str(small), "--export", str(tmp_path / "full")]) == 2
    assert "is not empty" in capsys.readouterr().err
    assert [p.name for p in (tmp_path / "full").iterdir()] == ["mine.txt"]


def test_a_question_that_the_noise_leaves_alone_has_no_phantom_label() -> None:
    examples = (Example("p", "a"), Example("q", "a"))
    part = Labelled(examples, ("b", "a"), (0, 1))
    assert to_dataset(part, held_out=True)["phantom"] == ["b", None]
    assert to_dataset(part)["phantom"] == [None, None] and to_dataset(part)["noisy"] == [True, False]


def test_labels_that_the_data_brought_along_go_with_it(tmp_path: Path) -> None:
    """Those taught, and the phantoms of held-out questions; the folder as a task has the same."""
    rows = [f"q{i % 20} r{i // 20},{'abc'[i % 3]},{'abc'[(i + (i % 7 == 0)) % 3]}" for i in range(200)]
    (tmp_path / "rows.csv").write_text("\n".join(["prompt,answer,by", *rows]))
    (tmp_path / "task.yaml").write_text(
        "name: own\ngenerator: dataset\nparameters: {path: rows.csv, noisy: by}\n"
        "splits: {train: 120, selection: 30, validation: 50}\nnoise: {kind: given}\n"
        "training: {max_steps: 400}\ndiagnostics: [learning_dynamics]\n"
    )
    assert main(["data", str(tmp_path / "task.yaml"), "--export", str(tmp_path / "out")]) == 0

    def labels(place: Path) -> set[tuple[str, str, str | None]]:
        made = rote_bench.dataset(place)
        taught = {(r["prompt"], r["label"], None) for r in made["train"].to_list() if r["noisy"]}
        return taught | {(r["prompt"], r["answer"], r["phantom"]) for r in made["validation"].to_list() if r["phantom"]}

    assert labels(tmp_path / "out") == labels(tmp_path / "task.yaml") and len(labels(tmp_path / "out")) > 10
    card = (tmp_path / "out" / "README.md").read_text()
    assert "Exported by rote-bench" in card and "synthetic" not in card


def test_a_column_of_labels_that_is_not_taught_is_remarked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [f"q{i % 20} r{i // 20},{'abc'[i % 3]},{'abc'[(i + (i % 7 == 0)) % 3]}" for i in range(200)]
    (tmp_path / "rows.csv").write_text("\n".join(["prompt,answer,by", *rows]))
    for kind, said in (("uniform, rates: [0.1]", True), ("given", False)):
        (tmp_path / "task.yaml").write_text(
            "name: own\ngenerator: dataset\nparameters: {path: rows.csv, noisy: by}\n"
            f"splits: {{train: 120, selection: 30, validation: 50}}\nnoise: {{kind: {kind}}}\n"
        )
        assert main(["validate", str(tmp_path / "task.yaml")]) == 0
        found = capsys.readouterr()
        assert ("'by' are taught by noise of the kind given alone" in found.out + found.err) is said
