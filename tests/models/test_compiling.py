"""What torch.compile is asked for, and what is said where it cannot work; tests/test_training.py trains with it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import MambaConfig, MambaForCausalLM

from rote_bench.errors import UserError
from rote_bench.models.compiling import compiled
from rote_bench.models.statespace import quicken

from ..releases import new_transformers


def test_without_a_compiler_one_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("no compiler found\nand a long story")

    monkeypatch.setattr(torch, "compile", broken)
    with pytest.raises(UserError, match="no compiler found") as caught:
        compiled(torch.nn.Linear(2, 2))
    assert "long story" not in str(caught.value) and "--compile" in str(caught.value)


@new_transformers("scans in no function of its own")
def test_the_scan_is_kept_from_the_compiler_and_the_model_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def recorded(what: Any, **options: Any) -> Any:
        asked.append((what, options))
        return what

    kept: list[Any] = []

    def disable(function: Any) -> Any:
        kept.append(function)
        return function

    config = MambaConfig(vocab_size=10, hidden_size=8, num_hidden_layers=1, state_size=2)
    model = MambaForCausalLM(config)
    quicken(model)
    monkeypatch.setattr(torch, "compile", recorded)
    monkeypatch.setattr(torch.compiler, "disable", disable)
    ids = torch.arange(6).reshape(1, 6)
    before = model(input_ids=ids).logits
    call = compiled(model)
    assert asked[-1] == (model, {"dynamic": False})
    assert {function.__name__ for function in kept} == {"mamba_selective_scan", "causal_conv1d_fn"}
    assert torch.equal(call(input_ids=ids).logits, before)
