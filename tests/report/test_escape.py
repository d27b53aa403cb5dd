"""Texts of reports in every medium: they are seen, and nothing obeys them."""

from __future__ import annotations

import html

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tabulate import tabulate_formats

from rote_bench import terminal
from rote_bench.report import escape
from rote_bench.report.markup import environment
from rote_bench.report.table import text

HOSTILE = "a\x1b[2J|b\u202e<img onerror=x>\ud800 $x$ \\input{y} _c_ \x00\u200bd"


@given(st.text(st.characters(), max_size=40))
def test_what_is_cleaned_is_one_printable_line_and_cleaning_it_again_changes_nothing(given_: str) -> None:
    once = terminal.clean(given_)
    assert once.isprintable() and terminal.clean(once) == once
    once.encode("utf-8")


@pytest.mark.parametrize("ordinary", ["gpt2-nano", "Zweistufiges Schließen", "四则运算", "модель", "ما مجموع", "a  b"])
def test_ordinary_texts_stay_as_they_are(ordinary: str) -> None:
    assert terminal.clean(ordinary) == escape.page(ordinary) == ordinary


def test_what_cannot_be_seen_is_spelled_out() -> None:
    assert terminal.clean("a\x1b[2Jb\u202ec\nd\u00a0e\u200bf\ud800") == r"a\x1b[2Jb\u202ec d ef\ud800"
    assert terminal.clean("x" * 50, 9) == "x" * 9 + "..."


def test_tables_and_folded_texts_are_clean() -> None:
    cells = [[HOSTILE, HOSTILE * 3]]
    for shown in (terminal.grid([HOSTILE, "b"], cells, 60), "\n".join(terminal.fold(HOSTILE, 30))):
        assert shown.replace("\n", "").isprintable()


@pytest.mark.parametrize("style", tabulate_formats)
def test_every_format_of_a_table_shows_texts_as_they_are(style: str) -> None:
    shown = text(["head"], [[HOSTILE]], style)
    assert shown.replace("\n", "").replace("\t", "").isprintable()
    if style in ("github", "pipe", "html", "mediawiki", "unsafehtml"):
        assert "<img" not in shown
    if style in ("github", "pipe"):
        (row,) = shown.splitlines()[2:]
        assert row.count("|") - row.count(r"\|") == 2  # no cell of its own making
    if style.startswith("latex"):
        assert r"\input{y}" not in shown and r"\$x\$" in shown


def test_a_page_shows_lines_and_no_control_characters() -> None:
    made = environment().from_string("<p>{{ given }}</p>{{ 5 }}").render(given="a\nb\u202e\x1b<b>\ud800\u00a0c")
    assert html.unescape(made) == "<p>a\nb\\u202e\\x1b<b>\\ud800\u00a0c</p>5"
    assert "<b>" not in made
