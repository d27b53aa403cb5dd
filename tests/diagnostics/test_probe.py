"""Linear probes read what is there, and nothing where labels are shuffled."""

from __future__ import annotations

from typing import Any

import torch

from rote_bench.diagnostics.probe import Probe, ProbeOptions
from rote_bench.interventions import Site, capture
from rote_bench.linear import fit_probes
from rote_bench.subject import Subject
from tests.diagnostics.reports import details, value


def test_the_bridge_stays_readable_on_memorised_examples(thr_report: dict[str, Any]) -> None:
    assert value(thr_report, "bridge_retention") > 0.7
    target = details(thr_report, "probe")["targets"]["bridge"]
    best = max(map(max, target["noisy"]))
    assert best > max(map(max, target["control"])) + 0.2
    assert best > max(map(max, target["random_network"])) + 0.2


def test_a_probe_of_permuted_labels_reads_nothing(thr: Subject) -> None:
    view = thr.more_clean(800)
    _, states = capture(thr.anatomy(), view.true.input_ids, [Site(1, "block")])
    x = states[Site(1, "block")][:, 1:2]
    classes = torch.tensor(view.intermediate("bridge", thr.task.values("bridge")))
    permuted = classes[torch.randperm(len(classes), generator=torch.Generator().manual_seed(0))]
    half = len(x) // 2
    real = fit_probes(x[:half], {"c": (classes[:half], 6)}).predict(x[half:], "c")[:, 0] == classes[half:]
    null = fit_probes(x[:half], {"c": (permuted[:half], 6)}).predict(x[half:], "c")[:, 0] == permuted[half:]
    majority = float(classes.bincount().max()) / len(classes)
    assert null.float().mean() < majority + 0.08
    assert real.float().mean() > majority + 0.3


def test_every_target_is_probed_on_its_own_classes(fda: Subject) -> None:
    result = Probe(ProbeOptions(fit_examples=400, intermediates=("sum_0", "carry_1"))).run(fda)
    assert set(result.details["targets"]) == {"sum_0", "carry_1", "answer"}
    assert (result.details["targets"]["sum_0"]["classes"], result.details["targets"]["carry_1"]["classes"]) == (19, 2)
    assert len(result.details["targets"]["carry_1"]["noisy"]) == 2
    assert len(result.details["targets"]["carry_1"]["noisy"][0]) == len(result.details["positions"])
