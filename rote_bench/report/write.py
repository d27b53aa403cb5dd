"""Reading and writing reports: atomic, validated, never with NaN."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..paths import of_user
from ..writing import whole
from . import escape, record
from .conditions import at
from .schema import read as from_json
from .schema import schema
from .schema import write as to_json

FILE = "report.json"
PAGE = "report.html"  # made of it on demand, and no part of it
MOST_FAULTS = 50
LARGEST, DEEPEST, DIGITS = 32 * 2**20, 100, 300  # bytes, levels and digits that no report comes near to
LAST_OF_FIRST = "1620336"  # the last commit that writes and reads reports of schema version 1


@lru_cache(maxsize=1)
def _validator() -> Any:
    from jsonschema import Draft202012Validator

    return Draft202012Validator(schema())


def faults(report: Any) -> list[str]:
    """In what a report differs from the schema, each with its path; of very many faults the first."""
    first = islice(_validator().iter_errors(report), MOST_FAULTS)
    found = sorted(first, key=lambda e: list(map(str, e.absolute_path)))
    return [escape.plain(f"{'.'.join(map(str, e.absolute_path)) or 'report'}: {e.message[:200]}") for e in found]


def not_finite(value: Any, path: str = "") -> Iterator[str]:
    """Paths of all numbers that JSON cannot hold."""
    if isinstance(value, float) and not math.isfinite(value):
        yield path or "value"
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from not_finite(item, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list | tuple):
        for i, item in enumerate(value):
            yield from not_finite(item, f"{path}[{i}]")


def write_text(path: Path, text: str) -> None:
    """Replace a file in one step: whoever reads it sees the old content or the new, never a part."""
    write_texts({path: text})


def write_texts(texts: Mapping[Path, str]) -> None:
    """Replace files, each in one step, once all are written; where one cannot be, all stay as they were."""
    with ExitStack() as files:
        for path, text in texts.items():
            file = files.enter_context(whole(path))
            file.write(text.encode("utf-8"))
            file.flush()


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically.

    Raises:
        ValueError: naming every number that is NaN or infinite.
    """
    bad = list(not_finite(value))
    if bad:
        raise ValueError(f"not a finite number: {', '.join(bad[:5])}")
    write_text(path, json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False) + "\n")


def write_lines(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Write JSON lines atomically."""
    write_text(path, "".join(json.dumps(r, allow_nan=False) + "\n" for r in records))


def write_table(path: Path, columns: Mapping[str, Sequence[Any]]) -> None:
    """Write columns of equal length as Parquet, atomically."""
    import pyarrow
    import pyarrow.parquet

    with whole(path) as file:  # a path of its own, pyarrow would read as an address
        pyarrow.parquet.write_table(pyarrow.table(dict(columns)), file, compression="zstd", compression_level=9)


def _check_curve(data: object, file: Path) -> None:
    """Whether the learning curve in the details, which much that is shown follows, is made of numbers.

    Raises:
        UserError: when it is not.
    """
    curve = at(data, "diagnostics", "learning_dynamics", "details", "curve")
    for number, point in enumerate(curve if isinstance(curve, list) else ()):
        values = point.values() if isinstance(point, dict) else [point]
        if not all(value is None or (isinstance(value, int | float) and value is not True) for value in values):
            raise UserError(
                f"is not a valid report: evaluation {number} of its curve holds no numbers", where=str(file)
            )


def load_report(path: str | Path) -> record.Report:
    """Read and validate a report.

    Args:
        path: the file, or the folder that holds ``report.json``.

    Raises:
        UserError: when it is missing, not JSON, of another version or not valid.
    """
    file = of_user(path)
    if file.is_dir():
        file = file / FILE
    try:
        if file.stat().st_size > LARGEST:
            raise UserError(f"is larger than {LARGEST >> 20} MiB, as no report is", where=str(file))
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(
            "no report here", where=str(path), hint="give a report.json or the folder that holds it"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot be read: {error}", where=str(file)) from error
    try:
        data = parsed(text)
    except ValueError as error:
        raise UserError(f"is not a complete JSON report: {error}", where=str(file)) from error
    other = other_version(data)
    if other is not None:
        raise UserError(other, where=str(file))
    found = faults(data)
    if found:
        more = f" and {len(found) - 1} more" if len(found) > 1 else ""
        raise UserError(f"is not a valid report: {found[0]}{more}", where=str(file))
    _check_curve(data, file)
    return from_json(data)


def other_version(data: object) -> str | None:
    """What is wrong with the schema version of a report's JSON, None when it is this one."""
    version = data.get("schema_version") if isinstance(data, dict) else None
    if version == record.SCHEMA_VERSION and not isinstance(version, bool):
        return None
    old = f"; commit {LAST_OF_FIRST} is the last that reads it" if version == 1 else ""
    given = escape.plain(repr(version)[:80])
    return f"is a report of schema version {given}, this rote-bench reads {record.SCHEMA_VERSION}{old}"


def save_report(path: Path, report: record.Report) -> None:
    """Write a report atomically.

    Raises:
        ValueError: when it does not fit its own schema, or holds a number that JSON cannot.
    """
    data = to_json(report)
    bad = list(not_finite(data))
    found = [f"{bad[0]}: not a finite number"] if bad else faults(data)
    if found:
        raise ValueError(f"the report does not fit its schema: {found[0]}")
    write_json(path, data)


def parsed(text: str) -> Any:
    """JSON of finite numbers of sane length, nested no deeper than any report.

    Raises:
        ValueError: for anything else.
    """
    try:
        found = json.loads(text, parse_constant=_reject_constant, parse_float=_finite, parse_int=_whole)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    level = [found]
    for _ in range(DEEPEST):
        level = [item for each in level for item in _inside(each)]
    if level:
        raise ValueError("it is nested too deeply")
    return found


def _inside(value: object) -> Iterable[object]:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


def _reject_constant(name: str) -> float:
    raise ValueError(f"{name} is not allowed")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:20]} is infinite")
    return number


def _whole(text: str) -> int:
    if len(text) > DIGITS:
        raise ValueError(f"a number of {len(text)} digits is not allowed")
    return int(text)


def find_reports(folder: str | Path) -> list[Path]:
    """All ``report.json`` files under a folder, sorted."""
    return sorted(of_user(folder).rglob(FILE))
