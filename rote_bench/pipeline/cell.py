"""One cell of a benchmark: what it is, where its files go, and what happens to it while it runs."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..progress import Progress
from ..report.provenance import peak_memory_bytes
from ..training.distributed import Processes

if TYPE_CHECKING:
    from ..plugins import Registry
    from ..spec.model import TaskSpec

PRE, POST = "pre_memorization", "post_memorization"


@dataclass(frozen=True)
class Settings:
    """How to run a cell, apart from what it is.

    Attributes:
        output: folder of all cells.
        device: ``auto``, ``cpu``, ``cuda``, ...
        dtype: of the weights.
        batch_size: examples per forward pass of evaluations and diagnostics; None chooses by the model's size.
        limit: examples per split, for a quick look; such reports are barred from leaderboards.
        overwrite: run again even when a complete report is there.
        train: False diagnoses the model as it is.
        snapshots: name -> folder of weights to diagnose instead of those from training.
        threads: of the processor; None chooses by the model's size.
        compile: let torch.compile make the training steps.
        track: ``tensorboard`` or ``trackio``: where to write the curves while they are made; decides no number.
    """

    output: Path = Path("runs")
    device: str = "auto"
    dtype: str = "float32"
    batch_size: int | None = None
    limit: int | None = None
    overwrite: bool = False
    train: bool = True
    snapshots: Mapping[str, str] = field(default_factory=dict)
    threads: int | None = None
    trust_remote_code: bool = False
    compile: bool = False
    track: str | None = None


@dataclass
class Timings:
    """Wall seconds by stage."""

    seconds: dict[str, float] = field(
        default_factory=lambda: dict.fromkeys(("data", "training", "evaluation", "diagnostics", "figures"), 0.0)
    )
    start: float = field(default_factory=time.monotonic)
    earlier: float = 0.0

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        before = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] += time.monotonic() - before

    def entry(self) -> dict[str, Any]:
        total = self.earlier + time.monotonic() - self.start
        return {**self.seconds, "total": total, "peak_memory_bytes": peak_memory_bytes()}


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
    timings: Timings = field(default_factory=Timings)
    warnings: list[str] = field(default_factory=list)

    def warn(self, text: str) -> None:
        self.warnings.append(text)
        self.progress.warn(text)
