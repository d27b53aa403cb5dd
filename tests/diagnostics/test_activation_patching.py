"""Activations of another network destroy what those of the same one keep."""

from __future__ import annotations

import itertools
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from rote_bench.evaluation import matches
from rote_bench.interventions import Site, capture, replace, run
from rote_bench.subject import Subject
from tests.conftest import SMALL_FDA, run_cell


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
