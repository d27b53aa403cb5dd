"""What a plugin's provider gives is held to what was asked of it, in one line that names it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import rote_bench
from rote_bench.cli import main
from rote_bench.errors import UserError
from rote_bench.models.load import FromConfig, LoadedModel, ModelRequest
from rote_bench.models.provided import provided
from tests.models.loose import Plain
from tests.pipeline.test_runner import tiny

WORDS = 60


class Giving:
    """A provider that gives what a function makes."""

    name = "giving"
    description = "whatever it is told to"

    def __init__(self, give: Callable[[], Any]) -> None:
        self.give = give

    def matches(self, model_name: str) -> bool:
        return model_name == "given"

    def names(self) -> list[str]:
        return ["given"]

    def load(self, request: ModelRequest) -> Any:
        return self.give()


def model(**changes: Any) -> LoadedModel:
    given = {"model": Plain(WORDS), "tokenizer": None, "source": "plugin", "model_type": "plain"}
    return LoadedModel(**{**given, **changes})


def fails() -> Any:
    raise ValueError("boom\nsecond line")


WRONG: list[tuple[Callable[[], Any], str]] = [
    (lambda: None, "gives NoneType .*return a LoadedModel"),
    (lambda: Plain(WORDS), "gives Plain .*return a LoadedModel"),
    (lambda: (Plain(WORDS), None), "gives tuple"),
    (lambda: model(model=None), "gives NoneType for a model"),
    (lambda: model(model=lambda ids: ids), "gives function for a model"),
    (lambda: model(tokenizer="words"), "gives str for a tokenizer"),
    (lambda: model(source="mine"), "gives the source 'mine' .*say plugin"),
    (lambda: model(model_type=None), "gives the model_type None"),
    (lambda: model(trainable="no"), "gives trainable='no'"),
    (lambda: model(base={1: 2}), r"gives base=\{1: 2\} .*give a text, or None"),
    (lambda: model(builder=b"x"), "gives builder=b'x'"),
    (lambda: model(model=Plain(WORDS).to(torch.float16)), "gives weights of torch.float16 where float32"),
    (lambda: model(model=Plain(WORDS).to("meta")), "gives weights on meta where cpu is asked for"),
    (fails, r"fails: ValueError: boom second line \(test_provided\.py:\d+\)"),
]


@pytest.mark.parametrize(("give", "says"), WRONG)
def test_what_is_no_model_is_told(give: Callable[[], Any], says: str) -> None:
    with pytest.raises(UserError, match=f"the provider 'giving' {says}"):
        provided(Giving(give), ModelRequest("given", WORDS, 16))


def test_what_is_one_goes_through() -> None:
    made = model()
    assert provided(Giving(lambda: made), ModelRequest("given", WORDS, 16)) is made
    frozen = model(model=nn.Sequential(nn.Embedding(WORDS, WORDS)), trainable=False)
    assert provided(Giving(lambda: frozen), ModelRequest("given", WORDS, 16)) is frozen
    scratch = provided(FromConfig(), ModelRequest("gpt2-nano", WORDS, 16, pad_token_id=0, eos_token_id=2))
    assert scratch.source == "scratch"


PLUGIN = """
from rote_bench.plugin import hookimpl

class Provider:
    name = "mine"
    description = "gives nothing"
    def matches(self, model_name): return model_name == "mine"
    def names(self): return ["mine"]
    def load(self, request): return None

@hookimpl
def register_models(register): register(Provider())
"""


def test_a_run_ends_in_a_line_and_exit_two(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.py").write_text(PLUGIN)
    task, plugin = str(tiny(tmp_path)), str(tmp_path / "mine.py")
    assert main(["run", task, "--model", "mine", "--plugin", plugin, "-o", str(tmp_path / "runs"), "--quiet"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "the provider 'mine' gives NoneType" in line
    with pytest.raises(UserError, match="the provider 'mine' gives NoneType"):
        rote_bench.check_model("mine", plugins=[tmp_path / "mine.py"])
