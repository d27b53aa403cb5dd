"""The shape of a YAML file: its data against a JSON schema, and the faults in this project's words."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ..errors import clipped
from .options import Fault, shown, unknown_keys
from .source import Path_

Words = Callable[[Path_, Any, str], "str | None"]

_NAMES = {
    "object": "a mapping",
    "array": "a list",
    "string": "text",
    "integer": "an integer",
    "number": "a number",
}
_BOUNDS = {
    "minimum": "must be at least",
    "exclusiveMinimum": "must be above",
    "maximum": "must be at most",
    "exclusiveMaximum": "must be below",
}


def validator(schema: Mapping[str, Any]) -> Any:
    """A validator for which 2.0 is no integer, as the harness has it and JSON has not.

    It looks no further into what has more entries than it may, and finds repeated ones in linear time.
    """
    from jsonschema import Draft202012Validator, ValidationError
    from jsonschema.validators import extend

    def whole(_: Any, value: Any) -> bool:
        return isinstance(value, int) and not isinstance(value, bool)

    def unique(validator: Any, wanted: Any, value: Any, schema: Any) -> Iterator[Any]:
        if wanted and isinstance(value, list) and len({_comparable(each) for each in value}) < len(value):
            yield ValidationError("names the same thing twice")

    def bounded(keyword: str) -> Any:
        usual = Draft202012Validator.VALIDATORS[keyword]

        def check(validator: Any, wanted: Any, value: Any, schema: Any) -> Iterator[Any]:
            most = schema.get("maxItems" if isinstance(value, list) else "maxProperties")
            if most is None or not isinstance(value, list | dict) or len(value) <= most:
                yield from usual(validator, wanted, value, schema)

        return check

    strict = extend(  # type: ignore[no-untyped-call]
        Draft202012Validator,
        {"uniqueItems": unique, **{key: bounded(key) for key in ("items", "additionalProperties")}},
        type_checker=Draft202012Validator.TYPE_CHECKER.redefine("integer", whole),
    )
    return strict(schema)


def _comparable(value: Any) -> Any:
    """What is equal for equal values alone: 1 and 1.0 are, true and 1 are not."""
    return value if isinstance(value, int | float) and not isinstance(value, bool) else repr(value)


def faults(error: Any, words: Words) -> list[Fault]:
    """What one error of jsonschema says about the file.

    Args:
        words: the clause for a path, value and broken rule that the file has words of its own for, else None.
    """
    at = tuple(error.absolute_path)
    value, rule = error.instance, error.validator
    if rule == "additionalProperties":
        allowed = error.schema.get("properties", {})
        return unknown_keys([key for key in value if key not in allowed], allowed, at)
    if rule == "required":
        return [Fault(at, f"the key {key!r} is missing") for key in error.validator_value if key not in value]
    return [Fault(at, _type(error) or words(at, value, rule) or _common(error))]


def _type(error: Any) -> str | None:
    if error.validator != "type":
        return None
    kinds: Sequence[str] = error.validator_value if isinstance(error.validator_value, list) else [error.validator_value]
    return f"must be {' or '.join(_NAMES.get(kind, kind) for kind in kinds)}, not {shown(error.instance)}"


def _common(error: Any) -> str:
    value, rule, wanted = error.instance, error.validator, error.validator_value
    if rule == "pattern":
        return f"{clipped(value)!r} must be lower-case letters, digits and underscores"
    if rule == "enum":
        return f"must be one of {', '.join(map(str, wanted))}, not {shown(value)}"
    if rule in ("minItems", "minProperties"):
        return "must not be empty"
    if rule == "uniqueItems":
        return "names the same thing twice"
    if rule in ("maxItems", "maxProperties"):
        return f"has {len(value):,} entries, more than the {wanted:,} that it may have"
    if rule in _BOUNDS:
        return f"{_BOUNDS[rule]} {wanted}, not {shown(value)}"
    if rule == "maxLength":
        return f"is longer than {wanted} characters"
    return clipped(str(error.message), 200)
