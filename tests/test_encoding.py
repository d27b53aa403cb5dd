"""Encodings: the right tokens, the right positions, and exact match that equals greedy decoding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

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
    with pytest.raises(UserError, match="does not know 'c' of 'a c b'"):
        encode(tokenizer, [Example("a c", "b")])


def one_by_one(tokenizer: Any, examples: list[Example], answers: list[str], lead: list[int]) -> Any:
    """Rows, targets and positions, each text by the tokenizer itself; the name of the fault where there is one."""
    rows = []
    for example, answer in zip(examples, answers, strict=True):
        said = tokenizer(f"{example.prompt} {answer}", add_special_tokens=False, return_offsets_mapping=True)
        ids = lead + said["input_ids"]
        spans = [(0, 0)] * len(lead) + [tuple(span) for span in said["offset_mapping"]]
        if tokenizer.unk_token_id is not None and tokenizer.unk_token_id in ids:
            return "unknown"
        rows.append((ids, spans, sum(stop <= len(example.prompt) for _, stop in spans)))
    if any(start in (0, len(ids)) for ids, _, start in rows):
        return "nothing"
    width = max(len(ids) for ids, _, _ in rows) - 1
    inputs, targets = [], []
    places: dict[str, list[int]] = {"last": [start - 1 for _, _, start in rows]}
    for ids, _, start in rows:
        missing = width + 1 - len(ids)
        inputs.append([*ids[:-1], *[tokenizer.pad_token_id or 0] * missing])
        targets.append([*[IGNORED] * (start - 1), *ids[start:], *[IGNORED] * missing])
    for name in examples[0].positions:
        found = []
        for example, (_, spans, start) in zip(examples, rows, strict=True):
            first, after = example.positions[name]
            found.append([i for i, (a, b) in enumerate(spans[:start]) if a < after and b > first])
        if not all(found):
            return "nowhere"
        places[name] = [each[-1] for each in found]
    return inputs, targets, places


SPACES = [
    " ",
    "  ",
    "\t",
    "\n",
    "\x0b",
    "\x1c",
    "\x1f",
    "\x85",
    "\xa0",
    "\u2003",
    "\u2028",
    "\u3000",
    "\u200b",
    "\ufeff",
]
SYLLABLES = ["a", "b", "ä", "a\u0301", "ß", "\x00", "日本", "😀", "c", "A", "<end>", "<pad>", "<unk>", "<", "new"]


def built(*pieces: str, change: Any = None) -> Any:
    """A tokenizer of the project's kind over all words that pieces make; ``change`` makes it another one."""
    whole = pre_tokenizers.WhitespaceSplit()
    tokenizer = build_tokenizer(word for text in pieces for word, _ in whole.pre_tokenize_str(text))
    if change is not None:
        change(tokenizer)
    return tokenizer


def lowers(tokenizer: Any) -> None:
    tokenizer.backend_tokenizer.normalizer = normalizers.Lowercase()


def splits_punctuation(tokenizer: Any) -> None:
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()


def grows(tokenizer: Any) -> None:
    tokenizer.add_tokens(["new"])


def marks(tokenizer: Any) -> None:
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{tokenizer.eos_token} $A {tokenizer.eos_token}", special_tokens=[(tokenizer.eos_token, 2)]
    )


@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_encoding_is_what_the_tokenizer_says_of_each_text(data: st.DataObject) -> None:
    """Odd white space, special tokens within words, unknown and missing words, and tokenizers that do more."""
    odd = st.lists(st.sampled_from(SYLLABLES + SPACES), max_size=6).map("".join)
    ordinary = st.lists(st.sampled_from(["a", "b", "ä", "ab", "c"]), min_size=1, max_size=4).map(" ".join)
    text = data.draw(st.sampled_from([odd, ordinary]))
    examples = []
    for _ in range(data.draw(st.integers(1, 4))):
        prompt, answer = data.draw(text), data.draw(text)
        first, after = sorted(data.draw(st.tuples(st.integers(0, len(prompt)), st.integers(0, len(prompt)))))
        examples.append(Example(prompt, answer, positions={"span": (first, after)}))
    answers = [data.draw(text) for _ in examples]
    known = [*(e.prompt for e in examples), *(e.answer for e in examples), *answers]
    if data.draw(st.booleans()):
        known = known[1:]
    change = data.draw(st.sampled_from([None, None, None, lowers, splits_punctuation, grows, marks]))
    tokenizer = built(*known, change=change)
    for taught in (None, answers):
        lead = [2] if change is marks else []
        wanted = one_by_one(tokenizer, examples, taught or [e.answer for e in examples], lead)
        if isinstance(wanted, str):
            said = {"unknown": "does not know|reserves", "nothing": "leaves no token", "nowhere": "no token overlaps"}
            with pytest.raises((UserError, ValueError), match=said[wanted]):
                encode(tokenizer, examples, taught)
            continue
        encoded = encode(tokenizer, examples, taught)
        assert encoded.input_ids.tolist() == wanted[0] and encoded.targets.tolist() == wanted[1]
        assert {name: at.tolist() for name, at in encoded.positions.items()} == wanted[2]
        assert {encoded.input_ids.dtype, encoded.targets.dtype, *(v.dtype for v in encoded.positions.values())} == {
            torch.int64
        }
        plain = encode(tokenizer, examples, taught, named=False)
        assert torch.equal(plain.input_ids, encoded.input_ids) and list(plain.positions) == ["last"]


@given(st.lists(st.lists(st.sampled_from(["ab", "ba", "abba", "b"]), min_size=2, max_size=5), min_size=1, max_size=4))
@settings(max_examples=30, deadline=None)
def test_tokens_below_words_are_encoded_behind_what_begins_every_text(texts: list[list[str]]) -> None:
    vocabulary = {"<s>": 0, "a": 1, "b": 2, "Ġ": 3, "ab": 4, "Ġab": 5, "Ġb": 6}
    core = Tokenizer(models.BPE(vocabulary, [("a", "b"), ("Ġ", "ab"), ("Ġ", "b")]))
    core.pre_tokenizer, core.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    core.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", pad_token="<s>")
    examples = []
    for words in texts:
        prompt = " ".join(words[:-1])
        examples.append(Example(prompt, words[-1], positions={"first": (0, len(words[0]))}))
    encoded = encode(tokenizer, examples)
    inputs, targets, places = one_by_one(tokenizer, examples, [e.answer for e in examples], [0])
    assert (encoded.input_ids.tolist(), encoded.targets.tolist()) == (inputs, targets)
    assert {name: at.tolist() for name, at in encoded.positions.items()} == places


def test_a_tokenizer_of_words_encodes_alike_when_it_was_saved(tmp_path: Path) -> None:
    tokenizer = build_tokenizer(TASK.words())
    tokenizer.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    mine, theirs = encode(tokenizer, EXAMPLES), encode(again, EXAMPLES)
    assert torch.equal(mine.input_ids, theirs.input_ids) and torch.equal(mine.targets, theirs.targets)
    assert all(torch.equal(mine.positions[name], theirs.positions[name]) for name in mine.positions)


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
    texts, (correct,), _ = decode(model, tokenizer, [as_true], batch_size=9)
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
    texts, (right, taught), _ = decode(model, tokenizer, both, batch_size=4)
    assert [hit.tolist() for hit in matches(model, both, batch_size=4)] == [right.tolist(), taught.tolist()]
    for text, example, wrong, is_answer, is_label in zip(texts, examples, labels, right, taught, strict=True):
        whole = generated(model, tokenizer, example.prompt, 4).split()
        assert whole[: len(text.split())] == text.split()
        given = [a for a in (example.answer, wrong) if whole[: len(a.split())] == a.split()]
        assert bool(is_answer) == (example.answer in given) and bool(is_label) == (wrong in given)
        longest = max(len(a.split()) for a in (example.answer, wrong))
        assert text == (max(given, key=len) if given else " ".join(whole[:longest]))


def test_where_logits_are_nan_nothing_is_said() -> None:
    """Of an answer of three tokens the first is lost, the second, the third, or none; the rest is as it was."""
    tokenizer = build_tokenizer(TASK.words())
    model = untrained(tokenizer)
    own = [generated(model, tokenizer, example.prompt, 3) for example in EXAMPLES[:4]]
    encoded = encode(tokenizer, EXAMPLES[:4], own)
    whole = model.forward

    def broken(input_ids: torch.Tensor) -> Any:
        output = whole(input_ids=input_ids)
        for row in range(3):
            output.logits[row, int(encoded.positions["last"][row]) + row, 5] = torch.nan
        return output

    model.forward = broken
    texts, (given,), lost = decode(model, tokenizer, [encoded])
    assert texts == [" ".join(own[row].split()[:row]) for row in range(3)] + own[3:]
    assert lost.tolist() == [True, True, True, False] and given.tolist() == [False, False, False, True]
