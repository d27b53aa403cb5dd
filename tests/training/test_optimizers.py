"""Muon against the singular value decomposition, AdamW against torch's own."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

from rote_bench.training import optimizers
from rote_bench.training.optimizers import make_optimizer, orthogonalize


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("shape", [(32, 32), (32, 128), (128, 32)])
def test_orthogonalize_approaches_the_polar_factor(shape: tuple[int, int], dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    matrices = torch.randn(3, *shape, generator=generator)
    ours = orthogonalize(matrices.to(dtype))
    assert ours.dtype == dtype
    ours = ours.float()
    u, s, vh = torch.linalg.svd(matrices, full_matrices=False)
    kept = s > 0.05 * s[:, :1]
    ours_in_basis = torch.einsum("bik,bij,bkj->bk", u, ours, vh)
    assert ((ours_in_basis - 1).abs()[kept] < 0.2).all()
    together = torch.stack([orthogonalize(m[None].to(dtype))[0] for m in matrices]).float()
    assert torch.allclose(together, ours, atol=0.05 if dtype == torch.bfloat16 else 1e-5)


def spectrum(kind: str, rows: int, columns: int) -> torch.Tensor:
    """(1, rows, columns) with singular values as gradients have them: even, falling, or a few large and many small."""
    matrices = torch.randn(1, rows, columns, generator=torch.Generator().manual_seed(1))
    u, _, vh = torch.linalg.svd(matrices, full_matrices=False)
    k = torch.arange(1, rows + 1)
    values = {"even": torch.ones(rows), "falling": 1 / k, "few": torch.where(k <= 10, 1.0, 0.03)}[kind]
    made: torch.Tensor = (u * values) @ vh
    return made


@pytest.mark.parametrize("kind", ["even", "falling", "few"])
@pytest.mark.parametrize("tall", [False, True])
def test_on_the_gram_matrix_the_iteration_is_the_same_and_as_exact(
    kind: str, tall: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    matrices = spectrum(kind, 96, 256)
    matrices = matrices.mT if tall else matrices

    def both(dtype: torch.dtype) -> list[torch.Tensor]:
        out = []
        for least in (97, 96):
            monkeypatch.setattr(optimizers, "WIDE", least)
            out.append(orthogonalize(matrices.to(dtype)).double())
        return out

    plain, small = both(torch.float64)
    assert torch.allclose(plain, small, atol=1e-12)
    errors = [torch.linalg.matrix_norm(rounded - plain, 2).item() for rounded in both(torch.bfloat16)]
    assert 0 < errors[1] < 1.5 * errors[0] + 0.02
    assert torch.linalg.matrix_norm(both(torch.bfloat16)[1], 2) < 1.15


def test_small_and_square_matrices_are_iterated_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: torch.Tensor) -> torch.Tensor:
        raise AssertionError

    monkeypatch.setattr(optimizers, "_iterate_on_gram", never)
    for shape in ((1, 511, 2044), (1, 512, 512), (1, 512, 1023), (1, 128, 512)):
        orthogonalize(torch.ones(shape))
    with pytest.raises(AssertionError):
        orthogonalize(torch.ones(1, 1024, 512))


def test_muon_iterates_in_the_precision_of_training() -> None:
    """Without noise of bfloat16 one step has the singular values that the same iteration in float64 gives."""

    def step(precision: str) -> torch.Tensor:
        torch.manual_seed(0)
        net = nn.Linear(32, 64, bias=False)
        before = net.weight.detach().double()
        optimizer = make_optimizer(net, kind="muon", muon_lr=1.0, adam_lr=0.0, weight_decay=0.0, precision=precision)
        net.weight.grad = torch.randn(64, 32)
        expected = orthogonalize(net.weight.grad[None].double())[0]
        optimizer.step()
        return (before - net.weight.detach().double()) / 2**0.5 - expected

    assert step("float32").abs().max() < 1e-5
    assert 1e-4 < step("bfloat16").abs().max() < 0.05


def model() -> GPT2LMHeadModel:
    torch.manual_seed(0)
    still = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0, "bos_token_id": None, "eos_token_id": None}
    return GPT2LMHeadModel(GPT2Config(vocab_size=20, n_positions=8, n_embd=32, n_layer=2, n_head=2, **still))


def backward(net: nn.Module) -> None:
    ids = torch.arange(16).reshape(2, 8)
    net.zero_grad()
    net(input_ids=ids, labels=ids).loss.backward()


def test_adamw_agrees_with_torch() -> None:
    ours, theirs = model(), model()
    mine = make_optimizer(ours, kind="adamw", muon_lr=1.0, adam_lr=1e-2, weight_decay=0.1)
    reference = torch.optim.AdamW(theirs.parameters(), lr=1e-2, betas=(0.9, 0.98), weight_decay=0.1)
    for _ in range(5):
        backward(ours)
        backward(theirs)
        mine.step(), reference.step()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-5)


def test_a_parameter_that_joins_late_moves_as_in_torchs_adamw() -> None:
    """Such as an expert that no token reached before, or one that is left out now and then."""
    torch.manual_seed(0)
    net = nn.ParameterList([nn.Parameter(torch.randn(5)) for _ in range(4)])
    theirs = copy.deepcopy(net)
    ours = make_optimizer(net, kind="adamw", muon_lr=0.0, adam_lr=0.01, weight_decay=0.1)
    reference = torch.optim.AdamW(theirs.parameters(), lr=0.01, weight_decay=0.1, betas=(0.9, 0.98), eps=1e-8)
    joins = [range(40), range(20, 40), range(1, 40, 3), (7, 30)]
    for step in range(40):
        for own, other, join in zip(net, theirs, joins, strict=True):
            gradient = torch.randn(5) if step in join else None
            own.grad, other.grad = gradient, None if gradient is None else gradient.clone()
        ours.step()
        reference.step()
        for own, other in zip(net, theirs, strict=True):
            assert torch.allclose(own, other, rtol=1e-5, atol=1e-7), step


def test_hidden_matrices_get_muon_and_the_rest_adamw() -> None:
    net = model()
    optimizer = make_optimizer(net, kind="muon", muon_lr=0.02, adam_lr=1e-3, weight_decay=0.0)
    groups = {g["algorithm"]: {id(p) for p in g["params"]} for g in optimizer.param_groups}
    assert groups["muon"] == {id(p) for n, p in net.named_parameters() if p.ndim == 2 and ".h." in n}
    assert len(groups["muon"]) + len(groups["adamw"]) == len(list(net.parameters()))
    before = copy.deepcopy(net.state_dict())
    backward(net)
    optimizer.step()
    step = net.state_dict()["transformer.h.0.mlp.c_fc.weight"] - before["transformer.h.0.mlp.c_fc.weight"]
    largest = torch.linalg.matrix_norm(step, ord=2).item()
    assert largest == pytest.approx(0.02 * (128 / 32) ** 0.5, rel=0.15)


def test_a_resumed_optimizer_steps_as_if_never_stopped() -> None:
    straight, stopped = model(), model()
    a = make_optimizer(straight, kind="muon", muon_lr=0.02, adam_lr=1e-3, weight_decay=0.1)
    b = make_optimizer(stopped, kind="muon", muon_lr=0.02, adam_lr=1e-3, weight_decay=0.1)
    for _ in range(3):
        backward(straight)
        backward(stopped)
        a.step(), b.step()
    resumed = make_optimizer(stopped, kind="muon", muon_lr=0.02, adam_lr=1e-3, weight_decay=0.1)
    resumed.load_state_dict(copy.deepcopy(b.state_dict()))
    for _ in range(3):
        backward(straight)
        backward(stopped)
        a.step(), resumed.step()
    for x, y in zip(straight.parameters(), stopped.parameters(), strict=True):
        assert torch.equal(x, y)
