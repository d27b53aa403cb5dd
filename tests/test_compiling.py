"""What torch.compile is asked for, and what is said where it cannot work; tests/test_training.py trains with it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import MambaConfig, MambaForCausalLM

from rote_bench.errors import UserError
from rote_bench.models.compiling import compiled


def test_without_a_compiler_one_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("no compiler found\nand a long story")

    monkeypatch.setattr(torch, "compile", broken)
    with pytest.raises(UserError, match="no compiler found") as caught:
        compiled(torch.nn.Linear(2, 2))
    assert "long story" not in str(caught.value) and "--compile" in str(caught.value)


def test_a_scan_is_unrolled_on_a_processor_and_the_model_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def recorded(what: Any, **options: Any) -> Any:
        asked.append((what, options))
        return what

    monkeypatch.setattr(torch, "compile", recorded)
    config = MambaConfig(vocab_size=10, hidden_size=8, num_hidden_layers=1, state_size=2)
    model = MambaForCausalLM(config)
    mixer = model.backbone.layers[0].mixer
    mixer.use_associative_scan = True
    ids = torch.arange(6).reshape(1, 6)
    before = model(input_ids=ids).logits
    call = compiled(model)
    assert asked[-1] == (model, {"dynamic": False}) and not mixer.use_associative_scan
    assert torch.equal(call(input_ids=ids).logits, before)
