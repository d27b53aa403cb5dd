"""Finds the parts of any causal language model by running it, and proves what it found.

Nothing here knows an architecture by name. Modules are recognised by what they do to tensors: decoder blocks map the
residual stream to itself, the parts of a block sum to its update, the final norm feeds the unembedding. What cannot
be proved on the model at hand is reported as not supported, with the reason.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UserError
from . import columns
from .parts import BlockParts, find_parts
from .prefix import Recording, check_prefix, recording
from .probe import Call, Check, Probe, edited, recorded

PARTS = ("block", "mixer", "mlp", "heads", "units", "lens")


@dataclass(frozen=True)
class Structure:
    """Where everything is in an architecture, as module paths.

    Attributes:
        blocks: the decoder blocks in order.
        parts: the parts of each block.
        width: size of the residual stream.
        n_heads: heads per block, or None.
        norm: the final norm, or None when the lens goes by replay.
        unembedding: the module that makes the logits.
        scale, soft_cap: what follows it: logits * scale, then cap * tanh(logits / cap).
        checks: name -> proof.
        input_widths: path of each projection that reads heads or units -> number of its inputs.
    """

    blocks: tuple[str, ...]
    parts: tuple[BlockParts, ...]
    width: int
    n_heads: int | None
    norm: str | None
    unembedding: str | None
    scale: float
    soft_cap: float | None
    checks: Mapping[str, Check]
    input_widths: Mapping[str, int]


class Anatomy:
    """A model and its structure.

    ``Anatomy.of(model)`` finds and proves; ``anatomy.on(other)`` binds the same structure to other weights of the
    same architecture without proving again.
    """

    def __init__(self, model: Any, structure: Structure) -> None:
        self.model = model
        self.structure = structure
        self._modules = dict(model.named_modules())

    @classmethod
    def of(cls, model: Any) -> Anatomy:
        """Find the structure of a model by running it on short random inputs.

        Raises:
            UserError: when no list of decoder blocks can be proved, or the model sees later tokens.
        """
        was_training = model.training
        model.eval()
        try:
            with torch.no_grad(), _awake(model):
                return cls(model, _find(model))
        finally:
            model.train(was_training)

    @classmethod
    def opaque(cls, model: Any, reason: str) -> Anatomy:
        """A model into which nothing can look: answers only."""
        names = (
            "causal",
            "right_padding",
            "no_op",
            "last_block",
            "parts_sum",
            "mlp",
            "heads",
            "units",
            "lens",
            "prefix",
        )
        checks = {name: Check(False, reason) for name in names}
        return cls(model, Structure((), (), 0, None, None, None, 1.0, None, checks, {}))

    def on(self, model: Any) -> Anatomy:
        """The same structure on other weights."""
        columns.share(self.model, model)
        return Anatomy(model, self.structure)

    @property
    def n_layers(self) -> int:
        return len(self.structure.blocks)

    @property
    def width(self) -> int:
        return self.structure.width

    @property
    def checks(self) -> Mapping[str, Check]:
        return self.structure.checks

    def supports(self, part: str) -> Check:
        """Whether a part was proved: block, mixer, mlp, heads, units or lens."""
        if part not in PARTS:
            raise ValueError(f"unknown part {part!r}; known: {', '.join(PARTS)}")
        return self.structure.checks[{"block": "last_block", "mixer": "parts_sum"}.get(part, part)]

    def module(self, layer: int, part: str) -> nn.Module:
        """The module whose output (block, mixer, mlp) or input (heads, units) is the part."""
        path = self.structure.blocks[layer] if part == "block" else getattr(self.structure.parts[layer], part)
        if path is None:
            raise ValueError(f"layer {layer + 1} has no {part}")
        module: nn.Module = self._modules[path]
        return module

    def recording(self) -> AbstractContextManager[Recording]:
        """Record what blocks and parts return in the next run, to be lent where the proof ``prefix`` holds."""
        return recording(self._modules, self.structure.blocks, self.structure.parts)

    def input_width(self, layer: int, part: str) -> int:
        """The number of inputs of a part's projection: all heads together, or the MLP units."""
        return self.structure.input_widths[getattr(self.structure.parts[layer], part)]

    def lens(self, state: Tensor) -> Tensor:
        """Logits (..., vocabulary) that the model would give if ``state`` (..., width) were its last block's output."""
        s = self.structure
        if s.norm is None or s.unembedding is None:
            return self._replay(state)
        logits = _unembedded(self._modules[s.unembedding], self._modules[s.norm](state)) * s.scale
        return logits if s.soft_cap is None else s.soft_cap * torch.tanh(logits / s.soft_cap)

    def _replay(self, state: Tensor) -> Tensor:
        flat = state.reshape(-1, 1, state.shape[-1])
        ids = torch.zeros(len(flat), 1, dtype=torch.long, device=state.device)
        with edited({self._modules[self.structure.blocks[-1]]: lambda _: flat}):
            logits: Tensor = self.model(input_ids=ids).logits
        return logits.reshape(*state.shape[:-1], -1)


@contextmanager
def _awake(model: nn.Module) -> Iterator[None]:
    """Lend small random values to matrices of zeros while proving: through a zero, every proof would hold."""
    asleep = [p for p in model.parameters() if p.ndim >= 2 and p.is_floating_point() and not p.any()]
    generator = torch.Generator().manual_seed(1)
    try:
        for p in asleep:
            p.copy_(0.02 * torch.randn(p.shape, generator=generator))
        yield
    finally:
        for p in asleep:
            p.zero_()


def _find(model: Any) -> Structure:
    probe = Probe(model, int(model.get_input_embeddings().weight.shape[0]))
    checks: dict[str, Check] = {}
    changed = probe.ids.clone()
    changed[:, -1] = probe.other[:, -1]
    same = probe.near(probe.run(changed)[:, :-1], probe.logits[:, :-1])
    if not same:
        raise UserError("the model sees later tokens, so it is no causal language model", where="--model")
    checks["causal"] = Check(True, "a later token changes no earlier logit")
    columns.prove(model, probe)
    longer = torch.cat([probe.ids, torch.zeros_like(probe.ids[:, :2])], 1)
    padded = probe.near(probe.run(longer)[:, : probe.ids.shape[1]], probe.logits)
    checks["right_padding"] = Check(padded, "tokens appended on the right change no logit")
    with recorded(model, probe.ids.shape) as calls:
        probe.run(probe.ids)
    blocks, width = _blocks(model, probe, calls)
    modules = dict(model.named_modules())
    with edited({modules[b]: lambda x: x.clone() for b in blocks}):
        checks["no_op"] = Check(
            probe.near(probe.run(probe.ids), probe.logits), "putting every block's output back changes nothing"
        )
    checks["last_block"] = Check(True, "the last block's output of another input gives that input's logits")
    parts, checks["parts_sum"] = find_parts(probe, calls, blocks)
    config = model.config.get_text_config()
    n_heads = config.to_dict().get(config.attribute_map.get("num_attention_heads", "num_attention_heads"))
    for part, what in (("mlp", "MLP"), ("heads", "head"), ("units", "MLP unit")):
        found = sum(getattr(p, part) is not None for p in parts)
        ok = found == len(blocks)
        checks[part] = Check(ok, f"found in {found} of {len(blocks)} blocks" if found else f"no {what}s found")
    norm, unembedding, scale, cap, checks["lens"] = _lens(model, probe, calls, blocks)
    checks["prefix"] = check_prefix(probe, modules, blocks, parts)
    read = {path for p in parts for path in (p.heads, p.units) if path is not None}
    return Structure(
        tuple(blocks),
        tuple(parts),
        width,
        n_heads if checks["heads"].ok else None,
        norm,
        unembedding,
        scale,
        cap,
        checks,
        {c.path: int(c.inputs.shape[-1]) for c in calls if c.path in read and c.inputs is not None},
    )


def _blocks(model: Any, probe: Probe, calls: Sequence[Call]) -> tuple[list[str], int]:
    """The list of decoder blocks, proved by patching the last one."""
    by_path: dict[str, list[Call]] = {}
    for call in calls:
        by_path.setdefault(call.path, []).append(call)
    candidates: list[tuple[bool, int, int, list[str]]] = []
    looped = False
    depth = model.config.get_text_config().to_dict().get("num_hidden_layers")
    for path, module in model.named_modules():
        if not isinstance(module, nn.ModuleList | nn.Sequential) or len(module) == 0:
            continue
        children = [f"{path}.{name}" if path else name for name, _ in module.named_children()]
        called = [child for child in children if child in by_path]  # blocks for another kind of input stay silent
        if called and all(_maps_stream(call, probe.ids) for child in called for call in by_path[child]):
            if any(len(by_path[child]) > 1 for child in called):
                looped = True
                continue
            size = sum(p.numel() for p in module.parameters())
            candidates.append((len(children) == depth, size, by_path[called[-1]][0].order, called))
    modules = dict(model.named_modules())
    for *_, children in sorted(candidates, key=lambda c: c[:3], reverse=True):
        last = modules[children[-1]]
        with recorded(model, probe.ids.shape) as other_calls:
            probe.run(probe.other)
        donor = next(c.output for c in other_calls if c.path == children[-1])
        assert donor is not None
        with edited({last: lambda _, donor=donor: donor}):  # type: ignore[misc]
            patched = probe.run(probe.ids)
        if probe.near(patched, probe.other_logits) and not probe.near(probe.logits, probe.other_logits):
            return children, int(donor.shape[-1])
    if candidates:
        reason = "the logits depend on more than the last block's output"
    elif looped:
        reason = "its blocks run several times on one input"
    else:
        reason = "no list of its modules maps one residual stream (batch, length, width) to itself"
    raise UserError(f"no stack of decoder blocks can be proved in {type(model).__name__}: {reason}", where="--model")


def _maps_stream(call: Call, ids: Tensor) -> bool:
    x, y = call.inputs, call.output
    return x is not None and y is not None and x.shape == y.shape and y.ndim == 3 and y.shape[:2] == ids.shape


def _lens(
    model: Any, probe: Probe, calls: Sequence[Call], blocks: Sequence[str]
) -> tuple[str | None, str | None, float, float | None, Check]:
    """Final norm, unembedding and what follows it; by replay when no such modules reproduce the logits."""
    head = model.get_output_embeddings()
    last = next(c for c in calls if c.path == blocks[-1])
    unembedding = next((c for c in calls if c.module is head), None)
    assert last.output is not None
    if unembedding is not None and unembedding.inputs is not None and unembedding.output is not None:
        after = [c for c in calls if c.order > last.order and c.path != unembedding.path]
        for norm in after:
            if norm.inputs is None or norm.output is None or any(True for _ in norm.module.children()):
                continue
            if not torch.equal(norm.inputs, last.output) or norm.output.shape != unembedding.inputs.shape:
                continue
            raw = _unembedded(unembedding.module, norm.module(last.output))
            for scale, cap in _tails(model, raw, probe):
                logits = raw * scale
                if cap is not None:
                    logits = cap * torch.tanh(logits / cap)
                if probe.near(logits, probe.logits):
                    error = probe.distance(logits, probe.logits)
                    return norm.path, unembedding.path, scale, cap, Check(True, f"equals the logits within {error:.1e}")
    modules = dict(model.named_modules())
    state = last.output.reshape(-1, 1, last.output.shape[-1])
    with edited({modules[blocks[-1]]: lambda _: state}):
        replayed = probe.run(probe.ids.reshape(-1, 1))
    if probe.near(replayed.reshape(probe.logits.shape), probe.logits):
        return None, None, 1.0, None, Check(True, "by replay of what follows the last block")
    return None, None, 1.0, None, Check(False, "what follows the last block depends on more than its output")


def _unembedded(head: nn.Module, state: Tensor) -> Tensor:
    """Logits of a state, in the precision of the head: some models keep their residual stream in another."""
    weight = getattr(head, "weight", None)
    if isinstance(weight, Tensor) and weight.is_floating_point():
        state = state.to(weight.dtype)
    logits: Tensor = head(state)
    return logits


def _tails(model: Any, raw: Tensor, probe: Probe) -> list[tuple[float, float | None]]:
    """Scalings and soft caps that could follow the unembedding."""
    config = model.config.get_text_config()
    cap = getattr(config, "final_logit_softcapping", None)
    ratio = float((raw * probe.logits).sum() / (raw * raw).sum().clamp_min(1e-12))
    return [(1.0, None), (1.0, cap), (ratio, None)] if cap else [(1.0, None), (ratio, None)]
