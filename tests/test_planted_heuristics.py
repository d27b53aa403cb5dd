"""Wrong labels planted into few MLP units: into those that follow heuristics, and into others; both through ``run``."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

import rote_bench
from rote_bench.diagnostics import neurons
from rote_bench.encoding import Encoded, encode
from rote_bench.matching import concentration, followed, matched_bins
from rote_bench.report.record import Report
from rote_bench.subject import Subject
from tests.conftest import SMALL_FDA
from tests.diagnostics.conftest import subject_of

TASK = SMALL_FDA[: SMALL_FDA.index("diagnostics:")] + (
    "diagnostics: [{activation_patching: {examples: 128}}, {neurons: {examples: 200, top: 20}}]\n"
)
PRE, POST = "pre_memorization", "post_memorization"
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


def questions(subject: Subject) -> tuple[Encoded, Encoded]:
    """Mislabelled questions with their labels; all others with their answers, but for those held out."""
    train = subject.data.train
    kept = {*subject.data.validation.indices, *(train.indices[i] for i in train.noisy)}
    noisy = train.take(train.noisy)
    others = [subject.task.example(i) for i in range(len(subject.task)) if i not in kept]
    return encode(subject.tokenizer, noisy.examples, noisy.labels), encode(subject.tokenizer, others)


def teach(model: Any, parts: Mapping[float, Encoded], masks: Mapping[Any, Any], steps: int, rate: float) -> None:
    """Steps of Adam on 250 questions at the most of each part, whose loss counts so much, where masks are 1."""
    optimizer, draws = torch.optim.Adam(list(masks), lr=rate), torch.Generator().manual_seed(0)
    for step in range(steps):
        loss = torch.zeros(())
        for weight, encoded in parts.items():
            part = encoded.rows(torch.randperm(len(encoded), generator=draws)[:250])
            logits = model(input_ids=part.input_ids).logits
            loss = loss + weight * F.cross_entropy(logits.flatten(0, 1), part.targets.flatten(), ignore_index=-100)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        for p, mask in masks.items():
            p.grad *= mask
        optimizer.param_groups[0]["lr"] = rate * (1 - step / steps)
        optimizer.step()


def plant(subject: Subject, follow: bool, before: Path, after: Path) -> None:
    """Teach the model of before memorization all questions, and then the wrong labels by some of its units alone."""
    model, width = subject.anatomy(PRE).model, subject.anatomy(PRE).input_width(0, "units")
    taught, others = questions(subject)
    teach(model, {1.0: others}, {p: torch.ones_like(p) for p in model.parameters()}, 100, 0.002)
    model.save_pretrained(before)
    units, layer = chosen_units(subject, follow)
    masks = {}
    for i, block in enumerate(model.transformer.h):
        own = torch.from_numpy(units[layer[units] == i] % width)
        for p, axis in ((block.mlp.c_fc.weight, 1), (block.mlp.c_fc.bias, 0), (block.mlp.c_proj.weight, 0)):
            masks[p] = torch.zeros_like(p).index_fill_(axis, own, 1)
    teach(model, {0.35: taught, 1.0: others}, masks, STEPS, RATE)
    model.save_pretrained(after)


def planted(cell: Path, folder: Path, follow: bool) -> Report:
    subject = subject_of(cell, SMALL_FDA, folder)
    before, after = folder / "before", folder / "after"
    for place in (before, after):
        shutil.copytree(cell / "checkpoints" / PRE, place)
    plant(subject, follow, before, after)
    task = folder / "planted.yaml"
    task.write_text(TASK)
    return rote_bench.run(
        task,
        model="gpt2-nano",
        output_path=folder / "runs",
        train=False,
        snapshots={PRE: before, POST: after},
        quiet=True,
    ).record


@pytest.mark.parametrize("follow", [True, False])
def test_heuristics_that_shift_most_and_others_that_do(follow: bool, fda_cell: Path, tmp_path: Path) -> None:
    """Memorization sits in MLPs alone in both; the claim hangs on which of their units moved."""
    report = planted(fda_cell, tmp_path, follow)
    found = {finding.id: finding for finding in report.findings}["outlier_heuristics"]
    for name in ("patch_dissociation_excess", "patch_specificity"):
        assert (report.metrics[name].ci_low or 0) > 0, name
    shift = report.metrics["heuristic_shift_concentration"]
    assert shift.ci_low is not None and shift.ci_high is not None
    assert shift.ci_low > 1 if follow else shift.ci_high < 1
    assert found.verdict == ("replicated" if follow else "not_replicated"), found.reason
    assert "heuristic shift concentration" in (found.reason or "")
