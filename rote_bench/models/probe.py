"""Running a model on short inputs while recording or editing what its modules return."""

from __future__ import annotations

from collections import Counter
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
    """(batch, length, width) from the other layouts in which some architectures do their work.

    These are (batch * length, width), and several residual streams side by side, as (batch, length, streams, width)
    or (streams, batch, length, width); streams become one width.

    Raises:
        ValueError: when a layout can be read in two ways.
    """
    batch, length = rows
    if state.ndim == 2 and state.shape[0] == batch * length:
        return state.view(batch, length, -1)
    if state.ndim != 4:
        return state
    inner, outer = state.shape[:2] == (batch, length), state.shape[1:3] == (batch, length)
    if inner and outer:
        raise ValueError(f"{tuple(state.shape)} can be read in two ways; choose another batch size")
    if outer:
        state = state.permute(1, 2, 0, 3)
    return state.flatten(2) if inner or outer else state


def _as_it_was(state: Tensor, old: Tensor) -> Tensor:
    """``state`` as ``in_rows`` made it, in the layout of ``old``."""
    if state.shape == old.shape or state.numel() != old.numel():
        return state
    if old.ndim == 4 and old.shape[:2] != state.shape[:2]:
        streams, *rows, width = old.shape
        return state.reshape(*rows, streams, width).permute(2, 0, 1, 3)
    return state.reshape(old.shape)


def with_hidden_state(output: Any, state: Tensor) -> Any:
    """The same container with its residual stream replaced, in the shape that it had."""
    state = _as_it_was(state, hidden_state(output))
    if isinstance(output, Tensor):
        return state
    if isinstance(output, Mapping):
        key = next(k for k, v in output.items() if isinstance(v, Tensor) and v.is_floating_point())
        return type(output)(**{**output, key: state})
    items = list(output)
    at = next(i for i, v in enumerate(items) if isinstance(v, Tensor) and v.is_floating_point())
    items[at] = state
    return type(output)(*items) if hasattr(output, "_fields") else type(output)(items)


def input_of(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
    """What a module that takes one tensor was called with, by place or by name."""
    return next(v for v in (*args, *kwargs.values()) if isinstance(v, Tensor) and v.is_floating_point())


def with_input(args: tuple[Any, ...], kwargs: dict[str, Any], state: Tensor) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The same arguments with another such tensor."""
    before = input_of(args, kwargs)
    new = tuple(state if v is before else v for v in args)
    return new, {key: state if v is before else v for key, v in kwargs.items()}


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


class Turns:
    """Hooks that act at some of a module's calls within one run of a model, where it is called several times.

    Args:
        model: whose run begins the count anew.
    """

    def __init__(self, model: nn.Module) -> None:
        self._taken: Counter[int] = Counter()
        self._handles: list[Any] = [model.register_forward_pre_hook(lambda *_: self._taken.clear())]

    def on_output(self, module: nn.Module, hooks: Mapping[int, Callable[..., Any]]) -> None:
        """At each of the turns named, a forward hook."""
        self._handles.append(module.register_forward_hook(self._chosen(hooks)))

    def on_input(self, module: nn.Module, hooks: Mapping[int, Callable[..., Any]]) -> None:
        """At each of the turns named, a forward pre-hook that gets keywords too."""
        self._handles.append(module.register_forward_pre_hook(self._chosen(hooks), with_kwargs=True))

    def remove(self) -> None:
        """Take all of them away."""
        for handle in self._handles:
            handle.remove()

    def _chosen(self, hooks: Mapping[int, Callable[..., Any]]) -> Callable[..., Any]:
        own = len(self._handles)

        def hook(*given: Any) -> Any:
            turn = self._taken[own]
            self._taken[own] += 1
            return hooks[turn](*given) if turn in hooks else None

        return hook


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
