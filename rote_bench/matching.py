"""Which input pattern a unit follows, and units compared with others like them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

PARTS = 3  # of each layer's units, by each of the properties in which they should be alike
HIGHEST, LOWER = 0.1, 0.5  # the shares of units that are compared
LEAST_UNITS = 4  # in a bin, to compare any
LEVEL = 0.01  # of a unit's p over all families of patterns
NULL = 4000  # random sets of examples, for that p


@dataclass(frozen=True)
class Followed:
    """The pattern that each unit follows best.

    Attributes:
        lift: (units,) how much more common the pattern is among the unit's top examples than among all; empty where
            there are no patterns.
        family: (units,) the index of its family.
        families: their names.
        classified: (units,) whether the p over all families is below 0.01.
    """

    lift: NDArray[np.float64]
    family: NDArray[np.int64]
    families: Sequence[str]
    classified: NDArray[np.bool_]

    def counted(self, chosen: NDArray[np.bool_]) -> dict[str, int]:
        """Family -> how many of the chosen units follow a pattern of it best, the largest first."""
        counts = {name: int((chosen & (self.family == i)).sum()) for i, name in enumerate(self.families)}
        return dict(sorted(((k, v) for k, v in counts.items() if v), key=lambda item: -item[1]))


def followed(
    activations: NDArray[np.float32],
    table: NDArray[np.float32],
    names: Sequence[str],
    top: int,
    rng: np.random.Generator,
) -> Followed:
    """The pattern that stands out most among the examples on which each unit is most active (Nikankin et al., 2025).

    The null permutes which example has which patterns: a unit's top examples are then any of their number, whatever the
    unit, so that random sets of examples give it. Within a family of patterns the one that stands out most counts; p is
    corrected over families (Bonferroni).

    Args:
        activations: (n, units).
        table: (n, patterns) 0 or 1.
        names: of the patterns, ``family: pattern``.
        top: most active examples that are looked at.
    """
    n, units = activations.shape
    if not names:
        return Followed(np.zeros(0), np.zeros(units, dtype=np.int64), (), np.zeros(units, dtype=bool))
    of = [name.partition(": " if ": " in name else ":")[0] for name in names]
    families, top, prevalence = sorted(set(of)), min(top, n), table.mean(0)
    # A pattern must also cover enough of the top examples that a lift is no accident of a rare pattern.
    spread = np.sqrt(prevalence * (1 - prevalence) / top)

    def scores(chosen: NDArray[np.int64]) -> NDArray[np.float64]:
        """(sets, patterns), from (sets, top) examples."""
        picked = np.zeros((len(chosen), n), dtype=np.float32)
        np.put_along_axis(picked, chosen, 1, axis=1)
        out: NDArray[np.float64] = (picked @ table / top - prevalence) / spread
        return out

    random = np.argpartition(rng.random((max(NULL, 200 * len(families)), n)), top - 1, axis=1)[:, :top]
    null, observed = scores(random), scores(np.argsort(-activations, axis=0, kind="stable")[:top].T)
    p = np.empty((units, len(families)))
    for i, family in enumerate(families):
        some = [k for k, name in enumerate(of) if name == family]
        reached = np.sort(null[:, some].max(1))
        p[:, i] = (1 + len(reached) - np.searchsorted(reached, observed[:, some].max(1))) / (1 + len(reached))
    best = observed.argmax(1)
    share = observed[np.arange(units), best] * spread[best] + prevalence[best]
    return Followed(
        np.asarray(share / prevalence[best], dtype=float),
        np.array([families.index(of[i]) for i in best], dtype=np.int64),
        families,
        p.min(1) * len(families) < LEVEL,
    )


def matched_bins(
    layer: NDArray[np.int64], properties: Sequence[NDArray[np.float64]], live: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """(units,) the bin of each unit: its layer, and its third of that layer by every property.

    Units that are not live are bins of their own, -1 minus the layer.
    """
    out = -1 - layer
    for i in np.unique(layer):
        units = np.flatnonzero((layer == i) & live)
        code = np.full(len(units), i)
        for values in properties:
            rank = np.argsort(np.argsort(values[units], kind="stable"), kind="stable")
            code = code * PARTS + rank * PARTS // max(1, len(units))
        out[units] = code
    return np.asarray(out, dtype=np.int64)


def permuted_within(bins: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """(units,) for each unit a unit of its bin, each taken once."""
    out = np.empty(len(bins), dtype=np.int64)
    out[np.argsort(bins, kind="stable")] = np.lexsort((rng.random(len(bins)), bins))
    return out


@dataclass(frozen=True)
class Comparison:
    """The units of the highest scores beside like ones of low scores, as weights of a mean over units.

    Attributes:
        high: (units,) weights of the tenth of every bin with the highest scores, equal for all.
        low: (units,) weights of the lower half of every bin, so that bins count as much as in ``high``.
    """

    high: NDArray[np.float64]
    low: NDArray[np.float64]


def concentration(scores: NDArray[np.float64], bins: NDArray[np.int64]) -> Comparison:
    """The tenth of the units of every bin with the highest scores, and the half of it with the lowest.

    Ranks are those within a bin: where scores go with the layer, as they do, the highest of all units would have none
    like them among the lower half. A permutation of the scores within bins moves weights within bins: the null.
    """
    high, low = np.zeros(len(scores)), np.zeros(len(scores))
    for code in np.unique(bins[bins >= 0]):
        units = np.flatnonzero(bins == code)
        order = units[np.argsort(-scores[units], kind="stable")]
        if len(order) < LEAST_UNITS:
            continue
        top, rest = order[: max(1, round(HIGHEST * len(order)))], order[len(order) - round(LOWER * len(order)) :]
        high[top], low[rest] = 1, len(top) / len(rest)
    total = high.sum() or 1.0
    return Comparison(high / total, low / total)
