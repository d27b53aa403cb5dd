"""The curve and the answers at the end vouch for each other."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import rote_bench
from rote_bench import splits
from rote_bench.measurement import disagreement
from rote_bench.training.curve import Levels

HITS = {"validation": 90, "train_clean": 100, "train_noisy": 70}  # right answers, of the first 100 of each
LEVELS = Levels(
    validation_accuracy=0.9,
    train_clean_accuracy=1.0,
    memorization_rate=0.25,
    noisy_true_rate=0.7,
    phantom_rate=None,
    selection_accuracy=None,
)


def samples(beyond: bool = True) -> dict[str, list[Any]]:
    """Of each split 100 questions that the curve asked, and 900 more that are answered quite otherwise."""
    found: dict[str, list[Any]] = {"split": [], "is_answer": [], "is_label": []}
    for split, right in HITS.items():
        found["split"] += [split] * 1000
        found["is_answer"] += [True] * right + [False] * (100 - right) + [beyond] * 900
        found["is_label"] += [False] * 75 + [True] * 25 + [beyond] * 900
    return found


@pytest.mark.parametrize("beyond", [True, False])
def test_the_same_questions_are_compared(beyond: bool) -> None:
    assert disagreement(LEVELS, samples(beyond), 100) is None
    assert disagreement(LEVELS, samples(beyond), 1000) is not None


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"validation_accuracy": 0.85}, "validation_accuracy is 0.850 at the end of the curve, and 0.900 by the"),
        ({"train_clean_accuracy": 0.95}, "train_clean_accuracy is 0.950"),
        ({"memorization_rate": 0.3}, "memorization_rate is 0.300 at the end of the curve, and 0.250"),
        ({"noisy_true_rate": 0.65}, "noisy_true_rate is 0.650"),
        ({"noisy_true_rate": 0.69}, None),  # one question of a hundred, that hangs on rounding
        ({"memorization_rate": None, "noisy_true_rate": None}, None),
    ],
)
def test_each_share_is_compared(changed: dict[str, float | None], says: str | None) -> None:
    found = disagreement(replace(LEVELS, **changed), samples(), 100)
    assert found is None if says is None else found is not None and says in found and "100 questions" in found


@pytest.mark.parametrize("column", ["first", "last"])
def test_answers_that_are_read_at_another_token_are_said(
    tmp_path: Path, column: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a position called ``last`` would have them read, were it not refused."""
    monkeypatch.setattr(splits, "reserved", lambda what, name: None)
    rows = [{"prompt": f"w{i % 7} v{i}", "answer": "abc"[i % 3], column: f"w{i % 7}"} for i in range(120)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "task.yaml").write_text(
        f"""name: table
generator: dataset
parameters: {{path: rows.jsonl, positions: [{column}]}}
splits: {{train: 80, selection: 20, validation: 20}}
noise: {{rates: [0.2]}}
model: {{layers: 1, width: 16, heads: 2}}
training: {{max_steps: 4, evaluate_every: 2, schedule: {{warmup: 1, anneal: 2}}}}
diagnostics: [learning_dynamics]
"""
    )
    rote_bench.run(tmp_path / "task.yaml", model="gpt2-nano", output_path=tmp_path / "runs", quiet=True)
    (file,) = (tmp_path / "runs").rglob("report.json")
    said = [text for text in json.loads(file.read_text())["warnings"] if "do not trust this report" in text]
    assert len(said) == (column == "last")
