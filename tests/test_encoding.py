"""Encodings: the right tokens, the right positions, and exact match that equals greedy decoding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

from rote_bench.encoding import IGNORED, build_tokenizer, concatenate, encode, first_difference
from rote_bench.errors import UserError
from rote_bench.evaluation import decode, matches
from rote_bench.tasks.addition import Addition, AdditionParameters
from rote_bench.tasks.example import Example
from rote_bench.tasks.two_hop import TwoHop, TwoHopParameters

TASK = Addition(AdditionParameters(digits=2), 0)
EXAMPLES = [TASK.example(i) for i in range(0, 10_000, 97)]


def test_tokens_targets_and_positions() -> None:
    tokenizer = build_tokenizer(TASK.words())
    encoded = encode(tokenizer, EXAMPLES)
    for row, example in enumerate(EXAMPLES):
        tokens = tokenizer.convert_ids_to_tokens(encoded.input_ids[row].tolist())
        assert tokens == example.text.split()[:-1]
        wanted = encoded.targets[row][encoded.targets[row] != IGNORED]
        assert tokenizer.convert_ids_to_tokens(wanted.tolist()) == example.answer.split()
        assert tokens[encoded.positions["last"][row]] == "="
        for name, (start, stop) in example.positions.items():
            assert tokens[encoded.positions[name][row]] == example.prompt[start:stop]


def test_shorter_rows_are_padded_on_the_right() -> None:
    task = TwoHop(TwoHopParameters(), 0)
    tokenizer = build_tokenizer(task.words())
    questions = encode(tokenizer, [task.example(3)], named=False)
    facts = encode(tokenizer, task.facts()[:2], named=False)
    both = concatenate([questions, facts], tokenizer.pad_token_id)
    assert both.max_length == questions.max_length > facts.max_length
    assert (both.input_ids[1:, facts.max_length :] == tokenizer.pad_token_id).all()
    assert (both.targets[1:, facts.max_length :] == IGNORED).all()


def test_the_tokenizer_survives_saving(tmp_path: Path) -> None:
    tokenizer = build_tokenizer(TASK.words())
    tokenizer.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    text = EXAMPLES[5].text
    assert again(text, add_special_tokens=False)["input_ids"] == tokenizer(text, add_special_tokens=False)["input_ids"]
    assert again.decode(again(text)["input_ids"]) == text


def test_a_word_that_the_tokenizer_does_not_know_is_refused() -> None:
    tokenizer = build_tokenizer(["a", "b"])
    with pytest.raises(UserError, match="does not know a word"):
        encode(tokenizer, [Example("a c", "b")])


def test_first_difference_finds_where_answers_part() -> None:
    tokenizer = build_tokenizer(TASK.words())
    example = EXAMPLES[7]
    digits = example.answer.split()
    other = [digits[0], str((int(digits[1]) + 1) % 10), digits[2]]
    true, wrong = encode(tokenizer, [example]), encode(tokenizer, [example], [" ".join(other)])
    position, true_token, other_token = first_difference(true, wrong)
    assert position.item() == true.positions["last"].item() + 1
    assert tokenizer.convert_ids_to_tokens([true_token.item(), other_token.item()]) == [digits[1], other[1]]
    with pytest.raises(ValueError, match="begins with it"):
        first_difference(true, true)


def untrained(tokenizer: Any) -> Any:
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=len(tokenizer), n_positions=16, n_embd=32, n_layer=1, n_head=2, use_cache=False)
    return GPT2LMHeadModel(config).eval()


def generated(model: Any, tokenizer: Any, prompt: str, tokens: int) -> str:
    """What a model says by the library's own generation."""
    ids = tokenizer(prompt, add_special_tokens=False, return_tensors="pt")["input_ids"]
    out = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=tokens,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
    )
    return " ".join(tokenizer.convert_ids_to_tokens(out[0, ids.shape[1] :].tolist()))


def test_teacher_forcing_decides_greedy_exact_match() -> None:
    tokenizer = build_tokenizer(TASK.words())
    model = untrained(tokenizer)
    own = [generated(model, tokenizer, example.prompt, 3) for example in EXAMPLES[:40]]
    as_answered = encode(tokenizer, EXAMPLES[:40], own)
    as_true = encode(tokenizer, EXAMPLES[:40])
    hits, right = matches(model, [as_answered, as_true], batch_size=7)
    assert hits.all()
    assert right.tolist() == [o == e.answer for o, e in zip(own, EXAMPLES[:40], strict=True)]
    texts, (correct,) = decode(model, tokenizer, [as_true], batch_size=9)
    assert texts == own
    assert correct.tolist() == right.tolist()


@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_the_text_of_an_answer_goes_with_what_is_said_of_it(data: st.DataObject) -> None:
    """True answer and label of any lengths, either of them what the model says or not, against the library."""
    tokenizer = build_tokenizer(TASK.words())
    model = untrained(tokenizer)
    examples, labels = [], []
    for prompt in [e.prompt for e in EXAMPLES[:6]]:
        own = generated(model, tokenizer, prompt, 4).split()
        said = st.sampled_from([own[:n] for n in range(1, 5)])
        other = st.lists(st.sampled_from("0123456789"), min_size=1, max_size=4)
        answer, label = data.draw(st.tuples(st.one_of(said, other), st.one_of(said, other)))
        examples.append(Example(prompt, " ".join(answer)))
        labels.append(" ".join(label))
    both = encode(tokenizer, examples), encode(tokenizer, examples, labels)
    texts, (right, taught) = decode(model, tokenizer, both, batch_size=4)
    assert [hit.tolist() for hit in matches(model, both, batch_size=4)] == [right.tolist(), taught.tolist()]
    for text, example, wrong, is_answer, is_label in zip(texts, examples, labels, right, taught, strict=True):
        whole = generated(model, tokenizer, example.prompt, 4).split()
        assert whole[: len(text.split())] == text.split()
        given = [a for a in (example.answer, wrong) if whole[: len(a.split())] == a.split()]
        assert bool(is_answer) == (example.answer in given) and bool(is_label) == (wrong in given)
        longest = max(len(a.split()) for a in (example.answer, wrong))
        assert text == (max(given, key=len) if given else " ".join(whole[:longest]))
