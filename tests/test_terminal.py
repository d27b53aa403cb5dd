"""Text and tables keep to a width, whatever stands in them, and lose nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rote_bench import terminal

WORD = st.text("abcdefgh_.:0123456789", min_size=1, max_size=60)
CELL = st.lists(WORD, max_size=12).map(" ".join)


@given(text=CELL, columns=st.integers(20, 120), indent=st.sampled_from(["", "  ", " " * 16]))
def test_folded_text_is_all_there_within_the_width(text: str, columns: int, indent: str) -> None:
    lines = terminal.fold(text, columns, indent)
    assert max(map(len, lines)) <= columns and lines == [line.rstrip() for line in lines]
    assert "".join("".join(lines).split()) == "".join(text.split())
    if max(map(len, text.split()), default=0) <= columns - len(indent):
        assert " ".join(" ".join(lines).split()) == text  # no word is broken that fits


def test_a_row_of_nothing_takes_no_width_away() -> None:
    body = [["0 0 0 0 0 0 0 0 0 0 000000000000", ""], ["", ""], ["", "0"]]
    assert max(map(len, terminal.grid(["k", "kkkkkkk"], body, 40).splitlines())) <= 40
    assert terminal.grid(["", ""], [["", ""]], 40).strip() == ""
    assert terminal.fold("0 0 00000", 20, " " * 16)[0] == " " * 16 + "0 0"


@given(data=st.data(), columns=st.sampled_from([40, 50, 80, 100]))
def test_a_table_keeps_to_the_width_and_loses_nothing(data: st.DataObject, columns: int) -> None:
    count = data.draw(st.integers(2, 8))
    header = data.draw(st.lists(st.text("klmn", min_size=1, max_size=30), min_size=count, max_size=count))
    row = st.lists(CELL, min_size=count, max_size=count)
    body = data.draw(st.lists(row, min_size=1, max_size=4))
    text = terminal.grid(header, body, columns)
    assert max(map(len, text.splitlines()), default=0) <= columns  # a table of nothing may have no lines
    assert all(line == line.rstrip() for line in text.splitlines())
    shown = sorted("".join(text.split()).replace("-", ""))
    for character in set("abcdefgh_.:0123456789"):
        assert shown.count(character) == sum(cell.count(character) for row in body for cell in row)


HEADER = ["model", "noise", "held-out accuracy", "because"]
BODY = [
    ["gpt2-nano", "0.05", "0.987 [0.98, 0.99]", "one seed; three are needed before anything is said"],
    ["llama-nano", "0.1", "0.5", ""],
]


def test_a_table_folds_its_last_column_then_puts_it_below_then_turns() -> None:
    assert terminal.grid(HEADER, BODY, 100).splitlines()[2].endswith("before anything is said")
    assert terminal.grid(HEADER, BODY, 80).splitlines() == [
        "model       noise  held-out accuracy   because",
        "----------  -----  ------------------  -----------------------------------------",
        "gpt2-nano   0.05   0.987 [0.98, 0.99]  one seed; three are needed before",
        "                                       anything is said",
        "llama-nano  0.1    0.5",
    ]
    assert terminal.grid(HEADER, BODY, 50).splitlines() == [
        "model       noise  held-out accuracy",
        "  because",
        "----------  -----  ------------------",
        "gpt2-nano   0.05   0.987 [0.98, 0.99]",
        "  one seed; three are needed before anything is",
        "  said",
        "llama-nano  0.1    0.5",
    ]


def test_rows_of_numbers_become_columns_as_many_as_fit() -> None:
    header = ["model", "held-out accuracy", "memorization", "early peak"]
    body = [[f"model-{k}", "0.987 [0.98, 0.99]", "0.9", "-"] for k in range(3)]
    header += [f"more {k}" for k in range(2)]
    body = [[*row, "", ""] for row in body]
    assert terminal.grid(header, body, 60).splitlines() == [
        "model              model-0             model-1",
        "held-out accuracy  0.987 [0.98, 0.99]  0.987 [0.98, 0.99]",
        "memorization       0.9                 0.9",
        "early peak         -                   -",
        "",
        "model              model-2",
        "held-out accuracy  0.987 [0.98, 0.99]",
        "memorization       0.9",
        "early peak         -",
    ]


@pytest.mark.parametrize(("given_", "found"), [("80", 80), ("50", 50), ("10", 40), ("400", 160), ("x", 100)])
def test_the_width_is_the_terminals_within_reason(given_: str, found: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", given_)
    monkeypatch.setattr("sys.__stdout__", None)
    assert terminal.width() == found
