"""Every diagnostic of a cell, each on its own: whatever breaks in one leaves the rest of the report alone."""

from __future__ import annotations

import os
import random
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from ..diagnostics import NotApplicable
from ..machine import choose_cores, cpu_seconds, memory_at_hand, resident_bytes
from ..report import figures, write
from ..report.record import DiagnosticEntry, Metric
from ..spec.options import build as build_options
from ..strangers import contained, reason_of
from .accept import Accepted, accept
from .forks import in_children, possible
from .interrupts import heed

if TYPE_CHECKING:
    from ..plugins import Registry
    from ..spec.model import DiagnosticSpec
    from ..subject import Subject
    from .cell import Cell

Found: TypeAlias = "tuple[DiagnosticEntry, Mapping[str, Metric]]"

ROOM = 0.8  # of the memory at hand, which children may fill
WORKING = 300 << 20  # bytes that a diagnosis works on at most, apart from models


def diagnose(cell: Cell, subject: Subject) -> tuple[dict[str, DiagnosticEntry], dict[str, Metric]]:
    """Run the diagnostics of the spec, several at a time where ``at_once`` says so.

    Returns:
        What became of each, and all their metrics, by name.
    """
    count = at_once(cell, subject)
    found = _apart(cell, subject, count) if count > 1 else _in_turn(cell, subject)
    entries = {each.name: entry for each, (entry, _) in zip(cell.spec.diagnostics, found, strict=True)}
    return entries, {name: metric for _, measured in found for name, metric in measured.items()}


def at_once(cell: Cell, subject: Subject) -> int:
    """How many diagnostics are run at a time, each in a forked child with one thread.

    One, in this process, where forking is not possible or not allowed, where memory does not suffice for two, where
    errors are wanted as they are raised, and where more than half of the cores would stand idle, which the threads of a
    large model would use.
    """
    settings = cell.settings
    if not settings.forks or settings.track or cell.progress.debug or subject.device != "cpu" or not possible():
        return 1
    cores, memory = choose_cores(settings.threads), memory_at_hand()
    count = min(cores, len(cell.spec.diagnostics))
    if memory is not None:
        count = min(count, int(ROOM * memory) // need(subject.anatomy().model))
    return count if count > 1 and 2 * count >= cores else 1


def need(model: Any) -> int:
    """Bytes that a child needs beside what it shares with this process: models of its own, and what it works on."""
    weights: int = sum(p.numel() * p.element_size() for p in model.parameters())
    return WORKING + 2 * weights


def costs_of(cell: Cell, subject: Subject) -> list[float]:
    """Of each diagnostic of the spec: what it takes, in examples sent through the model once."""
    table, layers = cell.registry.table("diagnostics"), subject.anatomy().n_layers
    found = []
    for chosen in cell.spec.diagnostics:
        cls = table[chosen.name]
        options = build_options(cls.Options, chosen.options)
        there = len(subject.noisy) if cls.needs_noise else subject.cap
        fixed, of_each_layer = cls.passes
        found.append(min(there, getattr(options, "examples", there)) * (fixed + of_each_layer * layers))
    return found


def _in_turn(cell: Cell, subject: Subject) -> list[Found]:
    found = []
    for number, each in enumerate(cell.spec.diagnostics):
        heed()
        _say(cell, number)
        found.append(_one(cell, subject, each))
    return found


def _apart(cell: Cell, subject: Subject, count: int) -> list[Found]:
    """Each diagnostic in a child of its own, those that take longest first; what becomes of them, in the spec's order.

    Args:
        count: how many at a time.
    """
    chosen, table = cell.spec.diagnostics, cell.registry.table("diagnostics")
    subject.encode_views()
    here, shared = len(cell.warnings), resident_bytes()
    begun: dict[int, float] = {}
    found: dict[int, Found] = {}
    said: dict[int, Sequence[str]] = {}
    own: list[int] = []

    def started(number: int) -> None:
        begun[number] = time.monotonic()
        _say(cell, number)

    def work(number: int) -> tuple[Found, Sequence[str]]:
        return _one(cell, subject, chosen[number]), cell.warnings[here:]

    costs = costs_of(cell, subject)
    order = sorted(range(len(chosen)), key=lambda number: -costs[number])
    for end in in_children({number: partial(work, number) for number in order}, count, started):
        name, seconds = chosen[end.number].name, time.monotonic() - begun[end.number]
        own.append(end.peak_bytes - shared)
        if end.result is not None:
            found[end.number], said[end.number] = end.result
            continue
        entry = DiagnosticEntry("failed", end.lost, table[name].version, seconds, (), {}, end.cpu_seconds)
        found[end.number], said[end.number] = (entry, {}), [f"diagnostic {name} failed: {end.lost}"]
        cell.progress.warn(said[end.number][0])
    for number in range(len(chosen)):
        cell.warnings += said[number]
    cell.timings.peak_bytes = shared + sum(sorted(own)[-count:])
    return [found[number] for number in range(len(chosen))]


def _say(cell: Cell, number: int) -> None:
    chosen = cell.spec.diagnostics
    cell.progress.stage(f"diagnosing {number + 1}/{len(chosen)}: {chosen[number].name}")


def _one(cell: Cell, subject: Subject, chosen: DiagnosticSpec) -> Found:
    table = cell.registry.table("diagnostics")
    cls = table[chosen.name]
    others = {m.name: d.name for d in reversed(cell.spec.diagnostics) for m in table[d.name].metrics if d != chosen}
    before, cpu = time.monotonic(), cpu_seconds()
    accepted = Accepted({}, {}, {})

    def entry(status: Literal["success", "failed", "not_applicable"], reason: str | None) -> DiagnosticEntry:
        return DiagnosticEntry(
            status=status,
            reason=reason,
            version=cls.version,
            seconds=time.monotonic() - before,
            metrics=tuple(sorted(accepted.metrics)),
            details=accepted.details,
            cpu_seconds=cpu_seconds() - cpu,
        )

    try:
        with contained(), seeded(subject.spec.seeds.bootstrap, chosen.name):
            diagnostic = cls(build_options(cls.Options, chosen.options), subject.spec.seeds.bootstrap)
            found = accept(diagnostic, diagnostic.run(subject), subject, others)
        if found.records:
            write.write_table(cell.folder / f"{chosen.name}.parquet", found.records)
    except NotApplicable as error:
        return entry("not_applicable", str(error) or "it does not say why"), {}
    except Exception as error:  # a stranger's failure belongs into the report and must harm nothing else
        reason = reason_of(error)
        cell.warn(f"diagnostic {chosen.name} failed: {reason}")
        if cell.progress.debug:
            raise
        return entry("failed", reason), {}
    accepted = found
    return entry("success", None), accepted.metrics


@contextmanager
def seeded(seed: int, name: str) -> Iterator[None]:
    """Begin the generators that all code of the process shares anew, and put them back as they were.

    What is built in draws from generators of its own. A stranger that draws from these finds them the same whichever
    diagnostics went before, and whether they went before or ran beside it.
    """
    import numpy as np
    import torch

    start = zlib.crc32(f"{seed} {name}".encode())
    plain, array = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng():
            torch.manual_seed(start)
            random.seed(start)
            np.random.seed(start)
            yield
    finally:
        random.setstate(plain)
        np.random.set_state(array)


def draw_figures(
    diagnostics: Mapping[str, DiagnosticEntry],
    registry: Registry,
    folder: Path,
    *,
    about: str,
    warn: Callable[[str], None],
    debug: bool = False,
) -> list[Path]:
    """One figure for each diagnostic that has one; a figure that fails is a warning.

    Args:
        about: what all of them name as theirs.
        warn: receives a line for each that fails.
        debug: let the error of a figure through.
    """
    folder.mkdir(parents=True, exist_ok=True)
    drawn = []
    for name, entry in diagnostics.items():
        cls = registry.table("diagnostics").get(name)
        if cls is None or entry.status != "success":
            continue
        path, partial = folder / f"{name}.png", folder / f".{name}.png"  # a figure's name decides its format
        if entry.version != cls.version:
            warn(
                f"figure of {name} is left out: version {entry.version} measured it, and version {cls.version} draws;"
                " --rediagnose measures again"
            )
            continue
        try:
            with contained(), figures.about(about):
                done = cls.draw(entry.details, partial)
            if not done:
                continue
            if not partial.is_file():
                raise FileNotFoundError("draw says that it wrote a file, and there is none")
            os.replace(partial, path)
            drawn.append(path)
        except Exception as error:  # the numbers are worth more than their picture
            warn(f"figure of {name} failed: {reason_of(error)}")
            if debug:
                raise
        finally:
            partial.unlink(missing_ok=True)
    return drawn
