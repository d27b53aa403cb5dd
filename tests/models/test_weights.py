"""Weights are those of their files: nothing is made up, nothing is left out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from rote_bench.encoding import build_tokenizer
from rote_bench.errors import UserError
from rote_bench.models.load import FromConfig, ModelRequest
from rote_bench.models.pretrained import FromPretrained
from rote_bench.models.weights import read

Weights = dict[str, torch.Tensor]


def saved(folder: Path, name: str) -> Path:
    """A model of two small layers with its tokenizer: GPT-2's head is tied to its embedding, Llama's is not."""
    request = ModelRequest(name, 5, 16, overrides={"layers": 2, "width": 16, "heads": 2})
    FromConfig().load(request).model.save_pretrained(folder)
    build_tokenizer(["a", "b"]).save_pretrained(folder)
    return folder


def changed(folder: Path, change: Callable[[Weights], Weights]) -> Path:
    file = folder / "model.safetensors"
    save_file(change(load_file(file)), file, metadata={"format": "pt"})
    return folder


def opened(folder: Path) -> torch.nn.Module:
    model: torch.nn.Module = FromPretrained().load(ModelRequest(f"hf:{folder}", 0, 0)).model
    return model


def renamed(weights: Weights) -> Weights:
    return {f"foo.{name}": value for name, value in weights.items()}


def without_a_layer(weights: Weights) -> Weights:
    return {name: value for name, value in weights.items() if ".1." not in name}


def with_another_shape(weights: Weights) -> Weights:
    name = next(name for name in weights if ".1." in name and weights[name].ndim == 1)
    return {**weights, name: torch.zeros(3)}


def with_more(weights: Weights) -> Weights:
    return {**weights, "v_head.weight": torch.zeros(3)}


@pytest.mark.parametrize("name", ["gpt2-nano", "llama-nano"])
@pytest.mark.parametrize(
    ("change", "says"),
    [
        (renamed, r"\d+ tensors, such as .*, are missing; \d+ tensors, such as 'foo\..*, belong to no part"),
        (without_a_layer, r"such as '[^']*\.1\.[^']*', '[^']*\.1\.[^']*', '[^']*\.1\.[^']*', are missing"),
        (with_another_shape, r"'[^']*\.1\.[^']*' has another size: \(3,\) in the file, \(\d+,\) by config.json"),
        (with_more, r"'v_head.weight' belongs to no part of the model"),
    ],
)
def test_weights_that_are_not_the_models_are_refused(
    tmp_path: Path, name: str, change: Callable[[Weights], Weights], says: str
) -> None:
    folder = changed(saved(tmp_path / "m", name), change)
    with pytest.raises(UserError, match=says) as raised:
        opened(folder)
    assert "\n" not in str(raised.value) and str(raised.value).startswith("--model: ")
    with pytest.raises(UserError, match=f"--snapshot: .*{says}"):
        read(folder, name=str(folder), where="--snapshot")


@pytest.mark.parametrize("name", ["gpt2-nano", "llama-nano"])
def test_a_vocabulary_that_the_weights_do_not_have_is_refused(tmp_path: Path, name: str) -> None:
    folder = saved(tmp_path / "m", name)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "vocab_size": config["vocab_size"] + 7}))
    with pytest.raises(UserError, match=r"another size: \(5, 16\) in the file, \(12, 16\) by config.json"):
        opened(folder)


def test_a_tied_head_may_be_saved_or_not(tmp_path: Path) -> None:
    folder = saved(tmp_path / "m", "gpt2-nano")
    weights = load_file(folder / "model.safetensors")
    assert "lm_head.weight" not in weights
    ids = torch.tensor([[3, 4]])
    with torch.no_grad():
        first = opened(folder)(input_ids=ids).logits  # before the file changes, which the model may still map
        changed(folder, lambda w: {**w, "lm_head.weight": w["transformer.wte.weight"].clone()})
        assert torch.equal(opened(folder)(input_ids=ids).logits, first)


def test_a_head_that_is_not_tied_must_be_there(tmp_path: Path) -> None:
    folder = changed(
        saved(tmp_path / "m", "llama-nano"), lambda w: {name: v for name, v in w.items() if name != "lm_head.weight"}
    )
    with pytest.raises(UserError, match=r"'lm_head.weight' is missing"):
        opened(folder)


def test_settings_of_generation_that_contradict_each_other_can_be_saved_again(tmp_path: Path) -> None:
    folder = saved(tmp_path / "m", "llama-nano")
    given = {"bos_token_id": 1, "eos_token_id": 2, "temperature": 0.6, "top_p": 0.9}
    (folder / "generation_config.json").write_text(json.dumps(given))
    model = opened(folder)
    model.save_pretrained(tmp_path / "again")  # type: ignore[operator]
    kept = json.loads((tmp_path / "again" / "generation_config.json").read_text())
    assert (kept["bos_token_id"], kept["eos_token_id"]) == (1, 2)
    assert not {"temperature", "top_p"} & kept.keys()
