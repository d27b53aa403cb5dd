"""YAML that remembers where everything stands: file and line of every key and value."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from ..errors import Faults, UserError, clipped

Path_ = tuple[str | int, ...]
LARGEST = 1 << 20  # bytes
DEEPEST = 50
MOST_VALUES = 30_000
LONGEST_NUMBER = 300  # characters; a longer number has no finite float
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
_TEXT = "tag:yaml.org,2002:str"
_STANDARD_TAG = re.compile(r"^tag:yaml\.org,2002:\w+$")


@dataclass
class Source:
    """Plain data with the place of every path in it.

    Attributes:
        data: mappings, lists, texts, numbers, booleans and null.
        places: path -> ``file:line``, or the flag that set it.
        through: path -> the flag that set a key below it, and so changed it as a whole, but no other key below.
    """

    data: dict[str, Any]
    places: dict[Path_, str] = field(default_factory=dict)
    through: dict[Path_, str] = field(default_factory=dict)

    def where(self, path: Path_) -> str:
        """The place of a path, or of the nearest enclosing one."""
        if path in self.through:
            return self.through[path]
        for end in range(len(path), -1, -1):
            if path[:end] in self.places:
                return self.places[path[:end]]
        return "task file"


def scalar(text: str) -> Any:
    """A plain YAML scalar by the rules of YAML 1.2: ``no`` is text, ``1e-3`` a number, ``010`` ten.

    What no finite number can hold stays text, so that it is refused wherever a number is asked for.
    """
    if text in _WORDS:
        return _WORDS[text]
    if len(text) > LONGEST_NUMBER:
        return text
    if _INT.match(text):
        return int(text)
    if _FLOAT.match(text) and math.isfinite(value := float(text)):
        return value
    return text


def read(path: Path) -> Source:
    """Read a YAML mapping.

    Raises:
        UserError: when the file cannot be read or is not YAML.
        Faults: with every duplicate key.
    """
    name = str(path)
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
    except FileNotFoundError:
        raise UserError("no such file", where=name, hint="`rote-bench list tasks` shows the shipped tasks") from None
    except IsADirectoryError:
        raise UserError("is a folder, not a task file", where=name) from None
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}", where=name) from error
    if len(content) > LARGEST:
        raise UserError(f"is larger than {LARGEST >> 20} MiB, which no task file is", where=name)
    try:
        return parse(content.decode("utf-8-sig"), name)
    except UnicodeDecodeError as error:
        what = f"is not UTF-8 text: {error.reason} at byte {error.start}"
        raise UserError(what, where=name, hint="save it as UTF-8") from None


def parse(text: str, name: str) -> Source:
    """Parse a YAML mapping; ``name`` stands in messages.

    Raises:
        UserError: when the text is not YAML, or not a mapping.
        Faults: with every duplicate key and every tag.
    """
    import yaml

    node = _compose(text, name)
    if node is None:
        raise UserError("is empty", where=name)
    if not isinstance(node, yaml.MappingNode):
        raise UserError(
            "must hold keys and values, not a single value or list", where=f"{name}:{node.start_mark.line + 1}"
        )
    reader = _Reader(name)
    data = reader.plain(node, ())
    if reader.faults:
        raise Faults(reader.faults)
    return Source(data, reader.places)


def parse_value(text: str, name: str) -> Any:
    """Parse one YAML value of any kind, as a flag gives it; nothing at all is null.

    Raises:
        UserError: when the text is not YAML.
        Faults: with every duplicate key and every tag.
    """
    try:
        node = _compose(text, name)
    except UserError as error:
        raise UserError(error.what, where=name) from None  # the line of a flag's value says nothing
    reader = _Reader(name)
    value = None if node is None else reader.plain(node, ())
    if reader.faults:
        raise Faults([UserError(fault.what, where=name, hint=fault.hint) for fault in reader.faults])
    return value


def _compose(text: str, name: str) -> Any:
    """The node of the only document; None when there is none.

    Made from the parser's events one by one, so that what is too deep or too long is refused where it gets so.
    """
    import yaml

    try:
        return _Composer(name).document(yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error)
        raise UserError(f"is not YAML: {clipped(problem, 200)}", where=f"{name}{line}") from None
    except RecursionError:  # of a parser that is not written in C
        raise UserError(f"is nested more than {DEEPEST} levels deep", where=name) from None


class _Composer:
    """Puts events together to nodes."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.root: Any = None
        self.open: list[tuple[Any, list[Any]]] = []
        self.anchors: dict[str, Any] = {}

    def document(self, events: Iterable[Any]) -> Any:
        import yaml

        for values, event in enumerate(events):
            start: Any = event.start_mark  # one parser has marks of its own
            if values > 2 * MOST_VALUES:  # keys too
                self.refuse(f"holds more than {MOST_VALUES:,} values", event)
            if isinstance(event, yaml.DocumentStartEvent) and self.root is not None:
                self.refuse("is not YAML: expected one document, but found another document", event)
            elif isinstance(event, yaml.ScalarEvent):
                tag = event.tag if event.tag not in (None, "!") else _TEXT
                self.add(yaml.ScalarNode(tag, event.value, start, None, event.style or None), event)
            elif isinstance(event, yaml.AliasEvent):
                if event.anchor not in self.anchors:
                    self.refuse(f"is not YAML: there is no anchor {clipped(str(event.anchor))!r}", event)
                self.add(self.anchors[event.anchor])
            elif isinstance(event, yaml.SequenceStartEvent | yaml.MappingStartEvent):
                kind = yaml.SequenceNode if isinstance(event, yaml.SequenceStartEvent) else yaml.MappingNode
                tag = event.tag if event.tag not in (None, "!") else _TEXT
                node = kind(tag, [], start, None)
                self.add(node, event)
                self.open.append((node, []))
                if len(self.open) > DEEPEST + 1:
                    self.refuse(f"is nested more than {DEEPEST} levels deep", event)
            elif isinstance(event, yaml.SequenceEndEvent | yaml.MappingEndEvent):
                node, found = self.open.pop()
                pairs = isinstance(node, yaml.MappingNode)
                node.value[:] = list(zip(found[::2], found[1::2], strict=True)) if pairs else found
        return self.root

    def add(self, node: Any, event: Any = None) -> None:
        if self.open:
            self.open[-1][1].append(node)
        else:
            self.root = node
        if event is not None and event.anchor:
            self.anchors[event.anchor] = node

    def refuse(self, what: str, event: Any) -> NoReturn:
        raise UserError(what, where=f"{self.name}:{event.start_mark.line + 1}")


class _Reader:
    """Turns nodes into plain data and gathers places and faults on the way.

    Aliases make a small file stand for endless data, so depth and number of values are bounded.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.places: dict[Path_, str] = {}
        self.faults: list[UserError] = []
        self.values = 0

    def plain(self, node: Any, path: Path_) -> Any:
        import yaml

        self.values += 1
        if len(path) > DEEPEST:
            raise UserError(f"is nested more than {DEEPEST} levels deep", where=self.line(node))
        if self.values > MOST_VALUES:
            raise UserError(f"holds more than {MOST_VALUES:,} values", where=self.line(node))
        self.places.setdefault(path, self.line(node))
        if not _STANDARD_TAG.match(node.tag):
            self.fault(path, f"the tag {clipped(node.tag)!r} is not allowed", node, "quote the value if it is text")
        if isinstance(node, yaml.MappingNode):
            return self.mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.plain(item, (*path, i)) for i, item in enumerate(node.value)]
        return scalar(node.value) if node.style is None else node.value

    def mapping(self, node: Any, path: Path_) -> dict[str, Any]:
        import yaml

        out: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self.fault(path, "a key must be plain text", key_node)
                continue
            key = str(key_node.value)
            if key == "<<":
                self.fault((*path, key), "merge keys are not supported", key_node, "use `extends` or write it out")
                continue
            if key in out:
                self.fault((*path, key), f"the key {clipped(key)!r} stands here twice", key_node, "keep one of them")
                continue
            place = (*path, key)
            self.places[place] = self.line(key_node)
            out[key] = self.plain(value_node, (*path, key))
        return out

    def line(self, node: Any) -> str:
        return f"{self.name}:{node.start_mark.line + 1}"

    def fault(self, path: Path_, what: str, node: Any, hint: str | None = None) -> None:
        dotted = clipped(".".join(map(str, path)), 200)
        self.faults.append(UserError(f"{dotted}: {what}" if dotted else what, where=self.line(node), hint=hint))


def merge(base: Source, over: Source) -> Source:
    """Mappings merge key by key, everything else is replaced."""
    replaced: set[Path_] = set()

    def combine(a: Any, b: Any, path: Path_) -> Any:
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            return {k: combine(a[k], b[k], (*path, k)) if k in a and k in b else b.get(k, a.get(k)) for k in {**a, **b}}
        replaced.add(path)
        return b

    data = combine(base.data, over.data, ())
    places = {p: w for p, w in base.places.items() if not any(p[:n] in replaced for n in range(len(p)))}
    places.update({p: where for p, where in over.places.items() if p})
    return Source(data, places, {**base.through, **over.through})
