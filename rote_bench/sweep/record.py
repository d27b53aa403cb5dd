"""What became of every cell, as a file in the output folder and as a few lines at the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..report import write
from .board import State
from .definition import Definition

if TYPE_CHECKING:
    from .phases import Phases

STATES = ("done", "failed", "interrupted", "running", "waiting")


def summary_file(output: Path, name: str) -> Path:
    """Where the states of a sweep's cells are kept."""
    return output / f"{name}.sweep.json"


def entry(definition: Definition, states: Sequence[State], phases: Phases | None = None) -> dict[str, Any]:
    """The content of the summary: what became of every cell."""
    return {
        "schema_version": 1,
        "name": definition.name,
        "title": definition.title,
        "complete": all(each.state == "done" for each in states) and (phases is None or phases.complete),
        "counts": {name: n for name in STATES if (n := sum(each.state == name for each in states))},
        "cells": [_cell(each) for each in states],
        **({} if phases is None else _compared(states, phases)),
    }


def _compared(states: Sequence[State], phases: Phases) -> dict[str, Any]:
    """How far a comparison is: its phases, and the choices that have been made."""
    done = {name: sum(each.job.phase == name and each.state == "done" for each in states) for name in phases.totals()}
    return {
        "phases": [{"phase": name, "done": done[name], "planned": n} for name, n in phases.totals().items()],
        "choices": [
            {
                "task": task,
                "model": model,
                "configuration": row.configuration if (row := choice.row) else None,
                "settle": row and row.settle,
                "steps": row and row.steps,
                "reason": choice.reason,
            }
            for task, model in phases.entrants
            if (choice := phases.choices.get((task, model)))
        ],
    }


def _cell(each: State) -> dict[str, Any]:
    job = each.job
    return {
        "folder": job.name,
        "phase": job.phase,
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


def keep(
    definition: Definition, output: Path, states: Sequence[State], phases: Phases | None = None
) -> Mapping[str, Any]:
    """Write the summary and return it."""
    content = entry(definition, states, phases)
    write.write_json(summary_file(output, definition.name), content)
    return content


def closing(result: Mapping[str, Any], output: str) -> str:
    """The end of a sweep in a few lines: what failed and why, and where everything is."""
    lines = [f"{len(result['cells'])} cells: " + ", ".join(f"{n} {name}" for name, n in result["counts"].items())]
    for each in result["cells"]:
        if each["state"] != "done":
            lines.append(f"{each['folder']}: {each['state']}: {each['reason']}")
            lines += [f"    {line}" for line in each["log"]]
        elif each["reason"]:
            lines.append(f"{each['folder']}: {each['reason']}")
    lines += _chosen(result)
    lines.append(f"summary  {summary_file(Path(output), result['name'])}")
    lines.append(f"reports  rote-bench show {output}")
    return "\n".join(lines)


def _chosen(result: Mapping[str, Any]) -> list[str]:
    """What a comparison came to so far, a line for each phase that is not over and for each choice."""
    phases = {each["phase"]: each for each in result.get("phases", ())}
    lines = [f"{name}: {each['done']} of {each['planned']}" for name, each in phases.items()]
    if phases and not any(each["phase"] == "cells" for each in result["cells"]) and not result["complete"]:
        lines.append("no cell was run: the recipes of all models must be known before, and trials are missing")
    for each in result.get("choices", ()):
        recipe = f"{each['configuration']}, the rate falls from step {each['settle']} of {each['steps']}"
        found = each["reason"] or recipe
        lines.append(f"{each['task']} {each['model']}: {found}")
    return lines
