"""Which cells of a sweep one process trains as one."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..hashing import canonical
from ..machine import FILLING

if TYPE_CHECKING:
    from .cells import Job

RATES = ("learning_rate", "adam_learning_rate")
LARGEST = 64  # cells of a stack, where nobody says how many; more gain little


def kind(job: Job) -> Hashable | None:
    """What cells share that can be trained as one; None where a cell cannot be.

    They differ in seeds, noise rates and learning rates. Whether their models can be stacked, and how many fit, is
    found out by the process that has made them.
    """
    settings = job.settings
    if settings.compile or not settings.train or settings.stacked is False:
        return None
    if settings.stacked is None and (job.size or 0.0) >= FILLING:
        return None
    spec = job.spec.resolved()
    recipe = {key: value for key, value in spec["training"].items() if key not in RATES}
    task = [spec[key] for key in ("generator", "parameters", "splits")]
    same = repr(replace(settings, output_path=Path()))  # trials of one configuration and of another lie apart
    return (job.model, canonical([dict(job.spec.model), task, recipe]), same, job.plugins, job.gpus)


def gathered(first: Job, ready: Sequence[Job], size: int) -> Job:
    """A cell with as many of those like it as one process is to train with it.

    Args:
        ready: cells that need not wait for anything, ``first`` among them.
        size: how many at most; 1 leaves the cell to itself.
    """
    own = kind(first) if size > 1 else None
    if own is None:
        return first
    members = [job for job in ready if job.folder != first.folder and kind(job) == own][: size - 1]
    return replace(first, others=tuple(members))


def even(count: int, workers: int) -> int:
    """The size of stacks of so many cells that leaves none of the workers without any."""
    return max(1, min(LARGEST, -(-count // workers)))
