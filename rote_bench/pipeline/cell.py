"""One cell of a benchmark: what it is, where its files go, and what happens to it while it runs."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ..progress import Progress
from ..report.provenance import peak_memory_bytes
from ..report.record import Timings
from ..training.distributed import Processes
from .settings import Settings

if TYPE_CHECKING:
    from ..plugins import Registry
    from ..spec.model import TaskSpec


@dataclass
class Clock:
    """Wall seconds by stage, and processor time since the cell began."""

    seconds: dict[str, float] = field(
        default_factory=lambda: dict.fromkeys(("data", "training", "evaluation", "diagnostics", "figures"), 0.0)
    )
    start: float = field(default_factory=time.monotonic)
    start_cpu: float = field(default_factory=time.process_time)
    earlier: float = 0.0

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        before = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] += time.monotonic() - before

    def entry(self) -> Timings:
        """As the report holds them."""
        total = self.earlier + time.monotonic() - self.start
        cpu = time.process_time() - self.start_cpu
        return Timings(**self.seconds, total=total, cpu_seconds=cpu, peak_memory_bytes=peak_memory_bytes())


def folder_name(text: str) -> str:
    """A model's or task's name as one folder, readable and safe."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.") or "unnamed"


def cell_folder(output: Path, spec: TaskSpec, model: str, rate: float) -> Path:
    """The folder of a cell, the same whenever it is run."""
    task = f"{spec.name}-{spec.profile}" if spec.profile else spec.name
    return output / folder_name(task) / folder_name(model) / f"noise-{rate:g}" / f"seed-{spec.seeds.label}"


@dataclass
class Cell:
    """One cell while it runs."""

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

    def warn(self, text: str) -> None:
        self.warnings.append(text)
        self.progress.warn(text)
