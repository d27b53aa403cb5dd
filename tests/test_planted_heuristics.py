"""Wrong labels planted into few MLP units: into those that follow heuristics, and into others; both through ``run``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from rote_bench.diagnostics import neurons
from rote_bench.matching import concentration, followed, matched_bins
from rote_bench.report.record import PRE
from rote_bench.subject import Subject
from tests.conftest import SMALL_FDA
from tests.planting import masks_of, planted, questions, teach

DIAGNOSTICS = "[{activation_patching: {examples: 128}}, {neurons: {examples: 200, top: 20}}]"
STEPS, RATE = 240, 0.01


def chosen_units(subject: Subject, follow: bool) -> tuple[NDArray[Any], NDArray[Any]]:
    """(units,) a tenth of the units, those that follow heuristics best or some of the others; (all,) their layers."""
    before = subject.anatomy(PRE)
    fit = subject.more_clean(200)
    activations = neurons._activations(subject, before, fit, 200)
    found = followed(activations, *neurons._patterns(subject, fit, 200), 20, np.random.default_rng(1))
    layer = np.repeat(np.arange(before.n_layers), before.input_width(0, "units"))
    properties = [(activations > 0).mean(0), np.sqrt(np.square(activations).mean(0))]
    weights = concentration(found.lift, matched_bins(layer, properties, neurons._live(activations, layer)))
    high, low = np.flatnonzero(weights.high), np.flatnonzero(weights.low)
    return (high if follow else np.random.default_rng(0).permutation(low)[: len(high)]), layer


def plant(subject: Subject, follow: bool, before: Path, after: Path) -> None:
    """Teach the model of before memorization all questions, and then the wrong labels by some of its units alone."""
    model, width = subject.anatomy(PRE).model, subject.anatomy(PRE).input_width(0, "units")
    taught, others = questions(subject)
    teach(model, {1.0: others}, {p: torch.ones_like(p) for p in model.parameters()}, 100, 0.002)
    model.save_pretrained(before)
    units, layer = chosen_units(subject, follow)
    own = {i: torch.from_numpy(units[layer[units] == i] % width) for i in range(subject.anatomy(PRE).n_layers)}
    teach(model, {0.35: taught, 1.0: others}, masks_of(model, own), STEPS, RATE)
    model.save_pretrained(after)


@pytest.mark.parametrize("follow", [True, False])
def test_heuristics_that_shift_most_and_others_that_do(follow: bool, fda_cell: Path, tmp_path: Path) -> None:
    """Memorization sits in MLPs alone in both; the claim hangs on which of their units moved."""
    report = planted(fda_cell, SMALL_FDA, DIAGNOSTICS, tmp_path, lambda s, b, a: plant(s, follow, b, a))
    found = {finding.id: finding for finding in report.findings}["outlier_heuristics"]
    for name in ("patch_dissociation_excess", "patch_specificity"):
        assert (report.metrics[name].ci_low or 0) > 0, name
    shift = report.metrics["heuristic_shift_concentration"]
    assert shift.ci_low is not None and shift.ci_high is not None
    assert shift.ci_low > 1 if follow else shift.ci_high < 1
    assert found.verdict == ("replicated" if follow else "not_replicated"), found.reason
    assert "heuristic shift concentration" in (found.reason or "")
