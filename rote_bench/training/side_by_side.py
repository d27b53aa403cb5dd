"""The step of ``optimizers`` for several models at once, each at its own learning rate, on numbers side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .optimizers import MuonAdamW, orthogonalize

STATES = {"muon": ("momentum",), "adamw": ("first", "second")}


@dataclass
class _Part:
    """The parameters of K models that one rule updates: N numbers of each.

    Attributes:
        group: its number among the optimizers' groups.
        shapes: of the parameters, by name, in the order in which they lie side by side.
        values: (K, N).
        states: name -> (K, N), what the optimizer keeps.
    """

    group: int
    algorithm: str
    shapes: dict[str, torch.Size]
    values: Tensor
    states: dict[str, Tensor]

    def views(self, flat: Tensor) -> dict[str, Tensor]:
        """Name -> (K, *shape) of such numbers."""
        ends = torch.split(flat, [shape.numel() for shape in self.shapes.values()], dim=1)
        return {n: v.view(len(flat), *s) for (n, s), v in zip(self.shapes.items(), ends, strict=True)}


class SideBySide:
    """K models and their optimizers, whose weights and states become rows of a few large tensors.

    The models and optimizers stay whole: what they hold are views of those tensors, so that each can be evaluated,
    saved and restored as ever. ``release`` gives one its own again.

    Args:
        models, optimizers: of each, the optimizer in whatever state.
        learning: names of the parameters that get gradients.
    """

    def __init__(self, models: Sequence[nn.Module], optimizers: Sequence[MuonAdamW], learning: Sequence[str]) -> None:
        self.models, self.optimizers = list(models), list(optimizers)
        self.iterate_in = optimizers[0].iterate_in
        names = {id(p): name for name, p in models[0].named_parameters()}
        wanted, parts = set(learning), dict[Any, list[str]]()
        for number, group in enumerate(optimizers[0].param_groups):
            for p in group["params"]:
                if names[id(p)] in wanted:
                    parts.setdefault((number, group["algorithm"], p.dtype), []).append(names[id(p)])
        of_each = [dict(model.named_parameters()) for model in models]
        self.parts = [
            _Part(
                number,
                algorithm,
                {name: of_each[0][name].shape for name in members},
                _flat([[own[name].detach() for name in members] for own in of_each]),
                {
                    kind: _flat(
                        [
                            [optimizer.state[own[name]].get(kind, torch.zeros_like(own[name])) for name in members]
                            for own, optimizer in zip(of_each, optimizers, strict=True)
                        ]
                    )
                    for kind in STATES[algorithm]
                },
            )
            for (number, algorithm, _), members in parts.items()
        ]
        adam = next((part for part in self.parts if part.algorithm == "adamw"), None)
        first = None if adam is None else next(iter(adam.shapes))
        self.ages = [
            0 if first is None else int(optimizer.state[own[first]].get("step", 0))
            for own, optimizer in zip(of_each, optimizers, strict=True)
        ]
        self._bind()

    def _bind(self) -> None:
        """Let models and optimizers hold the numbers here."""
        of_each = [dict(model.named_parameters()) for model in self.models]
        for part in self.parts:
            values = part.views(part.values)
            states = {kind: part.views(flat) for kind, flat in part.states.items()}
            for name in part.shapes:
                for k, (own, optimizer) in enumerate(zip(of_each, self.optimizers, strict=True)):
                    own[name].data = values[name][k]
                    optimizer.state[own[name]].update({kind: views[name][k] for kind, views in states.items()})

    @property
    def weights(self) -> dict[str, Tensor]:
        """Name -> (K, *shape)."""
        return {name: view for part in self.parts for name, view in part.views(part.values).items()}

    @property
    def numbers(self) -> list[Tensor]:
        """All that a step changes."""
        return [each for part in self.parts for each in (part.values, *part.states.values())]

    def settings(self) -> Tensor:
        """(parts, 3, K) what the next step multiplies with, by the optimizers' learning rates, on the CPU.

        How much of the weights stays, the size of the update, and what divides the second moment.
        """
        rows = []
        for part in self.parts:
            stays, size, divisor = [], [], []
            for optimizer, age in zip(self.optimizers, self.ages, strict=True):
                group = optimizer.param_groups[part.group]
                lr, (beta1, beta2) = group["lr"], group["betas"]
                stays.append(1 - lr * group["weight_decay"])
                size.append(lr if part.algorithm == "muon" else lr / (1 - beta1 ** (age + 1)))
                divisor.append(math.sqrt(1 - beta2 ** (age + 1)))
            rows.append([stays, size, divisor])
        return torch.tensor(rows, dtype=torch.float32)

    def step(self, gradients: Mapping[str, Tensor], settings: Tensor, clip: float | None) -> None:
        """One step of all; ``stepped`` must be called after it, once for each time that it happened.

        Args:
            gradients: name -> (K, *shape).
            settings: those of ``settings()``, on the device.
            clip: the largest norm of all gradients of a model together.
        """
        with torch.no_grad():
            flats = [torch.cat([gradients[name].flatten(1) for name in part.shapes], 1) for part in self.parts]
            if clip is not None:
                norms = torch.stack([torch.linalg.vector_norm(flat, dim=1).float() for flat in flats])
                share = (clip / (torch.linalg.vector_norm(norms, dim=0) + 1e-6)).clamp(max=1.0)
                for flat in flats:
                    flat.mul_(share[:, None].to(flat.dtype))
            for part, flat, (stays, size, divisor) in zip(self.parts, flats, settings, strict=True):
                part.values.mul_(stays[:, None])
                group = self.optimizers[0].param_groups[part.group]
                if part.algorithm == "muon":
                    self._muon(part, flat, size, group["momentum"])
                else:
                    _adamw(part, flat, size, divisor, group)

    def _muon(self, part: _Part, gradient: Tensor, size: Tensor, momentum: float) -> None:
        buffer = part.states["momentum"]
        buffer.lerp_(gradient, 1 - momentum)
        updates, weights = part.views(gradient.lerp(buffer, momentum)), part.views(part.values)
        by_shape: dict[torch.Size, list[str]] = {}
        for name, shape in part.shapes.items():
            by_shape.setdefault(shape, []).append(name)
        for shape, members in by_shape.items():
            stacked = torch.stack([updates[name] for name in members])
            rows, columns = shape[-2:]
            factors = orthogonalize(stacked.reshape(-1, rows, columns).to(self.iterate_in)).reshape(stacked.shape)
            scale = size.view(-1, *(1 for _ in shape)) * math.sqrt(max(rows, columns) / min(rows, columns))
            for name, factor in zip(members, factors, strict=True):
                weights[name].sub_(factor.to(part.values.dtype) * scale.to(part.values.dtype))

    def stepped(self) -> None:
        """Count a step."""
        self.ages = [age + 1 for age in self.ages]

    def settle(self, k: int) -> None:
        """Let an optimizer know how many steps it has taken, which its state holds."""
        own = dict(self.models[k].named_parameters())
        for part in self.parts:
            if part.algorithm == "adamw":
                for name in part.shapes:
                    self.optimizers[k].state[own[name]]["step"] = self.ages[k]

    def release(self, members: Sequence[int]) -> None:
        """Let go of some: they keep their weights, which are their own again, and no optimizer's state."""
        for k in members:
            for p in self.models[k].parameters():
                p.data = p.data.clone()
            self.optimizers[k].state.clear()
        stay = [k for k in range(len(self.models)) if k not in members]
        self.models, self.optimizers = [self.models[k] for k in stay], [self.optimizers[k] for k in stay]
        self.ages = [self.ages[k] for k in stay]
        for part in self.parts:
            part.values = part.values[stay]
            part.states = {kind: flat[stay] for kind, flat in part.states.items()}
        self._bind()


def _flat(of_each: Sequence[Sequence[Tensor]]) -> Tensor:
    return torch.stack([torch.cat([part.flatten() for part in own]) for own in of_each])


def _adamw(part: _Part, gradient: Tensor, size: Tensor, divisor: Tensor, group: Mapping[str, Any]) -> None:
    (beta1, beta2), first, second = group["betas"], part.states["first"], part.states["second"]
    first.lerp_(gradient, 1 - beta1)
    second.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
    denominators = second.sqrt().div_(divisor[:, None]).add_(group["eps"])
    part.values.sub_(first / denominators * size[:, None])
