"""Files as people have them: read as what they are, or refused in one line that says what is wrong and where."""

from __future__ import annotations

import bz2
import codecs
import gzip
import json
import lzma
import math
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from rote_bench.errors import UserError
from rote_bench.tasks.table import Table, TableParameters

PAIRS = [(f"what is {a} plus {b} ?", str(a + b)) for a in range(4) for b in range(4)]
CSV = "prompt,answer\n" + "".join(f"{q},{a}\n" for q, a in PAIRS)
ROWS = [{"prompt": q, "answer": a} for q, a in PAIRS]
LINES = "".join(f"{json.dumps(row)}\n" for row in ROWS)
JSON = json.dumps(ROWS)
LONG = "prompt,answer,note\n" + "".join(f"{q},{a},{'x' * 200_000 if a == '0' else ''}\n" for q, a in PAIRS)
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


def pairs(path: Path, **parameters: Any) -> list[tuple[str, str]]:
    made = Table(TableParameters(str(path), **parameters), 0)
    return [((e := made.example(i)).prompt, e.answer) for i in range(len(made))]


def refusal(path: Path, **parameters: Any) -> str:
    with pytest.raises(UserError) as caught:
        pairs(path, **parameters)
    assert "\n" not in str(caught.value) and (caught.value.where or "").startswith("parameters.")
    return str(caught.value)


def put(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


COLUMNS = {"prompt": [q for q, _ in PAIRS], "answer": [a for _, a in PAIRS]}
INDEXED = {name: {str(i): v for i, v in enumerate(values)} for name, values in COLUMNS.items()}
SPLIT = {"columns": ["prompt", "answer"], "index": list(range(16)), "data": [list(pair) for pair in PAIRS]}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("q.csv", codecs.BOM_UTF8 + CSV.encode()),
        ("q.csv", CSV.encode("utf-16")),
        ("q.csv", codecs.BOM_UTF16_BE + CSV.encode("utf-16-be")),
        ("q.csv", CSV.encode("utf-32")),
        ("q.csv", CSV.replace("\n", "\r\n")),
        ("q.csv", CSV.replace("\n", "\r")),
        ("q.csv", CSV.replace(",", ";")),
        ("q.csv", CSV.replace(",", "\t")),
        ("q.csv", "sep=;\n" + CSV.replace(",", ";")),
        ("q.tsv", CSV),
        ("q.csv", CSV.replace(",", ", ").replace("answer", '"answer"')),
        ("q.csv", "\n" + CSV.replace("\n", "\n\n") + ",\n  \n,,\n"),
        ("q.csv", CSV.replace("\n", ",\n")),  # a column without a name and without values
        ("q.csv", "note,note," + CSV.replace("\n", "\n1,2,")[:-4]),
        ("q.csv", LONG),
        ("Q.CSV", CSV),
        ("q.tsv", CSV.replace(",", "\t")),
        ("q.csv.gz", gzip.compress(CSV.encode())),
        ("q.JSONL.GZ", gzip.compress(LINES.encode())),
        ("q.jsonl.bz2", bz2.compress(LINES.encode())),
        ("q.json.xz", lzma.compress(JSON.encode())),
        ("q.jsonl", codecs.BOM_UTF8 + LINES.encode()),
        ("q.jsonl", LINES + "  \n\n"),
        ("q.jsonl", LINES.replace("\n", "\r\n")),
        ("q.ndjson", LINES),
        ("q.jsonl", JSON),
        ("q.jsonl", json.dumps(ROWS, indent=2)),
        ("q.jsonl", json.dumps({"data": ROWS})),
        ("q.json", codecs.BOM_UTF8 + JSON.encode()),
        ("q.json", LINES),
        ("q.json", json.dumps({"version": "1.0", "tags": ["a"], "data": ROWS})),
        ("q.json", json.dumps(COLUMNS)),
        ("q.json", json.dumps({**COLUMNS, "version": 3})),
        ("q.json", json.dumps(INDEXED)),
        ("q.json", json.dumps(SPLIT)),
        ("q.json", json.dumps({str(i): row for i, row in enumerate(ROWS)})),
        ("q.json", json.dumps({"schema": {"fields": []}, "data": ROWS})),
        (
            "q.json",
            json.dumps([{**row, "meta": [1, "a", {"b": None}][i % 3], "nan": math.nan} for i, row in enumerate(ROWS)]),
        ),
        ("q.json", JSON.replace("}", f', "id": {"9" * 5000}}}')),
        ("q.json", JSON.replace("}", ', "twice": 1, "twice": 2}')),
    ],
)
def test_the_same_rows_however_they_are_stored(tmp_path: Path, name: str, content: str | bytes) -> None:
    assert pairs(put(tmp_path, name, content)) == PAIRS


def test_a_line_separator_in_a_text_ends_no_row(tmp_path: Path) -> None:
    first, odd = "what is 0 plus 1 ?", "what is\u2028 0 plus\x85 1 ?"
    text = LINES.replace(first, odd)
    assert pairs(put(tmp_path, "q.jsonl", text)) == [(odd if q == first else q, a) for q, a in PAIRS]


def test_a_key_names_the_rows_among_several_lists(tmp_path: Path) -> None:
    other = [{"prompt": "p", "answer": "a"}]
    path = put(tmp_path, "q.json", json.dumps({"train": ROWS, "test": other, "deep": {"rows": other, "by": COLUMNS}}))
    assert "several lists of objects: train, test (name one of them, parameters.records: train)" in refusal(path)
    assert pairs(path, records="train") == PAIRS == pairs(path, records="deep.by")
    assert pairs(path, records="deep.rows") == [("p", "a")]
    assert "has no key 'tran'" in refusal(path, records="tran") and "did you mean 'train'" in refusal(
        path, records="tran"
    )
    assert "is a list of rows already" in refusal(put(tmp_path, "l.json", JSON), records="data")


BAD_ROW = CSV.replace("plus 1 ?,1\n", "plus 1 ?,1,x\n", 1)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("q.csv", BAD_ROW, "row 2 of q.csv (line 3) has 3 fields, but the header 2"),
        ("q.csv", CSV.replace(" ?,1\n", " ?\n", 1), "row 2 of q.csv (line 3) has 1 field, but the header 2"),
        ("q.csv", "answer," + CSV.replace("\n", "\n0,")[:-2], "two columns of q.csv are called 'answer'"),
        ("q.csv", CSV.replace(",1\n", ",\n", 1), "row 2 of q.csv has no answer"),
        ("q.csv", CSV.replace("what is 0 plus 1 ?", '"what is', 1), "line 3 of q.csv cannot be split into fields"),
        ("q.csv", CSV.replace("what is 0 plus 1 ?", '"what" is', 1), "line 3 of q.csv cannot be split into fields"),
        ("q.csv", CSV.replace("what", "wh\u00e4t").encode("latin-1"), "q.csv is not UTF-8 text: line 2"),
        ("q.csv", CSV.encode("utf-16-le"), "UTF-16 without its mark (save it as UTF-8)"),
        ("q.csv", "", "q.csv holds no rows"),
        ("q.csv", "prompt,answer\n", "q.csv holds no rows"),
        ("q.csv", "question;reply\na;b\n", "have no column 'prompt'; they have question;reply"),
        ("q.csv", POINTER, "q.csv is a git-lfs pointer"),
        ("q.jsonl.gz", POINTER, "q.jsonl.gz is a git-lfs pointer"),
        ("q.parquet", POINTER, "q.parquet is a git-lfs pointer"),
        ("q.json", "<!DOCTYPE html><html></html>", "q.json is a web page"),
        ("q.csv", b"PK\x03\x04" + bytes(200), "spreadsheet or an archive"),
        ("q.csv.gz", gzip.compress(CSV.encode())[:-20], "q.csv.gz cannot be unpacked"),
        ("q.csv.bz2", b"no bz2", "q.csv.bz2 cannot be unpacked"),
        ("q.csv.xz", b"no xz", "q.csv.xz cannot be unpacked"),
        ("q.jsonl", LINES.replace('"answer": "1"}', '"answer": ', 1), "line 2 of q.jsonl is not JSON"),
        ("q.json", JSON[:-3], "(is it cut short?)"),
        ("q.json", '{"data": "x"}', "no list of objects but an object with the keys data"),
        ("q.json", "[[1, 2]]", "row 1 of q.json is no object"),
        ("q.json", "3", "q.json is no list of objects"),
        ("q.json", "[" * 100_000, "q.json is nested too deeply"),
        ("q.json", JSON.replace("}", ', "answer": "b"}', 1), "two columns of q.json are called 'answer'"),
        ("q.json", '{"prompt": ["a", "b"], "answer": ["c"]}', "the columns of q.json do not match"),
        ("q.xlsx", b"PK", "q.xlsx is of a kind that is not read (save its sheet as CSV (UTF-8))"),
        ("q.zip", b"PK", "unpack it"),
        ("q.pkl", b"\x80", "it can hold code and is never opened"),
        ("q.bin", b"\x80", "holds no rows (files end with .parquet, .csv"),
    ],
)
def test_what_cannot_be_read_is_said_in_one_line(tmp_path: Path, name: str, content: str | bytes, says: str) -> None:
    assert says in refusal(put(tmp_path, name, content))
    if not name.endswith(("bin", "pkl", "zip", "xlsx")):
        assert says in refusal(put(tmp_path, f"sub/{name}", content).parent)


def test_a_folder_of_sheets_says_what_to_do_with_them(tmp_path: Path) -> None:
    assert "save its sheet as CSV" in refusal(put(tmp_path, "sub/q.xlsx", b"PK").parent)
    put(tmp_path, "sub/.~q.csv", "x")
    put(tmp_path, "sub/.hidden/q.csv", "x")
    put(tmp_path, "sub/dataset_infos.json", "{}")
    put(tmp_path, "sub/q.csv", CSV)
    assert pairs(tmp_path / "sub") == PAIRS


def test_raw_tabs_may_hold_quotes(tmp_path: Path) -> None:
    path = put(tmp_path, "q.tsv", 'prompt\tanswer\n"Yes" he said\t6"\n"No he said\t7\n')
    assert pairs(path) == [('"Yes" he said', '6"'), ('"No he said', "7")]


def test_quotes_of_two_rows_are_no_pair_where_tabs_divide(tmp_path: Path) -> None:
    path = put(tmp_path, "q.tsv", 'prompt\tanswer\n"Yes he said\t6\nand\t7\nNo"\t8\n')
    assert pairs(path) == [('"Yes he said', "6"), ("and", "7"), ('No"', "8")]
    quoted = put(tmp_path, "r.tsv", 'prompt\tanswer\n"two\nlines"\t6\n')
    assert len(pairs(quoted)) == 1


@pytest.mark.parametrize(
    ("values", "taught"),
    [
        ([1, 20, -3], ["1", "20", "-3"]),
        ([6.0, 10.0, 1e16], ["6", "10", "10000000000000000"]),
        ([6.0, 2.5, 1e-7], ["6.0", "2.5", "0.0000001"]),
        ([True, False, True], ["true", "false", "true"]),
        ([3, "none", 2], ["3", "none", "2"]),
        ([["a"], ["b c"], "d"], ["a", "b c", "d"]),
        (["007", " a  b ", "1e3"], ["007", "a  b", "1e3"]),
    ],
)
def test_values_are_written_by_one_rule(tmp_path: Path, values: list[Any], taught: list[str]) -> None:
    rows = [{"prompt": f"q {i}", "answer": value} for i, value in enumerate(values)]
    for name, content in (("q.json", json.dumps(rows)), ("q.jsonl", "\n".join(map(json.dumps, rows)))):
        assert [answer for _, answer in pairs(put(tmp_path, name, content))] == taught


def test_values_of_parquet_are_written_by_the_same_rule(tmp_path: Path) -> None:
    prompts = ["a", "b"]
    for values, taught in (
        ([6.0, 7.0], ["6", "7"]),
        ([date(2024, 1, 31), date(2024, 2, 1)], ["2024-01-31", "2024-02-01"]),
    ):
        table = pyarrow.table({"prompt": prompts, "answer": values, "positions": [[1], [2]], "x.y": [{"z": 1}, None]})
        pyarrow.parquet.write_table(table, tmp_path / "q.parquet")
        assert [answer for _, answer in pairs(tmp_path / "q.parquet")] == taught


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (None, "row 2 of q.json has no answer"),
        ("", "row 2 of q.json has no answer"),
        (" ", "row 2 of q.json has no answer"),
        (math.nan, "the answer of row 2 of q.json is NaN"),
        (math.inf, "the answer of row 2 of q.json is infinite"),
        ([], "the answer of row 2 of q.json is a list of 0 values"),
        (["a", "b"], "the answer of row 2 of q.json is a list of 2 values"),
        ([["a"]], "the answer of row 2 of q.json is a list"),
        ({"text": ["a"]}, "the answer of row 2 of q.json is a mapping (text)"),
        ([{"role": "user", "content": "x"}], "the answer of row 2 of q.json is a list of chat messages"),
        ("\ud800", "row 2 of q.json holds half a character"),
    ],
)
def test_values_that_are_no_text_are_refused_with_their_row(tmp_path: Path, value: Any, says: str) -> None:
    rows = [{"prompt": "p", "answer": "a"}, {"prompt": "q", "answer": value}, {"prompt": "r", "answer": 3.0}]
    assert says in refusal(put(tmp_path, "q.json", json.dumps(rows)))
    rows = [{"prompt": row["answer"], "answer": row["prompt"]} for row in rows]
    found = refusal(put(tmp_path, "q.json", json.dumps(rows)))
    assert says.replace("answer", "question") in found or says.replace("answer", "prompt") in found


def test_columns_that_nobody_names_may_hold_anything(tmp_path: Path) -> None:
    rows = [{**row, "positions": "3-4", "group": [1, 2], "features": 7, "intermediates": None} for row in ROWS]
    assert pairs(put(tmp_path, "q.json", json.dumps(rows))) == PAIRS


def test_a_tilde_in_the_path_is_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    put(tmp_path, "q:1.csv", CSV)
    assert pairs(Path("~/q:1.csv")) == PAIRS
