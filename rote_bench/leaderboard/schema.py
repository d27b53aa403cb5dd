"""The JSON schema of ``leaderboard.json``, and what fits it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import cache, lru_cache
from pathlib import Path
from typing import Any


@lru_cache(maxsize=1)
def schema() -> dict[str, Any]:
    """The JSON schema of ``leaderboard.json``."""
    loaded: dict[str, Any] = json.loads((Path(__file__).parent / "leaderboard.schema.json").read_text(encoding="utf-8"))
    return loaded


@cache
def _compiled(*path: str) -> Callable[[object], object]:
    import fastjsonschema

    part: Any = {k: v for k, v in schema().items() if k != "$id"}
    for key in path:
        part = part[key]
    made: Callable[[object], object] = fastjsonschema.compile({**part, "$defs": schema()["$defs"]}, use_default=False)
    return made


def check(board: Mapping[str, Any]) -> None:
    """Make sure that the board fits its schema.

    Raises:
        ValueError: when it does not, which is a fault of this program.
    """
    import fastjsonschema

    try:
        _compiled()(board)
    except fastjsonschema.JsonSchemaValueException as error:
        raise ValueError(f"the leaderboard does not fit its schema: {error}") from None


def fits(diagnostic: str, series: Mapping[str, object]) -> bool:
    """Whether a series has the form that the page draws of its diagnostic; any form where it draws none."""
    import fastjsonschema

    if diagnostic not in schema()["$defs"]["series"]["properties"]:
        return True
    try:
        _compiled("$defs", "series", "properties", diagnostic, "items")({**series, "seed": "0"})
    except fastjsonschema.JsonSchemaValueException:
        return False
    return True
