"""Multi-hop reasoning keeps the rules of a task at every number of hops, and the harness runs it."""

from __future__ import annotations

from pathlib import Path

import pytest

import rote_bench
from rote_bench.plugins import load
from rote_bench.testing import check_task

FILE = Path(__file__).parent.parent / "multi_hop.py"


@pytest.mark.parametrize("hops", [2, 3, 5])
def test_every_number_of_hops_keeps_the_rules(hops: int) -> None:
    cls = load([FILE]).table("tasks")["multi_hop"]
    known = {f.prompt: f.answer for f in cls(cls.Parameters(hops=hops), 0).facts()}

    def solve(prompt: str) -> str:
        entity, *path = prompt.split()
        for relation in path:
            entity = known[f"{entity} {relation}"]
        return entity

    check_task(cls, {"hops": hops}, rule=solve)


def test_a_changed_intermediate_result_changes_the_answer() -> None:
    cls = load([FILE]).table("tasks")["multi_hop"]
    task = cls(cls.Parameters(), 0)
    example = task.example(77)
    implied = {task.answer_if(example, "after_2", value) for value in task.values("after_2")}
    assert implied == set(task.entities)  # relations are permutations
    assert task.answer_if(example, "after_9", "e1") is None


def test_neighbours_differ_in_what_they_say() -> None:
    cls = load([FILE]).table("tasks")["multi_hop"]
    task = cls(cls.Parameters(), 0)
    for index in (0, 77, len(task) - 1):
        example = task.example(index)
        for kind, others in task.neighbours(example).items():
            for other in others:
                words = zip(example.prompt.split(), task.example(other).prompt.split(), strict=True)
                differs = [k for k, (x, y) in enumerate(words) if x != y]
                assert differs == ([3] if kind == "last_relation" else [0])


def test_its_task_file_is_valid_and_runs(tmp_path: Path) -> None:
    task = FILE.with_suffix(".yaml")
    assert rote_bench.validate([task], plugins=[FILE]) == []
    overrides = [
        "model={layers: 2, width: 32, heads: 2, activation: relu}",
        "training.max_steps=20",
        "training.evaluate_every=10",
        "training.schedule={warmup: 5, anneal: 10}",
        "diagnostics=[learning_dynamics, probe, interchange]",
    ]
    report = rote_bench.run(
        task, model="gpt2-nano", limit=100, overrides=overrides, plugins=[FILE], output_path=tmp_path, quiet=True
    )
    assert {d["status"] for d in report.data["diagnostics"].values()} <= {"success", "not_applicable"}
