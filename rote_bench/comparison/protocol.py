"""The record of a comparison, written before the first of its cells is run: its rules, and the choices made by them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..report.write import LARGEST, parsed, write_json
from .choice import Choice
from .rules import Comparison, Entrant, visible

MEND = "restore it, or remove it where no cell has been run by it"


@lru_cache(maxsize=1)
def schema() -> dict[str, Any]:
    """The JSON schema of a protocol."""
    loaded: dict[str, Any] = json.loads((Path(__file__).parent / "protocol.schema.json").read_text(encoding="utf-8"))
    return loaded


def file_of(output: Path, name: str) -> Path:
    """Where the protocol of a sweep stands."""
    return output / f"{name}.protocol.json"


def content(comparison: Comparison, choices: Sequence[tuple[Entrant, Choice]]) -> dict[str, Any]:
    """What a protocol says.

    Args:
        choices: of all entrants; none without a tuning.
    """
    with_cells = [entrant for entrant, choice in choices if choice.row] if comparison.tuning else comparison.entrants
    seen = visible(comparison)
    found: dict[str, Any] = {
        "schema_version": 1,
        "name": comparison.name,
        "rules": comparison.rules(),
        "planned": sum(len(each.cells) for each in with_cells),
        "tuning": None if comparison.tuning is None else asdict(comparison.tuning),
        "contrasts": [{**asdict(each), "visible": seen[each.name]} for each in comparison.contrasts],
        "choices": [_choice(*each) for each in choices],
    }
    plain: dict[str, Any] = json.loads(json.dumps(found, allow_nan=False))  # as it is read again
    return plain


def _choice(entrant: Entrant, choice: Choice) -> dict[str, Any]:
    row = choice.row
    return {
        "task": entrant.task,
        "model": entrant.model,
        "configuration": row and row.configuration,
        "settle": row and row.settle,
        "steps": row and row.steps,
        "reason": choice.reason,
        "table": [asdict(each) for each in choice.table],
    }


def write(path: Path, protocol: Mapping[str, Any]) -> None:
    """Write a protocol, whole or not at all."""
    write_json(path, protocol)


def read(path: Path) -> dict[str, Any]:
    """Read and check a protocol.

    Raises:
        UserError: when it is missing, or is none.
    """
    from jsonschema import Draft202012Validator

    try:
        if path.stat().st_size > LARGEST:
            raise UserError("is larger than any protocol", where=str(path))
        found = parsed(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError("no protocol here", where=str(path)) from None
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise UserError(f"is no protocol: {error}", where=str(path), hint=MEND) from None
    fault = next(iter(Draft202012Validator(schema()).iter_errors(found)), None)
    if fault is not None:
        at = ".".join(map(str, fault.absolute_path)) or "it"
        raise UserError(f"is no protocol: {at}: {fault.message[:200]}", where=str(path), hint=MEND)
    protocol: dict[str, Any] = found
    return protocol
