"""Running a model on short inputs while recording or editing what its modules return."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


def hidden_state(output: Any) -> Tensor:
    """The residual stream in whatever a module returns: a tensor, or the first float tensor of a container."""
    if isinstance(output, Tensor):
        return output
    values = output.values() if isinstance(output, Mapping) else output
    for value in values or ():
        if isinstance(value, Tensor) and value.is_floating_point():
            return value
    raise TypeError(f"no tensor in {type(output).__name__}")


def in_rows(state: Tensor, rows: Sequence[int]) -> Tensor:
    """(batch, length, width) from the (batch * length, width) in which some modules do their work."""
    flat = state.ndim == 2 and state.shape[0] == rows[0] * rows[1]
    return state.view(rows[0], rows[1], -1) if flat else state


def with_hidden_state(output: Any, state: Tensor) -> Any:
    """The same container with its residual stream replaced, in the shape that it had."""
    old = hidden_state(output)
    if old.ndim == 2 and state.numel() == old.numel():
        state = state.reshape(old.shape)
    if isinstance(output, Tensor):
        return state
    if isinstance(output, Mapping):
        key = next(k for k, v in output.items() if isinstance(v, Tensor) and v.is_floating_point())
        return type(output)(**{**output, key: state})
    items = list(output)
    at = next(i for i, v in enumerate(items) if isinstance(v, Tensor) and v.is_floating_point())
    items[at] = state
    return type(output)(*items) if hasattr(output, "_fields") else type(output)(items)


@dataclass(frozen=True)
class Check:
    """The outcome of one proof."""

    ok: bool
    detail: str


@dataclass
class Call:
    """One call of a module during a probe run."""

    path: str
    module: nn.Module
    order: int
    inputs: Tensor | None
    output: Tensor | None

    @property
    def tensor(self) -> Tensor:
        """The output, where one was seen."""
        assert self.output is not None
        return self.output


@contextmanager
def recorded(model: nn.Module, rows: Sequence[int]) -> Iterator[list[Call]]:
    """Record the first hidden-state-like input and output of every module call, in order of return."""
    calls: list[Call] = []

    def make(path: str) -> Callable[[nn.Module, tuple[Any, ...], dict[str, Any], Any], None]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            calls.append(Call(path, module, len(calls), _first([*args, *kwargs.values()], rows), _first(output, rows)))

        return hook

    handles = [m.register_forward_hook(make(p), with_kwargs=True) for p, m in model.named_modules() if p]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def _first(value: Any, rows: Sequence[int]) -> Tensor | None:
    try:
        return in_rows(hidden_state(value).detach().clone(), rows)  # some blocks go on to change it in place
    except TypeError:
        return None


@contextmanager
def edited(edits: Mapping[nn.Module, Callable[[Tensor], Tensor]]) -> Iterator[None]:
    """Apply a function to the output of each module."""

    def make(edit: Callable[[Tensor], Tensor]) -> Callable[[nn.Module, Any, Any], Any]:
        return lambda module, args, output: with_hidden_state(output, edit(hidden_state(output)))

    handles = [m.register_forward_hook(make(edit)) for m, edit in edits.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class Probe:
    """A model with two probe inputs and the comparisons that proofs need."""

    def __init__(self, model: nn.Module, vocab_size: int) -> None:
        self.model = model
        device = next(model.parameters()).device
        generator = torch.Generator().manual_seed(0)
        high = min(vocab_size, 10_000)
        self.ids = torch.randint(0, high, (2, 6), generator=generator).to(device)
        self.other = torch.randint(0, high, (2, 6), generator=generator).to(device)
        self.logits = self.run(self.ids)
        self.other_logits = self.run(self.other)
        dtype = next(model.parameters()).dtype
        self.relative = 64 * torch.finfo(dtype).eps if dtype.is_floating_point else 1e-2

    def run(self, ids: Tensor) -> Tensor:
        logits: Tensor = self.model(input_ids=ids).logits
        return logits

    def near(self, a: Tensor, b: Tensor) -> bool:
        if a.shape != b.shape:
            return False
        scale = float(b.abs().max()) + 1e-12
        return bool((a.float() - b.float()).abs().max() <= self.relative * scale)

    def distance(self, a: Tensor, b: Tensor) -> float:
        return float((a.float() - b.float()).abs().max())
