"""What `validate` finds beyond the shape of a file: splits that do not fit, labels that cannot be drawn."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path
from typing import Any

import pytest

from rote_bench.cli import main
from rote_bench.errors import UserError
from rote_bench.noise import NoiseKind
from rote_bench.plugins import Registry
from rote_bench.spec import preflight
from rote_bench.spec.loader import load_task, shipped
from rote_bench.spec.model import TaskSpec
from rote_bench.spec.options import build
from rote_bench.spec.preflight import check_drawable, examine_file, locate_fault
from rote_bench.tasks.example import Task

SMALL = """name: small
generator: two_hop
parameters: {form: symbols, entities: 8, bridges: 4, answers: 6, relations: 5}
splits: {train: 0.8, selection: 0.1, validation: 0.1}
"""


def lines(path: Path, text: str, registry: Registry) -> list[str]:
    path.write_text(text)
    return [str(fault) for fault in examine_file(path, registry).faults]


@pytest.mark.parametrize("name", sorted(shipped()))
def test_shipped_tasks_can_be_drawn_with_every_profile(registry: Registry, name: str) -> None:
    assert examine_file(name, registry).faults == []


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        (SMALL.replace("0.8", "900"), 4, "splits: the splits ask for 940 examples but the task has 200"),
        (SMALL.replace("0.8", "0.001"), 4, "splits.train: the split 'train' would be empty"),
        (SMALL + "noise:\n  kind: bridge_swap\n  options: {intermediate: nope}\n", 7, "no intermediate result 'nope'"),
        (SMALL + "noise:\n  kind: structured\n  rates: [0.05, 0.001]\n", 5, "covers as little as 0.001"),
        (SMALL + "noise:\n  options: {matrix: {x: {y: 1}}}\n  kind: class_conditional\n", 6, "'x' is no answer of"),
        (SMALL + "noise:\n  kind: class_conditional\n  options: {spread: 0}\n", 7, "0 is less than 1"),
        (SMALL + "noise:\n  options: {matrix: MATRIX}\n  kind: class_conditional\n", 6, "is no answer of the task"),
        (SMALL + "noise:\n  rates: [0.05, 0.9999]\n", 6, "noise.rates: a rate of 0.9999 leaves none of 160"),
        (
            SMALL.replace("symbols", "symbols, facts: prompt, chains: 1, reading: 9").replace("0.8", "900"),
            3,
            "ask the same",
        ),
    ],
)
def test_data_that_cannot_be_made(registry: Registry, tmp_path: Path, text: str, line: int, says: str) -> None:
    path = tmp_path / "task.yaml"
    matrix = ", ".join(f"e{i}: {{unheard: 1}}" for i in range(18))
    (fault,) = lines(path, text.replace("MATRIX", f"{{{matrix}}}"), registry)
    assert fault.startswith(f"{path}:{line}: ") and says in fault


TABLE = """name: table
generator: dataset
parameters:
  path: rows.csv
  facts: facts
splits: {train: 8, selection: 1, validation: 1}
noise: {rates: [0.2]}
model: {layers: 1, width: 16, heads: 2}
training: {max_steps: 4, evaluate_every: 2, schedule: {warmup: 1, anneal: 2}}
diagnostics: [learning_dynamics]
"""
OTHERS = {"index": 0, "label": "a", "noisy": False, "phantom": None, "group": ""}  # columns of an exported task


def nested(prompt: str = "q", answer: str = "a", **columns: dict[str, Any]) -> str:
    """A row of an exported task."""
    own = {"positions": {"a": [0, 1]}, "intermediates": {}, "features": {}, **columns}
    return json.dumps({"prompt": prompt, "answer": answer, **OTHERS, **own}) + "\n"


@pytest.mark.parametrize(
    ("files", "line", "says"),
    [
        ({"rows.csv": "q 3,b\n"}, 4, "row {} of rows.csv and row {} of rows.csv ask the same: 'q 3'"),
        ({"facts/two.csv": "prompt,answer\nf 2,a\nq 5,b\n"}, 5, "row 2 of two.csv is also a question of the "),
        ({"facts/two.csv": "prompt,answer\nf 2,\n"}, 5, "row 1 of two.csv has no answer"),
        ({"facts/two.csv": "prompt,nothing\nf 2,a\n"}, 3, "of two.csv have no column 'answer'"),
        ({"facts/two.csv": "prompt,answer\n"}, 5, "two.csv holds no rows"),
        ({"rows.csv": "q 10,\n"}, 4, "row 11 of rows.csv has no answer"),
        ({"rows.jsonl": nested(positions={"a": [0, 9]})}, 3, "0 to 9, is no part of its question"),
        ({"rows.jsonl": nested(positions={"a": [0]})}, 4, "'a' of row 1 of rows.jsonl is no pair of numbers but [0]"),
        ({"rows.jsonl": nested() + nested("r", positions={})}, 3, "the position 'a', unlike"),
        (
            {"rows.jsonl": nested(intermediates={"m": "b"})},
            3,
            "the intermediate result 'm', unlike",
        ),
        ({"rows.jsonl": nested(features={"m": "b"})}, 3, "the feature 'm', unlike"),
    ],
)
def test_mistakes_in_tables_are_found_before_anything_is_trained(
    registry: Registry, tmp_path: Path, files: dict[str, str], line: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """By `validate`, and by a run just the same: one line with its place, and exit code 2."""
    (tmp_path / "facts").mkdir()
    (tmp_path / "facts" / "one.csv").write_text("prompt,answer\nf 1,a\n")
    (tmp_path / "rows.csv").write_text("prompt,answer\n" + "".join(f"q {i},{'ab'[i % 2]}\n" for i in range(10)))
    path = tmp_path / "task.yaml"
    path.write_text(TABLE)
    assert examine_file(path, registry).faults == []  # facts in two files are no mistake
    for name, text in files.items():
        with (tmp_path / name).open("a") as file:
            file.write(text)
    table = tmp_path / next((name for name in files if name.startswith("rows")), "rows.csv")
    if table.suffix == ".jsonl":
        more = [nested(f"s{i}", "ab"[i]) for i in range(2)]
        table.write_text(table.read_text() + "".join(more))
    rows = len(table.read_text().splitlines()) - (table.suffix == ".csv")  # all of them are drawn
    path.write_text(TABLE.replace("rows.csv", table.name).replace("train: 8", f"train: {rows - 2}"))
    (fault,) = (str(fault) for fault in examine_file(path, registry).faults)
    start, *rest = says.split("{}")
    assert fault.startswith(f"{path}:{line}: ") and start in fault and all(part in fault for part in rest)
    if "{}" in says:
        assert {"row 4 of", "row 11 of"} <= {f"row {n} of" for n in re.findall(r"row (\d+) of", fault)}
    assert main(["run", str(path), "--model", "gpt2-nano", "--quiet", "-o", str(tmp_path / "runs")]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and start in said
    assert not list((tmp_path / "runs").rglob("report.json"))


@pytest.mark.parametrize(
    ("keys", "row", "says"),
    [
        (["positions: [last]"], {"last": "q"}, "parameters.positions: no position can be called 'last': that is the"),
        ([], {"positions": {"last": [0, 1]}}, "parameters.positions: no position can be called 'last': that is the"),
        ([], {"positions": {"answer_12": [0, 1]}}, "no position can be called 'answer_12': that is what predicts a"),
        ([], {"intermediates": {"answer": "a"}}, "no intermediate result can be called 'answer': that is the true"),
        (["answer: told", "intermediates: [answer]"], {"told": "a"}, "no intermediate result can be called 'answer'"),
    ],
)
def test_a_name_that_the_harness_gives_itself_is_no_tasks_own(
    registry: Registry,
    tmp_path: Path,
    keys: list[str],
    row: dict[str, Any],
    says: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Were it one, answers would be read at another place than they are given at."""
    path = tmp_path / "task.yaml"
    path.write_text(TABLE.replace("path: rows.csv", "\n  ".join(["path: rows.jsonl", *keys])))
    whole = {**OTHERS, "positions": {}, "intermediates": {}, "features": {}} if not keys else {}
    rows = [{"prompt": f"q {i}", "answer": "ab"[i % 2], **whole, **row} for i in range(10)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "facts").mkdir()
    (tmp_path / "facts" / "one.jsonl").write_text(json.dumps({"prompt": "f 1", "answer": "a", "told": "a"}))
    (fault,) = (str(fault) for fault in examine_file(path, registry).faults)
    assert fault.startswith(f"{path}:") and says in fault and "give it another name" in fault
    run = ["run", str(path), "--model", "gpt2-nano", "--quiet", "-o", str(tmp_path / "runs")]
    for command in (run, ["data", str(path)]):
        assert main(command) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1 and says in said


def test_noise_that_leaves_nothing_true_is_the_users_mistake(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "task.yaml"
    path.write_text(SMALL)
    assert main(["run", str(path), "--model", "gpt2-nano", "--noise-rate", "0.9999", "--quiet", "-o", "runs"]) == 2
    said = capsys.readouterr().err
    assert "leaves none of 160 training examples its true label" in said and said.count("\n") == 1


def test_faults_of_all_profiles_and_of_inherited_ones_come_together(registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(SMALL + "profiles:\n  huge:\n    splits: {train: 5000}\n  good: {version: 2}\n")
    path = tmp_path / "task.yaml"
    found = lines(path, "extends: base.yaml\nprofiles:\n  odd: {training: {batch_size: 0}}\n", registry)
    assert len(found) == 2
    assert any(f.startswith(f"{tmp_path / 'base.yaml'}:7: splits") for f in found)
    assert any(f.startswith(f"{path}:3: training.batch_size: 0 is less than 1") for f in found)
    shared = lines(path, "extends: base.yaml\ngenerator: two_hops\n", registry)
    assert len(shared) == 1  # however many profiles have it


def test_examples_that_do_not_fit_in_memory_are_never_made(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = load_task("fda", registry)
    module = importlib.import_module("rote_bench.splits")
    monkeypatch.setattr(module, "memory_at_hand", lambda: 1_000_000)
    monkeypatch.setattr(registry.table("tasks")["addition"], "example", None)  # any use of it would fail
    (fault,) = check_drawable(spec, registry)
    assert "do not fit in memory" in str(fault) and str(fault).startswith(f"{shipped()['fda']}:")


def test_a_sample_that_fails_is_no_fault_when_the_whole_can_be_drawn(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "task.yaml"
    path.write_text(SMALL + "noise: {kind: structured, rates: [0.2]}\n")
    spec = load_task(path, registry)
    monkeypatch.setattr(preflight, "SAMPLE", 2)  # one of two examples is far more than 0.2
    with pytest.raises(UserError):
        preflight._draw(*_made(spec, registry), spec, (0.2,), {"train": [0, 1], "selection": [], "validation": [2, 3]})
    assert check_drawable(spec, registry) == []


def _made(spec: TaskSpec, registry: Registry) -> tuple[Task, NoiseKind]:
    task, kind = registry.table("tasks")[spec.generator], registry.table("noise")[spec.noise.kind]
    return (
        task(build(task.Parameters, spec.parameters), 0),
        kind(build(kind.Options, spec.noise.options)),
    )


def test_faults_about_other_things_keep_their_place(registry: Registry) -> None:
    error = UserError("no", where="--model")
    assert locate_fault(error, load_task("thr", registry)) is error


def test_a_fault_of_an_inherited_profile_names_it_and_null_takes_the_profile_out(
    tmp_path: Path, registry: Registry
) -> None:
    (tmp_path / "base.yaml").write_text(
        SMALL + "profiles:\n  large: {splits: {train: 1.0}}\n  right: {splits: {train: 0.7}}\n"
    )
    child = tmp_path / "child.yaml"
    found = lines(child, "extends: base.yaml\n", registry)
    assert found and all("in profile large" in line and "base.yaml" in line for line in found)
    assert lines(child, "extends: base.yaml\nprofiles: {large: null}\n", registry) == []
    with pytest.raises(UserError, match="has no profile 'large'"):
        load_task(child, registry, profile="large")
    found = lines(child, "extends: base.yaml\nprofiles: {huge: null}\n", registry)
    assert any("profiles.huge" in line for line in found)


BENCHMARKS = sorted(Path(__file__).parents[2].glob("benchmarks/*.yaml"))


@pytest.mark.parametrize("path", BENCHMARKS, ids=lambda path: path.name)
def test_task_files_of_the_benchmarks_are_valid(registry: Registry, path: Path) -> None:
    assert examine_file(path, registry).faults == []
