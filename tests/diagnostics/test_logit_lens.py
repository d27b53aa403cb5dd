"""The depths at which one answer takes over from the other, and foils that a model cannot tell from the true answer."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from typing import Any

import numpy as np
import pytest
import torch

from rote_bench.diagnostics.logit_lens import (
    LogitLens,
    LogitLensOptions,
    clean_label_depth,
    override_depth,
    pairings,
)
from rote_bench.foils import find
from rote_bench.subject import Subject
from tests.diagnostics.reports import details


def levels(*shares: float, reach: float = 0.1) -> dict[str, list[float]]:
    return {
        "value": list(shares),
        "ci_low": [s - reach for s in shares],
        "ci_high": [s + reach for s in shares],
    }


def test_depths_are_what_intervals_say_and_never_what_points_do() -> None:
    over = levels(0.1, 0.2, 0.7, 0.4, 0.55, 0.9)
    found = override_depth(over, 100)
    assert (found.value, found.ci_low, found.ci_high) == pytest.approx((1, 5 / 6, 1))
    won = levels(0.5, 0.9, 0.55, 0.8, 0.95, 0.2)
    found = clean_label_depth(won, over, 100)
    assert (found.value, found.ci_low, found.ci_high) == pytest.approx((4 / 6, 1 / 6, 4 / 6))
    assert override_depth(levels(0.9, 0.55), 100).value is None
    none = clean_label_depth(levels(0.9, 0.9), levels(0.9, 0.9), 100)
    assert none.value is None and "from the first layer on" in str(none.reason_if_null)
    chance = clean_label_depth(levels(0.5, 0.52), levels(0.1, 0.2), 100)
    assert chance.value is None and "does not surely win more than half" in str(chance.reason_if_null)
    assert "names no foils" in str(clean_label_depth(won, over, 0).reason_if_null)


def _knowing_base_rates(subject: Subject) -> tuple[float, float]:
    """The share of pairings that y wins, weighted and plain, where an answer's score is how often its question type
    has it: everything that can be known without the intermediate result."""
    clean = subject.more_clean(4096).labelled.examples
    frequent: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for e in clean:
        frequent[e.features["relation_2"]][e.answer] += 1
    view = subject.more_clean(4096)
    wrong = tuple(next(a for a in subject.task.answers(e) if a != e.answer) for e in clean)
    labelled = dataclasses.replace(view.labelled, labels=wrong)
    other = dataclasses.replace(view, labelled=labelled)
    foils = find(subject, [other], len(clean))["clean"]
    assert foils is not None
    names = subject.tokenizer.convert_ids_to_tokens(range(len(subject.tokenizer)))
    won, whole, plain = 0.0, 0.0, []
    for e, tokens, weights in zip(clean, foils.tokens.tolist(), foils.weights.tolist(), strict=True):
        known = frequent[e.features["relation_2"]]
        for token, weight in zip(tokens, weights, strict=True):
            if weight:
                beaten = (known[e.answer] > known[names[token]]) + (known[e.answer] == known[names[token]]) / 2
                won, whole = won + weight * beaten, whole + weight
                plain.append(beaten)
    return won / whole, float(np.mean(plain))


def test_whoever_knows_base_rates_and_has_computed_nothing_wins_half_of_the_pairings(thr: Subject) -> None:
    weighted, plain = _knowing_base_rates(thr)
    assert weighted == pytest.approx(0.5, abs=0.02)
    assert plain > 0.55  # so the weights matter


def test_foils_are_the_answers_of_other_bridges_and_never_the_label(thr: Subject) -> None:
    foils = find(thr, [thr.noisy], 50)["noisy"]
    assert foils is not None
    view = thr.noisy.labelled
    task: Any = thr.task
    for k in range(50):
        e = view.examples[k]
        expected = {task.second_hop[b, e.features["relation_2"]] for b in task.bridges} - {e.answer, view.labels[k]}
        kept = foils.tokens[k][foils.weights[k] > 0]
        assert set(thr.tokenizer.convert_ids_to_tokens(kept.tolist())) == expected


def test_in_addition_foils_are_digits_under_the_other_carry(fda: Subject) -> None:
    foils = find(fda, [fda.noisy], 75)["noisy"]
    assert foils is not None
    view = fda.noisy.labelled
    seen = set()
    for k, (e, label) in enumerate(zip(view.examples, view.labels, strict=True)):
        p = next(i for i, (a, b) in enumerate(zip(e.answer.split(), label.split(), strict=True)) if a != b)
        seen.add(p)
        kept = foils.tokens[k][foils.weights[k] > 0].tolist()
        digits = {int(t) for t in fda.tokenizer.convert_ids_to_tokens(kept)}
        a, b = (int(part.replace(" ", "")) for part in e.prompt.rstrip("= ").split("+"))
        true, wrong = int(e.answer.split()[p]), int(label.split()[p])
        if p == 0:
            assert digits == set(range(10)) - {true, wrong}
        else:
            carried = int(a % 10**p + b % 10**p >= 10**p)
            assert digits == {(true + 1 - 2 * carried) % (10 if p < 2 else 2)} - {wrong}
    assert 0 in seen and len(seen) > 1


def test_a_network_that_never_learned_wins_half_and_has_no_depth(thr: Subject) -> None:
    fresh = dataclasses.replace(thr, anatomies={"post_memorization": thr.random_anatomy()})
    result = LogitLens(LogitLensOptions()).run(fresh)
    won = result.details["snapshots"]["post_memorization"]["noisy"]["foils_beaten"]
    assert all(low < 0.5 < high for low, high in zip(won["ci_low"], won["ci_high"], strict=True))
    assert {e.value for e in result.metrics.values()} == {None}
    learned = LogitLens(LogitLensOptions()).implied({**result.details, "held_out_least": 1.0}, result.records)
    assert learned["clean_label_depth"].value is None


def test_held_out_answers_are_computed_and_records_give_the_levels_again(thr: Subject, thr_report: Any) -> None:
    kept = details(thr_report, "logit_lens")["snapshots"]["post_memorization"]
    assert kept["validation"]["foils_beaten"]["value"][-1] > 0.95
    result = LogitLens(LogitLensOptions()).run(thr)
    again = pairings(np.array(result.records["foils_beaten"]), np.array(result.records["foils"]), thr.noisy.clusters)
    assert again == result.details["snapshots"]["post_memorization"]["noisy"]["foils_beaten"]
    noisy = thr.noisy
    logits = thr.anatomy().model(input_ids=noisy.true.input_ids).logits
    at = noisy.true.positions["last"]
    rows = torch.arange(len(noisy))
    last, foils = logits[rows, at], find(thr, [noisy], len(noisy))["noisy"]
    assert foils is not None
    true = last[rows, noisy.true.targets[rows, at]]
    beats = (true[:, None] > last.gather(1, foils.tokens)) * foils.weights
    assert again["value"][-1] == pytest.approx(float(beats.sum() / foils.weights.sum()), abs=1e-6)
