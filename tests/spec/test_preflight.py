"""What `validate` finds beyond the shape of a file: splits that do not fit, labels that cannot be drawn."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from rote_bench.errors import UserError
from rote_bench.noise import NoiseKind
from rote_bench.plugins import Registry
from rote_bench.spec import preflight
from rote_bench.spec.loader import load_task, shipped
from rote_bench.spec.model import TaskSpec
from rote_bench.spec.options import build
from rote_bench.spec.preflight import check_drawable, locate_fault, validate_file
from rote_bench.tasks.example import Task

SMALL = """name: small
generator: two_hop
parameters: {form: symbols, entities: 8, bridges: 4, answers: 6, relations: 5}
splits: {train: 0.8, selection: 0.1, validation: 0.1}
"""


def lines(path: Path, text: str, registry: Registry) -> list[str]:
    path.write_text(text)
    return [str(fault) for fault in validate_file(path, registry)]


@pytest.mark.parametrize("name", sorted(shipped()))
def test_shipped_tasks_can_be_drawn_with_every_profile(registry: Registry, name: str) -> None:
    assert validate_file(name, registry) == []


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        (SMALL.replace("0.8", "900"), 4, "splits: the splits ask for 940 examples but the task has 200"),
        (SMALL.replace("0.8", "0.001"), 4, "splits.train: the split 'train' would be empty"),
        (SMALL + "noise:\n  kind: bridge_swap\n  options: {intermediate: nope}\n", 7, "no intermediate result 'nope'"),
        (SMALL + "noise:\n  kind: structured\n  rates: [0.05, 0.001]\n", 5, "covers as little as 0.001"),
        (SMALL + "noise:\n  options: {matrix: {x: {y: 1}}}\n  kind: class_conditional\n", 6, "no wrong answer for"),
    ],
)
def test_data_that_cannot_be_made(registry: Registry, tmp_path: Path, text: str, line: int, says: str) -> None:
    path = tmp_path / "task.yaml"
    (fault,) = lines(path, text, registry)
    assert fault.startswith(f"{path}:{line}: ") and says in fault


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
    monkeypatch.setattr(module, "available_memory", lambda: 1_000_000)
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
