"""Files that strangers wrote, read within limits: what is in them is data, and never more than fits.

How much there is is read from a file's own table of contents first, and counted again while it is read, as a table of
contents may lie.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from .. import terminal
from ..report.write import parsed

LARGEST_TEXT = 64 * 2**20  # bytes of a report, and of a learning curve
LARGEST_FILE = 256 * 2**20  # bytes of a table as it lies on the disk
MOST_ROWS = 2_000_000  # of a table
MOST_VALUES = 50_000_000  # of a table, those inside lists counted
MOST_BYTES = 1 << 30  # of a table's values, unpacked
BATCH = 1 << 14  # rows that are unpacked at a time


class Unreadable(Exception):
    """A file beside a report that does not hold what it should; the message says in what."""


def loads(text: str) -> Any:
    """JSON without numbers that are none, numbers without end, numbers of hundreds of digits and halves of characters.

    Raises:
        ValueError: for those, for what is no JSON, and for what is nested too deeply.
    """
    found = parsed(text)
    try:
        if "\\ud" in text or "\\uD" in text:  # written as escapes; a file in UTF-8 can hold no others
            for one in _texts(found):
                one.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError("holds half of a character") from None
    return found


def _texts(value: Any) -> Iterator[str]:
    """Every text in JSON, keys too."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, each in value.items():
            yield key
            yield from _texts(each)
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each)


def printable(text: str) -> str:
    """One line that a terminal shows as it is: what is not printable as its escape."""
    return terminal.clean(" ".join(text.split()))


def lines(path: Path) -> list[Any]:
    """The JSON of every line of a file.

    Raises:
        Unreadable: when it is too large, or a line is none.
    """
    try:
        if path.stat().st_size > LARGEST_TEXT:
            raise Unreadable(f"is larger than {LARGEST_TEXT >> 20} MiB")
        return [loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise Unreadable(f"cannot be read: {printable(str(error))[:120]}") from None


def read_table(path: Path, columns: Sequence[str] | None = None) -> dict[str, list[Any]]:
    """Columns of a Parquet file, all when None.

    Raises:
        Unreadable: when it is no such file, lacks a column, or holds more than any run writes.
    """
    return read_columns(path, columns)[0]


def read_columns(
    path: Path, columns: Sequence[str] | None = None
) -> tuple[dict[str, list[Any]], dict[str, type | None]]:
    """Columns, and the type of all values of each where the file itself declares it and none is missing.

    Raises:
        Unreadable: as ``read_table``.
    """
    import pyarrow
    import pyarrow.parquet

    try:
        if path.stat().st_size > LARGEST_FILE:
            raise Unreadable(f"is larger than {LARGEST_FILE >> 20} MiB")
        with pyarrow.parquet.ParquetFile(path) as plain:
            _fits(plain.metadata)
            schema = plain.schema_arrow
        texts = [field.name for field in schema if _is_text(field.type)]
        # Words that repeat are kept once until it is known how much they are when written out.
        with pyarrow.parquet.ParquetFile(path, read_dictionary=texts) as file:
            return _unpacked(file, list(schema.names) if columns is None else list(columns))
    except (pyarrow.ArrowException, KeyError, ValueError, OverflowError, OSError, MemoryError) as error:
        said = printable(str(error) or type(error).__name__)
        raise Unreadable(f"cannot be read: {said[:120]}") from None


def _fits(metadata: Any) -> None:
    """What the file says of itself is no more than can be read."""
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    values = sum(group.column(i).num_values for group in groups for i in range(group.num_columns))
    for what, found, most in (
        ("rows", metadata.num_rows, MOST_ROWS),
        ("values", values, MOST_VALUES),
        ("bytes", sum(group.total_byte_size for group in groups), MOST_BYTES),
    ):
        if not 0 <= found <= most:
            raise Unreadable(f"holds {found} {what}; at most {most} are read")


def _is_text(kind: Any) -> bool:
    import pyarrow

    return bool(pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind))


def _unpacked(file: Any, columns: Sequence[str]) -> tuple[dict[str, list[Any]], dict[str, type | None]]:
    """All rows, a batch at a time, until they are more than fits."""
    if len(set(columns)) != len(columns) or not set(columns) <= set(file.schema_arrow.names):
        missing = sorted(set(columns) - set(file.schema_arrow.names))
        raise KeyError(f"no column {missing[0]}" if missing else "a column stands there twice")
    values: dict[str, list[Any]] = {name: [] for name in columns}
    complete, room = dict.fromkeys(columns, True), MOST_BYTES
    for batch in file.iter_batches(BATCH, columns=list(columns)):
        for name in columns:
            column = batch.column(name)
            room -= _size(column)
            if room < 0:
                raise Unreadable(f"holds more than {MOST_BYTES} bytes")
            complete[name] &= not column.null_count
            values[name] += column.to_pylist()
    kinds = {name: file.schema_arrow.field(name).type for name in columns}
    return values, {name: _declared(kinds[name]) if complete[name] else None for name in columns}


def _size(column: Any) -> int:
    """Bytes of a column's values, words that repeat counted as often as they stand there."""
    import pyarrow
    from pyarrow import compute

    if not pyarrow.types.is_dictionary(column.type):
        return int(column.nbytes)
    lengths = compute.binary_length(column.dictionary).take(column.indices)
    return int(compute.sum(compute.cast(lengths, pyarrow.int64())).as_py() or 0) + 8 * len(column)


def _declared(kind: Any) -> type | None:
    import pyarrow

    types = pyarrow.types
    if types.is_dictionary(kind):
        kind = kind.value_type
    tests = ((str, _is_text), (bool, types.is_boolean), (int, types.is_integer))
    return next((found for found, test in tests if test(kind)), None)
