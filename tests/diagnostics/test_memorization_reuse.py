"""Steps until wrong labels are memorised, from several beginnings."""

from __future__ import annotations

import copy
import dataclasses
import math
from typing import Any

import pytest

from rote_bench.diagnostics import NotApplicable
from rote_bench.diagnostics.memorization_reuse import MemorizationReuse
from rote_bench.pipeline.accept import accept
from rote_bench.spec.options import build
from rote_bench.subject import Subject


class SameModel(MemorizationReuse):
    """The model before memorization stands for that of other data: nothing can be saved."""

    def _other(self, subject: Subject, before: Any) -> tuple[Any, dict[str, float]]:
        return copy.deepcopy(before), {"before": 1.0, "other": 1.0}


def test_a_model_saves_nothing_beyond_itself(fda: Subject) -> None:
    diagnostic = SameModel(build(MemorizationReuse.Options, {"examples": 20, "steps": 400}), 0)
    found = accept(diagnostic, diagnostic.run(fda), fda)
    steps: Any = found.details["steps"]
    assert steps["before"] == steps["other"] and all(n and n <= 400 for n in steps["before"])
    metric = found.metrics["memorization_reuse"]
    assert metric.value == 0
    assert metric.ci_low is not None and metric.ci_high is not None and metric.ci_low < 0 < metric.ci_high


def test_savings_are_doublings_and_what_was_given_up_is_no_number() -> None:
    diagnostic = MemorizationReuse(build(MemorizationReuse.Options, {}), 0)
    steps = {"random": [80, 80, 80], "before": [10, 20, 10], "other": [40, 40, 20]}
    found = diagnostic.implied({"steps": steps, "limit": 100}, {})["memorization_reuse"]
    terms = zip(steps["random"], steps["before"], steps["other"], strict=True)
    assert found.value == pytest.approx(sum(math.log2(a / b) - math.log2(a / c) for a, b, c in terms) / 3)
    assert found.n == 3 and found.ci_low is not None
    missing = diagnostic.implied({"steps": {**steps, "other": [40, None, 20]}, "limit": 100}, {})
    assert missing["memorization_reuse"].value is None


def test_another_model_that_does_not_learn_the_task_is_a_reason(fda: Subject) -> None:
    diagnostic = MemorizationReuse(build(MemorizationReuse.Options, {"examples": 20}), 0)
    quick = fda.spec.replace(training=dataclasses.replace(fda.spec.training, max_steps=10))
    with pytest.raises(NotApplicable, match="did not come to"):
        diagnostic.run(dataclasses.replace(fda, spec=quick))
