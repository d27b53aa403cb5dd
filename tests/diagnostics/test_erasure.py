"""Erasure takes a concept away, and refuses to take nearly all."""

from __future__ import annotations

from dataclasses import replace as changed
from typing import Any

import pytest

from rote_bench.diagnostics import NotApplicable
from rote_bench.diagnostics.erasure import Erasure, ErasureOptions
from rote_bench.subject import Subject
from tests.diagnostics.reports import details, value


def test_erasing_the_bridge_hurts_more_than_a_random_erasure(thr_report: dict[str, Any]) -> None:
    assert value(thr_report, "reasoning_reliance_validation") > 0.1
    for fit in details(thr_report, "erasure")["fits"]:
        assert fit["probe_after"] < fit["chance"] + 0.12
        assert fit["variance_removed"]["random"] == pytest.approx(fit["variance_removed"]["leace"], abs=0.05)


def test_erasing_too_much_is_refused(thr: Subject) -> None:
    wide = changed(thr.spec, parameters={**thr.spec.parameters})
    subject = Subject(wide, thr.task, thr.data, thr.tokenizer, thr.anatomies, [], "cpu")
    subject.task.values = lambda intermediate: [f"e{i}" for i in range(60)]  # type: ignore[method-assign]
    try:
        with pytest.raises(NotApplicable, match="of 64 directions"):
            Erasure(ErasureOptions()).run(subject)
        with pytest.raises(NotApplicable, match="no intermediate result 'nonsense'"):
            Erasure(ErasureOptions(intermediates=("nonsense",))).run(subject)
    finally:
        del subject.task.values
