"""The ``contrasts`` of a sweep file: differences that are tested whatever comes out, and what each can see."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..comparison.rules import Comparison, Contrast, Entrant, visible
from ..errors import UserError, clipped, did_you_mean
from ..measures import RESERVED
from ..spec.loader import located
from ..spec.options import Fault
from ..spec.source import Path_
from .definition import Definition

if TYPE_CHECKING:
    from ..plugins import Registry


def contrasts(
    definition: Definition, entrants: Sequence[Entrant], registry: Registry, faults: dict[str, UserError]
) -> tuple[tuple[Contrast, ...], dict[str, str]]:
    """The contrasts of a file, and where each stands; none without entrants, of which other faults tell."""
    if not entrants:
        return (), {}
    tasks = list(dict.fromkeys(each.task for each in entrants))
    rates = {(each.task, each.model): {rate for _, rate in each.cells} for each in entrants}
    known = {*registry.measures(), *RESERVED}
    wrong: list[Fault] = []
    found: dict[str, Contrast] = {}
    places = {}
    for i, given in enumerate(definition.source.data.get("contrasts", ())):
        at = ("contrasts", i)
        before = len(wrong)
        wrong += _one_pair(given, at)
        if len(tasks) > 1 and not {"task", "tasks"} & given.keys():
            wrong.append(Fault((*at, "task"), "must say at which task", f"one of {', '.join(tasks)}"))
        if given["metric"] not in known:
            what = f"unknown metric {clipped(given['metric'])!r}"
            wrong.append(Fault((*at, "metric"), what, did_you_mean(given["metric"], known)))
        if given["name"] in found:
            wrong.append(Fault((*at, "name"), f"{given['name']!r} stands here twice", "give each its own"))
        places[given["name"]] = definition.source.where(at)
        if len(wrong) > before:
            continue
        one = Contrast(
            given["name"],
            _pair(given, "task", tasks[0]),
            _pair(given, "model"),
            given["metric"],
            _pair(given, "noise_rate"),
            float(given["sd"]),
        )
        wrong += _unknown(one, given, at, tasks, rates)
        found[one.name] = one
    for fault in located(definition.source, wrong):
        faults.setdefault(str(fault), fault)
    return tuple(found.values()), places


def _pair(given: Mapping[str, Any], key: str, default: Any = None) -> tuple[Any, Any]:
    """What both sides of a contrast have of a key that stands there for both, or twice in a list."""
    first, second = given.get(f"{key}s", [given.get(key, default)] * 2)
    return (first + 0.0, second + 0.0) if key == "noise_rate" else (first, second)


def _one_pair(given: Mapping[str, Any], at: Sequence[str | int]) -> list[Fault]:
    """Whether a contrast is of two things that differ in one respect."""
    keys = ("model", "noise_rate", "task")
    both = [key for key in keys if {key, f"{key}s"} <= given.keys()]
    if both:
        return [Fault((*at, key), f"stands beside {key}s", "give one of the two") for key in both]
    differ = [f"{key}s" for key in keys if f"{key}s" in given]
    if len(differ) == 1:
        return []
    if differ:
        return [Fault((*at, differ[-1]), f"both sides differ in {' and '.join(differ)}", "let them differ in one")]
    hint = "give two models, or of one model two noise_rates or two tasks"
    return [Fault(tuple(at), "both sides are the same", hint)]


def _unknown(
    one: Contrast,
    given: Mapping[str, Any],
    at: Sequence[str | int],
    tasks: Sequence[str],
    rates: Mapping[tuple[str, str], Collection[float]],
) -> list[Fault]:
    """What no cells of a sweep stand for."""
    wrong: dict[Path_, Fault] = {}

    def fault(key: str, side: int, what: str, hint: str) -> None:
        path = (*at, f"{key}s", side) if f"{key}s" in given else (*at, key)
        wrong.setdefault(path, Fault(path, what, hint))

    for side, (task, model, rate) in enumerate(one.sides()):
        there = [name for at_task, name in rates if at_task == task]
        if task not in tasks:
            fault("task", side, f"{clipped(task)!r} is no task of this sweep", did_you_mean(task, tasks))
        elif model not in there:
            fault("model", side, f"{clipped(model)} is no model of this sweep", did_you_mean(model, there))
        elif rate not in rates[task, model]:
            fault("noise_rate", side, f"{model} has no cells with noise rate {rate:g}", "give one of noise_rates")
    return list(wrong.values())


def sees(comparison: Comparison) -> list[str]:
    """For each contrast, in a line, what it can see."""
    found = visible(comparison)
    lines = []
    for each in comparison.contrasts:
        n, m = comparison.seeds(each)
        least = found[each.name]
        says = "no difference can come out significant" if least is None else f"sees a difference of {least:.3g}"
        lines.append(
            f"contrast {each.name}: {says} in {each.metric} of {' and '.join(each.called())}{_shared(each)}, with"
            f" {n} and {m} seeds of sd {each.sd:g} (80 % power, {len(comparison.contrasts)} planned)"
        )
    return lines


def _shared(one: Contrast) -> str:
    """The task and the noise rate of both sides of a contrast, where its sides are not called by them."""
    task = "" if one.tasks[0] != one.tasks[1] else f" at {one.tasks[0]}"
    rate = "" if one.noise_rates[0] != one.noise_rates[1] else f", noise {one.noise_rates[0]:g}"
    return task + rate
