"""The command that makes a report's cell again, as far as one can."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ..errors import UserError
from ..plain import plain
from .conditions import at
from .record import Report

if TYPE_CHECKING:
    from ..plugins import Registry

TASK_FILE = "task.yaml"
SHORT = {"pre_memorization": "pre", "post_memorization": "post"}
LONGEST = 4000  # of a command that is shown


def command(report: Report, registry: Registry) -> str | None:
    """The command, of a task file called ``task.yaml`` where the task is none that is at hand under its name.

    None for a model that has no name, which only Python can be given.
    """
    if report.model.source == "object":
        return None
    task = _of_name(report, registry) or [TASK_FILE]
    given = ["rote-bench", "run", *task, "--model", report.model.name, *_labels(report), *_seeds(report)]
    text = shlex.join([*given, *_options(report)])
    return text if len(text) <= LONGEST else None


def task_file(report: Report) -> str:
    """The report's task as a task file."""
    import yaml

    content = {key: value for key, value in report.task.spec.items() if key not in ("profile", "seeds")}
    return str(yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=100))


def _of_name(report: Report, registry: Registry) -> list[str] | None:
    """The task by its name, with the profile and what was set otherwise; None when there is no such task."""
    from ..spec.loader import load_task, shipped

    name, profile = report.task.name, report.task.profile
    file = {**registry.task_files(), **shipped()}.get(name)
    if file is None:  # whatever else has this name: a report names no file of its reader's machine
        return None
    wanted = _apart(report.task.spec)
    try:
        known = _apart(load_task(file, registry, profile=profile).resolved())
        changed = [f"{path}={value}" for path, value in wanted.items() if known.get(path) != value]
        changed = [text if text[:12] != "diagnostics=" else _short(text, registry) for text in changed]
        if _apart(load_task(file, registry, profile=profile, overrides=changed).resolved()) != wanted:
            return None
    except (UserError, TypeError, ValueError, AttributeError):
        return None
    return [name, *(["--profile", profile] if profile else []), *(part for text in changed for part in ("--set", text))]


def _short(text: str, registry: Registry) -> str:
    """The diagnostics of a command, without the options that are as they are anyway."""
    table = registry.table("diagnostics")
    chosen = []
    for each in json.loads(text.partition("=")[2]):
        ((name, options),) = each.items()
        usual = plain(asdict(table[name].Options())) if name in table else {}
        own = {key: value for key, value in options.items() if at(usual, key) != value}
        chosen.append({name: own} if own else name)
    return f"diagnostics={json.dumps(chosen, ensure_ascii=False)}"


def _apart(spec: Mapping[str, Any]) -> dict[str, str]:
    """Dotted paths of a spec with each value as YAML has it, without what flags of their own say."""
    return {
        path: value for path, value in _flat(spec) if path not in ("profile", "noise.rates") and path[:6] != "seeds."
    }


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _flat(item, f"{path}.{key}" if path else str(key))
    else:
        yield path, json.dumps(value, ensure_ascii=False)


def _labels(report: Report) -> list[str]:
    """The noise rate, but of data that has its own wrong labels."""
    given = at(report.task.spec, "noise", "rates") is None
    return [] if given else ["--noise-rate", f"{report.data.noise_rate:g}"]


def _seeds(report: Report) -> list[str]:
    seeds = asdict(report.seeds)
    if len(set(seeds.values())) == 1:
        return ["--seed", report.seeds.label]
    return [part for name, value in seeds.items() for part in ("--set", f"seeds.{name}={value}")]


def _options(report: Report) -> Iterator[str]:
    environment = report.environment
    if report.training.schedule.settle == "twin":
        yield "--twin"
    if report.data.limit is not None:
        yield from ("--limit", str(report.data.limit))
    if environment.dtype != "float32":
        yield from ("--dtype", environment.dtype)
    if environment.device != "cpu":
        yield from ("--device", environment.device)
    if environment.compiled:
        yield "--compile"
    if environment.remote_code:
        yield "--trust-remote-code"
    if report.training.way is None:
        yield "--no-train"
        snapshots = at(report.identity.parts, "snapshots")
        for name in snapshots if isinstance(snapshots, Mapping) else ():
            yield from ("--snapshot", f"{SHORT.get(name, name)}={name}")
