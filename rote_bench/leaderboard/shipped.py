"""What the board knows of tasks by itself: versions, titles and recipes of shipped files, which no report can move."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..hashing import digest
from ..pipeline.identity import ROOMS, version_of
from ..pipeline.settings import Settings
from ..plain import JsonObject
from ..report.conditions import conditions
from ..report.record import Report

if TYPE_CHECKING:
    from ..plugins import Registry
    from ..spec.model import TaskSpec

# What decides how a cell was trained, whatever the model: cells that differ in it are no comparison of models.
RECIPE = ("model", "snapshots", "dtype", "training", "versions")


@dataclass(frozen=True)
class Shipped:
    """A task file, or a profile of one, that came with rote-bench or with an installed plugin.

    Attributes:
        content: hash of what decides its examples.
        recipe: how it trains by itself.
    """

    name: str
    version: int
    title: str
    content: str
    recipe: JsonObject


Known = Mapping[str, Shipped]


def recipe_of(report: Report) -> JsonObject:
    """How a report's cell was trained."""
    found = conditions(report)
    return {key: found[key] for key in RECIPE}


def _recipe(spec: TaskSpec, registry: Registry) -> JsonObject:
    versions: dict[str, object] = {name: room.version for name, room in ROOMS.items()}
    versions["task"] = version_of("tasks", spec.generator, registry)
    versions["noise"] = version_of("noise", spec.noise.kind, registry)
    return {
        "model": dict(spec.model),
        "snapshots": {},
        "dtype": Settings.dtype,
        "training": spec.resolved()["training"],
        "versions": versions,
    }


def known_tasks(registry: Registry) -> dict[str, Shipped]:
    """Label -> every shipped task and every one that a plugin brings, and their profiles."""
    from ..spec.loader import load_task, shipped
    from ..spec.source import read

    out = {}
    for file in {**registry.task_files(), **shipped()}.values():
        for profile in (None, *sorted(read(file).data.get("profiles") or {})):
            spec = load_task(file, registry, profile=profile)
            label = f"{spec.name}-{profile}" if profile else spec.name
            out[label] = Shipped(spec.name, spec.version, spec.title, spec.content_hash(), _recipe(spec, registry))
    return out


def recipe_hash(recipe: JsonObject) -> str:
    """The same for equal recipes."""
    return digest(recipe)
