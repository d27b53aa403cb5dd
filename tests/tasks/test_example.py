"""Where texts stand in questions, and which names are taken."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rote_bench.tasks.example import reserved, word_spans


@given(st.lists(st.sampled_from(["1", "11", "x1", "ada", "ad", "Ada"]), min_size=1, max_size=9), st.data())
def test_a_word_stands_where_it_is_a_word(words: list[str], data: st.DataObject) -> None:
    prompt = " ".join(words)
    word = data.draw(st.sampled_from(["1", "11", "x1", "ada", "ad", "Ada"]))
    starts = [sum(len(each) + 1 for each in words[:i]) for i, each in enumerate(words) if each == word]
    assert word_spans(word, prompt) == [(start, start + len(word)) for start in starts]


@pytest.mark.parametrize(
    ("text", "prompt", "found"),
    [
        ("1", "1 + 11 =", ["1 + 11 ="]),
        ("1", "11 + 1=", ["1="]),
        ("3", "3.14 or 0.3 or 3,000 or 3.", ["3."]),
        ("3.14", "3.14159 or 3.14?", ["3.14?"]),
        ("-5", "2 - -5", ["-5"]),
        ("Paris", "Paris's bridges, Parisian", ["Paris's bridges, Parisian"]),
        ("7 + 8 =", "what is 57 + 8 = or 7 + 8 = ?", ["7 + 8 = ?"]),
        ("(a)", "f(a)", ["(a)"]),
        ("a", "a a", ["a a", "a"]),
        ("é", "é été", ["é été"]),
        ("1", "1 + -1 =", ["1 + -1 ="]),
        ("5", "5 or .5 or 1e-5 or 5% or $5 or 1/5", ["5 or .5 or 1e-5 or 5% or $5 or 1/5"]),
        ("5", "is it (5)?", ["5)?"]),
        ("ann", "ann and ann-marie", ["ann and ann-marie"]),
        ("7", "7+8=", ["7+8="]),
        ("1", ".1", []),
        ("Jose", "Jose or Jose\u0301", ["Jose or Jose\u0301"]),
        ("\u0915", "\u0915 \u0915\u093f", ["\u0915 \u0915\u093f"]),
        ("", "a", []),
    ],
)
def test_numbers_and_names_are_no_part_of_longer_ones(text: str, prompt: str, found: list[str]) -> None:
    spans = word_spans(text, prompt)
    assert [prompt[start:] for start, _ in spans] == found
    assert all(prompt[start:stop] == text for start, stop in spans)


@pytest.mark.parametrize("name", ["last", "answer_1", "answer_10"])
def test_positions_that_are_taken(name: str) -> None:
    assert reserved("positions", name) and not reserved("intermediates", name)


@pytest.mark.parametrize("name", ["Last", "last_one", "answer", "answer_", "answer_one", "answer_1_b"])
def test_positions_that_are_free(name: str) -> None:
    assert reserved("positions", name) is None
    assert bool(reserved("intermediates", name)) == (name == "answer")
