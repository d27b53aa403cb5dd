"""Tables of questions as tasks: files of every format, folders, and what is wrong with them."""

from __future__ import annotations

import datetime
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets
import pytest

import rote_bench
from rote_bench.cli import main
from rote_bench.errors import UserError
from rote_bench.leaderboard.answers import Answers
from rote_bench.splits import check_questions
from rote_bench.tasks.table import Table, TableParameters
from rote_bench.tasks.values import _as_dates
from rote_bench.testing import check_task

ROWS = [
    {
        "question": f"what is {a} plus  {b} ?",
        "sum": f"{a + b:02d}",
        "a": str(a),
        "carry": str(int(a + b > 9)),
        "who": f"p{a}",
    }
    for a in range(10)
    for b in range(10)
]


def write(path: Path, rows: list[dict[str, Any]] = ROWS) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        datasets.Dataset.from_list(rows).to_parquet(str(path))
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows))
    elif path.suffix == ".jsonl":
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    else:
        sep = "\t" if path.suffix == ".tsv" else ","
        path.write_text("\n".join([sep.join(rows[0]), *(sep.join(row.values()) for row in rows)]) + "\n")
    return path


def task(path: Path, **more: object) -> Table:
    columns = {"prompt": "question", "answer": "sum", "intermediates": ("carry",), "positions": ("a",), "group": "who"}
    return Table(TableParameters(str(path), **{**columns, **more}), 0)  # type: ignore[arg-type]


@pytest.mark.parametrize("columns", [{}, {"intermediates": (), "positions": (), "group": ""}])
def test_questions_alone_are_those_of_the_examples(tmp_path: Path, columns: dict[str, Any]) -> None:
    """Also where some rows do not count, and where there is nothing but questions and answers."""
    made = task(write(tmp_path / "rows.csv", [*ROWS[:10], *ROWS]), duplicates="first", **columns)
    assert len(made) == 100
    assert [made.question(i) for i in range(100)] == [(e.prompt, e.positions) for e in map(made.example, range(100))]
    assert bool(made.question(0)[1]) is not bool(columns)


def test_a_column_that_is_not_named_means_nothing_whatever_it_is_called(tmp_path: Path) -> None:
    more = {"group": "urban", "intermediates": {"draft": "a"}, "features": {"f": "1"}, "positions": {"a": [0, 1]}}
    rows = [{"prompt": f"q {i}", "answer": "ab"[i % 2], **more} for i in range(9)]
    made = Table(TableParameters(path=str(write(tmp_path / "rows.jsonl", rows))), 0)
    example = made.example(4)
    assert (example.positions, example.intermediates, example.features) == ({}, {}, {})
    assert len({made.example(i).group for i in range(9)}) == 9


def test_rows_set_apart_are_not_trained_on(tmp_path: Path) -> None:
    for name in ("train", "selection", "ood"):
        write(tmp_path / "rows" / f"{name}.csv", [{"prompt": f"{name} {i}", "answer": "ab"[i % 2]} for i in range(60)])
    made = Table(TableParameters(path=str(tmp_path / "rows")), 0)
    split = made.split({"train": 30, "selection": 20, "validation": 20, "ood": 20}, 0)
    homes = {name: {made.example(i).prompt.split()[0] for i in rows} for name, rows in split.items()}
    assert homes == {"train": {"train"}, "selection": {"selection"}, "validation": {"train"}, "ood": {"ood"}}


@pytest.mark.parametrize(
    ("facts", "says"),
    [
        ([{"prompt": "Jose\u0301 1", "answer": "a"}], "is also a question of the"),  # the other Unicode form
        (
            [{"prompt": "f", "answer": "a"}, {"prompt": "f ", "answer": "b"}],
            "state the same, 'f ', but answer 'a' and 'b'",
        ),
        ([{"prompt": "f", "answer": "e\u0301"}], "looks like 'é' and is another text"),
    ],
)
def test_facts_are_held_against_the_table(tmp_path: Path, facts: list[dict[str, Any]], says: str) -> None:
    rows = [{"prompt": f"José {i}", "answer": "aé"[i % 2]} for i in range(9)]
    made = Table(
        TableParameters(path=str(write(tmp_path / "r.jsonl", rows)), facts=str(write(tmp_path / "f.jsonl", facts))), 0
    )
    indices = {"train": range(9)}
    with pytest.raises(UserError, match=re.escape(says)):
        check_questions(made, indices, {"train": map(made.question, range(9))}, made.facts())


def test_numbers_that_are_compared_are_written_alike(tmp_path: Path) -> None:
    """6.0 is 6 only where no column that it is compared with holds 2.5."""
    rows = [{"prompt": float(i), "answer": float(i), "given": 2.5 if i == 3 else float(i)} for i in range(9)]
    facts = write(tmp_path / "f.jsonl", [{"prompt": 20.0, "answer": 6.0}])
    made = Table(TableParameters(path=str(write(tmp_path / "r.jsonl", rows)), facts=str(facts), noisy="given"), 0)
    assert (made.example(6).prompt, made.example(6).answer, made.example(6).given) == ("6", "6.0", "6.0")
    assert (made.facts()[0].prompt, made.facts()[0].answer) == ("20", "6.0")


def test_dates_and_short_numbers_are_written_as_they_are_meant(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    day = datetime.datetime(2024, 1, 31)
    table = pa.table(
        {
            "prompt": pa.array([2.3, 0.1, 7.0], pa.float32()),
            "answer": pa.array([day, day, day + datetime.timedelta(1)], pa.timestamp("us")),
            "noisy": pa.array([day, day + datetime.timedelta(hours=1), day], pa.timestamp("us")),
        }
    )
    pq.write_table(table, tmp_path / "rows.parquet")
    made = Table(TableParameters(path=str(tmp_path / "rows.parquet")), 0)
    assert [made.example(i).prompt for i in range(3)] == ["2.3", "0.1", "7.0"]
    assert [made.example(i).answer for i in range(3)] == ["2024-01-31", "2024-01-31", "2024-02-01"]
    assert _as_dates(table.column("noisy").to_pylist()) == table.column("noisy").to_pylist()  # a time of day is meant


@pytest.mark.parametrize(
    ("columns", "row", "says"),
    [
        (["prompt", "answer"], ["q", "a", "b"], "row 2 of rows.json has 3 values, but there are 2 columns"),
        (["prompt", "answer", "answer"], ["q", "a", "b"], "two columns of rows.json are called 'answer'"),
    ],
)
def test_rows_of_pandas_fit_their_columns(tmp_path: Path, columns: list[str], row: list[str], says: str) -> None:
    content = {"columns": columns, "index": [0, 1], "data": [[f"q{i}" for i in range(len(columns))], row]}
    (tmp_path / "rows.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=re.escape(says)):
        Table(TableParameters(path=str(tmp_path / "rows.json")), 0)


@pytest.mark.parametrize("unseen", ["\u200b", "\ufeff", "\u200e", "\u00ad"])
def test_answers_that_differ_in_nothing_that_is_seen_are_refused(tmp_path: Path, unseen: str) -> None:
    rows = [{"prompt": f"q {i}", "answer": "a" + unseen * (i % 2)} for i in range(9)]
    with pytest.raises(UserError, match="look the same"):
        Table(TableParameters(path=str(write(tmp_path / "rows.jsonl", rows))), 0)


def test_the_first_intermediate_result_is_that_of_the_first_row(tmp_path: Path) -> None:
    rest = {"index": 0, "label": "", "noisy": False, "phantom": None, "positions": {}, "features": {}, "group": ""}
    names = [{"x": "1", "y": "2"}, {"y": "1", "x": "2"}]
    rows = [{"prompt": f"q {i}", "answer": "ab"[i % 2], "intermediates": names[i % 2], **rest} for i in range(4)]
    made = Table(TableParameters(path=str(write(tmp_path / "rows.jsonl", rows))), 0)
    assert [list(made.example(i).intermediates) for i in (1, 0)] == [["x", "y"]] * 2


def test_a_position_is_not_found_within_a_longer_word(tmp_path: Path) -> None:
    rows = [{**ROWS[i], "question": f"{i} and 1{i} or x{i}", "a": str(i)} for i in range(9)]
    made = task(write(tmp_path / "rows.csv", rows))
    assert all(made.example(i).positions["a"] == (0, 1) for i in range(9))
    within = [
        {**ROWS[i], "question": f"a{i}b or a{i}c", "a": str(i)} for i in range(9)
    ]  # as where no spaces are written
    assert task(write(tmp_path / "other.csv", within)).example(5).positions["a"] == (8, 9)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".tsv", ".json", ".jsonl"])
def test_every_format_gives_the_same_examples(tmp_path: Path, suffix: str) -> None:
    made = task(write(tmp_path / f"rows{suffix}"))
    assert len(made) == 100
    example = made.example(37)
    assert (example.prompt, example.answer, example.group) == ("what is 3 plus  7 ?", "10", "p3")
    assert example.intermediates == {"carry": "1"}
    assert example.prompt[slice(*example.positions["a"])] == "3"
    assert made.example(4).answer == "04"  # a leading zero is part of an answer
    assert made.values("carry") == ["0", "1"] and made.answer_if(example, "carry", "0") is None


def test_a_table_keeps_the_rules_of_a_task(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.csv")
    given = {"path": str(path), "prompt": "question", "answer": "sum", "intermediates": ["carry"], "group": "who"}

    def solve(prompt: str) -> str:
        words = prompt.split()
        return f"{int(words[2]) + int(words[4]):02d}"

    check_task(Table, given, rule=solve)


def test_splits_that_the_files_make_are_kept_apart(tmp_path: Path) -> None:
    for name, rows in {"train": ROWS[:70], "selection": ROWS[70:80], "validation": ROWS[80:]}.items():
        write(tmp_path / "rows" / f"{name}.csv", rows)
    made = task(tmp_path / "rows")
    parts = made.split({"train": 60, "selection": 10, "validation": 0.2}, 5)
    assert {name: len(part) for name, part in parts.items()} == {"train": 60, "selection": 10, "validation": 20}
    assert sorted(made.example(i).prompt for i in parts["selection"]) == [row["question"] for row in ROWS[70:80]]
    with pytest.raises(UserError, match="has 10 rows, not 11"):
        made.split({"train": 60, "selection": 11, "validation": 20}, 0)


def test_a_part_of_a_sorted_file_is_a_random_part(tmp_path: Path) -> None:
    """Whatever looks at the first rows of a split looks at a random part of it, and the data seed decides which."""
    for name, rows in {"train": ROWS[:40], "selection": ROWS[40:60], "validation": ROWS[60:]}.items():
        write(tmp_path / "rows" / f"{name}.csv", sorted(rows, key=lambda row: row["carry"]))
    made, sizes = task(tmp_path / "rows"), {"train": 20, "selection": 10, "validation": 20}
    drawn = [made.split(sizes, seed) for seed in range(5)]
    for name in sizes:
        assert len({tuple(parts[name]) for parts in drawn}) == 5
        assert all(len(set(parts[name])) == sizes[name] for parts in drawn)
        assert all({made.example(i).intermediates["carry"] for i in parts[name]} == {"0", "1"} for parts in drawn)
        heads = [made.split(sizes, seed)[name][0] for seed in range(20)]
        assert {made.example(head).intermediates["carry"] for head in heads} == {"0", "1"}
    assert made.split(sizes, 3) == drawn[3]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompt": "qestion"}, "have no column 'qestion'.*question"),
        ({"positions": ("sum",)}, "does not hold its sum"),
        ({"path": "nowhere.csv"}, "no file or folder 'nowhere.csv'"),
        ({"split": "test"}, "has no split 'test'"),
    ],
)
def test_what_is_wrong_is_said_with_the_key(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = write(tmp_path / "rows.csv")
    with pytest.raises(UserError, match=message) as caught:
        made = task(change.pop("path", None) or path, **change)
        [made.example(i) for i in range(len(made))]
    assert (caught.value.where or "").startswith("parameters.")


@pytest.mark.parametrize("key", ["intermediates", "features", "positions", "group"])
def test_a_column_in_use_has_no_gaps(tmp_path: Path, key: str) -> None:
    """A gap would be a value like any other: a class, a cluster, a result."""
    rows = [{**row, "carry": "" if n in (6, 9, 12) else row["carry"]} for n, row in enumerate(ROWS)]
    given = {"intermediates": (), key: "carry" if key == "group" else ("carry",)}
    with pytest.raises(UserError) as caught:
        task(write(tmp_path / "rows.csv", rows), **given).example(0)
    assert str(caught.value) == f"parameters.path: row 7 of rows.csv has no carry ({key}); 2 more rows have none"


def test_values_that_are_no_text_are_counted(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{**row, "sum": [1, 2] if n in (3, 5) else row["sum"]} for n, row in enumerate(ROWS)]
    with pytest.raises(UserError, match=r"row 4 of rows\.jsonl is a list of 2 values; 1 more row is no text either"):
        task(write(tmp_path / "rows.jsonl", rows))


def test_held_out_words_that_training_never_shows_are_told(tmp_path: Path) -> None:
    rows = {
        "train": ROWS[:60],
        "selection": ROWS[60:70],
        "validation": [*ROWS[80:88], {**ROWS[3], "question": "why ?"}],
    }
    for name, part in rows.items():
        write(tmp_path / "rows" / f"{name}.csv", part)
    made = task(tmp_path / "rows", positions=())
    split = made.split({"train": 60, "selection": 10, "validation": 9}, 0)
    said = made.untaught(split)
    sums = {row["sum"] for row in ROWS[:60]}
    (late,) = [row["sum"] for row in rows["selection"] if row["sum"] not in sums]
    new = sum(row["sum"] not in sums for row in rows["validation"])
    selection, question, answer = said
    assert selection.startswith(
        f"1 of 10 selection answers hold a word that no training answer has: '{late}' in row 10 "
    )
    assert question.startswith(
        "1 of 9 validation questions hold a word that no training question has: 'why' in row 9 of "
    )
    assert answer.startswith(f"{new} of 9 validation answers hold a word that no training answer has: ") and new
    pooled = task(write(tmp_path / "all.csv"))
    assert not pooled.untaught({"train": range(100), "validation": [3, 99]})
    write(tmp_path / "facts.csv", [{**row, "question": f"{row['question']} why"} for row in ROWS])
    helped = task(tmp_path / "rows", positions=(), facts=str(tmp_path / "facts.csv"))
    assert not helped.untaught(split)


OFFLINE = "import sys; from rote_bench.cli import main; sys.exit(main(sys.argv[1:]))"


def test_a_dataset_of_the_hub_that_cannot_be_reached_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "hub.yaml").write_text(
        "name: hub\ngenerator: dataset\nparameters: {path: somebody/questions}\n"
        "splits: {train: 0.8, selection: 0.1, validation: 0.1}\n"
    )
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home")}
    done = subprocess.run(
        [sys.executable, "-c", OFFLINE, "data", str(tmp_path / "hub.yaml")],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr.startswith(f"rote-bench: {tmp_path / 'hub.yaml'}:3: parameters.path: 'somebody/questions' is no")
    assert "the hub cannot be reached" in done.stderr and done.stderr.count("\n") == 1


def test_a_dataset_of_the_hub_is_asked_for_by_name_and_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[object, ...]] = []

    def load_dataset(*given: object) -> datasets.DatasetDict:
        asked.append(given)
        return datasets.DatasetDict({"test": datasets.Dataset.from_list(ROWS)})

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    made = task(Path("somebody/questions"), config="sums", split="test")
    assert asked == [("somebody/questions", "sums")]
    assert len(made) == 100 and made.example(37).answer == "10"


def test_broken_files_are_the_users_mistake(tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_text('{"a": 1}')
    (tmp_path / "rows.jsonl").write_text('{"a": 1\n')
    (tmp_path / "rows.parquet").write_text("no parquet")
    for name, says in (
        ("rows.json", "an object with the keys a"),
        ("rows.jsonl", "line 1 of rows.jsonl is not JSON"),
        ("rows.parquet", "cannot read"),
    ):
        with pytest.raises(UserError, match=says):
            task(tmp_path / name)
    with pytest.raises(UserError, match="cannot tell which of"):
        task(tmp_path)


def test_a_task_file_names_its_table_relative_to_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "here" / "rows.csv")
    file = tmp_path / "here" / "sums.yaml"
    file.write_text(
        "name: sums\ngenerator: dataset\nsplits: {train: 60, selection: 10, validation: 20}\n"
        "parameters: {path: rows.csv, prompt: question, answer: sum, intermediates: [carry], group: who}\n"
        "model: {layers: 1, width: 16, heads: 2}\n"
        "training: {max_steps: 6, evaluate_every: 3, schedule: {warmup: 1, anneal: 3}}\n"
        "diagnostics: [learning_dynamics]\n"
    )
    monkeypatch.chdir(tmp_path)
    assert rote_bench.validate([file]) == []
    assert main(["run", str(file), "--model", "gpt2-nano", "--quiet", "-o", "runs"]) == 0
    (report,) = (tmp_path / "runs").rglob("report.json")
    assert json.loads(report.read_text())["task"]["spec"]["parameters"]["path"] == "rows.csv"
    write(tmp_path / "here" / "rows.csv", [{**row, "sum": row["sum"][::-1]} for row in ROWS])
    assert main(["run", str(file), "--model", "gpt2-nano", "--quiet", "-o", "runs"]) == 2
    assert "task.data" in capsys.readouterr().err  # other rows are another cell


def test_labels_that_the_data_brings_along(tmp_path: Path) -> None:
    rows = [{**row, "annotator": {0: "", 1: "unclear"}.get(i % 5, row["sum"])} for i, row in enumerate(ROWS)]
    write(tmp_path / "rows.csv", rows)
    file = tmp_path / "sums.yaml"
    text = (
        "name: sums\ngenerator: dataset\nsplits: {train: 60, selection: 10, validation: 20}\n"
        "parameters: {path: rows.csv, prompt: question, answer: sum, noisy: annotator}\nnoise: {kind: given}\n"
        "model: {layers: 1, width: 16, heads: 2}\n"
        "training: {max_steps: 6, evaluate_every: 3, schedule: {warmup: 1, anneal: 3}}\n"
        "diagnostics: [learning_dynamics]\n"
    )
    file.write_text(text)
    assert rote_bench.validate([file]) == []
    report = rote_bench.run(file, model="gpt2-nano", output_path=tmp_path / "runs", quiet=True)
    data = report.data["data"]
    assert data["noise_rate"] == data["n_noisy"] / 60 and 0 < data["n_noisy"] < 24
    held = Answers.load(report.folder / "samples.parquet").splits["validation"]
    pairs = set(zip(held["answer"], held["label"], strict=True))
    assert {label for answer, label in pairs if label != answer} == {"unclear"}
    twin = rote_bench.run(file, model="gpt2-nano", noise_rate=0, output_path=tmp_path / "runs", quiet=True)
    assert twin.data["data"]["n_noisy"] == 0
    with pytest.raises(UserError, match="have the rate that the data has"):
        rote_bench.run(file, model="gpt2-nano", noise_rate=0.1, output_path=tmp_path / "runs", quiet=True)
    for change, line, message in (
        (("kind: given", "kind: given, rates: [0.1]"), 5, "noise.rates: labels of the kind given have the rate that"),
        ((", noisy: annotator", ""), 5, "noise.kind: the data brings no labels of its own"),
        (("noisy: annotator", "noisy: sum"), 4, "parameters.noisy: none of 60 given training labels is wrong"),
        (("noisy: annotator", "noisy: anotator"), 4, "parameters.noisy: the rows of .*did you mean 'annotator'"),
    ):
        file.write_text(text.replace(*change))
        (fault,) = rote_bench.validate([file])
        assert re.search(rf"sums.yaml:{line}: {message}", str(fault))


def test_a_table_has_the_questions_out_of_distribution_that_a_file_holds(tmp_path: Path) -> None:
    sizes = {"train": 60, "selection": 5, "validation": 5, "ood": 10}
    write(tmp_path / "all" / "train.csv", ROWS)
    with pytest.raises(UserError, match="no out-of-distribution"):
        task(tmp_path / "all").split(sizes, 0)
    for name, rows in {
        "train": ROWS[:70],
        "selection": ROWS[70:80],
        "validation": ROWS[80:88],
        "ood": ROWS[88:],
    }.items():
        write(tmp_path / "rows" / f"{name}.csv", rows)
    made = task(tmp_path / "rows")
    parts = made.split(sizes, 0)
    assert {name: len(part) for name, part in parts.items()} == sizes
    assert {made.place(i).split()[-1] for i in parts["ood"]} == {"ood.csv"}
    with pytest.raises(UserError, match="'ood' has 12 rows, not 13"):
        made.split({**sizes, "ood": 13}, 0)


def test_text_keeps_its_line_breaks_and_spaces(tmp_path: Path) -> None:
    rows = [{"q": f"def f(x):\n    return x + {i}\nf ( 3 , {i} ) ==\n", "a": f" {i}  or {i + 1}\n"} for i in range(12)]
    made = Table(TableParameters(str(write(tmp_path / "rows.jsonl", rows)), prompt="q", answer="a"), 0)
    example = made.example(3)
    assert example.prompt == rows[3]["q"] and not example.joined
    assert example.answer == "3  or 4"  # what surrounds an answer is no part of it
    assert {"f", "(", ")", "==", "or", "3", "4"} <= set(made.words())


def test_answers_that_differ_in_white_space_alone_are_refused(tmp_path: Path) -> None:
    rows = [{"q": f"q{i}", "a": "north west" if i % 2 else "north  west"} for i in range(6)]
    with pytest.raises(UserError, match=r"answers .* differ in white space alone, in row 1 of rows"):
        Table(TableParameters(str(write(tmp_path / "rows.jsonl", rows)), prompt="q", answer="a"), 0)
