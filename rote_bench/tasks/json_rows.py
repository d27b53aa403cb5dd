"""Rows of JSON: a list of objects, an object a line, a list under a key, or columns as pandas writes them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import UserError, did_you_mean

if TYPE_CHECKING:
    from .files import Wanted

Found = tuple[tuple[str, ...], dict[str, Sequence[Any]], int, frozenset[str]]


class _Twice(dict[str, Any]):
    """An object in which a key stands twice."""

    keys_twice: tuple[str, ...] = ()


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) == len(pairs):
        return made
    marked = _Twice(made)
    keys = [key for key, _ in pairs]
    marked.keys_twice = tuple(key for key in made if keys.count(key) > 1)
    return marked


def _integer(digits: str) -> int | str:
    """A number, or its digits where Python would refuse to read so many."""
    return int(digits) if len(digits) < 4000 else digits


def _loads(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_object, parse_int=_integer)


def read(text: str, lines_first: bool, wanted: Wanted, name: str) -> Found:
    """Names of columns, columns in use, number of rows, and names that stand twice in a row.

    Raises:
        UserError: naming the line that is no JSON, or saying how the file is laid out instead.
    """
    text = text.lstrip("\ufeff")
    try:
        content = _content(text, lines_first, name)
    except RecursionError:
        raise UserError(f"{name} is nested too deeply to be read", hint="write its rows as a list of objects") from None
    only = content[0] if isinstance(content, _Lines) and len(content) == 1 else content
    if isinstance(only, Mapping) and (only is content or not set(wanted.needed) <= set(only)):
        content = _inside(only, wanted, name)
    elif wanted.records:
        raise UserError(f"{name} is a list of rows already", hint="take out parameters.records")
    if isinstance(content, Mapping):
        columns = {str(key): list(values) for key, values in content.items()}
        count = len(next(iter(columns.values()), []))
        return tuple(columns), {n: v for n, v in columns.items() if n in wanted.used}, count, frozenset()
    return _from_rows(content, wanted, name)


class _Lines(list[Any]):
    """Rows of a file that has one a line."""


def _content(text: str, lines_first: bool, name: str) -> Any:
    """The file as one value, or the value of each of its lines, whatever its name promises."""
    start = text.lstrip()[:1]
    if start == "[" or not lines_first:
        try:
            return _loads(text)
        except json.JSONDecodeError as error:
            several = start == "{" and "Extra data" in error.msg
            if not several:
                raise UserError(
                    f"{name} is not JSON: {error.msg}, line {error.lineno}, column {error.colno}",
                    hint="is it cut short?" if _at_the_end(error, text) else None,
                ) from None
    out = _Lines()
    for number, line in enumerate(text.split("\n"), 1):  # a text may hold other line separators
        if not line.strip():
            continue
        try:
            out.append(_loads(line))
        except json.JSONDecodeError as error:
            if number == 1 and not out and start == "{" and lines_first:
                return _whole(text, error, name)
            raise UserError(
                f"line {number} of {name} is not JSON: {error.msg}, column {error.colno}", hint="mend the line"
            ) from None
    return out


def _at_the_end(error: json.JSONDecodeError, text: str) -> bool:
    return error.msg.startswith("Unterminated") or error.pos >= len(text.rstrip())


def _whole(text: str, of_line: json.JSONDecodeError, name: str) -> Any:
    """The file as one value, when its first line is none."""
    try:
        return _loads(text)
    except json.JSONDecodeError:
        raise UserError(
            f"line 1 of {name} is not JSON: {of_line.msg}, column {of_line.colno}", hint="mend the line"
        ) from None


def _inside(content: Mapping[str, Any], wanted: Wanted, name: str) -> Any:
    """The rows in an object: a list, or a column -> its values."""
    if wanted.records:
        return _under(content, wanted.records, wanted, name)
    if set(wanted.needed) <= set(content):
        return _columns(content, wanted, name)
    if isinstance(content.get("columns"), list) and _is_list_of(content.get("data"), list):  # pandas' "split"
        heads = [str(head) for head in content["columns"]]
        twice = next((head for head in heads if heads.count(head) > 1 and head in wanted.used), None)
        if twice is not None:
            raise UserError(f"two columns of {name} are called {twice!r}", hint="give one of them another name")
        for number, row in enumerate(content["data"], 1):
            if len(row) != len(heads):
                raise UserError(
                    f"row {number} of {name} has {len(row)} values, but there are {len(heads)} columns",
                    hint="mend the row",
                )
        return [dict(zip(heads, row, strict=True)) for row in content["data"]]
    if content and all(isinstance(row, Mapping) and set(wanted.needed) <= set(row) for row in content.values()):
        return list(content.values())  # pandas' "index"
    lists = [key for key, value in content.items() if _is_list_of(value, Mapping)]
    if len(lists) == 1:
        return content[lists[0]]
    if lists:
        raise UserError(
            f"{name} holds several lists of objects: {', '.join(lists[:12])}",
            hint=f"name one of them, parameters.records: {lists[0]}",
        )
    keys = ", ".join(map(str, list(content)[:12])) or "none"
    raise UserError(
        f"{name} is no list of objects but an object with the keys {keys}",
        hint="name the key of the rows, parameters.records; a dot leads further in",
    )


def _under(content: Any, path: str, wanted: Wanted, name: str) -> Any:
    whole = content
    for key in [path] if path in content else path.split("."):
        if not isinstance(content, Mapping) or key not in content:
            known = list(content) if isinstance(content, Mapping) else []
            raise UserError(f"{name} has no key {key!r} on the way to {path!r}", hint=did_you_mean(key, known))
        content = content[key]
    if isinstance(content, Mapping):
        return _columns(content, wanted, name)
    if not isinstance(content, list):
        raise UserError(f"{path!r} of {name} is no list of objects", hint=f"keys: {', '.join(list(whole)[:12])}")
    return content


def _columns(content: Mapping[str, Any], wanted: Wanted, name: str) -> Any:
    """Columns of the same length, as lists or as index -> value; or the only row of a file."""
    if all(content.get(n) is None or isinstance(content[n], str | int | float) for n in wanted.needed):
        return [content]
    found: dict[str, list[Any]] = {}
    order: list[str] | None = None
    for key, values in content.items():
        if isinstance(values, Mapping):
            order = list(values) if order is None else order
            found[key] = [values.get(i) for i in order]
        elif isinstance(values, list):
            found[key] = values
    missing = [n for n in wanted.needed if n not in found]
    lengths = {key: len(values) for key, values in found.items() if key in wanted.used}
    if missing or len(set(lengths.values())) > 1:
        said = ", ".join(f"{key} has {length}" for key, length in lengths.items())
        raise UserError(
            f"the columns of {name} do not match: {said or ', '.join(missing) + ' is no column'}",
            hint="write a list of objects, one for each row",
        )
    return {key: values for key, values in found.items() if key in wanted.used or len(values) in lengths.values()}


def _is_list_of(value: Any, kind: type) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(each, kind) for each in value)


def _from_rows(rows: Any, wanted: Wanted, name: str) -> Found:
    if not isinstance(rows, list):
        raise UserError(f"{name} is no list of objects", hint="write one object for each row")
    names: dict[str, None] = {}
    twice: set[str] = set()
    for number, row in enumerate(rows, 1):
        if not isinstance(row, Mapping):
            raise UserError(f"row {number} of {name} is no object", hint="write {column: value} for each row")
        names.update(dict.fromkeys(row))
        if isinstance(row, _Twice):
            twice.update(row.keys_twice)
    used: Iterable[str] = (n for n in names if n in wanted.used and n not in twice)
    return tuple(names), {n: [row.get(n) for row in rows] for n in used}, len(rows), frozenset(twice)
