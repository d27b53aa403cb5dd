"""Wrong labels planted into the MLP units of the clean task, and into the others; both through ``run``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from rote_bench.nodes import Nodes, problem_of
from rote_bench.report.record import PRE
from rote_bench.subject import Subject
from tests.conftest import SMALL_THR
from tests.planting import masks_of, planted, questions, teach

FOUND = 100  # held-out questions of the selection split that units are chosen on; the diagnosis has others


def plant(subject: Subject, same: bool, before: Path, after: Path) -> None:
    """Leave the clean task half of all nodes' worth of units; then teach wrong labels to these alone, or to the rest.

    The rest do nothing before. Taught, they are kept quiet on other questions, so that these do not come to need them.
    """
    anatomy = subject.anatomy(PRE)
    model, (taught, others) = anatomy.model, questions(subject)
    nodes = Nodes(anatomy, ["heads", "units"], subject.clean.true.rows(slice(256)), subject.batch_size)
    scores, _ = nodes.importance(problem_of(subject.selection).part(slice(FOUND)), 6)
    is_unit = np.repeat([site.part == "units" for site in nodes.sites], nodes.counts)
    strength = np.where(is_unit, np.abs(scores), 0)
    needed = np.zeros(nodes.count, dtype=bool)
    needed[np.argsort(-strength, kind="stable")[: nodes.count // 2]] = True
    sites = [
        (site.layer, own)
        for site, own in zip(nodes.sites, np.split(needed, np.cumsum(nodes.counts)[:-1]), strict=True)
        if site.part == "units"
    ]
    reasoning = {layer: torch.from_numpy(np.flatnonzero(own)) for layer, own in sites}
    rest = {layer: torch.from_numpy(np.flatnonzero(~own)) for layer, own in sites}
    with torch.no_grad():
        for layer, own in rest.items():
            model.transformer.h[layer].mlp.c_proj.weight[own] = 0
    everything = {p: torch.ones_like(p) for p in model.parameters()}
    teach(model, {1.0: others}, everything | masks_of(model, reasoning), 200, 0.004)
    model.save_pretrained(before)
    units = reasoning if same else rest
    teach(
        model, {1.5: taught, 1.0: others}, masks_of(model, units), 240, 0.01, quiet=(0.0, {}) if same else (5.0, rest)
    )
    model.save_pretrained(after)


@pytest.mark.slow
@pytest.mark.parametrize("same", [True, False])
def test_memory_on_the_circuit_of_the_clean_task_and_beside_it(same: bool, thr_cell: Path, tmp_path: Path) -> None:
    report = planted(
        thr_cell, SMALL_THR, "[{circuits: {examples: 128}}]", tmp_path, lambda s, b, a: plant(s, same, b, a)
    )
    found = {finding.id: finding for finding in report.findings}["shared_circuits"]
    assert found.verdict == ("replicated" if same else "not_replicated"), found.reason
