"""The shape of a task file: its JSON schema, and faults against it in this project's words."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

from . import shape
from .model import Recipe, Seeds
from .options import Fault, describe, shown
from .source import Path_


@lru_cache(maxsize=1)
def schema() -> dict[str, Any]:
    """The JSON schema of a task file; ``training`` and ``seeds`` are filled in from the classes that they build."""
    loaded: dict[str, Any] = json.loads((Path(__file__).parent / "task.schema.json").read_text(encoding="utf-8"))
    for key, cls in (("training", Recipe), ("seeds", Seeds)):
        properties = {
            o.name: {"description": f"{o.description} ({o.type})", "default": o.default} for o in describe(cls)
        }
        loaded["properties"][key].update(
            properties=json.loads(json.dumps(properties, default=asdict)), additionalProperties=False
        )
    return loaded


@lru_cache(maxsize=1)
def _validator() -> Any:
    return shape.validator(schema())


def structural(data: Any) -> list[Fault]:
    """Every fault of a task file's data against the schema."""
    return [fault for error in _validator().iter_errors(data) for fault in _faults(error)]


def _faults(error: Any) -> list[Fault]:
    at = tuple(error.absolute_path)
    if "propertyNames" in error.absolute_schema_path:
        key = error.instance
        return [Fault((*at, key), f"a profile has no key {key!r}", "it stands at the top of the file")]
    if error.validator == "additionalProperties" and at[:1] in (("training",), ("seeds",)):
        return []  # the classes that these build say more
    return shape.faults(error, _words)


def _words(at: Path_, value: Any, rule: str) -> str | None:
    """One fault in a clause, where a task file has words of its own."""
    if rule in ("maxItems", "maxProperties", "maxLength"):
        return None
    if at[:1] == ("splits",):
        return f"must be a count of at least 1 or a share between 0 and 1, not {shown(value)}"
    if at == ("noise", "rates"):
        return "needs at least one noise rate" if rule == "minItems" else "names a noise rate twice"
    if at[:2] == ("noise", "rates"):
        return f"a noise rate must be at least 0 and below 1, not {shown(value)}"
    if at[:1] == ("diagnostics",):
        return f"must be a diagnostic's name or {{name: options}}, not {shown(value)}"
    return None
