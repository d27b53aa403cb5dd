"""Which answer does each layer hold? The logit lens on memorised examples.

The state after each block goes through the final norm and the unembedding (nostalgebraist, 2020), at the position
where the true answer and the noisy label first differ. On memorised examples the true answer comes first and the
noisy label later, if the model computes both (Du et al., 2025).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..measures import SHARE, Measure
from ..statistics import Estimate, bootstrap_method, cluster_codes, resampled_means
from . import Details, Diagnostic, NotApplicable, Records, Result, lowest, too_low

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..models.anatomy import Anatomy
    from ..subject import Subject, View


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
    """Per example and layer, arrays (n, layers): ranks of both answers (0 is the top) and their logit difference.

    ``rows`` are the examples in the view, ``position`` (n,) the token after which both answers differ, and ``tokens``
    (n,) the first that differs of the true answer and of the label.
    """

    true_rank: NDArray[np.int64]
    label_rank: NDArray[np.int64]
    difference: NDArray[np.float32]
    error: float
    rows: list[int]
    position: NDArray[np.int64]
    tokens: tuple[NDArray[np.int64], NDArray[np.int64]]


class LogitLens(Diagnostic[LogitLensOptions]):
    """Ranks of the true answer and of the noisy label after every block."""

    name = "logit_lens"
    version = 2
    description = "which of the true answer and the noisy label each layer holds"
    metrics: ClassVar[tuple[Measure, ...]] = (
        Measure("clean_label_depth", "relative depth at which the true answer leads", "train_noisy", SHARE),
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
        snapshots: dict[str, Any] = {}
        records: dict[str, list[Any]] = {}
        error = least = 0.0
        for snapshot, anatomy in subject.anatomies.items():
            part: dict[str, Any] = {"layers": list(range(1, anatomy.n_layers + 1))}
            for view in (subject.noisy, subject.validation):
                reading = read(anatomy, view, self.options.examples, subject.batch_size)
                error = max(error, reading.error)
                part[view.name] = _summary(reading)
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
                    }
            snapshots[snapshot] = part
        details = {"snapshots": snapshots, "self_check": {"max_abs_error": error}, "held_out_least": least}
        return Result(self._depths(details, records), details, records)

    def _depths(self, details: Details, records: Records) -> dict[str, Estimate]:
        """Both depths from the ranks of every example at every layer, of a model that learned the task."""
        why = too_low("the share of held-out questions that the last layer answers", details["held_out_least"])
        if why is not None:
            n = len(records["group"])
            return {name: Estimate.missing(why, n) for name in ("clean_label_depth", "override_depth")}
        over = np.array(records["label_rank"]) < np.array(records["true_rank"])
        clusters = cluster_codes(records["group"])
        return {
            name: depth(over, clusters, self.rng(self.name), kind)
            for name, kind in (("clean_label_depth", "clean"), ("override_depth", "override"))
        }

    def implied(self, details: Details, records: Records) -> Mapping[str, Estimate | float | None]:
        if records:
            return self._depths(details, records)
        if too_low("", details["held_out_least"]):
            return {"clean_label_depth": None, "override_depth": None}
        over = np.asarray(details["snapshots"][POST]["noisy"]["label_over_true"], dtype=float)
        return {"clean_label_depth": crossed(over, "clean"), "override_depth": crossed(over, "override")}

    @staticmethod
    def series(details: Details) -> Details:
        part = details["snapshots"][POST]
        return {"layers": part["layers"], **{key: part["noisy"][key] for key in ("true_top1", "label_top1")}}

    @staticmethod
    def draw(details: Details, path: Path) -> bool:
        """The noisy and the true answer through the layers, before and after memorization."""
        from ..report import figures

        snapshots = details["snapshots"]
        with figures.drawing(path, len(snapshots), 4.6 * len(snapshots) + 0.8, 4.4) as (figure, axes):
            for ax, (name, part) in zip(axes, snapshots.items(), strict=True):
                layers, noisy = part["layers"], part["noisy"]
                leads = [1 - share for share in noisy["label_over_true"]]
                for values, color, style, text in (
                    (noisy["true_top1"], figures.TRUE, "o-", "true answer is the top answer"),
                    (noisy["label_top1"], figures.MEMORISED, "o-", "wrong label is the top answer"),
                    (leads, figures.GREY, ".:", "true answer ranks above the wrong label"),
                ):
                    ax.plot(layers, values, style, color=color, label=text)
                ax.axhline(0.5, color="#bbbbbb", linewidth=0.8)
                figures.panel(ax, figures.SNAPSHOT_NAMES.get(name, name))
                figures.layer_ticks(ax, layers)
                figures.shares(ax)
            axes[0].set_ylabel("share of mislabelled training questions")
            figures.legend(figure, axes[0], 3)
            figures.title(figure, "Which answer each layer holds for a mislabelled question")
        return True


def read(anatomy: Anatomy, view: View, limit: int, batch_size: int) -> _Reading:
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
    true_ranks, label_ranks, differences, error = [], [], [], 0.0
    with torch.inference_mode():
        for part in batches(len(rows), batch_size):
            index = torch.arange(part.stop - part.start, device=rows.device)
            at = position[part]
            columns, column = torch.unique(at, return_inverse=True)
            logits, states = capture(anatomy, true.input_ids[part], sites, columns=columns)
            stacked = torch.stack([anatomy.lens(states[s][index, at]).float() for s in sites], 1)
            error = max(error, float((stacked[:, -1] - logits[index, column].float()).abs().max()))
            y = stacked.gather(2, true_token[part, None, None].expand(-1, len(sites), 1))
            z = stacked.gather(2, label_token[part, None, None].expand(-1, len(sites), 1))
            true_ranks.append((stacked > y).sum(2).cpu().numpy())
            label_ranks.append((stacked > z).sum(2).cpu().numpy())
            differences.append((y - z)[:, :, 0].cpu().numpy())
    return _Reading(
        np.concatenate(true_ranks),
        np.concatenate(label_ranks),
        np.concatenate(differences),
        error,
        differing,
        position.cpu().numpy(),
        (true_token.cpu().numpy(), label_token.cpu().numpy()),
    )


def _summary(reading: _Reading) -> dict[str, list[float]]:
    return {
        "true_top1": (reading.true_rank == 0).mean(0).tolist(),
        "label_top1": (reading.label_rank == 0).mean(0).tolist(),
        "true_rank": np.median(reading.true_rank, 0).tolist(),
        "label_rank": np.median(reading.label_rank, 0).tolist(),
        "label_over_true": (reading.label_rank < reading.true_rank).mean(0).tolist(),
        "logit_difference": reading.difference.mean(0).tolist(),
    }


def depth(over: NDArray[np.bool_], clusters: NDArray[np.int64], rng: np.random.Generator, kind: str) -> Estimate:
    """The relative depth (layer / layers) where the true answer leads, or where the noisy label takes over for good.

    Args:
        over: (n, layers) the noisy label outranks the true answer.
        kind: ``clean``: the first layer at which the true answer outranks the noisy label on most examples;
            ``override``: the layer from which on the noisy label outranks the true answer on most examples.
    """
    value = crossed(over.mean(axis=0), kind)
    if value is None:
        who = (
            "the true answer never outranks the noisy label" if kind == "clean" else "the noisy label never takes over"
        )
        return Estimate.missing(f"{who} on most examples at any layer", len(over))
    found = [crossed(shares, kind) for shares in resampled_means(over.astype(float), clusters, rng)]
    known = [f for f in found if f is not None]
    low, high = np.quantile(known, [0.025, 0.975])
    return Estimate(value, float(low), float(high), bootstrap_method(clusters), len(over))


def crossed(shares: NDArray[np.float64], kind: str) -> float | None:
    """The same from (layers,) the share of examples on which the noisy label outranks the true answer."""
    layers = len(shares)
    if kind == "clean":
        ahead = np.flatnonzero(shares < 0.5)
        return (int(ahead[0]) + 1) / layers if len(ahead) else None
    behind = np.flatnonzero(shares <= 0.5)
    if len(behind) and behind[-1] == layers - 1:
        return None
    return (int(behind[-1]) + 2 if len(behind) else 1) / layers
