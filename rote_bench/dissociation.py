"""How much more of one share than of another is left after a change, beside the same under changes drawn at random."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .statistics import RESAMPLES, Estimate, bootstrap_method, from_draws, interval, quotient, resampled_means

if TYPE_CHECKING:
    from numpy.typing import NDArray

AND_DRAWS = ", and of the control's draws"


@dataclass(frozen=True)
class Hits:
    """Of n examples, whether an answer is given.

    Attributes:
        intact: (n,) where nothing is changed.
        changed: kind of change -> (n, draws, places), one draw where nothing is drawn.
        clusters: (n,) the cluster of each example.
    """

    intact: NDArray[np.float64]
    changed: Mapping[str, NDArray[np.float64]]
    clusters: NDArray[np.int64]


@dataclass(frozen=True)
class Areas:
    """Share kept of the first kind of answers minus share kept of the second, mean over places.

    Attributes:
        values: kind of change -> (draws,).
        resampled: kind of change -> (resamples,) means over draws as they might have been.
        method: how that was resampled.
        n: examples.
    """

    values: Mapping[str, NDArray[np.float64]]
    resampled: Mapping[str, NDArray[np.float64]]
    method: str
    n: int

    def of(self, kind: str) -> Estimate:
        """The area under one kind of change."""
        method = self.method + (AND_DRAWS if len(self.values[kind]) > 1 else "")
        return from_draws(self.values[kind].mean(), self.resampled[kind], method, self.n)

    def excess(self, *pairs: tuple[str, str]) -> Estimate:
        """The area of a kind minus that of its control, and minus the same of each further pair."""
        value, draws = 0.0, np.zeros(RESAMPLES)
        for sign, (own, control) in zip([1, *[-1] * len(pairs[1:])], pairs, strict=True):
            value += sign * float(self.values[own].mean() - self.values[control].mean())
            draws = draws + sign * (self.resampled[own] - self.resampled[control])
        return from_draws(value, draws, self.method + AND_DRAWS, self.n)


def areas(held: Hits, noisy: Hits, rng: np.random.Generator) -> Areas:
    """The areas of all kinds of changes, resampled together, so that differences between them can be taken.

    Examples are resampled as everywhere (``resampled_means``). To the mean over draws comes the error of so few: t with
    one degree of freedom less than there are draws. Draws of the same number count as the same draws.

    Args:
        held: right answers, of which something should be left.
        noisy: memorised labels.
    """
    names = list(held.changed)
    shapes = {name: held.changed[name].shape[1:] for name in names}
    ends = np.cumsum([math.prod(shape) for shape in shapes.values()])[:-1]

    def kept(means: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        parts = np.split(quotient(means[..., 1:], means[..., :1]), ends, axis=-1)
        return {
            name: part.reshape(*part.shape[:-1], *shapes[name]).mean(-1)
            for name, part in zip(names, parts, strict=True)
        }

    found: list[list[dict[str, NDArray[np.float64]]]] = []
    for of in (held, noisy):
        flat = [of.changed[name].reshape(len(of.intact), -1) for name in names]
        columns = np.concatenate([of.intact[:, None], *flat], 1)
        found.append([kept(columns.mean(0)), kept(resampled_means(columns, of.clusters, rng))])
    values, draws = ({name: found[0][i][name] - found[1][i][name] for name in names} for i in (0, 1))
    errors = {count: _errors(count, rng) for count in sorted({shape[0] for shape in shapes.values()})}
    resampled = {name: draws[name].mean(-1) + errors[len(values[name])] @ values[name] for name in names}
    method = bootstrap_method(held.clusters, noisy.clusters)
    return Areas(values, resampled, method, len(held.intact) + len(noisy.intact))


def levels_over_draws(
    hits: NDArray[np.float64], clusters: NDArray[np.int64], rng: np.random.Generator
) -> dict[str, list[float]]:
    """The share of hits at each place, mean over draws, with intervals that hold examples and draws.

    Args:
        hits: (n, draws, places) true or false.

    Returns:
        ``value``, ``ci_low`` and ``ci_high``, one number for each place.
    """
    data = np.asarray(hits, dtype=float)
    by_draw = data.mean(0)
    draws = resampled_means(data, clusters, rng).mean(1) + _errors(len(by_draw), rng) @ by_draw
    value = by_draw.mean(0)
    low, high = np.transpose([interval(np.clip(column, 0, 1)) for column in draws.T])
    bounds = {"ci_low": np.minimum(low, value), "ci_high": np.maximum(high, value)}
    return {"value": value.tolist(), **{name: end.tolist() for name, end in bounds.items()}}


def _errors(count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """(resamples, count) weights that make an error of the mean of so many draws out of their values."""
    if count < 2:
        return np.zeros((RESAMPLES, count))
    normal = rng.standard_normal((RESAMPLES, count))
    normal -= normal.mean(1, keepdims=True)
    scale: NDArray[np.float64] = np.sqrt(rng.chisquare(count - 1, (RESAMPLES, 1)) / (count - 1))
    return normal / scale / math.sqrt(count * (count - 1))
