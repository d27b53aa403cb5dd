"""Probes and erasers against independent implementations."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, RidgeClassifier

from rote_bench.linear import fit_inlp, fit_leace, fit_probes, fit_random, one_hot

with warnings.catch_warnings():  # the reference implementation uses a decorator that torch has deprecated
    warnings.simplefilter("ignore")
    from concept_erasure import LeaceFitter


def clouds(classes: int = 5, width: int = 24, n: int = 1500, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Gaussian clouds, one per class, in a space with unequal variances."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes, (n,), generator=generator)
    centres = torch.randn(classes, width, generator=generator)
    scales = torch.logspace(0, -1.5, width)
    return centres[labels] * 0.8 * scales + torch.randn(n, width, generator=generator) * scales, labels


def readable(x: torch.Tensor, labels: torch.Tensor) -> float:
    half = len(x) // 2
    model = LogisticRegression(max_iter=2000).fit(x[:half].numpy(), labels[:half].numpy())
    return float(model.score(x[half:].numpy(), labels[half:].numpy()))


def test_probes_agree_with_scikit_learn() -> None:
    x, labels = clouds()
    both = torch.stack([x, x.roll(1, 1)], 1)
    probes = fit_probes(both[:1000], {"concept": (labels[:1000], 5), "other": (labels[:1000].roll(1), 5)})
    theirs = RidgeClassifier(alpha=1e-3 * 1000).fit(x[:1000].numpy(), labels[:1000].numpy())
    ours = probes.predict(both[1000:], "concept")
    agree = (ours[:, 0].numpy() == theirs.predict(x[1000:].numpy())).mean()
    assert agree > 0.97
    assert (ours[:, 0] == labels[1000:]).float().mean() > 0.6
    assert (probes.predict(both[1000:], "other")[:, 0] == labels[1000:].roll(1)).float().mean() < 0.4


def test_probes_of_wide_states_are_fitted_by_several_threads() -> None:
    x, labels = clouds(width=320, n=700)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        probes = fit_probes(torch.stack([x, -x], 1)[:500], {"concept": (labels[:500], 5)})
    finally:
        torch.set_num_threads(threads)
    design = torch.cat([x[:500], torch.ones(500, 1)], 1).double()
    penalty = 1e-3 * design.square().sum() / 321
    augmented = torch.cat([design, penalty.sqrt() * torch.eye(321, dtype=torch.float64)])
    wanted = torch.cat([one_hot(labels[:500], 5).double(), torch.zeros(321, 5, dtype=torch.float64)])
    expected = torch.linalg.lstsq(augmented, wanted).solution
    assert torch.allclose(probes.weight[0].double(), expected, atol=1e-4)
    assert torch.equal(probes.predict(torch.stack([x, -x], 1), "concept").diff(dim=1), torch.zeros(700, 1).long())


def test_leace_agrees_with_its_authors() -> None:
    x, labels = clouds()
    ours = fit_leace(x, one_hot(labels, 5))
    theirs = LeaceFitter.fit(x.double(), one_hot(labels, 5).double(), shrinkage=False).eraser
    assert ours.rank == 4
    assert torch.allclose(ours(x).double(), theirs(x.double()), atol=1e-3)


def test_after_leace_no_class_mean_differs_and_nothing_can_be_read() -> None:
    x, labels = clouds()
    erased = fit_leace(x, one_hot(labels, 5))(x)
    means = torch.stack([erased[labels == k].mean(0) for k in range(5)])
    assert (means - erased.mean(0)).abs().max() < 1e-4
    assert readable(x, labels) > 0.6
    assert readable(erased, labels) < float(labels.bincount().max()) / len(labels) + 0.08


def test_several_concepts_are_erased_together() -> None:
    x, labels = clouds()
    other = (x[:, 0] > 0).long()
    eraser = fit_leace(x, torch.cat([one_hot(labels, 5), one_hot(other, 2)], 1))
    assert eraser.rank == 5
    erased = eraser(x)
    majority = float(other.bincount().max()) / len(other)
    assert readable(erased, other) < majority + 0.08 < readable(x, other)


def test_the_random_control_has_equal_rank_and_variance_and_leaves_the_concept() -> None:
    x, labels = clouds(width=48)
    leace = fit_leace(x, one_hot(labels, 5))
    control = fit_random(x, leace, torch.Generator().manual_seed(3))
    assert control.rank == leace.rank
    assert control.variance == pytest.approx(leace.variance, abs=0.02)
    assert readable(control(x), labels) > readable(leace(x), labels) + 0.15


def test_inlp_removes_what_its_classifiers_read() -> None:
    x, labels = clouds()
    eraser = fit_inlp(x, one_hot(labels, 5), rounds=5)
    assert torch.allclose(eraser.removed @ eraser.removed, eraser.removed, atol=1e-5)
    assert readable(eraser(x), labels) < readable(x, labels) - 0.25


def test_erasing_moves_states_no_further_than_any_other_erasure() -> None:
    """LEACE is the least change in the metric of the covariance; here, against INLP's orthogonal projection."""
    x, labels = clouds()
    inverse = np.linalg.inv(np.cov(x.numpy().T, bias=True))

    def moved(eraser) -> float:  # type: ignore[no-untyped-def]
        d = (eraser(x) - x).double().numpy()
        return float(np.einsum("ni,ij,nj->n", d, inverse, d).mean())

    assert moved(fit_leace(x, one_hot(labels, 5))) <= moved(fit_inlp(x, one_hot(labels, 5), rounds=4)) + 1e-6
