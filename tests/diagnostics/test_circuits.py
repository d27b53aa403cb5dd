"""Circuits of all nodes are the model, and their importances add up."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch

from rote_bench.diagnostics import NotApplicable
from rote_bench.diagnostics.circuits import Circuits, CircuitsOptions, _Nodes, _problem
from rote_bench.encoding import first_difference
from rote_bench.subject import POST, Subject
from tests.diagnostics.conftest import padded
from tests.diagnostics.reports import details


def test_circuits_add_up_and_large_ones_are_faithful(fda_report: dict[str, Any]) -> None:
    for snapshot in details(fda_report, "circuits")["snapshots"].values():
        assert snapshot["nodes"] == 2 * 256 + 2 * 2
        assert snapshot["faithfulness"]["clean"][-1] > snapshot["faithfulness"]["clean"][0]
        assert 0 <= snapshot["iou_random"] <= 1
        assert len(snapshot["faithfulness_resample"]["memorization"]) == len(details(fda_report, "circuits")["shares"])


def test_integrated_gradients_become_complete_with_more_steps(fda: Subject) -> None:
    nodes = _Nodes(fda, fda.anatomy(), ["heads", "units"])
    for view in (fda.noisy, fda.validation):
        problem = _problem(view).part(slice(0, 24))
        coarse, fine = (nodes.importance(problem, steps)[1] for steps in (2, 48))
        assert fine < 0.1 and fine < coarse


def test_importances_are_gradients_at_one_point_after_another(fda: Subject) -> None:
    nodes, steps = _Nodes(fda, fda.anatomy(), ["heads", "units"]), 3
    problem = _problem(fda.noisy).part(slice(0, 10))
    found, _ = nodes.importance(problem, steps)
    wanted = []
    for site, size in zip(nodes.sites, nodes.sizes, strict=True):
        module, mean, seen = fda.anatomy().module(site.layer, site.part), nodes.means[site], []  # type: Any, Any, Any
        handle = module.register_forward_pre_hook(lambda _, args, seen=seen: seen.append(args[0].detach()))
        fda.anatomy().model(input_ids=problem.ids)
        handle.remove()
        total = torch.zeros_like(seen[0])
        for k in range(steps):
            point = (mean + (k + 0.5) / steps * (seen[0] - mean)).requires_grad_(True)
            handle = module.register_forward_pre_hook(lambda _, args, point=point: (point,))
            lead = problem.lead(fda.anatomy().model(input_ids=problem.ids).logits[:, problem.columns]).mean()
            handle.remove()
            total += torch.autograd.grad(lead, point)[0] / steps
        wanted.append((total * (seen[0] - mean)).sum((0, 1)).reshape(-1, size).sum(1))
    assert found == pytest.approx(torch.cat(wanted).double().numpy(), rel=1e-4, abs=1e-6)


def test_a_circuit_of_all_nodes_is_the_model_and_of_none_is_nothing(fda: Subject) -> None:
    nodes = _Nodes(fda, fda.anatomy(), ["heads", "units"])
    problem = _problem(fda.noisy).part(slice(0, 24))
    for resample in (False, True):
        everything = nodes.faithfulness(problem, [np.ones(nodes.count, dtype=bool)], resample=resample)
        nothing = nodes.faithfulness(problem, [np.zeros(nodes.count, dtype=bool)], resample=resample)
        assert everything.mean() == pytest.approx(1, abs=1e-4)
        assert nothing.mean() == pytest.approx(0, abs=1e-4)


def test_cross_faithfulness_counts_what_was_scored_and_leaves_out_one_cluster_after_another(fda: Subject) -> None:
    subject = Subject(fda.spec, fda.task, fda.data, fda.tokenizer, {POST: fda.anatomy()}, [], "cpu")
    options = CircuitsOptions(examples=64, steps=1)
    result = Circuits(options).run(subject)
    half = len(fda.noisy) // 2
    assert half < options.examples
    scores = result.details["snapshots"][POST]["cross"]["random"]
    groups = [e.group for e in fda.noisy.labelled.examples[half : 2 * half]]
    assert len(scores) == half and 1 < len(set(groups)) < half
    total, gathered = sum(scores), dict.fromkeys(groups, (0.0, 0))
    for score, group in zip(scores, groups, strict=True):
        gathered[group] = (gathered[group][0] + score, gathered[group][1] + 1)
    left = [(total - part) / (half - count) - total / half for part, count in gathered.values()]
    k = len(left)
    reach = scipy.stats.t.ppf(0.975, k - 1) * sum((k - 1) / k * gap**2 for gap in left) ** 0.5
    found = result.metrics["cross_faithfulness_random"]
    assert found.value == pytest.approx(np.mean(scores)) and found.n == half
    assert (found.ci_low, found.ci_high) == pytest.approx((total / half - reach, total / half + reach))
    assert result.metrics["circuit_sharing"].n == 2 * half
    assert {m.name: m.split for m in Circuits.metrics}["cross_faithfulness_random"] == "train_noisy"


def test_circuits_need_two_halves(fda: Subject) -> None:
    few = Subject(fda.spec, fda.task, fda.data, fda.tokenizer, fda.anatomies, [], "cpu", cap=3)
    with pytest.raises(NotApplicable, match="too few examples"):
        Circuits(CircuitsOptions(examples=32)).run(few)


@pytest.mark.parametrize(("by", "batch_size"), [(4, 512), (0, 5), (2, 7)])
def test_neither_padding_nor_batches_change_a_circuit(thr: Subject, by: int, batch_size: int) -> None:
    options = CircuitsOptions(examples=16, steps=2)
    first, again = (Circuits(options).run(s) for s in (thr, padded(thr, by, batch_size=batch_size)))
    for snapshot, one in first.details["snapshots"].items():
        other = again.details["snapshots"][snapshot]
        for curves in ("faithfulness", "faithfulness_resample", "cross"):
            for key, values in one[curves].items():
                assert other[curves][key] == pytest.approx(values, abs=1e-3), (snapshot, curves, key)
        assert (other["iou"], other["share"]) == (one["iou"], one["share"])


def test_a_label_that_does_not_lead_has_no_circuit(thr: Subject) -> None:
    diagnostic = Circuits(CircuitsOptions(examples=16, steps=1))
    result = diagnostic.run(thr)
    part = result.details["snapshots"][POST]
    scored = thr.noisy.true.rows(slice(16, 32))
    logits = thr.anatomy().model(input_ids=scored.input_ids).logits.detach()
    place, true, label = first_difference(scored, thr.noisy.taught.rows(slice(16, 32)))
    at = logits[torch.arange(16), place]
    ahead = at.gather(1, label[:, None]) - at.gather(1, true[:, None])
    assert part["lead"]["memorization"] == pytest.approx(float(ahead.mean()), rel=1e-5)
    behind = {**result.details, "snapshots": {POST: {**part, "lead": {"clean": 1.0, "memorization": -0.5}}}}
    found = diagnostic.implied(behind, {})
    for name in ("cross_faithfulness_memorization", "cross_faithfulness_random", "circuit_sharing"):
        assert "wrong label" not in (result.metrics[name].reason_if_null or "")
        assert found[name].value is None and "wrong label" in (found[name].reason_if_null or "")
    assert found["cross_faithfulness_clean"] == result.metrics["cross_faithfulness_clean"]
