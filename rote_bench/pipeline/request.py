"""What a command asks for, as far as it is known without making examples or a model: so is a finished cell recognised.

A report keeps the hash of the request that made it. Everything in a cell's identity follows from the request: what was
asked, the content of the files that are read, the source of this package, the versions of the packages below it, and
the machine, by which ``auto`` chooses. So where a later request has the same hash, the cell is done, and neither torch
nor an example is needed to know it. Where the hash differs, or there is none, nothing is concluded: the identities are
compared in full. What follows from more than that has no request: examples, wrong labels and models of plugins, data
and weights of the hub, adapters, whose base may lie there, code that comes with weights, training in several processes.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UserError
from ..hashing import digest, sha256
from ..machine import check_writable
from ..models.content import of_files
from ..models.folder import is_adapter
from ..models.names import is_registered, parse
from ..paths import of_user
from ..plugins import BUILT_IN
from ..progress import Progress
from ..report import record, write
from ..report.provenance import installed
from ..spec.options import build
from ..training.distributed import several
from .cell import cell_folder
from .identity import PACKAGE, planned_parts
from .lock import alone
from .settings import Settings
from .twins import schedule_of

if TYPE_CHECKING:
    from ..plugins import Registry
    from ..spec.model import TaskSpec

# Packages that make examples, configurations and tokenizers, and that choose device and arithmetic.
BELOW = ("torch", "transformers", "tokenizers", "huggingface_hub", "safetensors", "datasets", "pyarrow", "numpy")
DEVICES = ("auto", "cpu", "cuda")  # whether there is another one, only torch knows
GPUS = ("nvidia", "kfd", "dxg")  # how names in /dev begin where there is a GPU
SEEN = ("CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")


@dataclass(frozen=True)
class Request:
    """What a cell is asked to be.

    Attributes:
        parts: everything but the content of weights.
        weights: the folder whose weights count with their content, where there is one.
    """

    parts: Mapping[str, Any]
    weights: Path | None

    def hash(self, weights: str | None = None) -> str:
        """The hash of all of it.

        Args:
            weights: what the weights hash to, where that is known already.
        """
        if self.weights is not None and weights is None:
            weights = of_files(self.weights)
        return digest({**self.parts, "weights": weights})


def surroundings() -> dict[str, Any]:
    """What every request of this process shares: source, versions and machine."""
    return {
        "code": digest({p.relative_to(PACKAGE).as_posix(): sha256(p) for p in PACKAGE.rglob("*.py")}),
        "versions": {"python": platform.python_version(), **{name: installed(name) for name in BELOW}},
        "machine": _machine(),
    }


def _machine() -> dict[str, Any]:
    """What device and arithmetic are chosen by: the processor, and whether there are GPUs that can be seen."""
    devices = Path("/dev")
    names = sorted(p.name for p in devices.iterdir() if p.name.startswith(GPUS)) if devices.is_dir() else []
    return {
        "platform": platform.platform(),
        "processor": _first_processor(),
        "gpus": names,
        "driver": _text(Path("/proc/driver/nvidia/version")),
        "seen": {name: os.environ.get(name) for name in SEEN},
    }


def _first_processor() -> list[str]:
    """Name and instructions of the processor."""
    lines = _text(Path("/proc/cpuinfo")).partition("\n\n")[0].splitlines()
    named = [line for line in lines if line.startswith(("model name", "flags", "Features", "CPU"))]
    return named or [platform.processor() or platform.machine()]


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:  # another system
        return ""


def asked(
    spec: TaskSpec,
    model_name: str,
    rate: float,
    settings: Settings,
    registry: Registry,
    schedule: record.Schedule,
    *,
    around: Mapping[str, Any] | None = None,
) -> Request | None:
    """The request of a cell; None where its identity follows from more than can be known so soon.

    Args:
        around: the ``surroundings``, where they are known already.
    """
    used = (("tasks", spec.generator), ("noise", spec.noise.kind), ("models", registry.provider(model_name).name))
    if any(registry.source_of(kind, name) != BUILT_IN for kind, name in used):
        return None
    if settings.device not in DEVICES or _among_several() or is_registered(model_name):
        return None
    name = parse(model_name)
    folder = of_user(name.path) if name.source == "hf" else None
    if folder is not None and (settings.trust_remote_code or not _self_contained(folder)):
        return None
    read = _read(spec, registry)
    if read is None:
        return None
    around = surroundings() if around is None else around
    parts = {
        **around,
        "planned": planned_parts(spec, model_name, rate, settings, registry, schedule),
        "spec": spec.resolved(),
        "device": settings.device,
        "stacked": _stacked(settings, bool(around["machine"]["gpus"])),
        "data": {key: _contents(place) for key, place in read.items()},
        **({"peft": installed("peft")} if "peft" in spec.model else {}),
        "model": None if folder is None else _contents(folder, but=".safetensors"),
    }
    return Request(parts, folder)


def _stacked(settings: Settings, gpu: bool) -> bool | None:
    """Whether the model is to be trained in a stack; None where the device that is chosen decides that."""
    undecided = settings.stacked is None and gpu and settings.device != "cpu"
    return None if undecided and not settings.compile else bool(settings.stacked) and not settings.compile


def _among_several() -> bool:
    """Whether this process trains together with others, of which the first alone holds the cell's folder."""
    return several() > 1


def _self_contained(folder: Path) -> bool:
    """Whether a model is all in a folder; an adapter's base lies elsewhere."""
    return folder.is_dir() and not is_adapter(folder)


def _read(spec: TaskSpec, registry: Registry) -> dict[str, Path] | None:
    """Parameter -> file or folder that the task reads; None where one is not beside the task file, as on the hub."""
    parameters = build(registry.table("tasks")[spec.generator].Parameters, spec.parameters)
    named = {f.name: getattr(parameters, f.name) for f in fields(parameters) if f.metadata.get("path")}
    found = {
        name: (Path(spec.source).parent if spec.source else Path()) / value for name, value in named.items() if value
    }
    return found if all(place.exists() for place in found.values()) else None


def _contents(place: Path, *, but: str = "") -> dict[str, str]:
    """Name of each file, below a folder, -> hash of its content.

    Args:
        but: files directly in the folder whose names end so are left out.
    """
    files = sorted(p for p in place.rglob("*") if p.is_file()) if place.is_dir() else [place]
    kept = [p for p in files if not but or p.suffix != but or p.parent != place]
    return {p.relative_to(place).as_posix(): sha256(p) for p in kept}


def recall(
    spec: TaskSpec,
    model_name: str,
    rate: float,
    *,
    settings: Settings,
    registry: Registry,
    progress: Progress,
    twin: record.Report | None = None,
) -> record.Report | None:
    """The report of a cell that was finished by this very request; None where that cannot be told so soon.

    Args:
        twin: as ``runner.run_cell`` takes it.

    Raises:
        UserError: when the folder cannot be written, or another process runs the cell.
    """
    folder = cell_folder(settings.output_path, spec, model_name, rate)
    path = folder / write.FILE
    require_finished(folder, settings)
    if settings.overwrite or not path.is_file() or _among_several():
        return None
    check_writable(folder)
    with alone(folder):
        try:
            report = write.load_report(path)
            schedule = schedule_of(spec, rate, settings, twin)
        except UserError:  # whoever runs the cell says what is wrong
            return None
        if settings.rediagnose and any(entry.status == "failed" for entry in report.diagnostics.values()):
            return None
        if not made_by(report, asked(spec, model_name, rate, settings, registry, schedule)):
            return None
    progress.say(f"{spec.title}: {model_name}, noise {rate:g}, seed {spec.seeds.label}")
    progress.say(f"already done: {path}")
    return report


def require_finished(folder: Path, settings: Settings) -> None:
    """Raises:
    UserError: where there is nothing to diagnose again, and that is asked for.
    """
    if settings.rediagnose and not (folder / write.FILE).is_file():
        raise UserError(
            "no finished cell to diagnose again", where=str(folder), hint="run it without --rediagnose first"
        )


def made_by(report: record.Report, request: Request | None) -> bool:
    """Whether a report is complete and was made by this request."""
    kept = report.identity.request
    return report.status == "success" and kept is not None and request is not None and request.hash() == kept
