"""Which modules of a model are its decoder blocks, proved by patching the last one.

Most models list their blocks in one container and run each once. Where that proves nothing, modules of one class inside
one module, containers of other kinds, and blocks that run several times on one input are looked at too. A block that
runs several times counts once for each of its turns.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ..errors import UserError
from .probe import Call, Probe, Turns, edited, recorded, with_hidden_state

PART = 4  # what runs through fewer than one in so many of the parameters between the ends is no stack of blocks
MOST = 40  # lists of modules that are tried where the usual ones prove nothing


@dataclass(frozen=True)
class Blocks:
    """The decoder blocks in the order in which they run.

    Attributes:
        paths: of their modules; one that runs several times stands there for each turn.
        turns: which of its module's calls each is, from 0; empty where every module is called once.
        calls: the call of each.
    """

    paths: tuple[str, ...]
    turns: tuple[int, ...]
    calls: tuple[Call, ...]

    @property
    def width(self) -> int:
        """Size of the residual stream."""
        return int(self.calls[-1].tensor.shape[-1])

    @property
    def distinct(self) -> tuple[str, ...]:
        """Each path once, in the order of first turns."""
        return tuple(dict.fromkeys(self.paths))

    def first_turns(self, calls: Sequence[Call]) -> list[Call]:
        """Of what a block calls at each of its turns, the calls of the first; all other calls as they are."""
        times, of_each = Counter(self.paths), Counter(call.path for call in calls)
        first: dict[str, bool] = {}
        out = []
        for call in calls:
            owner = next((p for p in times if call.path == p or call.path.startswith(f"{p}.")), None)
            once = owner is not None and times[owner] > 1 and of_each[call.path] == times[owner]
            if not once or call.path not in first:
                out.append(call)
                first[call.path] = True
        return out


class NotProved(UserError):
    """No stack of blocks can be proved; says why."""


def find_blocks(model: Any, probe: Probe, calls: Sequence[Call]) -> Blocks:
    """The decoder blocks of a model.

    Args:
        calls: of every module, on the probe's ids.

    Raises:
        NotProved: when there are none whose last output decides the logits.
    """
    by_path: dict[str, list[Call]] = {}
    for call in calls:
        by_path.setdefault(call.path, []).append(call)
    whole = _Other(model, probe)
    skipped = looped = False
    for called in _listed(model, probe, by_path):
        blocks = Blocks(tuple(called), (), tuple(by_path[path][0] for path in called))
        if whole.decided_by(blocks):
            return blocks
        skipped = True
    for blocks in _unusual(model, probe, by_path):
        if blocks.turns and not whole.takes_as_many_turns(blocks):
            looped = True
        elif whole.decided_by(blocks):
            return blocks
        skipped = True
    if looped:
        reason = "its blocks run a number of times that depends on the input"
    elif skipped:
        reason = "the logits depend on more than the last block's output"
    else:
        reason = "no list of its modules maps one residual stream (batch, length, width) to itself"
    name = type(getattr(model, "inner", model)).__name__
    raise NotProved(f"no stack of decoder blocks can be proved in {name}: {reason}", where="--model")


def _listed(model: Any, probe: Probe, by_path: dict[str, list[Call]]) -> Iterator[list[str]]:
    """Lists of modules that could be the blocks, each called once; the likeliest first."""
    candidates: list[tuple[bool, int, int, list[str]]] = []
    depth = model.config.get_text_config().to_dict().get("num_hidden_layers")
    for path, module in model.named_modules():
        if not isinstance(module, nn.ModuleList | nn.Sequential) or len(module) == 0:
            continue
        children = _children(path, module)
        called = [child for child in children if child in by_path]  # blocks for another kind of input stay silent
        if called and all(_maps_stream(call, probe.ids) for child in called for call in by_path[child]):
            if any(len(by_path[child]) > 1 for child in called):
                continue
            size = sum(p.numel() for p in module.parameters())
            candidates.append((len(children) == depth, size, by_path[called[-1]][0].order, called))
    for *_, called in sorted(candidates, key=lambda c: c[:3], reverse=True):
        yield called


def _unusual(model: Any, probe: Probe, by_path: dict[str, list[Call]]) -> Iterator[Blocks]:
    """Modules of one class inside one module, or in a container of any kind, in the order of their calls.

    These are two at least, with a good part of the parameters: two norms are no stack. Of those with a third of the
    most parameters the innermost come first, so that a stack that runs several times is taken apart, then the others.
    """
    ends = {id(p) for end in (model.get_input_embeddings(), model.get_output_embeddings()) for p in _owned(end)}
    inner = sum(p.numel() for p in model.parameters() if id(p) not in ends)
    candidates: list[tuple[int, int, Blocks]] = []
    for path, module in model.named_modules():
        called = [child for child in _children(path, module) if child in by_path]
        groups: dict[object, list[str]] = {}
        if isinstance(module, nn.ModuleList | nn.Sequential | nn.ModuleDict):
            groups[None] = called
        for child in called:
            groups.setdefault(type(by_path[child][0].module), []).append(child)
        for members in groups.values():
            every = sorted((call for child in members for call in by_path[child]), key=lambda call: call.order)
            if len(every) < 2 or not all(_maps_stream(call, probe.ids) for call in every):
                continue
            seen: Counter[str] = Counter()
            turns = []
            for call in every:
                turns.append(seen[call.path])
                seen[call.path] += 1
            size = sum(p.numel() for child in members for p in by_path[child][0].module.parameters())
            if PART * size < inner:
                continue
            repeated = tuple(turns) if max(turns) else ()
            candidates.append((size, every[-1].order, Blocks(tuple(c.path for c in every), repeated, tuple(every))))
    largest = max((size for size, *_ in candidates), default=0)

    def likely(candidate: tuple[int, int, Blocks]) -> tuple[bool, int, int, int]:
        size, order, blocks = candidate
        large = 3 * size >= largest
        return large, blocks.paths[-1].count(".") if large else 0, size, order

    for *_, blocks in sorted(candidates, key=likely, reverse=True)[:MOST]:
        yield blocks


def _owned(module: nn.Module | None) -> Iterator[nn.Parameter]:
    return iter(()) if module is None else module.parameters()


def _children(path: str, module: nn.Module) -> list[str]:
    return [f"{path}.{name}" if path else name for name, _ in module.named_children()]


class _Other:
    """A model's run of another input, with which candidates are proved."""

    def __init__(self, model: Any, probe: Probe) -> None:
        self.model, self.probe = model, probe
        self.modules = dict(model.named_modules())
        with recorded(model, probe.ids.shape) as self.calls:
            probe.run(probe.other)

    def decided_by(self, blocks: Blocks) -> bool:
        """Whether the last block's output, put in from the other input, gives that input's logits."""
        path = blocks.paths[-1]
        turn = blocks.turns[-1] if blocks.turns else 0
        donor = [call.output for call in self.calls if call.path == path][turn]
        assert donor is not None
        with _replaced(self.model, self.modules[path], turn if blocks.turns else None, donor):
            patched = self.probe.run(self.probe.ids)
        near = self.probe.near
        return near(patched, self.probe.other_logits) and not near(self.probe.logits, self.probe.other_logits)

    def takes_as_many_turns(self, blocks: Blocks) -> bool:
        """Whether each block runs as often on other inputs, and on single tokens."""
        wanted = Counter(blocks.paths)
        with recorded(self.model, (self.probe.ids.numel(), 1)) as single:
            self.probe.run(self.probe.ids.reshape(-1, 1))
        return all(
            wanted == Counter(call.path for call in calls if call.path in wanted) for calls in (self.calls, single)
        )


def _replaced(model: nn.Module, module: nn.Module, turn: int | None, value: Tensor) -> AbstractContextManager[None]:
    """Meanwhile a module gives a value, at one of its turns or whenever it is called."""
    if turn is None:
        return edited({module: lambda _: value})

    @contextmanager
    def put() -> Iterator[None]:
        turns = Turns(model)
        turns.on_output(module, {turn: lambda _, args, output: with_hidden_state(output, value)})
        try:
            yield
        finally:
            turns.remove()

    return put()


def _maps_stream(call: Call, ids: Tensor) -> bool:
    x, y = call.inputs, call.output
    return x is not None and y is not None and x.shape == y.shape and y.ndim == 3 and y.shape[:2] == ids.shape
