"""How many examples a report says there are, held against its task, its noise rate and its answers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ..diagnostics.learning_dynamics import asked_of
from ..errors import clipped
from ..findings.kept import details_of
from ..noise import NoiseKind, Pairs
from ..report.conditions import at

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..plugins import Registry
    from ..report.record import Report
    from .answers import Answers

ROUNDING = 1e-6
CURVE = "learning_dynamics"


def faults(report: Report, registry: Registry) -> Iterator[str]:
    """Everything in which they differ, as far as it can be told without the examples."""
    data, splits = report.data, report.task.spec.get("splits")
    train, noisy = data.counts.get("train", 0), data.n_noisy
    if data.limit is None and isinstance(splits, dict):
        for name, size in splits.items():
            if type(size) is int and data.counts.get(name, size) != size:
                yield f"{name} holds {data.counts[name]} examples, but the task has {size}"
    if (data.noise_rate == 0) != (noisy == 0):
        yield f"{noisy} labels are wrong at noise rate {data.noise_rate:g}"
    asked, most = data.noise_rate * train, _apart(report, registry)
    if most is not None and abs(noisy - asked) > most:
        yield f"{noisy} labels are wrong, but noise rate {data.noise_rate:g} makes {asked:.6g} of {train}"
    clean = report.metrics.get("train_clean_accuracy")
    if clean is not None and clean.n > train - noisy:
        yield f"train_clean_accuracy is measured on {clean.n} examples, but there are {train - noisy}"


def unlike_answers(report: Report, answers: Answers) -> str | None:
    """What the details of the learning curve say of the questions and the answers at the end do not.

    Intervals of the curve follow from it, and what guessing would get right.
    """
    details, cap = details_of(report, CURVE), at(report.task.spec, "training", "evaluation_examples")
    if not details or type(cap) is not int:
        return None
    none: tuple[list[str], NDArray[np.int64]] = ([], np.zeros(0, np.int64))
    asked = {
        name: (answers.splits[split]["answer"], answers.clusters(split)) if split in answers.splits else none
        for name, split in (("noisy", "train_noisy"), ("validation", "validation"), ("clean", "train_clean"))
    }
    found, commonest = asked_of(asked, cap)
    if asked["noisy"][0]:
        found["early_clean_peak"] = {"commonest_answer": commonest}
    for path, number in _numbers(found):
        said = at(details, *path)
        if not isinstance(said, int | float) or not math.isclose(said, number, rel_tol=ROUNDING, abs_tol=ROUNDING):
            name = ".".join(path)
            return f"{name} of {CURVE} is {clipped(repr(said))}, but samples.parquet gives {number:.6g}"
    return None


def _numbers(value: Mapping[str, Any], *path: str) -> Iterator[tuple[tuple[str, ...], float]]:
    """Numbers of a nested mapping, with the keys that lead to each."""
    for key, inner in value.items():
        if isinstance(inner, dict):
            yield from _numbers(inner, *path, key)
        elif inner is not None:
            yield (*path, key), inner


def _apart(report: Report, registry: Registry) -> float | None:
    """By how many the wrong labels may differ from rate times questions; None where the kind of noise decides it."""
    kind = registry.table("noise").get(str(at(report.task.spec, "noise", "kind")))
    if kind is None:
        return None
    if kind.mark is NoiseKind.mark or not kind.rated:
        return 0.5 + ROUNDING
    return 1.5 + ROUNDING if issubclass(kind, Pairs) else None  # of an odd number one stays clean
