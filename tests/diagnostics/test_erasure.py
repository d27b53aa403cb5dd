"""Erasure takes a concept away, loses to a concept without meaning, and refuses to take nearly all."""

from __future__ import annotations

from dataclasses import replace as changed
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
from scipy.stats import t as student

from rote_bench.diagnostics import NotApplicable
from rote_bench.diagnostics.erasure import Erasure, ErasureOptions
from rote_bench.noise import Labelled
from rote_bench.subject import Subject
from tests.diagnostics.reports import details, value

FEW = ErasureOptions(examples=160, fit_examples=1500)


def with_examples(subject: Subject, change: Any) -> Subject:
    """The same subject whose examples say something else of themselves; the model sees no difference."""

    def other(part: Labelled) -> Labelled:
        return changed(part, examples=tuple(change(e) for e in part.examples))

    data = subject.data
    parts = {name: other(getattr(data, name)) for name in ("train", "selection", "validation")}
    return changed(subject, data=changed(data, **parts))


def test_erasing_the_bridge_hurts_more_than_random_partitions_do(thr_report: dict[str, Any]) -> None:
    assert value(thr_report, "reasoning_reliance_validation") > 0.3
    found = details(thr_report, "erasure")
    for fit in found["fits"]:
        assert fit["rank"]["control"] == fit["rank"]["leace"] == 5
        assert fit["variance_removed"]["random"] == pytest.approx(fit["variance_removed"]["leace"], abs=0.05)
        assert 0 < fit["variance_removed"]["control"] < fit["variance_removed"]["leace"]
    at = found["chosen_layer"] - 1
    assert found["draws"][at] == 20
    left = found["lines"]["selection"]
    (low, right, high), control, intact = (
        tuple(left[name][key][at] for key in ("ci_low", "value", "ci_high")) for name in ("leace", "control", "intact")
    )
    assert right < intact[1] / 2 and right < control[1] / 2 and low < high < control[0]
    # how wide the interval of so few questions is hangs on the processor
    assert (found["not_removed"] is None) == (high <= intact[0] / 2)
    again = found["read_again"]
    assert again["layers"][0] == found["chosen_layer"]
    assert again["erased"]["value"][0] < again["chance"] + 0.2 < again["intact"]["value"][0]


def test_what_the_erasure_takes_beyond_its_control_follows_from_the_records(
    thr_cell: Path, thr_report: dict[str, Any]
) -> None:
    rows = pyarrow.parquet.read_table(thr_cell / "erasure.parquet").to_pylist()
    found = details(thr_report, "erasure")
    at = found["chosen_layer"] - 1
    for name, split, asked in (("memorization", "train_noisy", "label"), ("validation", "validation", "true")):
        asked_for = [r for r in rows if (r["split"], r["asked"]) == (split, asked)]
        intact = np.array([r["intact"] for r in asked_for], dtype=float)
        lost = intact.mean() - np.mean([r["leace"][at] for r in asked_for])
        draws = intact.mean() - np.array([r["control"] for r in asked_for], dtype=float).mean(0)
        metric = thr_report["metrics"][f"reasoning_reliance_{name}"]
        assert len(draws) == 20
        assert metric["value"] == pytest.approx((lost - draws.mean()) / intact.mean())
        reach = student.ppf(0.975, 19) * draws.std(ddof=1) * np.sqrt(1 + 1 / 20) / intact.mean()
        assert metric["ci_low"] < metric["value"] - reach and metric["value"] + reach < metric["ci_high"]


@pytest.mark.parametrize("draw", range(3))
def test_a_partition_that_takes_as_much_as_the_concept_wins(thr: Subject, draw: int) -> None:
    """What is erased is a partition like those of the control: the bridges, dealt out to other first hops."""
    true = {e.features["first_hop"]: e.intermediates["bridge"] for e in thr.data.train.examples}
    dealt = np.random.default_rng(draw).permutation([*true.values()]).tolist()
    other = dict(zip(true, dealt, strict=True))
    subject = with_examples(thr, lambda e: changed(e, intermediates={"bridge": other[e.features["first_hop"]]}))
    found = Erasure(FEW).run(subject)
    assert found.details["not_removed"] is not None
    for name in ("memorization", "validation"):
        estimate = found.metrics[f"reasoning_reliance_{name}"]
        assert estimate.value is not None and estimate.ci_low is not None
        assert abs(estimate.value) < 0.1 and estimate.ci_low <= 0


def test_without_a_feature_that_decides_there_is_no_control_and_no_reliance(thr: Subject) -> None:
    blind = with_examples(thr, lambda e: changed(e, features={"relation_2": e.features["relation_2"]}))
    found = Erasure(FEW).run(blind)
    names = ("reasoning_reliance_memorization", "reasoning_reliance_validation")
    for name in names:
        estimate = found.metrics[name]
        assert estimate.value is None and "no surface feature decides bridge" in (estimate.reason_if_null or "")
    assert found.details["lines"]["memorized"]["leace"]["value"]
    assert found.details["not_removed"] == "there is no control to compare it with"
    from_details, from_records = (Erasure(FEW).implied(found.details, records) for records in ({}, found.records))
    assert [from_details[name] for name in names] == [None, None]
    assert from_records == found.metrics


def test_erasing_too_much_is_refused(thr: Subject) -> None:
    wide = changed(thr.spec, parameters={**thr.spec.parameters})
    subject = Subject(wide, thr.task, thr.data, thr.tokenizer, thr.anatomies, [], "cpu")
    subject.task.values = lambda intermediate: [f"e{i}" for i in range(60)]  # type: ignore[method-assign]
    try:
        with pytest.raises(NotApplicable, match="of 64 directions"):
            Erasure(ErasureOptions()).run(subject)
        with pytest.raises(NotApplicable, match="no intermediate result 'nonsense'"):
            Erasure(ErasureOptions(intermediates=("nonsense",))).run(subject)
    finally:
        del subject.task.values
