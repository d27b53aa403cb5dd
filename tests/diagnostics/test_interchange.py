"""A swapped intermediate result decides the answer of a model that reasons through it, and of no other."""

from __future__ import annotations

from typing import Any

import pytest

from rote_bench import plugins
from rote_bench.diagnostics import NotApplicable
from rote_bench.diagnostics.erasure import Erasure, ErasureOptions
from rote_bench.diagnostics.interchange import Interchange
from rote_bench.spec.options import build
from rote_bench.statistics import wilson
from rote_bench.subject import Subject
from tests.diagnostics.reports import value


def test_a_swapped_bridge_decides_the_answer(thr_report: dict[str, Any], fda_report: dict[str, Any]) -> None:
    for report in (thr_report, fda_report):
        swapped, control = (report["metrics"][f"interchange_{name}"] for name in ("accuracy", "control"))
        assert swapped["ci_low"] > wilson(round(control["value"] * control["n"]), control["n"]).ci_high
    assert value(thr_report, "interchange_accuracy") > value(thr_report, "interchange_control") + 0.2


def test_nothing_is_found_in_a_network_that_never_learned(thr: Subject) -> None:
    untrained = thr.random_anatomy()
    other = Subject(thr.spec, thr.task, thr.data, thr.tokenizer, {"post_memorization": untrained}, [], "cpu")
    swapped = Interchange(build(Interchange.Options, {"examples": 100})).run(other).metrics
    assert (swapped["interchange_accuracy"].value or 0.0) < 0.3
    removed = Erasure(ErasureOptions(examples=100)).run(other).metrics["reasoning_reliance_validation"]
    assert removed.value is None or (removed.ci_low or 0.0) <= 0
    with pytest.raises(NotApplicable, match="no pre-memorization snapshot"):
        plugins.load().table("diagnostics")["activation_patching"](
            build(plugins.load().table("diagnostics")["activation_patching"].Options, {})
        ).run(other)
