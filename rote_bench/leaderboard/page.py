"""The leaderboard as one file to read: nothing in it is fetched, and everything that comes from reports is escaped.

Text, tables and notes are written here and can be read without JavaScript. Sorting, filtering and the figures are the
page's own small script, which reads the series from a block of JSON. Equal boards give equal bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup

from ..findings import VERDICTS
from ..report import markup
from .rank import RANKING
from .sections import ranks
from .tables import checked

TEMPLATES = Path(__file__).parent / "templates"
# What the page's script calls a series, and the diagnostic that it comes from.
SERIES = {"learning": "learning_dynamics", "lens": "logit_lens", "patching": "activation_patching"}
CURVES = ("validation_accuracy", "train_clean_accuracy", "memorization_rate", "noisy_true_rate")
# A point of a learning curve is left out when no curve would move by more than this. Of one run at most so many are
# kept, and fewer, down to the least, on a board whose runs would together exceed what a page can carry.
TOLERANCE, MOST_POINTS, LEAST_POINTS, POINTS_OF_A_PAGE = 0.005, 48, 16, 9000
DIGITS = 3
BAR_WIDTH = 72.0


def render(board: Mapping[str, Any]) -> str:
    """The page of a board in the form of ``leaderboard.json``, as HTML."""
    environment = markup.environment(TEMPLATES)
    environment.filters.update(p_value=p_value, exact=exact, ranks=ranks, checked=checked)
    sources = {name: (TEMPLATES / name).read_text(encoding="utf-8") for name in ("page.css", "noscript.css", "page.js")}
    sources[markup.STYLE] = (markup.TEMPLATES / markup.STYLE).read_text(encoding="utf-8")
    styles, scripts = ([text for name, text in sources.items() if name.endswith(end)] for end in (".css", ".js"))
    return environment.get_template("page.html").render(
        board=board,
        columns=columns(board),
        ranking=RANKING,
        verdicts=VERDICTS,
        bars=[bars(task["rows"]) for task in board["tasks"]],
        environment_of=environment_of(board["tasks"]),
        policy=markup.policy(styles, scripts),
        data=htmlsafe_json_dumps(island(board), separators=(",", ":"), allow_nan=False),
        **{name.replace(".", "_"): Markup(text) for name, text in sources.items()},
    )


def columns(board: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Metric, heading, and the direction that a first click sorts in: the best first."""
    said = [(name, board["metrics"][name]) for name in board["columns"]]
    return [(n, m["heading"], "ascending" if m["higher_is_better"] is False else "descending") for n, m in said]


def exact(value: float) -> str:
    """A number to sort by."""
    return f"{value:.6g}"


def p_value(value: float | None) -> str:
    """A p value, never shown as zero."""
    return "–" if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"


def _known(entry: Mapping[str, Any] | None, *keys: str) -> list[float]:
    return [float(entry[k]) for k in keys if entry is not None and entry[k] is not None]


def bars(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, str] | None]:
    """Where each row's ranking metric and its interval lie on a line common to the task's ranked rows, in pixels.

    A row without a value has none, nor has one that lies off the line: a model that never learns the task would
    press all others together.
    """
    entries = [row["metrics"].get(RANKING) for row in rows]
    ranked = [e for row, e in zip(rows, entries, strict=True) if row["rank_low"] is not None]
    span = [0.0, *(v for e in ranked for v in _known(e, "value", "ci_low", "ci_high"))]
    low, high = min(span), max(span)
    if low == high:
        return [None] * len(rows)

    def place(value: float) -> str:
        return f"{3 + (BAR_WIDTH - 6) * (value - low) / (high - low):.1f}"

    out: list[Mapping[str, str] | None] = []
    for entry in entries:
        around = _known(entry, "value", "ci_low", "ci_high")
        if not around or min(around) < low or max(around) > high:
            out.append(None)
            continue
        out.append(
            {"zero": place(0.0), "low": place(min(around)), "high": place(max(around)), "value": place(around[0])}
        )
    return out


def environment_of(tasks: Iterable[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Every commit, version and processor behind the board, each once."""
    found: dict[str, set[str]] = {}
    for task in tasks:
        for row in task["rows"]:
            for key, values in row["environment"].items():
                found.setdefault(key, set()).update(str(v) for v in values if v is not None)
    return {key: sorted(values) for key, values in sorted(found.items())}


def island(board: Mapping[str, Any]) -> dict[str, Any]:
    """What the page's script draws: columns instead of records, rounded, and learning curves thinned out."""
    runs = sum(len(_series(row, "learning")) for task in board["tasks"] for row in task["rows"])
    most = min(MOST_POINTS, max(LEAST_POINTS, POINTS_OF_A_PAGE // max(runs, 1)))
    return {"tasks": [{"rows": [_row(row, most) for row in task["rows"]]} for task in board["tasks"]]}


def _series(row: Mapping[str, Any], name: str) -> Sequence[Mapping[str, Any]]:
    found: Sequence[Mapping[str, Any]] = row["series"].get(SERIES[name], ())
    return found


def _row(row: Mapping[str, Any], most: int) -> dict[str, Any]:
    return {
        "model": row["model"],
        "noise": row["noise_rate"],
        "metrics": {
            name: [_round(entry[key]) for key in ("value", "ci_low", "ci_high")]
            for name in ("validation_accuracy", "counterfactual_memorization")
            if (entry := row["metrics"].get(name)) is not None
        },
        "learning": [_learning(one, most) for one in _series(row, "learning")],
        "lens": [_rounded(one, ("seed", "layers"), ("true_top1", "label_top1")) for one in _series(row, "lens")],
        "patching": [
            {
                **_rounded(one, ("seed", "layers"), ()),
                "components": {
                    name: _rounded(part, (), ("validation_accuracy", "memorization_rate"))
                    for name, part in one["components"].items()
                },
            }
            for one in _series(row, "patching")
        ],
    }


def _round(value: float | None) -> float | None:
    return None if value is None else round(float(value), DIGITS)


def _rounded(one: Mapping[str, Any], same: Sequence[str], rounded: Sequence[str]) -> dict[str, Any]:
    return {key: one[key] for key in same} | {key: [_round(v) for v in one[key]] for key in rounded}


def _learning(one: Mapping[str, Any], most: int) -> dict[str, Any]:
    points, snapshots = one["points"], one["snapshots"]
    seen = {point["step"]: point["examples_seen"] for point in points}
    kept = [points[i] for i in thinned(points, set(snapshots.values()), most)]
    return {
        "seed": one["seed"],
        "snapshots": {name: seen[step] for name, step in snapshots.items() if step in seen},
        "examples_seen": [point["examples_seen"] for point in kept],
        **{name: [_round(point[name]) for point in kept] for name in CURVES},
    }


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
