"""How many examples a report says there are, held against its task, its noise rate and its answers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..noise import NoiseKind, Pairs
from ..report.conditions import at

if TYPE_CHECKING:
    from ..plugins import Registry
    from ..report.record import Report

ROUNDING = 1e-6


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


def _apart(report: Report, registry: Registry) -> float | None:
    """By how many the wrong labels may differ from rate times questions; None where the kind of noise decides it."""
    kind = registry.table("noise").get(str(at(report.task.spec, "noise", "kind")))
    if kind is None:
        return None
    if kind.mark is NoiseKind.mark or not kind.rated:
        return 0.5 + ROUNDING
    return 1.5 + ROUNDING if issubclass(kind, Pairs) else None  # of an odd number one stays clean
