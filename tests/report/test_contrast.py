"""Two cells or two folders compared: what may be, by which statistics, and what is refused."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from rote_bench.errors import UserError
from rote_bench.findings import NO_TWIN
from rote_bench.report.contrast import contrast
from rote_bench.report.record import Report

from ..reports import metric, report

NAME = "validation_accuracy"


def group(values: Mapping[int, float | None], model: str, **given: object) -> list[Report]:
    return [report({NAME: value}, model=model, seed=seed, **given) for seed, value in values.items()]  # type: ignore[arg-type]


def test_each_end_of_two_cells_comes_from_the_ends_on_its_side() -> None:
    a, b = report({NAME: metric(0.9, 0.86, 0.92)}), report({NAME: metric(0.7, 0.66, 0.74)}, model="other")
    found = contrast([a], [b])
    (line,) = found.lines
    assert line.difference.value == pytest.approx(0.2)
    low, high = 0.2 - math.sqrt(0.04**2 + 0.04**2), 0.2 + math.sqrt(0.02**2 + 0.04**2)
    assert (line.difference.ci_low, line.difference.ci_high) == pytest.approx((low, high))
    assert line.difference.ci_method == "Newcombe's, from both intervals" and found.differs == "model (m and other)"
    (bare,) = contrast([a], [report({NAME: 0.7}, model="other")]).lines
    assert bare.difference.ci_low is None and bare.difference.reason_if_no_interval == "one side has no interval"


@pytest.mark.parametrize("second", [{2: 0.69, 0: 0.58, 1: 0.48}, {0: 0.6, 1: 0.3, 3: 0.4, 4: 0.5}])
def test_seeds_do_not_pair_the_sides(second: dict[int, float]) -> None:
    first = {0: 0.90, 1: 0.80, 2: 0.70}
    found = contrast(group(first, "a"), group(second, "b"))
    (line,) = found.lines
    a, b = list(first.values()), list(second.values())
    theirs = stats.ttest_ind(a, b, equal_var=False).confidence_interval()
    assert found.way == "groups" and line.difference.value == pytest.approx(np.mean(a) - np.mean(b))
    assert (line.difference.ci_low, line.difference.ci_high) == pytest.approx(tuple(theirs))
    assert found.smallest_p == pytest.approx(2 / 20 if len(b) == 3 else 1 / 35)
    assert line.p is not None and found.smallest_p is not None and found.smallest_p <= line.p < 0.5
    backward = contrast(group(dict(reversed(first.items())), "a"), group(dict(reversed(second.items())), "b"))
    assert backward.lines == found.lines


def with_noise(values: Mapping[int, float], model: str = "a", rate: float = 0.05) -> list[Report]:
    known = {seed: {NAME: value, "counterfactual_memorization": 0.99} for seed, value in values.items()}
    made = [report(metrics, model=model, seed=seed, rate=rate) for seed, metrics in known.items()]
    return [replace(each, training=replace(each.training, settled_step=400)) for each in made]


def test_what_a_wrong_label_costs_is_compared_where_there_are_twins() -> None:
    noisy = ({0: 0.98, 1: 0.97, 2: 0.99}, {0: 0.96, 1: 0.95, 2: 0.955, 3: 0.94})
    clean = ({0: 0.99, 1: 0.99, 2: 0.995}, {0: 0.99, 1: 0.992, 2: 0.991, 3: 0.99})
    first, second = with_noise(noisy[0]), with_noise(noisy[1], "b")
    twins = (with_noise(clean[0], rate=0), with_noise(clean[1], "b", rate=0))
    line, *_ = contrast(first, second, twins=twins).lines
    costs = [[(clean[side][s] - noisy[side][s]) / 0.05 for s in noisy[side]] for side in (0, 1)]
    theirs = stats.ttest_ind(*costs, equal_var=False).confidence_interval()
    assert (line.metric, line.higher_is_better) == ("noise_transfer", False)
    assert (line.first.value, line.second.value) == pytest.approx((np.mean(costs[0]), np.mean(costs[1])))
    assert (line.difference.ci_low, line.difference.ci_high) == pytest.approx(tuple(theirs))
    assert line.p is not None and line.p == pytest.approx(1 / 35, abs=1e-9)
    lacking, *_ = contrast(first, second, twins=(twins[0], twins[1][:2])).lines
    assert lacking.second.reason_if_null == "only 2 of 4 cells have a twin at noise rate 0"
    assert lacking.difference.value is None and lacking.p is None
    assert next(each.metric for each in contrast(first, second).lines) == NAME
    one, *_ = contrast(first[:1], second[:1], twins=(twins[0], [])).lines
    assert one.first.value == pytest.approx(0.2) and one.second.reason_if_null == NO_TWIN
    two, *_ = contrast(first[:1], second[:1], twins=twins).lines
    assert two.difference.value == pytest.approx(0.2 - 0.6)


def test_a_side_of_few_seeds_has_no_interval() -> None:
    (few,) = contrast(group({0: 0.9, 1: 0.5, 2: 0.7}, "a"), group({5: 0.6}, "b")).lines
    assert few.difference.value == pytest.approx(0.1) and few.difference.ci_low is None
    assert few.difference.reason_if_no_interval == "fewer than 3 seeds on one side"


def test_what_one_side_does_not_know_has_no_difference() -> None:
    (line,) = contrast(group({0: 0.9, 1: None}, "a"), group({0: 0.9, 1: 0.8}, "b")).lines
    assert line.first.value is None and line.difference.value is None and line.difference.reason_if_null


def test_noise_rates_may_differ_alone() -> None:
    a, b = report({NAME: 0.9}), report({NAME: 0.8}, rate=0.1, fingerprint="f" * 64)
    assert contrast([a], [b]).differs == "noise rate (0.05 and 0.1)"
    with pytest.raises(UserError, match=r"noise rate \(0.05 and 0.1\) and model \(m and other\)"):
        contrast([a], [report({NAME: 0.8}, rate=0.1, model="other")])
    with pytest.raises(UserError, match=r"noise rate .* and dtype \(float32 and float16\)"):
        contrast([a], [report({NAME: 0.8}, rate=0.1, parts={"dtype": "float16"})])


@pytest.mark.parametrize(
    ("other", "says"),
    [
        (
            report(model="o", parts={"training": {"max_steps": 60, "learning_rate": 0.01}}),
            r"training.max_steps \(100 and 60\)",
        ),
        (report(model="o", content="1" * 64), r"content \(00000000 and 11111111\)"),
        (report(model="o", fingerprint="f" * 64), "the examples of seed 0"),
        (report(model="o", parts={"schedule": {"settle": "fixed", "twin": None}}), r"schedule \(event and fixed\)"),
        (report(model="o", limit=50), r"limit \(null and 50\)"),
        (report(model="o", parts={"versions": {"training": 2}}), r"versions.training \(1 and 2\)"),
        (report(model="o", task="fda"), r"task \(thr and fda\)"),
        (report(model="o", profile="quick"), r"task \(thr and thr-quick\)"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_one_line(other: Report, says: str) -> None:
    with pytest.raises(UserError, match=says) as refused:
        contrast([report()], [other], ("here", "there"))
    assert str(refused.value).startswith("here and there: ") and "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("side", "says"),
    [
        ([report(), report(rate=0.1)], "its cells differ in noise"),
        ([report(), report(model="o")], "its cells differ in model"),
        ([report(), report(seed=1, limit=9)], "its cells differ in limit"),
        ([report(), report()], "the same seed more than once"),
        ([report(status="failed")], "no run succeeded"),
    ],
)
def test_a_side_is_cells_of_one_kind(side: list[Report], says: str) -> None:
    with pytest.raises(UserError, match=says):
        contrast([report()], side, ("here", "there"))


def test_as_json_and_as_text_at_any_width() -> None:
    found = contrast(
        group({0: 0.9, 1: 0.8}, "a-model-of-a-long-name"), group({0: 0.7, 1: 0.6}, "b"), ("runs/a", "runs/b")
    )
    entry = json.loads(json.dumps(found.entry(), allow_nan=False))
    assert entry["lines"][0]["difference"]["value"] == pytest.approx(0.2) and entry["first"]["seeds"] == ["0", "1"]
    assert "means over seeds" in entry["way"] and entry["smallest_p"] == pytest.approx(1 / 3)
    for width in (200, 80, 50):
        text = found.table(width=width)
        assert (
            max(map(len, text.splitlines())) <= width
            and "0.200" in text
            and "means over seeds" in " ".join(text.split())
        )
