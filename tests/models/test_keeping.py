"""Snapshots of models that their configuration does not say, and starts at random that are the same architecture."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from rote_bench.errors import UserError
from rote_bench.models.content import of_state
from rote_bench.models.keeping import check_saved, of_module, opened, save, saved_state, unlearned
from rote_bench.models.load import ModelRequest
from rote_bench.models.objects import FromPython
from tests.models.loose import Plain

WORDS = 40
IDS = torch.randint(0, WORDS, (2, 7), generator=torch.Generator().manual_seed(0))
BUILDER = "sha256:0"


def gpt2(layers: int = 3) -> GPT2LMHeadModel:
    config = GPT2Config(
        vocab_size=WORDS, n_positions=32, n_embd=16, n_layer=layers, n_head=2, bos_token_id=1, eos_token_id=1
    )
    return GPT2LMHeadModel(config).eval()


def dropped() -> GPT2LMHeadModel:
    model = gpt2()
    model.transformer.h = model.transformer.h[:2]
    return model


def replaced() -> GPT2LMHeadModel:
    model = gpt2()
    model.transformer.h[0].mlp = nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 16))
    return model


def adapted() -> GPT2LMHeadModel:
    peft = pytest.importorskip("peft")
    model = gpt2()
    model.add_adapter(peft.LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["c_attn"], fan_in_fan_out=True))
    return model


class Wider(GPT2LMHeadModel):  # type: ignore[misc]
    """A class that takes more than a configuration."""

    def __init__(self, config: GPT2Config, extra: int) -> None:
        super().__init__(config)
        self.extra = nn.Linear(16, extra)


def loaded(model: Any) -> Any:
    return FromPython("m", model, source="object").load(ModelRequest("m", WORDS, 16, 0)).model


@pytest.mark.parametrize("make", [dropped, replaced, adapted, lambda: Wider(gpt2().config, 3)])
def test_a_model_that_was_changed_after_it_was_made_is_kept_whole(make: Callable[[], Any], tmp_path: Path) -> None:
    model, start = loaded(make()), loaded(make())
    check_saved(model, IDS, BUILDER)
    save(model, tmp_path / "s", BUILDER)
    assert str(of_module(tmp_path / "s")).endswith(type(model).__qualname__)
    read = opened(tmp_path / "s", start, name="s", where="--snapshot")
    assert of_state(read) == of_state(model)
    with torch.no_grad():
        assert torch.equal(read(input_ids=IDS).logits, model(input_ids=IDS).logits)
    start.load_state_dict(saved_state(tmp_path / "s", start))
    assert of_state(start) == of_state(model)


def test_a_model_as_its_configuration_makes_it_is_read_by_transformers(tmp_path: Path) -> None:
    model = loaded(gpt2())
    check_saved(model, IDS, BUILDER)
    assert model.config.architectures is None, "trying it leaves no trace"
    save(model, tmp_path / "s", BUILDER)
    assert of_module(tmp_path / "s") is None
    read = AutoModelForCausalLM.from_pretrained(tmp_path / "s").eval()
    assert of_state(read) == of_state(model)


def test_what_a_snapshot_would_lack_is_told_before_training() -> None:
    class Filtered(Plain):
        def state_dict(self, *args: Any, **kwargs: Any) -> Any:
            return {k: v for k, v in super().state_dict(*args, **kwargs).items() if "embed" not in k}

    with pytest.raises(UserError, match=r"a snapshot of Filtered does not open: .*embed\.weight.*let state_dict"):
        check_saved(loaded(Filtered(WORDS)), IDS, BUILDER)


@pytest.mark.parametrize("number", [float("inf"), float("nan")])
def test_a_configuration_with_numbers_that_json_has_not_is_kept(number: float, tmp_path: Path) -> None:
    module: Any = Plain(WORDS)
    module.config = {"cap": number, "depth": 2}
    model = loaded(module)
    save(model, tmp_path / "s", BUILDER)
    said = json.loads((tmp_path / "s" / "config.json").read_text())
    assert said["cap"] == str(number) and said["depth"] == 2


def test_a_configuration_that_cannot_be_read_is_left_out() -> None:
    class Odd(Plain):
        @property
        def config(self) -> Any:
            raise RuntimeError("not yet")

    assert loaded(Odd(WORDS)).config.settings == {}


@pytest.mark.parametrize("make", [dropped, replaced])
def test_the_start_at_random_of_a_changed_model_is_changed_alike(make: Callable[[], Any]) -> None:
    model = loaded(make())
    fresh = unlearned(model, 1)
    shapes = {name: value.shape for name, value in model.state_dict().items()}
    assert {name: value.shape for name, value in fresh.state_dict().items()} == shapes
    assert of_state(fresh) != of_state(model) and of_state(fresh) == of_state(unlearned(model, 1))


def test_the_start_at_random_of_a_class_that_takes_more_is_its_own_numbers_shuffled() -> None:
    model = loaded(Wider(gpt2().config, 3))
    fresh = unlearned(model, 1)
    own, theirs = model.transformer.wte.weight, fresh.transformer.wte.weight
    assert torch.equal(own.flatten().sort().values, theirs.flatten().sort().values) and not torch.equal(own, theirs)


def test_a_function_that_builds_a_model_of_transformers_is_asked_again() -> None:
    def deeper(vocab_size: int) -> GPT2LMHeadModel:
        model, other = gpt2(2), gpt2(2)
        model.transformer.h.extend(other.transformer.h)
        return model

    model = loaded(deeper)
    fresh = unlearned(model, 5)
    again = FromPython("m", deeper).load(ModelRequest("m", WORDS, 16, 0, seed=5)).model
    assert len(fresh.transformer.h) == 4 and of_state(fresh) == of_state(again) != of_state(model)


def test_the_start_at_random_trains_what_the_model_trains() -> None:
    model = gpt2()
    model.transformer.wpe.requires_grad_(False)
    fresh = unlearned(model, 1)
    trained = {name: p.requires_grad for name, p in model.named_parameters()}
    assert {name: p.requires_grad for name, p in fresh.named_parameters()} == trained
    assert not all(trained.values()) and not fresh.training


def test_answers_of_a_snapshot_are_compared() -> None:
    class Forgetful(Plain):
        """Loads something else than it gave."""

        def load_state_dict(self, state: Any, strict: bool = True, assign: bool = False) -> Any:
            changed = {k: v * 2 if isinstance(v, Tensor) and "head" in k else v for k, v in state.items()}
            return super().load_state_dict(changed, strict, assign)

    with pytest.raises(UserError, match="a snapshot of Forgetful answers otherwise"):
        check_saved(loaded(Forgetful(WORDS)), IDS, BUILDER)
