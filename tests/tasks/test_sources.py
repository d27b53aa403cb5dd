"""Splits that come with a table are kept apart, and questions that stand twice never count twice."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import datasets
import pytest

import rote_bench
from rote_bench import api
from rote_bench.errors import UserError
from rote_bench.tasks.sources import role_of
from rote_bench.tasks.table import Table, TableParameters

SIZES = {"train": 20, "selection": 5, "validation": 10}


def folder(path: Path, **files: int) -> Path:
    """A folder of CSV files with so many questions each; their answers say which file it was."""
    for file, count in files.items():
        name = file.replace("__", "/")
        at = path / f"{name}.csv"
        at.parent.mkdir(parents=True, exist_ok=True)
        at.write_text("prompt,answer\n" + "".join(f"{name} {i} ?,{name}\n" for i in range(count)))
    return path


def drawn(path: Path | str, sizes: dict[str, Any] = SIZES, seed: int = 0, **given: Any) -> dict[str, Counter[str]]:
    """How many rows of which file each split has; no row in two splits."""
    made = Table(TableParameters(str(path), **given), seed)
    parts = made.split(sizes, seed)
    rows = [i for part in parts.values() for i in part]
    assert len(set(rows)) == len(rows)
    return {name: Counter(made.example(i).answer for i in part) for name, part in parts.items()}


@pytest.mark.parametrize(
    ("files", "homes"),
    [
        ({"train": 30, "validation": 9, "test": 12}, ("train", "validation", "test")),
        ({"train": 30, "dev": 9, "test": 12}, ("train", "dev", "test")),
        ({"q_train": 30, "q_valid": 9, "q_test": 12}, ("q_train", "q_valid", "q_test")),
        ({"train__0001": 30, "dev__0001": 9, "test__0001": 12}, ("train/0001", "dev/0001", "test/0001")),
        ({"train": 30, "test": 12}, ("train", "train", "test")),
        ({"train": 30, "val": 12}, ("train", "train", "val")),
        ({"train": 30, "selection": 6, "test": 12}, ("train", "selection", "test")),
        ({"train": 30, "selection": 6, "validation": 12, "test": 40}, ("train", "selection", "validation")),
    ],
)
def test_official_test_rows_are_never_trained_on(tmp_path: Path, files: dict[str, int], homes: tuple[str, ...]) -> None:
    path = folder(tmp_path, **files)
    for seed in range(3):
        assert drawn(path, seed=seed) == {
            name: Counter({home: SIZES[name]}) for name, home in zip(SIZES, homes, strict=True)
        }
    assert set(drawn(path, pool=True)["train"]) != {homes[0]}


def test_shards_of_a_split_belong_together(tmp_path: Path) -> None:
    path = folder(tmp_path, **{f"{n}-0000{i}-of-00002": 15 for n in ("train", "test") for i in range(2)})
    found = drawn(path)
    assert len(found["validation"]) == 2 and all(name.startswith("test-") for name in found["validation"])
    assert all(name.startswith("train-") for split in ("train", "selection") for name in found[split])


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"test": 50}, "holds the official split test, but has no split to train on"),
        ({"train": 50, "other": 50}, "holds the official split train, but cannot tell whether other may be trained on"),
        ({"dev": 50, "test": 50}, "holds the official splits dev, test, but has no split to train on"),
        ({"train": 50, "test": 50, "more": 50}, "cannot tell whether more may be trained on"),
    ],
)
def test_what_the_names_leave_open_has_to_be_said(tmp_path: Path, files: dict[str, int], says: str) -> None:
    path = folder(tmp_path, **files)
    with pytest.raises(UserError, match=re.escape(says)):
        drawn(path)
    assert sum(map(len, drawn(path, pool=True).values()))
    name = next(iter(files))
    assert drawn(path, split=name)["train"] == {name: 20}
    assert drawn(path / f"{name}.csv")["train"] == {name: 20}  # who names a file means it


def test_files_without_such_names_are_drawn_from_together(tmp_path: Path) -> None:
    found = drawn(folder(tmp_path, one=30, two=30))
    assert set(found["train"]) == {"one", "two"}


def test_too_small_a_split_is_said_with_its_rows(tmp_path: Path) -> None:
    path = folder(tmp_path, train=20, test=12)
    with pytest.raises(UserError, match=r"train and selection are drawn from train, which has 20 rows, not 20 and 5"):
        drawn(path)
    with pytest.raises(UserError, match=r"the split 'validation' is drawn from test, which has 12 rows, not 13"):
        drawn(path, {"train": 10, "selection": 5, "validation": 13})


def test_splits_of_the_hub_are_kept_apart_too(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {
        n: [{"prompt": f"{n} {i}", "answer": n} for i in range(30)] for n in ("train", "test", "validation_matched")
    }
    made = datasets.DatasetDict({name: datasets.Dataset.from_list(each) for name, each in rows.items()})
    monkeypatch.setattr(datasets, "load_dataset", lambda *given: made)
    assert drawn("somebody/questions") == {
        "train": {"train": 20},
        "selection": {"validation_matched": 5},
        "validation": {"test": 10},
    }


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("test", "test"),
        ("TestSet", "test"),
        ("mawps_dev", "dev"),
        ("train2", "train"),
        ("validation_mismatched", "dev"),
        ("train_test", None),
        ("contest", None),
        ("q", None),
    ],
)
def test_what_a_name_says(name: str, role: str | None) -> None:
    assert role_of(name) == role


def test_validate_says_from_where_splits_are_drawn(tmp_path: Path) -> None:
    folder(tmp_path / "data", train=30, test=12)
    file = tmp_path / "task.yaml"
    file.write_text(
        "name: t\ngenerator: dataset\nparameters: {path: data}\nsplits: {train: 20, selection: 5, validation: 10}\n"
    )
    assert rote_bench.validate([file]) == []
    said, *_ = api.remarks([file])
    assert said.startswith(f"{file}:3: the splits are drawn apart: train from train, selection from train, validation")


TWICE = [("a", "1"), ("b", "2"), ("a", "1"), ("c", "3"), ("b", "9"), ("b", "2")]


def table(path: Path, rows: list[tuple[str, str]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("prompt,answer\n" + "".join(f"{q},{a}\n" for q, a in rows))
    return path


@pytest.mark.parametrize(
    ("how", "kept"),
    [("first", [("a", "1"), ("b", "2"), ("c", "3")]), ("agreeing", [("a", "1"), ("c", "3")])],
)
def test_questions_that_stand_twice_count_once(tmp_path: Path, how: str, kept: list[tuple[str, str]]) -> None:
    path = table(tmp_path / "q.csv", TWICE)
    made = Table(TableParameters(str(path), duplicates=how), 0)  # type: ignore[arg-type]
    assert [((e := made.example(i)).prompt, e.answer) for i in range(len(made))] == kept
    assert made.place(len(kept) - 1) == "row 4 of q.csv" and any("do not count" in said for said in made.remarks())
    if how == "first":
        assert sorted(i for part in made.split(dict.fromkeys(SIZES, 1), 0).values() for i in part) == [0, 1, 2]


def test_questions_that_stand_twice_are_refused_with_both_rows(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        Table(TableParameters(str(table(tmp_path / "q.csv", TWICE))), 0)
    assert "row 1 of q.csv and row 3 of q.csv ask the same: 'a'; 2 more rows repeat a question" in str(caught.value)
    with pytest.raises(UserError, match=r"row 1 of q.csv and row 2 of q.csv ask the same but answer '2' and '9': 'b'"):
        Table(TableParameters(str(table(tmp_path / "q.csv", [TWICE[1], TWICE[4]]))), 0)
    composed, apart = "caf\u00e9 ?", "cafe\u0301 ?"
    with pytest.raises(UserError, match="ask the same"):
        Table(TableParameters(str(table(tmp_path / "q.csv", [(composed, "1"), (apart, "1")]))), 0)
    with pytest.raises(UserError, match=r"two Unicode forms that look the same, in row 1 of q.csv and row 2"):
        Table(TableParameters(str(table(tmp_path / "q.csv", [("a", composed), ("b", apart)]))), 0)


def test_a_question_of_two_splits_stays_in_train(tmp_path: Path) -> None:
    shared = [(f"s {i}", "x") for i in range(5)]
    for name, own in (("dev", 20), ("test", 20), ("train", 40)):
        table(tmp_path / "d" / f"{name}.csv", [*shared, *((f"{name} {i}", name) for i in range(own))])
    with pytest.raises(UserError, match=r"row 1 of train.csv and row 1 of dev.csv ask the same"):
        drawn(tmp_path / "d")
    found = drawn(tmp_path / "d", {"train": 45, "selection": 20, "validation": 20}, duplicates="first")
    assert found == {"train": {"train": 40, "x": 5}, "selection": {"dev": 20}, "validation": {"test": 20}}


def test_a_position_is_found_in_either_unicode_form(tmp_path: Path) -> None:
    path = tmp_path / "q.csv"
    path.write_text("prompt,answer,who\n" + "".join(f"land {i} of Jose\u0301 ?,a{i},Jos\u00e9\n" for i in range(3)))
    example = Table(TableParameters(str(path), positions=("who",)), 0).example(1)
    assert example.prompt[slice(*example.positions["who"])] == "Jose\u0301"
