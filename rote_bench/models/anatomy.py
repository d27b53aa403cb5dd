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
from ..strangers import reason_of
from . import columns
from .blocks import find_blocks
from .outside import AGAIN
from .parts import BlockParts, count_heads, find_parts
from .prefix import Recording, check_prefix, recording
from .probe import Call, Check, Probe, edited, recorded
from .wrapped import Wrapped, words_of

MIXED = 1e-3  # of the largest logit: more than float32 rounds away with another size of the batch, less than mixing

PARTS = ("block", "mixer", "mlp", "heads", "units", "lens")
INSIDE = ("no_op", "last_block", "parts_sum", "mlp", "heads", "units", "lens", "prefix")  # checks of what is inside


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
        turns: of each block, which of its module's calls it is, from 0; empty where each module is called once.
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
    turns: tuple[int, ...] = ()


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

        What cannot be proved is switched off: ``checks`` says why.

        Raises:
            UserError: when the model sees later tokens, that there are some, or other rows, when it answers otherwise
                if asked again, or when it gives no finite logits.
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
        return cls(model, _closed(reason, {name: Check(False, reason) for name in ("causal", "right_padding")}))

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

    def turn(self, layer: int) -> int | None:
        """Which call of its modules a layer is, from 0; None where they are called once."""
        return self.structure.turns[layer] if self.structure.turns else None

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


FAINT = 1e-3  # parameters whose largest is smaller let nothing through that could be told


@contextmanager
def _awake(model: nn.Module) -> Iterator[None]:
    """Lend random values to parameters that are next to zero while proving: through a zero, every proof would hold."""
    floating = (p for p in model.parameters() if p.is_floating_point() and p.numel())
    weak = [p for p in floating if float(p.detach().abs().max()) < FAINT]
    asleep = [(p, p.clone()) for p in weak]
    generator = torch.Generator().manual_seed(1)
    try:
        for p, _ in asleep:
            p.copy_(0.02 * torch.randn(p.shape, generator=generator))
        yield
    finally:
        for p, before in asleep:
            p.copy_(before)


def _find(model: Any) -> Structure:
    """What can be proved of a model: how it answers first, then what is inside.

    Raises:
        UserError: when it cannot be asked as models are here.
    """
    try:
        probe = Probe(model, words_of(model))
        longer = torch.cat([probe.ids, torch.zeros_like(probe.ids[:, :2])], 1)
        padded = probe.run(longer)
    except Exception as error:  # whatever the model's code raises
        hint = "it must take any number of tokens up to 16 and up to the longest question"
        raise UserError(f"the model fails for 8 tokens: {reason_of(error, 200)}", where="--model", hint=hint) from error
    if not bool(probe.logits.isfinite().all()):
        raise UserError("the model gives logits that are NaN or infinite", where="--model")
    if not probe.near(probe.run(probe.ids), probe.logits):
        raise UserError(f"the model {AGAIN[0]}", where="--model", hint=AGAIN[1])
    checks: dict[str, Check] = {}
    for at in range(1, probe.ids.shape[1]):
        changed = probe.ids.clone()
        changed[:, at] = probe.other[:, at]
        if probe.near(probe.run(changed)[:, :at], probe.logits[:, :at]):
            continue
        raise UserError(
            "the model sees later tokens, so it is no causal language model",
            where="--model",
            hint="its logits at a position may depend on the tokens up to there alone",
        )
    checks["causal"] = Check(True, "a later token changes no earlier logit")
    alone = torch.cat([probe.run(probe.ids[i : i + 1]) for i in range(len(probe.ids))])
    if probe.distance(alone, probe.logits) > max(MIXED, probe.relative) * float(probe.logits.abs().max()):
        raise UserError(
            "what the model answers depends on the other rows of its batch",
            where="--model",
            hint="its logits may depend on their own row alone",
        )
    columns.prove(model, probe)
    if not probe.near(padded[:, : probe.ids.shape[1]], probe.logits):
        raise UserError(
            "tokens appended on the right change logits before them, and padding stands there", where="--model"
        )
    checks["right_padding"] = Check(True, "tokens appended on the right change no logit")
    try:
        return _inside(model, probe, checks)
    except UserError as error:
        return _closed(error.what, checks)
    except Exception as error:  # what an architecture's own code makes of being looked into
        reason = reason_of(error, 200)
        return _closed(f"it fails when it is looked into: {reason}", checks)


def _closed(reason: str, checks: Mapping[str, Check]) -> Structure:
    """A model of which nothing inside is known."""
    inside = {name: Check(False, reason) for name in INSIDE}
    return Structure((), (), 0, None, None, None, 1.0, None, {**checks, **inside}, {})


def _inside(model: Any, probe: Probe, checks: dict[str, Check]) -> Structure:
    """Blocks and their parts, with the proofs of them beside those that there are.

    Raises:
        NotProved: when no blocks can be proved.
    """
    checks = dict(checks)
    with recorded(model, probe.ids.shape) as calls:
        probe.run(probe.ids)
    blocks = find_blocks(model, probe, calls)
    modules = dict(model.named_modules())
    with edited({modules[b]: lambda x: x.clone() for b in blocks.distinct}):
        checks["no_op"] = Check(
            probe.near(probe.run(probe.ids), probe.logits), "putting every block's output back changes nothing"
        )
    checks["last_block"] = Check(True, "the last block's output of another input gives that input's logits")
    found, checks["parts_sum"] = find_parts(probe, blocks.first_turns(calls), blocks.distinct)
    of_each = dict(zip(blocks.distinct, found, strict=True))
    parts = [of_each[path] for path in blocks.paths]
    if blocks.turns:
        turns = f" ({len(blocks.paths)} turns of {len(blocks.distinct)} modules, looked into at the first)"
        for name in ("no_op", "last_block", "parts_sum"):
            checks[name] = Check(checks[name].ok, checks[name].detail + turns)
    for part, what in (("mlp", "MLP"), ("heads", "head"), ("units", "MLP unit")):
        there = sum(getattr(p, part) is not None for p in parts)
        ok = there == len(parts)
        several = next(((b, p.mlps) for b, p in zip(blocks.paths, parts, strict=True) if p.mlps), None)
        if several and part != "heads":
            names = " and ".join(path.removeprefix(f"{several[0]}.") for path in several[1])
            checks[part] = Check(False, f"a block has several MLPs ({names}), and none of them is the MLP")
            continue
        checks[part] = Check(ok, f"found in {there} of {len(parts)} blocks" if there else f"no {what}s found")
    norm, unembedding, scale, cap, checks["lens"] = _lens(model, probe, calls, blocks.calls[-1])
    if blocks.turns:
        checks["prefix"] = Check(False, "its blocks run several times on one input")
    else:
        checks["prefix"] = check_prefix(probe, modules, blocks.paths, parts)
    read = {path for p in parts for path in (p.heads, p.units) if path is not None}
    widths = {c.path: int(c.inputs.shape[-1]) for c in calls if c.path in read and c.inputs is not None}
    return Structure(
        blocks.paths,
        tuple(parts),
        blocks.width,
        count_heads(model, parts, widths) if checks["heads"].ok else None,
        norm,
        unembedding,
        scale,
        cap,
        checks,
        widths,
        blocks.turns,
    )


def _lens(
    model: Any, probe: Probe, calls: Sequence[Call], last: Call
) -> tuple[str | None, str | None, float, float | None, Check]:
    """Final norm, unembedding and what follows it; by replay when no such modules reproduce the logits.

    Args:
        last: of the last block.
    """
    head = model.get_output_embeddings()
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
    with edited({modules[last.path]: lambda _: state}):
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
    """Scalings and soft caps that could follow the unembedding: constants, as a structure serves other weights too.

    A scale that no configuration names may be a weight, so that of modules of any kind none is taken for a constant.
    """
    config = model.config.get_text_config()
    cap = getattr(config, "final_logit_softcapping", None)
    if isinstance(model, Wrapped):
        return [(1.0, None)]
    ratio = float((raw * probe.logits).sum() / (raw * raw).sum().clamp_min(1e-12))
    return [(1.0, None), (1.0, cap), (ratio, None)] if cap else [(1.0, None), (ratio, None)]
