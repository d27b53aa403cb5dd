"""Activations of one model put into another of the same structure, by part and layer, and what is answered then."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .encoding import IGNORED, Encoded, first_difference
from .evaluation import batches, scored
from .interventions import Intact, Site, capture, layers_together, replace, replace_units, run
from .models.anatomy import Anatomy
from .surrogates import Aligned, derangement, halves, means, noise, respects

Key = tuple[Any, ...]
POSITIONS = ("all_positions", "answer_position")
OWN, FOREIGN, GAUSSIAN, MEAN = "own", "foreign", "gaussian", "mean"
CONTROLS = (FOREIGN, GAUSSIAN, MEAN)


@dataclass
class Outcome:
    """Per example: is the patched model's answer right on V, the label on D_n, the true answer on D_n?"""

    validation: list[Tensor] = field(default_factory=list)
    memorized: list[Tensor] = field(default_factory=list)
    recovered: list[Tensor] = field(default_factory=list)
    difference: list[Tensor] = field(default_factory=list)

    def arrays(self) -> dict[str, NDArray[np.float64]]:
        pairs = {
            "validation_accuracy": self.validation,
            "memorization_rate": self.memorized,
            "noisy_true_rate": self.recovered,
            "logit_difference": self.difference,
        }
        return {key: torch.cat(parts).double().numpy() for key, parts in pairs.items()}

    def means(self) -> dict[str, float]:
        return {key: float(values.mean()) for key, values in self.arrays().items()}


def _plans(anatomy: Anatomy, components: Sequence[str]) -> dict[Key, tuple[list[Site], str]]:
    """Every intervention: key -> the sites replaced together, and at which positions."""
    plans: dict[Key, tuple[list[Site], str]] = {}
    layers = range(anatomy.n_layers)
    for component in components:
        for where in POSITIONS:
            for layer in layers:
                plans[(component, where, layer)] = ([Site(layer, component)], where)
        plans[(component, "all_layers")] = ([Site(layer, component) for layer in layers], "all_positions")
    return plans


def patched(
    anatomies: Mapping[str, Anatomy],
    directions: Mapping[str, tuple[str, str]],
    components: Sequence[str],
    *,
    validation: Encoded,
    true: Encoded,
    taught: Encoded,
    batch_size: int,
) -> dict[str, dict[Key, Outcome]]:
    """Every part of every block replaced, and all blocks' at once, in every direction, on every example.

    Args:
        directions: name -> the model that gives activations, and the one that receives them.
        validation: held-out examples.
        true, taught: examples with wrong labels, with their true answers and with the labels.

    Returns:
        Direction -> (component, positions, layer), (component, "all_layers") or ("intact",) -> what came of it.
    """
    plans = _plans(next(iter(anatomies.values())), components)
    sites = sorted({site for chosen, _ in plans.values() for site in chosen})
    outcomes = {name: {key: Outcome() for key in [("intact",), *plans]} for name in directions}
    position, true_token, label_token = first_difference(true, taught)
    shared = torch.equal(true.input_ids, taught.input_ids)

    def under_each(part: Encoded, columns: Tensor) -> Iterator[tuple[Outcome, Tensor]]:
        """Logits under one intervention after another: all together fill any memory where the vocabulary is large."""
        ids, answer = part.input_ids, part.targets != IGNORED
        intact = {name: Intact(a, ids, sites, columns=columns) for name, a in anatomies.items()}
        for name, (donor, recipient) in directions.items():
            yield outcomes[name][("intact",)], intact[recipient].logits
            for key, (chosen, where) in plans.items():
                mask = answer if where == "answer_position" else None
                edits = {site: replace(intact[donor].states[site], mask) for site in chosen}
                yield outcomes[name][key], run(anatomies[recipient], ids, edits, intact[recipient])

    with torch.inference_mode():
        for rows in batches(len(validation), batch_size):
            part = validation.rows(rows)
            columns = part.scored
            for outcome, logits in under_each(part, columns):
                outcome.validation.append(part.correct(logits, columns).cpu())
        for rows in batches(len(true), batch_size):
            right, wrong = true.rows(rows), taught.rows(rows)
            index = torch.arange(len(right), device=right.input_ids.device)
            columns = scored([right, wrong]) if shared else right.scored
            column = torch.searchsorted(columns, position[rows])
            for outcome, logits in under_each(right, columns):
                at = logits[index, column].float()
                difference = at[index, true_token[rows]] - at[index, label_token[rows]]
                outcome.recovered.append(right.correct(logits, columns).cpu())
                outcome.difference.append(difference.cpu())
                if shared:
                    outcome.memorized.append(wrong.correct(logits, columns).cpu())
            if not shared:
                columns = wrong.scored
                for outcome, logits in under_each(wrong, columns):
                    outcome.memorized.append(wrong.correct(logits, columns).cpu())
    return outcomes


@dataclass(frozen=True)
class Surrogates:
    """What comes of the changes of other examples, and of what is like them, added to a model's own activations.

    Attributes:
        hits: (component, kind of change) -> (n, draws, layers), whether the answer is given.
        norm_ratio: component -> by layer the mean norm of an example's own change over that of its strangers', null
            where nothing changes.
    """

    hits: dict[tuple[str, str], NDArray[np.float64]]
    norm_ratio: dict[str, list[float | None]]


def under_surrogates(
    donor: Anatomy,
    recipient: Anatomy,
    encoded: Encoded,
    strangers: NDArray[np.int64],
    components: Sequence[str],
    rng: np.random.Generator,
    *,
    batch_size: int,
) -> Surrogates:
    """Changes of strangers, noise like them and their mean put in, layer by layer.

    The change of an example is what the donor has there minus what the recipient has. Changes are aligned at the last
    prompt token: position by position where questions are equally long.

    Args:
        strangers: (derangements, n) whose change each example gets, the same for all layers and parts.
    """
    n, layers, half = len(encoded), recipient.n_layers, halves(len(encoded), rng)
    aligned, parts = Aligned.at(encoded.positions["last"]), batches(n, batch_size)
    together = layers_together(len(components) * encoded.input_ids.numel() * recipient.width)
    draws = {FOREIGN: len(strangers), GAUSSIAN: 1, MEAN: 1}
    hits = {(c, kind): np.zeros((n, count, layers)) for c in components for kind, count in draws.items()}
    ratios: dict[str, list[float | None]] = {c: [] for c in components}

    def intact_of(part: Encoded, sites: Sequence[Site]) -> Intact:
        return Intact(recipient, part.input_ids, sites, columns=part.scored)

    with torch.inference_mode():
        for start in range(0, layers, together):
            some = range(start, min(start + together, layers))
            sites = [Site(layer, component) for layer in some for component in components]
            changes: dict[Site, list[Tensor]] = {site: [] for site in sites}
            for rows in parts:
                part = encoded.rows(rows)
                last = intact_of(part, sites)
                given = Intact(donor, part.input_ids, sites, columns=part.scored).states
                for site in sites:
                    changes[site].append((given[site] - last.states[site]) * part.used.unsqueeze(-1))
            for site in sites:
                own = aligned.together(torch.cat(changes.pop(site)))
                several = [(FOREIGN, k, own[torch.from_numpy(each).to(own.device)]) for k, each in enumerate(strangers)]
                several += [(GAUSSIAN, 0, noise(own, half, rng)), (MEAN, 0, means(own, half))]
                norms: list[Tensor] = []
                for rows in parts:
                    part = encoded.rows(rows)
                    intact = last if len(parts) == 1 else intact_of(part, [site])
                    for kind, draw, change in several:
                        put = aligned.apart(change[rows], rows, part.max_length) * part.used.unsqueeze(-1)
                        logits = run(recipient, part.input_ids, {site: replace(intact.states[site] + put)}, intact)
                        right = part.correct(logits, intact.columns).cpu().numpy()
                        hits[site.part, kind][rows, draw, site.layer] = right
                        if kind == FOREIGN:
                            norms.append(put.flatten(1).norm(dim=1).double())
                size, others = float(own.flatten(1).norm(dim=1).double().mean()), float(torch.cat(norms).mean())
                ratios[site.part].append(size / others if others else None)
    return Surrogates(hits, ratios)


@dataclass(frozen=True)
class Asked:
    """n examples that are asked for something.

    Attributes:
        encoded: with the answers that are asked for.
        answers: one or more kinds of answers, (n,) each, in all of which a stranger's differ.
        groups: (n,) the group of each.
    """

    encoded: Encoded
    answers: Sequence[Sequence[str]]
    groups: Sequence[str]


@dataclass(frozen=True)
class Others:
    """What comes of the changes of other examples, and of what is like them, put into a model.

    Attributes:
        components: parts of the blocks into which they were put.
        strangers: what is asked -> (derangements, n), whose change each example gets.
        hits: what is asked -> (component, kind of change) -> (n, draws, layers).
        told: plain data about them for details: in how many pairs the stranger is not as it should be, and the mean
            norm of an example's own change over that of its strangers'.
    """

    components: Sequence[str]
    strangers: dict[str, NDArray[np.int64]]
    hits: dict[str, dict[tuple[str, str], NDArray[np.float64]]]
    told: dict[str, Any]


def under_others(
    donor: Anatomy,
    recipient: Anatomy,
    asked: Mapping[str, Asked],
    components: Sequence[str],
    rng: np.random.Generator,
    *,
    derangements: int,
    batch_size: int,
) -> Others:
    """Every example under the changes of strangers of its own kind: of another answer and group, and of its length."""
    out = Others(components, {}, {}, {"derangements": derangements, "norm_ratio": {c: {} for c in components}})
    for name, each in asked.items():
        lengths = (each.encoded.positions["last"], (each.encoded.targets != IGNORED).sum(1))
        alike = respects(each.answers, each.groups, torch.stack(lengths, 1).tolist())
        drawn = np.stack([derangement(list(alike.values()), rng) for _ in range(derangements)])
        found = under_surrogates(donor, recipient, each.encoded, drawn, components, rng, batch_size=batch_size)
        out.strangers[name], out.hits[name] = drawn, found.hits
        out.told[name] = {why: float(table[np.arange(drawn.shape[1]), drawn].mean()) for why, table in alike.items()}
        for component, ratio in found.norm_ratio.items():
            out.told["norm_ratio"][component][name] = ratio
    return out


def with_units(
    donor: Anatomy, recipient: Anatomy, encoded: Encoded, chosen: Sequence[NDArray[np.int64]], *, batch_size: int
) -> list[NDArray[np.float64]]:
    """For each choice of MLP units, (n,) whether the answer is given with the donor's values put into the recipient.

    Args:
        chosen: units, counted through all layers.
    """
    sites = [Site(layer, "units") for layer in range(recipient.n_layers)]
    width, device = recipient.input_width(0, "units"), encoded.input_ids.device
    by_site = [
        {s: torch.tensor(np.sort(each[each // width == i] % width), device=device) for i, s in enumerate(sites)}
        for each in chosen
    ]
    out: list[list[Tensor]] = [[] for _ in chosen]
    with torch.inference_mode():
        for rows in batches(len(encoded), batch_size):
            part = encoded.rows(rows)
            _, states = capture(donor, part.input_ids, sites, columns=part.scored)
            intact = Intact(recipient, part.input_ids, columns=part.scored)
            for units, hits in zip(by_site, out, strict=True):
                edits = {s: replace_units(states[s], index) for s, index in units.items() if len(index)}
                logits = run(recipient, part.input_ids, edits, intact)
                hits.append(part.correct(logits, intact.columns).double().cpu())
    return [torch.cat(hits).numpy() for hits in out]
