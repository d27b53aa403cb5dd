"""Ablating more and more of a model."""

from __future__ import annotations

from typing import Any

from tests.diagnostics.reports import details


def test_ablating_everything_destroys_everything(thr_report: dict[str, Any]) -> None:
    for kind in details(thr_report, "ablation")["kinds"].values():
        assert kind["random"]["memorization_rate"][-1] < 0.5
        assert len(kind["by_importance"]["memorization_rate"]) == len(details(thr_report, "ablation")["shares"])
