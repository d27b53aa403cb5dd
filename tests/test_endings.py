"""Ends behind answers: asked for where answers begin with others, taught, told apart; and what a model cannot read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

import rote_bench
from rote_bench.encoding import IGNORED, build_tokenizer, encode, first_difference, seen
from rote_bench.endings import check_fits, check_prompts, reading, settle
from rote_bench.errors import UserError
from rote_bench.evaluation import decode, matches
from rote_bench.noise import Labelled
from rote_bench.rendering import ask_for_end, how_ended
from rote_bench.splits import Data
from rote_bench.tasks.example import Example, Task


class Asked(Task):
    """Questions with the given answers; any of them may be a label."""

    name = "asked"

    def __init__(self, answers: list[str], prompts: list[str] | None = None) -> None:
        super().__init__(None, 0)
        self.given = answers
        prompts = prompts or [f"q{i} is" for i in range(len(answers))]
        self.rows = [Example(prompt, answer) for prompt, answer in zip(prompts, answers, strict=True)]

    def __len__(self) -> int:
        return len(self.rows)

    def example(self, index: int) -> Example:
        return self.rows[index]

    def words(self) -> list[str]:
        return sorted({word for row in self.rows for word in row.text.split()})

    def answers(self, example: Example) -> list[str]:
        return sorted(set(self.given))

    def data(self) -> Data:
        part = Labelled(tuple(self.rows), tuple(self.given), ())
        return Data(part, part, part, Labelled((), (), ()))


def digits(*, end: bool = True, lower: bool = False) -> Any:
    """A tokenizer of single characters."""
    known = ["<s>", "</s>", *"abcdefghijklmnopqrstuvwxyzNY0123456789 \n"]
    core = Tokenizer(models.WordLevel({piece: i for i, piece in enumerate(known)}, unk_token="<s>"))
    core.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    if lower:
        core.normalizer = normalizers.Lowercase()
    return PreTrainedTokenizerFast(tokenizer_object=core, **({"eos_token": "</s>"} if end else {}))


def targets(tokenizer: Any, example: Example, answer: str) -> list[str]:
    row = encode(tokenizer, [example], [answer], named=False).targets[0]
    found: list[str] = tokenizer.convert_ids_to_tokens(row[row != IGNORED].tolist())
    return found


def test_an_end_is_asked_for_where_one_answer_begins_with_another() -> None:
    task = Asked(["north", "north west", "south"])
    tokenizer = build_tokenizer(task.words())
    ending = settle(tokenizer, task, task.data(), where="parameters")
    assert ending is not None and (ending.token, ending.shorter, ending.longer) == ("<end>", "north", "north west")
    first = task.example(0)
    assert targets(tokenizer, first, "north") == ["north", "<end>"]
    assert targets(tokenizer, first, "north west") == ["north", "west", "<end>"]
    position, true, label = first_difference(
        *(encode(tokenizer, [first], [answer], named=False) for answer in ("north", "north west"))
    )
    assert tokenizer.convert_ids_to_tokens([int(true), int(label)]) == ["<end>", "west"] and int(position) == 2
    assert reading(tokenizer, task.data(), own=False) == {"end": "taught <end>"}


def test_nothing_is_added_where_no_answer_begins_with_another() -> None:
    task = Asked(["north east", "north west", "south west"])
    tokenizer = build_tokenizer(task.words())
    ask_for_end(tokenizer, "taught")  # as a task before may have left it
    assert settle(tokenizer, task, task.data(), where="parameters") is None
    assert targets(tokenizer, task.example(0), "north west") == ["north", "west"]
    assert reading(tokenizer, task.data(), own=False) == {}


def test_the_tokens_decide_and_not_the_letters() -> None:
    task = Asked(["2", "27"], ["a", "b"])
    assert settle(build_tokenizer(task.words()), task, task.data(), where="x") is None  # a word each
    assert settle(digits(), task, task.data(), where="x") is not None
    with pytest.raises(UserError, match=r"--model: the answer '27' begins with the answer '2'.*no end of text"):
        settle(digits(end=False), task, task.data(), where="--model")


def test_answers_of_the_same_tokens_are_refused_naming_both() -> None:
    task = Asked(["Yes", "yes"], ["a", "b"])
    assert settle(build_tokenizer(task.words()), task, task.data(), where="x") is None
    with pytest.raises(UserError, match=r"--model: .*answers 'Yes' and 'yes'.*same tokens"):
        settle(digits(lower=True), task, task.data(), where="--model")
    twins = Asked(["caf\u00e9", "cafe\u0301"], ["a", "b"])
    tokenizer = build_tokenizer(twins.words())
    tokenizer.backend_tokenizer.normalizer = normalizers.NFC()
    with pytest.raises(UserError, match=r"'cafe\\u0301' and 'caf\\xe9' as the same tokens"):
        settle(tokenizer, twins, twins.data(), where="--model")


def test_an_answer_that_holds_the_end_is_refused() -> None:
    task = Asked(["a", "ab", "c</s>"], ["x", "y", "z"])
    with pytest.raises(UserError, match=r"the answer 'c</s>' holds '</s>', which has to end answers"):
        settle(digits(), task, task.data(), where="x")


def test_the_end_is_kept_with_the_tokenizer(tmp_path: Path) -> None:
    tokenizer = build_tokenizer(["a", "b"])
    ask_for_end(tokenizer, "taught")
    tokenizer.save_pretrained(tmp_path / "with")
    again = AutoTokenizer.from_pretrained(tmp_path / "with")
    assert how_ended(again) == "taught" and targets(again, Example("a", "b"), "b") == ["b", "<end>"]
    ask_for_end(tokenizer, None)
    tokenizer.save_pretrained(tmp_path / "without")
    assert "rote_bench" not in (tmp_path / "without" / "tokenizer_config.json").read_text()


def saying(tokenizer: Any, text: list[str]) -> Any:
    """A model that gives these tokens one after the other, whatever it is asked behind one token."""
    ids = tokenizer.convert_tokens_to_ids(text)

    class Saying(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def forward(self, input_ids: torch.Tensor) -> Any:
            logits = torch.zeros(*input_ids.shape, len(tokenizer))
            for place, token in enumerate(ids[: input_ids.shape[1]]):
                logits[:, place, token] = 1.0
            return type("Out", (), {"logits": logits})()

    return Saying()


@pytest.mark.parametrize(
    ("taught", "said", "text", "right", "wrong"),
    [
        (True, ["north", "<end>", "west"], "north", True, False),
        (True, ["north", "west", "<end>"], "north west", False, True),
        (True, ["north", "west", "north"], "north west north", False, False),
        (True, ["north", "south", "<end>"], "north south", False, False),
        (False, ["north", "south", "south"], "north", True, False),  # goes on, as nothing taught it to end
        (False, ["north", "west", "south"], "north west", False, True),
        (False, ["south", "west", "south"], "south west", False, False),
    ],
)
def test_a_model_says_one_of_two_answers(taught: bool, said: list[str], text: str, right: bool, wrong: bool) -> None:
    task = Asked(["north", "north west", "south"], ["a", "b", "c"])
    tokenizer = build_tokenizer(task.words())
    settle(tokenizer, task, task.data(), where="x", taught=taught)
    first = [task.example(0)]
    both = [encode(tokenizer, first, [answer], named=False) for answer in ("north", "north west")]
    texts, (is_true, is_label), _ = decode(saying(tokenizer, said), tokenizer, both)
    assert (texts, bool(is_true), bool(is_label)) == ([text], right, wrong)
    if taught:
        assert [bool(hit) for hit in matches(saying(tokenizer, said), both)] == [right, wrong]


def test_a_model_that_was_taught_to_end_its_answers_is_asked_for_it_without_training() -> None:
    task = Asked(["north", "north west"])
    tokenizer = build_tokenizer(task.words())
    settle(tokenizer, task, task.data(), where="x")
    found = settle(tokenizer, task, task.data(), where="x", taught=False)
    assert found is not None and found.how == "taught"


def small(rows: int, positions: int = 16) -> Any:
    return GPT2LMHeadModel(GPT2Config(vocab_size=rows, n_positions=positions, n_embd=8, n_layer=1, n_head=1))


def test_what_a_model_cannot_read_is_refused_before_it_is_trained() -> None:
    task = Asked(["north", "south"])
    tokenizer = build_tokenizer(task.words())
    encoded = [(task.rows, encode(tokenizer, task.rows, named=False))]
    check_fits(encoded, tokenizer, small(len(tokenizer)), where="--model")
    with pytest.raises(UserError, match=r"gives 'south' the id 7, and the model has embeddings for 7 tokens"):
        check_fits(encoded, tokenizer, small(len(tokenizer) - 1), where="--model")
    with pytest.raises(UserError, match="examples take 2 tokens and the model has 1 positions"):
        check_fits(encoded, tokenizer, small(len(tokenizer), 1), where="--model")
    twice = Asked(["n", "s"], ["Who", "who"])
    lower = digits(lower=True)
    encoded = [(twice.rows, encode(lower, twice.rows, named=False))]
    with pytest.raises(UserError, match="reads the questions 'Who' and 'who' as the same tokens"):
        check_fits(encoded, lower, small(len(lower)), where="--model")


def test_what_is_shown_is_what_is_fed() -> None:
    tokenizer = digits()
    example = Example("f(x)\n 3 , 4".replace("(", "").replace(")", "").replace(",", "c"), "27")
    ask_for_end(tokenizer, "taught")
    shown = seen(tokenizer, example, "27")
    assert shown["text"] == "fx\n 3 c 4 27"
    assert shown["tokens"] == [*"fx\n 3 c 4 27", "</s>"] and shown["scored"] == 4  # the space before the answer too
    encoded = encode(tokenizer, [example], named=False)
    assert shown["ids"][:-1] == encoded.input_ids[0].tolist()
    assert shown["ids"][-shown["scored"] :] == encoded.targets[0][encoded.targets[0] != IGNORED].tolist()


def joining() -> Any:
    """A tokenizer that has a token for a line break with an ``a`` behind it, and for a space with a ``b``."""
    pieces = {piece: i for i, piece in enumerate(["<s>", "q", "\n", " ", "a", "b", "\na", " b", "c"])}
    core = Tokenizer(models.BPE(pieces, [("\n", "a"), (" ", "b")]))
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<s>")


def test_a_question_whose_end_is_read_with_its_answer_is_refused() -> None:
    part = Labelled((Example("q\n", "a"), Example("q", "b")), ("b", "b"), (0,))
    with pytest.raises(UserError, match=r"question 'q\\n' differently before 'a' and before 'b'"):
        check_prompts(joining(), part, where="--model")
    spaced = Labelled((Example("q ", "b"), Example("q", "b")), ("c", "c"), (0, 1))
    check_prompts(joining(), spaced, where="--model")  # a space goes with what follows
    assert targets(joining(), spaced.examples[0], "b") == [" b"]
    assert targets(joining(), spaced.examples[0], "c") == [" ", "c"] == targets(joining(), spaced.examples[1], "c")


TABLE = """
name: directions
generator: dataset
parameters: {path: q.csv}
splits: {train: 16, selection: 4, validation: 8}
noise: {kind: uniform, rates: [0.3]}
model: {layers: 2, width: 16, heads: 2}
training: {optimizer: adamw, batch_size: 16, max_steps: 4, evaluate_every: 2, schedule: {warmup: 1, anneal: 2}}
diagnostics: [learning_dynamics, logit_lens, ablation, probe, circuits]
"""


def test_a_run_with_such_answers_measures_all_of_it(tmp_path: Path) -> None:
    answers = ["north", "north west", "south"]
    rows = [f"from t{i} go,{answers[i % 3]}" for i in range(28)]
    (tmp_path / "q.csv").write_text("\n".join(["prompt,answer", *rows]))
    (tmp_path / "t.yaml").write_text(TABLE)
    report = rote_bench.run(tmp_path / "t.yaml", model="gpt2-nano", output_path=tmp_path / "runs", quiet=True)
    assert {name: entry.status for name, entry in report.record.diagnostics.items() if entry.status == "failed"} == {}
    assert report.record.diagnostics["logit_lens"].status == "success"
    parts = json.loads(json.dumps(report.record.identity.parts))
    assert parts["model"]["reads"] == {"end": "taught <end>"}
    (shown,) = rote_bench.data(tmp_path / "t.yaml", n=1, model="gpt2-nano")
    assert shown["seen"]["tokens"][-1] == "<end>" and "begins with" in shown["end"]
