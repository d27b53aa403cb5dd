"""Any table of questions and answers as a task: Parquet, CSV or JSON files, folders of them, or a dataset's name."""

from __future__ import annotations

import csv
import io
import json
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from ..errors import UserError, did_you_mean
from .example import SPLITS, Example, Span, Task

FORMATS = {".parquet": "parquet", ".csv": "csv", ".tsv": "csv", ".json": "json", ".jsonl": "json"}


@dataclass(frozen=True)
class TableParameters:
    """Where the rows are, and what their columns mean.

    Attributes:
        path: a file, a folder of files, or the name of a dataset on the hub; relative to the task file.
        config: which configuration of a dataset that has several.
        split: which split to draw from; all when empty. Splits called train, selection and validation are kept apart;
            of each, as many rows as ``splits`` says are drawn at random.
        prompt: column of the question.
        answer: column of the true answer.
        intermediates: columns of intermediate results.
        positions: columns whose text is looked up in the prompt (its last occurrence) and names those tokens.
        features: columns of surface classes, for structured noise and heuristics of units.
        group: column of the cluster to which a row belongs; every row is its own when empty.
        facts: a file or folder of rows that are trained on and always clean; relative to the task file.
    """

    path: str = field(metadata={"path": True})
    config: str | None = None
    split: str = ""
    prompt: str = "prompt"
    answer: str = "answer"
    intermediates: tuple[str, ...] = ()
    positions: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    group: str = ""
    facts: str | None = field(default=None, metadata={"path": True})


class Table(Task):
    """Rows of a dataset. Nothing can be asked of it that its columns do not say: no answer to a changed question."""

    name = "dataset"
    version = 2
    description = "Questions from Parquet, CSV or JSON files, or from any dataset on the hub."
    Parameters: ClassVar[type] = TableParameters

    def __init__(self, parameters: TableParameters, seed: int) -> None:
        super().__init__(parameters, seed)
        self.parts = _load(parameters)
        for name, rows in self.parts.items():
            _check_columns(parameters, rows.column_names, name)
        self.starts: dict[str, int] = {}
        total = 0
        for name, rows in self.parts.items():
            self.starts[name] = total
            total += len(rows)
        self.total = total

    def __len__(self) -> int:
        return self.total

    def example(self, index: int) -> Example:
        name = max((n for n in self.parts if self.starts[n] <= index), key=lambda n: self.starts[n])
        return self._row(self.parts[name][index - self.starts[name]], f"{name} {index - self.starts[name]}")

    def _row(self, row: Mapping[str, Any], place: str) -> Example:
        p = self.parameters
        prompt, answer = _text(row[p.prompt]), _text(row[p.answer])
        if not prompt or not answer:
            raise UserError(f"row {place} has no {'answer' if prompt else 'question'}", where="parameters.path")
        spans: dict[str, Span] = {}
        for name, span in (row.get("positions") or {}).items() if "positions" not in p.positions else ():
            if span is not None:
                spans[name] = (int(span[0]), int(span[1]))
        for column in p.positions:
            start = prompt.rfind(_text(row[column]))
            if start < 0 or not _text(row[column]):
                raise UserError(
                    f"the prompt of row {place} does not hold its {column}, {row[column]!r}",
                    where="parameters.positions",
                )
            spans[column] = (start, start + len(_text(row[column])))
        return Example(
            prompt=prompt,
            answer=answer,
            positions=spans,
            intermediates=_named(row, "intermediates", p.intermediates),
            features=_named(row, "features", p.features),
            group=_text(row[p.group]) if p.group else _text(row.get("group") or place),
        )

    def split(self, sizes: Mapping[str, int | float], seed: int) -> dict[str, list[int]]:
        """From the table's own splits when it has all three, else from all rows; drawn by the data seed either way."""
        if not set(SPLITS) <= set(self.parts):
            return super().split(sizes, seed)
        out = {}
        for name in SPLITS:
            rows, size = len(self.parts[name]), sizes[name]
            count = size if isinstance(size, int) else int(size * len(self))
            if not 1 <= count <= rows:
                raise UserError(f"the split {name!r} has {rows} rows, not {count}", where=f"splits.{name}")
            drawn = random.Random(f"split-{seed}-{name}").sample(range(rows), count)  # files may be sorted
            out[name] = [self.starts[name] + row for row in drawn]
        return out

    def facts(self) -> Sequence[Example]:
        p = self.parameters
        if not p.facts:
            return ()
        (rows,) = _read(p.facts, None, "parameters.facts").values()
        _check_columns(TableParameters(path="", prompt=p.prompt, answer=p.answer), rows.column_names, "facts")
        return [
            Example(_text(row[p.prompt]), _text(row[p.answer]), group=_text(row.get("group") or f"fact {i}"))
            for i, row in enumerate(rows)
        ]

    def words(self) -> Iterable[str]:
        found: dict[str, None] = {}
        for example in (*(self.example(i) for i in range(len(self))), *self.facts()):
            found.update(dict.fromkeys(example.text.split()))
        return found

    @cached_property
    def _answers(self) -> list[str]:
        column = self.parameters.answer
        return sorted({_text(value) for rows in self.parts.values() for value in rows[column]})

    def answers(self, example: Example) -> Sequence[str]:
        return self._answers

    @cached_property
    def _values(self) -> dict[str, list[str]]:
        seen: dict[str, set[str]] = {}
        for i in range(len(self)):
            for name, value in self.example(i).intermediates.items():
                seen.setdefault(name, set()).add(value)
        return {name: sorted(values) for name, values in seen.items()}

    def values(self, intermediate: str) -> Sequence[str]:
        return self._values.get(intermediate, ())


def _text(value: Any) -> str:
    """A value as words separated by single spaces."""
    return "" if value is None else " ".join(str(value).split())


def _named(row: Mapping[str, Any], column: str, columns: Sequence[str]) -> dict[str, str]:
    """Values of the named columns, or of a column that holds a mapping, as exported tasks have."""
    nested = row.get(column)
    whole = {k: v for k, v in nested.items() if v is not None} if isinstance(nested, Mapping) and not columns else {}
    return {name: _text(value) for name, value in {**whole, **{c: row[c] for c in columns}}.items()}


def _check_columns(p: TableParameters, columns: Sequence[str], part: str) -> None:
    wanted = {"prompt": p.prompt, "answer": p.answer, **({"group": p.group} if p.group else {})}
    named = [*wanted.items(), *(("positions", c) for c in p.positions)]
    named += [("intermediates", c) for c in p.intermediates] + [("features", c) for c in p.features]
    for key, column in named:
        if column not in columns:
            hint = did_you_mean(column, columns) if columns else ""
            raise UserError(
                f"the rows of {part} have no column {column!r}; they have {', '.join(columns)}",
                where=f"parameters.{key}",
                hint=hint or f"set parameters.{key}",
            )


def _load(p: TableParameters) -> dict[str, Any]:
    parts = _read(p.path, p.config, "parameters.path")
    if p.split:
        if p.split not in parts:
            raise UserError(
                f"{p.path} has no split {p.split!r}", where="parameters.split", hint=did_you_mean(p.split, parts)
            )
        return {p.split: parts[p.split]}
    return parts


def _read(path: str, config: str | None, key: str) -> dict[str, Any]:
    """Split -> rows, of a file, of a folder's files (a split each, named as they are), or of a dataset's name.

    Raises:
        UserError: when there is nothing to read.
    """
    import datasets

    datasets.disable_progress_bars()
    place = Path(path)
    files = sorted(f for f in place.rglob("*") if f.suffix in FORMATS) if place.is_dir() else [place]
    files = [f for f in files if f.name not in ("dataset_info.json", "state.json")]
    try:
        if place.is_file() or (place.is_dir() and files):
            return _read_files(files, key)
        if place.is_dir() or path.startswith((".", "/", "~")) or place.suffix in FORMATS:
            raise UserError(f"{path!r} holds no rows", where=key, hint=f"files end with {', '.join(FORMATS)}")
        loaded = datasets.load_dataset(path, config)
        return {str(name): rows for name, rows in loaded.items()}
    except UserError:
        raise
    except ConnectionError as error:
        raise UserError(
            f"{path!r} is no file here, and the hub cannot be reached for a dataset of that name",
            where=key,
            hint="mend the path; or load the dataset once where there is a network, after which its copy is used",
        ) from error
    except Exception as error:  # files, formats, networks: whatever the library meets is the reason for the user
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"cannot read {path!r}: {reason}", where=key, hint="is the path right?") from error


def _read_files(files: Sequence[Path], key: str) -> dict[str, Any]:
    import datasets

    kinds = {FORMATS.get(f.suffix) for f in files}
    if len(kinds) > 1 or None in kinds:
        raise UserError(
            f"cannot tell which of {', '.join(f.name for f in files[:4])} to read", where=key, hint="name one file"
        )
    by_split: dict[str, list[Any]] = {}
    for file in files:
        stem = file.stem.partition("-")[0]
        name = stem if stem in SPLITS else "train" if len(files) == 1 else stem
        by_split.setdefault(name, []).append(_rows(file))
    return {name: datasets.concatenate_datasets(parts) for name, parts in by_split.items()}


def _rows(file: Path) -> Any:
    """The rows of one file, values of CSV as they are written: a leading zero is part of an answer."""
    import datasets

    if FORMATS[file.suffix] == "parquet":
        import pyarrow.parquet

        return datasets.Dataset(pyarrow.parquet.read_table(file))
    text = file.read_text(encoding="utf-8")
    if FORMATS[file.suffix] == "csv":
        reader = csv.DictReader(io.StringIO(text), delimiter="\t" if file.suffix == ".tsv" else ",")
        return datasets.Dataset.from_list(list(reader))
    rows = json.loads(text) if file.suffix == ".json" else [json.loads(line) for line in text.splitlines() if line]
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError(f"{file.name} is no list of objects")
    return datasets.Dataset.from_list(rows)
