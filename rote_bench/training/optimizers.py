"""Muon for hidden matrices and AdamW for everything else, as one optimizer.

Muon (Jordan et al., 2024) replaces the momentum of a matrix by its nearest semi-orthogonal matrix, found by a
Newton-Schulz iteration. Matrices of one shape are iterated together, which is what makes it cheap at small widths.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..models.lora import is_adapted

# The best odd quintics, one after the other, that pull singular values from [0.02, 1] towards 1: each minimises the
# largest error on the interval that the one before leaves (Amsel et al., 2025). Three of them leave 9 percent.
COEFFICIENTS = ((7.7110, -22.1138, 16.2487), (3.2153, -2.4112, 0.5013), (2.2183, -1.5940, 0.4107))
# From this shorter side on, and with the other side so many times as long, the last two are taken on the Gram matrix:
# there Muon is a third of a step. For smaller matrices it is a tenth, and numbers stay as they were.
WIDE, OBLONG = 512, 2


def orthogonalize(matrices: Tensor) -> Tensor:
    """The semi-orthogonal factor of each matrix, approximately, by Newton-Schulz iterations.

    Matrices are first scaled by the fourth root of the sum of their singular values' fourth powers, a bound on the
    largest one that is tighter than the Frobenius norm and comes from the Gram matrix of the first iteration.

    Args:
        matrices: (batch, rows, columns), in the arithmetic to iterate in; bfloat16 is enough.
    """
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    gram = x @ x.mT
    bound = gram.float().norm(dim=(-2, -1), keepdim=True).clamp_min(1e-20) * 1.02
    x, gram = x / bound.sqrt().to(x.dtype), gram / bound.to(x.dtype)
    rows, columns = x.shape[-2:]
    if rows >= WIDE and columns >= OBLONG * rows:
        x = _iterate_on_gram(x, gram)
    else:
        for i, (a, b, c) in enumerate(COEFFICIENTS):
            if i:
                gram = x @ x.mT
            x = torch.baddbmm(x, _even(gram, b, c), x, beta=a)
    return x.mT if tall else x


def _iterate_on_gram(x: Tensor, gram: Tensor) -> Tensor:
    """The same iteration with fewer multiplications by a matrix that is much longer than it is high.

    After the first polynomial, and a Gram matrix of what that leaves, the next Gram matrix follows from the last one,
    and the product of the remaining polynomials multiplies the matrix once. The first one stands alone because it
    lifts small singular values eightfold: rounded together with the others, they would drown in the large ones. For
    the same reason each polynomial is kept without its constant, which a sum can do exactly.
    """
    (a, b, c), (following, *coefficients), *others = COEFFICIENTS
    x = torch.baddbmm(x, _even(gram, b, c), x, beta=a)
    gram = x @ x.mT
    rest = product = _even(gram, *coefficients)
    constant = following
    for a, b, c in others:
        for _ in range(2):
            gram = torch.baddbmm(gram, rest, gram, beta=following)
        following, rest = a, _even(gram, b, c)
        product = torch.baddbmm(product, rest, product, beta=a).add_(rest, alpha=constant)
        constant *= a
    return torch.baddbmm(x, product, x, beta=constant)


def _even(gram: Tensor, b: float, c: float) -> Tensor:
    """What a polynomial with these coefficients multiplies the matrix of a Gram matrix by, without its constant."""
    return torch.baddbmm(gram, gram, gram, beta=b, alpha=c)


class MuonAdamW(torch.optim.Optimizer):
    """Each parameter group names its ``algorithm``, ``muon`` or ``adamw``, and its ``base_lr`` before scheduling.

    Args:
        iterate_in: arithmetic of Muon's iteration. bfloat16 is enough, but takes several times as long as float32 on
            processors that have no instructions for it.
    """

    def __init__(self, groups: Sequence[dict[str, Any]], iterate_in: torch.dtype = torch.bfloat16) -> None:
        self.iterate_in = iterate_in
        super().__init__(groups, {"lr": 0.0, "weight_decay": 0.0, "momentum": 0.95, "betas": (0.9, 0.98), "eps": 1e-8})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if not parameters:
                continue
            if group["lr"] and group["weight_decay"]:
                torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
            if group["algorithm"] == "muon":
                self._muon(parameters, group)
            else:
                for together in self._by_age(parameters):
                    self._adamw(together, group)

    def _muon(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        gradients = [p.grad for p in parameters if p.grad is not None]
        for p in parameters:
            if "momentum" not in self.state[p]:
                self.state[p]["momentum"] = torch.zeros_like(p)
        buffers = [self.state[p]["momentum"] for p in parameters]
        torch._foreach_lerp_(buffers, gradients, 1 - group["momentum"])
        updates = torch._foreach_lerp(gradients, buffers, group["momentum"])
        by_shape: dict[tuple[int, ...], list[int]] = {}
        for i, p in enumerate(parameters):
            by_shape.setdefault(tuple(p.shape), []).append(i)
        for shape, members in by_shape.items():
            stacked = torch.stack([updates[i] for i in members])
            rows, columns = shape[-2:]
            factors = orthogonalize(stacked.reshape(-1, rows, columns).to(self.iterate_in)).reshape(stacked.shape)
            scale = -group["lr"] * math.sqrt(max(rows, columns) / min(rows, columns))
            for i, factor in zip(members, factors, strict=True):
                parameters[i].add_(factor.to(parameters[i].dtype), alpha=scale)

    def _by_age(self, parameters: Sequence[Tensor]) -> list[list[Tensor]]:
        """Parameters by how many steps they have taken: some get their first gradient late."""
        out: dict[int, list[Tensor]] = {}
        for p in parameters:
            out.setdefault(self.state[p].get("step", 0), []).append(p)
        return list(out.values())

    def _adamw(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        """A step of parameters that have taken equally many."""
        gradients = [p.grad for p in parameters if p.grad is not None]
        beta1, beta2 = group["betas"]
        for p in parameters:
            if "step" not in self.state[p]:
                self.state[p].update(step=0, first=torch.zeros_like(p), second=torch.zeros_like(p))
            self.state[p]["step"] += 1
        first = [self.state[p]["first"] for p in parameters]
        second = [self.state[p]["second"] for p in parameters]
        torch._foreach_lerp_(first, gradients, 1 - beta1)
        torch._foreach_mul_(second, beta2)
        torch._foreach_addcmul_(second, gradients, gradients, 1 - beta2)
        steps = self.state[parameters[0]]["step"]
        denominators = torch._foreach_sqrt(second)
        torch._foreach_div_(denominators, math.sqrt(1 - beta2**steps))
        torch._foreach_add_(denominators, group["eps"])
        torch._foreach_addcdiv_(parameters, first, denominators, -group["lr"] / (1 - beta1**steps))


def make_optimizer(
    model: nn.Module,
    *,
    kind: Literal["muon", "adamw"],
    muon_lr: float,
    adam_lr: float,
    weight_decay: float,
    precision: str = "bfloat16",
) -> MuonAdamW:
    """An optimizer over the trainable parameters of a model.

    With ``muon``, every matrix (and every stack of matrices, such as fused experts) except the embeddings and the
    unembedding gets Muon at ``muon_lr``; everything else gets AdamW at ``adam_lr``. A Muon step has the spectral norm
    ``muon_lr * sqrt(longer side / shorter side)``, so that one learning rate serves all widths (Bernstein and
    Newhouse, 2024; Yang et al., 2023). The two factors of an adapter get AdamW: it is the norm of their product that a
    step of Muon would bound. Muon iterates in ``precision``, ``float32`` or ``bfloat16``.
    """
    embeddings = {
        id(module.weight)
        for getter in ("get_input_embeddings", "get_output_embeddings")
        if (module := getattr(model, getter, lambda: None)()) is not None and hasattr(module, "weight")
    }
    embeddings |= {id(p) for m in model.modules() if isinstance(m, nn.Embedding) for p in m.parameters()}
    whole = not is_adapted(model)
    hidden: list[Tensor] = []
    rest: list[Tensor] = []
    for p in model.parameters():
        if p.requires_grad:
            matrix = whole and p.ndim >= 2 and min(p.shape[-2:]) > 1 and id(p) not in embeddings
            (hidden if kind == "muon" and matrix else rest).append(p)
    groups = []
    if hidden:
        groups.append(
            {"params": hidden, "algorithm": "muon", "base_lr": muon_lr, "lr": muon_lr, "weight_decay": weight_decay}
        )
    if rest:
        groups.append(
            {"params": rest, "algorithm": "adamw", "base_lr": adam_lr, "lr": adam_lr, "weight_decay": weight_decay}
        )
    return MuonAdamW(groups, torch.float32 if precision == "float32" else torch.bfloat16)
