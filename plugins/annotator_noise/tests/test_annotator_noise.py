"""The annotators keep the rules of a kind of noise, and err as their options say."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import rote_bench
from rote_bench.plugins import load
from rote_bench.testing import check_noise, small_subject

FILE = Path(__file__).parent.parent / "annotator_noise.py"


@pytest.mark.parametrize("options", [{}, {"annotators": 2, "spread": 1.0}, {"spread": 0.0, "habit": 0.0}])
def test_they_keep_the_rules(options: dict[str, Any]) -> None:
    check_noise(load([FILE]).table("noise")["annotators"], options)


def test_rates_average_to_the_rate_and_spread_as_asked() -> None:
    cls = load([FILE]).table("noise")["annotators"]
    rates = cls(cls.Options(annotators=5, spread=1.0)).rates(0.1)
    assert sum(rates) / 5 == pytest.approx(0.1)
    assert rates == sorted(rates) and rates[0] == pytest.approx(0) and rates[-1] == pytest.approx(0.2)


def test_habits_make_some_wrong_answers_frequent() -> None:
    cls = load([FILE]).table("noise")["annotators"]
    task = small_subject().task
    examples = [task.example(i) for i in range(1000)]

    def most(habit: float) -> float:
        labels = cls(cls.Options(annotators=2, habit=habit)).draw(task, examples, random.Random(0))
        return Counter(labels).most_common(1)[0][1] / len(labels)

    assert most(1.0) > 1.5 * most(0.0)


def test_a_task_file_can_name_them(tmp_path: Path) -> None:
    task = tmp_path / "task.yaml"
    task.write_text(
        "name: t\ngenerator: two_hop\nsplits: {train: 2000, selection: 100, validation: 100}\n"
        "noise: {kind: annotators, rates: [0.1], options: {annotators: 3}}\n"
    )
    rows = rote_bench.data(task, n=10, plugins=[FILE])
    assert sum(row["noisy"] for row in rows) == 5
