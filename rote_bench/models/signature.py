"""How a model from elsewhere answers before it is trained, in a few numbers that are kept with the report.

Code can change where its hash does not see it: in hooks, in what closures hold, in objects of classes of one's own. A
cell that was made by such a model is not taken for done, resumed or diagnosed again, as the numbers are others then.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from .outside import copied, drawing, loss_of
from .wrapped import words_of

ROWS, DIRECTIONS = 2, 6
NEAR, COARSE = 1e-4, 3e-2  # of the norm, of float32 and of shorter weights: what another processor rounds is less
TINY = 1e-12


def signature(model: Any, length: int, *, trained: bool) -> tuple[float, ...]:
    """The norm of the logits of some random tokens and their projections on fixed directions; where it is trained, the
    norm of the loss's gradient, and its sum of sizes, too.

    Args:
        length: of the questions that it is asked, at least 2.
    """
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, min(words_of(model), 10_000), (ROWS, min(8, length)), generator=generator)
    ids = ids.to(next(model.parameters()).device)
    with torch.no_grad():
        logits = model(input_ids=ids).logits.double().cpu().flatten()
    norm = float(logits.norm())
    along = torch.randn(DIRECTIONS, len(logits), generator=generator, dtype=torch.float64) / len(logits) ** 0.5
    found = [norm, *(along @ logits).tolist()]
    if trained:
        found += _gradient(model, ids)
    return tuple(float(f"{number:.6g}") for number in found)


def _gradient(model: Any, ids: torch.Tensor) -> Iterator[float]:
    """Norm and sum of sizes of the gradient of a step in training mode, whose draws begin with a fixed seed."""
    own = copied(model).train()
    with drawing(0), torch.enable_grad():
        loss_of(own, ids).backward()  # type: ignore[no-untyped-call]
    gradients = [p.grad.double() for p in own.parameters() if p.grad is not None]
    yield float(sum(float(g.square().sum()) for g in gradients) ** 0.5)
    yield float(sum(float(g.abs().sum()) for g in gradients))


def alike(one: Sequence[float] | None, other: Sequence[float] | None, *, dtype: str = "float32") -> bool:
    """Whether two signatures are those of one model, as far as both are known.

    Args:
        dtype: of its weights.
    """
    if one is None or other is None:
        return True
    if len(one) != len(other):
        return False
    near = NEAR if dtype == "float32" else COARSE
    of_logits = max(one[0], other[0])
    pairs = list(zip(one, other, strict=True))
    sizes = [of_logits if i <= DIRECTIONS else max(pair) for i, pair in enumerate(pairs)]
    return all(abs(a - b) <= near * size + TINY for (a, b), size in zip(pairs, sizes, strict=True))
