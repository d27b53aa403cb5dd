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
    """``x -> x - (x - mean) @ removed``: an oblique projection that takes a concept away.

    Attributes:
        removed: (width, width), applied from the right.
        mean: (width,).
        rank: number of directions removed.
        variance: share of the states' variance that goes with them.
    """

    removed: Tensor
    mean: Tensor
    rank: int
    variance: float

    def __call__(self, states: Tensor) -> Tensor:
        return states - (states - self.mean) @ self.removed


def _whitening(x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Mean, covariance, its square root and the pseudo-inverse of that, of states (n, width), in float64."""
    data = x.double()
    mean = data.mean(0)
    centred = data - mean
    covariance = centred.T @ centred / len(data)
    values, vectors = torch.linalg.eigh(covariance)
    kept = values > 1e-7 * values[-1].clamp_min(1e-30)
    root = torch.where(kept, values, 0.0).sqrt()
    inverse = torch.where(kept, 1 / root.clamp_min(1e-30), 0.0)
    return mean, covariance, (vectors * root) @ vectors.T, (vectors * inverse) @ vectors.T


def _eraser(x: Tensor, basis: Tensor, mean: Tensor, covariance: Tensor, root: Tensor, inverse: Tensor) -> Eraser:
    """Remove the span of an orthonormal ``basis`` (width, rank) of whitened space."""
    removed = inverse @ basis @ basis.T @ root
    variance = float(torch.trace(removed.T @ covariance @ removed) / torch.trace(covariance).clamp_min(1e-30))
    return Eraser(removed.to(x.dtype), mean.to(x.dtype), basis.shape[1], variance)


def fit_leace(x: Tensor, concept: Tensor) -> Eraser:
    """LEACE (Belrose et al., 2023): the smallest change after which no linear probe can read the concept.

    Args:
        x: (n, width) states.
        concept: (n, classes), one-hot for a categorical concept; several concepts side by side are erased together.
    """
    mean, covariance, root, inverse = _whitening(x)
    z = concept.double()
    cross = (x.double() - mean).T @ (z - z.mean(0)) / len(x)
    u, s, _ = torch.linalg.svd(inverse @ cross, full_matrices=False)
    basis = u[:, s > 1e-3 * s[0].clamp_min(1e-30)]
    return _eraser(x, basis, mean, covariance, root, inverse)


def fit_random(x: Tensor, like: Eraser, generator: torch.Generator) -> Eraser:
    """A random subspace of the same rank that takes away as much variance: the control of an erasure.

    Directions are drawn from a Gaussian whose covariance is a power of the states' own; the power is found by bisection
    so that the variance removed matches.
    """
    mean, covariance, root, inverse = _whitening(x)
    values, vectors = torch.linalg.eigh(covariance)
    scaled = (values / values[-1]).clamp_min(1e-12)
    noise = torch.randn(len(values), like.rank, generator=generator, dtype=torch.float64).to(x.device)
    low, high = -2.0, 4.0
    eraser = like
    for _ in range(30):
        power = (low + high) / 2
        basis, _ = torch.linalg.qr(vectors @ (scaled.pow(power / 2)[:, None] * noise))
        eraser = _eraser(x, basis, mean, covariance, root, inverse)
        low, high = (power, high) if eraser.variance < like.variance else (low, power)
    return eraser


def fit_inlp(x: Tensor, concept: Tensor, rounds: int) -> Eraser:
    """INLP (Ravfogel et al., 2020): fit a linear classifier, project its directions out, and again.

    Args:
        x: (n, width) states.
        concept: (n, classes), one-hot; several concepts side by side are erased together.
        rounds: number of classifiers.
    """
    data = x.double()
    mean = data.mean(0)
    centred = data - mean
    width = x.shape[1]
    keep = torch.eye(width, dtype=torch.float64, device=x.device)
    y = concept.double() - concept.double().mean(0)
    directions: list[Tensor] = []
    for _ in range(rounds):
        seen = centred @ keep
        gram = seen.T @ seen
        ridge = RIDGE * gram.diagonal().mean()
        factor = torch.linalg.cholesky(gram + ridge * torch.eye(width, device=x.device, dtype=torch.float64))
        weight = torch.cholesky_solve(seen.T @ y, factor)
        u, s, _ = torch.linalg.svd(keep @ weight, full_matrices=False)
        found = u[:, s > 1e-3 * s[0].clamp_min(1e-30)]
        if sum(d.shape[1] for d in directions) + found.shape[1] >= width:
            break
        directions.append(found)
        basis, _ = torch.linalg.qr(torch.cat(directions, 1))
        keep = torch.eye(width, dtype=torch.float64, device=x.device) - basis @ basis.T
    basis, _ = torch.linalg.qr(torch.cat(directions, 1))
    covariance = centred.T @ centred / len(data)
    removed = basis @ basis.T
    variance = float(torch.trace(removed.T @ covariance @ removed) / torch.trace(covariance).clamp_min(1e-30))
    return Eraser(removed.to(x.dtype), mean.to(x.dtype), basis.shape[1], variance)
