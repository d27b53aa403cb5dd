"""Names, sizes and loading."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from rote_bench.errors import UserError
from rote_bench.models.load import FromConfig, FromPretrained, ModelRequest
from rote_bench.models.names import known_types, parse
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


def test_a_folder_that_is_not_there_is_one_line() -> None:
    with pytest.raises(UserError, match=r"no folder './nowhere'"):
        FromPretrained().load(request("hf:./nowhere"))
