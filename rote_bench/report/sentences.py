"""What a report says in a few sentences, for people who do not read tables first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast, get_args

from .conditions import at
from .record import Report, Verdict
from .twin import cost

HALF = 0.5
PERCENT = 100.0
UNSURE = "It cannot be said that it reasoned first: at"
STOPS = {"memorized": "memorization was complete", "budget": "its schedule ended"}
AGREE = 0.0005  # two shares that read the same


def about(task: str, model: str, noise_rate: float, seeds: str) -> str:
    """What a cell is, in a line below its figures' titles: ``thr, gpt2-nano, 5 % wrong labels, seed 0``.

    Args:
        task: its label.
        seeds: their label, or those of several with commas between, or the first ``to`` the last.
    """
    several = "s" if ", " in seeds or " to " in seeds else ""
    return f"{task}, {model}, {noise_rate * PERCENT:g} % wrong labels, seed{several} {seeds}"


def sentences(report: Report, twin: Report | None = None) -> list[str]:
    """What was learned, in which order, what became of the claims, and what the wrong labels cost.

    Args:
        twin: the report of the same cell without wrong labels.
    """
    if report.status != "success":
        return []
    if not report.training.steps:
        return [_answers(report), *_verdicts(report)]
    if report.data.noise_rate == 0:
        return [_answers(report), "It was taught no wrong labels: cells that were are compared with it."]
    return [_answers(report), *_order(report), *_verdicts(report), _cost(report, twin)]


def _answers(report: Report) -> str:
    right, taught = _share(report, "validation_accuracy"), _share(report, "memorization_rate")
    said = f"{report.model.name} answers {right} of held-out questions" if right else f"{report.model.name} was run"
    if not report.training.steps:
        return f"{said}; it was not trained here."
    return f"{said} and gives {taught} of the wrong labels it was taught." if taught else f"{said}."


def _order(report: Report) -> list[str]:
    """When either half was reached, and how often the true answer came before the wrong label."""
    out = []
    learned, memorised = (_reached(report, name) for name in ("validation_accuracy", "memorization_rate"))
    if learned is not None and memorised is not None:
        out.append(
            f"Half of the held-out answers were right by step {learned}, half of the wrong labels given by step"
            f" {memorised} of {report.training.steps}."
        )
    elif learned is not None:
        out.append(f"Half of the held-out answers were right by step {learned}; half of the wrong labels never came.")
    elif memorised is not None:
        out.append(
            f"Half of the wrong labels were given by step {memorised}; half of the held-out answers were never right."
        )
    peak = _share(report, "early_clean_peak")
    if peak:
        verdict = next((f.verdict for f in report.findings if f.id == "clean_label_first"), "not_applicable")
        start = {"replicated": "It reasoned first: at", "not_applicable": "At"}.get(verdict, UNSURE)
        out.append(f"{start} the peak {peak} of mislabelled questions were answered right.")
    return out


def _verdicts(report: Report) -> list[str]:
    """How many claims are replicated, and which are not; nothing where none could be tested."""
    ids = {verdict: [f.id for f in report.findings if f.verdict == verdict] for verdict in get_args(Verdict)}
    tested = len(report.findings) - len(ids["not_applicable"])
    if not tested:
        return []
    parts = []
    for verdict, said, named in (
        ("replicated", "replicated", False),
        ("not_replicated", "not", True),
        ("inconclusive", "inconclusive", False),
    ):
        if found := ids[verdict]:
            names = f" ({', '.join(found)})" if named else ""
            parts.append(f"{len(found)} {_are(found)} {said}{names}")
    if untested := ids["not_applicable"]:
        parts.append(f"{len(untested)} could not be tested")
    listed = " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
    count = len(report.findings)
    return [f"Of {count} claim{'s' if count > 1 else ''} {listed}."]


def _are(things: Sequence[str]) -> str:
    return "is" if len(things) == 1 else "are"


def _cost(report: Report, twin: Report | None) -> str:
    if twin is None:
        return "Run it with its twin (--twin, in Python twin=True) to see what the wrong labels cost."
    found = cost(report, twin)
    if found.value is None:
        return f"What a wrong label costs cannot be said: {found.reason_if_null}."
    bounds = [_short(bound) for bound in (found.ci_low, found.ci_high) if bound is not None]
    within = f" [{', '.join(bounds)}]" if bounds else ""
    rate = report.data.share
    return (
        f"The {rate * PERCENT:g} % wrong labels cost {rate * found.value * PERCENT:.1f} % of the held-out answers,"
        f" {_short(found.value)} for each{within}; one seed decides nothing."
    )


def _share(report: Report, name: str) -> str | None:
    """A metric in per cent, never 100 or 0 where it is not."""
    value = report.value(name)
    if value is None:
        return None
    digits = 2 if min(value, 1 - value) < AGREE and value not in (0, 1) else 1
    return f"{value * PERCENT:.{digits}f} %"


def _short(value: float) -> str:
    """``.18``."""
    return f"{round(value, 2) + 0.0:.2f}".replace("0.", ".", 1)


def _reached(report: Report, name: str) -> int | None:
    """The step of the first evaluation at which half was reached, where the report holds the curve."""
    entry = report.diagnostics.get("learning_dynamics")
    curve = at(entry.details, "curve") if entry else None
    points = cast("list[Mapping[str, float | None]]", curve) if isinstance(curve, list) else []
    steps = (int(point["step"] or 0) for point in points if (point.get(name) or 0.0) >= HALF)
    return next(steps, None)
