"""Looking into a model and changing what goes on there: the only file that hooks a model for a diagnostic."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .encoding import Encoded
from .evaluation import forward
from .models.anatomy import Anatomy
from .models.prefix import Recording
from .models.probe import Turns, hidden_state, in_rows, input_of, with_hidden_state, with_input

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


class Intact:
    """A batch as a model runs it when nothing is changed, from which runs with edits go on.

    Where the proof ``prefix`` holds, blocks and parts that come before the first edit do not run again.

    Args:
        sites: where to look.
        columns: (columns,) the token indices of which logits are wanted, in order; all when None.

    Attributes:
        logits: (batch, columns, vocabulary).
        states: site -> the tensor there, detached.
    """

    def __init__(
        self, anatomy: Anatomy, input_ids: Tensor, sites: Sequence[Site] = (), *, columns: Tensor | None = None
    ) -> None:
        self._anatomy, self._input_ids, self.columns = anatomy, input_ids, columns
        self._recording: Recording | None = None
        shared = anatomy.checks["prefix"].ok
        others = [site for site in sites if not (shared and site.part in OUTPUTS)]
        with anatomy.recording() if shared else nullcontext() as self._recording:
            self.logits, self.states = capture(anatomy, input_ids, others, columns=columns)
        if self._recording is not None:
            outputs = {s: self._recording.outputs[anatomy.module(s.layer, s.part)] for s in sites if s not in others}
            self.states |= {s: in_rows(hidden_state(output), input_ids.shape) for s, output in outputs.items()}

    def repeated(self, times: int) -> Intact:
        """The intact run of all examples, and of all again, so many times; without states."""
        rows = self._input_ids.shape
        again = None if self._recording is None else self._recording.repeated(times, rows)
        if again is None and self._recording is not None:
            return Intact(self._anatomy, self._input_ids.repeat(times, 1), columns=self.columns)
        out = copy(self)
        out._input_ids, out._recording, out.states = self._input_ids.repeat(times, 1), again, {}
        out.logits = self.logits.repeat(times, 1, 1)
        return out

    def before(self, visits: Mapping[Site, Edit]) -> AbstractContextManager[None]:
        """Within it, what ran before the first visit, or is replaced, returns what it did, without running."""
        if self._recording is None or not visits:
            return nullcontext()
        modules = {site: self._anatomy.module(site.layer, site.part) for site in visits}
        chosen = {(module, site.part in OUTPUTS) for site, module in modules.items()}
        replaced = [modules[s] for s, v in visits.items() if isinstance(v, _Replaced) and s.part in OUTPUTS]
        return self._recording.lent(next(event for event in self._recording.events if event in chosen), replaced)


@contextmanager
def _visited(
    anatomy: Anatomy, visits: Mapping[Site, Edit], rows: Sequence[int], intact: Intact | None = None
) -> Iterator[None]:
    """Pass the tensor at each site through a function while the model runs; hooks go whatever happens."""

    def on_output(edit: Edit) -> Callable[..., Any]:
        def hook(module: nn.Module, args: Any, output: Any) -> Any:
            before = hidden_state(output)
            after = edit(in_rows(before, rows))
            return None if after is before else with_hidden_state(output, after)

        return hook

    def on_input(edit: Edit) -> Callable[..., Any]:
        def hook(module: nn.Module, args: Any, kwargs: Any) -> Any:
            before = input_of(args, kwargs)
            return with_input(args, kwargs, edit(in_rows(before, rows)).reshape(before.shape))

        return hook

    handles: list[Any] = []
    shared: dict[tuple[nn.Module, bool], dict[int, Callable[..., Any]]] = {}
    try:
        for site, edit in visits.items():
            module, turn = anatomy.module(site.layer, site.part), anatomy.turn(site.layer)
            after = site.part in OUTPUTS
            hook = on_output(edit) if after else on_input(edit)
            if turn is not None:
                shared.setdefault((module, after), {})[turn] = hook
            elif after:
                handles.append(module.register_forward_hook(hook))
            else:
                handles.append(module.register_forward_pre_hook(hook, with_kwargs=True))
        if shared:
            handles.append(turns := Turns(anatomy.model))
            for (module, after), hooks in shared.items():
                (turns.on_output if after else turns.on_input)(module, hooks)
        with nullcontext() if intact is None else intact.before(visits):
            yield
    finally:
        for handle in handles:
            handle.remove()


def run(anatomy: Anatomy, input_ids: Tensor, edits: Mapping[Site, Edit], intact: Intact | None = None) -> Tensor:
    """Logits (batch, length, vocabulary) with the tensor at each site passed through its edit.

    Args:
        intact: the same model's intact run of the same inputs; what it has in common with this one is not run again,
            and logits are of its columns.
    """
    if intact is None:
        with _visited(anatomy, edits, input_ids.shape):
            return forward(anatomy.model, input_ids)
    if not edits:
        return intact.logits
    with _visited(anatomy, edits, input_ids.shape, intact):
        return forward(anatomy.model, input_ids, intact.columns)


def capture(
    anatomy: Anatomy,
    input_ids: Tensor,
    sites: Sequence[Site],
    edits: Mapping[Site, Edit] | None = None,
    *,
    columns: Tensor | None = None,
) -> tuple[Tensor, dict[Site, Tensor]]:
    """Logits, and the tensor at each site (after its edit, when it has one), detached.

    Args:
        columns: (columns,) the token indices of which logits are wanted, in order; all when None.
    """
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
        logits = forward(anatomy.model, input_ids, columns)
    return logits, found


def _one(input_ids: Tensor) -> Tensor:
    """The columns where no logits are wanted."""
    return input_ids.new_zeros(1)


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
            _, found = capture(anatomy, input_ids[rows], sites, columns=_one(input_ids))
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
            _, found = capture(anatomy, part.input_ids, sites, columns=_one(part.input_ids))
            for site, value in found.items():
                total = value.float()[part.used].sum(0)
                sums[site] = sums[site] + total if site in sums else total
    return {site: total / encoded.used.sum() for site, total in sums.items()}


def layers_together(numbers: int) -> int:
    """How many layers are worked on at once where each takes some float32 numbers."""
    return max(1, STATES_AT_ONCE // (numbers * torch.float32.itemsize))


def states_by_layer(anatomy: Anatomy, input_ids: Tensor, positions: Tensor, *, batch_size: int) -> Iterator[Tensor]:
    """The output of one block after the other at some token positions, each (n, positions, width).

    As many layers as memory allows are read in one pass over the examples.

    Args:
        input_ids: (n, length).
        positions: (n, positions) token indices, row by row.
    """
    together = layers_together(positions.numel() * anatomy.width)
    for start in range(0, anatomy.n_layers, together):
        sites = [Site(layer, "block") for layer in range(start, min(start + together, anatomy.n_layers))]
        yield from states_at(anatomy, input_ids, sites, positions, batch_size=batch_size).unbind(1)


@contextmanager
def _frozen(model: nn.Module) -> Iterator[None]:
    """Ask for no gradients of the weights."""
    free = [p for p in model.parameters() if p.requires_grad]
    try:
        for p in free:
            p.requires_grad_(False)
        yield
    finally:
        for p in free:
            p.requires_grad_(True)


class BlockStates:
    """The outputs of every block at token positions of some inputs, each position read once and kept.

    Args:
        input_ids: (n, length).
        kept: bytes that may be kept; what does not fit is read again each time.
    """

    def __init__(self, anatomy: Anatomy, input_ids: Tensor, *, batch_size: int, kept: int = STATES_AT_ONCE) -> None:
        self._anatomy, self._input_ids, self._batch_size, self._kept = anatomy, input_ids, batch_size, kept
        self._columns: dict[bytes, Tensor] = {}

    def at(self, positions: Tensor) -> Iterator[Tensor]:
        """One block after the other, each (n, positions, width), from (n, positions) token indices."""
        keys = [column.cpu().numpy().tobytes() for column in positions.unbind(1)]
        new = [i for i, key in enumerate(keys) if key not in self._columns and key not in keys[:i]]
        size = len(positions) * self._anatomy.n_layers * self._anatomy.width * torch.float32.itemsize
        if size * (len(self._columns) + len(new)) > self._kept:
            yield from states_by_layer(self._anatomy, self._input_ids, positions, batch_size=self._batch_size)
            return
        if new:
            sites = [Site(layer, "block") for layer in range(self._anatomy.n_layers)]
            read = states_at(self._anatomy, self._input_ids, sites, positions[:, new], batch_size=self._batch_size)
            self._columns |= dict(zip([keys[i] for i in new], read.unbind(2), strict=True))
        for layer in range(self._anatomy.n_layers):
            yield torch.stack([self._columns[key][:, layer] for key in keys], 1)


def capture_with_gradient(
    anatomy: Anatomy,
    input_ids: Tensor,
    sites: Sequence[Site],
    measure: Callable[[Tensor], Tensor],
    edits: Mapping[Site, Edit] | None = None,
    intact: Intact | None = None,
    *,
    columns: Tensor | None = None,
) -> tuple[Tensor, dict[Site, tuple[Tensor, Tensor]]]:
    """A scalar ``measure`` of the logits, and at each site the activation and the gradient of the measure to it.

    Args:
        intact: as for ``run``, made with gradients switched off but not in inference mode.
        columns: (columns,) the token indices of which ``measure`` is given logits; those of ``intact``, or all.
    """
    columns = intact.columns if intact is not None else columns
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
    visits = {**others, **{site: keep(site) for site in sites}}
    with torch.enable_grad(), _frozen(anatomy.model), _visited(anatomy, visits, input_ids.shape, intact):
        scalar = measure(forward(anatomy.model, input_ids, columns))
        gradients = torch.autograd.grad(scalar, [found[s] for s in sites], allow_unused=True)
    pairs = {
        site: (found[site].detach(), torch.zeros_like(found[site]) if g is None else g)
        for site, g in zip(sites, gradients, strict=True)
    }
    return scalar.detach(), pairs


@dataclass(frozen=True)
class _Replaced:
    """An edit that does not look at what it replaces, which therefore need not be computed."""

    values: Tensor

    def __call__(self, state: Tensor) -> Tensor:
        return self.values.clone()


def replace(values: Tensor, where: Tensor | None = None) -> Edit:
    """Put ``values`` in, everywhere or where the (batch, length) mask is true."""
    if where is None:
        return _Replaced(values)
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
