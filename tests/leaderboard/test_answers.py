"""What is said of an answer goes with its text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rote_bench.leaderboard.answers import Answers, Unreadable

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


KEPT: dict[str, list[Any]] = {
    "split": ["validation", "train_clean", "validation", "train_noisy", "train_clean"],
    "index": [3, 0, 4, 1, 2],
    **{name: [f"{name} {i}" for i in range(5)] for name in ("group", "prompt", "answer", "label", "prediction")},
    "is_answer": [True, False, True, False, True],
    "is_label": [False, False, True, True, False],
}


def stored(folder: Path, **changed: Any) -> Path:
    path = folder / "samples.parquet"
    pyarrow.parquet.write_table(pyarrow.table({**KEPT, **changed}), path)
    return path


@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4], [0, 2, 1, 4, 3]], ids=["mixed", "in pieces"])
def test_answers_are_read_split_by_split_in_their_order(tmp_path: Path, order: list[int]) -> None:
    columns = {name: [values[i] for i in order] for name, values in KEPT.items()}
    found = Answers.load(stored(tmp_path, **columns)).splits
    assert set(found) == set(KEPT["split"])
    for split, kept in found.items():
        rows = [i for i in range(5) if columns["split"][i] == split]
        assert kept == {name: [values[i] for i in rows] for name, values in columns.items()}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"answer": [1, 2, 3, 4, 5]}, "a column answer that is not str"),
        ({"answer": ["a", None, "b", "c", "d"]}, "a column answer that is not str"),
        ({"answer": [b"a"] * 5}, "a column answer that is not str"),
        ({"is_answer": [1, 0, 1, 0, 1]}, "a column is_answer that is not bool"),
        ({"is_label": [True, None, True, False, True]}, "a column is_label that is not bool"),
        ({"index": [0.0, 1.0, 2.0, 3.0, 4.0]}, "a column index that is not int"),
        ({"index": [0, None, 2, 3, 4]}, "a column index that is not int"),
        ({"split": ["test"] * 5}, "names a split that there is not"),
        ({"split": ["validation"] * 5}, "lacks the held-out or the clean"),
    ],
    ids=str,
)
def test_columns_of_other_values_are_refused(tmp_path: Path, changed: dict[str, Any], said: str) -> None:
    with pytest.raises(Unreadable, match=said):
        Answers.load(stored(tmp_path, **changed))


def test_texts_count_however_the_file_keeps_them(tmp_path: Path) -> None:
    often = pyarrow.array(KEPT["answer"]).dictionary_encode()
    long = pyarrow.array(KEPT["label"], pyarrow.large_string())
    small = pyarrow.array(KEPT["index"], pyarrow.uint8())
    plain = Answers.load(stored(tmp_path))
    assert Answers.load(stored(tmp_path, answer=often, label=long, index=small)) == plain
