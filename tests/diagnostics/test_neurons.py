"""The units that shift most carry memorization; whether heuristics shift most can be answered either way."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from rote_bench import patching
from rote_bench.diagnostics import neurons
from rote_bench.diagnostics.neurons import Neurons, NeuronsOptions
from rote_bench.matching import concentration, followed, matched_bins
from rote_bench.statistics import Estimate
from rote_bench.subject import Subject
from tests.diagnostics.reports import details, value

OPTIONS = NeuronsOptions(examples=200, top=20)
PRE, POST = "pre_memorization", "post_memorization"


def test_units_that_shift_most_carry_memorization(fda_report: dict[str, Any]) -> None:
    assert value(fda_report, "unit_patch_dissociation") > 0
    found = details(fda_report, "neurons")
    assert 0 < found["classified"] <= found["units"] == 2 * 256
    assert sum(found["families"].values()) == found["classified"]
    curve = found["patching"]["by_shift"]["memorized"]["value"]
    assert curve[0] > 0.9 > 0.5 > min(curve)


def test_metrics_are_found_again_in_what_is_kept(fda: Subject) -> None:
    diagnostic = Neurons(OPTIONS)
    result = diagnostic.run(fda)
    kept = json.loads(json.dumps(result.details))
    assert diagnostic.implied(kept, result.records) == result.metrics
    alone = diagnostic.implied(kept, {})["unit_patch_dissociation"]
    assert alone == pytest.approx(result.metrics["unit_patch_dissociation"].value)


def test_families_are_told_apart_by_their_whole_names() -> None:
    rng = np.random.default_rng(0)
    names = ["a:b: x", "a:b: y", "a:c: x", "range: low", "own:kind"]
    found = followed(
        rng.random((40, 3)).astype(np.float32), rng.integers(0, 2, (40, 5)).astype(np.float32), names, 8, rng
    )
    assert found.families == ["a:b", "a:c", "own", "range"]


def moved(fda: Subject, which: str, monkeypatch: pytest.MonkeyPatch) -> Estimate:
    """The metric where some units' activations shift by one spread of their own, and all others by a tenth of it."""
    before = fda.anatomy(PRE)
    fit = fda.more_clean(200)
    honest = neurons._activations
    activations = honest(fda, before, fit, 200)
    found = followed(activations, *neurons._patterns(fda, fit, 200), 20, np.random.default_rng(3))
    layer = np.repeat(np.arange(2), 256)
    properties = [(activations > 0).mean(0), np.sqrt(np.square(activations).mean(0))]
    weights = concentration(found.lift, matched_bins(layer, properties, neurons._live(activations, layer)))
    high, low = np.flatnonzero(weights.high), np.flatnonzero(weights.low)
    chosen = {
        "heuristic": high,
        "other": low[:: len(low) // len(high)],
    }[which]
    size = np.full(512, 0.1)
    size[chosen] = 1.0
    size *= activations.std(0)

    def shifted(subject: Subject, anatomy: Any, view: Any, n: int) -> Any:
        rows = honest(subject, before, view, n)
        if anatomy is before:
            return rows
        spread = np.random.default_rng(len(view)).exponential(1, rows.shape)
        return (rows + size * spread).astype(np.float32)

    monkeypatch.setattr(neurons, "_activations", shifted)
    return Neurons(OPTIONS).run(fda).metrics["heuristic_shift_concentration"]


@pytest.mark.parametrize("which", ["heuristic", "other"])
def test_planted_shifts_are_told_apart(which: str, fda: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    found = moved(fda, which, monkeypatch)
    assert found.value is not None and found.ci_low is not None and found.ci_high is not None
    if which == "heuristic":
        assert found.ci_low > 1 and found.value > 4
    else:
        assert found.ci_high < 1


def test_random_orders_are_of_units_like_those_that_shift_most(fda: Subject) -> None:
    chosen: list[Any] = []

    def seen(before: Any, after: Any, encoded: Any, units: Any, batch_size: int) -> Any:
        chosen.extend(units)
        return [np.ones(4) for _ in units]

    bins = np.arange(512) % 8
    order = np.random.default_rng(0).permutation(512)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(patching, "with_units", seen)
        neurons._patch_units(fda, fda.anatomy(PRE), fda.anatomy(POST), order, bins)
    first = chosen[1 : 1 + len(neurons.SHARES)]
    for k in range(1, neurons.ORDERS + 1):
        other = chosen[1 + k * len(neurons.SHARES) : 1 + (k + 1) * len(neurons.SHARES)]
        for mine, theirs in zip(first, other, strict=True):
            assert np.array_equal(np.bincount(bins[mine], minlength=8), np.bincount(bins[theirs], minlength=8))
        assert set(other[1]) != set(first[1])


def test_a_task_without_patterns_is_told_why(fda: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(fda.task), "heuristics", lambda self, example: ())
    result = Neurons(OPTIONS).run(replace(fda))
    assert result.metrics["heuristic_shift_concentration"].reason_if_null
    assert result.metrics["heuristic_shift"].reason_if_null
    assert result.metrics["unit_patch_dissociation"].value is not None
    json.dumps(result.details, allow_nan=False)
    assert torch.is_grad_enabled()
