"""Is the intermediate result used? Swap it between examples and see whether the answer becomes the one it implies.

The part of the residual stream that carries the intermediate result (the span that LEACE would remove) is taken from
another example; everything else stays. If the model reasons through it, the answer changes to the one that the task
itself gives for the swapped value ("modify the intermediate step to elicit an alternative answer", Du et al., 2025;
interchange interventions: Geiger et al., 2021). The control is a random subspace of the same rank and variance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..measures import SHARE, Measure
from ..statistics import Estimate, proportion
from . import Details, Diagnostic, NotApplicable, Records, Result

if TYPE_CHECKING:
    from torch import Tensor

    from ..interventions import Edit
    from ..linear import Eraser
    from ..subject import Subject, View

WAYS = ("concept", "random")


@dataclass(frozen=True)
class InterchangeOptions:
    """What is swapped.

    Attributes:
        intermediate: the intermediate result; the task's first when empty.
        fit_examples: clean training examples from which its subspace is fitted.
        examples: largest number of examples of each kind.
    """

    intermediate: str = ""
    fit_examples: int = field(default=4096, metadata={"min": 10})
    examples: int = field(default=512, metadata={"min": 2})


class Interchange(Diagnostic[InterchangeOptions]):
    """Swapping an intermediate result between examples, by layer."""

    name = "interchange"
    version = 2
    description = "whether swapping the intermediate result makes the model give the answer that it implies"
    metrics: ClassVar[tuple[Measure, ...]] = (
        Measure(
            "interchange_accuracy",
            "answers that follow another example's intermediate result, swapped in",
            "validation",
            SHARE,
        ),
        Measure(
            "interchange_control",
            "the same for a random subspace",
            "validation",
            SHARE,
            interval="one random subspace, whose choice a bootstrap over examples says nothing of",
        ),
    )
    Options: ClassVar[type] = InterchangeOptions
    passes = (22, 7)
    needs_noise = False

    def run(self, subject: Subject) -> Result:
        import torch

        from ..interventions import layers_together

        if not subject.anatomy().supports("block").ok:
            raise NotApplicable("the model's blocks could not be proved")
        fit = subject.more_clean(self.options.fit_examples)
        known = list(fit.labelled.examples[0].intermediates)
        name = self.options.intermediate or (known[0] if known else "")
        if name not in known:
            raise NotApplicable(f"the task has no intermediate result {name!r}" if name else "the task has none")
        values = subject.task.values(name)
        rank, width = len(values) - 1, subject.anatomy().width
        if rank > 0.34 * width:
            raise NotApplicable(f"{name} spans up to {rank} of {width} directions: swapping it would swap nearly all")
        pairs = {
            v.name: _pairs(subject, v, name, self.options.examples) for v in (subject.selection, subject.validation)
        }
        if any(len(p.rows) < 10 for p in pairs.values()):
            raise NotApplicable("too few pairs of examples imply a changed answer")
        views = (subject.selection, subject.validation)
        names = [place for place in fit.places if all(place in view.places for view in views)]
        read = [subject.states(view, torch.stack([view.places[place] for place in names], 1)) for view in (fit, *views)]
        hits = {view.name: {way: [] for way in WAYS} for view in views}  # type: dict[str, dict[str, list[Any]]]
        swaps: list[_Swap] = []
        layers = subject.anatomy().n_layers
        together = layers_together(len(names) * (len(WAYS) * width**2 + sum(map(len, views)) * width))
        for layer, (states, *donors) in enumerate(zip(*read, strict=True)):
            spaces = _spaces(subject, states, layer, fit, names, name)
            swaps += [_Swap(layer, names, dict(zip(pairs, donors, strict=True)), spaces[way]) for way in WAYS]
            if len(swaps) == len(WAYS) * together or layer + 1 == layers:
                for view in views:
                    found = _swapped(subject, view, pairs[view.name], swaps)
                    for k, way in enumerate(WAYS):
                        hits[view.name][way] += found[k :: len(WAYS)]
                swaps.clear()
        shares = {
            view: {way: [float(h.mean()) for h in found] for way, found in each.items()} for view, each in hits.items()
        }
        best = int(np.argmax(shares["selection"]["concept"]))
        clusters = subject.validation.clusters[pairs["validation"].rows]
        estimate = proportion(hits["validation"]["concept"][best], clusters)
        control = Estimate(shares["validation"]["random"][best], None, None, None, len(clusters))
        details = {
            "intermediate": name,
            "layers": list(range(1, layers + 1)),
            "chosen_layer": best + 1,
            "share_implied": shares["validation"],
            "pairs": len(pairs["validation"].rows),
        }
        return Result({"interchange_accuracy": estimate, "interchange_control": control}, details)

    def implied(self, details: Details, records: Records) -> Mapping[str, Estimate | float]:
        at, shares = details["chosen_layer"] - 1, details["share_implied"]
        control = Estimate(float(shares["random"][at]), None, None, None, details["pairs"])
        return {"interchange_accuracy": shares["concept"][at], "interchange_control": control}

    @staticmethod
    def draw(details: Details, path: Path) -> bool:
        """How often a swapped intermediate result decides the answer."""
        from ..report import figures

        lines = (
            ("concept", "its subspace swapped", figures.TRUE, "-"),
            ("random", "random subspace swapped", figures.GREY, ":"),
        )
        with figures.drawing(path, 1, 6.4, 4.2) as (figure, (ax,)):
            for way, text, color, dash in lines:
                values = details["share_implied"][way]
                ax.plot(details["layers"], values, dash, color=color, marker="o", label=text)
            figures.layer_ticks(ax, details["layers"], "swapped after layer")
            figures.shares(ax, "answers that follow the swapped value")
            figures.legend(figure, ax, 3)
            figures.title(figure, f"Another example's {details['intermediate'].replace('_', ' ')}, swapped in")
        return True


@dataclass(frozen=True)
class _Pairs:
    """Rows of a view, the row that each takes the intermediate result from, and the answers implied."""

    rows: list[int]
    sources: list[int]
    implied: list[str]


def _pairs(subject: Subject, view: View, name: str, limit: int) -> _Pairs:
    """A random other example for each whose intermediate result implies another answer."""
    rng = subject.rng(f"interchange-{view.name}")
    examples = view.labelled.examples
    rows, sources, implied = [], [], []
    for row in range(min(limit, len(examples))):
        for source in rng.integers(len(examples), size=8).tolist():
            answer = subject.task.answer_if(examples[row], name, examples[source].intermediates[name])
            if answer is not None and answer != examples[row].answer:
                rows.append(row)
                sources.append(source)
                implied.append(answer)
                break
    return _Pairs(rows, sources, implied)


def _spaces(
    subject: Subject, states: Tensor, layer: int, fit: View, names: Sequence[str], name: str
) -> dict[str, dict[str, Eraser]]:
    """The concept's subspace and a random one, for every position from the first that reads it.

    Args:
        states: (n, positions, width) outputs of the layer's block at the places named.
    """
    import torch

    from ..linear import fit_leace, fit_random, one_hot, readable_from

    values = subject.task.values(name)
    classes = torch.tensor(fit.intermediate(name, values), device=states.device)
    places = {place: fit.places[place] for place in names}
    chosen = readable_from(states, places, {name: (classes, len(values))}).places
    generator = torch.Generator().manual_seed(int(subject.rng(f"interchange-{layer}").integers(2**31)))
    spaces: dict[str, dict[str, Eraser]] = {"concept": {}, "random": {}}
    for place in chosen:
        x = states[:, names.index(place)]
        spaces["concept"][place] = fit_leace(x, one_hot(classes, len(values)))
        spaces["random"][place] = fit_random(x, spaces["concept"][place], generator)
    return spaces


@dataclass(frozen=True)
class _Swap:
    """What one run swaps: after which layer, in which space at each place, from which states of each view.

    ``donors`` are (n, names, width) by view.
    """

    layer: int
    names: Sequence[str]
    donors: Mapping[str, Tensor]
    spaces: Mapping[str, Eraser]

    def edit(self, view: View, rows: Tensor, sources: Tensor) -> Edit:
        """At each place of some rows, what the source has in the space."""
        import torch

        index = torch.arange(len(rows), device=rows.device)

        def edit(state: Tensor) -> Tensor:
            changed = state.clone()
            for place, space in self.spaces.items():
                own = view.places[place][rows]
                difference = self.donors[view.name][sources, self.names.index(place)] - state[index, own].float()
                moved = difference @ space.removed
                changed[index, own] = (state[index, own].float() + moved).to(state.dtype)
            return changed

        return edit


def _swapped(subject: Subject, view: View, pairs: _Pairs, swaps: Sequence[_Swap]) -> list[Any]:
    """For each swap, (pairs,) whether the answer is the one implied."""
    import torch

    from ..encoding import encode
    from ..evaluation import batches
    from ..interventions import Intact, Site, run

    anatomy = subject.anatomy()
    implied = encode(subject.tokenizer, view.labelled.take(pairs.rows).examples, pairs.implied).to(subject.device)
    rows = torch.tensor(pairs.rows, device=implied.input_ids.device)
    sources = torch.tensor(pairs.sources, device=rows.device)
    hits: list[list[Tensor]] = [[] for _ in swaps]
    with torch.inference_mode():
        for part in batches(len(rows), subject.batch_size):
            encoded = implied.rows(part)
            intact = Intact(anatomy, encoded.input_ids, columns=encoded.scored)
            for swap, found in zip(swaps, hits, strict=True):
                edits = {Site(swap.layer, "block"): swap.edit(view, rows[part], sources[part])}
                logits = run(anatomy, encoded.input_ids, edits, intact)
                found.append(encoded.correct(logits, intact.columns).double().cpu())
    return [torch.cat(found).numpy() for found in hits]
