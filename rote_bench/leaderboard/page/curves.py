"""Figures of one row: what its model answers while it learns, layer by layer, and with states put back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from operator import itemgetter
from typing import Any

import numpy as np

from ...report.markup import number
from .chart import Figure, Panel, Point, Scale, Series, figure, scale

# A point of a learning curve is left out when no curve would move by more than this. Of one run at most so many are
# kept, and fewer, down to the least, on a board whose runs would together exceed what a page can carry.
TOLERANCE, MOST_POINTS, LEAST_POINTS, POINTS_OF_A_PAGE = 0.005, 48, 16, 9000
MOST_ROWS = 60  # of a page that draws layers at every noise rate; a longer one does at the main rate alone
# Group of questions -> name, class and mark of its line.
LINES = {
    "validation_accuracy": ("right on held-out questions", "held-out", "circle"),
    "train_clean_accuracy": ("right on clean training questions", "clean", "triangle"),
    "memorization_rate": ("wrong label given", "memorised", "square"),
    "noisy_true_rate": ("right in spite of the wrong label", "true", "diamond"),
    "true_top1": ("true answer is the top answer", "true", "diamond"),
    "label_top1": ("wrong label is the top answer", "memorised", "square"),
}
CURVES = tuple(LINES)[:4]
CONTROL = {
    "validation_accuracy": ("right, another example’s change put in", "held-out control", "ring"),
    "memorization_rate": ("wrong label given, another example’s change put in", "memorised control", "cross"),
}
COMPONENTS = {"block": "whole block", "mixer": "attention (mixer)", "mlp": "MLP"}
SHARE = Scale(0.0, 1.0, ((0.0, "0"), (0.5, "0.5"), (1.0, "1")))
LABEL = "share of questions"
BEFORE = "pre_memorization"
Run = Mapping[str, Any]  # what is drawn of one seed, under the name of its diagnostic
SPREAD = "Means over seeds; bars reach from the lowest seed to the highest."


def figures(row: Mapping[str, Any], most: int, *, layers: bool = True) -> list[Figure]:
    """All that can be drawn of a row.

    Args:
        most: points of a learning curve.
        layers: whether what happens layer by layer is drawn too.
    """
    series = row["series"]
    made = (
        learning(series.get("learning_dynamics", ()), most),
        lens(series.get("logit_lens", ())) if layers else None,
        patching(series.get("activation_patching", ())) if layers else None,
    )
    return [one for one in made if one is not None]


def most_points(tasks: Sequence[Mapping[str, Any]]) -> int:
    """How many points a learning curve may have on a page of so many runs."""
    runs = sum(len(row["series"].get("learning_dynamics", ())) for task in tasks for row in task["rows"])
    return min(MOST_POINTS, max(LEAST_POINTS, POINTS_OF_A_PAGE // max(runs, 1)))


def thousands(value: float) -> str:
    """A large number of examples, short."""
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:g}"


def learning(runs: Sequence[Run], most: int) -> Figure | None:
    """Four curves of every seed, and the snapshot before memorization."""
    lines, moments, rows = [], [], []
    for run in runs:
        points = run["points"]
        kept = [points[i] for i in thinned(points, set(run["snapshots"].values()), most)]
        for name in CURVES:
            words, look, shape = LINES[name]
            at = [Point(p["examples_seen"], p[name]) for p in kept]
            lines.append(Series(words, look, at, shape, mark="last"))
        before = next((p for p in points if p["step"] == run["snapshots"].get(BEFORE)), None)
        moments += [] if before is None else [before["examples_seen"]]
        for when, point in (("before memorization", before), ("at the end", points[-1])):
            if point is not None:
                shares = [number(point[name]) for name in CURVES]
                rows.append([run["seed"], when, thousands(point["examples_seen"]), *shares])
    end = max((p["examples_seen"] for run in runs for p in run["points"]), default=1)
    marks = tuple((v, thousands(v)) for v, _ in scale((), 0.0, end).ticks if v <= end)
    panel = Panel("", Scale(0.0, end, marks), SHARE, "training examples seen", LABEL, lines, moments=moments)
    heads = ["seed", "when", "examples seen", *(LINES[name][0] for name in CURVES)]
    return figure(
        "What the model answers while it learns",
        f"One line for each seed{_first(runs)}. Dotted: the snapshot before memorization; the other one is the end.",
        [panel],
        size="large",
        numbers=(heads, rows),
    )


def _first(runs: Sequence[object]) -> str:
    return "" if len(runs) < 5 else f", of the first {len(runs)}"


def lens(runs: Sequence[Run]) -> Figure | None:
    """What each layer of the final model holds for a mislabelled question."""
    lines = [over_seeds(runs, name, itemgetter(name)) for name in ("true_top1", "label_top1")]
    panel = Panel("", _layers(runs), SHARE, "after layer", LABEL, lines)
    return figure("Which answer each layer holds for a mislabelled question", SPREAD, [panel])


def patching(runs: Sequence[Run]) -> Figure | None:
    """What remains with states from before memorization in one layer, beside the same with another example's change."""
    components = list(dict.fromkeys(c for run in runs for c in run["components"]))
    panels = []
    for c in components:
        has = [run for run in runs if c in run["components"]]
        lines = [over_seeds(has, name, _within("components", c, name)) for name in CONTROL]
        there = [run for run in has if "foreign" in run["components"][c]]
        for name, (words, look, shape) in CONTROL.items() if there else ():
            line = over_seeds(there, name, _within("components", c, "foreign", name))
            lines.append(Series(words, look, [Point(p.x, p.y) for p in line.points], shape))
        panels.append(Panel(COMPONENTS.get(c, c), _layers(runs), SHARE, "patched layer", LABEL, lines))
    said = any("foreign" in part for run in runs for part in run["components"].values())
    control = " Broken and grey: the control, the change of another example put in instead." if said else ""
    return figure(
        "States from before memorization, put into the final model",
        f"What remains when one layer is patched.{control} {SPREAD}",
        panels,
    )


def _within(*keys: str) -> Callable[[Run], Any]:
    return lambda run: reduce(lambda part, key: part[key], keys, run)


def _layers(runs: Sequence[Run]) -> Scale:
    layers = sorted({layer for run in runs for layer in run["layers"]})
    if not layers:
        return SHARE
    every = max(1, len(layers) // 8)
    return Scale(layers[0] - 0.25, layers[-1] + 0.25, tuple((float(n), str(n)) for n in layers[::every]))


def over_seeds(runs: Sequence[Run], name: str, values_of: Callable[[Run], Sequence[float | None]]) -> Series:
    """The mean over seeds at each layer, with the lowest and the highest seed."""
    at: dict[int, list[float]] = {}
    for run in runs:
        for layer, value in zip(run["layers"], values_of(run), strict=False):
            if value is not None:
                at.setdefault(layer, []).append(value)
    points = [
        Point(layer, float(np.mean(found)), *((min(found), max(found)) if len(found) > 1 else ()))
        for layer, found in sorted(at.items())
    ]
    words, look, shape = LINES[name]
    return Series(words, look, points, shape)


def thinned(points: Sequence[Mapping[str, Any]], steps: set[int], most: int = MOST_POINTS) -> list[int]:
    """Indices of the points that carry the shape of all curves: both ends, the given steps, then the farthest first."""
    if not points:
        return []
    seen = np.array([point["examples_seen"] for point in points], dtype=float)
    curves = [np.array([np.nan if p[name] is None else p[name] for p in points], dtype=float) for name in CURVES]
    kept = {0, len(points) - 1} | {i for i, point in enumerate(points) if point["step"] in steps}
    while len(kept) < most:
        far = np.zeros(len(points))
        for curve in curves:
            finite = np.isfinite(curve)
            known = [i for i in sorted(kept) if finite[i]]
            drawn = np.interp(seen, seen[known], curve[known]) if known else np.full(len(points), np.inf)
            far = np.maximum(far, np.where(finite, np.abs(curve - drawn), 0.0))
        far[list(kept)] = 0.0
        worst = int(np.argmax(far))
        if far[worst] <= TOLERANCE:
            break
        kept.add(worst)
    return sorted(kept)
