"""Neighbours of mislabelled and of clean examples."""

from __future__ import annotations

from typing import Any

from tests.diagnostics.reports import details


def test_neighbours_are_asked_beside_both_kinds(fda_report: dict[str, Any]) -> None:
    kinds = details(fda_report, "neighbourhood")["kinds"]
    assert set(kinds) == {"digit_0", "digit_1"}
    assert all(row["n_noisy"] > 20 and row["n_clean"] > 20 for row in kinds.values())
