"""What a published comparison shows, as sentences and as tables of text: the same for every medium."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ..measures import words
from ..report.table import fixed
from .causes import CAUSES
from .rank import RANKING, TWIN

MEMORISED = "counterfactual_memorization"


class Section(NamedTuple):
    """A table with its heading, and what is to be known of it."""

    title: str
    note: str
    heads: list[str]
    rows: list[list[str]]


def said(comparison: Mapping[str, Any]) -> list[str]:
    """The sentences, a caution before all others."""
    order = ("caution", "result", "certainty", "planned", "benign", "left_out")
    return [text for key in order if (text := comparison["sentences"][key])]


def sections(task: Mapping[str, Any]) -> list[Section]:
    """The tables of a task of a comparison; those that have no row are left out."""
    comparison = task["comparison"]
    found = [_models(task), _contrasts(comparison), _causes(comparison), _tuning(comparison)]
    return [section for section in found if section.rows]


def number(value: float | None, low: float | None = None, high: float | None = None, digits: int = 3) -> str:
    """A number, with its interval where it has one."""
    if value is None:
        return "-"
    text = fixed(value, digits)
    return text if low is None or high is None else f"{text} [{fixed(low, 2)}, {fixed(high, 2)}]"


def ranks(row: Mapping[str, Any], to: str) -> str:
    """The ranks that a row may have, one where it is settled."""
    low, high = row["rank_low"], row["rank_high"]
    return "-" if low is None else f"{low}" if low == high else f"{low}{to}{high}"


def _models(task: Mapping[str, Any]) -> Section:
    rows = {row["model"]: row for row in task["rows"] if row["noise_rate"] == task["main_rate"]}
    models = task["comparison"]["models"]
    place = {model: i for i, model in enumerate(rows)}  # rows stand by their mean
    out = []
    for one in sorted(models, key=lambda each: place.get(each["model"], len(place))):
        row = rows.get(one["model"])
        metrics = {} if row is None else row["metrics"]
        why = one["reason"] or (None if row is None else row["reason"])
        out.append(
            [
                "-" if row is None else ranks(row, "-"),
                one["model"],
                *(_metric(metrics.get(name)) for name in (RANKING, TWIN.name, MEMORISED)),
                one["configuration"] or "-",
                *("-" if one[key] is None else str(one[key]) for key in ("settle", "steps")),
                *("-" if one[key] is None else f"{one[key]:.3g}" for key in ("peak_rate", "final_rate")),
                "-" if one["parameters"] is None else f"{one['parameters'] / 1e6:.2f}M",
                "" if why is None else f"not ranked: {why}",
            ]
        )
    heads = ["rank", "model", words(RANKING), "twin's accuracy", "memorization", "configuration", "rate falls after"]
    heads += ["steps", "full rate", "rate at the end", "parameters", "notes"]
    rate = "" if task["main_rate"] is None else f" with {100 * task['main_rate']:g} % of the labels wrong"
    return Section(f"Models{rate}", "Each model by the recipe that its own trials chose.", heads, out)


def _metric(entry: Mapping[str, Any] | None) -> str:
    return "-" if entry is None else number(entry["value"], entry["ci_low"], entry["ci_high"])


def _contrasts(comparison: Mapping[str, Any]) -> Section:
    heads = ["contrast", "first", "second", "metric", "noise", "seeds", "difference", "p", "p (all planned)"]
    heads += ["could be seen", "verdict"]
    rows = [
        [
            one["name"],
            one["first"],
            one["second"],
            words(one["metric"]),
            ", ".join(f"{rate:g}" for rate in dict.fromkeys(one["noise_rates"])),
            ", ".join(map(str, one["n"])),
            number(one["difference"], one["ci_low"], one["ci_high"]),
            *("-" if one[key] is None else f"{one[key]:.4f}" for key in ("p", "p_holm")),
            number(one["visible"], digits=2),
            one["verdict"] if one["reason"] is None else f"not decided: {one['reason']}",
        ]
        for one in comparison["contrasts"]
    ]
    note = "Planned before the first cell was trained, the first side against the second."
    return Section("Planned contrasts", note, heads, rows)


def _causes(comparison: Mapping[str, Any]) -> Section:
    rows = [
        [
            CAUSES[one["cause"]],
            str(one["models"]),
            number(one["rho"], digits=2),
            "-" if one["p"] is None else f"{one['p']:.4f}",
        ]
        for one in comparison["causes"]
        if one["models"]
    ]
    note = (
        f"Rank correlations over the ranked models, of mean {words(RANKING)} with what could explain it dully; none"
        " where the models are alike in it."
    )
    return Section("Dull causes", note, ["cause", "models", "correlation", "p"], rows)


def _tuning(comparison: Mapping[str, Any]) -> Section:
    tuning = comparison["tuning"]
    heads = ["model", "configuration", "accuracy", "standard error", "settled", "rate falls after", "steps"]
    heads += ["memorised", "became"]
    if tuning is None:
        return Section("Tuning", "", heads, [])
    rows = [
        [
            one["model"],
            one["configuration"],
            number(one["selection_accuracy"], digits=4),
            number(one["standard_error"], digits=4),
            _steps(one["settled"]),
            *("-" if one[key] is None else str(one[key]) for key in ("settle", "steps")),
            "-" if one["memorised_at"] is None else _steps(one["memorised_at"]),
            "chosen" if one["chosen"] else "finalist" if one["finalist"] else "",
        ]
        for one in tuning["table"]
    ]
    note = (
        f"Seeds {', '.join(map(str, tuning['seeds']))}, which no cell has. Accuracy is that on the selection split at"
        f" noise rate 0; steps are each seed's. Finalists were trained again at noise rate {tuning['noise_rate']:g},"
        f" and the one that gave {100 * tuning['memorised']:g} % of the wrong labels in the fewest steps was chosen."
        f" All {len(tuning['trials'])} trials are listed in leaderboard.json."
    )
    note = " ".join([note, *tuning["edges"]])
    return Section("Tuning", note, heads, rows)


def _steps(steps: Sequence[int | None]) -> str:
    return ", ".join("never" if step is None else str(step) for step in steps)
