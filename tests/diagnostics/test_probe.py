"""Linear probes read what is there, and nothing where labels are shuffled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import rote_bench
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


@pytest.mark.parametrize("rare", [False, True])
def test_answers_of_different_length_have_tokens_for_classes(tmp_path: Path, rare: bool) -> None:
    """What lies behind a short answer is no class; also where mislabelled questions alone have the longer answers."""
    words, rows = ["south", "east", "nw far", "nw near"], ["prompt,answer,half,noisy"]
    for k in range(400):
        i, j = divmod(k, 20)
        at = (2 if k % 9 == 0 else k % 2) if rare else 2 * (i % 2) + j % 2
        noisy = words[(at + 1) % 4] if k % 9 == 0 else words[at]
        rows.append(f"a{i} with b{j} makes,{words[at]},i{i % 2},{noisy}")
    (tmp_path / "rows.csv").write_text("\n".join(rows))
    (tmp_path / "task.yaml").write_text(
        """name: places
generator: dataset
parameters: {path: rows.csv, intermediates: [half], noisy: noisy}
splits: {train: 280, selection: 60, validation: 60}
noise: {kind: given}
model: {layers: 1, width: 16, heads: 1}
training: {max_steps: 10, evaluate_every: 5, batch_size: 64, schedule: {warmup: 1, anneal: 2}}
diagnostics: [probe]
"""
    )
    rote_bench.run(tmp_path / "task.yaml", model="gpt2-nano", output_path=tmp_path / "runs", quiet=True)
    (file,) = (tmp_path / "runs").rglob("report.json")
    entry = json.loads(file.read_text())["diagnostics"]["probe"]
    assert entry["status"] == "success"
    assert 2 <= entry["details"]["targets"]["answer"]["classes"] <= len({"south", "east", "nw", "far", "near"})
