"""The shape of a task file: its JSON schema, and faults against it in this project's words."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..errors import did_you_mean
from .model import Recipe, Seeds
from .options import Fault, describe, shown

_NAMES = {
    "object": "a mapping",
    "array": "a list",
    "string": "text",
    "integer": "an integer",
    "number": "a number",
}


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
    from jsonschema import Draft202012Validator
    from jsonschema.validators import extend

    def whole(_: Any, value: Any) -> bool:  # JSON counts 2.0 as an integer, the harness does not
        return isinstance(value, int) and not isinstance(value, bool)

    strict = extend(  # type: ignore[no-untyped-call]
        Draft202012Validator, type_checker=Draft202012Validator.TYPE_CHECKER.redefine("integer", whole)
    )
    return strict(schema())


def structural(data: Any) -> list[Fault]:
    """Every fault of a task file's data against the schema."""
    return [fault for error in _validator().iter_errors(data) for fault in _faults(error)]


def _faults(error: Any) -> list[Fault]:
    at = tuple(error.absolute_path)
    value, rule = error.instance, error.validator
    if "propertyNames" in error.absolute_schema_path:
        return [Fault((*at, value), f"a profile has no key {value!r}", "it stands at the top of the file")]
    if rule == "additionalProperties":
        if at[:1] in (("training",), ("seeds",)):  # the classes that these build say more
            return []
        allowed = error.schema.get("properties", {})
        return [
            Fault((*at, key), f"unknown key {key!r}", did_you_mean(key, allowed)) for key in value if key not in allowed
        ]
    if rule == "required":
        return [Fault(at, f"the key {key!r} is missing") for key in error.validator_value if key not in value]
    return [Fault(at, _words(at, value, rule, error))]


def _words(at: tuple[str | int, ...], value: Any, rule: str, error: Any) -> str:
    """One fault in a clause."""
    if rule == "type":
        expected = _NAMES.get(str(error.validator_value), str(error.validator_value))
        return f"must be {expected}, not {shown(value)}"
    if at[:1] == ("splits",):
        return f"must be a count of at least 1 or a share between 0 and 1, not {shown(value)}"
    if at == ("noise", "rates"):
        return "needs at least one noise rate" if rule == "minItems" else "names a noise rate twice"
    if at[:2] == ("noise", "rates"):
        return f"a noise rate must be at least 0 and below 1, not {shown(value)}"
    if rule == "pattern":
        return f"{value!r} must be lower-case letters, digits and underscores"
    if at[:1] == ("diagnostics",):
        return f"must be a diagnostic's name or {{name: options}}, not {shown(value)}"
    if rule == "enum":
        return f"must be one of {', '.join(map(str, error.validator_value))}, not {shown(value)}"
    bounds = {"minimum": "must be at least", "exclusiveMaximum": "must be below"}
    if rule in bounds:
        return f"{bounds[rule]} {error.validator_value}, not {shown(value)}"
    return str(error.message)
