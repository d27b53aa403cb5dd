"""Boolean circuits keep the rules of a task, and the harness runs them."""

from __future__ import annotations

from pathlib import Path

import pytest

import rote_bench
from rote_bench.plugins import load
from rote_bench.testing import check_task

FILE = Path(__file__).parent.parent / "boolean_circuits.py"


def solve(prompt: str) -> str:
    """Reduces the innermost brackets until one bit a tree is left."""
    out = []
    for tree in prompt.removesuffix("=").split(";"):
        words = tree.split()
        while ")" in words:
            close = words.index(")")
            a, name, b = words[close - 3 : close]
            assert words[close - 4] == "("
            result = {"and": a + b == "11", "or": "1" in a + b, "xor": a != b, "nand": a + b != "11"}[name]
            words[close - 4 : close + 1] = [str(int(result))]
        out += words
    return " ".join(out)


@pytest.mark.parametrize(("depth", "width"), [(1, 1), (1, 3), (2, 1), (2, 3), (3, 2)])
def test_every_size_keeps_the_rules(depth: int, width: int) -> None:
    task = check_task(
        load([FILE]).table("tasks")["boolean_circuits"], {"depth": depth, "width": width}, rule=solve, examples=150
    )
    for index in range(0, len(task), max(1, len(task) // 50)):
        example = task.example(index)
        assert {example.prompt[slice(*span)] for span in example.positions.values()} <= {"and", "or", "xor", "nand"}


def test_a_replaced_gate_changes_the_answer_as_a_constant_in_its_place_would() -> None:
    cls = load([FILE]).table("tasks")["boolean_circuits"]
    task = cls(cls.Parameters(depth=2, width=1), 0)
    changed = 0
    for index in range(0, len(task), 37):
        example = task.example(index)
        rest = example.prompt[2:].partition(")")[2]
        for value in "01":
            expected = solve(f"( {value}{rest}")
            assert task.answer_if(example, "gate_0_0", value) == expected
            changed += expected != example.answer
    assert changed > 5


def test_its_task_file_is_valid_and_runs(tmp_path: Path) -> None:
    task = FILE.with_suffix(".yaml")
    assert rote_bench.validate([task], plugins=[FILE]) == []
    overrides = [
        "model={layers: 2, width: 32, heads: 2, activation: relu}",
        "training.max_steps=20",
        "training.evaluate_every=10",
        "training.schedule={warmup: 5, anneal: 10}",
    ]
    report = rote_bench.run(
        task, model="gpt2-nano", limit=100, overrides=overrides, plugins=[FILE], output_path=tmp_path, quiet=True
    )
    assert {d["status"] for d in report.data["diagnostics"].values()} <= {"success", "not_applicable"}
