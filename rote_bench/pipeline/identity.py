"""Everything that decides a cell's numbers, and how two such sets differ.

Code counts by declared versions: a room's version is raised when its numbers move, which a test of each room finds out.
What is no code of this package counts by content: examples, weights, tokenizers, and the files of plugins. Beside that
a report keeps a digest of each room's source, so that what was made by other code of the same versions can be told.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..hashing import canonical, digest
from ..models.content import of_snapshot
from ..plugins import BUILT_IN
from ..report.record import Identity, Schedule, Way

if TYPE_CHECKING:
    from ..models.load import LoadedModel
    from ..plugins import Registry
    from ..spec.model import TaskSpec
    from ..splits import Data
    from .settings import Settings

PACKAGE = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Room:
    """A part of the package that makes numbers.

    Attributes:
        version: raised whenever the same input gives other numbers.
        files: below the package.
    """

    version: int
    files: tuple[str, ...]


ROOMS: Mapping[str, Room] = {
    "anatomy": Room(1, ("models/anatomy.py", "models/blocks.py", "models/parts.py", "models/probe.py")),
    "encoding": Room(1, ("encoding.py", "endings.py", "rendering.py")),
    "evaluation": Room(3, ("evaluation.py", "measurement.py", "models/columns.py", "subject.py")),
    "interventions": Room(1, ("interventions.py", "nodes.py", "patching.py", "surrogates.py", "models/prefix.py")),
    "linear": Room(1, ("linear.py",)),
    "models": Room(
        1,
        (
            *(
                "models/load.py",
                "models/pretrained.py",
                "models/hub.py",
                "models/folder.py",
                "models/names.py",
                "models/sizing.py",
            ),
            *("models/statespace.py", "models/stacking.py", "models/weights.py", "models/objects.py"),
            *("models/wrapped.py", "models/keeping.py", "models/code.py"),
            *("models/adapters.py", "models/lora.py", "models/tokenizer.py"),
        ),
    ),
    "noise": Room(2, ("noise.py",)),
    "optimizer": Room(3, ("training/optimizers.py", "training/side_by_side.py")),
    "schedule": Room(2, ("training/schedule.py",)),
    "splits": Room(2, ("splits.py",)),
    "statistics": Room(3, ("statistics.py", "contrasts.py", "dissociation.py", "matching.py")),
    "training": Room(
        2,
        (
            *("training/loop.py", "training/course.py", "training/state.py", "training/distributed.py"),
            *("training/candidates.py", "training/stacked.py", "training/lessons.py", "training/replay.py"),
        ),
    ),
}

# What only training needs, and what only what follows it needs; the other rooms serve both.
TRAINING = frozenset({"optimizer", "schedule", "training"})
AFTERWARDS = frozenset({"anatomy", "interventions", "linear", "statistics"})


def identify(
    spec: TaskSpec,
    model_name: str,
    rate: float,
    settings: Settings,
    registry: Registry,
    schedule: Schedule,
    *,
    loaded: LoadedModel,
    data: Data,
    config: Mapping[str, Any],
    device: str,
    precision: str,
    way: Way | None,
    request: str | None,
    reads: Mapping[str, Any] | None = None,
) -> Identity:
    """The identity of a cell whose examples and model have been made.

    Args:
        reads: how text is read, where that is not as it is by the tasks and models that are built in.
        request: what the request that made them hashes to, kept beside.
    """
    parts = planned_parts(spec, model_name, rate, settings, registry, schedule)
    parts["task"]["data"] = data.fingerprint()
    parts["model"] |= {
        "source": loaded.source,
        "revision": loaded.revision,
        "config": {k: v for k, v in config.items() if k not in ("transformers_version", "_name_or_path")},
        "weights": loaded.weights,
        "tokenizer": loaded.tokenizer_content,
        "base": loaded.base,
        "builder": loaded.builder,
    }
    # named only where there is something to say, so that no other cell's identity ever changed by them
    parts["model"] |= {key: value for key, value in (("code", loaded.code), ("reads", reads)) if value}
    parts["precision"] = precision
    parts["device"] = device.partition(":")[0]
    parts["way"] = way
    return Identity(digest(parts), parts, code_of(spec, registry), request)


# What ``planned_parts`` lacks: known once examples and model are made.
NOT_PLANNED = frozenset(
    {
        "task.data",
        *(f"model.{key}" for key in ("source", "revision", "config", "weights", "tokenizer", "base", "builder")),
        *("model.code", "model.reads"),
        "precision",
        "device",
        "way",
    }
)


def planned_parts(
    spec: TaskSpec, model_name: str, rate: float, settings: Settings, registry: Registry, schedule: Schedule
) -> dict[str, Any]:
    """The identity as far as it is known before examples and model are made."""
    resolved = spec.resolved()
    return {
        "versions": {name: room.version for name, room in ROOMS.items()},
        "task": {
            "content": spec.content_hash(),
            "version": version_of("tasks", spec.generator, registry),
            "noise": version_of("noise", spec.noise.kind, registry),
        },
        "noise_rate": rate,
        "model": {"name": model_name, "remote_code": settings.trust_remote_code},
        "snapshots": {name: of_snapshot(folder) for name, folder in settings.snapshots.items()},
        "training": resolved["training"] if settings.train else None,
        "schedule": asdict(schedule),
        "dtype": settings.dtype,
        "seeds": resolved["seeds"],
        "limit": settings.limit,
        "diagnostics": {
            d.name: {"version": version_of("diagnostics", d.name, registry), "options": dict(d.options)}
            for d in spec.diagnostics
        },
    }


def version_of(kind: str, name: str, registry: Registry) -> int | str:
    """The declared version of a task, a kind of noise or a diagnostic.

    For a plugin's the digest of its file comes with it, as no test here finds out when its numbers move.
    """
    cls = registry.table(kind)[name]
    version = int(getattr(cls, "version", 1))
    if registry.source_of(kind, name) == BUILT_IN:
        return version
    return f"{version}+{_digest([Path(inspect.getfile(cls))])[:12]}"


def code_of(spec: TaskSpec, registry: Registry) -> dict[str, str]:
    """Room -> digest of its source, for everything that makes numbers in a cell of this spec."""
    files = {name: [PACKAGE / file for file in room.files] for name, room in ROOMS.items()}
    used = [("tasks", spec.generator), ("noise", spec.noise.kind), *(("diagnostics", d.name) for d in spec.diagnostics)]
    files |= {f"{kind}.{name}": [Path(inspect.getfile(registry.table(kind)[name]))] for kind, name in used}
    return {name: _digest(sources) for name, sources in sorted(files.items())}


def sources(registry: Registry) -> list[Path]:
    """The files of this package, and of all that plugins register."""
    things = (thing for kind in registry.tables.values() for thing in kind.values())
    registered = {Path(inspect.getfile(thing if inspect.isclass(thing) else type(thing))) for thing in things}
    return sorted({*PACKAGE.rglob("*.py"), *registered})


def _digest(files: list[Path]) -> str:
    hasher = hashlib.sha256()
    for file in files:
        hasher.update(file.read_bytes())
    return hasher.hexdigest()


def other_code(mine: Mapping[str, str], theirs: Mapping[str, str]) -> list[str]:
    """The rooms whose source differs."""
    return sorted(name for name in {*mine, *theirs} if mine.get(name) != theirs.get(name))


def differing(mine: Mapping[str, Any], theirs: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Dotted paths at which two sets of identity parts differ."""
    out: list[str] = []
    for key in sorted({*mine, *theirs}):
        a, b = mine.get(key), theirs.get(key)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            out += differing(a, b, f"{prefix}{key}.")
        elif canonical(a) != canonical(b):
            out.append(f"{prefix}{key}")
    return out
