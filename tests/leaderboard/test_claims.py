"""Every leaf of a report is classified, and changing one alone shows that it is classified as it should be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rote_bench.errors import UserError
from rote_bench.leaderboard.check import check
from rote_bench.leaderboard.claims import CLAIMS, REPEATED, TRUST, leaves
from rote_bench.plugins import Registry
from rote_bench.report.schema import read

from .cells import put
from .cheating import copied, places, rehash, sign

OTHER: dict[str, Any] = {
    "schema_version": 3,
    "status": "failed",
    "error": "by hand",
    "artifacts.*.path": "report.json",
    "data.limit": 50,
    "model.name": "llama-nano",
    "model.model_type": "llama",
    "model.source": "object",
    "model.revision": "0" * 40,
    "model.weights": "1" * 64,
    "task.name": "renamed",
    "task.spec.generator": "addition",
    "task.spec.parameters": {"entities": 13},
    "task.spec.splits": {"train": 0.6},
    "task.spec.noise": {"kind": "near_miss"},
    "task.spec.model": {"layers": 2},
    "task.spec.training": {"learning_rate": 0.5},
    "task.spec.diagnostics": [{"logit_lens": {"examples": 1024}}],
    "task.spec.profile": "quick",
    "task.spec.seeds": {"data": 5},
    "training.optimizer": "adamw",
    "training.stop_reason": "memorized",
    "training.settled_step": 5,
    "training.steps_after_98": 1,
    "training.schedule.settle": "fixed",
    "training.schedule.step": 5,
    "training.schedule.twin": None,  # there is none that a cell without a twin could name
    "training.way": "distributed",
    "training.stacked": None,
    "metrics.*.higher_is_better": "other",
    "diagnostics.*.status": "not_applicable",
    "diagnostics.*.details": {"curve": [], "levels": {}, "targets": {}},
    "findings.*.verdict": "replicated",
    "environment.dtype": "bfloat16",
    "environment.precision": "bfloat16",
    "environment.git_dirty": True,
    "identity.parts": {"noise_rate": 0.2},
}
# Of what hangs together by hashes: what must stay as it was changed.
KEEP = {
    "identity": ("identity",),
    "task.content_hash": ("content",),
    "task.spec": (),
    "findings": ("findings",),
}
ONE_OF = ("memorization_rate", "nearest_neighbour_1")  # metrics from answers, and from records


def other(leaf: str, value: Any) -> Any:
    """Another value in the place of a leaf's."""
    if leaf in OTHER:
        new = OTHER[leaf]
        if new == "other":
            return True if value is None else None
        if new == "replicated" and value == new:
            return "not_replicated"
        return {**value, **new} if isinstance(new, dict) and isinstance(value, dict) else new
    if value is None:
        return "by hand" if not leaf.endswith("seconds") else 1.0
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return value * 0.9 + 0.001
    if isinstance(value, str):
        return "0" * 64 if len(value) == 64 else f"{value} x"
    return {**value, "by_hand": 1} if isinstance(value, dict) else value[1:] if len(value) > 1 else ["by hand"]


def change(report: dict[str, Any], leaf: str) -> bool:
    """Put another value in the place of one leaf; whether there is such a leaf in the report."""
    last = leaf.rpartition(".")[2]
    found = list(places(report, leaf))
    if leaf.startswith("metrics."):
        found = [(report["metrics"][name], last) for name in ONE_OF]
    if leaf.startswith("artifacts."):
        found = found[:1]
    for holder, key in found:
        holder[key] = other(leaf, holder[key])
    return bool(found)


def test_every_leaf_of_a_report_is_classified() -> None:
    assert sorted(leaves()) == sorted(CLAIMS)
    assert all(ground.how for ground in CLAIMS.values())


@pytest.mark.parametrize("leaf", sorted(leaf for leaf, ground in CLAIMS.items() if ground.kind != TRUST))
def test_what_is_not_on_trust_is_noticed(leaf: str, tiny_cell: Path, tmp_path: Path, registry: Registry) -> None:
    report, folder = copied(tiny_cell, tmp_path / "cell")
    assert change(report, leaf)
    if leaf != "task.spec.seeds":
        rehash(report, *next((kept for start, kept in KEEP.items() if leaf.startswith(start)), ()))
    if leaf.startswith("artifacts."):
        put(folder, report)
    else:
        sign(report, folder)
    honest = read(json.loads((tiny_cell / "report.json").read_text()))
    try:
        found = check(folder, registry, (lambda *run: honest) if CLAIMS[leaf].kind == REPEATED else None)
    except UserError:
        return  # it is no report at all
    assert not found.holds or (not found.complete and leaf == "task.spec.generator"), found.table()


def test_what_is_on_trust_is_not(tiny_cell: Path, tmp_path: Path, registry: Registry) -> None:
    report, folder = copied(tiny_cell, tmp_path / "cell")
    for leaf, ground in CLAIMS.items():
        if ground.kind == TRUST and leaf not in ("task.spec.name", "task.spec.version"):  # the same as the task's own
            change(report, leaf)
    found = check(sign(rehash(report), folder), registry)
    assert found.holds and found.complete, found.table()
