"""What state-space models spend their time on, made fast on processors.

Without the kernels of accelerators transformers computes a selective scan by a loop that keeps every product of it in
memory, or by products over every state of a chunk, and a short depthwise convolution as a general one. The functions
here give the same numbers to rounding; a training step of Mamba or Mamba-2 takes a quarter to a third of the time
(``python -m benchmarks.training_step --model mamba-nano --choices``).
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

_REPLACED: dict[tuple[str, str], Callable[..., Any]] = {}
"""Module and name of each function that was replaced, and the function."""

_EVERYWHERE: list[bool] = []
"""Holds something while ``everywhere`` is in force."""

STATES = 1 << 23
"""Numbers of states worked on at once; fewer cost more calls, more leave the caches."""


def quicken(model: torch.nn.Module) -> None:
    """Let the modules of transformers that define a model call the functions here.

    Tensors on accelerators, and compilation by ``torch.compile``, still go to what was there before. Models without
    state space are left alone, and a second call changes nothing.
    """
    for namespace in namespaces(model):
        for name, fast, serves in (
            ("mamba_selective_scan", selective_scan, _always),
            ("causal_conv1d_fn", causal_convolution, _always),
            ("mamba2_chunk_scan", short_scan, _is_short),
        ):
            general = namespace.get(name)
            if general is not None and not hasattr(general, "quickened"):
                _REPLACED[namespace["__name__"], name] = general
                namespace[name] = _quickened(fast, general, serves)


@contextmanager
def everywhere() -> Iterator[None]:
    """Meanwhile go accelerators through the functions here too, which hold for several models at once."""
    _EVERYWHERE.append(True)
    try:
        yield
    finally:
        _EVERYWHERE.pop()


@contextmanager
def as_before() -> Iterator[None]:
    """Put back, at the end, the functions that ``quicken`` replaces meanwhile; models go on with those."""
    earlier = set(_REPLACED)
    try:
        yield
    finally:
        for module, name in set(_REPLACED) - earlier:
            setattr(sys.modules[module], name, _REPLACED.pop((module, name)))


def keep_from_compiler(model: torch.nn.Module) -> None:
    """Leave the functions put there by ``quicken`` out of what ``torch.compile`` makes: theirs would be slower."""
    for namespace in namespaces(model):
        for name, function in list(namespace.items()):
            if hasattr(function, "quickened"):
                namespace[name] = torch.compiler.disable(function)  # type: ignore[no-untyped-call]


def namespaces(model: torch.nn.Module) -> list[dict[str, Any]]:
    """What the modules of transformers hold that define the parts of a model."""
    sources = {type(module).__module__ for module in model.modules()}
    return [vars(sys.modules[source]) for source in sorted(sources) if source.startswith("transformers.")]


def _always(_: Tensor, **__: Any) -> bool:
    return True


def _is_short(hidden_states: Tensor, *, chunk_size: int = 0, **kwargs: Any) -> bool:
    """Whether all positions fit into one chunk, within which the general scan is an attention too, without states."""
    states = kwargs.get("initial_states") is not None or kwargs.get("return_final_states")
    return hidden_states.shape[1] <= chunk_size and not states


def _quickened(
    fast: Callable[..., Any], general: Callable[..., Any], serves: Callable[..., bool]
) -> Callable[..., Any]:
    """The fast function in several models at once, and in one alone on a processor where it ``serves``."""

    @wraps(general)
    def call(hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        wanted = bool(_EVERYWHERE) or (hidden_states.device.type == "cpu" and serves(hidden_states, **kwargs))
        chosen = fast if wanted and not torch.compiler.is_compiling() else general
        return chosen(hidden_states, *args, **kwargs)

    call.quickened = True  # type: ignore[attr-defined]
    return call


def causal_convolution(
    hidden_states: Tensor, weight: Tensor, bias: Tensor | None = None, activation: str | None = None, **_: Any
) -> Tensor:
    """Each channel's convolution over the present and the preceding positions, and an activation.

    Args:
        hidden_states: (batch, channels, positions).
        weight: (channels, width); the last column weighs the present.
        bias: (channels,).
        activation: its name in transformers.

    Returns:
        A tensor of the shape and type of ``hidden_states``.
    """
    from transformers.activations import ACT2FN

    width, length = weight.shape[-1], hidden_states.shape[-1]
    padded = F.pad(hidden_states.to(weight.dtype).transpose(1, 2), (0, 0, width - 1, 0))
    out = padded[:, :length] * weight[:, 0]
    for j in range(1, width):
        out = torch.addcmul(out, padded[:, j : j + length], weight[:, j])
    if bias is not None:
        out = out + bias
    if activation is not None:
        out = ACT2FN[activation](out)
    return out.to(hidden_states.dtype).transpose(1, 2)


def selective_scan(
    hidden_states: Tensor,
    dt: Tensor,
    A: Tensor,  # noqa: N803 - the names are those of the function replaced
    B: Tensor,  # noqa: N803
    C: Tensor,  # noqa: N803
    D: Tensor | None = None,  # noqa: N803
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    return_last_state: bool = False,
    **_: Any,
) -> Any:
    """The selective scan of Gu and Dao (2023), section 3: h_t = exp(A dt_t) h_(t-1) + dt_t B_t x_t and y_t = C_t h_t.

    Args:
        hidden_states: x, (batch, channels, positions).
        dt: step sizes, (batch, channels, positions); ``delta_bias`` (channels,) is added and, if ``delta_softplus``,
            softplus taken.
        A: (channels, states).
        B, C: (batch, states, positions).
        D: weight of the input that skips the scan, (channels,).
        z: gate, (batch, channels, positions).
        return_last_state: whether the states after the last position are wanted too.

    Returns:
        y, (batch, channels, positions), or (y, the last states in float32, (batch, channels, states)).
    """
    kind = hidden_states.dtype
    if delta_bias is not None:
        dt = dt + delta_bias.to(dt.dtype)[..., None]
    if delta_softplus:
        dt = F.softplus(dt)
    x, steps, into, out_of = (part.float().transpose(1, 2).contiguous() for part in (hidden_states, dt, B, C))
    y, last = _Scan.apply(x, steps, A.float().t().contiguous(), into, out_of)  # type: ignore[no-untyped-call]
    scanned = y.to(kind).transpose(1, 2)
    if D is not None:
        scanned = scanned + hidden_states * D[None, :, None]
    if z is not None:
        scanned = scanned * F.silu(z)
    return (scanned, last.transpose(1, 2)) if return_last_state else scanned


def short_scan(
    hidden_states: Tensor,
    dt: Tensor,
    A: Tensor,  # noqa: N803 - the names are those of the function replaced
    B: Tensor,  # noqa: N803
    C: Tensor,  # noqa: N803
    chunk_size: int,
    D: Tensor | None = None,  # noqa: N803
    dt_bias: Tensor | None = None,
    dt_softplus: bool = False,
    dt_limit: tuple[float, float] = (0.0, math.inf),
    **unused: Any,
) -> Tensor:
    """The scan of Mamba-2 (Dao and Gu, 2024) as attention, all positions at once, for the few that a question has.

    Numbers grow with the square of the positions, and no states are made: nothing may follow later.

    Args:
        hidden_states: (batch, positions, heads, width).
        dt: step sizes, (batch, positions, heads); ``dt_bias`` (heads,) is added and, if ``dt_softplus``, softplus
            taken, and the result kept within ``dt_limit``.
        A: (heads,).
        B, C: (batch, positions, groups, states).
        D: weight of the input that skips the scan, (heads,).

    Returns:
        (batch, positions, heads, width), in float32.

    Raises:
        ValueError: when states are handed in or wanted.
    """
    if unused.get("initial_states") is not None or unused.get("return_final_states"):
        raise ValueError("makes no states: set use_cache to False")
    if dt_bias is not None:
        dt = dt + dt_bias.to(dt.dtype)
    if dt_softplus:
        dt = F.softplus(dt)
    dt = dt.clamp(*dt_limit).float()
    x, length, heads = hidden_states.float(), dt.shape[1], dt.shape[2]
    passed = (A.float() * dt).transpose(1, 2).cumsum(-1)  # (batch, heads, positions)
    later = torch.ones(length, length, dtype=torch.bool, device=dt.device).triu(1)
    left = (passed[..., None] - passed[..., None, :]).masked_fill(later, -math.inf).exp()
    scores = torch.einsum("blgn,bsgn->bgls", C.float(), B.float())
    weights = left * scores.repeat_interleave(heads // scores.shape[1], 1, output_size=heads)
    y = torch.einsum("bhls,bshp->blhp", weights, x * dt[..., None])
    return (y if D is None else y + D[:, None] * x).contiguous()


class _Scan(torch.autograd.Function):
    """The recurrence over contiguous channels, a part of the batch at a time; states are made anew for the gradients.

    Shapes: x and dt (batch, positions, channels), a (states, channels), b and c (batch, positions, states). exp is
    taken as a power of two, which torch computes in two thirds of the time.
    """

    @staticmethod
    def forward(x: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        return _scan(x, dt, a, b, c)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor]) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor, grad_last: Tensor) -> Any:
        return _ScanGradient.apply(*ctx.saved_tensors, grad_y, grad_last)  # type: ignore[no-untyped-call]

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *inputs: Tensor) -> tuple[Any, tuple[int, ...]]:
        return _of_several(_scan, info.batch_size, in_dims, inputs), (0, 0)


class _ScanGradient(torch.autograd.Function):
    """The gradients of ``_Scan``; a function of its own, so that those of several models can be taken at once."""

    @staticmethod
    def forward(*inputs: Tensor) -> tuple[Tensor, ...]:
        return _scan_gradient(*inputs)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, ...]) -> None:
        pass

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        raise NotImplementedError("the scan of a state-space model has no second derivative")

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *inputs: Tensor) -> tuple[Any, tuple[int, ...]]:
        return _of_several(_scan_gradient, info.batch_size, in_dims, inputs), (0,) * 5


def _of_several(
    function: Callable[..., tuple[Tensor, ...]], count: int, dims: Sequence[int | None], inputs: Sequence[Tensor]
) -> tuple[Tensor, ...]:
    """The scan, or its gradients, of several models: one after the other on a processor, elsewhere all rows at once."""
    parts = [
        (part.expand(count, *part.shape) if at is None else part.movedim(at, 0)).contiguous()
        for part, at in zip(inputs, dims, strict=True)
    ]
    if parts[0].device.type == "cpu":
        of_each = [function(*own) for own in zip(*parts, strict=True)]
        return tuple(torch.stack(own) for own in zip(*of_each, strict=True))
    return _rows_together(function, parts)


def _rows_together(function: Callable[..., tuple[Tensor, ...]], parts: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """As ``_of_several``, by one call in which every row has the ``a`` of its model."""
    count, batch = parts[0].shape[:2]
    rows = [part.flatten(0, 1) for part in parts]
    rows[2] = parts[2].repeat_interleave(batch, 0, output_size=count * batch)
    out = [part.view(count, batch, *part.shape[1:]) for part in function(*rows)]
    if len(out) > 2:
        out[2] = out[2].sum(1)
    return tuple(out)


def _scan(x: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """y and the last states; ``a`` may also be (batch, states, channels)."""
    moved, rates = x * dt, a / math.log(2)
    y, last = torch.empty_like(x), x.new_empty(len(x), *a.shape[-2:])
    with torch.autocast(x.device.type, enabled=False):
        for part in _parts(x, a):
            rate = rates if a.ndim == 2 else rates[part]
            state = last[part].zero_()
            decay = torch.empty_like(state)
            for t in range(x.shape[1]):
                if t:
                    state.mul_(torch.mul(rate, dt[part, t, None], out=decay).exp2_())
                state.addcmul_(b[part, t, :, None], moved[part, t, None])
                y[part, t] = torch.bmm(c[part, t, None], state)[:, 0]
    return y, last


def _scan_gradient(
    x: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor, grad_y: Tensor, grad_last: Tensor
) -> tuple[Tensor, ...]:
    """The gradients of x, dt, a, b and c, each of the shape of what it belongs to."""
    moved, rates = x * dt, a / math.log(2)
    grad_moved, grad_dt = torch.empty_like(x), torch.zeros_like(x)
    grad_a, grad_b, grad_c = torch.zeros_like(a), torch.empty_like(b), torch.empty_like(c)
    length = x.shape[1]
    with torch.autocast(x.device.type, enabled=False):
        for part in _parts(x, a):
            rate, own = (rates, a) if a.ndim == 2 else (rates[part], a[part])
            grad = grad_last[part].clone()
            states = x.new_empty(length, *grad.shape)
            decays = torch.empty_like(states)
            of_a = torch.zeros_like(grad)
            for t in range(length):
                torch.mul(b[part, t, :, None], moved[part, t, None], out=states[t])
                if t:
                    torch.mul(rate, dt[part, t, None], out=decays[t]).exp2_()
                    states[t].addcmul_(decays[t], states[t - 1])
            for t in reversed(range(length)):
                grad.addcmul_(c[part, t, :, None], grad_y[part, t, None])
                grad_c[part, t] = torch.bmm(grad_y[part, t, None], states[t].transpose(1, 2))[:, 0]
                grad_b[part, t] = torch.bmm(moved[part, t, None], grad.transpose(1, 2))[:, 0]
                grad_moved[part, t] = torch.bmm(b[part, t, None], grad)[:, 0]
                if t:
                    grad.mul_(decays[t])
                    exponent = torch.mul(grad, states[t - 1], out=decays[t])
                    of_a.addcmul_(exponent, dt[part, t, None])
                    grad_dt[part, t] = exponent.mul_(own).sum(1)
            if a.ndim == 2:
                grad_a += of_a.sum(0)
            else:
                grad_a[part] = of_a
    return grad_moved * dt, grad_dt.addcmul_(grad_moved, x), grad_a, grad_b, grad_c


def _parts(x: Tensor, a: Tensor) -> list[slice]:
    """The batch in as many parts as keep their states together below ``STATES``, one row at least.

    An accelerator, which has no such caches, takes it whole.
    """
    batch, length, channels = x.shape
    size = max(1, STATES // (length * a.shape[-2] * channels)) if x.device.type == "cpu" else batch
    return [slice(start, min(start + size, batch)) for start in range(0, batch, size)]
