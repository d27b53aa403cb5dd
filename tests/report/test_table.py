"""Tables over many reports: seeds are brought together, and nothing that may not be."""

from __future__ import annotations

from rote_bench.findings import decide_across
from rote_bench.plugins import Registry
from rote_bench.report import table
from rote_bench.report.conditions import setup
from rote_bench.report.record import Report

from ..reports import metric, report

ACCURACY = "validation_accuracy"


def named(*reports: Report) -> dict[str, Report]:
    return {f"cell-{i}": one for i, one in enumerate(reports)}


def test_models_stand_side_by_side_over_their_seeds(registry: Registry) -> None:
    cells = [report({ACCURACY: v, "lag": v}, model="a", seed=s) for s, v in enumerate((0.9, 0.8))]
    cells += [
        report({ACCURACY: v, "lag": lag}, model="b", seed=s) for s, (v, lag) in enumerate(((0.5, 1), (0.7, None)))
    ]
    cells += [report(model="b", seed=seed, status="failed") for seed in (2, 3)]
    cells += [report(model="b", seed=4, status="interrupted")]
    first, second = table.collect(named(*cells)).rows
    assert (first.model, first.seeds, first.failed, first.differs) == ("a", 2, 0, "")
    assert first.metrics[ACCURACY].value == (0.9 + 0.8) / 2 and first.metrics[ACCURACY].reason_if_no_interval
    assert (second.model, second.seeds, second.failed, second.interrupted) == ("b", 2, 2, 1)
    assert "2 (+2 failed, 1 interrupted)" in table.render(named(*cells), registry, width=200)
    lag = second.metrics["lag"]
    assert lag.value is None and lag.reason_if_null == "known for 1 of 2 seeds: not measured"


def test_one_seed_keeps_its_own_interval() -> None:
    (row,) = table.collect(named(report({ACCURACY: metric(0.9, 0.8, 0.95, n=50)}))).rows
    found = row.metrics[ACCURACY]
    assert (found.value, found.ci_low, found.ci_high, found.ci_method, found.n) == (0.9, 0.8, 0.95, "by hand", 50)


def test_cells_of_other_conditions_are_never_averaged() -> None:
    plain = [report({ACCURACY: 0.9}, seed=s) for s in range(2)]
    others = {
        "limit=50": report({ACCURACY: 0.1}, limit=50),
        "training.max_steps=60": report({ACCURACY: 0.1}, parts={"training": {"max_steps": 60, "learning_rate": 0.01}}),
        f"content={'1' * 8}": report({ACCURACY: 0.1}, content="1" * 64),
        "model.layers=2": report({ACCURACY: 0.1}, overrides={"layers": 2}),
        "dtype=float16": report({ACCURACY: 0.1}, parts={"dtype": "float16"}),
        "versions.training=2": report({ACCURACY: 0.1}, parts={"versions": {"training": 2}}),
        "schedule=fixed": report({ACCURACY: 0.1}, parts={"schedule": {"settle": "fixed", "twin": None}}),
        "diagnostics.probe.version=2": report(
            {ACCURACY: 0.1}, parts={"diagnostics": {"probe": {"version": 2, "options": {"examples": 10}}}}
        ),
        "diagnostics.probe.examples=20": report(
            {ACCURACY: 0.1}, parts={"diagnostics": {"probe": {"version": 1, "options": {"examples": 20}}}}
        ),
    }
    for says, other in others.items():
        first, second = table.collect(named(*plain, other)).rows
        assert (first.seeds, second.seeds) == (2, 1) and says in second.differs.split(", ")
        assert first.metrics[ACCURACY].value == 0.9 and second.metrics[ACCURACY].value == 0.1
        assert second.differs != first.differs
    every = table.collect(named(*plain, *others.values()))
    assert len(every.rows) == 1 + len(others)


def test_a_seed_counts_once_and_committed_code_comes_first() -> None:
    cells = named(report({ACCURACY: 0.1}, dirty=True), report({ACCURACY: 0.9}), report({ACCURACY: 0.7}, seed=1))
    found = table.collect(cells)
    (row,) = found.rows
    assert row.seeds == 2 and row.metrics[ACCURACY].value == (0.9 + 0.7) / 2
    assert found.left_out == ["left out: cell-0: seed 0 stands in cell-1 already"]


def test_columns_are_the_declared_ones_and_those_of_plugins(registry: Registry) -> None:
    one = report({ACCURACY: 0.9, "memorization_rate": 1.0, "greatness": 2.0})
    found = table.columns([one], registry)
    declared = sorted((m for m in registry.measures().values() if m.column), key=lambda m: m.column or 0)
    assert found == [*((m.name, m.heading) for m in declared), ("greatness", "greatness")]
    text = table.render(named(one), registry, "github")
    assert text.startswith("| task") and "| greatness" in text.splitlines()[0] and "2.000" in text
    assert "differs" not in text
    assert "| limit=5" in table.render(named(one, report(limit=5)), registry, "github")


def test_findings_over_cells_do_not_mix_conditions() -> None:
    memory = {"counterfactual_memorization": metric(1.0, 0.95, 1.0)}
    good = [report({ACCURACY: 1.0, **memory}, rate=rate, seed=s) for rate in (0, 0.05) for s in (0, 1, 2)]
    short = [
        report({ACCURACY: value, **memory}, rate=rate, seed=3, limit=50) for rate, value in ((0, 1.0), (0.05, 0.2))
    ]
    (finding,) = decide_across(table.comparable([*short, *good]))
    assert finding.verdict == "replicated" and finding.estimate is not None and finding.estimate.n == 3
    assert [f.verdict for f in decide_across([*short, *good])] != ["replicated"]


def test_a_setup_is_that_of_the_model_and_not_of_seed_rate_or_diagnostics() -> None:
    same = {setup(report(seed=s, rate=r, limit=n)) for s, r, n in ((0, 0.05, None), (1, 0.0, None), (0, 0.05, 7))}
    same.add(setup(report(parts={"diagnostics": {}, "schedule": {"settle": "twin", "twin": "x"}})))
    assert len(same) == 1
    assert setup(report(parts={"dtype": "float16"})) not in same and setup(report(overrides={"a": 1})) not in same
