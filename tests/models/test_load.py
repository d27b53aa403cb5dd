"""Names, sizes and loading."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from rote_bench.errors import UserError
from rote_bench.models.anatomy import Anatomy
from rote_bench.models.load import FromConfig, ModelRequest
from rote_bench.models.names import known_types, parse
from rote_bench.models.pretrained import FromPretrained
from rote_bench.models.sizing import config_for


def request(name: str, **changes: object) -> ModelRequest:
    return ModelRequest(name, vocab_size=50, max_length=16, pad_token_id=0, eos_token_id=2, **changes)  # type: ignore[arg-type]


def test_the_known_types_are_those_of_transformers() -> None:
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    assert list(known_types()) == list(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


def test_gpt2_small_is_the_published_one() -> None:
    config = config_for("gpt2", "small", vocab_size=50257, max_length=1024)
    assert (config.n_layer, config.n_embd, config.n_head, config.n_positions) == (12, 768, 12, 1024)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("gpt2-nan", "sizes: nano"),
        ("lama-nano", "llama-nano"),
        ("nonsense", "unknown model"),
        ("hf:", "needs a name"),
    ],
)
def test_unknown_names_are_one_line_with_advice(name: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        parse(name)


def test_names_are_understood() -> None:
    assert (parse("gpt2-nano").model_type, parse("gpt2-nano").size) == ("gpt2", "nano")
    assert parse("xlm-roberta-nano").model_type == "xlm-roberta"
    assert (parse("hf:a/b@v1").path, parse("hf:a/b@v1").revision) == ("a/b", "v1")


def test_the_seed_decides_the_weights_and_nothing_else_is_touched() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = FromConfig().load(request("gpt2-nano", seed=1)).model
    assert torch.equal(torch.rand(3), expected)
    again = FromConfig().load(request("gpt2-nano", seed=1)).model
    other = FromConfig().load(request("gpt2-nano", seed=2)).model
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True))


def test_overrides_reach_the_configuration() -> None:
    overrides = {
        "layers": 2,
        "width": 64,
        "heads": 4,
        "activation": "relu",
        "dropout": 0.1,
        "config": {"layer_norm_epsilon": 0.1},
    }
    config = FromConfig().load(request("gpt2-nano", overrides=overrides)).model.config
    assert (config.n_layer, config.n_embd, config.n_head, config.activation_function) == (2, 64, 4, "relu")
    assert (config.resid_pdrop, config.layer_norm_epsilon) == (0.1, 0.1)
    with pytest.raises(UserError, match=r"no setting 'layer_norm_epsilom'.*layer_norm_epsilon"):
        config_for("gpt2", "nano", vocab_size=9, max_length=9, overrides={"config": {"layer_norm_epsilom": 1}})
    with pytest.raises(UserError, match="not divisible"):
        config_for("gpt2", "nano", vocab_size=9, max_length=9, overrides={"heads": 3})


def test_weights_come_back_from_a_folder(tmp_path: Path) -> None:
    from rote_bench.encoding import build_tokenizer

    model = FromConfig().load(request("llama-nano", overrides={"layers": 2, "width": 32, "heads": 2})).model
    tokenizer = build_tokenizer(["a", "b"])
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    loaded = FromPretrained().load(request(f"hf:{tmp_path}"))
    assert loaded.model_type == "llama" and loaded.source == "pretrained"
    assert (
        loaded.tokenizer("a b", add_special_tokens=False)["input_ids"]
        == tokenizer("a b", add_special_tokens=False)["input_ids"]
    )
    ids = torch.tensor([[1, 2, 3]])
    with torch.no_grad():
        assert torch.allclose(loaded.model(input_ids=ids).logits, model(input_ids=ids).logits, atol=1e-6)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small Llama with its tokenizer, saved."""
    from rote_bench.encoding import build_tokenizer

    where = tmp_path / "llama"
    FromConfig().load(request("llama-nano", overrides={"layers": 1, "width": 16, "heads": 2})).model.save_pretrained(
        where
    )
    build_tokenizer(["a", "b"]).save_pretrained(where)
    return where


def pickled(folder: Path) -> None:
    torch.save({}, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def without_tokenizer(folder: Path) -> None:
    for file in folder.glob("tokenizer*"):
        file.unlink()


def with_code(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.OwnForCausalLM"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "own.py").write_text("raise SystemExit('this code ran')")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (pickled, r"weights are pickled \(pytorch_model.bin\).*save_pretrained"),
        (without_tokenizer, "has no tokenizer.*tokenizer.save_pretrained"),
        (with_code, "comes with code of its own.*--trust-remote-code"),
    ],
)
def test_what_is_wrong_with_a_folder_is_one_line(folder: Path, change: Callable[[Path], None], says: str) -> None:
    change(folder)
    with pytest.raises(UserError, match=says) as raised:
        FromPretrained().load(request(f"hf:{folder}"))
    assert "\n" not in str(raised.value)


def test_local_weights_are_known_by_their_content(folder: Path) -> None:
    first = FromPretrained().load(request(f"hf:{folder}"))
    assert first.revision is not None and first.revision.startswith("sha256:")
    assert FromPretrained().load(request(f"hf:{folder}")).revision == first.revision
    with torch.no_grad():
        next(first.model.parameters()).add_(1)
    first.model.save_pretrained(folder)
    assert FromPretrained().load(request(f"hf:{folder}")).revision != first.revision


def test_weights_in_the_cache_need_no_hub_and_are_known_by_their_commit(folder: Path, tmp_path: Path) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    kept = tmp_path / "cache" / "models--me--tiny"
    (kept / "refs").mkdir(parents=True)
    (kept / "refs" / "main").write_text(commit)
    shutil.copytree(folder, kept / "snapshots" / commit)
    code = (
        "import socket\n"
        "def refused(*_): raise AssertionError('the network was asked')\n"
        "socket.socket.connect = socket.getaddrinfo = refused\n"
        "from rote_bench.models.load import ModelRequest\n"
        "from rote_bench.models.pretrained import FromPretrained\n"
        "print(FromPretrained().load(ModelRequest('hf:me/tiny', 50, 16)).revision)"
    )
    environment = {**os.environ, "HF_HUB_CACHE": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "0"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
    assert done.stdout.strip() == commit, done.stderr


def test_the_hub_is_not_asked_when_it_is_switched_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"nobody/nothing.*neither a folder nor in the local cache.*switched off"):
        FromPretrained().load(request("hf:nobody/nothing"))


@pytest.mark.parametrize("dtype", ["8bit", "4bit"])
def test_quantised_weights_say_what_they_need(folder: Path, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "bitsandbytes" else find(name))
    with pytest.raises(UserError, match=f"{dtype} weights need.*bitsandbytes.*pip install"):
        FromPretrained().load(request(f"hf:{folder}", dtype=dtype))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_weights_are_kept_in_the_type_that_was_asked_for(folder: Path, dtype: str) -> None:
    model = FromPretrained().load(request(f"hf:{folder}", dtype=dtype)).model
    assert {p.dtype for p in model.parameters()} == {getattr(torch, dtype)}
    assert Anatomy.of(model).supports("lens").ok


def test_a_folder_that_is_not_there_is_one_line() -> None:
    with pytest.raises(UserError, match=r"no folder './nowhere'"):
        FromPretrained().load(request("hf:./nowhere"))
