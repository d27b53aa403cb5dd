"""What else the answer would be, as far as a table says: rows that differ in an intermediate result alone."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from .example import Example

Leads = dict[tuple[str, ...], dict[str, str]]


def alternatives(rows: Sequence[Example]) -> list[tuple[str, tuple[str, ...], Leads]]:
    """Intermediate result, the features that decide the answer together with it, and by their values what each value
    of it leads to.

    What else decides the answer is found in the table: none, one or two features with which no value of the
    intermediate result leads to two answers, of all such the coarsest.
    """
    out = []
    for name in rows[0].intermediates if rows else ():
        features = [f for f in rows[0].features if all(f in row.features for row in rows)]
        known = [
            found
            for size in range(3)
            for chosen in combinations(features, size)
            if (found := _decided(rows, name, chosen)) is not None
        ]
        if known:
            chosen, table = min(known, key=lambda found: len(found[1]))
            out.append((name, chosen, table))
    return out


def _decided(rows: Sequence[Example], name: str, features: tuple[str, ...]) -> tuple[tuple[str, ...], Leads] | None:
    """Values of features -> value of an intermediate result -> the one answer that all such rows have; else None."""
    table: Leads = {}
    for row in rows:
        answers = table.setdefault(tuple(row.features[f] for f in features), {})
        if name not in row.intermediates or answers.setdefault(row.intermediates[name], row.answer) != row.answer:
            return None
    return features, table
