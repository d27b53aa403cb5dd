"""Typed options from plain data, driven by frozen dataclasses: every fault at once, nothing guessed."""

from __future__ import annotations

import dataclasses
import re
import sys
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, TypeVar, Union

from ..errors import MOST, clipped, did_you_mean

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Fault:
    """Something wrong at a path inside the data; the loader knows the line."""

    path: tuple[str | int, ...]
    what: str
    hint: str | None = None


class OptionFaults(Exception):
    """All faults of one set of options."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("; ".join(f"{'.'.join(map(str, f.path))}: {f.what}" for f in faults))

    def __reduce__(self) -> tuple[type[OptionFaults], tuple[Sequence[Fault]]]:
        return OptionFaults, (self.faults,)


def build(cls: type[T], data: Mapping[str, Any], path: tuple[str | int, ...] = ()) -> T:
    """An instance of a frozen dataclass from plain data.

    Raises:
        OptionFaults: with every unknown key, missing key, wrong type and number out of bounds.
    """
    faults: list[Fault] = []
    hints = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    faults += unknown_keys([key for key in data if key not in fields], fields, path)
    for key, value in data.items():
        if key not in fields:
            continue
        found: list[Fault] = []
        values[key] = _convert(hints[key], value, (*path, key), found)
        if not found:
            _bounds(fields[key], values[key], (*path, key), found)
        faults += found
    for name, field in fields.items():
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and name not in data:
            faults.append(Fault(path, f"the key {name!r} is missing"))
    if faults:
        raise OptionFaults(faults)
    try:
        return cls(**values)
    except ValueError as error:  # a dataclass may check how its fields fit together
        raise OptionFaults([Fault(path, str(error))]) from error


def spelled_out(options: Any) -> dict[str, Any]:
    """The fields of an options instance; those marked ``unsaid`` only where they differ from their default.

    A field that came later is marked so: what does not use it is the same as it was before.
    """
    given = dataclasses.asdict(options)
    unsaid = {f.name: f.default for f in dataclasses.fields(options) if f.metadata.get("unsaid")}
    return {name: value for name, value in given.items() if name not in unsaid or value != unsaid[name]}


def _bounds(field: dataclasses.Field[Any], value: Any, path: tuple[str | int, ...], faults: list[Fault]) -> None:
    limits = field.metadata
    if not isinstance(value, int | float) or isinstance(value, bool):
        return
    if "min" in limits and value < limits["min"]:
        faults.append(Fault(path, f"{value} is less than {limits['min']}"))
    if "above" in limits and value <= limits["above"]:
        faults.append(Fault(path, f"{value} is not above {limits['above']}"))
    if "max" in limits and value > limits["max"]:
        faults.append(Fault(path, f"{value} is more than {limits['max']}"))


def unknown_keys(keys: Sequence[str], known: Iterable[str], path: tuple[str | int, ...]) -> list[Fault]:
    """Keys that there are not; a near one is named for the first of many."""
    names = list(known)
    return [
        Fault((*path, key), f"unknown key {clipped(str(key))!r}", did_you_mean(str(key), names) if n < MOST else None)
        for n, key in enumerate(keys)
    ]


def shown(value: Any) -> str:
    """A wrong value as a message shows it: in YAML's words, and short."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    text = repr(value)
    text = text if len(text) <= 60 else f"{text[:57]}..."
    return f"text ({text})" if isinstance(value, str) else text


def _wrong(expected: str, value: Any, path: tuple[str | int, ...]) -> Fault:
    return Fault(path, f"must be {expected}, not {shown(value)}")


def _convert(kind: Any, value: Any, path: tuple[str | int, ...], faults: list[Fault]) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return value
    if origin in (Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        options = [a for a in arguments if a is not type(None)]
        attempts: list[list[Fault]] = []
        for option in options:
            tried: list[Fault] = []
            converted = _convert(option, value, path, tried)
            if not tried:
                return converted
            attempts.append(tried)
        faults += attempts[0] if len(attempts) == 1 else [_wrong(type_text(kind), value, path)]
        return value
    if origin is Literal:
        if value not in arguments or isinstance(value, bool) != any(isinstance(a, bool) for a in arguments):
            hint = did_you_mean(str(value) if isinstance(value, str) else "", map(str, arguments))
            faults.append(Fault(path, f"must be one of {', '.join(map(str, arguments))}, not {shown(value)}", hint))
        return value
    if origin in (tuple, list, Sequence):
        if not isinstance(value, list | tuple):
            faults.append(_wrong("a list", value, path))
            return value
        if origin is tuple and not (len(arguments) == 2 and arguments[1] is Ellipsis):
            if len(value) != len(arguments):
                faults.append(Fault(path, f"must have {len(arguments)} entries, not {len(value)}"))
                return value
            each: Sequence[Any] = arguments
        else:
            each = [arguments[0] if arguments else Any] * len(value)
        items = [_convert(a, v, (*path, i), faults) for i, (a, v) in enumerate(zip(each, value, strict=True))]
        return items if origin is list else tuple(items)
    if origin in (dict, Mapping) or kind in (dict, Mapping):
        if not isinstance(value, Mapping):
            faults.append(_wrong("a mapping", value, path))
            return value
        inner = arguments[1] if len(arguments) == 2 else Any
        return {str(k): _convert(inner, v, (*path, str(k)), faults) for k, v in value.items()}
    if dataclasses.is_dataclass(kind):
        if not isinstance(value, Mapping):
            faults.append(_wrong("a mapping", value, path))
            return value
        try:
            return build(typing.cast(type[Any], kind), value, path)
        except OptionFaults as error:
            faults += error.faults
            return value
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        if abs(value) <= sys.float_info.max:  # false for infinity and for what is not a number
            return float(value)
        faults.append(_wrong("a finite number", value, path))
        return value
    if kind is int and isinstance(value, int) and not isinstance(value, bool):
        return value
    if kind in (str, bool) and isinstance(value, kind):
        return value
    faults.append(_wrong(type_text(kind), value, path))
    return value


def type_text(kind: Any) -> str:
    """A type in words, for messages and documentation."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (Union, types.UnionType):
        return " or ".join(type_text(a) for a in arguments)
    if origin is Literal:
        return " or ".join(f"`{a}`" for a in arguments)
    if origin in (tuple, list, Sequence):
        inner = [a for a in arguments if a is not Ellipsis]
        return f"a list of {type_text(inner[0])}" if len(set(inner)) == 1 else "a list"
    if origin in (dict, Mapping) or kind in (dict, Mapping):
        return "a mapping"
    plain = {int: "an integer", float: "a number", str: "text", bool: "true or false", type(None): "null"}
    return plain.get(kind, getattr(kind, "__name__", str(kind)))


@dataclasses.dataclass(frozen=True)
class Option:
    """One key that a dataclass allows, for documentation."""

    name: str
    type: str
    default: Any
    required: bool
    description: str


def describe(cls: type) -> list[Option]:
    """The keys of an options dataclass, with descriptions from the ``Attributes:`` part of its docstring."""
    text = (cls.__doc__ or "").partition("Attributes:")[2].strip("\n")
    indent = text[: len(text) - len(text.lstrip())]  # hangs on the Python, which may strip what all lines share
    found = re.findall(rf"^{indent}(\w+(?:, \w+)*): (.*(?:\n(?!{indent}\w+(?:, \w+)*: ).*)*)", text, re.MULTILINE)
    docs = {name: " ".join(body.split()) for names, body in found for name in names.split(", ")}
    hints = typing.get_type_hints(cls)
    out = []
    for field in dataclasses.fields(cls):
        factory = field.default_factory
        default = factory() if factory is not dataclasses.MISSING else field.default
        required = default is dataclasses.MISSING
        out.append(
            Option(
                field.name,
                type_text(hints[field.name]),
                None if required else default,
                required,
                docs.get(field.name, ""),
            )
        )
    return out
