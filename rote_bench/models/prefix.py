"""What the first blocks of a model returned, lent to later runs of the same inputs, and the proof that this is exact.

A run that changes something at one layer repeats everything before it. Modules that ran before the change are lent a
``forward`` that returns what they returned in an intact run, so that only the rest is computed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..strangers import reason_of
from .parts import BlockParts
from .probe import Check, Probe, edited, hidden_state

Event = tuple[nn.Module, bool]  # a module, and whether it returned (True) or was called (False)


@dataclass
class Recording:
    """One run of a model.

    Attributes:
        blocks: the decoder blocks.
        events: returns of blocks, mixers and MLPs, and calls of the projections inside them, in order.
        outputs: all that each of those modules returned.
    """

    blocks: Sequence[nn.Module]
    events: list[Event] = field(default_factory=list)
    outputs: dict[nn.Module, Any] = field(default_factory=dict)

    @contextmanager
    def lent(self, event: Event, replaced: Iterable[nn.Module] = ()) -> Iterator[None]:
        """Until an event, modules return what they returned before, without running.

        These are the blocks that returned by then, and the parts that did after the last of them. Only what these
        last ones give is read by what runs, and by some changed in place.

        Args:
            replaced: modules that need not run later either, as something else takes the place of what they return.
        """
        before = [module for module, returned in self.events[: self.events.index(event) + 1] if returned]
        last = max((i for i, module in enumerate(before) if module in self.blocks), default=0)
        chosen = {m: i >= last for i, m in enumerate(before) if i >= last or m in self.blocks}
        chosen |= dict.fromkeys(replaced, True)

        def returning(output: Any, read: bool) -> Callable[..., Any]:
            return lambda *args, **kwargs: _copied(output) if read else output

        own = [(module, module.__dict__.get("forward")) for module in chosen]
        try:
            for module, read in chosen.items():
                module.forward = returning(self.outputs[module], read)
            yield
        finally:
            for module, forward in own:
                module.__dict__.pop("forward", None)
                if forward is not None:
                    module.forward = forward

    def repeated(self, times: int, rows: Sequence[int]) -> Recording | None:
        """The run of all examples, and of all again, so many times; None where an output's layout hides its examples.

        Args:
            rows: (batch, length) of the run.
        """
        batch, length = rows

        def repeat(tensor: Tensor) -> Tensor:
            shape = tuple(tensor.shape)
            of_tokens = len(shape) == 2 and shape[0] == batch * length
            if not of_tokens and (len(shape) < 3 or shape[0] != batch or shape[1:3] == (batch, length)):
                raise ValueError(f"{shape} hides which examples it is of")
            return tensor.repeat(times, *[1] * (tensor.ndim - 1))

        try:
            outputs = {module: _mapped(output, repeat) for module, output in self.outputs.items()}
        except ValueError:
            return None
        return Recording(self.blocks, self.events, outputs)


def _mapped(output: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """The same output with every tensor of it changed."""
    if isinstance(output, Tensor):
        return change(output)
    if isinstance(output, Mapping):
        return type(output)(**{key: _mapped(value, change) for key, value in output.items()})
    if isinstance(output, tuple | list):
        items = [_mapped(value, change) for value in output]
        return type(output)(*items) if hasattr(output, "_fields") else type(output)(items)
    return output


def _copied(output: Any) -> Any:
    """The same output with tensors of its own."""
    return _mapped(output, lambda tensor: tensor.detach().clone())


@contextmanager
def recording(
    modules: Mapping[str, nn.Module], blocks: Sequence[str], parts: Sequence[BlockParts]
) -> Iterator[Recording]:
    """Record the next run of a model, which must call no block or part twice."""
    found = Recording([modules[path] for path in blocks])
    returning = {path for p in parts for path in (p.mixer, p.mlp) if path is not None} | {*blocks}
    called = {path for p in parts for path in (p.heads, p.units) if path is not None}

    def on_return(module: nn.Module, args: Any, output: Any) -> None:
        if module in found.outputs:
            raise ValueError(f"{type(module).__name__} runs several times on one input")
        found.events.append((module, True))
        found.outputs[module] = _copied(output)  # some blocks go on to change theirs in place

    def on_call(module: nn.Module, args: Any) -> None:
        found.events.append((module, False))

    with ExitStack() as hooks:
        for path in returning:
            hooks.callback(modules[path].register_forward_hook(on_return).remove)
        for path in called:
            hooks.callback(modules[path].register_forward_pre_hook(on_call).remove)
        yield found


def check_prefix(
    probe: Probe, modules: Mapping[str, nn.Module], blocks: Sequence[str], parts: Sequence[BlockParts]
) -> Check:
    """Whether a model gives the very same logits when any number of its first modules are lent what they returned.

    Another input runs in between, so that nothing that modules keep to themselves can help. The longest prefix comes
    first: no run may refresh what a shorter one lacks. In the end all blocks, mixers or MLPs are replaced at once.
    """

    def same(ids: Tensor, other: Tensor, *, changed: bool) -> bool:
        with recording(modules, blocks, parts) as found:
            wanted = probe.run(ids)
        probe.run(other)
        for module in reversed(found.blocks if changed else [*found.outputs]):
            with edited({module: lambda state: 1.5 * state} if changed else {}):
                if changed:
                    wanted = probe.run(ids)
                    probe.run(other)
                with found.lent((module, True)):
                    if not torch.equal(probe.run(ids), wanted):
                        return False
        for paths in filter(None, kinds) if changed else ():
            values = {modules[path]: hidden_state(found.outputs[modules[path]]).flip(-1) for path in paths}
            with edited({module: lambda _, value=value: value.clone() for module, value in values.items()}):  # type: ignore[misc]
                wanted = probe.run(ids)
                probe.run(other)
                with found.lent(next(e for e in found.events if e[0] in values), values):
                    if not torch.equal(probe.run(ids), wanted):
                        return False
        return True

    kinds = [blocks, [p.mixer for p in parts if p.mixer], [p.mlp for p in parts if p.mlp]]
    ids, other = (torch.cat(pair)[:3, :4] for pair in ((probe.ids, probe.other), (probe.other, probe.ids)))
    try:
        ok = same(probe.ids, probe.other, changed=False) and same(ids, other, changed=True)
    except Exception as error:  # an architecture's own code may ask more of a block than what it returns
        return Check(False, reason_of(error, 200))
    if ok:
        return Check(True, "what ran before a change, or is replaced, need not run again")
    return Check(False, "later blocks depend on more of earlier ones than what those return")
