"""An adapter in place of a model's weights: what it may change, and that merged it says the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from rote_bench.errors import UserError
from rote_bench.models.anatomy import Anatomy
from rote_bench.models.load import FromConfig, ModelRequest
from rote_bench.models.lora import Lora, adapt, described, is_adapted, merged, save, saved_state
from rote_bench.training.optimizers import make_optimizer

pytest.importorskip("peft")

IDS = torch.tensor([[0, 1, 2, 3, 4]])
SIZES = {"layers": 2, "width": 16, "heads": 2}


def adapted(name: str, dtype: str = "float32", **given: Any) -> Any:
    model = FromConfig().load(ModelRequest(name, 50, 16, overrides=SIZES, dtype=dtype)).model
    adapt(model, Lora.asked(given), "base", revision=None, seed=0, where="here")
    return model


def learned(model: Any) -> Any:
    """The model after random steps of what is trained."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=IDS).logits
    return found


@pytest.mark.parametrize("name", ["gpt2-nano", "llama-nano", "mamba-nano", "qwen3_moe-nano"])
def test_an_adapter_begins_as_nothing_and_is_merged_exactly(name: str) -> None:
    model = adapted(name)
    plain = FromConfig().load(ModelRequest(name, 50, 16, overrides=SIZES)).model
    assert torch.equal(logits(model), logits(plain)) and is_adapted(model) and not is_adapted(plain)
    whole = merged(learned(model))
    assert is_adapted(model) and not is_adapted(whole) and merged(plain) is plain
    torch.testing.assert_close(logits(whole), logits(model), rtol=1e-4, atol=1e-4)
    assert (logits(whole) - logits(plain)).abs().max() > 0.01
    assert {n: p.shape for n, p in whole.named_parameters()} == {n: p.shape for n, p in plain.named_parameters()}
    assert all(p.requires_grad for p in whole.parameters())


@pytest.mark.parametrize("name", ["gpt2-nano", "llama-nano"])
def test_the_structure_of_merged_weights_holds_of_both_side_by_side(name: str) -> None:
    model = learned(adapted(name))
    found = Anatomy.of(merged(model))
    assert all(check.ok for check in found.checks.values())
    for part in ("mixer", "mlp", "heads", "units"):
        assert found.on(model).module(1, part) is not None
    state = torch.randn(2, 3, 16, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(found.on(model).lens(state), found.lens(state))


def test_only_the_adapter_is_given_to_the_optimizer_and_none_of_it_to_muon() -> None:
    model = adapted("llama-nano", targets=["q_proj", "down_proj"])
    optimizer = make_optimizer(model, kind="muon", muon_lr=0.1, adam_lr=0.01, weight_decay=0.5)
    (group,) = optimizer.param_groups
    trained = [p for name, p in model.named_parameters() if "lora_" in name]
    assert group["algorithm"] == "adamw" and {*map(id, group["params"])} == {*map(id, trained)}
    assert described(model)["trainable_parameters"] == sum(p.numel() for p in trained)
    before = {name: p.clone() for name, p in model.named_parameters()}
    model(input_ids=IDS).logits.square().mean().backward()
    group["lr"] = 0.01
    optimizer.step()
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert moved and all("lora_" in name for name in moved)


def test_an_adapter_is_drawn_by_its_seed_alone() -> None:
    first, second = adapted("gpt2-nano"), adapted("gpt2-nano")
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_an_adapter_of_half_precision_is_trained_in_float32() -> None:
    model = adapted("llama-nano", "bfloat16")
    kinds = {p.requires_grad: p.dtype for p in model.parameters()}
    assert kinds == {True: torch.float32, False: torch.bfloat16}
    assert {p.dtype for p in merged(learned(model)).parameters()} == {torch.bfloat16}


def test_what_is_saved_is_the_adapter_and_comes_back_as_it_was(tmp_path: Path) -> None:
    model = learned(adapted("gpt2-nano", rank=3))
    save(model, tmp_path)
    files = sorted(file.name for file in tmp_path.iterdir())
    assert files == ["adapter_config.json", "adapter_model.safetensors"]
    state = saved_state(tmp_path, adapted("gpt2-nano", rank=3))
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    with pytest.raises(UserError, match="another size"):
        saved_state(tmp_path, adapted("gpt2-nano", rank=4))
    with pytest.raises(UserError, match="are missing"):
        saved_state(tmp_path, adapted("llama-nano", rank=3))


def test_a_target_is_a_name_or_the_end_of_a_path() -> None:
    model = adapted("gpt2-nano", targets=["h.0.attn.c_attn"])
    changed = {name.partition(".lora_")[0] for name, p in model.named_parameters() if p.requires_grad}
    assert changed == {"transformer.h.0.attn.c_attn"}
    with pytest.raises(UserError, match="here: 'attn' is no matrix of gpt2"):
        adapted("gpt2-nano", targets=["attn"])


def test_a_matrix_that_is_read_past_its_module_is_no_target() -> None:
    assert described(adapted("mamba-nano"))["targets"] == ["in_proj", "x_proj"]
    with pytest.raises(UserError, match=r"'dt_proj' is a matrix that is read past its module, of mamba"):
        adapted("mamba-nano", targets=["dt_proj"])
