"""Figures of a task over all its models: by noise rate, by early clean peak, by relation and distance, by size."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ...findings.several import BENIGN
from ...report.markup import parameters, share
from ..rank import RANKING
from .chart import Figure, Panel, Point, Scale, Series, figure, looks, scale
from .forest import ONE_FOR_ONE

PEAK = "early_clean_peak"
COST = "answers lost per wrong label"
NEAR = 0.8  # shares that all lie above it are shown without the rest of their axis
RELATIONS = {"_": " ", "bridge": "intermediate result", "hop": "step"}  # of a task's words, those for strangers
DISTANCES = {"task": "near in the task", "states": "near in the twin’s hidden states"}
Rows = Sequence[Mapping[str, Any]]
Looks = Mapping[str, tuple[str, str]]


def figures(task: Mapping[str, Any]) -> list[Figure]:
    """All that can be drawn over the models of a task."""
    look = looks(row["model"] for row in task["rows"])
    rows = ranked(task)
    at_main = [row for row in rows if row["noise_rate"] == task["main_rate"]]
    made = (by_rate(rows, look), by_peak(at_main, look), by_relation(at_main, look))
    more = (by_distance(at_main, look), by_size(at_main, look))
    return [one for one in (*made, *more) if one is not None]


def ranked(task: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The rows of models that have a rank at the main noise rate; of all models where that leaves no two."""
    models = {
        row["model"] for row in task["rows"] if row["rank_low"] is not None and row["noise_rate"] == task["main_rate"]
    }
    return [row for row in task["rows"] if row["model"] in models or len(models) < 2]


def _point(x: float, row: Mapping[str, Any], name: str) -> Point:
    entry = row["metrics"].get(name)
    return Point(x, None) if entry is None else Point(x, entry["value"], entry["ci_low"], entry["ci_high"])


def _models(rows: Rows) -> dict[str, list[Mapping[str, Any]]]:
    found: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        found.setdefault(row["model"], []).append(row)
    return found


def _means(series: Iterable[Series]) -> list[float]:
    return [p.y for one in series for p in one.points if p.y is not None]


def _held(series: Sequence[Series], *, low: float | None = None, high: float | None = None) -> Scale:
    """A scale of all values, and of the ends of their intervals that do not make it much longer."""
    values = _means(series)
    if not values:
        return scale((), 0.0, 1.0)
    reach = (max(values) - min(values)) or 0.1
    ends = [e for one in series for p in one.known for e in (p.low, p.high) if e is not None]
    near = [e for e in ends if min(values) - reach <= e <= max(values) + reach]
    return scale((*values, *near), low, high)


def by_rate(rows: Rows, look: Looks) -> Figure | None:
    """Noise transfer, held-out accuracy and memorization against the noise rate; only where there are several."""
    noisy = sorted({row["noise_rate"] for row in rows if row["noise_rate"] > 0})
    if len(noisy) < 2:
        return None
    rates = sorted({row["noise_rate"] for row in rows})
    pad = 0.04 * (rates[-1] - rates[0])
    x = Scale(rates[0] - pad, rates[-1] + pad, tuple((rate, f"{100 * rate:.4g}") for rate in _apart(rates)))
    heads = {rate: share(rate) for rate in rates}
    panels = []
    for name, title in (
        (RANKING, "what a wrong label costs"),
        ("validation_accuracy", "right on held-out questions"),
        ("counterfactual_memorization", "memorised beyond phantom labels"),
    ):
        series = [
            Series(model, look[model][0], sorted(_point(row["noise_rate"], row, name) for row in own), look[model][1])
            for model, own in _models(rows).items()
        ]
        values = _means(series)
        if name == RANKING:
            y = _held(series, low=0.0, high=0.15)
            panels.append(Panel(title, x, y, "wrong labels (%)", COST, series, _rules(y), heads=heads))
            continue
        lows = [p.low for one in series for p in one.known if p.low is not None]
        floor = min(0.95, *values, *lows) if values else 0.0
        y = scale((), floor if floor >= NEAR else min(0.0, *values), 1.0)
        panels.append(Panel(title, x, y, "wrong labels (%)", "share of questions", series, heads=heads))
    note = "One line a model that is ranked, with intervals. Axes of shares need not begin at 0."
    return figure("As more labels are wrong", note, panels)


def _apart(rates: Sequence[float]) -> list[float]:
    """Those of some rates that lie far enough from each other to be named."""
    kept: list[float] = []
    for rate in rates:
        if not kept or rate - kept[-1] >= 0.07 * (rates[-1] - rates[0]):
            kept.append(rate)
    return kept


def by_peak(rows: Rows, look: Looks) -> Figure | None:
    """Noise transfer against the early clean peak: do models that answer truly before they memorise pay less?"""
    series, numbers = [], []
    for row in rows:
        peak, cost = (row["metrics"].get(name) for name in (PEAK, RANKING))
        if peak is None or cost is None or peak["value"] is None or cost["value"] is None:
            continue
        kind, shape = look[row["model"]]
        series.append(Series(row["model"], kind, [_point(peak["value"], row, RANKING)], shape, line=False))
        numbers.append([row["model"], f"{peak['value']:.3f}", f"{cost['value']:.3f}"])
    if len(series) < 2:
        return None
    x = scale([one.points[0].x for one in series], high=1.0)
    y = _held(series, low=0.0, high=0.15)
    panel = Panel("", x, y, "early clean peak: mislabelled questions answered right, at best", COST, series, _rules(y))
    return figure(
        "Who gave the true answer before memorising the wrong one",
        "One mark a model that is ranked, with the interval of what a wrong label costs. Lower is more benign.",
        [panel],
        size="large",
        numbers=(["model", "early clean peak", "noise transfer"], numbers),
    )


def _rules(y: Scale) -> tuple[float, ...]:
    return tuple(v for v in (0.0, BENIGN, ONE_FOR_ONE) if y.low <= v <= y.high)


def plainly(relation: str) -> str:
    """A task's name of a relation, for people who do not know the task."""
    for old, new in RELATIONS.items():
        relation = relation.replace(old, new)
    return relation


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if len(values) else None


def by_relation(rows: Rows, look: Looks) -> Figure | None:
    """How often related held-out questions get the very wrong label, beyond chance."""
    found: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        for run in row["series"].get("neighbourhood", ()):
            for relation, said in run["relations"].items():
                if said["observed"] is not None and said["permuted"] is not None:
                    own = found.setdefault(relation, {}).setdefault(row["model"], [])
                    own.append(said["observed"] - said["permuted"])
    relations = sorted(found)
    models = [row["model"] for row in rows if any(row["model"] in found[relation] for relation in relations)]
    series = []
    for i, model in enumerate(models):
        beside = 0.7 * ((i + 0.5) / len(models) - 0.5)
        points = [
            Point(at + beside, _mean(found[relation].get(model, ())), *_ends(found[relation].get(model, ())))
            for at, relation in enumerate(relations)
        ]
        series.append(Series(model, look[model][0], points, look[model][1], line=False))
    x = Scale(
        -0.5,
        len(relations) - 0.5,
        tuple((float(i), textwrap.fill(plainly(name), 13)) for i, name in enumerate(relations)),
    )
    panel = Panel("", x, _held(series, low=0.0), "related by", "share beyond chance", series, (0.0,))
    rows_ = [
        [plainly(relation), *(_said(found[relation].get(model, ())) for model in models)] for relation in relations
    ]
    return figure(
        "Where a wrong label leaks to: related questions",
        "Held-out questions related to a mislabelled one that get its very wrong label, minus the same with the wrong"
        " labels dealt out anew. Means over seeds; bars reach from the lowest seed to the highest.",
        [panel],
        size="large",
        numbers=(["relation", *models], rows_),
    )


def _ends(values: Sequence[float]) -> tuple[float | None, float | None]:
    return (min(values), max(values)) if len(values) > 1 else (None, None)


def _said(values: Sequence[float]) -> str:
    return f"{np.mean(values):.4f}".replace("-", "\u2212") if len(values) else "–"


def by_distance(rows: Rows, look: Looks) -> Figure | None:
    """What wrong labels cost held-out questions by their distance to the nearest mislabelled one, beyond chance."""
    panels = []
    for axis, title in DISTANCES.items():
        series = []
        for row in rows:
            runs = [run["axes"][axis] for run in row["series"].get("leakage_kernel", ()) if axis in run["axes"]]
            if not runs:
                continue
            cost = np.mean([np.subtract(run["observed"], run["permuted"]) for run in runs], axis=0)
            points = [Point(i + 1.0, float(v)) for i, v in enumerate(cost)]
            series.append(Series(row["model"], look[row["model"]][0], points, look[row["model"]][1]))
        if series:
            last = max(len(one.points) for one in series)
            ticks = ((1.0, "nearest"), (float(last), "farthest"))
            x = Scale(0.6, last + 0.4, ticks)
            heads = {float(i): f"{i} of {last}" for i in range(1, last + 1)}
            y = _held(series, low=0.0)
            panels.append(Panel(title, x, y, "held-out questions", "errors beyond chance", series, (0.0,), heads=heads))
    return figure(
        "Where a wrong label leaks to: near questions",
        "Held-out questions by how near a mislabelled one lies, in groups of equal size: errors that the twin without"
        " wrong labels does not make, minus those beside as many random questions. Means over seeds.",
        panels,
    )


def by_size(rows: Rows, look: Looks) -> Figure | None:
    """Noise transfer against the number of parameters, of architectures that are there in several sizes."""
    types: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        types.setdefault(row["model_type"], []).append(row)
    several = {kind: own for kind, own in types.items() if len({row["parameters"] for row in own}) > 1}
    if not several:
        return None
    every = sorted({row["parameters"] for own in several.values() for row in own})
    shown = _apart([math.log10(count) for count in every])
    pad = 0.05 * (math.log10(every[-1]) - math.log10(every[0]))
    ticks = tuple((math.log10(n), parameters(n)) for n in every if math.log10(n) in shown)
    x = Scale(math.log10(every[0]) - pad, math.log10(every[-1]) + pad, ticks)
    series = []
    for kind, own in several.items():
        points = sorted(_point(math.log10(row["parameters"]), row, RANKING) for row in own)
        style, shape = look[own[0]["model"]]
        series.append(Series(kind, style, points, shape))
    y = _held(series, low=0.0, high=0.15)
    heads = {math.log10(n): parameters(n) for n in every}
    panel = Panel("", x, y, "parameters, logarithmic", COST, series, _rules(y), heads=heads)
    return figure("As models grow", "One line an architecture, with intervals.", [panel], size="large")
