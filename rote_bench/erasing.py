"""Erasing an intermediate result from a subject's residual stream, and random partitions of what carries it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from .evaluation import batches
from .interventions import Edit, Site, capture
from .linear import Eraser, Whitened, fit_probes, one_hot, readable_from
from .partitions import Carriers, carriers_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .subject import Subject, View

PROBED = 1024  # examples that probes are fitted on, and again those on which their place is chosen


@dataclass(frozen=True)
class Control:
    """Random partitions: (draws, intermediate results, n) the class of each example that erasers are fitted on."""

    carriers: Sequence[Carriers]
    classes: NDArray[np.int64]


@dataclass(frozen=True)
class Erasers:
    """One layer's erasers: of each method and of each draw of the control, at each place."""

    erasers: Mapping[str, Mapping[str, Eraser]]
    drawn: Sequence[Mapping[str, Eraser]]
    facts: Mapping[str, Any]


def partition(subject: Subject, fit: View, names: Sequence[str], draws: int) -> Control:
    """Random partitions of what carries each intermediate result; none where nothing on the surface decides one."""
    rng = subject.rng("erasure-control")
    learned = subject.data.train.examples
    found = [carriers_of(learned, name, subject.task.values(name)) for name in names]
    carriers = [each for each in found if each is not None]
    if len(carriers) < len(names) or not all(each.decide for each in carriers):
        return Control(carriers, np.zeros((0, len(names), len(fit)), dtype=np.int64))
    examples = fit.labelled.examples
    return Control(carriers, np.array([[each.dealt(examples, rng) for each in carriers] for _ in range(draws)]))


def fit_erasers(subject: Subject, fit: View, names: Sequence[str], control: Control, inlp_rounds: int) -> list[Erasers]:
    """Erasers of every layer, for every position from the first at which the intermediate result can be read."""
    device = fit.true.input_ids.device
    counts = [len(subject.task.values(name)) for name in names]

    def columns(classes: NDArray[np.int64]) -> Tensor:
        given = torch.from_numpy(classes).to(device)
        return torch.cat([one_hot(each, count) for each, count in zip(given, counts, strict=True)], 1)

    own = np.stack([fit.intermediate(name, subject.task.values(name)) for name in names])
    targets = {n: (torch.from_numpy(c).to(device), k) for n, c, k in zip(names, own, counts, strict=True)}
    concept, places = columns(own), list(fit.places)
    partitions = torch.stack([columns(each) for each in control.classes]) if len(control.classes) else None
    out = []
    for layer, states in enumerate(subject.states(fit, torch.stack([*fit.places.values()], 1))):
        readable = readable_from(states, dict(fit.places), targets)
        generator = torch.Generator().manual_seed(int(subject.rng(f"erasure-{layer}").integers(2**31)))
        erasers: dict[str, dict[str, Eraser]] = {method: {} for method in ("leace", "inlp", "random")}
        drawn: list[dict[str, Eraser]] = [{} for _ in control.classes]
        for place in readable.places:
            at = Whitened(states[:, places.index(place)])
            erasers["leace"][place] = leace = at.leace(concept)
            erasers["inlp"][place] = at.inlp(concept, inlp_rounds)
            erasers["random"][place] = at.random(leace, generator)
            for each, found in zip(drawn, () if partitions is None else at.leaces(partitions), strict=True):
                each[place] = found
        facts = {
            "positions": readable.places,
            "probe_before": max(float(readable.accuracy[places.index(place)]) for place in readable.places),
            "chance": readable.chance,
            **{
                said: {m: _mean(of, what) for m, of in [*((m, [of]) for m, of in erasers.items()), ("control", drawn)]}
                for said, what in (("rank", "rank"), ("variance_removed", "variance"))
            },
        }
        out.append(Erasers(erasers, drawn, facts))
    return out


def _mean(each: Sequence[Mapping[str, Eraser]], what: str) -> float | None:
    """The mean of a property of erasers, over places and draws."""
    found = [float(getattr(eraser, what)) for of_place in each for eraser in of_place.values()]
    return float(np.mean(found)) if found else None


def at_positions(positions: Mapping[str, Tensor], erasers: Mapping[str, Eraser]) -> Edit:
    """Erase at each named position with that position's own eraser."""

    def edit(state: Tensor) -> Tensor:
        changed = state.clone()
        index = torch.arange(len(state), device=state.device)
        for name, eraser in erasers.items():
            at = positions[name]
            changed[index, at] = eraser(state[index, at].float()).to(state.dtype)
        return changed

    return edit


def read_again(
    subject: Subject, fit: View, names: Sequence[str], layer: int, found: Erasers, limit: int
) -> tuple[list[int], dict[str, NDArray[np.float64]]]:
    """What probes read at the erased places from the erased layer on, with the intermediate result erased and intact.

    Fitted on some training examples, the place chosen on others, scored on held-out ones (the selection split).

    Returns:
        The layers from 1, and under ``intact`` and ``erased`` the hits (n, layers), means over what was erased.
    """
    anatomy, places = subject.anatomy(), list(found.erasers["leace"])
    sites = [Site(each, "block") for each in range(layer, anatomy.n_layers)]

    def states(view: View, n: int, erasers: Mapping[str, Eraser]) -> Tensor:
        parts = []
        for rows in batches(n, subject.batch_size):
            at = {name: positions[rows] for name, positions in view.places.items()}
            edits: dict[Site, Edit] = {sites[0]: at_positions(at, erasers)}
            ids = view.true.input_ids[rows]
            _, seen = capture(anatomy, ids, sites, edits, columns=ids.new_zeros(1))
            index = torch.arange(len(ids), device=ids.device)
            parts.append(torch.stack([seen[s][index, at[p]].float() for s in sites for p in places], 1))
        return torch.cat(parts)

    half, held = min(len(fit) // 2, PROBED), min(len(subject.selection), limit)
    values = {name: subject.task.values(name) for name in names}
    own, other = (
        {n: torch.from_numpy(v.intermediate(n, values[n])).to(fit.true.input_ids.device) for n in names}
        for v in (fit, subject.selection)
    )
    lines: dict[str, NDArray[np.float64]] = {}
    cases: dict[str, Mapping[str, Eraser]] = {"intact": {}, "erased": found.erasers["leace"]}
    with torch.inference_mode():
        for name, erasers in cases.items():
            x, y = states(fit, 2 * half, erasers), states(subject.selection, held, erasers)
            probes = fit_probes(x[:half], {n: (own[n][:half], len(values[n])) for n in names})
            right = [
                [probes.predict(s, n) == c[n][rows, None] for n in names]
                for s, c, rows in ((x[half:], own, slice(half, 2 * half)), (y, other, slice(held)))
            ]
            chosen, told = (torch.stack(each).double().mean(0) for each in right)
            best = chosen.mean(0).reshape(len(sites), -1).argmax(1) + torch.arange(len(sites)) * len(places)
            lines[name] = told[:, best].cpu().numpy()
    return [site.layer + 1 for site in sites], lines
