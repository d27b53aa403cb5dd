"""Looking into a model and changing what goes on there: the only file that hooks a model for a diagnostic."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .encoding import Encoded
from .models.anatomy import Anatomy
from .models.probe import hidden_state, in_rows, with_hidden_state

Edit = Callable[[Tensor], Tensor]
OUTPUTS = ("block", "mixer", "mlp")
STATES_AT_ONCE = 1 << 29  # bytes; what does not fit takes another pass over the examples


@dataclass(frozen=True, order=True)
class Site:
    """A place in a model.

    Attributes:
        layer: the block, from 0.
        part: ``block``, ``mixer`` or ``mlp`` for that module's output, (batch, length, width); ``heads`` or ``units``
            for the input of the part's last projection, (batch, length, heads * head size or MLP units).
    """

    layer: int
    part: str


@contextmanager
def _visited(anatomy: Anatomy, visits: Mapping[Site, Edit], rows: Sequence[int]) -> Iterator[None]:
    """Pass the tensor at each site through a function while the model runs; hooks go whatever happens."""

    def on_output(edit: Edit) -> Callable[[nn.Module, Any, Any], Any]:
        def hook(module: nn.Module, args: Any, output: Any) -> Any:
            before = hidden_state(output)
            after = edit(in_rows(before, rows))
            return None if after is before else with_hidden_state(output, after)

        return hook

    def on_input(edit: Edit) -> Callable[[nn.Module, Any], Any]:
        def hook(module: nn.Module, args: Any) -> Any:
            return (edit(in_rows(args[0], rows)).reshape(args[0].shape), *args[1:])

        return hook

    handles = []
    try:
        for site, edit in visits.items():
            module = anatomy.module(site.layer, site.part)
            if site.part in OUTPUTS:
                handles.append(module.register_forward_hook(on_output(edit)))
            else:
                handles.append(module.register_forward_pre_hook(on_input(edit)))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _forward(anatomy: Anatomy, input_ids: Tensor) -> Tensor:
    logits: Tensor = anatomy.model(input_ids=input_ids).logits
    return logits


def run(anatomy: Anatomy, input_ids: Tensor, edits: Mapping[Site, Edit]) -> Tensor:
    """Logits (batch, length, vocabulary) with the tensor at each site passed through its edit."""
    with _visited(anatomy, edits, input_ids.shape):
        return _forward(anatomy, input_ids)


def capture(
    anatomy: Anatomy, input_ids: Tensor, sites: Sequence[Site], edits: Mapping[Site, Edit] | None = None
) -> tuple[Tensor, dict[Site, Tensor]]:
    """Logits, and the tensor at each site (after its edit, when it has one), detached."""
    found: dict[Site, Tensor] = {}
    edits = edits or {}

    def keep(site: Site) -> Edit:
        def visit(value: Tensor) -> Tensor:
            value = edits[site](value) if site in edits else value
            found[site] = value.detach().clone()  # some blocks go on to change it in place
            return value

        return visit

    others = {site: edit for site, edit in edits.items() if site not in sites}
    with _visited(anatomy, {**others, **{site: keep(site) for site in sites}}, input_ids.shape):
        logits = _forward(anatomy, input_ids)
    return logits, found


def states_at(
    anatomy: Anatomy, input_ids: Tensor, sites: Sequence[Site], positions: Tensor, *, batch_size: int
) -> Tensor:
    """The tensors at several sites and token positions, (n, sites, positions, width), on the model's device.

    Args:
        input_ids: (n, length).
        positions: (n, positions) token indices, row by row.
    """
    out = []
    with torch.inference_mode():
        for start in range(0, len(input_ids), batch_size):
            rows = slice(start, start + batch_size)
            _, found = capture(anatomy, input_ids[rows], sites)
            at = positions[rows]
            index = torch.arange(len(at), device=at.device).unsqueeze(1)
            out.append(torch.stack([found[site][index, at] for site in sites], 1).float())
    return torch.cat(out)


def mean_states(anatomy: Anatomy, encoded: Encoded, sites: Sequence[Site], *, batch_size: int) -> dict[Site, Tensor]:
    """The mean (width,) of the tensor at each site over the examples' own positions, padding left out."""
    sums: dict[Site, Tensor] = {}
    with torch.inference_mode():
        for start in range(0, len(encoded), batch_size):
            part = encoded.rows(slice(start, start + batch_size))
            _, found = capture(anatomy, part.input_ids, sites)
            for site, value in found.items():
                total = value.float()[part.used].sum(0)
                sums[site] = sums[site] + total if site in sums else total
    return {site: total / encoded.used.sum() for site, total in sums.items()}


def states_by_layer(anatomy: Anatomy, input_ids: Tensor, positions: Tensor, *, batch_size: int) -> Iterator[Tensor]:
    """The output of one block after the other at some token positions, each (n, positions, width).

    As many layers as memory allows are read in one pass over the examples.

    Args:
        input_ids: (n, length).
        positions: (n, positions) token indices, row by row.
    """
    size = positions.numel() * anatomy.width * torch.float32.itemsize
    together = max(1, STATES_AT_ONCE // size)
    for start in range(0, anatomy.n_layers, together):
        sites = [Site(layer, "block") for layer in range(start, min(start + together, anatomy.n_layers))]
        yield from states_at(anatomy, input_ids, sites, positions, batch_size=batch_size).unbind(1)


def capture_with_gradient(
    anatomy: Anatomy,
    input_ids: Tensor,
    sites: Sequence[Site],
    measure: Callable[[Tensor], Tensor],
    edits: Mapping[Site, Edit] | None = None,
) -> tuple[Tensor, dict[Site, tuple[Tensor, Tensor]]]:
    """A scalar ``measure`` of the logits, and at each site the activation and the gradient of the measure to it."""
    found: dict[Site, Tensor] = {}
    edits = edits or {}

    def keep(site: Site) -> Edit:
        def visit(value: Tensor) -> Tensor:
            value = edits[site](value) if site in edits else value
            if not value.requires_grad:
                value = value.detach().requires_grad_(True)
            found[site] = value
            return value.clone()

        return visit

    others = {site: edit for site, edit in edits.items() if site not in sites}
    with torch.enable_grad(), _visited(anatomy, {**others, **{site: keep(site) for site in sites}}, input_ids.shape):
        scalar = measure(_forward(anatomy, input_ids))
        gradients = torch.autograd.grad(scalar, [found[s] for s in sites], allow_unused=True)
    pairs = {
        site: (found[site].detach(), torch.zeros_like(found[site]) if g is None else g)
        for site, g in zip(sites, gradients, strict=True)
    }
    return scalar.detach(), pairs


def replace(values: Tensor, where: Tensor | None = None) -> Edit:
    """Put ``values`` in, everywhere or where the (batch, length) mask is true."""
    if where is None:
        return lambda _: values.clone()
    mask = where.unsqueeze(-1)
    return lambda state: torch.where(mask, values, state)


def replace_units(values: Tensor, units: Tensor) -> Edit:
    """Put in the values of some units (indices along the last axis) and leave the others."""

    def edit(state: Tensor) -> Tensor:
        state = state.clone()
        state[..., units] = values[..., units]
        return state

    return edit


def ablate(mean: Tensor, units: Tensor) -> Edit:
    """Set some units (indices along the last axis) to their mean, (width,)."""

    def edit(state: Tensor) -> Tensor:
        state = state.clone()
        state[..., units] = mean[units].to(state.dtype)
        return state

    return edit
