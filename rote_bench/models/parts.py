"""What a decoder block is made of: the modules that add to the residual stream, and the projections inside them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from .probe import Call, Check, Probe, edited
from .sizing import FIELDS

DEEPEST = 6  # steps along the stream from a block's output back to its input
BESIDE = 0.1  # of an MLP's weights: adapters and gates beside it have fewer, a second MLP more
MOST = 20_000  # additions that are tried in one block: in a whole network called a block there would be no end


@dataclass(frozen=True)
class BlockParts:
    """Module paths inside one block; None where nothing was proved.

    ``mixer`` and ``mlp`` are the modules whose outputs are added to the residual stream; ``heads`` and ``units`` are
    the projections whose inputs are the concatenated heads and the MLP units. ``mlps`` names several MLPs where there
    are, of which none alone is the block's.
    """

    mixer: str | None = None
    mlp: str | None = None
    heads: str | None = None
    units: str | None = None
    mlps: tuple[str, ...] = ()


@dataclass
class _Stream:
    """The calls inside one block, sorted by what they can be, and what was found out about them.

    Attributes:
        added: whether a target is a state plus a call's output, by their identities.
        walked: the way back from a target in some steps, likewise. Without both, the ways that lead nowhere would be
            walked again and again.
    """

    probe: Probe
    start: Tensor
    adders: list[Call]
    leaves: list[Call]
    states: list[Tensor]
    added: dict[tuple[int, int, str], bool] = field(default_factory=dict)
    walked: dict[tuple[int, int], list[Call] | None] = field(default_factory=dict)


def find_parts(probe: Probe, calls: Sequence[Call], blocks: Sequence[str]) -> tuple[list[BlockParts], Check]:
    """Name the parts of every block.

    The check holds when, in every block, the parts account for its output and exactly one of them moves information
    between positions. Parts may be scaled before they are added, and the stream may be normed afterwards.
    """
    out: list[BlockParts] = []
    failed: list[int] = []
    plain = True
    for number, path in enumerate(blocks, 1):
        inside = [c for c in calls if c.path.startswith(f"{path}.")]
        block = next(c for c in calls if c.path == path)
        chosen, sums = _account(probe, block, inside)
        plain = plain and sums
        if not chosen:
            failed.append(number)
            out.append(BlockParts())
            continue
        reach = [_reach(probe, path, c, chosen) for c in chosen]
        mixers = [c for c, far in zip(chosen, reach, strict=True) if far and far == max(reach)]
        rest = [c for c in chosen if c not in mixers]
        mixer = mixers[0] if len(mixers) == 1 else None
        sizes = {c.path: _size(c, inside) for c in rest}
        mlp = max(rest, key=lambda c: sizes[c.path], default=None)
        mlps = [c.path for c in rest if mlp is not None and sizes[c.path] > BESIDE * sizes[mlp.path]]
        mlp = mlp if len(mlps) == 1 else None
        out.append(
            BlockParts(
                mixer.path if mixer else None,
                mlp.path if mlp else None,
                _projection(mixer, inside),
                _projection(mlp, inside),
                tuple(mlps[1:] and mlps),
            )
        )
    if failed:
        return out, Check(False, f"the parts do not account for the output of blocks {failed}")
    if any(p.mixer is None for p in out):
        return out, Check(False, "not every block has exactly one part that moves information between positions")
    if plain:
        return out, Check(True, "the parts of every block sum to its residual update")
    return out, Check(True, "the parts account for every block's output, with the scales and norms on its stream")


def _account(probe: Probe, block: Call, inside: Sequence[Call]) -> tuple[list[Call] | None, bool]:
    """The parts of a block in order, and whether they simply sum to its update."""
    assert block.inputs is not None
    shape = block.tensor.shape
    names = [c.path for c in inside]
    fitting = [
        c
        for c in inside
        if c.output is not None
        and c.output.shape == shape
        and names.count(c.path) == 1
        and not (c.inputs is not None and c.inputs.shape == shape and torch.equal(c.inputs, c.output))
    ]
    fitting.sort(key=lambda c: (c.path.count("."), -c.order))
    summed = _summands(probe, block.tensor - block.inputs, fitting)
    if summed is not None:
        return summed, True
    leaves = [c for c in inside if not any(True for _ in c.module.children())]
    seen = [t for c in leaves for t in (c.inputs, c.output) if t is not None and t.shape == shape]
    stream = _Stream(probe, block.inputs, fitting, leaves, [block.inputs, *seen])
    return _walk_back(stream, block.tensor, DEEPEST), False


def _summands(probe: Probe, update: Tensor, fitting: Sequence[Call]) -> list[Call] | None:
    """The smallest set of module outputs that sum to a block's update, outermost modules first."""
    for size in (1, 2, 3):
        for subset in itertools.combinations(fitting[:14], size):
            nested = any(a.path.startswith(f"{b.path}.") for a, b in itertools.permutations(subset, 2))
            if not nested and probe.near(torch.stack([c.tensor for c in subset]).sum(0), update):
                return sorted(subset, key=lambda c: c.order)
    return None


def _walk_back(stream: _Stream, target: Tensor, steps: int) -> list[Call] | None:
    """The parts added on the way from the block's input to ``target``: undo one norm, or one addition, at a time."""
    key = (id(target), steps)
    if key not in stream.walked:
        stream.walked[key] = _one_step_back(stream, target, steps)
    return stream.walked[key]


def _one_step_back(stream: _Stream, target: Tensor, steps: int) -> list[Call] | None:
    near = stream.probe.near
    if near(target, stream.start):
        return []
    if steps == 0 or len(stream.added) > MOST:
        return None
    for call in stream.leaves:
        weight = getattr(call.module, "weight", None)
        matrix = isinstance(weight, Tensor) and weight.ndim == 2
        if matrix or call.output is None or call.inputs is None or call.inputs.shape != target.shape:
            continue
        if near(call.output, target) and not near(call.inputs, target):
            before = _walk_back(stream, call.inputs, steps - 1)
            if before is not None:
                return before
    for state in stream.states:
        for call in stream.adders:
            key = (id(target), id(state), call.path)
            if key not in stream.added:
                stream.added[key] = _adds(stream.probe, target, state, call.tensor)
            if not stream.added[key]:
                continue
            before = _walk_back(stream, state, steps - 1)
            if before is not None and all(call.path != c.path for c in before):
                return [*before, call]
    return None


def _adds(probe: Probe, target: Tensor, state: Tensor, part: Tensor) -> bool:
    """Whether ``target = a * state + b * part``, for two numbers or, with a bias, for two vectors; neither zero.

    Vectors are three unknowns a channel, against as many equations as there are probed tokens.
    """
    s, p, t = (x.flatten(0, -2).double() for x in (state, part, target))
    for columns in (
        torch.stack([s.flatten(), p.flatten()], -1).unsqueeze(0),  # (1, tokens * width, 2)
        torch.stack([s, p, torch.ones_like(s)], -1).transpose(0, 1),  # (width, tokens, 3)
    ):
        wanted = t.flatten().view(1, -1, 1) if len(columns) == 1 else t.T.unsqueeze(-1)
        scale = columns.square().sum(1, keepdim=True).sqrt().clamp_min(1e-12)
        solved = torch.linalg.lstsq(columns / scale, wanted, driver="gelsd").solution
        each = columns / scale * solved.transpose(1, 2)
        shares = each[..., :2].square().sum((0, 1)).sqrt()
        if probe.near(each.sum(-1).float(), wanted.squeeze(-1).float()) and bool((shares > 1e-4 * t.norm()).all()):
            return True
    return False


def _size(part: Call, inside: Sequence[Call]) -> int:
    """The weights of a part; of a norm behind it, those of what it norms."""
    own = list(part.module.parameters())
    normed = []
    if part.inputs is not None and not any(p.ndim > 1 for p in own):
        fed = part.inputs
        normed = [
            c for c in inside if c.output is not None and c.output.shape == fed.shape and torch.equal(c.output, fed)
        ]
    return max(sum(p.numel() for p in each) for each in (own, *(list(c.module.parameters()) for c in normed)))


def _reach(probe: Probe, block: str, part: Call, parts: Sequence[Call]) -> int:
    """How many positions ahead a part carries information; 0 for one that treats every position alone.

    The block's input is disturbed at the first position while all other parts' outputs are held: if the part's output
    changes at a later position, the part itself carried the disturbance there. Of two parts that do, the one that
    carries it farther is the mixer: some MLPs look at the token before, too.
    """
    modules = dict(probe.model.named_modules())

    def disturb(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        def shifted(value: Any) -> Any:
            if isinstance(value, Tensor) and value.is_floating_point() and value.ndim == 3:
                changed = value.clone()
                changed[:, 0] = changed[:, 0].flip(-1) + 1.0
                return changed
            return value

        if args:
            return (shifted(args[0]), *args[1:]), kwargs
        key = next(k for k, v in kwargs.items() if isinstance(v, Tensor) and v.is_floating_point())
        return args, {**kwargs, key: shifted(kwargs[key])}

    held = {
        modules[c.path]: (lambda _, value=c.output: value.clone())
        for c in parts
        if c is not part and c.output is not None
    }
    seen: list[Tensor] = []
    handle = modules[block].register_forward_pre_hook(disturb, with_kwargs=True)
    try:
        with edited({**held, modules[part.path]: lambda x: (seen.append(x.detach().clone()), x)[1]}):  # type: ignore[func-returns-value]
            probe.run(probe.ids)
    finally:
        handle.remove()
    after = seen[0].reshape(part.tensor.shape)
    return max(at for at in range(after.shape[1]) if at == 0 or not probe.near(after[:, at], part.tensor[:, at]))


def _projection(part: Call | None, inside: Sequence[Call]) -> str | None:
    """The last projection inside a part: a module with a matrix whose output is the part's output."""
    if part is None or part.output is None:
        return None
    sources = [part]
    if part.inputs is not None:  # a norm after the projection is the part, so look at what it was given
        fed = part.inputs
        seen = [c for c in inside if c.output is not None and c.output is not part.output]
        sources += [c for c in seen if c.tensor.shape == fed.shape and torch.equal(c.tensor, fed)]
    for source in sources:
        for call in reversed(inside):
            weight = getattr(call.module, "weight", None)
            matrix = isinstance(weight, Tensor) and weight.ndim == 2
            if matrix and call.output is not None and call.inputs is not None and source.output is not None:
                same = call.output.shape == source.output.shape and torch.equal(call.output, source.output)
                if same and call.inputs.ndim == 3:
                    return call.path
    return None


def count_heads(model: Any, parts: Sequence[BlockParts], widths: Mapping[str, int]) -> int | None:
    """How many heads a block has: as the configuration says, else as all mixers do; None where nothing does.

    Args:
        widths: path of each projection that reads heads -> number of its inputs.
    """
    config = model.config.get_text_config()
    settings = config.to_dict()
    said = settings.get(config.attribute_map.get("num_attention_heads", "num_attention_heads"))
    if said is not None:
        count: int = said
        return count
    modules = dict(model.named_modules())
    found = set()
    for part in parts:
        near = [module for path, module in modules.items() if part.mixer and f"{path}.".startswith(f"{part.mixer}.")]
        counts = {vars(module).get(name) for module in near for name in FIELDS["heads"]}
        found.add(next((n for n in counts if type(n) is int and n > 0 and widths[part.heads or ""] % n == 0), None))
    return found.pop() if len(found) == 1 else None
