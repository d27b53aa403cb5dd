"""The scan and the convolution for processors, against those of transformers, of which every model here has its own."""

from __future__ import annotations

import copy
import importlib
import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from rote_bench.models import statespace
from rote_bench.models.statespace import causal_convolution, quicken, selective_scan

from ..releases import new_transformers

SMALL = {"vocab_size": 11, "hidden_size": 16, "num_hidden_layers": 2, "pad_token_id": 0}
named = new_transformers("has no functions of these names")
MODELS: dict[str, dict[str, Any]] = {
    "mamba": {"state_size": 4},
    "falcon_mamba": {"state_size": 4},
    "jamba": {
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "intermediate_size": 16,
        "mamba_d_state": 4,
        "attn_layer_period": 2,
        "attn_layer_offset": 1,
        "num_experts": 1,
        "use_mamba_kernels": False,
    },
    "mamba2": {"state_size": 4, "num_heads": 4, "head_dim": 8, "n_groups": 1, "chunk_size": 4},
}


def general(model_type: str, name: str) -> Callable[..., Any]:
    """The function as transformers has it."""
    found = getattr(importlib.import_module(f"transformers.models.{model_type}.modeling_{model_type}"), name)
    return inspect.unwrap(found)  # type: ignore[no-any-return]


def random_inputs(batch: int, length: int, channels: int, states: int, dtype: torch.dtype) -> dict[str, Tensor]:
    torch.manual_seed(batch + 10 * length)
    shapes = {
        "hidden_states": (batch, channels, length),
        "dt": (batch, channels, length),
        "B": (batch, states, length),
        "C": (batch, states, length),
        "z": (batch, channels, length),
        "D": (channels,),
        "delta_bias": (channels,),
    }
    made = {name: torch.randn(shape, dtype=dtype) for name, shape in shapes.items()}
    made["A"] = -torch.rand(channels, states, dtype=torch.float32) - 0.5
    return {name: value.requires_grad_() for name, value in made.items()}


def outcome(function: Callable[..., Any], inputs: dict[str, Tensor], **kwargs: Any) -> list[Tensor]:
    """Results and gradients of a weighted sum of all of them."""
    inputs = {name: value.detach().clone().requires_grad_() for name, value in inputs.items()}
    results = function(**inputs, **kwargs)
    results = list(results) if isinstance(results, tuple) else [results]
    torch.manual_seed(1)
    torch.autograd.backward(torch.stack([(r.float() * torch.randn(r.shape)).sum() for r in results]).sum())
    return [r.detach() for r in results] + [i.grad for i in inputs.values() if i.grad is not None]


@named
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("batch", "length", "channels", "states"), [(5, 7, 6, 4), (1, 1, 3, 2), (3, 20, 1, 1)])
def test_the_scan_is_that_of_transformers(
    batch: int, length: int, channels: int, states: int, dtype: torch.dtype, last: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statespace, "STATES", 2 * length * channels * states)  # the batch does not divide evenly
    inputs = random_inputs(batch, length, channels, states, dtype)
    options: dict[str, Any] = {"delta_softplus": True, "return_last_state": last}
    wanted = outcome(general("mamba", "mamba_selective_scan"), inputs, **options)
    found = outcome(selective_scan, inputs, **options)
    assert [f.dtype for f in found] == [w.dtype for w in wanted]
    for f, w in zip(found, wanted, strict=True):
        scale = w.abs().max().clamp(min=1.0)
        assert (f - w).abs().max() <= (1e-5 if dtype == torch.float32 else 0.05) * scale


def test_the_gradient_of_the_scan_is_its_derivative() -> None:
    x = random_inputs(2, 4, 3, 2, torch.float64)
    parts = [x[name].detach().transpose(1, 2).contiguous().requires_grad_() for name in ("hidden_states", "B", "C")]
    steps = torch.rand(2, 4, 3, dtype=torch.float64, requires_grad=True)
    rate = x["A"].detach().double().t().contiguous().requires_grad_()
    assert torch.autograd.gradcheck(statespace._Scan.apply, (parts[0], steps, rate, parts[1], parts[2]))


@named
@pytest.mark.parametrize("activation", [None, "silu"])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("length", [1, 3, 9])
def test_the_convolution_is_that_of_transformers(length: int, biased: bool, activation: str | None) -> None:
    torch.manual_seed(0)
    inputs = {"hidden_states": torch.randn(2, 5, length), "weight": torch.randn(5, 4)}
    if biased:
        inputs["bias"] = torch.randn(5)
    wanted = outcome(general("mamba", "causal_conv1d_fn"), inputs, activation=activation)
    found = outcome(causal_convolution, inputs, activation=activation)
    for f, w in zip(found, wanted, strict=True):
        torch.testing.assert_close(f, w, rtol=1e-5, atol=1e-5)


@named
@pytest.mark.parametrize("model_type", sorted(MODELS))
def test_a_quickened_model_learns_as_before(model_type: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module(f"transformers.models.{model_type}.modeling_{model_type}")
    names = [name for name in ("mamba_selective_scan", "causal_conv1d_fn") if hasattr(module, name)]
    assert names
    for name in names:
        monkeypatch.setattr(module, name, general(model_type, name))
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(CONFIG_MAPPING[model_type](**SMALL, **MODELS[model_type])).train()
    ids = torch.randint(1, 11, (3, 9))

    def gradients(one: Any) -> list[Tensor]:
        loss = one(input_ids=ids, labels=ids, use_cache=False).loss
        return [loss.detach(), *torch.autograd.grad(loss, list(one.parameters()))]

    wanted = gradients(copy.deepcopy(model))
    quicken(model)
    quick = [getattr(module, name) for name in names]
    assert all(hasattr(function, "quickened") for function in quick)
    quicken(model)
    assert [getattr(module, name) for name in names] == quick
    for found, want in zip(gradients(model), wanted, strict=True):
        torch.testing.assert_close(found, want, rtol=1e-4, atol=1e-6)


def test_accelerators_and_the_compiler_keep_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    fast, general = (lambda *_, name=name: asked.append(name) for name in ("fast", "general"))
    call = statespace._quickened(fast, general, statespace._always)
    call(torch.zeros(1))
    call(torch.zeros(1, device="meta"))
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    call(torch.zeros(1))
    assert asked == ["fast", "general", "general"]


def test_other_models_are_left_alone() -> None:
    module = importlib.import_module("transformers.models.gpt2.modeling_gpt2")
    before = dict(vars(module))
    quicken(AutoModelForCausalLM.from_config(CONFIG_MAPPING["gpt2"](vocab_size=11, n_embd=8, n_layer=1, n_head=1)))
    assert vars(module) == before


def test_several_models_are_scanned_at_once_as_one_by_one() -> None:
    """By the transformation of torch.func, and with all rows in one call, as accelerators take them."""
    many = [random_inputs(3, 5, 4, 2, torch.float32) for _ in range(2)]
    for k, inputs in enumerate(many):
        for name, value in inputs.items():
            inputs[name] = (value.detach() * (1 + k)).requires_grad_()

    def score(inputs: dict[str, Tensor]) -> Tensor:
        y, last = selective_scan(**inputs, delta_softplus=True, return_last_state=True)
        total: Tensor = (y * y).sum() + last.sum()
        return total

    together = {name: torch.stack([inputs[name].detach() for inputs in many]) for name in many[0]}
    stacked = torch.func.vmap(torch.func.grad(score))(together)
    for k, inputs in enumerate(many):
        single = torch.autograd.grad(score(inputs), list(inputs.values()))
        for name, gradient in zip(inputs, single, strict=True):
            torch.testing.assert_close(stacked[name][k], gradient, rtol=1e-5, atol=1e-5)
    shapes = [(3, 5, 4), (3, 5, 4), (2, 4), (3, 5, 2), (3, 5, 2)]
    parts = [torch.randn(2, *shape) for shape in shapes]
    gradients = [torch.randn(2, 3, 5, 4), torch.randn(2, 3, 2, 4)]
    for function, given in ((statespace._scan, parts), (statespace._scan_gradient, [*parts, *gradients])):
        for found, wanted in zip(
            statespace._rows_together(function, given),
            statespace._of_several(function, 2, [0] * len(given), given),
            strict=True,
        ):
            torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


@named
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("length", [1, 6])
def test_the_short_scan_is_that_of_transformers(groups: int, length: int) -> None:
    torch.manual_seed(groups)
    inputs = {
        "hidden_states": torch.randn(3, length, 4, 5),
        "dt": torch.randn(3, length, 4),
        "A": -torch.rand(4) - 0.5,
        "B": torch.randn(3, length, groups, 2),
        "C": torch.randn(3, length, groups, 2),
        "D": torch.randn(4),
        "dt_bias": torch.randn(4),
    }
    options: dict[str, Any] = {"chunk_size": 4, "dt_softplus": True, "dt_limit": (0.01, 2.0)}
    wanted = outcome(general("mamba2", "mamba2_chunk_scan"), inputs, **options)
    found = outcome(statespace.short_scan, inputs, **options)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("length", "options", "taken"),
    [
        (4, {}, "fast"),
        (5, {}, "general"),
        (4, {"return_final_states": True}, "general"),
        (4, {"initial_states": torch.zeros(1)}, "general"),
    ],
)
def test_the_short_scan_is_taken_within_a_chunk_when_no_states_are_wanted(
    length: int, options: dict[str, Any], taken: str
) -> None:
    call = statespace._quickened(lambda *_, **__: "fast", lambda *_, **__: "general", statespace._is_short)
    assert call(torch.zeros(2, length, 3, 1), chunk_size=4, **options) == taken


def test_the_short_scan_makes_no_states() -> None:
    with pytest.raises(ValueError, match="no states"):
        statespace.short_scan(*(torch.zeros(1, 1, 1, 1),) * 5, 4, return_final_states=True)
