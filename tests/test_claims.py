"""Every verdict that was seen so far, each in a cell that went through ``run``; docs/methods.md lists them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

import rote_bench
from rote_bench.findings import decide, decide_across, unmet
from rote_bench.report.record import Report, Verdict

from .releases import OLD_TRANSFORMERS

REFERENCES = Path(__file__).parent.parent / "plugins" / "reference_models" / "reference_models.py"
MEMORISED = """
name: learned_by_heart
generator: two_hop
parameters: {form: symbols, entities: 40, bridges: 12, answers: 20, relations: 20}
splits: {train: 744, selection: 100, validation: 300}
noise: {rates: [0.1]}
model: {layers: 2, width: 64, heads: 2, activation: relu}
training:
  batch_size: 256
  max_steps: 250
  evaluate_every: 25
  precision: float32
  learning_rate: 0.02
  adam_learning_rate: 0.006
  stop_at: null
  schedule: {warmup: 20, anneal: 100}
diagnostics: [learning_dynamics]
"""
PLANTED = """
name: planted
generator: two_hop
parameters: {form: symbols, entities: 16, bridges: 6, answers: 8, relations: 16}
splits: {train: 0.8, selection: 0.08, validation: 0.12}
noise: {rates: [0.02]}
model: {layers: 2, width: 128, heads: 4}
diagnostics: [learning_dynamics, logit_lens, probe, erasure, {circuits: {examples: 32}}, {ablation: {examples: 256}}]
"""
ONE_HEAD = PLANTED.replace("heads: 4", "heads: 8")
KNOWN = """
name: known
generator: two_hop
parameters: {form: symbols, entities: 16, bridges: 6, answers: 8, relations: 10}
splits: {train: 0.8, selection: 0.08, validation: 0.12}
noise: {rates: [0.05]}
diagnostics: [learning_dynamics]
profiles:
  unregularised: {training: {weight_decay: 0}}
  random_labels: {noise: {rates: [0.95]}}
"""
PAIRS = '''
from dataclasses import dataclass
from typing import ClassVar
from rote_bench.plugin import Example, Task, hookimpl

@dataclass(frozen=True)
class Parameters:
    """Nothing to set."""

class Pairs(Task):
    """The first two words decide the answer, the last two are arbitrary."""
    name = "pairs"
    Parameters: ClassVar[type] = Parameters
    def __len__(self): return 6 * 5 * 10 * 10
    def example(self, index):
        k, r, a, b = index % 6, index // 6 % 5, index // 30 % 10, index // 300
        told = {"kind": f"k{k}", "relation": f"r{r}"}
        prompt, hidden = f"k{k} r{r} a{a} b{b}", {"kind": f"k{k}"}
        return Example(prompt, self.pair(k, r), intermediates=hidden, features=told, group=f"{a}")
    def pair(self, k, r): return f"c{(k * (r + 1) + r) % 7}"
    def words(self): return [*(f"{p}{i}" for p in "krabc" for i in range(10))]
    def answers(self, example): return [f"c{i}" for i in range(7)]
    def values(self, intermediate): return [f"k{i}" for i in range(6)]
    def answer_if(self, example, intermediate, value):
        return self.pair(int(value[1:]), int(example.features["relation"][1:]))

@hookimpl
def register_tasks(register): register(Pairs)
'''
FIRST = """
name: taught_at_once
generator: pairs
splits: {train: 0.8, selection: 0.08, validation: 0.12}
noise: {rates: [0.03]}
model: {layers: 1, width: 128, heads: 4}
diagnostics: [logit_lens, probe]
"""
SHORT = {
    "training.max_steps": 20,
    "training.evaluate_every": 10,
    "training.schedule.warmup": 5,
    "training.schedule.anneal": 5,
    "model.layers": 1,
    "model.width": 32,
    "model.heads": 1,
    "diagnostics": ["learning_dynamics"],
}
Run = Callable[..., Report]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A cell of a task file given as text, or of a shipped task, made once for all tests."""
    folder = tmp_path_factory.mktemp("claims")
    pairs = folder / "pairs.py"
    pairs.write_text(PAIRS)

    @cache
    def made(task: str, model: str, rate: float, seed: int = 0, profile: str | None = None, limit: int = 0) -> Report:
        place = folder / f"{abs(hash(task))}.yaml"
        place.write_text(task)
        report = rote_bench.run(
            place if "\n" in task else task,
            model=model,
            noise_rate=rate,
            seed=seed,
            profile=profile,
            limit=limit or None,
            overrides=SHORT if limit else {},
            output_path=folder / "runs",
            plugins=[REFERENCES, pairs],
            quiet=True,
        )
        assert decide(report.record) == report.record.findings
        return report.record

    return made


def check(report: Report, expected: dict[str, tuple[Verdict, str]]) -> None:
    found = {finding.id: finding for finding in report.findings}
    for claim, (verdict, says) in expected.items():
        reason = found[claim].reason or ""
        assert (found[claim].verdict, says in reason) == (verdict, True), f"{claim}: {found[claim].verdict}: {reason}"


def test_a_small_cell_of_addition_learns_first(fda_cell: Path) -> None:
    report = rote_bench.load_report(fda_cell).record
    both: tuple[Verdict, str] = ("replicated", "true answer beats other possible answers from depth")
    if OLD_TRANSFORMERS:  # which draws other weights, of which so few examples say less
        both = ("inconclusive", "the interval of latent clean retention")
    check(
        report,
        {
            "generalize_then_memorize": ("replicated", "lies above 0"),
            "clean_label_first": ("replicated", "lies above 0.5"),
            "both_computed": both,
            # whether the erasure removes the reasoning of so small a cell hangs on how a processor rounds
            "memorization_relies_on_reasoning": ("inconclusive", ""),
            "outlier_heuristics": ("inconclusive", "the interval of patch specificity"),
        },
    )
    assert unmet(report) == []


def test_a_small_cell_of_two_hop_reasoning_shows_what_weak_controls_leave_open(thr_cell: Path) -> None:
    report = rote_bench.load_report(thr_cell).record
    # whether so few questions show that the erasure removed the reasoning hangs on how a processor rounds
    removed = report.diagnostics["erasure"].details["not_removed"] is None
    relies: tuple[Verdict, str] = ("replicated", "lies above 0") if removed else ("inconclusive", "did not remove")
    check(
        report,
        {
            "generalize_then_memorize": ("replicated", "lies above 0"),
            "memorization_relies_on_reasoning": relies,
            "outlier_heuristics": ("not_applicable", "about arithmetic"),
            "shared_circuits": ("inconclusive", "cross faithfulness excess"),
            "distributed": ("inconclusive", "no small part of the attention heads was removed"),
        },
    )


def test_of_few_wrong_labels_nothing_is_said(run: Run) -> None:
    """``run thr --limit 200 --noise-rate 0.0005``."""
    report = run("thr", "gpt2-nano", 0.0005, limit=200)
    assert {finding.verdict for finding in report.findings} == {"not_applicable"}
    assert all("only 10 wrong labels; 50 are needed" in (finding.reason or "") for finding in report.findings)
    assert unmet(report)[0].startswith("Nothing can be said about memorization: only 10 wrong labels; 50 are needed")


def test_what_is_learned_by_heart_was_not_generalised_first(run: Run) -> None:
    """744 two-hop questions are memorised with their 74 wrong labels; few others are answered."""
    report = run(MEMORISED, "gpt2-nano", 0.1)
    check(
        report,
        {
            "generalize_then_memorize": ("not_replicated", "held-out accuracy never does"),
            "clean_label_first": ("not_replicated", "does not lie above 0.5"),
            **dict.fromkeys(
                ("both_computed", "memorization_relies_on_reasoning", "shared_circuits", "distributed"),
                ("not_applicable", "0.9 is needed"),
            ),
        },
    )
    assert unmet(report)[0].startswith("Nothing can be said about reasoning beside memorization: held-out accuracy is")


def test_a_label_that_leads_from_the_first_layer_on_leaves_nothing_to_compute(run: Run) -> None:
    """One unit for each question, in the only block there is: a look-up table in a network that computes nothing."""
    report = run(FIRST, "reference-units", 0.03)
    check(report, {"both_computed": ("not_replicated", "the wrong label leads from the first of 1 layers on")})
    assert "from the first layer on" in (report.metrics["clean_label_depth"].reason_if_null or "")


@pytest.mark.slow
def test_a_planted_memory_is_neither_distributed_nor_on_the_circuit_of_the_clean_task(run: Run) -> None:
    check(
        run(PLANTED, "reference-planted", 0.02),
        {
            "generalize_then_memorize": ("not_applicable", "the model was not trained here"),
            "memorization_relies_on_reasoning": ("inconclusive", "any lesion of that size may do as much"),
            "outlier_heuristics": ("not_applicable", "no snapshot from before memorization was given"),
            "shared_circuits": ("not_replicated", "cross faithfulness excess -"),
            "distributed": ("not_replicated", "of 1090 units memorization is"),
        },
    )


@pytest.mark.slow
def test_a_memory_in_one_head_of_sixteen_is_not_distributed_nor_relies_on_the_reasoning(run: Run) -> None:
    report = run(ONE_HEAD, "reference-head", 0.02)
    check(
        report,
        {
            "distributed": ("not_replicated", "without 1 of 16 heads memorization is 0.0"),
            "memorization_relies_on_reasoning": ("not_replicated", "reliance memorization -"),
        },
    )
    assert report.value("k50_heads") == 1 and report.value("distributedness_k50") == 1 / 16


@pytest.mark.slow
def test_a_memory_spread_over_six_heads_and_many_units_is_distributed(run: Run) -> None:
    report = run(ONE_HEAD, "reference-spread", 0.05)
    check(report, {"distributed": ("replicated", "without 2 of 16 heads memorization is 0.")})
    assert report.value("k50_heads") == 6 and report.value("k50_units") is None


def test_what_wrong_labels_cost_takes_three_seeds(run: Run) -> None:
    def cells(model: str, profile: str | None = None, rates: tuple[float, ...] = (0.0, 0.05)) -> list[Report]:
        return [run(KNOWN, model, rate, seed, profile) for rate in rates for seed in range(3)]

    def found(reports: list[Report]) -> list[tuple[str, Verdict]]:
        return [(f.id, f.verdict) for f in decide_across(reports)]

    table, nearest = cells("reference-lookup"), cells("reference-nearest")
    assert found(table) == [("benign", "replicated")]
    one = decide_across([report for report in table if report.seeds.data == 0])[0]
    assert (one.verdict, one.reason) == ("not_applicable", "one seed; three are needed")
    assert found(nearest) == [("benign", "not_applicable")]  # it does not solve this task
    for model, verdict in (("reference-lookup", "replicated"), ("reference-nearest", "not_replicated")):
        free, chance = cells(model, "unregularised", (0.05,)), cells(model, "random_labels", (0.95,))
        assert found([*free, *chance])[-1] == ("not_regularisation", verdict)
        assert found(free)[-1] == ("not_regularisation", "not_applicable")
