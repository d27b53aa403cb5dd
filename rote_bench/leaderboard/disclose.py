"""What a board says of a published comparison: every model's recipe, all that was tried, and what came of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import median_low

from ..comparison.rules import Entrant
from ..plain import JsonObject
from ..report import escape
from ..report.conditions import flat
from .causes import causes, mean_of, peak_rate
from .collect import Diverged
from .edges import edges
from .planned import Rows
from .published import Accepted, Tried
from .rank import Comparison, Row, rounded
from .sentences import sentences


def indexed(found: Accepted, rows: Iterable[Row]) -> Rows:
    """(task, model as the file has it, noise rate) -> row."""
    names = {cells[0].model: model for model, cells in found.cells.items() if cells}
    return {(found.task, names[row.model], row.rate): row for row in rows}


def disclosed(
    found: Accepted,
    rows: Iterable[Row],
    pairs: Iterable[Comparison],
    decided: Sequence[Mapping[str, object]],
    main: float | None,
) -> JsonObject:
    """The ``comparison`` of a task's entry.

    Args:
        rows: of its cells, ranked.
        pairs: every two ranked models.
        decided: its planned contrasts.
        main: the noise rate whose ranks are shown first.
    """
    shown = [row for row in rows if row.rate == main]
    by_model = {model: row for (_, model, _), row in indexed(found, shown).items()}
    dull = causes(shown)
    left_out = [(model, choice.reason) for model, choice in found.choices.items() if choice.reason is not None]
    pairs = [pair for pair in pairs if pair.noise_rate == main]
    return {
        "name": found.comparison.name,
        "title": escape.plain(found.comparison.title),
        "rules": found.comparison.rules(),
        "models": [_model(found, entrant, by_model.get(entrant.model)) for entrant in found.entrants],
        "tuning": _tuning(found, {model: row.model for model, row in by_model.items()}),
        "contrasts": decided,
        "causes": dull,
        "sentences": sentences(shown, pairs, decided, dull, left_out),
    }


def _model(found: Accepted, entrant: Entrant, row: Row | None) -> JsonObject:
    """A model with the recipe that was found for it, and how it was trained by it at the main noise rate."""
    choice = found.choices.get(entrant.model)
    chosen = None if choice is None else choice.row
    recipe = {} if chosen is None else _overrides(found, chosen.configuration)
    if chosen is not None:
        recipe |= {"training.schedule.settle": str(chosen.settle)}
    settled = None if row is None else mean_of(row, "settled_step")
    return {
        "model": entrant.model if row is None else row.model,
        "configuration": None if chosen is None else chosen.configuration,
        "reason": None if choice is None else choice.reason,
        "recipe": recipe,
        "parameters": None if row is None else median_low(cell.report.model.parameters for cell in row.cells),
        "peak_rate": None if row is None else peak_rate(row),
        "final_rate": None if row is None else rounded(mean_of(row, "final_rate")),
        "settle": chosen.settle if chosen is not None else None if settled is None else round(settled),
        "steps": None if row is None else median_low(cell.report.training.steps for cell in row.cells),
        "overrides": flat(entrant.spec.model) if entrant.spec.model else {},
    }


def _overrides(found: Accepted, configuration: str) -> dict[str, str]:
    tuning = found.comparison.tuning
    given = {} if tuning is None else tuning.configurations[configuration]
    return flat(given) if given else {}


def _tuning(found: Accepted, called: Mapping[str, str]) -> JsonObject | None:
    tuning = found.comparison.tuning
    if tuning is None:
        return None
    configurations = {name: _overrides(found, name) for name in tuning.configurations}
    chosen = [choice.row.configuration for choice in found.choices.values() if choice.row is not None]
    return {
        "seeds": list(tuning.seeds),
        "noise_rate": tuning.noise_rate,
        "memorised": tuning.memorised,
        "margin": tuning.margin,
        "configurations": configurations,
        "edges": edges(configurations, chosen),
        "table": [
            {
                "model": called.get(model, model),
                "configuration": row.configuration,
                "selection_accuracy": rounded(row.selection_accuracy),
                "standard_error": rounded(row.standard_error),
                "settled": list(row.settled),
                "settle": row.settle,
                "steps": row.steps,
                "finalist": row.finalist,
                "memorised_at": None if row.memorised_at is None else list(row.memorised_at),
                "chosen": row.chosen,
            }
            for model, choice in found.choices.items()
            for row in choice.table
        ],
        "trials": [_trial(each, called) for each in found.tried],
    }


def _trial(each: Tried, called: Mapping[str, str]) -> JsonObject:
    source = each.source
    return {
        "model": called.get(each.model, each.model),
        "configuration": each.configuration,
        "noise_rate": each.noise_rate,
        "seed": each.seed,
        "path": source.path,
        "identity": source.identity if isinstance(source, Diverged) else source.report.identity.hash,
        "sha256": source.sha256,
    }
