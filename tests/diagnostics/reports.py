"""What all tests of diagnostics read from a report."""

from __future__ import annotations

from typing import Any


def value(report: dict[str, Any], name: str) -> float:
    return float(report["metrics"][name]["value"])


def details(report: dict[str, Any], name: str) -> dict[str, Any]:
    return dict(report["diagnostics"][name]["details"])
