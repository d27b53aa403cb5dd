"""What a training leaves behind that no second one has: by it the board sees one training under two names.

Losses are compared as they are written, to four digits. Of two trainings that differ in any seed, label or rate they
are apart from the first evaluations on.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..hashing import digest
from ..report.conditions import at
from ..report.record import POST, Report
from .answers import Answers, Unreadable
from .implied import listed

DYNAMICS, SAMPLES = "dynamics.jsonl", "samples.parquet"
LEAST_POINTS, LEAST_LOSSES = 8, 5  # evaluations of a curve, and different losses among them
LEAST_WRONG = 20
LARGEST = 16 * 2**20  # bytes of a learning curve


@dataclass(frozen=True, slots=True)
class Traces:
    """Of one cell.

    Attributes:
        training: hashes of its loss curves and of its final weights; two cells that share one are one training.
        wrong: hash of the wrong answers to held-out questions, None where they are few or not known.
        n_wrong: how many.
    """

    training: frozenset[str]
    wrong: str | None
    n_wrong: int


def traces(report: Report, folder: Path) -> Traces:
    """The traces of a report that was found to be sound, and of the files beside it."""
    if report.training.steps == 0:  # one and the same model under every seed
        return Traces(frozenset(), None, 0)
    found = {*_curves(report, folder), *_weights(report)}
    wrong, n_wrong = _wrong(report, folder)
    return Traces(frozenset(found), wrong, n_wrong)


def _curves(report: Report, folder: Path) -> Iterator[str]:
    held = [at(entry.details, "curve") for entry in report.diagnostics.values()]
    file = folder / DYNAMICS
    if listed(report, DYNAMICS) and file.is_file() and file.stat().st_size <= LARGEST:
        with contextlib.suppress(ValueError, RecursionError):  # what is no curve tells nothing
            held.append([json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()])
    for curve in held:
        losses = [at(point, "loss") for point in curve] if isinstance(curve, list) else []
        known = [f"{loss:.4g}" for loss in losses if isinstance(loss, float)]
        if len(known) == len(losses) >= LEAST_POINTS and len(set(known)) >= LEAST_LOSSES:
            yield digest(["loss", known])


def _weights(report: Report) -> Iterator[str]:
    """Of the final snapshot; one that is not kept has its hash in the report all the same."""
    ours = {a.path: a.sha256 for a in report.artifacts if a.path.endswith(".safetensors") and f"/{POST}/" in a.path}
    if ours:
        yield digest(["weights", ours])


def _wrong(report: Report, folder: Path) -> tuple[str | None, int]:
    if not listed(report, SAMPLES) or not (folder / SAMPLES).is_file():
        return None, 0
    try:
        asked = Answers.load(folder / SAMPLES).splits["validation"]
    except Unreadable:
        return None, 0
    rows = zip(asked["index"], asked["prediction"], asked["is_answer"], strict=True)
    wrong = sorted((index, said) for index, said, right in rows if not right)
    if len(wrong) < LEAST_WRONG:
        return None, len(wrong)
    return hashlib.sha256(repr(wrong).encode("utf-8", "replace")).hexdigest(), len(wrong)
