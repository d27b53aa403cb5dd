"""What became of every cell, as a file in the output folder and as a few lines at the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..report import write
from .board import State
from .definition import Definition

STATES = ("done", "failed", "interrupted", "running", "waiting")


def summary_file(output: Path, name: str) -> Path:
    """Where the states of a sweep's cells are kept."""
    return output / f"{name}.sweep.json"


def entry(definition: Definition, states: Sequence[State]) -> dict[str, Any]:
    """The content of the summary: what became of every cell."""
    return {
        "schema_version": 1,
        "name": definition.name,
        "title": definition.title,
        "complete": all(each.state == "done" for each in states),
        "counts": {name: n for name in STATES if (n := sum(each.state == name for each in states))},
        "cells": [_cell(each) for each in states],
    }


def _cell(each: State) -> dict[str, Any]:
    job = each.job
    return {
        "folder": job.name,
        "task": job.spec.name,
        "profile": job.spec.profile,
        "model": job.model,
        "noise_rate": job.rate,
        "seeds": job.spec.resolved()["seeds"],
        "state": each.state,
        "skipped": each.skipped,
        "seconds": None if each.seconds is None else round(each.seconds, 3),
        "reason": each.reason,
        "exit_code": each.exit_code,
        "log": list(each.log),
    }


def keep(definition: Definition, output: Path, states: Sequence[State]) -> Mapping[str, Any]:
    """Write the summary and return it."""
    content = entry(definition, states)
    write.write_json(summary_file(output, definition.name), content)
    return content


def closing(result: Mapping[str, Any], output: str) -> str:
    """The end of a sweep in a few lines: what failed and why, and where everything is."""
    lines = [f"{len(result['cells'])} cells: " + ", ".join(f"{n} {name}" for name, n in result["counts"].items())]
    for each in result["cells"]:
        if each["state"] != "done":
            lines.append(f"{each['folder']}: {each['state']}: {each['reason']}")
            lines += [f"    {line}" for line in each["log"]]
    lines.append(f"summary  {summary_file(Path(output), result['name'])}")
    lines.append(f"reports  rote-bench show {output}")
    return "\n".join(lines)
