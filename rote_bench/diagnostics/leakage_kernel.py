"""How far does a wrong label reach? What wrong labels cost held-out questions, by how near a mislabelled question is.

The cost is the error on a held-out question minus that of the twin, the same cell without wrong labels, on the very
same question. Near is said twice: by the task's own distance (``Task.distances``, between true answers), and by the
cosine of the twin's hidden states after its middle block, at the last token of the question. Neither knows of a wrong
label. Questions are ordered by their nearest mislabelled one, of equals by the next and so on, ten deep; those that are
equal then share their places.

Hard questions may lie in crowded regions, so both orders are compared with those in which as many training questions,
drawn at random, count as mislabelled (a permutation test as of Fisher, 1935). A look-up table gives a flat line, a
nearest-neighbour model (Cover and Hart, 1967) a steep one. Mallinar et al. (2022) ask what fitting noise costs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..measures import Measure
from ..statistics import Estimate, cluster_codes, mean, minus, proportion, with_draws
from ..statistics import mean as mean_of
from ..tasks.hooks import distances
from . import Details, Diagnostic, NotApplicable, Records, Result

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..models.anatomy import Anatomy
    from ..subject import Subject

GROUPS = 8  # equally many held-out questions each; two of them are a quarter
SHORT = 5  # characters of a number below the axis
DEPTH = 10  # mislabelled questions that are looked at
AXES = {"task": "leakage_kernel", "states": "leakage_kernel_states"}


@dataclass(frozen=True)
class LeakageKernelOptions:
    """How much is measured.

    Attributes:
        examples: largest number of held-out questions.
        permutations: draws of other training questions that count as mislabelled.
        states: largest number of held-out questions whose hidden states are compared.
        noisy: largest number of mislabelled questions with which they are.
        pool: largest number of training questions among which those are permuted.
    """

    examples: int = field(default=10_000, metadata={"min": 2 * GROUPS})
    permutations: int = field(default=20, metadata={"min": 20})
    states: int = field(default=5000, metadata={"min": 2 * GROUPS})
    noisy: int = field(default=384, metadata={"min": 1})
    pool: int = field(default=3072, metadata={"min": 2})


class LeakageKernel(Diagnostic[LeakageKernelOptions]):
    """Errors that the twin does not make, by distance to the nearest mislabelled question."""

    name = "leakage_kernel"
    version = 1
    description = "what wrong labels cost held-out questions, by how near a mislabelled question is"
    metrics: ClassVar[tuple[Measure, ...]] = (
        Measure(
            "leakage_kernel",
            "errors beyond the twin's on the nearest quarter minus on the farthest, by the task's distance to a"
            " mislabelled question, beyond chance",
            "validation",
        ),
        Measure(
            "leakage_kernel_states",
            "the same by the distance of hidden states in the twin",
            "validation",
        ),
    )
    Options: ClassVar[type] = LeakageKernelOptions
    passes = (9, 0)
    compares_twin = True

    def run(self, subject: Subject) -> Result:
        twin, noisy = subject.twin, len(subject.data.train.noisy)
        if noisy == 0:
            raise NotApplicable("no noisy labels at this noise rate")
        if twin is None:
            raise NotApplicable(subject.without_twin)
        n = min(self.options.examples, len(subject.data.validation))
        if n < 2 * GROUPS:
            raise NotApplicable(f"{n} held-out questions are too few for quarters")
        answers = subject.answers("validation")
        cost = twin.right[:n].astype(float) - answers.right[:n]
        orders = {
            "task": self._by_task(subject, n),
            "states": self._by_states(subject, twin.anatomy, min(n, self.options.states)),
        }
        examples = answers.view.labelled.examples[:n]
        records: dict[str, list[Any]] = {
            "index": list(answers.view.labelled.indices[:n]),
            "group": [e.group for e in examples],
            "cost": cost.tolist(),
        }
        details: dict[str, Any] = {
            "twin": twin.identity,
            "cost": float(cost.mean()),
            "noisy": noisy,
            "axes": {},
            "missing": {axis: order for axis, order in orders.items() if isinstance(order, str)},
        }
        for axis, order in orders.items():
            if not isinstance(order, str):
                details["axes"][axis] = self._axis(axis, order, cost, cluster_codes(records["group"]), records)
        if not details["axes"]:
            raise NotApplicable("; ".join(details["missing"].values()))
        return Result(self._found(details, records), details, records)

    def implied(self, details: Details, records: Records) -> Mapping[str, Estimate | float | None]:
        if records:
            return self._found(details, records)
        return {
            name: float(axis["quarters"] - np.mean(axis["draws"])) if (axis := details["axes"].get(key)) else None
            for key, name in AXES.items()
        }

    def _found(self, details: Details, records: Records) -> dict[str, Estimate]:
        found = {}
        for axis, name in AXES.items():
            if axis not in details["axes"]:
                found[name] = Estimate.missing(details["missing"][axis])
                continue
            kept = details["axes"][axis]
            draws = float(kept["quarters"]) - np.asarray(kept["draws"], dtype=float)
            rows = slice(int(kept["n"]))
            clusters = cluster_codes(records["group"][rows])
            estimate = with_draws(mean(records[axis][rows], clusters), draws)
            least = _unseen(records["cost"][rows], clusters)
            if least is not None and estimate.ci_low is not None and estimate.ci_high is not None:
                assert least.ci_low is not None and least.ci_high is not None
                low, high = min(least.ci_low, estimate.ci_low), max(least.ci_high, estimate.ci_high)
                estimate = replace(estimate, ci_low=low, ci_high=high)
            found[name] = estimate
        return found

    def _by_task(self, subject: Subject, n: int) -> Iterator[NDArray[np.float64]] | str:
        """(n, depth) distances to the nearest mislabelled questions, then those of each permutation; or why not."""
        train, rng = subject.data.train, subject.rng(f"{self.name}-task")
        drawn = [rng.choice(len(train), len(train.noisy), replace=False) for _ in range(self.options.permutations)]
        sets = [list(train.noisy), *(each.tolist() for each in drawn)]
        asked = subject.data.validation.indices[:n]
        found = distances(subject.task, train.indices, [e.answer for e in train.examples], asked, sets, DEPTH)
        return "the task has no distance between its questions, or too many of them" if found is None else iter(found)

    def _by_states(self, subject: Subject, anatomy: Anatomy | None, n: int) -> Iterator[NDArray[np.float64]] | str:
        """The same by 1 - cosine of the twin's states, to the nearest one alone."""
        import torch

        from ..interventions import Site, states_at

        if anatomy is None:
            return "the twin's model was not kept"
        support = anatomy.supports("block")
        if not support.ok:
            return f"the model's blocks could not be proved: {support.detail}"
        noisy = subject.noisy.true.rows(slice(min(self.options.noisy, len(subject.noisy))))
        clean = subject.more_clean(max(1, self.options.pool - len(noisy))).true
        site = [Site(max(0, anatomy.n_layers // 2 - 1), "block")]
        read = []
        for part in (subject.answers("validation").view.true.rows(slice(n)), noisy, clean):
            at = part.positions["last"].unsqueeze(1)
            ids = part.input_ids[:, : int(at.max()) + 1]  # what follows the question cannot be seen there
            states = states_at(anatomy, ids, site, at, batch_size=subject.batch_size)[:, 0, 0]
            read.append(torch.nn.functional.normalize(states, dim=-1))
        held, pool = read[0], torch.cat(read[1:])
        rng = subject.rng(f"{self.name}-states")
        drawn = [rng.choice(len(pool), len(noisy), replace=False) for _ in range(self.options.permutations)]
        sets = torch.tensor(np.array([np.arange(len(noisy)), *drawn]), device=pool.device)
        nearest = torch.empty(len(sets), n)
        for start in range(0, n, 1024):
            cosine = (held[start : start + 1024] @ pool.T).T.contiguous()
            for k, rows in enumerate(sets):
                nearest[k, start : start + 1024] = cosine[rows].amax(0).cpu()
        return iter(1 - nearest.double().numpy()[:, :, None])

    def _axis(
        self,
        axis: str,
        orders: Iterator[NDArray[np.float64]],
        cost: NDArray[np.float64],
        clusters: NDArray[np.int64],
        records: dict[str, list[Any]],
    ) -> dict[str, Any]:
        """What is kept of an order: lines by group, and in the records what each question adds to the scalar."""
        observed, distance, quarters, permuted = None, [0.0] * GROUPS, [], []
        everyone, own, parts = len(cost), 0.0, np.zeros(0)
        for near in orders:
            share = _groups(near)
            cost, clusters = cost[: len(near)], clusters[: len(near)]
            means = share.T @ cost / share.sum(0)
            of_quarters = (share[:, :2].sum(1), share[:, -2:].sum(1))
            ends = [float(weight @ cost / weight.sum()) for weight in of_quarters]
            linear = [len(cost) * w * (cost - m) / w.sum() for w, m in zip(of_quarters, ends, strict=True)]
            part = linear[0] - linear[1] + ends[0] - ends[1]
            if observed is None:
                values = [m + len(cost) * w * (cost - m) / w.sum() for w, m in zip(share.T, means, strict=True)]
                observed = [mean_of(each, clusters) for each in values]
                there = np.isfinite(near)
                most = float(np.max(near[there], initial=0.0))
                deep = np.where(there, near, most).mean(1)
                distance = (share.T @ deep / share.sum(0)).tolist()
                own, parts = ends[0] - ends[1], part
                continue
            permuted.append(means)
            quarters.append(ends[0] - ends[1])
            parts = parts - part / self.options.permutations
        assert observed is not None
        records[axis] = [*parts.tolist(), *[None] * (everyone - len(parts))]
        low, high = np.quantile(permuted, [0.025, 0.975], axis=0)
        return {
            "n": len(parts),
            "distance": distance,
            "observed": {key: [getattr(each, key) for each in observed] for key in ("value", "ci_low", "ci_high")},
            "permuted": {
                "value": np.mean(permuted, 0).tolist(),
                "ci_low": low.tolist(),
                "ci_high": high.tolist(),
            },
            "quarters": own,
            "draws": quarters,
        }

    @staticmethod
    def series(details: Details) -> Details:
        lines = ("observed", "permuted")
        return {"axes": {axis: {key: kept[key]["value"] for key in lines} for axis, kept in details["axes"].items()}}

    @staticmethod
    def draw(details: Details, path: Path) -> bool:
        """Errors beyond the twin's by how near a mislabelled question is, with the band of permuted positions."""
        from ..report import figures

        axes_of = details["axes"]
        names = {"task": "near in the task", "states": "near in the hidden states of the model without wrong labels"}
        with figures.drawing(path, len(axes_of), 1.2 + 4.4 * len(axes_of), 4.2) as (figure, axes):
            for ax, (axis, kept) in zip(axes, axes_of.items(), strict=True):
                x = list(range(1, GROUPS + 1))
                figures.line(
                    ax, x, kept["permuted"], figures.GREY, "as many random questions taken for mislabelled", "--", "s"
                )
                figures.line(ax, x, kept["observed"], figures.MEMORISED, "the mislabelled questions themselves")
                ax.axhline(0, color=figures.GREY, linewidth=0.8)
                ticks = ["nearest", *[""] * (GROUPS - 2), "farthest"]
                far = [f"{value:.2g}" for value in kept["distance"]]
                small = 7.0 if max(map(len, far)) > SHORT else None
                ax.set_xticks(x, [f"{name}\n{value}" for name, value in zip(ticks, far, strict=True)], fontsize=small)
                ax.set_xlabel(
                    "eighths of the held-out questions, and their mean distance\nto the nearest mislabelled ones"
                )
                figures.panel(ax, names[axis])
            axes[0].set_ylabel("errors that the model without\nwrong labels does not make")
            figures.legend(figure, axes[0], 2 if len(axes_of) > 1 else 1)
            figures.title(figure, _sentence(details))
        return True


def _sentence(details: Details) -> str:
    from ..report.figures import percent

    axis = next(iter(details["axes"].values()))
    value = axis["observed"]["value"]
    near, far = ((value[a] + value[b]) / 2 for a, b in ((0, 1), (-2, -1)))
    return (
        f"Wrong labels cost {percent(near)} of the answers to the held-out questions that lie nearest to a mislabelled"
        f" one, and {percent(far)} of the answers to the farthest (a quarter each)"
    )


def _groups(near: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, groups) the part of each question in each group, by its distances (n, depth), compared one after the other.

    Questions that are equal in all of them share their places.
    """
    n = len(near)
    order = np.lexsort(near.T[::-1])
    member = np.zeros((n, GROUPS))
    member[np.arange(n), np.arange(n) * GROUPS // n] = 1.0
    ordered = near[order]
    starts = np.flatnonzero(np.r_[True, (ordered[1:] != ordered[:-1]).any(1)])
    lengths = np.diff(np.r_[starts, n])
    shared = np.add.reduceat(member, starts, axis=0) / lengths[:, None]
    out = np.empty((n, GROUPS))
    out[order] = np.repeat(shared, lengths, axis=0)
    return out


def _unseen(cost: Sequence[float], clusters: NDArray[np.int64]) -> Estimate | None:
    """What could be there where no question costs anything, of which nothing shows; None elsewhere."""
    if any(cost):
        return None
    quarter = proportion(np.zeros(max(1, len(cost) // 4)), clusters[: max(1, len(cost) // 4)])
    return minus(quarter, quarter)
