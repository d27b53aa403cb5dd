"""Activations of another network destroy what those of the same one keep."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from rote_bench import patching
from rote_bench.diagnostics.activation_patching import ActivationPatching, ActivationPatchingOptions
from rote_bench.evaluation import matches
from rote_bench.interventions import Site, capture, replace, run
from rote_bench.subject import Subject
from tests.conftest import SMALL_FDA, run_cell
from tests.diagnostics.conftest import padded


def test_a_donor_of_another_seed_destroys_both(fda: Subject, tmp_path: Path) -> None:
    text = SMALL_FDA.replace("max_steps: 500", "max_steps: 175").replace("anneal: 300", "anneal: 50")
    text = text[: text.index("diagnostics:")] + "seeds: {init: 7, order: 7}\ndiagnostics: [learning_dynamics]\n"
    cell = run_cell(tmp_path, text)
    stranger = AutoModelForCausalLM.from_pretrained(
        cell / "checkpoints" / "post_memorization", attn_implementation="eager"
    )
    after = fda.anatomy()
    held, memorised = fda.validation.true, fda.noisy.taught
    (solved,) = matches(stranger.eval(), [held])
    assert float(solved.float().mean()) > 0.8
    donors = {"own": fda.anatomy("pre_memorization"), "stranger": after.on(stranger)}
    kept = {}
    for name, part in itertools.product(donors, ("mlp", "units")):
        donor, sites = donors[name], [Site(layer, part) for layer in range(2)]
        with torch.no_grad():
            hits = []
            for encoded in (held, memorised):
                _, states = capture(donor, encoded.input_ids, sites)
                logits = run(after, encoded.input_ids, {s: replace(states[s]) for s in sites})
                hits.append(float(encoded.correct(logits).float().mean()))
        kept[name, part] = hits
    for part in ("mlp", "units"):
        assert kept["own", part][0] > 0.7 and kept["own", part][1] < 0.2
        assert max(kept["stranger", part]) < 0.1


OPTIONS = ActivationPatchingOptions(components=("mixer", "mlp"), examples=100)


def test_metrics_are_found_again_in_what_is_kept(fda: Subject) -> None:
    diagnostic = ActivationPatching(OPTIONS)
    result = diagnostic.run(fda)
    kept = json.loads(json.dumps(result.details, allow_nan=False))
    assert diagnostic.implied(kept, result.records) == result.metrics
    for name, value in diagnostic.implied(kept, {}).items():
        assert value == pytest.approx(result.metrics[name].value), name
    for ratios in kept["foreign"]["norm_ratio"].values():
        assert ratios["validation_accuracy"] == pytest.approx([1, 1])


def of_strangers(monkeypatch: pytest.MonkeyPatch, order: Any) -> None:
    monkeypatch.setattr(patching, "derangement", lambda alike, rng: order(len(alike[0])))


def test_a_control_that_does_as_much_leaves_no_excess(fda: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everybody gets their own change: the control is the patch itself, and wins."""
    of_strangers(monkeypatch, np.arange)
    result = ActivationPatching(OPTIONS).run(fda)
    for name in ("patch_dissociation_excess", "patch_specificity"):
        found = result.metrics[name]
        assert found.value == pytest.approx(0, abs=0.01)
        assert found.ci_low is not None and found.ci_high is not None and found.ci_low <= 0 <= found.ci_high
    own, foreign = (result.details["levels"]["mlp"][kind]["memorization_rate"] for kind in ("own", "foreign"))
    assert foreign["value"] == pytest.approx(own["value"][1:-1], abs=0.02)


def test_padding_and_small_batches_change_no_number(fda: Subject) -> None:
    first = ActivationPatching(OPTIONS).run(fda)
    again = ActivationPatching(OPTIONS).run(padded(fda, 3, batch_size=32))
    for kind in ("foreign", "mean"):
        for name in ("validation_accuracy", "memorization_rate"):
            one, other = (r.details["levels"]["mlp"][kind][name]["value"] for r in (first, again))
            assert one == pytest.approx(other, abs=0.01)


def test_without_attention_nothing_is_said_of_specificity(fda: Subject) -> None:
    result = ActivationPatching(ActivationPatchingOptions(components=("mlp",), examples=60)).run(fda)
    assert result.metrics["patch_dissociation_excess"].value is not None
    assert "attention" in str(result.metrics["patch_specificity"].reason_if_null)
