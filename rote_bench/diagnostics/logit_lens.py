"""Which answer does each layer hold? The logit lens on memorised examples.

The state after each block goes through the final norm and the unembedding (nostalgebraist, 2020), at the position
where the true answer and the noisy label first differ. On memorised examples the true answer comes first and the
noisy label later, if the model computes both (Du et al., 2025).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..statistics import Estimate, resampled_means
from . import Diagnostic, Metric, NotApplicable, Result

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..models.anatomy import Anatomy
    from ..subject import Subject, View


@dataclass(frozen=True)
class LogitLensOptions:
    """How much to look at.

    Attributes:
        examples: largest number of examples of each kind.
    """

    examples: int = 1024


@dataclass(frozen=True)
class _Reading:
    """Per example and layer, arrays (n, layers): ranks of both answers (0 is the top) and their logit difference."""

    true_rank: NDArray[np.int64]
    label_rank: NDArray[np.int64]
    difference: NDArray[np.float32]
    error: float


class LogitLens(Diagnostic[LogitLensOptions]):
    """Ranks of the true answer and of the noisy label after every block."""

    name = "logit_lens"
    version = 1
    description = "which of the true answer and the noisy label each layer holds"
    Options: ClassVar[type] = LogitLensOptions

    def run(self, subject: Subject) -> Result:
        if len(subject.noisy) == 0:
            raise NotApplicable("no noisy labels at this noise rate")
        support = subject.anatomy().supports("lens")
        if not support.ok:
            raise NotApplicable(f"the lens is not exact for this model: {support.detail}")
        snapshots: dict[str, Any] = {}
        records: dict[str, list[Any]] = {}
        error = 0.0
        over: NDArray[np.bool_] | None = None
        for snapshot, anatomy in subject.anatomies.items():
            part: dict[str, Any] = {"layers": list(range(1, anatomy.n_layers + 1))}
            for view in (subject.noisy, subject.validation):
                reading = read(anatomy, view, self.options.examples, subject.batch_size)
                error = max(error, reading.error)
                part[view.name] = _summary(reading)
                if view.name == "noisy" and snapshot == "post_memorization":
                    over = reading.label_rank < reading.true_rank
                    records = {
                        "true_rank": reading.true_rank.tolist(),
                        "label_rank": reading.label_rank.tolist(),
                    }
            snapshots[snapshot] = part
        assert over is not None
        clusters = subject.noisy.clusters[: len(over)]
        metrics = {
            "clean_label_depth": Metric(depth(over, clusters, subject.rng(self.name), "clean"), "train_noisy", None),
            "override_depth": Metric(depth(over, clusters, subject.rng(self.name), "override"), "train_noisy", None),
        }
        return Result(metrics, {"snapshots": snapshots, "self_check": {"max_abs_error": error}}, records)

    @staticmethod
    def draw(details: Mapping[str, Any], path: Path) -> bool:
        from ..report.figures import lens

        lens(details, path)
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
            logits, states = capture(anatomy, true.input_ids[part], sites)
            at = position[part]
            stacked = torch.stack([anatomy.lens(states[s][index, at]).float() for s in sites], 1)
            error = max(error, float((stacked[:, -1] - logits[index, at].float()).abs().max()))
            y = stacked.gather(2, true_token[part, None, None].expand(-1, len(sites), 1))
            z = stacked.gather(2, label_token[part, None, None].expand(-1, len(sites), 1))
            true_ranks.append((stacked > y).sum(2).cpu().numpy())
            label_ranks.append((stacked > z).sum(2).cpu().numpy())
            differences.append((y - z)[:, :, 0].cpu().numpy())
    return _Reading(np.concatenate(true_ranks), np.concatenate(label_ranks), np.concatenate(differences), error)


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
    layers = int(over.shape[1])

    def first(shares: NDArray[np.float64]) -> float | None:
        if kind == "clean":
            ahead = [layer for layer in range(layers) if shares[layer] < 0.5]
            return (ahead[0] + 1) / layers if ahead else None
        behind = [layer for layer in range(layers) if shares[layer] <= 0.5]
        if behind and behind[-1] == layers - 1:
            return None
        return (behind[-1] + 2 if behind else 1) / layers

    value = first(over.mean(axis=0))
    if value is None:
        who = (
            "the true answer never outranks the noisy label" if kind == "clean" else "the noisy label never takes over"
        )
        return Estimate(None, None, None, None, len(over), f"{who} on most examples at any layer")
    found = [first(shares) for shares in resampled_means(over.astype(float), clusters, rng)]
    known = [f for f in found if f is not None]
    low, high = np.quantile(known, [0.025, 0.975])
    return Estimate(value, float(low), float(high), "cluster bootstrap", len(over))
