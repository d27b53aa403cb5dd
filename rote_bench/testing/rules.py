"""How broken rules are gathered and told."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from ..errors import UserError
from ..spec.options import OptionFaults, build
from ..strangers import reason_of

NAME = re.compile(r"[a-z][a-z0-9_]*")
NOISE_RATE = 0.1
T = TypeVar("T")


class RuleBroken(AssertionError):
    """Everything that a plugin does against the rules, a line each."""


class Findings:
    """Gathers broken rules; at most one of each, with the first case."""

    def __init__(self, subject: str) -> None:
        self.subject = subject
        self.lines: dict[str, str] = {}

    def rule(self, holds: bool, rule: str, detail: str, mend: str) -> bool:
        if not holds and rule not in self.lines:
            self.lines[rule] = f"{rule}: {detail}; {mend}"
        return holds

    def attempt(self, what: str, function: Callable[..., None], *given: Any) -> None:
        """Check a group of rules; a plugin that fails meanwhile breaks the rule that it works."""
        try:
            function(self, *given)
        except Exception as error:  # whatever a stranger's code raises is what its author must see
            self.rule(False, what, reason_of(error), "let it work for every example")

    def held(self, rule: str, function: Callable[..., T], *given: Any) -> T | None:
        """What a hook gives, where that is what it was asked for."""
        try:
            return function(*given)
        except UserError as error:
            self.rule(False, rule, error.what, error.hint or "mend it")
            return None

    def raise_all(self) -> None:
        if self.lines:
            raise RuleBroken(f"{self.subject} breaks {len(self.lines)} rule(s):\n" + "\n".join(self.lines.values()))


def class_rules(found: Findings, cls: Any, options: str) -> None:
    name = getattr(cls, "name", None)
    found.rule(
        isinstance(name, str) and NAME.fullmatch(name) is not None,
        "name",
        f"it is {name!r}",
        "set `name` to lower-case letters, digits and underscores",
    )
    found.rule(bool(getattr(cls, "description", "")), "description", "there is none", "say in one line what it does")
    kind = getattr(cls, options, None)
    ok = isinstance(kind, type) and dataclasses.is_dataclass(kind)
    if not found.rule(ok, options, f"it is {kind!r}", f"set `{options}` to a frozen dataclass"):
        found.raise_all()
    found.rule(
        kind.__dataclass_params__.frozen,  # type: ignore[union-attr]
        f"{options} frozen",
        "its fields can be changed",
        "write @dataclass(frozen=True)",
    )


def built(found: Findings, cls: Any, options: str, given: Mapping[str, Any] | None) -> Any:
    try:
        return build(getattr(cls, options), dict(given or {}))
    except OptionFaults as error:
        found.rule(False, options, str(error), "give values that the dataclass accepts")
        found.raise_all()
