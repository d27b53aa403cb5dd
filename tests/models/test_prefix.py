"""What ran before a change is lent only to models that give the very same logits then."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import nn

from rote_bench.models.anatomy import Anatomy
from rote_bench.models.load import FromConfig, ModelRequest

OVERRIDES = {"layers": 3, "width": 32, "heads": 2}


def model_of(model_type: str = "gpt2") -> Any:
    request = ModelRequest(f"{model_type}-nano", vocab_size=40, max_length=16, pad_token_id=0, overrides=OVERRIDES)
    return FromConfig().load(request).model


def ids(seed: int, rows: int = 4) -> torch.Tensor:
    return torch.randint(1, 40, (rows, 7), generator=torch.Generator().manual_seed(seed))


class Shelf(nn.Module):
    """An MLP that leaves what it computed where another block's MLP finds it, beside the residual stream."""

    def __init__(self, inner: nn.Module, shelf: dict[str, torch.Tensor], *, reads: bool) -> None:
        super().__init__()
        self.inner, self.shelf, self.reads = inner, shelf, reads

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.inner(states)
        if self.reads:
            return out + self.shelf["left"]
        self.shelf["left"] = out
        return out


def with_a_shelf() -> Any:
    """A model whose second block reads what its first left beside the stream."""
    model, shelf = model_of(), {}  # type: tuple[Any, dict[str, torch.Tensor]]
    for layer, reads in ((0, False), (1, True)):
        block = model.transformer.h[layer]
        block.mlp = Shelf(block.mlp, shelf, reads=reads)
    return model


@contextmanager
def counted(model: nn.Module) -> Iterator[list[str]]:
    """The leaf modules that run, by path."""
    ran: list[str] = []
    leaves = [(path, m) for path, m in model.named_modules() if not any(True for _ in m.children())]
    handles = [m.register_forward_hook(lambda *_, path=path: ran.append(path)) for path, m in leaves]
    try:
        yield ran
    finally:
        for handle in handles:
            handle.remove()


def test_what_passes_beside_the_stream_fails_the_proof() -> None:
    found = Anatomy.of(with_a_shelf())
    assert found.checks["last_block"].ok and found.checks["parts_sum"].ok
    assert not found.checks["prefix"].ok and "more of earlier ones" in found.checks["prefix"].detail


def test_an_architecture_that_breaks_on_a_lent_output_fails_the_proof_with_its_own_words() -> None:
    model = model_of()
    block = model.transformer.h[2]
    own = block.forward

    def picky(states: Any, *args: Any, **kwargs: Any) -> Any:
        if "forward" in model.transformer.h[0].__dict__:
            raise RuntimeError("no block before me ran")
        return own(states, *args, **kwargs)

    block.forward = picky
    found = Anatomy.of(model)
    assert not found.checks["prefix"].ok
    assert found.checks["prefix"].detail.startswith("RuntimeError: no block before me ran (test_prefix.py:")
    assert block.forward is picky and "forward" not in model.transformer.h[0].__dict__


def test_a_model_that_cannot_be_looked_into_has_no_proof() -> None:
    assert not Anatomy.opaque(model_of(), "no transformer").checks["prefix"].ok


@pytest.mark.parametrize("model_type", ["gpt2", "gpt_neox", "gemma2"])
def test_only_what_comes_after_runs(model_type: str) -> None:
    model = model_of(model_type)
    found = Anatomy.of(model)
    with torch.no_grad(), found.recording() as recording:
        intact = model(input_ids=ids(1)).logits
    paths = {module: path for path, module in model.named_modules()}
    returned = [module for module, returns in recording.events if returns]
    assert [paths[m] for m in returned if m in recording.blocks] == list(found.structure.blocks)
    for number, module in enumerate(returned):
        with torch.no_grad(), recording.lent((module, True)), counted(model) as ran:
            assert torch.equal(model(input_ids=ids(1)).logits, intact)
        done = tuple(f"{paths[m]}." for m in returned[: number + 1])
        assert not [path for path in ran if path.startswith(done)]
        later = [b for b in found.structure.blocks if not f"{b}.".startswith(done)]
        assert all(any(path.startswith(f"{block}.") for path in ran) for block in later)
    assert not any("forward" in m.__dict__ for m in model.modules())


def test_blocks_that_work_in_place_leave_what_was_recorded() -> None:
    model = model_of()
    block = model.transformer.h[1]
    own = block.forward

    def in_place(states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        return own(states.mul_(2), *args, **kwargs)

    block.forward = in_place
    found = Anatomy.of(model)
    assert found.checks["prefix"].ok
    with torch.no_grad(), found.recording() as recording:
        intact = model(input_ids=ids(1)).logits
    for _ in range(2):
        with torch.no_grad(), recording.lent((model.transformer.h[0], True)):
            assert torch.equal(model(input_ids=ids(1)).logits, intact)


def test_a_block_that_runs_twice_is_not_recorded() -> None:
    model = model_of()
    found = Anatomy.of(model)
    with torch.no_grad(), pytest.raises(ValueError, match="several times"), found.recording():
        model(input_ids=ids(1))
        model(input_ids=ids(1))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
