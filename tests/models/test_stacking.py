"""Which models can be trained as one, by proof."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from transformers.modeling_outputs import CausalLMOutput

from rote_bench.models import stacking
from rote_bench.models.load import FromConfig, ModelRequest
from rote_bench.models.stacking import as_one, idle, stackable
from rote_bench.models.statespace import quicken

from ..releases import new_transformers


def model(name: str) -> Any:
    overrides = {"layers": 2, "width": 32, "heads": 2}
    made = FromConfig().load(ModelRequest(f"{name}-nano", 20, 16, pad_token_id=0, overrides=overrides)).model
    quicken(made)
    return made


EXPERTS = pytest.param("mixtral", marks=new_transformers("looks at values to send tokens to experts"))


@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma2", EXPERTS, "mamba", "mamba2", "rwkv"])
def test_kinds_of_models_that_stack(name: str) -> None:
    net = model(name)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    check = stackable(net)
    assert check.ok, check.detail
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


def test_a_function_that_torch_func_cannot_transform_is_the_reason() -> None:
    check = stackable(model("recurrent_gemma"))
    assert not check.ok
    assert "autograd.Function" in check.detail


def test_other_gradients_are_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = stacking.Network.gradients

    def changed(self: Any, *args: Any) -> Any:
        gradients, losses = whole(self, *args)
        gradients["transformer.wte.weight"][1] *= 1.001
        return gradients, losses

    monkeypatch.setattr(stacking.Network, "gradients", changed)
    check = stackable(model("gpt2"))
    assert not check.ok
    assert "from single ones" in check.detail


class Tiny(nn.Module):
    """A model with a part that nothing depends on, which draws at random while it learns."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.words = nn.Embedding(8, 4)
        self.out = nn.Linear(4, 8)
        self.unused = nn.Linear(4, 4)
        self.drop = nn.Dropout(dropout)
        self.config = type("Config", (), {"pad_token_id": 0, "get_text_config": lambda self: self})()

    def get_input_embeddings(self) -> nn.Module:
        return self.words

    def forward(self, input_ids: torch.Tensor) -> CausalLMOutput:
        return CausalLMOutput(logits=self.out(self.drop(self.words(input_ids).cumsum(1))))


def test_what_no_answer_depends_on_is_left_out() -> None:
    assert idle(Tiny(0.0)) == {"unused.weight", "unused.bias"}
    assert stackable(Tiny(0.0)).ok


def test_models_that_draw_at_random_do_not_stack() -> None:
    check = stackable(Tiny(0.5))
    assert not check.ok
    assert "random" in check.detail


def test_what_was_set_aside_is_put_back() -> None:
    net = model("gpt2")
    from transformers.models.gpt2 import modeling_gpt2

    before = modeling_gpt2.create_causal_mask
    with as_one(net) as prime:
        assert net.config.pad_token_id is None
        assert modeling_gpt2.create_causal_mask is not before
        prime(2, 3)
    assert net.config.pad_token_id == 0
    assert modeling_gpt2.create_causal_mask is before
