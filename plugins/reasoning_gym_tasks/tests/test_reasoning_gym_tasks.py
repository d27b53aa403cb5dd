"""Questions of Reasoning Gym keep the rules of a task, and the harness runs them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

import rote_bench
from rote_bench.errors import UserError
from rote_bench.plugin import Task
from rote_bench.plugins import load
from rote_bench.testing import check_task

FILE = Path(__file__).parent.parent / "reasoning_gym_tasks.py"
SUMS = {"dataset": "chain_sum", "options": {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1}}


def task() -> type[Task]:
    found: type[Task] = load([FILE]).table("tasks")["reasoning_gym"]
    return found


def made(**parameters: Any) -> Task:
    cls = task()
    return cls(cls.Parameters(**{**SUMS, "draws": 500, **parameters}), 0)


def test_sums_keep_the_rules() -> None:
    pytest.importorskip("reasoning_gym")

    def solve(prompt: str) -> str:
        left, sign, right = prompt.split()[-4:-1]
        return str(int(left) + int(right) if sign == "+" else int(left) - int(right))

    checked = check_task(task(), {**SUMS, "draws": 500, "features": ["num_terms"]}, rule=solve)
    example = checked.example(0)
    assert example.prompt[slice(*example.positions["expression"])] == " ".join(example.prompt.split()[-4:-1])
    assert example.features == {"num_terms": "2"}


def test_the_seed_decides_the_questions_and_each_stands_once() -> None:
    pytest.importorskip("reasoning_gym")
    cls, one = task(), made()
    other = cls(cls.Parameters(**{**SUMS, "draws": 500}), 1)
    assert [one.example(i).prompt for i in range(20)] != [other.example(i).prompt for i in range(20)]
    prompts = [one.example(i).prompt for i in range(len(one))]
    assert len(set(prompts)) == len(prompts) < 500
    (said,) = one.remarks()
    assert said.startswith("chain_sum of Reasoning Gym ") and f"data seed 0: {len(one)} different questions" in said


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"dataset": "chain_sums"}, "no data set 'chain_sums' (it has chain_sum"),
        (
            {"options": {"min_terms": 3, "max_terms": 2}},
            "chain_sum refuses its options: max_terms must be >= min_terms",
        ),
        ({"options": {"terms": 3}}, "chain_sum refuses its options"),
        ({"features": ("carry",)}, "chain_sum has no metadata 'carry' (it has expression, "),
        (
            {"dataset": "graph_color", "options": {}, "draws": 5},
            "graph_color has questions without one answer that is a text",
        ),
    ],
)
def test_what_cannot_be_asked_is_the_users_mistake(parameters: dict[str, Any], said: str) -> None:
    pytest.importorskip("reasoning_gym")
    with pytest.raises(UserError) as caught:
        made(**parameters)
    assert said in str(caught.value)


def test_without_the_library_the_plugin_loads_and_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)
    with pytest.raises(UserError, match="pip install reasoning-gym"):
        made()


def test_its_task_file_is_valid_and_runs(tmp_path: Path) -> None:
    pytest.importorskip("reasoning_gym")
    file = FILE.with_suffix(".yaml")
    assert rote_bench.validate([file], plugins=[FILE]) == []
    overrides = {
        "parameters": {**SUMS, "draws": 500},
        "model": {"layers": 1, "width": 16, "heads": 2},
        "training.max_steps": 8,
        "training.evaluate_every": 4,
        "training.schedule": {"warmup": 1, "anneal": 4},
        "diagnostics": ["learning_dynamics", "logit_lens"],
    }
    report = rote_bench.run(
        file, model="gpt2-nano", overrides=overrides, plugins=[FILE], output_path=tmp_path, quiet=True
    )
    assert {entry.status for entry in report.record.diagnostics.values()} <= {"success", "not_applicable"}
    assert report.record.task.name == "reasoning_gym"
