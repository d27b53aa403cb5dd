"""Linear probes beside scikit-learn's, and the erasure of a concept beside concept-erasure's.

    python -m benchmarks.probes [--rounds 5]

States are Gaussian with a mean for each class, as many as the diagnostics read. What comes out is held beside what the
others give: the accuracy of probes on other states, and the distance between erased states.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks.timing import Table, arguments, comparison, finish, take_turns
from rote_bench.linear import fit_leace, fit_probes, one_hot

PRODUCT = "product"


def made(states: int, width: int, classes: int, seed: int) -> tuple[Tensor, Tensor]:
    """(2 * states, width) states and their classes; the second half is for scoring."""
    generator = torch.Generator().manual_seed(seed)
    means = torch.randn(classes, width, generator=generator)
    labels = torch.randint(classes, (2 * states,), generator=generator)
    mixing = torch.randn(width, width, generator=generator) / width**0.5
    return 0.15 * means[labels] + torch.randn(2 * states, width, generator=generator) @ mixing, labels


def probes(rounds: int, states: int, width: int, classes: int) -> Table:
    """Fitting a probe, with the accuracy of each on as many other states."""
    from sklearn.linear_model import LogisticRegression, RidgeClassifier

    x, labels = made(states, width, classes, 0)
    rows, wanted = x[:states].numpy(), labels[:states].numpy()

    def product() -> Callable[[Tensor], Tensor]:
        found = fit_probes(x[:states, None], {"class": (labels[:states], classes)})
        return lambda other: found.predict(other[:, None], "class")[:, 0]

    def by(model: Any) -> Callable[[], Callable[[Tensor], Tensor]]:
        def fit() -> Callable[[Tensor], Tensor]:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # what has not converged is scored as it is
                fitted = model.fit(rows, wanted)
            return lambda other: torch.from_numpy(fitted.predict(other.numpy()))

        return fit

    ways = {
        PRODUCT: product,
        "scikit-learn, RidgeClassifier": by(RidgeClassifier()),
        "scikit-learn, LogisticRegression": by(LogisticRegression(max_iter=1000)),
    }
    right = {name: f"{float((way()(x[states:]) == labels[states:]).double().mean()):.3f}" for name, way in ways.items()}
    title = f"A linear probe of {classes} classes on {states} states of width {width}, one thread"
    return comparison(title, take_turns(ways, rounds), PRODUCT, more={"accuracy on others": right})


def erasure(rounds: int, states: int, width: int, classes: int) -> Table:
    """Fitting LEACE, with the distance of erased states from the product's."""
    from concept_erasure import LeaceFitter

    x, labels = made(states, width, classes, 1)
    x, concept = x[:states], one_hot(labels[:states], classes)

    def theirs() -> Any:
        return LeaceFitter.fit(x.double(), concept.double(), shrinkage=False, svd_tol=1e-3).eraser

    ours, other = fit_leace(x, concept)(x), theirs()(x.double()).float()
    distance = {PRODUCT: "0", "concept-erasure": f"{float((ours - other).abs().max()):.1e}"}
    seconds = take_turns({PRODUCT: lambda: fit_leace(x, concept), "concept-erasure": theirs}, rounds)
    title = f"LEACE of {classes} classes from {states} states of width {width}, one thread"
    return comparison(title, seconds, PRODUCT, more={"largest difference": distance})


def main() -> None:
    parser = arguments(__doc__, rounds=5)
    parser.add_argument("--states", type=int, default=2048)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--classes", type=int, default=24)
    options = parser.parse_args()
    torch.set_num_threads(1)
    sizes = (options.rounds, options.states, options.width, options.classes)
    finish(options, probes(*sizes), erasure(*sizes))


if __name__ == "__main__":
    main()
