"""What reports of trials say, and which planned trial a report is of."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rote_bench.comparison.choice import Learned
from rote_bench.comparison.trials import diverged, key_of, key_of_report, learned, memorised_at, tells
from rote_bench.errors import UserError
from rote_bench.plugins import Registry
from rote_bench.report import record
from rote_bench.report.write import load_report
from rote_bench.spec.loader import load_task
from rote_bench.training.curve import Evaluation
from tests.reports import report


def point(step: int, selection: float | None, memorised: float | None = None) -> dict[str, Any]:
    return Evaluation(
        step=step,
        examples_seen=step,
        epoch=0.0,
        seconds=0.0,
        loss=1.0,
        lr=0.01,
        selection_accuracy=selection,
        memorization_rate=memorised,
    ).plain()


def trial(points: list[dict[str, Any]], **training: Any) -> record.Report:
    made = report(details={"learning_dynamics": {"curve": points}}, rate=0)
    recipe = {"max_steps": 100, "evaluate_every": 10, "schedule": {"warmup": 5, "anneal": 40, "hold_until": 0.9}}
    spec = {**made.task.spec, "training": {**recipe, **training}}
    return replace(made, task=replace(made.task, spec=spec), data=replace(made.data, counts={"selection": 200}))


def test_a_trial_is_judged_by_its_last_evaluation_and_by_when_it_settled() -> None:
    made = trial([point(20, 0.5), point(30, 0.91), point(70, 0.95)])
    assert learned(made) == Learned(190, 200, 30)
    assert learned(trial([point(20, 0.5), point(70, 0.95)], evaluation_examples=100)).asked == 100


def test_what_is_learned_after_the_rate_had_to_fall_was_not_settled_by_itself() -> None:
    assert learned(trial([point(60, 0.91), point(100, 1.0)])).settled == 60
    assert learned(trial([point(61, 0.91), point(100, 1.0)])).settled is None


def test_memorising_is_the_first_step_that_gives_enough_wrong_labels() -> None:
    made = trial([point(20, 0.5, 0.1), point(30, 0.9, 0.98), point(40, 0.9, 0.97)])
    assert (memorised_at(made, 0.98), memorised_at(made, 0.99)) == (30, None)


def test_a_training_that_diverged_did_not_learn_and_any_other_failure_says_nothing() -> None:
    broken = replace(report(status="failed"), error="FloatingPointError: the loss is not finite at step 3")
    assert diverged(broken) and tells(broken)
    assert learned(broken) == Learned(0, 0, None) and memorised_at(broken, 0.98) is None
    assert not tells(report(status="failed"))


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (report(), "no curve"),
        (trial([{"step": 1}]), "no evaluation"),
        (trial([point(1, None)]), "no questions of the selection split"),
        (trial([point(1, 1.0)], max_steps="many"), "max_steps"),
    ],
)
def test_a_report_that_does_not_say_is_refused(made: record.Report, says: str) -> None:
    with pytest.raises(UserError, match=says):
        learned(made)
    with pytest.raises(UserError, match="no wrong labels"):
        memorised_at(trial([point(1, 1.0)]), 0.98)


def test_a_report_is_known_as_that_of_the_plan_that_made_it(registry: Registry, thr_cell: Path) -> None:
    spec, made = load_task(thr_cell.parents[4] / "task.yaml", registry), load_report(thr_cell)
    assert key_of(spec, "gpt2-nano", 0.05) == key_of_report(made)
    assert key_of(spec.replace(diagnostics=()), "gpt2-nano", 0.05) == key_of_report(made)
    others = [
        key_of(spec, "gpt2-nano", 0.0),
        key_of(spec, "llama-nano", 0.05),
        key_of(spec.replace(seeds=replace(spec.seeds, order=7)), "gpt2-nano", 0.05),
        key_of(spec.replace(training=replace(spec.training, learning_rate=0.03)), "gpt2-nano", 0.05),
        key_of(spec.replace(model={**spec.model, "width": 32}), "gpt2-nano", 0.05),
        key_of(spec.replace(parameters={**spec.parameters, "relations": 15}), "gpt2-nano", 0.05),
    ]
    assert len({*others, key_of_report(made)}) == 7
