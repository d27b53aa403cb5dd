"""YAML that remembers where everything stands: file and line of every key and value."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import Faults, UserError

Path_ = tuple[str | int, ...]
LARGEST = 1 << 20
_FLOAT = re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?$")
_INT = re.compile(r"^[-+]?\d+$")
_WORDS = {
    "": None,
    "~": None,
    "null": None,
    "Null": None,
    "NULL": None,
    "true": True,
    "True": True,
    "false": False,
    "False": False,
}


@dataclass
class Source:
    """Plain data with the place of every path in it.

    Attributes:
        data: mappings, lists, texts, numbers, booleans and null.
        places: path -> ``file:line``, or the flag that set it.
    """

    data: dict[str, Any]
    places: dict[Path_, str] = field(default_factory=dict)

    def where(self, path: Path_) -> str:
        """The place of a path, or of the nearest enclosing one."""
        for end in range(len(path), -1, -1):
            if path[:end] in self.places:
                return self.places[path[:end]]
        return "task file"


def scalar(text: str) -> Any:
    """A plain YAML scalar by the rules of YAML 1.2: ``no`` is text, ``1e-3`` a number, ``010`` ten."""
    if text in _WORDS:
        return _WORDS[text]
    if _INT.match(text):
        return int(text)
    return float(text) if _FLOAT.match(text) else text


def read(path: Path) -> Source:
    """Read a YAML mapping.

    Raises:
        UserError: when the file cannot be read or is not YAML.
        Faults: with every duplicate key.
    """
    name = str(path)
    try:
        if path.stat().st_size > LARGEST:
            raise UserError(f"is larger than {LARGEST >> 20} MiB, which no task file is", where=name)
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError("no such file", where=name, hint="`rote-bench list tasks` shows the shipped tasks") from None
    except IsADirectoryError:
        raise UserError("is a folder, not a task file", where=name) from None
    except UnicodeDecodeError as error:
        raise UserError(f"is not UTF-8 text: {error.reason} at byte {error.start}", where=name) from None
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}", where=name) from error
    return parse(text, name)


def parse(text: str, name: str) -> Source:
    """Parse a YAML mapping; ``name`` stands in messages."""
    import yaml

    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error)
        raise UserError(f"is not YAML: {problem}", where=f"{name}{line}") from None
    if node is None:
        raise UserError("is empty", where=name)
    if not isinstance(node, yaml.MappingNode):
        raise UserError(
            "must hold keys and values, not a single value or list", where=f"{name}:{node.start_mark.line + 1}"
        )
    source, faults = Source({}), []  # type: tuple[Source, list[UserError]]
    source.data = _plain(node, (), source.places, name, faults)
    if faults:
        raise Faults(faults)
    return source


def _plain(node: Any, path: Path_, places: dict[Path_, str], name: str, faults: list[UserError]) -> Any:
    import yaml

    places.setdefault(path, f"{name}:{node.start_mark.line + 1}")
    if isinstance(node, yaml.MappingNode):
        out: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = f"{name}:{key_node.start_mark.line + 1}"
            key = str(key_node.value) if isinstance(key_node, yaml.ScalarNode) else "?"
            if key in out:
                dotted = ".".join(map(str, (*path, key)))
                faults.append(
                    UserError(f"{dotted}: the key {key!r} stands here twice", where=line, hint="keep one of them")
                )
                continue
            places[(*path, key)] = line
            out[key] = _plain(value_node, (*path, key), places, name, faults)
        return out
    if isinstance(node, yaml.SequenceNode):
        return [_plain(item, (*path, i), places, name, faults) for i, item in enumerate(node.value)]
    return scalar(node.value) if node.style is None else node.value


def merge(base: Source, over: Source) -> Source:
    """Mappings merge key by key, everything else is replaced."""
    places = dict(base.places)

    def combine(a: Any, b: Any, path: Path_) -> Any:
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            return {k: combine(a[k], b[k], (*path, k)) if k in a and k in b else b.get(k, a.get(k)) for k in {**a, **b}}
        for known in [p for p in places if p[: len(path)] == path and len(p) > len(path)]:
            del places[known]
        return b

    data = combine(base.data, over.data, ())
    places.update({p: where for p, where in over.places.items() if p})
    return Source(data, places)
