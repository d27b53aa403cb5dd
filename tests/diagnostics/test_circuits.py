"""Circuits of all nodes are the model, and their importances add up."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch

from rote_bench import nodes as of_nodes
from rote_bench.diagnostics import NotApplicable
from rote_bench.diagnostics.circuits import FEW, SHARES, Circuits, CircuitsOptions, _of_random, _place
from rote_bench.encoding import first_difference
from rote_bench.nodes import Nodes, parts_kept, problem_of, top
from rote_bench.subject import POST, Subject
from tests.diagnostics.conftest import padded
from tests.diagnostics.reports import details

KINDS = ["heads", "units"]


def nodes_of(subject: Subject) -> Nodes:
    return Nodes(subject.anatomy(), KINDS, subject.clean.true.rows(slice(256)), subject.batch_size)


def alone(subject: Subject) -> Subject:
    """With the last snapshot only."""
    return Subject(subject.spec, subject.task, subject.data, subject.tokenizer, {POST: subject.anatomy()}, [], "cpu")


def test_every_line_has_every_size(fda_report: dict[str, Any]) -> None:
    found = details(fda_report, "circuits")
    assert found["nodes"] == 2 * 256 + 2 * 2
    assert found["lines"].keys() == {
        *(f"{of}_on_{task}" for of in ("clean", "memorization", "random") for task in ("clean", "memorization")),
        "clean_before_on_memorization",
    }
    for line in found["lines"].values():
        assert len(line["value"]) == len(SHARES) == len(line["ci_low"]) == len(line["ci_high"])
    assert found["lines"]["clean_on_clean"]["value"][-1] > found["lines"]["clean_on_clean"]["value"][0]
    assert all(0 <= share <= 1 for line in found["overlap"].values() for share in line)
    for task, kept in found["nodes_kept"].items():
        assert sum(k for _, _, k in kept) == round(SHARES[found["place"]] * found["nodes"]), task


def test_integrals_become_complete_with_more_points(fda: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    nodes, problem = nodes_of(fda), problem_of(fda.noisy).part(slice(0, 24))
    monkeypatch.setattr(of_nodes, "REFINED", 0)
    (coarse, gap), (finer, _), (_, least) = (nodes.importance(problem, steps) for steps in (2, 6, 54))
    assert least < 0.1 and least < gap
    monkeypatch.setattr(of_nodes, "REFINED", 1)
    monkeypatch.setattr(of_nodes, "CLOSE_ENOUGH", -1.0)  # the points in between complete those that there are
    again, _ = nodes.importance(problem, 2)
    assert again == pytest.approx(finer, rel=1e-4, abs=1e-6)
    monkeypatch.setattr(of_nodes, "CLOSE_ENOUGH", 1e9)
    assert nodes.importance(problem, 2)[0] == pytest.approx(coarse, rel=1e-6, abs=1e-9)


def test_importances_are_gradients_at_one_point_after_another(fda: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(of_nodes, "REFINED", 0)
    nodes, steps = nodes_of(fda), 3
    problem = problem_of(fda.noisy).part(slice(0, 10))
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
    nodes, problem = nodes_of(fda), problem_of(fda.noisy).part(slice(0, 24))
    for resample in (False, True):
        everything = nodes.faithfulness(problem, [np.ones(nodes.count, dtype=bool)], resample=resample)
        nothing = nodes.faithfulness(problem, [np.zeros(nodes.count, dtype=bool)], resample=resample)
        assert everything == pytest.approx(np.ones_like(everything), abs=1e-4)
        assert nothing.mean() == pytest.approx(0, abs=1e-4)


def test_parts_kept_are_ratios_of_means_with_the_error_of_a_ratio() -> None:
    rng = np.random.default_rng(0)
    full, none = rng.normal(5, 1, 400), rng.normal(1, 1, 400)
    lead = 0.6 * full + rng.normal(0, 1, 400)
    (scores,) = parts_kept(lead[None], full, none)

    def ratio(rows: Any) -> Any:
        return (lead[rows].mean(-1) - none[rows].mean(-1)) / (full[rows].mean(-1) - none[rows].mean(-1))

    assert scores.mean() == pytest.approx(ratio(np.arange(400)))
    resampled = ratio(rng.integers(400, size=(4000, 400)))
    assert scores.std() / 20 == pytest.approx(resampled.std(), rel=0.1)


def test_random_circuits_have_as_many_heads_and_units_in_each_layer(fda: Subject) -> None:
    nodes, rng = nodes_of(fda), np.random.default_rng(0)
    kept = top(rng.normal(size=nodes.count), 0.2)
    others = [nodes.matched(kept, rng) for _ in range(20)]
    assert all(nodes.kept_at(other) == nodes.kept_at(kept) for other in others)
    assert len({other.tobytes() for other in others}) == 20
    starts = np.cumsum([0, *nodes.counts])
    assert nodes.kept_at(kept) == [int(kept[a:b].sum()) for a, b in itertools.pairwise(starts)]


def test_an_interval_of_random_circuits_holds_examples_and_one_more_circuit(fda: Subject) -> None:
    options = CircuitsOptions(examples=64, steps=1)
    result = Circuits(options).run(alone(fda))
    half = len(fda.noisy) // 2
    assert half < options.examples
    scores, draws = result.details["scores"]["random"], result.details["random_draws"]
    groups = [e.group for e in fda.noisy.labelled.examples[half : 2 * half]]
    assert len(scores) == half and 1 < len(set(groups)) < half and len(draws) == 20
    assert np.mean(scores) == pytest.approx(np.mean(draws))
    total, gathered = sum(scores), dict.fromkeys(groups, (0.0, 0))
    for score, group in zip(scores, groups, strict=True):
        gathered[group] = (gathered[group][0] + score, gathered[group][1] + 1)
    left = [(total - part) / (half - count) - total / half for part, count in gathered.values()]
    k = len(left)
    examples = scipy.stats.t.ppf(0.975, k - 1) * sum((k - 1) / k * gap**2 for gap in left) ** 0.5
    further = scipy.stats.t.ppf(0.975, 19) * (np.var(draws, ddof=1) * (1 + 1 / 20)) ** 0.5
    reach = (examples**2 + further**2) ** 0.5
    found = result.metrics["cross_faithfulness_random"]
    assert found.value == pytest.approx(np.mean(scores)) and found.n == half
    assert (found.ci_low, found.ci_high) == pytest.approx((total / half - reach, total / half + reach))
    assert result.metrics["circuit_sharing"].n == half
    excess, cross = result.metrics["cross_faithfulness_excess"], result.details["scores"]["clean_on_memorization"]
    assert excess.value == pytest.approx(np.mean(cross) - np.mean(scores)) and excess.n == half
    assert excess.ci_low is not None and excess.ci_high is not None and excess.ci_high - excess.ci_low >= 2 * further
    few = result.details["lines"]["random_on_clean"]
    assert half >= FEW and few["at"] == [0, 1, 2, 3]


def test_one_more_random_circuit_lies_in_the_interval() -> None:
    """Draws alone, many times: 95 of 100."""
    rng = np.random.default_rng(1)
    groups = [str(i) for i in range(50)]
    inside = 0
    for _ in range(1000):
        draws = rng.normal(0.5, 0.1, 21)
        found = _of_random(np.full(50, draws[:20].mean()), draws[:20], groups)
        assert found.ci_low is not None and found.ci_high is not None
        inside += found.ci_low <= draws[20] <= found.ci_high
    assert 0.92 <= inside / 1000 <= 0.97


def test_what_makes_an_example_hard_cancels_where_two_circuits_are_compared_on_it(fda: Subject) -> None:
    """Examples differ by far more than circuits do: marginal intervals overlap, that of the difference is sure."""
    diagnostic = Circuits(CircuitsOptions(examples=64, steps=1))
    made = diagnostic.run(alone(fda)).details
    n, rng = len(made["groups"]["memorization"]), np.random.default_rng(0)
    hard = rng.normal(0, 1, n)
    scores = {"clean_on_memorization": (hard + 0.3).tolist(), "random": hard.tolist(), "own": (hard + 0.6).tolist()}
    draws = (hard.mean() + rng.normal(0, 0.02, 20)).tolist()
    known = {**made, "lead": {t: {"ci_low": [1.0]} for t in ("clean", "memorization")}}
    known |= {"lost": known["lead"], "random_draws": draws, "scores": {**made["scores"], **scores}}
    found = diagnostic.implied(known, {})
    cross, random, excess = (found[f"cross_faithfulness_{name}"] for name in ("memorization", "random", "excess"))
    assert cross.ci_low is not None and random.ci_high is not None and cross.ci_low < random.ci_high
    reach = scipy.stats.t.ppf(0.975, 19) * (np.var(draws, ddof=1) * (1 + 1 / 20)) ** 0.5
    assert (excess.ci_low, excess.ci_high) == pytest.approx((0.3 - reach, 0.3 + reach))


def test_sharing_is_where_the_cross_lies_between_random_and_own(fda: Subject) -> None:
    diagnostic = Circuits(CircuitsOptions(examples=64, steps=1))
    made = diagnostic.run(alone(fda)).details
    n, rng = len(made["groups"]["memorization"]), np.random.default_rng(0)

    def sharing(cross: float, own: float, random: float, noise: float = 0.02) -> Any:
        scores = {
            name: (level + rng.normal(0, noise, n)).tolist()
            for name, level in (("clean_on_memorization", cross), ("own", own), ("random", random))
        }
        draws = (random + rng.normal(0, noise, 20)).tolist()
        known = {**made, "lead": {t: {"ci_low": [1.0]} for t in ("clean", "memorization")}}
        known |= {"lost": known["lead"], "random_draws": draws, "scores": {**made["scores"], **scores}}
        return diagnostic.implied(known, {})["circuit_sharing"]

    half = sharing(0.5, 0.9, 0.1)
    assert half.value == pytest.approx(0.5, abs=0.05) and half.ci_low < half.value < half.ci_high
    assert sharing(0.1, 0.9, 0.1).value == pytest.approx(0, abs=0.05)
    assert "nothing is said relative to it" in sharing(0.3, 0.35, 0.3).reason_if_null
    wide = sharing(0.5, 0.9, 0.1, noise=0.2)
    assert wide.value is None or wide.ci_high - wide.ci_low > 2 * (half.ci_high - half.ci_low)


def test_the_size_is_the_smallest_at_which_both_keep_enough_where_they_were_found() -> None:
    assert _place({"clean": [0.1, 0.85, 0.9, 0.95], "memorization": [0.9, 0.5, 0.8, 0.9]}, 0.8) == 2
    assert _place({"clean": [0.1, 0.2, 0.3, 0.4], "memorization": [0.9, 0.9, 0.9, 0.9]}, 0.8) == 3


def test_a_matched_random_circuit_does_as_well_where_importances_mean_nothing(
    fda: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Importances dealt out anew within each layer and kind: what is claimed of such a circuit is not evidence."""
    real, rng = Nodes.importance, np.random.default_rng(0)

    def dealt(self: Nodes, problem: Any, steps: int) -> Any:
        scores, gap = real(self, problem, steps)
        parts = np.split(scores, np.cumsum(self.counts)[:-1])
        return np.concatenate([rng.permutation(part) for part in parts]), gap

    options = CircuitsOptions(examples=64, steps=2)
    monkeypatch.setattr(Nodes, "importance", dealt)
    found = Circuits(options).run(alone(fda)).metrics
    cross, random = (found[f"cross_faithfulness_{name}"] for name in ("memorization", "random"))
    assert cross.ci_low is not None and random.ci_high is not None and cross.ci_low < random.ci_high
    assert found["circuit_sharing"].value is None


def test_where_no_other_circuit_is_as_large_none_is_compared(fda: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in networks of few heads, of which a circuit takes all or none in each layer."""
    monkeypatch.setattr(Nodes, "matched", lambda self, kept, rng: kept)
    found = Circuits(CircuitsOptions(examples=64, steps=2)).run(alone(fda)).metrics
    for name in ("cross_faithfulness_random", "cross_faithfulness_excess", "circuit_sharing"):
        assert found[name].value is None and "no other circuit" in str(found[name].reason_if_null)
    assert found["cross_faithfulness_memorization"].value is not None


def test_circuits_need_two_halves(fda: Subject) -> None:
    few = Subject(fda.spec, fda.task, fda.data, fda.tokenizer, fda.anatomies, [], "cpu", cap=3)
    with pytest.raises(NotApplicable, match="too few examples"):
        Circuits(CircuitsOptions(examples=32)).run(few)


@pytest.mark.parametrize(("by", "batch_size"), [(4, 512), (0, 5), (2, 7)])
def test_neither_padding_nor_batches_change_a_circuit(thr: Subject, by: int, batch_size: int) -> None:
    options = CircuitsOptions(examples=16, steps=2)
    first, again = (Circuits(options).run(s) for s in (thr, padded(thr, by, batch_size=batch_size)))
    one, other = first.details, again.details
    for curves in ("lines", "lines_resample"):
        for key, line in one[curves].items():
            if "random" not in key:
                assert other[curves][key]["value"] == pytest.approx(line["value"], abs=1e-3), (curves, key)
    assert (other["overlap"], other["place"]) == (one["overlap"], one["place"])


def test_a_label_that_does_not_lead_has_no_circuit(thr: Subject) -> None:
    diagnostic = Circuits(CircuitsOptions(examples=16, steps=1))
    result = diagnostic.run(thr)
    part = result.details
    scored = thr.noisy.true.rows(slice(16, 32))
    logits = thr.anatomy().model(input_ids=scored.input_ids).logits.detach()
    place, true, label = first_difference(scored, thr.noisy.taught.rows(slice(16, 32)))
    at = logits[torch.arange(16), place]
    ahead = at.gather(1, label[:, None]) - at.gather(1, true[:, None])
    assert part["lead"]["memorization"]["value"] == pytest.approx([float(ahead.mean())], rel=1e-5)
    for task in ("clean", "memorization"):
        assert part["lead"][task]["ci_low"][0] > 0
    lead = {**part["lead"]["memorization"], "value": [0.2], "ci_low": [-0.5]}
    behind = {**part, "lead": {**part["lead"], "memorization": lead}}
    found = diagnostic.implied(behind, {})
    for name in ("cross_faithfulness_memorization", "cross_faithfulness_excess", "circuit_sharing"):
        assert "wrong label" not in (result.metrics[name].reason_if_null or "")
        assert found[name].value is None and "wrong label" in (found[name].reason_if_null or "")
    assert found["cross_faithfulness_clean"] == result.metrics["cross_faithfulness_clean"]
