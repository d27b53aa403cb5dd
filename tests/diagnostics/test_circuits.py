"""Circuits of all nodes are the model, and their importances add up."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from rote_bench.diagnostics.circuits import _Nodes, _problem
from rote_bench.subject import Subject
from tests.diagnostics.reports import details


def test_circuits_add_up_and_large_ones_are_faithful(fda_report: dict[str, Any]) -> None:
    for snapshot in details(fda_report, "circuits")["snapshots"].values():
        assert snapshot["nodes"] == 2 * 256 + 2 * 2
        assert snapshot["faithfulness"]["clean"][-1] > snapshot["faithfulness"]["clean"][0]
        assert 0 <= snapshot["iou_random"] <= 1
        assert len(snapshot["faithfulness_resample"]["memorization"]) == len(details(fda_report, "circuits")["shares"])


def test_integrated_gradients_become_complete_with_more_steps(fda: Subject) -> None:
    nodes = _Nodes(fda, fda.anatomy(), ["heads", "units"])
    for view in (fda.noisy, fda.validation):
        problem = _problem(view).part(slice(0, 24))
        coarse, fine = (nodes.importance(problem, steps)[1] for steps in (2, 48))
        assert fine < 0.1 and fine < coarse


def test_a_circuit_of_all_nodes_is_the_model_and_of_none_is_nothing(fda: Subject) -> None:
    nodes = _Nodes(fda, fda.anatomy(), ["heads", "units"])
    problem = _problem(fda.noisy).part(slice(0, 24))
    for resample in (False, True):
        everything = nodes.faithfulness(problem, np.ones(nodes.count, dtype=bool), resample=resample)
        nothing = nodes.faithfulness(problem, np.zeros(nodes.count, dtype=bool), resample=resample)
        assert everything.mean() == pytest.approx(1, abs=1e-4)
        assert nothing.mean() == pytest.approx(0, abs=1e-4)
