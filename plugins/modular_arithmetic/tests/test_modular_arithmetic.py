"""Modular arithmetic keeps the rules of a task, and the harness runs it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import rote_bench
from rote_bench.plugins import load
from rote_bench.testing import check_task

FILE = Path(__file__).parent.parent / "modular_arithmetic.py"


@pytest.mark.parametrize(
    ("operation", "rule"),
    [
        ("add", lambda a, b: (a + b) % 23),
        ("subtract", lambda a, b: (a - b) % 23),
        ("multiply", lambda a, b: (a * b) % 23),
        ("squares", lambda a, b: (a**2 + b**2) % 23),
    ],
)
def test_every_operation_keeps_the_rules(operation: str, rule: Callable[[int, int], int]) -> None:
    task = load([FILE]).table("tasks")["modular_arithmetic"]

    def solve(prompt: str) -> str:
        words = prompt.split()
        return str(rule(int(words[0]), int(words[2])))

    check_task(task, {"modulus": 23, "operation": operation}, rule=solve)


def test_a_modulus_that_is_no_prime_is_the_users_mistake(tmp_path: Path) -> None:
    task = tmp_path / "task.yaml"
    text = FILE.with_suffix(".yaml").read_text().replace("97, operation", "98, operation")
    task.write_text(text)
    (fault,) = {str(f) for f in rote_bench.validate([task], plugins=[FILE])}
    assert "must be a prime" in fault and "task.yaml:" in fault


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
    assert report.data["task"]["name"] == "modular_arithmetic"
