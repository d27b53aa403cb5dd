"""Ablating more and more of a model."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from rote_bench.diagnostics.ablation import (
    FITTED,
    Ablation,
    AblationOptions,
    _groups,
    _importance,
    _means,
    _numbers,
)
from rote_bench.encoding import first_difference
from rote_bench.interventions import Site, capture
from rote_bench.subject import POST, Subject
from tests.diagnostics.conftest import padded
from tests.diagnostics.reports import details


def test_ablating_everything_destroys_everything(thr_report: dict[str, Any]) -> None:
    for kind in details(thr_report, "ablation")["kinds"].values():
        assert kind["random"]["value"][-1] < 0.5
        for line in (kind["random"], *kind["by_importance"].values()):
            assert len(line["value"]) == len(kind["numbers"])
        assert len(kind["area"]["random"]) == 20


@pytest.mark.parametrize(("by", "batch_size"), [(4, 512), (0, 7), (3, 10)])
def test_neither_padding_nor_batches_change_what_is_measured(thr: Subject, by: int, batch_size: int) -> None:
    other = padded(thr, by, batch_size=batch_size)
    for one, another in (
        (_means(thr, "units"), _means(other, "units")),
        (_means(thr, "heads"), _means(other, "heads")),
    ):
        for site, mean in one.items():
            assert torch.allclose(another[site], mean, atol=1e-5)
    first, again = (Ablation(AblationOptions(examples=48)).run(subject) for subject in (thr, other))
    assert first.metrics == again.metrics
    assert first.details["kinds"]["heads"] == again.details["kinds"]["heads"]


def test_means_are_those_of_the_positions_of_the_questions(thr: Subject) -> None:
    """Position by position, in float64."""
    other = padded(thr, 5)
    site = Site(1, "units")
    seen = capture(thr.anatomy(), thr.clean.true.input_ids[:FITTED], [site])[1][site].double().numpy()
    assert np.allclose(_means(other, "units")[site].numpy(), seen.reshape(-1, seen.shape[-1]).mean(0), atol=1e-6)


def test_where_nothing_is_memorised_nothing_is_distributed(thr: Subject) -> None:
    """A network that never learned gives no wrong label: no value."""
    spec = replace(thr.spec, seeds=replace(thr.spec.seeds, init=3))
    blank = Subject(spec, thr.task, thr.data, thr.tokenizer, {POST: thr.random_anatomy()}, [], "cpu", cap=20)
    result = Ablation(AblationOptions(examples=16)).run(blank)
    assert result.details["intact"]["memorization_rate"]["value"] == [0]
    found = result.metrics["distributedness_k50"]
    assert found.value is None and "memorization may be as low as 0.000" in (found.reason_if_null or "")


def test_the_smallest_numbers_are_those_of_the_curves_and_of_both_kinds_of_questions(
    thr_report: dict[str, Any],
) -> None:
    found, metrics = details(thr_report, "ablation"), thr_report["metrics"]
    memory, accuracy = (found["intact"][key]["value"][0] for key in ("memorization_rate", "validation_accuracy"))
    shares = []
    for kind, of_kind in found["kinds"].items():
        left, held = (of_kind["by_importance"][key]["value"] for key in ("memorization_rate", "validation_accuracy"))
        enough = [
            number
            for number, m, h in zip(of_kind["numbers"], left, held, strict=True)
            if m <= memory / 2 and h >= 0.95 * accuracy
        ]
        assert metrics[f"k50_{kind}"]["value"] == min(enough, default=None)
        shares += [number / of_kind["count"] for number in enough]
    assert metrics["distributedness_k50"]["value"] == min(shares, default=None)
    assert metrics["distributedness_k50"]["n"] == 64 + min(64, thr_report["data"]["n_noisy"])


def test_numbers_have_intervals_where_both_curves_are_sure() -> None:
    def line(*values: float, reach: float = 0.1) -> dict[str, list[float]]:
        return {"value": [*values], "ci_low": [v - reach for v in values], "ci_high": [v + reach for v in values]}

    intact = {"memorization_rate": line(1.0), "validation_accuracy": line(1.0)}
    kind = {"count": 16, "numbers": [1, 2, 3, 4]}

    def found(memory: dict[str, list[float]], held: dict[str, list[float]]) -> Any:
        curves = {"memorization_rate": memory, "validation_accuracy": held}
        made = {"examples": {"noisy": 9, "validation": 9}, "intact": intact}
        return Ablation(AblationOptions()).implied({**made, "kinds": {"heads": {**kind, "by_importance": curves}}}, {})

    sure = found(line(0.9, 0.55, 0.45, 0.2), line(1.0, 1.0, 1.0, 1.0, reach=0.01))
    assert (sure["k50_heads"].value, sure["k50_heads"].ci_low, sure["k50_heads"].ci_high) == (3, 2, 4)
    assert sure["distributedness_k50"].value == 3 / 16 and sure["distributedness_k50"].ci_high == 4 / 16
    assert "could not be proved" in (sure["k50_units"].reason_if_null or "")
    unsure = found(line(0.9, 0.55, 0.45, 0.45), line(1.0, 1.0, 1.0, 1.0, reach=0.01))["k50_heads"]
    assert unsure.value == 3 and unsure.ci_low is None and "for sure" in (unsure.reason_if_no_interval or "")
    assert found(line(0.9, 0.8, 0.8, 0.8), line(1.0, 1.0, 1.0, 1.0))["k50_heads"].value is None


def test_heads_and_units_are_counted_and_not_rounded_to_shares() -> None:
    assert _numbers("heads", 16) == [1, 2, 3, 4, 6, 8, 12] and _numbers("heads", 4) == [1, 2, 3]
    assert _numbers("units", 2048)[:5] == [4, 10, 20, 41, 102] and _numbers("units", 2048)[-1] == 1536


def test_a_head_counts_as_much_as_the_lead_falls_without_it(thr: Subject) -> None:
    """One head after the other, its part of the projection's input set to the mean by hand."""
    means = _means(thr, "heads")
    groups = _groups(thr.anatomy(), "heads")
    found = _importance(thr, "heads", groups, means, 12)
    true, taught = thr.noisy.true.rows(slice(12)), thr.noisy.taught.rows(slice(12))
    position, y, label = first_difference(true, taught)
    row = torch.arange(12)

    def lead() -> float:
        logits = thr.anatomy().model(input_ids=true.input_ids).logits.detach()[row, position]
        return float((logits[row, label] - logits[row, y]).sum())

    for fall, (site, part) in zip(found, groups, strict=True):

        def ablated(module: Any, args: Any, site: Site = site, part: slice = part) -> Any:
            changed = args[0].clone()
            changed[..., part] = means[site][part]
            return (changed,)

        whole = lead()
        handle = thr.anatomy().module(site.layer, "heads").register_forward_pre_hook(ablated)
        without = lead()
        handle.remove()
        assert fall == pytest.approx(whole - without, rel=1e-3, abs=1e-3)


def test_what_labels_lose_on_which_nothing_was_ranked_is_kept_beside(thr: Subject) -> None:
    """Hence importance and curve are of the same labels; what other labels lose is kept beside."""
    few = Ablation(AblationOptions(examples=16, control_examples=8)).run(thr).details
    assert few["examples"] == {"noisy": 16, "validation": 16} and few["control_examples"] == 8
    for kind in few["kinds"].values():
        assert len(kind["on_other_labels"]["value"]) == len(kind["numbers"])
    everything = Ablation(AblationOptions(examples=len(thr.noisy), control_examples=8)).run(thr).details
    assert all(kind["on_other_labels"] is None for kind in everything["kinds"].values())
