"""Metrics computed again from the records beside a report, by the very statistics that first made them."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..diagnostics.learning_dynamics import lag
from ..diagnostics.logit_lens import depth
from ..measurement import PURPOSE
from ..statistics import Estimate, from_draws, resampled_means, wilson
from ..training.curve import Evaluation
from . import details
from .answers import Answers, Unreadable, read_table
from .verify import ANSWERED, listed

SAMPLES, DYNAMICS, LENS = "samples.parquet", "dynamics.jsonl", "logit_lens.parquet"
DYNAMIC = ("early_clean_peak", "early_clean_peak_relative", "memorization_lag")
DEPTHS = ("clean_label_depth", "override_depth")
CROSS = {
    "cross_faithfulness_memorization": "clean_on_memorization",
    "cross_faithfulness_clean": "memorization_on_clean",
    "cross_faithfulness_random": "random",
}
Found = tuple[dict[str, "Recomputed"], str]


@dataclass(frozen=True)
class Recomputed:
    """A metric's estimate, and the file that it was computed from."""

    estimate: Estimate
    source: str


def generator(report: Mapping[str, Any], purpose: str) -> np.random.Generator:
    """The generator that a run uses for a purpose, as ``Subject.rng`` makes it."""
    return np.random.default_rng([report["seeds"]["bootstrap"], zlib.crc32(purpose.encode())])


def answers(report: Mapping[str, Any], folder: Path) -> tuple[Answers | None, str]:
    """The answers beside a report, or why there are none."""
    missing = _missing(report, folder, SAMPLES)
    if missing:
        return None, missing
    try:
        return Answers.load(folder / SAMPLES), ""
    except Unreadable as error:
        return None, f"{SAMPLES} {error}"


def _missing(report: Mapping[str, Any], folder: Path, file: str) -> str:
    """Why a file cannot be used, empty when it can: one that the report does not list is nobody's claim."""
    if not (folder / file).is_file():
        return f"{file} is not here"
    return "" if listed(report, file) else f"{file} is not among the report's artifacts"


def from_samples(report: Mapping[str, Any], folder: Path) -> Found:
    """The metrics that need nothing but answers, with the intervals of the same bootstrap."""
    found, why = answers(report, folder)
    if found is None:
        return {}, why
    if report["data"]["n_noisy"] and not found.marked().any():
        return {}, f"{SAMPLES} holds no phantom labels"
    scored = found.score(generator(report, PURPOSE))
    return {name: Recomputed(estimate, SAMPLES) for name, estimate in scored.items()}, ""


def from_dynamics(report: Mapping[str, Any], folder: Path) -> Found:
    """What follows from the evaluations during training."""
    missing = _missing(report, folder, DYNAMICS)
    if missing:
        return {}, missing
    entry = report["metrics"].get("early_clean_peak")
    if entry is None or not report["data"]["n_noisy"]:
        return {}, "no noisy labels at this noise rate"
    try:
        curve = [json.loads(line) for line in (folder / DYNAMICS).read_text(encoding="utf-8").splitlines()]
        peak = details.peak(curve, entry["n"])
        lagged = lag([Evaluation.read(point) for point in curve], details.level_of(report))
    except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError) as error:
        return {}, f"{DYNAMICS} is no learning curve: {type(error).__name__}"
    value, relative = peak["early_clean_peak"], peak["early_clean_peak_relative"]
    assert value is not None
    early = wilson(round(value * entry["n"]), entry["n"])
    out = {"early_clean_peak": early, "memorization_lag": lagged}
    if relative is not None and value and early.ci_low is not None and early.ci_high is not None:
        scale = relative / value
        bounds = early.ci_low * scale, early.ci_high * scale
        out["early_clean_peak_relative"] = Estimate(relative, *bounds, early.ci_method, early.n)
    return {name: Recomputed(estimate, DYNAMICS) for name, estimate in out.items()}, ""


def from_lens(report: Mapping[str, Any], folder: Path) -> Found:
    """The depths at which either answer leads, from the ranks of every example at every layer."""
    missing = _missing(report, folder, LENS)
    found, why = answers(report, folder)
    if missing or found is None:
        return {}, missing or f"the clusters of the examples are not known: {why}"
    if "train_noisy" not in found.splits:
        return {}, "no noisy labels at this noise rate"
    try:
        columns = read_table(folder / LENS, ("true_rank", "label_rank"))
        over = np.array(columns["label_rank"], dtype=float) < np.array(columns["true_rank"], dtype=float)
        clusters = found.clusters("train_noisy")[: len(over)]
        if over.ndim != 2 or len(clusters) != len(over):
            raise ValueError("another shape")
    except (Unreadable, ValueError, TypeError) as error:
        return {}, f"{LENS} {error}"
    out = {}
    for name, kind in zip(DEPTHS, ("clean", "override"), strict=True):
        out[name] = Recomputed(depth(over, clusters, generator(report, "logit_lens"), kind), LENS)
    return out, ""


def from_circuits(report: Mapping[str, Any], folder: Path) -> Found:
    """Cross-faithfulness, whose scores of every example the report itself holds."""
    entry = report["diagnostics"].get("circuits")
    if entry is None or entry["status"] != "success" or entry["version"] != 1:
        return {}, "no per-example records are kept"
    try:
        cross = entry["details"]["snapshots"]["post_memorization"]["cross"]
        out = {}
        for name, key in CROSS.items():
            scores = np.array(cross[key], dtype=float)
            draws = resampled_means(scores, np.arange(len(scores)), np.random.default_rng(0))
            n = report["metrics"][name]["n"]
            out[name] = Recomputed(
                from_draws(scores.mean(), draws, "bootstrap over examples", n), "scores in its details"
            )
    except (KeyError, TypeError, ValueError) as error:
        return {}, f"the details of circuits are of another shape: {type(error).__name__}"
    return out, ""


# Each source with the metrics that it can give.
SOURCES = ((from_samples, ANSWERED), (from_dynamics, DYNAMIC), (from_lens, DEPTHS), (from_circuits, tuple(CROSS)))
