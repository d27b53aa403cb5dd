"""Under what conditions a cell's numbers were made: cells whose conditions differ are never brought together."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping

from ..hashing import digest
from .record import Report

OF_MODEL = ("model", "snapshots", "source", "revision", "weights", "tokenizer", "base", "builder", "dtype")
OF_RECIPE = ("training", "versions")
MOST_SHOWN = 3


def at(value: object, *keys: str) -> object:
    """What stands under nested keys of plain data, None where there is nothing."""
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def conditions(report: Report) -> dict[str, object]:
    """Everything that decides a cell's numbers beside its model's name, its noise rate and its seeds."""
    parts, model = report.identity.parts, report.model
    versions, diagnostics = at(parts, "versions"), at(parts, "diagnostics")
    return {
        "model": report.task.spec.get("model"),
        "snapshots": at(parts, "snapshots"),
        "source": model.source,
        "revision": model.revision,
        "weights": model.weights,
        "tokenizer": model.tokenizer,
        "base": model.base,
        "builder": model.builder,
        "dtype": at(parts, "dtype"),
        "training": at(parts, "training"),
        "versions": {
            **(versions if isinstance(versions, Mapping) else {}),
            "task": at(parts, "task", "version"),
            "noise": at(parts, "task", "noise"),
        },
        "content": report.task.content_hash,
        "limit": report.data.limit,
        "schedule": at(parts, "schedule", "settle"),
        "diagnostics": diagnostics,
    }


def setup(report: Report) -> str:
    """Hash of what decides a model's result on a task: its conditions apart from those of data and diagnostics."""
    found = conditions(report)
    return digest({key: found[key] for key in (*OF_MODEL, *OF_RECIPE)})


def flat(value: object, prefix: str = "") -> dict[str, str]:
    """Plain data as dotted names with a text for each value."""
    if isinstance(value, Mapping) and value:
        return {k: v for key in value for k, v in flat(value[key], f"{prefix}.{key}" if prefix else str(key)).items()}
    if isinstance(value, str):
        return {prefix: value[:8] if re.fullmatch("[0-9a-f]{64}", value) else value}
    return {prefix: json.dumps(value)}


def differing(several: Iterable[Mapping[str, str]]) -> list[str]:
    """The names whose values are not the same in all of several flat sets."""
    every = list(several)
    names = dict.fromkeys(name for one in every for name in one)
    return [name for name in names if len({one.get(name) for one in every}) > 1]


def told(one: Mapping[str, str], names: Iterable[str]) -> str:
    """Some values of a flat set in a few words, as ``limit=50, training.max_steps=60``."""
    said = [f"{name.replace('.options.', '.')}={one[name]}" for name in names if name in one]
    more = len(said) - MOST_SHOWN
    return ", ".join(said[:MOST_SHOWN]) + (f" and {more} more" if more > 0 else "")
