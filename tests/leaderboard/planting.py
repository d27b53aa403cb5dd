"""A published comparison made by hand: its file as it is planned, and reports of every trial and cell of it."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rote_bench.comparison.rules import CURVES, Comparison, Contrast, Entrant, Tuning
from rote_bench.leaderboard.collect import Collection, Diverged, Refusal
from rote_bench.leaderboard.entry import Entry, cell_of, make, trial_of
from rote_bench.plugins import Registry
from rote_bench.report import record
from rote_bench.spec.loader import load_task
from rote_bench.spec.model import DiagnosticSpec, Recipe, Schedule, Seeds, TaskSpec
from rote_bench.training.curve import Evaluation

from ..reports import metric, report

RATE, SEEDS, TUNING_SEEDS = 0.05, (0, 1, 2, 3, 4), (100, 101)
ASKED = 1000
RECIPES: Mapping[str, Recipe] = {
    "slow": Recipe(learning_rate=0.008, max_steps=1000, schedule=Schedule(anneal=100), evaluation_examples=ASKED),
    "fast": Recipe(learning_rate=0.032, max_steps=1000, schedule=Schedule(anneal=100), evaluation_examples=ASKED),
}
TUNING = Tuning(
    {name: {"training": {"learning_rate": recipe.learning_rate}} for name, recipe in RECIPES.items()},
    TUNING_SEEDS,
    RATE,
)


@dataclass(frozen=True)
class Plan:
    """How a model fares: for each configuration the step at which it settles and the one at which it has memorised."""

    settles: Mapping[str, int | None] = field(default_factory=lambda: {"slow": 200, "fast": 100})
    memorises: Mapping[str, int | None] = field(default_factory=lambda: {"slow": 210, "fast": 222})
    transfers: Sequence[float] = (0.2, 0.22, 0.24, 0.26, 0.28)
    parameters: int = 1_000_000


def spec_of(registry: Registry) -> TaskSpec:
    """A shipped task."""
    return load_task("thr", registry)


def entrant(spec: TaskSpec, model: str, task: str = "thr") -> Entrant:
    tuned = spec.replace(model={**spec.model, "activation": "silu" if model > "m" else "relu"})
    cells = tuple((tuned.replace(seeds=Seeds.all(seed)), rate) for seed in SEEDS for rate in (0.0, RATE))
    return Entrant(task, model, tuned, RECIPES, cells)


def comparison(
    registry: Registry, models: Sequence[str], contrasts: Sequence[Contrast] = (), **other: Any
) -> Comparison:
    spec = spec_of(registry)
    made = Comparison("planted", "Planted models", tuple(entrant(spec, m) for m in models), TUNING, tuple(contrasts))
    return replace(made, **other)


def point(step: int, selection: float, memorised: float | None) -> dict[str, Any]:
    known = Evaluation(
        step=step,
        examples_seen=step,
        epoch=0.0,
        seconds=0.0,
        loss=1.0,
        lr=0.01,
        selection_accuracy=selection,
        memorization_rate=memorised,
    )
    return known.plain()


def reported(
    spec: TaskSpec,
    model: str,
    rate: float,
    *,
    settled: int | None = 100,
    memorised: int | None = 300,
    accuracy: float = 1.0,
    parameters: int = 1_000_000,
) -> record.Report:
    """A report of a trial or a cell that came to this."""
    recipe = spec.training
    fixed = recipe.schedule.settle
    reached = settled if settled is not None and settled <= recipe.max_steps - recipe.schedule.anneal else None
    last = recipe.max_steps if settled is None else settled + recipe.schedule.anneal
    curve = [point(1, 0.1, 0.0 if rate else None)]
    for step in sorted({s for s in (reached, memorised if rate else None, last) if s is not None}):
        full = memorised is not None and step >= memorised
        curve.append(point(step, 1.0 if reached and step >= reached else 0.5, (1.0 if full else 0.1) if rate else None))
    schedule = record.Schedule("event" if fixed == "event" else "fixed", None, None if fixed == "event" else int(fixed))
    resolved = spec.resolved()
    made = report(
        {
            "validation_accuracy": metric(accuracy, accuracy - 0.001, min(1.0, accuracy + 0.001), 10_000),
            "memorization_rate": 1.0 if rate else None,
            "counterfactual_memorization": 1.0 if rate else None,
        },
        task=spec.name,
        model=model,
        rate=rate,
        seed=spec.seeds.data,
        content=spec.content_hash(),
        parts={"training": resolved["training"], "schedule": {"settle": schedule.settle, "twin": None}},
        details={CURVES: {"curve": curve}},
        training=replace(
            record.NOT_TRAINED,
            optimizer="muon",
            steps=last,
            schedule=schedule,
            settled_step=settled,
            final_rate=recipe.learning_rate * 0.05,
            steps_after_98=last - memorised if rate and memorised is not None else None,
            way="alone",
        ),
    )
    return replace(
        made,
        task=replace(made.task, spec=resolved),
        data=replace(made.data, counts={**made.data.counts, "validation": 10_000, "selection": ASKED}),
        model=replace(made.model, parameters=parameters, source="plugin"),
        seeds=spec.seeds,
    )


def entry(made: record.Report, registry: Registry, path: str) -> Entry:
    """What a board keeps of a report; that its curve agrees with its numbers is another test's matter."""
    told, sha256 = trial_of(made), f"{random.Random(path).getrandbits(256):064x}"
    bare = replace(made, diagnostics={})
    return replace(make(bare, registry, Path(), path=path, sha256=sha256, artifacts=(0, 0)), trial=told)


def failed(made: record.Report, path: str, error: str = "FloatingPointError: the loss is not finite") -> Refusal:
    """A training that broke off, as the board keeps it."""
    broken = replace(made, status="failed", error=error)
    trial = trial_of(broken)
    assert trial is not None
    return Refusal(path, error, cell_of(broken), Diverged(path, "d" * 64, broken.identity.hash, trial))


def planted(registry: Registry, made: Comparison, plans: Mapping[str, Plan]) -> dict[str, record.Report]:
    """Path -> report of everything that the comparison planned, each model faring as its plan says."""
    curves, out = DiagnosticSpec(CURVES), dict[str, record.Report]()
    for each in made.entrants:
        plan = plans[each.model]
        for name in each.recipes:
            for seed in TUNING_SEEDS:
                spec = each.trial(name, seed, curves)
                path = f"tuning/{name}/{each.task}/{each.model}/noise-0/seed-{seed}/report.json"
                out[path] = reported(spec, each.model, 0.0, settled=plan.settles[name])
        learned = {name: step for name, step in plan.settles.items() if step is not None}
        settles = {name: -(-step * 5 // 4) for name, step in learned.items()}
        for name, settle in settles.items():
            for seed in TUNING_SEEDS:
                spec = each.trial(name, seed, curves, settle)
                path = f"tuning/{name}/{each.task}/{each.model}/noise-0.05/seed-{seed}/report.json"
                out[path] = reported(spec, each.model, RATE, settled=settle, memorised=plan.memorises[name])
        able = {name: step for name in settles if (step := plan.memorises[name]) is not None}
        if not able:
            continue
        chosen = min(able, key=lambda name: able[name])
        for spec, rate in each.cells:
            seed, ready = spec.seeds.data, each.chosen(spec, chosen, settles[chosen])
            path = f"{each.task}/{each.model}/noise-{rate:g}/seed-{seed}/report.json"
            error = plan.transfers[seed] * rate
            out[path] = reported(
                ready,
                each.model,
                rate,
                settled=settles[chosen],
                memorised=able[chosen],
                accuracy=1 - error,
                parameters=plan.parameters,
            )
    return out


def collection(registry: Registry, reports: Mapping[str, record.Report], *broken: Refusal) -> Collection:
    return Collection([entry(made, registry, path) for path, made in reports.items()], list(broken))
