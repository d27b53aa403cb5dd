"""Which answer does each layer hold? The logit lens on memorised examples.

The state after each block goes through the final norm and the unembedding (nostalgebraist, 2020), at the position
where the true answer and the noisy label first differ. On memorised examples the true answer comes first and the
noisy label later, if the model computes both (Du et al., 2025). That it was computed shows beside its foils, the
answers to which other values of the intermediate result lead: the noisy label is any answer, and a model that knows
what kind of answer fits the question prefers the true one without having computed it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import numpy as np

from ..measures import SHARE, Measure
from ..statistics import Estimate, cluster_codes, weighted_proportion
from . import Details, Diagnostic, NotApplicable, Records, Result, levels, lowest, too_low

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..foils import Foils
    from ..models.anatomy import Anatomy
    from ..subject import Subject, View

Levels: TypeAlias = Mapping[str, Sequence[Any]]

POST = "post_memorization"


@dataclass(frozen=True)
class LogitLensOptions:
    """How much to look at.

    Attributes:
        examples: largest number of examples of each kind.
    """

    examples: int = field(default=1024, metadata={"min": 2})


@dataclass(frozen=True)
class _Reading:
    """Per example and layer, arrays (n, layers): ranks of both answers (0 is the top), their logit difference, and the
    weight of the foils that the true answer beats.

    ``rows`` are the examples in the view, ``position`` (n,) the token after which both answers differ, ``tokens``
    (n,) the first that differs of the true answer and of the label, and ``foils`` (n,) the weight of all foils.
    ``error`` is the largest difference from the model's own logits at the last layer, ``near`` what rounding explains.
    """

    true_rank: NDArray[np.int64]
    label_rank: NDArray[np.int64]
    difference: NDArray[np.float32]
    beaten: NDArray[np.float64]
    error: float
    near: float
    rows: list[int]
    position: NDArray[np.int64]
    tokens: tuple[NDArray[np.int64], NDArray[np.int64]]
    foils: NDArray[np.float64]


class LogitLens(Diagnostic[LogitLensOptions]):
    """Ranks of the true answer and of the noisy label after every block, and how the true answer stands to foils."""

    name = "logit_lens"
    version = 3
    description = "which of the true answer and the noisy label each layer holds"
    metrics: ClassVar[tuple[Measure, ...]] = (
        Measure(
            "clean_label_depth",
            "relative depth from which the true answer beats other possible answers, until the wrong label takes over",
            "train_noisy",
            SHARE,
        ),
        Measure("override_depth", "relative depth at which the wrong label takes over", "train_noisy", SHARE, column=6),
    )
    Options: ClassVar[type] = LogitLensOptions
    passes = (3, 0)

    def run(self, subject: Subject) -> Result:
        if len(subject.noisy) == 0:
            raise NotApplicable("no noisy labels at this noise rate")
        support = subject.anatomy().supports("lens")
        if not support.ok:
            raise NotApplicable(f"the lens is not exact for this model: {support.detail}")
        from ..foils import find

        snapshots: dict[str, Any] = {}
        records: dict[str, list[Any]] = {}
        error = least = 0.0
        views = (subject.noisy, subject.validation)
        foils = find(subject, views, self.options.examples)
        for snapshot, anatomy in subject.anatomies.items():
            part: dict[str, Any] = {"layers": list(range(1, anatomy.n_layers + 1))}
            for view in views:
                reading = read(anatomy, view, foils[view.name], self.options.examples, subject.batch_size)
                if reading.error > reading.near:
                    what = f"the lens gives other logits than the {snapshot} model, by up to {reading.error:.3g}"
                    raise NotApplicable(f"{what}: what follows its last block changes in training")
                error = max(error, reading.error)
                part[view.name] = _summary(reading, view.clusters[reading.rows])
                if view.name == "validation" and snapshot == POST:
                    right = reading.true_rank[:, -1] == 0
                    least = lowest(right, view.clusters[reading.rows])
                if view.name == "noisy" and snapshot == POST:
                    records = {
                        "index": [view.labelled.indices[i] for i in reading.rows],
                        "group": [view.labelled.examples[i].group for i in reading.rows],
                        "position": reading.position.tolist(),
                        "true_token": reading.tokens[0].tolist(),
                        "label_token": reading.tokens[1].tolist(),
                        "true_rank": reading.true_rank.tolist(),
                        "label_rank": reading.label_rank.tolist(),
                        "logit_difference": reading.difference.tolist(),
                        "foils": reading.foils.tolist(),
                        "foils_beaten": reading.beaten.tolist(),
                    }
            snapshots[snapshot] = part
        details = {"snapshots": snapshots, "self_check": {"max_abs_error": error}, "held_out_least": least}
        return Result(self.implied(details, records), details, records)

    def implied(self, details: Details, records: Records) -> Mapping[str, Estimate]:
        """Both depths from the levels of every layer, of a model that learned the task."""
        noisy = details["snapshots"][POST]["noisy"]
        over, won, n, paired = noisy["label_over_true"], noisy["foils_beaten"], noisy["n"], noisy["n_with_foils"]
        if records:
            clusters = cluster_codes(records["group"])
            weights = np.array(records["foils"])
            over = levels(np.array(records["label_rank"]) < np.array(records["true_rank"]), clusters)
            won = pairings(np.array(records["foils_beaten"]), weights, clusters)
            n, paired = len(clusters), int((weights > 0).sum())
        why = too_low("the share of held-out questions that the last layer answers", details["held_out_least"])
        if why is not None:
            return {name: Estimate.missing(why, n) for name in ("clean_label_depth", "override_depth")}
        return {
            "clean_label_depth": clean_label_depth(won, over, paired),
            "override_depth": override_depth(over, n),
        }

    @staticmethod
    def series(details: Details) -> Details:
        part = details["snapshots"][POST]
        return {"layers": part["layers"], **{key: part["noisy"][key]["value"] for key in ("true_top1", "label_top1")}}

    @staticmethod
    def draw(details: Details, path: Path) -> bool:
        """The noisy and the true answer through the layers, before and after memorization."""
        from ..report import figures

        snapshots = details["snapshots"]
        with figures.drawing(path, len(snapshots), 4.8 * len(snapshots) + 0.8, 5.0) as (figure, axes):
            for ax, (name, part) in zip(axes, snapshots.items(), strict=True):
                layers, noisy = part["layers"], part["noisy"]
                lines = [
                    (noisy["true_top1"], figures.TRUE, "true answer is the top answer", "-", "o"),
                    (noisy["label_top1"], figures.MEMORISED, "wrong label is the top answer", "-", "o"),
                    (noisy["label_over_true"], figures.MEMORISED, "wrong label is above the true answer", ":", ""),
                ]
                if noisy["n_with_foils"]:
                    text = "true answer beats other possible answers"
                    lines.append((noisy["foils_beaten"], figures.TRUE, text, "--", "s"))
                    held = part["validation"]["foils_beaten"]
                    lines.append((held, figures.HELD_OUT, "the same on held-out questions", "--", ""))
                for values, color, text, dash, marker in lines:
                    figures.line(ax, layers, values, color, text, dash, marker)
                chance = [CHANCE] * len(layers)
                figures.line(ax, layers, {"value": chance}, figures.GREY, "what not computing it gives", "-.", "")
                figures.panel(ax, figures.SNAPSHOT_NAMES.get(name, name))
                figures.layer_ticks(ax, layers)
                figures.shares(ax)
            axes[0].set_ylabel("share of mislabelled training questions")
            figures.legend(figure, axes[0], min(2, len(snapshots)))
            figures.title(figure, _found(snapshots[POST]))
        return True


CHANCE = 0.5
NEAR = 1e-3  # of the largest logit: two ways to compute the same


def _found(part: Mapping[str, Any]) -> str:
    """The result in a sentence, from the levels of each layer."""
    from ..report.figures import percent

    layers, noisy = len(part["layers"]), part["noisy"]
    if None in noisy["label_over_true"]["ci_low"]:  # of fewer seeds than make an interval
        above = percent(noisy["label_over_true"]["value"][-1])
        return f"In the end the wrong label is above the true answer on {above} of mislabelled questions"
    clean = clean_label_depth(noisy["foils_beaten"], noisy["label_over_true"], noisy["n_with_foils"]).value
    over = override_depth(noisy["label_over_true"], noisy["n"]).value

    def layer(depth: float) -> str:
        return f"layer {round(depth * layers)} of {layers}"

    taken = (
        f"the wrong label is above it from {layer(over)} on" if over else "no layer surely puts the wrong label above"
    )
    if not noisy["n_with_foils"]:
        return f"On mislabelled questions {taken}" if over else "On mislabelled questions the true answer stays ahead"
    if clean is None:
        return f"On mislabelled questions no layer is sure to hold the true answer first; {taken}"
    best = max(v for v in noisy["foils_beaten"]["value"][round(clean * layers) - 1 : round((over or 2) * layers) - 1])
    ahead = f"beats other possible answers from {layer(clean)} on (at most {percent(best)})"
    return f"On mislabelled questions the true answer {ahead}; {taken}"


def read(anatomy: Anatomy, view: View, foils: Foils | None, limit: int, batch_size: int) -> _Reading:
    """Apply the lens to the first ``limit`` examples of a view, at the first token where both answers differ."""
    import torch

    from ..encoding import first_difference
    from ..evaluation import batches
    from ..interventions import Site, capture

    n = min(limit, len(view))
    differing = [i for i in range(n) if view.labelled.labels[i] != view.labelled.examples[i].answer]
    rows = torch.tensor(differing, device=view.true.input_ids.device)
    true, taught = view.true.rows(rows), view.taught.rows(rows)
    position, true_token, label_token = first_difference(true, taught)
    sites = [Site(layer, "block") for layer in range(anatomy.n_layers)]
    true_ranks, label_ranks, differences, beaten, error, largest = [], [], [], [], 0.0, 0.0
    with torch.inference_mode():
        for part in batches(len(rows), batch_size):
            index = torch.arange(part.stop - part.start, device=rows.device)
            at = position[part]
            columns, column = torch.unique(at, return_inverse=True)
            logits, states = capture(anatomy, true.input_ids[part], sites, columns=columns)
            stacked = torch.stack([anatomy.lens(states[s][index, at]).float() for s in sites], 1)
            given = logits[index, column]
            error = max(error, float((stacked[:, -1] - given.float()).abs().max()))
            largest = max(largest, float(given.abs().max()) * max(NEAR, 64 * torch.finfo(given.dtype).eps))
            y = stacked.gather(2, true_token[part, None, None].expand(-1, len(sites), 1))
            z = stacked.gather(2, label_token[part, None, None].expand(-1, len(sites), 1))
            true_ranks.append((stacked > y).sum(2).cpu().numpy())
            label_ranks.append((stacked > z).sum(2).cpu().numpy())
            differences.append((y - z)[:, :, 0].cpu().numpy())
            won = torch.zeros(len(index), len(sites), device=rows.device)
            if foils is not None:
                f = stacked.gather(2, foils.tokens[part, None].expand(-1, len(sites), -1))
                won = (((y > f).float() + (y == f).float() / 2) * foils.weights[part, None]).sum(2)
            beaten.append(won.double().cpu().numpy())
    return _Reading(
        np.concatenate(true_ranks),
        np.concatenate(label_ranks),
        np.concatenate(differences),
        np.concatenate(beaten),
        error,
        largest,
        differing,
        position.cpu().numpy(),
        (true_token.cpu().numpy(), label_token.cpu().numpy()),
        np.zeros(len(rows)) if foils is None else foils.weights.sum(1).double().cpu().numpy(),
    )


def _summary(reading: _Reading, clusters: NDArray[np.int64]) -> dict[str, Any]:
    """A line for each layer, with intervals where a figure draws it."""
    return {
        "n": len(reading.rows),
        "n_with_foils": int((reading.foils > 0).sum()),
        "true_top1": levels(reading.true_rank == 0, clusters),
        "label_top1": levels(reading.label_rank == 0, clusters),
        "label_over_true": levels(reading.label_rank < reading.true_rank, clusters),
        "foils_beaten": pairings(reading.beaten, reading.foils, clusters),
        "true_rank": np.median(reading.true_rank, 0).tolist(),
        "label_rank": np.median(reading.label_rank, 0).tolist(),
        "logit_difference": reading.difference.mean(0).tolist(),
    }


def pairings(
    beaten: NDArray[np.float64], weights: NDArray[np.float64], clusters: NDArray[np.int64]
) -> dict[str, list[float | None]]:
    """The share of pairings with foils that the true answer wins at each layer, as ``levels``.

    Args:
        beaten: (n, layers) the weight of the foils that it beats, ties counting half.
        weights: (n,) the weight of all foils.
    """
    found = [weighted_proportion(np.minimum(column, weights), weights, clusters) for column in beaten.T]
    return {key: [getattr(each, key) for each in found] for key in ("value", "ci_low", "ci_high")}


METHOD = "intervals of the shares at each layer"


def override_depth(over: Levels, n: int) -> Estimate:
    """The relative depth (layer / layers) from which on the noisy label surely outranks the true answer.

    That is where the lower bound of the share that does is above one half, there and at every later layer. The interval
    begins where the upper bound is from there on: earlier layers surely are not such.

    Args:
        over: ``value``, ``ci_low`` and ``ci_high`` of the share at each layer.
    """
    sure, possible = (_from([end > CHANCE for end in over[key]]) for key in ("ci_low", "ci_high"))
    if sure is None or possible is None:
        return Estimate.missing("the noisy label does not surely outrank the true answer at the last layer", n)
    layers = len(over["value"])
    return Estimate((sure + 1) / layers, (possible + 1) / layers, (sure + 1) / layers, METHOD, n)


def clean_label_depth(won: Levels, over: Levels, n: int) -> Estimate:
    """The first relative depth at which the true answer surely wins more than half of its pairings with foils, there
    and at every later layer before the noisy label takes over.

    Surely is by the lower bound; the interval begins where the upper bound is above one half from there on.

    Args:
        won: ``value``, ``ci_low`` and ``ci_high`` of the share of pairings won at each layer.
        over: as for ``override_depth``.
        n: examples that have foils.
    """
    if n == 0:
        return Estimate.missing("the task names no foils: no other answers that its question leaves possible")
    layers = len(won["value"])
    taken = _from([low > CHANCE for low in over["ci_low"]])
    end = layers if taken is None else taken
    if end == 0:
        return Estimate.missing("the noisy label outranks the true answer from the first layer on", n)
    sure, possible = (_from([bound > CHANCE for bound in won[key][:end]]) for key in ("ci_low", "ci_high"))
    if sure is None or possible is None:
        return Estimate.missing(
            "the true answer does not surely win more than half of its pairings with foils"
            f" at layer {end}, the last {'one' if taken is None else 'before the noisy label takes over'}",
            n,
        )
    return Estimate((sure + 1) / layers, (possible + 1) / layers, (sure + 1) / layers, METHOD, n)


def _from(holds: Sequence[bool]) -> int | None:
    """The first place from which on it holds to the end; None where it does not hold at the end."""
    if not holds or not holds[-1]:
        return None
    return next((k + 1 for k in range(len(holds) - 1, -1, -1) if not holds[k]), 0)
