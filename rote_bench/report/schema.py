"""Between the records and JSON: the schema that the classes imply, and reading and writing by the same classes."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Mapping
from functools import cache, lru_cache
from typing import Any, Literal, Union

from ..spec.options import describe
from . import record

_BOUNDS = {"min": "minimum", "max": "maximum", "above": "exclusiveMinimum", "below": "exclusiveMaximum"}
_PLAIN = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null", object: "object"}


@lru_cache(maxsize=1)
def schema() -> dict[str, Any]:
    """The JSON schema of a report, from ``record.Report``."""
    definitions: dict[str, Any] = {}
    root = _of_class(record.Report, definitions)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"rote-bench/report/{record.SCHEMA_VERSION}",
        "title": "rote-bench report",
        **root,
        "$defs": dict(sorted(definitions.items())),
    }


def _of_class(cls: type, definitions: dict[str, Any]) -> dict[str, Any]:
    hints = typing.get_type_hints(cls)
    said = {option.name: option.description for option in describe(cls)}
    properties = {}
    for f in dataclasses.fields(cls):
        limits = {_BOUNDS.get(key, key): value for key, value in f.metadata.items() if key != record.OPTIONAL}
        properties[f.name] = {**_of_type(hints[f.name], limits, definitions), "description": said[f.name]}
    return {
        "description": " ".join((cls.__doc__ or "").partition("Attributes:")[0].split()),
        "type": "object",
        "additionalProperties": False,
        "required": [f.name for f in dataclasses.fields(cls) if record.OPTIONAL not in f.metadata],
        "properties": properties,
        **getattr(cls, "SCHEMA", {}),
    }


def _of_type(kind: Any, limits: Mapping[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind):
        assert isinstance(kind, type)
        if kind.__name__ not in definitions:
            definitions[kind.__name__] = {}  # in its place before what it is made of
            definitions[kind.__name__] = _of_class(kind, definitions)
        return {"$ref": f"#/$defs/{kind.__name__}"}
    if origin is Literal:
        return {"const": arguments[0]} if len(arguments) == 1 else {"enum": list(arguments)}
    if origin in (Union, types.UnionType):
        parts = [_of_type(part, limits, definitions) for part in arguments]
        if all(set(part) - set(limits) == {"type"} for part in parts):
            return {"type": [part["type"] for part in parts], **limits}
        return {"anyOf": parts}
    if origin is tuple:
        return {"type": "array", "items": _of_type(arguments[0], limits, definitions)}
    if origin is not None and issubclass(origin, Mapping):
        if arguments[1] is object:
            return {"type": "object"}
        return {"type": "object", "additionalProperties": _of_type(arguments[1], limits, definitions)}
    return {"type": _PLAIN[kind], **limits}


def read(data: Mapping[str, Any]) -> record.Report:
    """A report from JSON that fits the schema; anything else must have been refused before."""
    report: record.Report = _reader(record.Report)(data)
    return report


def as_read(value: Any) -> Any:
    return value


@cache
def _reader(kind: Any) -> Callable[[Any], Any]:
    """What makes a value of a type from JSON; ``as_read`` where nothing has to be made."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        readers = [(f.name, _reader(hints[f.name]), record.OPTIONAL in f.metadata) for f in dataclasses.fields(kind)]
        return lambda data: kind(  # type: ignore[operator]
            **{name: make(data[name]) for name, make, optional in readers if name in data or not optional}
        )
    if origin in (Union, types.UnionType):
        (inner,) = {_reader(part) for part in arguments if part is not type(None)} or {as_read}
        return as_read if inner is as_read else lambda data: None if data is None else inner(data)
    if origin is tuple:
        item = _reader(arguments[0])
        return tuple if item is as_read else lambda data: tuple(item(each) for each in data)
    if origin is not None and origin is not Literal and issubclass(origin, Mapping):
        value = _reader(arguments[1])
        return as_read if value is as_read else lambda data: {key: value(each) for key, each in data.items()}
    if kind is float:
        return as_read  # a whole number stays one, so that what is written again is what was read
    return as_read


def write(value: Any) -> Any:
    """A record as JSON holds it."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: write(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: write(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [write(each) for each in value]
    return value
