"""The attention heads and MLP units of a model as nodes: how important each is, and what some of them do alone.

Importance is the integrated gradient of a logit lead along the straight line from a node's mean activation to its own,
layer by layer (Sundararajan et al., 2017; node-level EAP-IG, Hanna et al., 2024).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from .encoding import Encoded, first_difference
from .evaluation import batches
from .interventions import Edit, Intact, Site, capture, capture_with_gradient, mean_states, replace, run

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .models.anatomy import Anatomy
    from .subject import View

CLOSE_ENOUGH = 0.1  # of the lead: a site whose integral misses more gets points between those it has
REFINED = 2  # times, at the most, each threefold


@dataclass(frozen=True)
class Problem:
    """Inputs of one task with the two tokens whose lead is measured, at one position each, and their clusters.

    ``used`` is (n, length) and false on padding.
    """

    groups: list[str]
    ids: Tensor
    used: Tensor
    position: Tensor
    wanted: Tensor
    other: Tensor

    def part(self, rows: slice) -> Problem:
        tensors = (self.ids, self.used, self.position, self.wanted, self.other)
        return Problem(self.groups[rows], *(tensor[rows] for tensor in tensors))

    def repeated(self, times: int) -> Problem:
        """All rows, and all of them again, so many times."""
        tensors = (self.ids, self.used, self.position, self.wanted, self.other)
        return Problem(self.groups * times, *(tensor.repeat(times, *[1] * (tensor.ndim - 1)) for tensor in tensors))

    @property
    def columns(self) -> Tensor:
        """(columns,) the token indices at which leads are measured, in order."""
        columns: Tensor = torch.unique(self.position)
        return columns

    def lead(self, logits: Tensor) -> Tensor:
        """(n,) logit of the wanted token minus that of the other, from logits (n, columns, vocabulary)."""
        index = torch.arange(len(self.ids), device=logits.device)
        at = logits[index, torch.searchsorted(self.columns, self.position)].float()
        return at[index, self.wanted] - at[index, self.other]


def problem_of(view: View) -> Problem:
    """The true answer's lead on held-out questions, the noisy label's lead on memorised ones."""
    rows = [
        i for i, (e, x) in enumerate(zip(view.labelled.examples, view.labelled.labels, strict=True)) if x != e.answer
    ]
    index = torch.tensor(rows, device=view.true.input_ids.device)
    true, taught = view.true.rows(index), view.taught.rows(index)
    position, y, label = first_difference(true, taught)
    wanted, other = (label, y) if view.name == "noisy" else (y, label)
    return Problem([view.labelled.examples[i].group for i in rows], true.input_ids, true.used, position, wanted, other)


def _whole(site: Site) -> Site:
    """The part that a site's projection belongs to."""
    return Site(site.layer, {"heads": "mixer", "units": "mlp"}[site.part])


@dataclass(frozen=True)
class _Onward:
    """Runs that go on from values at a site; ``entry`` is that site, or the part whose output is their projection."""

    anatomy: Anatomy
    site: Site
    entry: Site

    def _enter(self, values: Tensor) -> Tensor:
        if self.entry == self.site:
            return values
        entered: Tensor = self.anatomy.module(self.site.layer, self.site.part)(values)
        return entered

    def lead(self, problem: Problem, values: Tensor, intact: Intact) -> Tensor:
        """(n,) the lead."""
        with torch.no_grad():
            return problem.lead(run(self.anatomy, problem.ids, {self.entry: replace(self._enter(values))}, intact))

    def gradient(self, problem: Problem, values: Tensor, intact: Intact, n: int) -> Tensor:
        """(rows, length, width) of the summed lead, over n, to the values."""
        with torch.enable_grad():
            start = values.detach().requires_grad_(True)
            entered = self._enter(start)
        edits = {self.entry: replace(entered.detach())}
        _, pairs = capture_with_gradient(
            self.anatomy, problem.ids, [self.entry], lambda logits: problem.lead(logits).sum() / n, edits, intact
        )
        gradient = pairs[self.entry][1]
        return gradient if self.entry == self.site else torch.autograd.grad(entered, start, gradient)[0]


class Nodes:
    """All heads and units of a model with their mean activations over some examples.

    Args:
        kinds: ``heads``, ``units`` or both.
        clean: whose own positions the means are of.
    """

    def __init__(self, anatomy: Anatomy, kinds: Sequence[str], clean: Encoded, batch_size: int) -> None:
        self.anatomy, self.batch_size = anatomy, batch_size
        self.sites = [Site(layer, kind) for layer in range(anatomy.n_layers) for kind in kinds]
        self.sizes = [self._size(site) for site in self.sites]
        self.counts = [
            anatomy.input_width(s.layer, s.part) // size for s, size in zip(self.sites, self.sizes, strict=True)
        ]
        self.count = sum(self.counts)
        self.means = mean_states(anatomy, clean, self.sites, batch_size=batch_size)

    def _size(self, site: Site) -> int:
        """The width of one node."""
        if site.part == "units":
            return 1
        return self.anatomy.input_width(site.layer, "heads") // (self.anatomy.structure.n_heads or 1)

    def importance(self, problem: Problem, steps: int) -> tuple[NDArray[np.float64], float]:
        """(nodes,) integrated gradients, and the largest gap of completeness at a site.

        The gap is what the importances of a site's nodes miss of the fall of the lead when all of them go to their
        mean, relative to that fall or to the lead itself, whichever is larger. Integrals are sums at midpoints; where
        the gap is large a third of the step is tried, and a third of that, which use the points that there are.

        Args:
            steps: points of each integral to begin with.
        """
        n, full, count, device = len(problem.ids), 0.0, steps, problem.ids.device
        summed = {site: np.zeros(nodes) for site, nodes in zip(self.sites, self.counts, strict=True)}
        points, gaps, falls = (
            dict.fromkeys(self.sites, steps),
            dict.fromkeys(self.sites, 0.0),
            dict.fromkeys(self.sites, 0.0),
        )
        pending, shares = self.sites, (torch.arange(count, device=device) + 0.5) / count
        for again in range(REFINED + 1):
            for rows in batches(n, max(1, self.batch_size // steps)):
                part = problem.part(rows)
                looked = [*pending, *map(_whole, pending)]
                with torch.no_grad():
                    intact = Intact(self.anatomy, part.ids, looked, columns=part.columns)
                lead = float(part.lead(intact.logits).sum()) / n
                full += 0.0 if again else lead
                runs: dict[int, Intact] = {}
                for site in pending:
                    own = intact.states[site]
                    mean, onward = self.means[site].to(own.dtype), self._onward(site, intact)
                    if not again:
                        falls[site] += lead - float(onward.lead(part, mean.expand_as(own), intact).sum()) / n
                    for some in (shares[start : start + steps] for start in range(0, len(shares), steps)):
                        if len(some) not in runs:
                            runs[len(some)] = intact.repeated(len(some))
                        summed[site] += self._along(onward, part, own, mean, some.to(own.dtype), runs[len(some)], n)
            gaps |= {s: _gap(float(summed[s].sum()) / points[s], falls[s], full) for s in pending}
            pending = [site for site in pending if gaps[site] > CLOSE_ENOUGH]
            if not pending or again == REFINED:
                break
            cells = torch.arange(count, device=device)
            shares = torch.cat([(cells + 1 / 6) / count, (cells + 5 / 6) / count])
            count *= 3
            points |= dict.fromkeys(pending, count)
        return np.concatenate([summed[site] / points[site] for site in self.sites]), max(gaps.values())

    def _along(
        self, onward: _Onward, part: Problem, own: Tensor, mean: Tensor, shares: Tensor, runs: Intact, n: int
    ) -> NDArray[np.float64]:
        """(nodes,) the way from the mean times the gradient at some shares of it, summed over these and rows."""
        way, times = own - mean, len(shares)
        along = (mean + shares.view(-1, 1, 1, 1) * way).flatten(0, 1)
        gradient = onward.gradient(part.repeated(times), along, runs, n).float()
        found = (gradient.view(times, *own.shape).sum(0) * way.float()).sum((0, 1))
        size = self.sizes[self.sites.index(onward.site)]
        out: NDArray[np.float64] = found.reshape(-1, size).sum(1).double().cpu().numpy()
        return out

    def _onward(self, site: Site, intact: Intact) -> _Onward:
        """The way on from a site, past its part where that only goes through the projection."""
        with torch.no_grad():
            projected = self.anatomy.module(site.layer, site.part)(intact.states[site])
        whole = intact.states[_whole(site)]
        ends = projected.shape == whole.shape and torch.equal(projected, whole)
        return _Onward(self.anatomy, site, _whole(site) if ends else site)

    def matched(self, kept: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.bool_]:
        """(nodes,) as many random nodes of each layer and kind as a circuit has."""
        parts = np.split(kept, np.cumsum(self.counts)[:-1])
        return np.concatenate([rng.permutation(part) for part in parts])

    def kept_at(self, kept: NDArray[np.bool_]) -> list[int]:
        """How many nodes of each site a circuit has."""
        return [int(part.sum()) for part in np.split(kept, np.cumsum(self.counts)[:-1])]

    def leads(
        self, problem: Problem, circuits: Sequence[NDArray[np.bool_] | None], *, resample: bool = False
    ) -> NDArray[np.float64]:
        """(circuits, n) the lead when every node outside a circuit is ablated, or none where there is no circuit.

        Ablated nodes go to their mean, or with ``resample`` to what they are on another example, which leaves them in
        their usual range.
        """
        out: list[Tensor] = []
        with torch.inference_mode():
            for rows in batches(len(problem.ids), self.batch_size):
                part = problem.part(rows)
                away = self._others(problem, rows) if resample else self.means
                intact = Intact(self.anatomy, part.ids, columns=part.columns)
                edits = [{} if kept is None else self._keep(kept, away) for kept in circuits]
                out.append(torch.stack([part.lead(run(self.anatomy, part.ids, edit, intact)) for edit in edits]))
        found: NDArray[np.float64] = torch.cat(out, 1).double().cpu().numpy()
        return found

    def faithfulness(
        self, problem: Problem, circuits: Sequence[NDArray[np.bool_]], *, resample: bool = False
    ) -> NDArray[np.float64]:
        """(circuits, n) whose means are the part of the lead that survives in each circuit: ``parts_kept`` of leads."""
        nothing = np.zeros(self.count, dtype=bool)
        full, none, *own = self.leads(problem, [None, nothing, *circuits], resample=resample)
        return parts_kept(np.array(own), full, none)

    def _others(self, problem: Problem, rows: slice) -> dict[Site, Tensor]:
        """What nodes are on the example before each of some rows; their means where that example has padding."""
        before = torch.arange(rows.start, rows.stop, device=problem.ids.device) - 1
        _, found = capture(self.anatomy, problem.ids[before], self.sites, columns=problem.columns)
        used = problem.used[before].unsqueeze(-1)
        return {s: torch.where(used, value, self.means[s].to(value.dtype)) for s, value in found.items()}

    def _keep(self, kept: NDArray[np.bool_], away: Mapping[Site, Tensor]) -> dict[Site, Edit]:
        edits: dict[Site, Edit] = {}
        start = 0
        for site, size in zip(self.sites, self.sizes, strict=True):
            width = self.anatomy.input_width(site.layer, site.part)
            part = kept[start : start + width // size]
            start += width // size
            mask = torch.tensor(np.repeat(part, size), device=away[site].device)

            def edit(state: Tensor, mask: Tensor = mask, other: Tensor = away[site]) -> Tensor:
                return torch.where(mask, state, other.to(state.dtype))

            edits[site] = edit
        return edits


def top(scores: NDArray[np.float64], share: float) -> NDArray[np.bool_]:
    """(nodes,) the given share of nodes with the largest absolute importance."""
    kept = np.zeros(len(scores), dtype=bool)
    kept[np.argsort(-np.abs(scores), kind="stable")[: max(1, round(share * len(scores)))]] = True
    return kept


def parts_kept(leads: NDArray[np.float64], full: NDArray[np.float64], none: NDArray[np.float64]) -> NDArray[np.float64]:
    """(circuits, n) whose means are (lead in a circuit - lead without nodes) / (whole lead - lead without nodes).

    The means of all three are over examples. Each example's number is the ratio's linear part (Taylor linearisation,
    as for ratio estimators: Cochran, 1977, ch. 6), so that the error of its mean is that of the ratio.
    """
    scale = float((full - none).mean())
    scale = scale if abs(scale) > 1e-6 else 1e-6
    gained = leads - none
    ratio = gained.mean(1, keepdims=True) / scale
    found: NDArray[np.float64] = ratio + (gained - ratio * (full - none)) / scale
    return found


def _gap(found: float, fall: float, lead: float) -> float:
    return abs(found - fall) / max(abs(lead), abs(fall), 1e-12)
