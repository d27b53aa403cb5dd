"""Neighbours of mislabelled and of clean examples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rote_bench.diagnostics.neighbourhood import Neighbourhood, NeighbourhoodOptions
from rote_bench.pipeline.accept import accept
from rote_bench.subject import Subject
from rote_bench.tasks.addition import Addition
from rote_bench.tasks.example import Example
from tests.diagnostics.reports import details


def test_neighbours_are_asked_beside_both_kinds(fda_report: dict[str, Any]) -> None:
    kinds = details(fda_report, "neighbourhood")["kinds"]
    assert set(kinds) == {"digit_0", "digit_1"}
    assert all(row["n_noisy"] > 20 and row["n_clean"] > 20 for row in kinds.values())


def test_a_kind_of_neighbour_that_one_side_lacks_has_no_numbers_there(fda: Subject, tmp_path: Path) -> None:
    """Clean examples without neighbours at one digit, mislabelled ones without those at the other."""
    marked = {e.prompt for e in fda.noisy.labelled.examples}

    class OneSided(Addition):
        def neighbours(self, example: Example) -> dict[str, Sequence[int]]:
            lacks = "digit_0" if example.prompt in marked else "digit_1"
            found = {kind: pool for kind, pool in super().neighbours(example).items() if kind != lacks}
            return {**found, "always": next(iter(found.values()))}

    task = OneSided(fda.task.parameters, fda.task.seed)
    diagnostic = Neighbourhood(NeighbourhoodOptions(examples=60))
    subject = replace(fda, task=task)
    accepted = accept(diagnostic, diagnostic.run(subject), subject)
    kinds = accepted.details["kinds"]
    assert isinstance(kinds, dict) and set(kinds) == {"always", "digit_0", "digit_1"}
    assert (kinds["digit_0"]["n_noisy"], kinds["digit_0"]["error_beside_noisy"]) == (0, None)
    assert (kinds["digit_1"]["n_clean"], kinds["digit_1"]["same_label_beside_clean"]) == (0, None)
    asked = sum(row["n_noisy"] + row["n_clean"] for row in kinds.values())
    assert accepted.metrics["neighbour_leakage"].n == asked
    assert diagnostic.draw(accepted.details, tmp_path / "figure.png")
