"""Adapters load with the base that they name, whole or not at all."""

from __future__ import annotations

import importlib.util
import json
import shutil
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from rote_bench.encoding import build_tokenizer
from rote_bench.errors import UserError
from rote_bench.models.load import LoadedModel, ModelRequest
from rote_bench.models.pretrained import FromPretrained, own_tokenizer

from .test_folder import POINTER
from .test_weights import saved

pytest.importorskip("peft")

IDS = torch.tensor([[0, 1, 2, 3, 4]])
PRETRAINED = {"gpt2-nano": ["c_attn", "c_fc"], "llama-nano": ["q_proj", "down_proj"]}


def adapter_on(base: Path, folder: Path, targets: list[str], **options: object) -> torch.Tensor:
    """An adapter of random weights on a base, saved into a folder, and the logits of both together."""
    from peft import LoraConfig, get_peft_model

    model = AutoModelForCausalLM.from_pretrained(base)
    fan = "gpt2" in model.config.model_type and "wte" not in targets
    given = {"r": 2, "lora_alpha": 4, "fan_in_fan_out": fan, "task_type": "CAUSAL_LM", **options}
    with warnings.catch_warnings():  # of names that transformers will change, and of matrices that are tied
        warnings.simplefilter("ignore")
        adapted = get_peft_model(model, LoraConfig(target_modules=targets, **given)).eval()
    torch.manual_seed(0)
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.3)
    adapted.save_pretrained(folder, save_embedding_layers=False)
    with torch.no_grad():
        logits: torch.Tensor = adapted(input_ids=IDS).logits
    return logits


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    """A folder with a base and, beside it, an adapter of it that names it relatively."""
    adapter_on(saved(tmp_path / "base", "gpt2-nano"), tmp_path / "adapter", ["c_attn"])
    configured(tmp_path / "adapter", base_model_name_or_path="../base")
    return tmp_path


def configured(folder: Path, **changes: object) -> None:
    file = folder / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def load(folder: Path, **changes: str) -> LoadedModel:
    return FromPretrained().load(replace(ModelRequest(f"hf:{folder}", 0, 0), **changes))  # type: ignore[arg-type]


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=IDS).logits
    return found


@pytest.mark.parametrize("name", PRETRAINED)
@pytest.mark.parametrize("options", [{}, {"use_dora": True}, {"use_rslora": True}])
def test_an_adapter_is_merged_into_its_base(tmp_path: Path, name: str, options: dict[str, object]) -> None:
    base = saved(tmp_path / "base", name)
    wanted = adapter_on(base, tmp_path / "adapter", PRETRAINED[name], **options)
    loaded = load(tmp_path / "adapter")
    assert type(loaded.model).__module__.startswith("transformers.")
    torch.testing.assert_close(logits(loaded.model), wanted, rtol=1e-4, atol=1e-5)
    assert (wanted - logits(load(base).model)).abs().max() > 0.01
    assert loaded.trainable and all(p.requires_grad for p in loaded.model.parameters())
    loaded.model.save_pretrained(tmp_path / "whole")
    build_tokenizer(["a", "b"]).save_pretrained(tmp_path / "whole")
    torch.testing.assert_close(logits(load(tmp_path / "whole").model), logits(loaded.model))


@pytest.mark.parametrize("options", [{}, {"modules_to_save": ["lm_head"]}], ids=["embedding", "head"])
def test_an_adapter_of_one_end_of_a_tied_matrix_leaves_the_other(tmp_path: Path, options: dict[str, object]) -> None:
    base = saved(tmp_path / "base", "gpt2-nano")
    targets = ["c_attn"] if options else ["wte"]
    wanted = adapter_on(base, tmp_path / "adapter", targets, **options)
    loaded = load(tmp_path / "adapter")
    torch.testing.assert_close(logits(loaded.model), wanted, rtol=1e-4, atol=1e-5)
    loaded.model.save_pretrained(tmp_path / "whole")
    build_tokenizer(["a", "b"]).save_pretrained(tmp_path / "whole")
    torch.testing.assert_close(logits(load(tmp_path / "whole").model), logits(loaded.model))


def test_both_contents_are_told_apart_and_places_are_not(pair: Path, tmp_path: Path) -> None:
    adapter, base = load(pair / "adapter"), load(pair / "base")
    assert adapter.base == base.weights and adapter.weights != base.weights and base.base is None
    shutil.copytree(pair / "adapter", pair / "elsewhere" / "adapter")
    configured(pair / "elsewhere" / "adapter", base_model_name_or_path=str(pair / "base"))
    moved = load(pair / "elsewhere" / "adapter")
    assert (moved.base, moved.weights) == (adapter.base, adapter.weights)
    configured(pair / "elsewhere" / "adapter", lora_alpha=8)
    stronger = load(pair / "elsewhere" / "adapter")
    assert stronger.base == adapter.base and stronger.weights != adapter.weights
    whole = AutoModelForCausalLM.from_pretrained(pair / "base")
    whole.transformer.wte.weight.data.mul_(2)
    whole.save_pretrained(pair / "base")
    other = load(pair / "adapter")
    assert other.base != adapter.base and other.weights == adapter.weights


def test_the_tokenizer_is_the_adapters_or_else_the_bases(pair: Path) -> None:
    request = ModelRequest(f"hf:{pair / 'adapter'}", 0, 0)
    assert "b" in load(pair / "adapter").tokenizer.get_vocab() and "b" in own_tokenizer(request).get_vocab()
    build_tokenizer(["a", "c"]).save_pretrained(pair / "adapter")
    loaded = load(pair / "adapter")
    assert "c" in loaded.tokenizer.get_vocab() and "c" in own_tokenizer(request).get_vocab()
    assert loaded.tokenizer_content != load(pair / "base").tokenizer_content
    for file in (pair / "base").glob("tokenizer*"):
        file.unlink()
    assert "c" in load(pair / "adapter").tokenizer.get_vocab()


Weights = dict[str, torch.Tensor]


def without_one(weights: Weights) -> Weights:
    return {name: value for name, value in weights.items() if "h.1.attn.c_attn.lora_B" not in name}


def with_more(weights: Weights) -> Weights:
    return {**weights, "base_model.model.transformer.h.7.attn.c_attn.lora_A.weight": torch.zeros(2, 16)}


def of_another_rank(weights: Weights) -> Weights:
    return {name: value[:1] if "h.0.attn.c_attn.lora_A" in name else value for name, value in weights.items()}


def of_another_model(weights: Weights) -> Weights:
    return {name.replace("transformer.h", "model.layers"): value for name, value in weights.items()}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (without_one, r"'[^']*h\.1\.attn\.c_attn\.lora_B[^']*' is missing"),
        (with_more, r"'[^']*h\.7\.attn\.c_attn\.lora_A[^']*' belongs to no part"),
        (of_another_rank, r"'[^']*h\.0\.attn\.c_attn\.lora_A[^']*' has another size: \(1, 16\) in the file, \(2, 16\)"),
        (of_another_model, r"4 tensors, such as .* are missing; 4 tensors, such as .*model\.layers.* belong to no"),
    ],
)
def test_weights_that_are_not_the_adapters_are_named(
    pair: Path, change: Callable[[Weights], Weights], says: str
) -> None:
    file = pair / "adapter" / "adapter_model.safetensors"
    save_file(change(load_file(file)), file)
    with pytest.raises(UserError, match=says) as raised:
        load(pair / "adapter")
    assert "\n" not in str(raised.value) and str(raised.value).startswith("--model: ")


def cut_short(folder: Path) -> None:
    file = folder / "adapter" / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-10])


def pointed(folder: Path) -> None:
    (folder / "adapter" / "adapter_model.safetensors").write_text(POINTER)


def base_pointed(folder: Path) -> None:
    (folder / "base" / "model.safetensors").write_text(POINTER)


def base_cut_short(folder: Path) -> None:
    file = folder / "base" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-10])


def base_gone(folder: Path) -> None:
    shutil.rmtree(folder / "base")


def base_unnamed(folder: Path) -> None:
    configured(folder / "adapter", base_model_name_or_path=None)


def of_itself(folder: Path) -> None:
    configured(folder / "adapter", base_model_name_or_path=".")


def pickled(folder: Path) -> None:
    (folder / "adapter" / "adapter_model.safetensors").rename(folder / "adapter" / "adapter_model.bin")


def empty(folder: Path) -> None:
    (folder / "adapter" / "adapter_model.safetensors").unlink()


def both(folder: Path) -> None:
    shutil.copy(folder / "base" / "model.safetensors", folder / "adapter")


def of_no_kind(folder: Path) -> None:
    configured(folder / "adapter", peft_type="NEXT")


def of_prompts(folder: Path) -> None:
    said = {"peft_type": "PROMPT_TUNING", "num_virtual_tokens": 2, "base_model_name_or_path": "../base"}
    (folder / "adapter" / "adapter_config.json").write_text(json.dumps(said))


def not_json(folder: Path) -> None:
    (folder / "adapter" / "adapter_config.json").write_text("{")


def of_nothing(folder: Path) -> None:
    configured(folder / "adapter", target_modules=["q_proj"])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (cut_short, "adapter_model.safetensors is cut short or damaged"),
        (pointed, "adapter_model.safetensors is a git-lfs pointer"),
        (base_pointed, "base': model.safetensors is a git-lfs pointer"),
        (base_cut_short, "base': model.safetensors is cut short or damaged"),
        (base_gone, r"its base '\.\./base' is not there"),
        (base_unnamed, "does not name its base"),
        (of_itself, r"its base '\.' is an adapter itself"),
        (pickled, r"its weights are pickled \(adapter_model.bin\)"),
        (empty, "it has no weights"),
        (both, "it holds a whole model, and an adapter"),
        (of_no_kind, "peft cannot read its adapter_config.json: .*NEXT"),
        (of_prompts, "a PROMPT_TUNING adapter adds states, not weights"),
        (not_json, "adapter_config.json is not JSON"),
        (of_nothing, "with its base: .*q_proj"),
    ],
)
def test_faults_of_an_adapter_are_one_line(pair: Path, change: Callable[[Path], None], says: str) -> None:
    change(pair)
    with pytest.raises(UserError, match=says) as raised:
        load(pair / "adapter")
    assert "\n" not in str(raised.value)


def test_without_peft_the_extra_is_named(pair: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "rote_bench.models.adapters.find_spec", lambda name, *a: None if name == "peft" else find(name, *a)
    )
    with pytest.raises(UserError, match=r"adapters need peft \(pip install 'reason-to-rote-bench\[peft\]'\)"):
        load(pair / "adapter")


def test_an_adapter_is_kept_as_the_weights_are_asked_for(pair: Path) -> None:
    loaded = load(pair / "adapter", dtype="bfloat16")
    assert {p.dtype for p in loaded.model.parameters()} == {torch.bfloat16}
    whole = logits(load(pair / "adapter").model)
    assert (logits(loaded.model).float() - whole).abs().max() < 0.05 * whole.abs().max()
    with pytest.raises(UserError, match="--dtype: an adapter cannot be merged into 4bit weights"):
        load(pair / "adapter", dtype="4bit")


def test_an_adapter_of_the_cache_is_one_by_its_commit(
    pair: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    kept = tmp_path / "hub" / "models--someone--adapter"
    (kept / "refs").mkdir(parents=True)
    (kept / "refs" / "main").write_text("0" * 40)
    shutil.copytree(pair / "adapter", kept / "snapshots" / ("0" * 40))
    configured(kept / "snapshots" / ("0" * 40), base_model_name_or_path=str(pair / "base"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    loaded = FromPretrained().load(ModelRequest("hf:someone/adapter", 0, 0))
    assert loaded.revision == "0" * 40 and loaded.weights == load(pair / "adapter").weights
    torch.testing.assert_close(logits(loaded.model), logits(load(pair / "adapter").model))
