"""Files of rows as people have them: CSV, JSON, JSON lines and Parquet; marked, packed, wrapped or on their side."""

from __future__ import annotations

import bz2
import codecs
import csv
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

from ..errors import UserError
from ..paths import is_pointer

FORMATS = {
    ".parquet": "parquet",
    ".csv": "csv",
    ".tsv": "csv",
    ".json": "json",
    ".jsonl": "json",
    ".ndjson": "json",
}
PACKED: Mapping[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
LARGEST = 1 << 30  # bytes that a packed file may hold
NOT_READ = {
    **dict.fromkeys((".xlsx", ".xls", ".xlsm", ".ods", ".numbers"), "save its sheet as CSV (UTF-8)"),
    **dict.fromkeys((".zip", ".tar", ".tgz", ".7z", ".rar", ".zst"), "unpack it, and name the file inside"),
    **dict.fromkeys((".pkl", ".pickle", ".pt"), "it can hold code and is never opened; write Parquet or CSV"),
    **dict.fromkeys((".arrow", ".feather", ".txt", ".xml", ".html", ".yaml", ".yml"), "write Parquet, CSV or JSON"),
}
ENDINGS = ", ".join(FORMATS)
MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


@dataclass(frozen=True)
class Wanted:
    """What is looked for in a file.

    Attributes:
        needed: columns without which it is of no use; they tell its layout.
        used: all columns that are read if they are there.
        records: key of the list of rows in a JSON file that holds more.
    """

    needed: tuple[str, ...]
    used: frozenset[str]
    records: str = ""


@dataclass(frozen=True)
class Rows:
    """The rows of one file, a list of values for each column in use.

    Attributes:
        name: of the file.
        names: of all columns.
        twice: names that two columns have.
    """

    name: str
    names: tuple[str, ...]
    columns: Mapping[str, Sequence[Any]]
    count: int
    twice: frozenset[str] = field(default_factory=frozenset)


def kind_of(file: PurePath) -> str | None:
    """``parquet``, ``csv`` or ``json`` by a file's name, packed or not and however it is spelled; else None."""
    return FORMATS.get(_endings(file)[0])


def stem_of(file: PurePath) -> str:
    """A file's name without the endings that say its format."""
    ending, packed = _endings(file)
    return file.name[: len(file.name) - len(ending) - len(packed)] or file.name


def _endings(file: PurePath) -> tuple[str, str]:
    name = file.name.lower()
    packed = next((p for p in PACKED if name.endswith(p)), "")
    return PurePath(name.removesuffix(packed)).suffix, packed


def why_not(file: PurePath) -> UserError | None:
    """The reason why a file of this name is not read, where there is one."""
    ending = _endings(file)[0]
    hint = NOT_READ.get(PurePath(file.name.lower()).suffix, NOT_READ.get(ending))
    return UserError(f"{file.name} is of a kind that is not read", hint=hint) if hint else None


def read_rows(file: Path, wanted: Wanted, name: str) -> Rows:
    """The rows of a file.

    Args:
        name: what to call the file.

    Raises:
        UserError: saying what is wrong with it, and where in it.
    """
    from . import json_rows  # each format's reader alone is needed

    kind = kind_of(file)
    if kind == "parquet":
        return _parquet(file, wanted, name)
    text = decoded(_content(file, name), name)
    if kind == "csv":
        return _csv(text, "\t" if _endings(file)[0] == ".tsv" else ",", wanted, name)
    names, columns, count, twice = json_rows.read(text, _endings(file)[0] != ".json", wanted, name)
    return Rows(name, names, columns, count, twice)


def _content(file: Path, name: str) -> bytes:
    packed = _endings(file)[1]
    if not packed:
        return file.read_bytes()
    try:
        with PACKED[packed](file, "rb") as opened:
            content: bytes = opened.read(LARGEST + 1)
    except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile, ValueError) as error:
        _refuse_pointer(file.read_bytes()[:200], name)
        raise UserError(f"{name} cannot be unpacked: {error}", hint="is it whole? pack it again") from None
    except OSError as error:  # bz2 has no error of its own
        if error.errno is not None:
            raise
        _refuse_pointer(file.read_bytes()[:200], name)
        raise UserError(f"{name} cannot be unpacked: {error}", hint="is it whole? pack it again") from None
    if len(content) > LARGEST:
        raise UserError(f"{name} unpacks to more than {LARGEST >> 30} GiB", hint="write it as Parquet")
    return content


def _refuse_pointer(start: bytes, name: str) -> None:
    if is_pointer(start):
        raise UserError(f"{name} is a git-lfs pointer and not the file itself", hint="run `git lfs pull` where it is")


def decoded(content: bytes, name: str) -> str:
    """Text by its byte order mark, UTF-8 without one.

    Raises:
        UserError: when it is no text, naming the line.
    """
    _refuse_pointer(content[:200], name)
    if content[:4] == b"PK\x03\x04":
        raise UserError(f"{name} is a spreadsheet or an archive by its content", hint="save the sheet as CSV (UTF-8)")
    if content[:200].lstrip().lower().startswith((b"<!doctype html", b"<html")):
        raise UserError(f"{name} is a web page by its content", hint="download the file itself")
    encoding = next((e for mark, e in MARKS if content.startswith(mark)), None)
    start = content[:4096]
    if encoding is None and start.count(0) > len(start) / 10:
        raise UserError(f"{name} is not UTF-8 text, but binary or UTF-16 without its mark", hint="save it as UTF-8")
    try:
        return content.decode(encoding or "utf-8")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        what = f"{name} is not {(encoding or 'utf-8').removesuffix('-sig').upper()} text: line {line}, {error.reason}"
        raise UserError(what, hint="save it as UTF-8") from None


def _parquet(file: Path, wanted: Wanted, name: str) -> Rows:
    import pyarrow.parquet

    with file.open("rb") as opened:  # pyarrow takes some names for addresses
        _refuse_pointer(opened.read(200), name)
        opened.seek(0)
        whole = pyarrow.parquet.ParquetFile(opened)
        names = tuple(whole.schema_arrow.names)
        twice = frozenset(n for n in names if names.count(n) > 1)
        chosen = [n for n in dict.fromkeys(names) if n in wanted.used and n not in twice]
        table = whole.read(columns=chosen)
        columns = {n: _plain(table.column(n)) for n in chosen}
        return Rows(name, names, columns, whole.metadata.num_rows, twice)


def _plain(column: Any) -> list[Any]:
    """The values of a column; numbers of 32 or 16 bits as the shortest decimals that give them (2.3)."""
    import numpy as np
    import pyarrow as pa

    values: list[Any] = column.to_pylist()
    if not (pa.types.is_float32(column.type) or pa.types.is_float16(column.type)):
        return values
    kind = np.float32 if pa.types.is_float32(column.type) else np.float16
    return [None if value is None else float(str(kind(value))) for value in values]


def _csv(text: str, separator: str, wanted: Wanted, name: str) -> Rows:
    """Rows of text, values as they are written: a leading zero is part of an answer."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    first = text.partition("\n")[0]
    skipped = 0
    if first.lower().startswith("sep=") and len(first) == 5:  # as some spreadsheets say it
        separator, text, skipped = first[4], text[6:], 1
    separator = _separator(text, separator, wanted.needed, name)
    plain = csv.QUOTE_NONE  # tabs need no quotes, which are then text
    try:
        numbered = _fields(text, separator, name)
        if separator == "\t" and any("\n" in field for _, row in numbered for field in row):
            whole = _fields(text, separator, name, quoting=plain)
            numbered = whole if len({len(row) for _, row in whole}) == 1 else numbered
    except UserError:
        if separator != "\t":
            raise
        numbered = _fields(text, separator, name, quoting=plain)
    (_, head), *rest = numbered or [(0, [])]
    names = tuple(n.strip().strip("\ufeff") for n in head)
    for number, (line, row) in enumerate(rest, 1):
        if len(row) != len(names) and (len(row) < len(names) or any(map(str.strip, row[len(names) :]))):
            raise UserError(
                f"row {number} of {name} (line {line + skipped}) has {_counted(len(row))}, but the header {len(names)}",
                hint="mend the row; a field that holds the separator is quoted",
            )
    twice = frozenset(n for n in names if names.count(n) > 1)
    columns = {n: [row[i] for _, row in rest] for i, n in enumerate(names) if n in wanted.used and n not in twice}
    return Rows(name, names, columns, len(rest), twice)


def _fields(text: str, separator: str, name: str, *, quoting: int = csv.QUOTE_MINIMAL) -> list[tuple[int, list[str]]]:
    """The rows that are not blank, with the line on which each ends."""
    spaced = f"{separator} " in text[:10_000].lstrip().partition("\n")[0]  # a header spaced so has its quotes so too
    limit = csv.field_size_limit(len(text) + 1)  # unused columns may hold anything
    try:
        reader = csv.reader(
            io.StringIO(text),
            delimiter=separator,
            strict=True,
            quoting=quoting,  # type: ignore[arg-type]
            skipinitialspace=spaced,
        )
        line = 1
        out = []
        try:
            for row in reader:
                if any(map(str.strip, row)):
                    out.append((line, row))
                line = reader.line_num + 1
        except csv.Error as error:
            raise UserError(
                f"line {line} of {name} cannot be split into fields: {error}",
                hint='write a quote inside a quoted field as ""',
            ) from None
        return out
    finally:
        csv.field_size_limit(limit)


def _separator(text: str, usual: str, needed: Sequence[str], name: str) -> str:
    """What stands between fields: the usual, unless the header shows that it is another."""
    head = text.lstrip().partition("\n")[0]

    def names(separator: str) -> list[str]:
        return [field.strip().strip('"').strip() for field in head.split(separator)]

    if len(names(usual)) > 1 and set(needed) & set(names(usual)):
        return usual
    others = [s for s in (",", ";", "\t", "|") if s != usual]
    return next((s for s in others if set(needed) <= set(names(s))), usual)


def _counted(fields: int) -> str:
    return f"{fields} field{'' if fields == 1 else 's'}"
