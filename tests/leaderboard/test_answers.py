"""What is said of an answer goes with its text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rote_bench.leaderboard.answers import Answers

WORDS = st.lists(st.sampled_from("abc"), min_size=1, max_size=3)


def table(answer: list[str], label: list[str], said: list[str], flags: tuple[bool, bool]) -> Answers:
    columns: dict[str, list[object]] = {
        "prompt": ["q"],
        "answer": [" ".join(answer)],
        "label": [" ".join(label)],
        "prediction": [" ".join(said)],
        "is_answer": [flags[0]],
        "is_label": [flags[1]],
    }
    return Answers({"validation": columns})


@given(answer=WORDS, label=WORDS, says=st.lists(st.sampled_from("abc"), min_size=3, max_size=3))
def test_what_a_run_writes_contradicts_nothing(answer: list[str], label: list[str], says: list[str]) -> None:
    """``says`` is what the model would go on to say; a run cuts it to the longer answer given, else to the longest."""
    flags = says[: len(answer)] == answer, says[: len(label)] == label
    given_ = [text for text, flag in zip((answer, label), flags, strict=True) if flag]
    said = max(given_, key=len) if given_ else says[: max(len(answer), len(label))]
    assert list(table(answer, label, said, flags).contradictions()) == []


@pytest.mark.parametrize(
    ("answer", "label", "said", "flags"),
    [
        ("a", "b", "a", (False, False)),
        ("a", "b", "a", (False, True)),
        ("a", "b", "a", (True, True)),
        ("a", "b", "c", (True, False)),
        ("a", "b", "c", (False, True)),
        ("a", "ab", "ab", (True, False)),
        ("a", "ab", "a", (True, True)),
        ("a", "ab", "ab", (False, False)),
    ],
)
def test_what_goes_against_a_text_is_found(answer: str, label: str, said: str, flags: tuple[bool, bool]) -> None:
    (found,) = table(list(answer), list(label), list(said), flags).contradictions()
    assert "is said to give" in found
