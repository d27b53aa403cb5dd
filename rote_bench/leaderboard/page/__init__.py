"""The leaderboard as one file to read: nothing in it is fetched, and everything that comes from reports is escaped.

Text, tables and figures are written here and can be read without JavaScript. Sorting, filtering, the choice of a task
and what the address remembers are the page's own small script. Equal boards give equal bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from markupsafe import Markup

from ...findings import VERDICTS
from ...models.names import SIZES
from ...report import markup
from ..rank import RANKING
from ..sections import ranks
from ..tables import checked
from . import curves, figures
from .asked import Asked
from .chart import SHAPES
from .forest import ROW, forest, values
from .headline import headline
from .notes import notes

TEMPLATES = Path(__file__).parent / "templates"
# What is said of the columns that are no metrics.
EXPLAINED = {
    "rank": "The ranks that the model may have: from 1 + the models that are significantly lower to all but those that"
    " are significantly higher. Models whose ranks overlap are not ordered.",
    "model": "The architecture and its size, or weights from elsewhere. Opens all that is known of it.",
    "size": "Trained parameters, tied ones counted once.",
    "noise": "The share of training questions whose label was wrong.",
    "seeds": "Runs that differ in data, noise, first weights and order.",
    "checked": "Of all numbers, in per cent: recomputed from files beside the reports / following from details inside"
    " them / standing on their word.",
}


def render(board: Mapping[str, Any], examples: Mapping[str, Asked] | None = None, reports: str | None = None) -> str:
    """The page of a board in the form of ``leaderboard.json``, as HTML.

    Args:
        examples: label of a task -> a question of it.
        reports: path from the page to the common root of the reports, where they lie beside it.
    """
    environment = markup.environment(TEMPLATES)
    environment.filters.update(p_value=p_value, exact=exact, ranks=ranks, checked=checked, dots=values)
    sources = {name: (TEMPLATES / name).read_text(encoding="utf-8") for name in ("page.css", "noscript.css", "page.js")}
    sources[markup.STYLE] = (markup.TEMPLATES / markup.STYLE).read_text(encoding="utf-8")
    styles, scripts = ([text for name, text in sources.items() if name.endswith(end)] for end in (".css", ".js"))
    long = sum(len(task["rows"]) for task in board["tasks"]) > curves.MOST_ROWS
    return environment.get_template("page.html").render(
        board=board,
        columns=columns(board),
        explained=[*EXPLAINED.items(), *((m["heading"], m["meaning"]) for m in metrics_shown(board))],
        ranking=RANKING,
        verdicts=VERDICTS,
        shapes=SHAPES,
        lane=ROW,
        parts=[
            part(task, curves.most_points(board["tasks"]), (examples or {}).get(task["task"]), long=long)
            for task in board["tasks"]
        ],
        environment_of=environment_of(board["tasks"]),
        linked=lambda path: link(reports, path),
        policy=markup.policy(styles, scripts),
        **{name.replace(".", "_"): Markup(text) for name, text in sources.items()},
    )


def part(task: Mapping[str, Any], most: int, example: Asked | None, *, long: bool) -> dict[str, Any]:
    """What is made of a task for its part of the page.

    Args:
        most: points of a learning curve.
        long: whether the page has so many rows that layers are drawn at the main noise rate alone.
    """
    main = task["main_rate"]
    said, own = notes(task["rows"])
    return {
        "said": headline(task),
        "forest": forest(task),
        "comparison": task["comparison"],
        "left_out": left_out(task),
        "figures": figures.figures(task),
        "of_rows": [curves.figures(row, most, layers=not long or row["noise_rate"] == main) for row in task["rows"]],
        "notes": said,
        "numbers": own,
        "example": example,
        "sizes": sizes(task),
    }


def left_out(task: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Models without a rank at the main noise rate, and why."""
    rows = [row for row in task["rows"] if row["noise_rate"] == task["main_rate"] and row["reason"] is not None]
    none = [m for m in (task["comparison"] or {"models": ()})["models"] if m["reason"] is not None]
    out = [(row["model"], "is not ranked", row["reason"]) for row in rows]
    out += [(m["model"], "has no runs", m["reason"]) for m in none]
    return [(model, f"{what}: {why}") for model, what, why in out]


def sizes(task: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Sizes that names of models end in, what each stands for, and the fewest and most parameters that makes here."""
    found: dict[str, set[int]] = {}
    for row in task["rows"]:
        size = row["model"].rpartition("-")[2]
        if size in SIZES and row["source"] == "scratch":
            found.setdefault(size, set()).add(row["parameters"])
    ends = {name: dict.fromkeys(map(markup.parameters, (min(counts), max(counts)))) for name, counts in found.items()}
    return [{"name": name, "of": SIZES[name], "parameters": list(ends[name])} for name in SIZES if name in ends]


def columns(board: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Metric, heading, and the direction that a first click sorts in: the best first."""
    said = [(name, board["metrics"][name]) for name in board["columns"]]
    return [(n, m["heading"], "ascending" if m["higher_is_better"] is False else "descending") for n, m in said]


def metrics_shown(board: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Declarations of the metrics that have a column."""
    return [board["metrics"][name] for name in board["columns"]]


def link(reports: str | None, path: str) -> str | None:
    """Address of a report as seen from the page; None where the reports do not lie beside it."""
    return None if reports is None else "/".join((".", *filter(None, (quote(reports),)), quote(path)))


def exact(value: float) -> str:
    """A number to sort by."""
    return f"{value:.6g}"


def p_value(value: float | None) -> str:
    """A p value, never shown as zero."""
    return "–" if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"


def environment_of(tasks: Iterable[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Every commit, version and processor behind the board, each once."""
    found: dict[str, set[str]] = {}
    for task in tasks:
        for row in task["rows"]:
            for key, several in row["environment"].items():
                found.setdefault(key, set()).update(str(v) for v in several if v is not None)
    return {key: sorted(several) for key, several in sorted(found.items())}
