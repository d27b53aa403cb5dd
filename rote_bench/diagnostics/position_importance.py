"""Which tokens carry the memorised label, and which the reasoning?

At one named position after one layer the state is replaced by that of another example. What falls shows what the
position carried at that depth: held-out answers or memorised labels. A look-up table needs all tokens of the question
at once; reasoning only those that it has not used yet.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..measures import SHARE, Measure
from ..statistics import Estimate, bootstrap, interval, mean, resampled_means
from . import LEAST, Details, Diagnostic, NotApplicable, Records, Result, too_low

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from ..interventions import Edit
    from ..subject import Subject, View


@dataclass(frozen=True)
class PositionImportanceOptions:
    """How much is measured.

    Attributes:
        examples: largest number of examples of each kind.
    """

    examples: int = field(default=256, metadata={"min": 2})


class PositionImportance(Diagnostic[PositionImportanceOptions]):
    """Resampling one position's state, by layer."""

    name = "position_importance"
    version = 5
    description = "which tokens carry the memorised label and which the reasoning, by layer"
    metrics: ClassVar[tuple[Measure, ...]] = (
        Measure(
            "position_spread_memorization",
            "how evenly memorised labels hang on all tokens (1: evenly, 0: on one)",
            "train_noisy",
            SHARE,
        ),
        Measure("position_spread_validation", "the same for held-out answers", "validation", SHARE),
    )
    Options: ClassVar[type] = PositionImportanceOptions
    passes = (2, 6)

    def run(self, subject: Subject) -> Result:
        if len(subject.noisy) == 0:
            raise NotApplicable("no noisy labels at this noise rate")
        support = subject.anatomy().supports("block")
        if not support.ok:
            raise NotApplicable(f"the model's blocks could not be proved: {support.detail}")
        names = [n for n in subject.noisy.true.positions if n != "last"]
        if not names:
            raise NotApplicable("the task names no positions")
        layers = subject.anatomy().n_layers
        drops: dict[str, NDArray[np.float64]] = {}
        for key, view, side in (("memorization", subject.noisy, "taught"), ("validation", subject.validation, "true")):
            drops[key] = _drops(subject, view, side, names, self.options.examples)
        details: dict[str, Any] = {
            "layers": list(range(1, layers + 1)),
            "positions": names,
            "drop": {key: value.mean(0).tolist() for key, value in drops.items()},
            "levels": {
                "memorization": _levels(drops["memorization"], subject.noisy.clusters),
                "validation": _levels(drops["validation"], subject.validation.clusters),
            },
        }
        rng = subject.rng(self.name)
        metrics, details["least"] = {}, {}
        for key, view in (("memorization", subject.noisy), ("validation", subject.validation)):
            first, clusters = drops[key][:, 0], view.clusters[: len(drops[key])]
            means = resampled_means(first, clusters, subject.rng(f"{self.name}-{key}"))
            least = details["least"][key] = interval(np.clip(means, 0, None).sum(-1))[0]
            why = too_low("what falls when a position is resampled", least)
            found = bootstrap(spread, first, clusters, rng)
            metrics[f"position_spread_{key}"] = Estimate.missing(why, len(first)) if why else found
        return Result(metrics, details)

    def implied(self, details: Details, records: Records) -> Mapping[str, float | None]:
        first = {key: float(spread(np.asarray(drop[0], dtype=float))) for key, drop in details["drop"].items()}
        return {
            f"position_spread_{key}": value if math.isfinite(value) and details["least"][key] > LEAST else None
            for key, value in first.items()
        }

    @staticmethod
    def draw(details: Details, path: Path) -> bool:
        """Fall of accuracy and of memorization when one position's state is resampled."""
        from ..report import figures

        layers, names = details["layers"], [name.replace("_", " ") for name in details["positions"]]
        sides = (("validation", "held-out answers lost"), ("memorization", "memorised wrong labels lost"))
        with figures.drawing(path, 2, 8.6, 0.6 + 0.42 * len(layers) + 2.0) as (figure, axes):
            for ax, (key, side) in zip(axes, sides, strict=True):
                drop = details["levels"][key]["value"]
                image = ax.imshow(drop, vmin=0, vmax=1, cmap="cividis", aspect="auto", origin="lower")
                figures.panel(ax, side)
                for layer, row in enumerate(drop if len(names) <= 6 else ()):
                    for k, value in enumerate(row):
                        color = "black" if value > 0.6 else "white"
                        ax.text(k, layer, f"{value:.2f}", ha="center", va="center", fontsize=8, color=color)
                ax.set_xticks(range(len(names)), names, rotation=30, ha="right", fontsize=8)
                ax.set_yticks(range(len(layers)), [str(layer) for layer in layers])
                ax.grid(visible=False)
            axes[0].set_ylabel("replaced after layer")
            figure.colorbar(image, ax=axes, label="share lost when a word's state\nis another question's", shrink=0.8)
            figures.title(figure, _sentence(details))
        return True


def _sentence(details: Details) -> str:
    from ..report.figures import percent

    def most(key: str) -> tuple[str, str]:
        first = details["levels"][key]["value"][0]
        k = max(range(len(first)), key=first.__getitem__)
        return details["positions"][k].replace("_", " "), percent(max(0.0, first[k]))

    (wrong, lost), (held, cost) = most("memorization"), most("validation")
    return (
        f"Replacing one word's state after the first layer costs memorised wrong labels most at {wrong} ({lost} lost),"
        f" held-out answers at {held} ({cost} lost)"
    )


def _levels(drops: NDArray[np.float64], clusters: NDArray[np.int64]) -> dict[str, list[list[float | None]]]:
    """The mean of drops (n, layers, positions) with its interval: bounds by layer and position."""
    of = clusters[: len(drops)]
    found = [[mean(drops[:, layer, k], of) for k in range(drops.shape[2])] for layer in range(drops.shape[1])]
    return {key: [[getattr(each, key) for each in row] for row in found] for key in ("value", "ci_low", "ci_high")}


def spread(drops: NDArray[np.float64]) -> NDArray[np.float64]:
    """Entropy of the drops over positions, (..., positions), as a share of its maximum: 1 is all alike, 0 is one."""
    share = np.clip(drops, 0, None)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = share / share.sum(-1, keepdims=True)
        terms = np.where(share > 0, -share * np.log(share), 0.0)
    out: NDArray[np.float64] = np.where(np.isfinite(share).all(-1), terms.sum(-1), np.nan) / math.log(
        max(2, drops.shape[-1])
    )
    return out


def _drops(subject: Subject, view: View, side: str, names: list[str], limit: int) -> NDArray[np.float64]:
    """(n, layers, positions) intact minus resampled correctness; layer 0 resamples the first block's output."""
    import torch

    from ..evaluation import batches
    from ..interventions import Intact, Site, run

    anatomy = subject.anatomy()
    encoded = (view.true if side == "true" else view.taught).rows(slice(min(limit, len(view))))
    n = len(encoded)
    other = torch.tensor(_derangement(n, subject.rng(f"position-{view.name}")), device=encoded.input_ids.device)
    sites = [Site(layer, "block") for layer in range(anatomy.n_layers)]
    at = torch.stack([encoded.positions[name] for name in names], 1)
    out = np.zeros((n, len(sites), len(names)))
    parts = batches(n, subject.batch_size)
    with torch.inference_mode():
        read: list[Tensor] = []
        for rows in parts:
            part = encoded.rows(rows)
            intact = Intact(anatomy, part.input_ids, sites, columns=part.scored)
            index = torch.arange(rows.stop - rows.start, device=at.device).unsqueeze(1)
            read.append(torch.stack([intact.states[site][index, at[rows]] for site in sites], 1))
        donors = torch.cat(read)  # (n, layers, positions, width)
        for rows in parts:
            part = encoded.rows(rows)
            if len(parts) > 1:  # else it is the one that was just made
                intact = Intact(anatomy, part.input_ids, columns=part.scored)
            right = part.correct(intact.logits, intact.columns).double()
            for layer, site in enumerate(sites):
                for k in range(len(names)):
                    edits = {site: _put_in(donors[other[rows], layer, k], at[rows, k])}
                    logits = run(anatomy, part.input_ids, edits, intact)
                    out[rows, layer, k] = (right - part.correct(logits, intact.columns).double()).cpu().numpy()
    return out


def _put_in(donor: Tensor, at: Tensor) -> Edit:
    """Another state (batch, width) at one position (batch,) of each example."""
    import torch

    def edit(state: Tensor) -> Tensor:
        changed = state.clone()
        changed[torch.arange(len(at), device=at.device), at] = donor
        return changed

    return edit


def _derangement(n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """A random example other than itself for each of n examples."""
    order = rng.permutation(n)
    other = np.empty(n, dtype=np.int64)
    other[order] = np.roll(order, 1)
    return other
