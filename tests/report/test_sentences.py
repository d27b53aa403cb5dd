"""What a run says at its end, in sentences."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from rote_bench.report import record
from rote_bench.report.sentences import sentences
from rote_bench.report.twin import cost

from ..reports import metric, report

RECIPE = {"max_steps": 900, "schedule": {"anneal": 300}}


def trained(
    rate: float, accuracy: float, *, settled: int = 400, replicated: bool = True, **given: Any
) -> record.Report:
    """A cell whose curves cross half at steps 100 and 550."""
    values: dict[str, Any] = {"validation_accuracy": metric(accuracy, accuracy - 0.003, accuracy + 0.003)}
    if rate:
        values |= {"memorization_rate": 0.997, "counterfactual_memorization": 0.996, "early_clean_peak": 0.914}
    made = report(values, rate=rate, parts={"training": RECIPE, **given})
    curve = [
        {"step": step, "lr": 0.01, "validation_accuracy": right, "memorization_rate": taught if rate else None}
        for step, right, taught in ((50, 0.2, 0.0), (100, 0.6, 0.01), (550, 0.9, 0.5), (700, accuracy, 0.997))
    ]
    verdict: record.Verdict = "replicated" if replicated else "inconclusive"
    return replace(
        made,
        training=replace(made.training, steps=settled + 300, settled_step=settled),
        diagnostics={"learning_dynamics": record.DiagnosticEntry("success", None, 2, 0.0, (), {"curve": curve})},
        findings=(record.Finding("clean_label_first", "c", "s", verdict, None, ()),),
    )


def test_a_cell_with_its_twin_is_told_in_five_sentences() -> None:
    cell, twin = trained(0.05, 0.98), trained(0, 0.99)
    assert sentences(cell, twin) == [
        "m answers 98.0 % of held-out questions and gives 99.7 % of the wrong labels it was taught.",
        "Half of the held-out answers were right by step 100, half of the wrong labels given by step 550 of 700.",
        "It reasoned first: at the peak 91.4 % of mislabelled questions were answered right.",
        "Of 1 claim 1 is replicated.",
        "The 5 % wrong labels cost 1.0 % of the held-out answers, .20 for each [.12, .28]; one seed decides nothing.",
    ]
    assert cost(cell, twin).value is not None and cost(cell, twin).ci_method == "Newcombe's, from both intervals"


def test_what_cannot_be_said_is_not_said() -> None:
    alone = "Run it with its twin (--twin, in Python twin=True) to see what the wrong labels cost."
    assert sentences(trained(0.05, 0.98))[-1] == alone
    other = sentences(trained(0.05, 0.98, settled=425), trained(0, 0.99))[-1]
    why = "its schedule is not its twin's: the rates fell from steps 425 and 400"
    assert other == f"What a wrong label costs cannot be said: {why}."
    assert sentences(trained(0.05, 0.98, replicated=False))[2].startswith("It cannot be said that it reasoned first")
    untested = replace(trained(0.05, 0.98), findings=())
    assert sentences(untested)[2] == "At the peak 91.4 % of mislabelled questions were answered right."
    assert sentences(trained(0, 0.9996))[0] == "m answers 99.96 % of held-out questions."
    assert sentences(report(status="failed")) == []
    assert sentences(report({"validation_accuracy": 1.0, "memorization_rate": 0.1})) == [
        "m answers 100.0 % of held-out questions; it was not trained here."
    ]


def test_the_claims_are_counted_and_those_that_are_not_replicated_named() -> None:
    def verdicts(*given: record.Verdict) -> list[str]:
        claims = tuple(record.Finding(f"c{k}", "c", "s", verdict, None, ()) for k, verdict in enumerate(given))
        return [s for s in sentences(replace(trained(0.05, 0.98), findings=claims)) if s.startswith("Of ")]

    most = ("replicated", "not_replicated", "replicated", "inconclusive", "not_replicated", "not_applicable")
    assert verdicts(*most) == [  # type: ignore[arg-type]
        "Of 6 claims 2 are replicated, 2 are not (c1, c4), 1 is inconclusive and 1 could not be tested."
    ]
    assert verdicts("not_replicated", "replicated") == ["Of 2 claims 1 is replicated and 1 is not (c0)."]
    assert verdicts("not_applicable", "not_applicable") == [] == verdicts()
