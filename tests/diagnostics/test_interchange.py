"""A swapped intermediate result decides the answer of a model that reasons through it, and of no other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from rote_bench import plugins
from rote_bench.diagnostics import NotApplicable
from rote_bench.diagnostics.erasure import Erasure, ErasureOptions
from rote_bench.diagnostics.interchange import Interchange
from rote_bench.spec.options import build
from rote_bench.subject import Subject
from tests.diagnostics.reports import value


def test_a_swapped_bridge_decides_the_answer(thr_report: dict[str, Any], fda_report: dict[str, Any]) -> None:
    for report, end in ((thr_report, "ci_high"), (fda_report, "value")):
        swapped, control = (report["metrics"][f"interchange_{name}"] for name in ("accuracy", "control"))
        assert swapped["ci_low"] > control[end]
    assert value(thr_report, "interchange_accuracy") > value(thr_report, "interchange_control") + 0.2


def test_a_memorised_answer_follows_a_swapped_bridge_and_keeps_to_an_equal_one(thr_report: dict[str, Any]) -> None:
    found = {name: thr_report["metrics"][f"interchange_{name}"] for name in ("memorization", "kept_label")}
    controls = {name: thr_report["metrics"][f"interchange_{name}_control"] for name in found}
    assert found["memorization"]["ci_low"] > controls["memorization"]["ci_high"]
    assert found["kept_label"]["ci_high"] < controls["kept_label"]["ci_low"]
    assert found["memorization"]["value"] + found["kept_label"]["value"] <= 1


def test_what_is_swapped_is_what_another_question_has(thr_cell: Path, thr: Subject) -> None:
    """Answers implied are those of the task; donors of the control have the same bridge."""
    rows = pyarrow.parquet.read_table(thr_cell / "interchange.parquet").to_pylist()
    examples = {e.prompt: e for part in (thr.data.train, thr.data.validation) for e in part.examples}
    for r in rows:
        example, donor = examples[r["prompt"]], thr.task.example(r["donor"])
        bridge = donor.intermediates["bridge"]
        if r["asked"] == "label of same":
            assert bridge == example.intermediates["bridge"]
        else:
            implied = thr.task.answer_if(example, "bridge", bridge)
            assert implied != example.answer
            assert r["asked"] == "label" or r["expected"] == implied
    kept = [r["swapped"] for r in rows if r["asked"] == "label"]
    assert len(kept) == sum(r["asked"] == "implied" and r["split"] == "train_noisy" for r in rows)


def test_without_wrong_labels_only_held_out_answers_are_asked(thr: Subject) -> None:
    train = thr.data.train
    clean = replace(thr, data=replace(thr.data, train=replace(train, labels=tuple(e.answer for e in train.examples))))
    found = Interchange(build(Interchange.Options, {"examples": 60})).run(clean)
    assert found.metrics["interchange_accuracy"].value is not None
    for name in ("memorization", "memorization_control", "kept_label", "kept_label_control"):
        assert found.metrics[f"interchange_{name}"].reason_if_null == "no noisy labels at this noise rate"


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
