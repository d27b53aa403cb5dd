"""Reading and writing reports: atomic, validated, never with NaN."""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..errors import UserError

SCHEMA_VERSION = 1
FILE = "report.json"


@lru_cache(maxsize=1)
def schema() -> dict[str, Any]:
    """The JSON schema of a report."""
    text = (Path(__file__).parent / "report.schema.json").read_text(encoding="utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


@lru_cache(maxsize=1)
def _validator() -> Any:
    from jsonschema import Draft202012Validator

    return Draft202012Validator(schema())


def faults(report: Any) -> list[str]:
    """Everything in which a report differs from the schema, each with its path."""
    found = sorted(_validator().iter_errors(report), key=lambda e: list(map(str, e.absolute_path)))
    return [f"{'.'.join(map(str, e.absolute_path)) or 'report'}: {e.message[:200]}" for e in found]


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
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(partial, 0o644)
        os.replace(partial, path)
    except BaseException:
        os.unlink(partial)
        raise


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

    partial = path.with_name(f".{path.name}.partial")
    pyarrow.parquet.write_table(pyarrow.table(dict(columns)), partial)
    os.replace(partial, path)


def load_report(path: str | Path) -> dict[str, Any]:
    """Read and validate a report.

    Args:
        path: the file, or the folder that holds ``report.json``.

    Raises:
        UserError: when it is missing, not JSON, of another version or not valid.
    """
    file = Path(path)
    if file.is_dir():
        file = file / FILE
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(
            "no report here", where=str(path), hint="give a report.json or the folder that holds it"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot be read: {error}", where=str(file)) from error
    try:
        report = json.loads(text, parse_constant=_reject_constant)
    except ValueError as error:
        raise UserError(f"is not a complete JSON report: {error}", where=str(file)) from error
    version = report.get("schema_version") if isinstance(report, dict) else None
    if version != SCHEMA_VERSION:
        raise UserError(
            f"report of schema version {version!r}, this rote-bench reads {SCHEMA_VERSION}", where=str(file)
        )
    found = faults(report)
    if found:
        more = f" and {len(found) - 1} more" if len(found) > 1 else ""
        raise UserError(f"is not a valid report: {found[0]}{more}", where=str(file))
    loaded: dict[str, Any] = report
    return loaded


def _reject_constant(name: str) -> float:
    raise ValueError(f"{name} is not allowed")


def find_reports(folder: str | Path) -> list[Path]:
    """All ``report.json`` files under a folder, sorted."""
    return sorted(Path(folder).rglob(FILE))
