"""Linear readings of hidden states: probes by least squares, erasure of concepts in closed form and by iteration."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

RIDGE = 1e-3


@dataclass(frozen=True)
class Probes:
    """Least-squares classifiers, one for each of s sites and any number of targets.

    Attributes:
        weight: (s, width + 1, outputs), the last row being the bias.
        blocks: target name -> its columns among the outputs.
    """

    weight: Tensor
    blocks: dict[str, slice]

    def predict(self, states: Tensor, target: str) -> Tensor:
        """(n, s) predicted classes from states (n, s, width)."""
        scores = torch.einsum("nsd,sdk->nsk", with_bias(states), self.weight[..., self.blocks[target]])
        return scores.argmax(-1)


def with_bias(states: Tensor) -> Tensor:
    """States with a constant 1 appended: (..., width + 1)."""
    return torch.cat([states, torch.ones_like(states[..., :1])], -1)


def one_hot(classes: Tensor, count: int) -> Tensor:
    """(n, count) of 0 and 1."""
    return torch.nn.functional.one_hot(classes, count).to(torch.float32)


def fit_probes(states: Tensor, targets: dict[str, tuple[Tensor, int]]) -> Probes:
    """Ridge regression on one-hot targets, all sites and targets in one solve.

    Least squares on one-hot targets is linear discriminant analysis up to the prior (Hastie et al., 2009, 4.3), has a
    closed form and shares one factorisation among all targets of a site. The ridge makes the matrix positive definite,
    which asks for Cholesky's factorisation; the batched LU of some CPU builds of torch never ends with two threads.

    Args:
        states: (n, s, width).
        targets: name -> ((n,) classes, number of classes).
    """
    x = with_bias(states).transpose(0, 1)
    columns = {name: one_hot(classes, count) for name, (classes, count) in targets.items()}
    y = torch.cat(list(columns.values()), 1)
    gram = (x.mT @ x).double()
    scale = gram.diagonal(dim1=-2, dim2=-1).mean(-1)[:, None, None]
    identity = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    factor = torch.linalg.cholesky(gram + RIDGE * scale * identity)
    weight = torch.cholesky_solve((x.mT @ y).double(), factor).to(x.dtype)
    blocks, start = {}, 0
    for name, column in columns.items():
        blocks[name] = slice(start, start + column.shape[1])
        start += column.shape[1]
    return Probes(weight, blocks)


@dataclass(frozen=True)
class Readable:
    """Where a concept can be read.

    Attributes:
        places: names of the positions from the first on at which a probe reads it, in order.
        accuracy: (positions,) probe accuracy on the second half of the examples, for all positions given.
        chance: the share of the most frequent class, mean over concepts.
    """

    places: list[str]
    accuracy: Tensor
    chance: float


def readable_from(
    states: Tensor, places: dict[str, Tensor], targets: dict[str, tuple[Tensor, int]], margin: float = 0.1
) -> Readable:
    """The positions from the first on, in reading order, at which probes beat chance by a margin; at least the last.

    Args:
        states: (n, positions, width), positions in the order of ``places``.
        places: name -> (n,) token index.
        targets: name -> ((n,) classes, number of classes).
    """
    half = len(states) // 2
    probes = fit_probes(states[:half], {name: (classes[:half], count) for name, (classes, count) in targets.items()})
    hits = [probes.predict(states[half:], name) == classes[half:, None] for name, (classes, _) in targets.items()]
    accuracy = torch.stack([h.double().mean(0) for h in hits]).mean(0)
    chance = sum(float(c.bincount().max()) / len(c) for c, _ in targets.values()) / len(targets)
    names = list(places)
    order = sorted(range(len(names)), key=lambda i: float(places[names[i]].double().mean()))
    first = next((k for k, i in enumerate(order) if float(accuracy[i]) > chance + margin), len(order) - 1)
    return Readable([names[i] for i in order[first:]], accuracy, chance)


@dataclass(frozen=True)
class Eraser:
    """``x -> x - (x - mean) @ reads @ writes``: an oblique projection that takes a concept away.

    Attributes:
        reads: (width, rank), by which the concept is read.
        writes: (rank, width), the directions that are taken away.
        mean: (width,).
        variance: share of the states' variance that goes with them.
    """

    reads: Tensor
    writes: Tensor
    mean: Tensor
    variance: float

    @property
    def rank(self) -> int:
        """Number of directions removed."""
        return self.writes.shape[0]

    @property
    def removed(self) -> Tensor:
        """(width, width), applied from the right."""
        return self.reads @ self.writes

    def __call__(self, states: Tensor) -> Tensor:
        return states - self.part(states - self.mean)

    def part(self, differences: Tensor) -> Tensor:
        """What of differences (..., width) between states lies in the space that is removed."""
        return (differences @ self.reads) @ self.writes


class Whitened:
    """States at one place, with what all erasures fitted on them share: computed once, in float64.

    Args:
        x: (n, width) states.
    """

    def __init__(self, x: Tensor) -> None:
        data = x.double()
        self._dtype, self._mean = x.dtype, data.mean(0)
        self._centred = data - self._mean
        self._covariance = self._centred.T @ self._centred / len(data)
        self._values, self._vectors = torch.linalg.eigh(self._covariance)
        kept = self._values > 1e-7 * self._values[-1].clamp_min(1e-30)
        root = torch.where(kept, self._values, 0.0).sqrt()
        inverse = torch.where(kept, 1 / root.clamp_min(1e-30), 0.0)
        self._root = (self._vectors * root) @ self._vectors.T
        self._inverse = (self._vectors * inverse) @ self._vectors.T

    def leace(self, concept: Tensor) -> Eraser:
        """LEACE (Belrose et al., 2023): the smallest change after which no linear probe can read the concept.

        Args:
            concept: (n, classes), one-hot for a categorical concept; several concepts side by side are erased together.
        """
        return self.leaces(concept[None])[0]

    def leaces(self, concepts: Tensor) -> list[Eraser]:
        """As ``leace``, of each of several concepts (k, n, classes) by itself: all in one product."""
        k, n, classes = concepts.shape
        z = concepts.permute(1, 0, 2).reshape(n, k * classes).to(torch.float64)
        cross = self._inverse @ (self._centred.T @ (z - z.mean(0)) / n)
        u, s, _ = torch.linalg.svd(cross.reshape(-1, k, classes).permute(1, 0, 2), full_matrices=False)
        return [self._eraser(u[i][:, s[i] > 1e-3 * s[i, 0].clamp_min(1e-30)]) for i in range(k)]

    def random(self, like: Eraser, generator: torch.Generator) -> Eraser:
        """A random subspace of the same rank that takes away as much variance.

        Directions are drawn from a Gaussian whose covariance is a power of the states' own; the power is found by
        bisection so that the variance removed matches.
        """
        scaled = (self._values / self._values[-1]).clamp_min(1e-12)
        noise = torch.randn(len(scaled), like.rank, generator=generator, dtype=torch.float64).to(scaled.device)
        low, high = -2.0, 4.0
        basis = noise
        for _ in range(30):
            power = (low + high) / 2
            basis, _ = torch.linalg.qr(self._vectors @ (scaled.pow(power / 2)[:, None] * noise))
            share = self._share(self._inverse @ basis, basis.T @ self._root)
            low, high = (power, high) if share < like.variance else (low, power)
        return self._eraser(basis)

    def inlp(self, concept: Tensor, rounds: int) -> Eraser:
        """INLP (Ravfogel et al., 2020): fit a linear classifier, project its directions out, and again.

        Args:
            concept: (n, classes), one-hot; several concepts side by side are erased together.
            rounds: number of classifiers.
        """
        n, width = self._centred.shape
        identity = torch.eye(width, dtype=torch.float64, device=self._centred.device)
        keep = identity
        y = concept.double() - concept.double().mean(0)
        cross = self._centred.T @ y
        directions: list[Tensor] = []
        for _ in range(rounds):
            gram = keep @ (n * self._covariance) @ keep
            factor = torch.linalg.cholesky(gram + RIDGE * gram.diagonal().mean() * identity)
            u, s, _ = torch.linalg.svd(keep @ torch.cholesky_solve(keep @ cross, factor), full_matrices=False)
            found = u[:, s > 1e-3 * s[0].clamp_min(1e-30)]
            if sum(d.shape[1] for d in directions) + found.shape[1] >= width:
                break
            directions.append(found)
            basis, _ = torch.linalg.qr(torch.cat(directions, 1))
            keep = identity - basis @ basis.T
        basis, _ = torch.linalg.qr(torch.cat(directions, 1))
        return self._made(basis, basis.T)

    def _share(self, reads: Tensor, writes: Tensor) -> float:
        """Of all variance, what an eraser takes away."""
        read = reads.T @ self._covariance @ reads
        return float((read * (writes @ writes.T)).sum() / self._values.sum().clamp_min(1e-30))

    def _eraser(self, basis: Tensor) -> Eraser:
        """Remove the span of an orthonormal ``basis`` (width, rank) of whitened space."""
        return self._made(self._inverse @ basis, basis.T @ self._root)

    def _made(self, reads: Tensor, writes: Tensor) -> Eraser:
        dtype = self._dtype
        return Eraser(reads.to(dtype), writes.to(dtype), self._mean.to(dtype), self._share(reads, writes))


def fit_leace(x: Tensor, concept: Tensor) -> Eraser:
    """``Whitened.leace`` of states (n, width)."""
    return Whitened(x).leace(concept)


def fit_random(x: Tensor, like: Eraser, generator: torch.Generator) -> Eraser:
    """``Whitened.random`` of states (n, width)."""
    return Whitened(x).random(like, generator)


def fit_inlp(x: Tensor, concept: Tensor, rounds: int) -> Eraser:
    """``Whitened.inlp`` of states (n, width)."""
    return Whitened(x).inlp(concept, rounds)
