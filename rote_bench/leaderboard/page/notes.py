"""What is said of rows, each text once: with the rows that it is about, and its number in each of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ...report.markup import share


class Note(NamedTuple):
    """One text.

    Attributes:
        about: the rows that it is said of, in words.
    """

    number: int
    text: str
    about: str


def notes(rows: Sequence[Mapping[str, Any]]) -> tuple[list[Note], list[list[int]]]:
    """All notes in the order of their first row, and the numbers of each row's own."""
    told: dict[str, list[int]] = {}
    for i, row in enumerate(rows):
        for text in (*([f"Not ranked: {row['reason']}."] if row["reason"] else []), *row["marks"]):
            told.setdefault(text, []).append(i)
    out = [Note(n, text, _about(rows, told[text])) for n, text in enumerate(told, start=1)]
    own: list[list[int]] = [[] for _ in rows]
    for note in out:
        for i in told[note.text]:
            own[i].append(note.number)
    return out, own


def _about(rows: Sequence[Mapping[str, Any]], which: Sequence[int]) -> str:
    """All rows, all of some noise rates, or models with their rates."""
    if len(which) == len(rows):
        return "all rows" if len(rows) > 1 else rows[0]["model"]
    which = sorted(which, key=lambda i: (rows[i]["model"], rows[i]["noise_rate"]))
    rates = sorted({rows[i]["noise_rate"] for i in which})
    whole = [i for i, row in enumerate(rows) if row["noise_rate"] in rates]
    at = ", ".join(map(share, rates))
    if len(which) == len(whole) and len(which) > 1:
        return f"all rows at {at}"
    if len(rates) == 1:
        return f"{', '.join(rows[i]['model'] for i in which)} at {at}"
    models: dict[str, list[str]] = {}
    for i in which:
        models.setdefault(rows[i]["model"], []).append(share(rows[i]["noise_rate"]))
    return "; ".join(f"{model} at {', '.join(own)}" for model, own in models.items())
