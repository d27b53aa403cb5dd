"""One cell of a benchmark: what it is, where its files go, and what happens to it while it runs."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ..hashing import digest
from ..machine import cpu_seconds
from ..progress import Progress
from ..report.provenance import peak_memory_bytes
from ..report.record import Report, Timings
from ..training.distributed import Processes
from .settings import Settings

if TYPE_CHECKING:
    from ..plugins import Registry
    from ..spec.model import TaskSpec


STAGES = ("data", "training", "evaluation", "diagnostics", "figures")


@dataclass
class Clock:
    """Wall and processor seconds by stage, and since the cell began; of what it shares with others, its part.

    Attributes:
        earlier, earlier_cpu: seconds of the calls before this one.
        peak_bytes: what this process and its children held together at most, as far as it is more than its own peak.
    """

    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))
    cpu: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))
    start: float = field(default_factory=time.monotonic)
    start_cpu: float = field(default_factory=cpu_seconds)
    earlier: float = 0.0
    earlier_cpu: float = 0.0
    peak_bytes: int = 0
    away: float = 0.0
    away_cpu: float = 0.0
    _since: tuple[float, float] | None = None

    def pause(self) -> None:
        """From here on the process works for other cells."""
        if self._since is None:
            self._since = time.monotonic(), cpu_seconds()

    def resume(self, share: float = 0.0) -> None:
        """It works for this one again.

        Args:
            share: the part of its work since ``pause`` that was for this cell all the same.
        """
        if self._since is not None:
            wall, cpu = self._since
            self.away += (1 - share) * (time.monotonic() - wall)
            self.away_cpu += (1 - share) * (cpu_seconds() - cpu)
            self._since = None

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        before, cpu = time.monotonic(), cpu_seconds()
        try:
            yield
        finally:
            self.seconds[name] += time.monotonic() - before
            self.cpu[name] += cpu_seconds() - cpu

    def entry(self) -> Timings:
        """As the report holds them."""
        return Timings(
            **self.seconds,
            total=self.earlier + time.monotonic() - self.start - self.away,
            cpu_seconds=self.earlier_cpu + cpu_seconds() - self.start_cpu - self.away_cpu,
            peak_memory_bytes=max(peak_memory_bytes(), self.peak_bytes),
            cpu_by_stage=dict(self.cpu),
        )


def folder_name(text: str) -> str:
    """A model's or task's name as one folder, readable and safe; what is lost of letters, a hash tells apart."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.") or "unnamed"
    return name if text.isascii() else f"{name}-{digest(text)[:8]}"


def cell_folder(output: Path, spec: TaskSpec, model: str, rate: float) -> Path:
    """The folder of a cell, the same whenever it is run."""
    task = f"{spec.name}-{spec.profile}" if spec.profile else spec.name
    return output / folder_name(task) / folder_name(model) / f"noise-{rate:g}" / f"seed-{spec.seeds.label}"


@dataclass
class Cell:
    """One cell while it runs.

    Attributes:
        twin: the report of the same cell at noise rate 0, where it was run before.
    """

    spec: TaskSpec
    model_name: str
    rate: float
    settings: Settings
    registry: Registry
    progress: Progress
    folder: Path
    processes: Processes = field(default_factory=Processes)
    timings: Clock = field(default_factory=Clock)
    warnings: list[str] = field(default_factory=list)
    twin: Report | None = None

    def warn(self, text: str) -> None:
        self.warnings.append(text)
        self.progress.warn(text)
