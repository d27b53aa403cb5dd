"""Any table of questions and answers as a task: Parquet, CSV or JSON files, folders of them, or a dataset's name."""

from __future__ import annotations

import csv
import io
import json
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate, combinations
from pathlib import Path
from typing import Any, ClassVar

from ..errors import UserError, did_you_mean
from .example import EXTRA, SPLITS, Example, Span, Task

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
        noisy: column of labels as they were given, right or wrong, for noise of the kind ``given``; a row without one
            keeps its answer.
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
    noisy: str = ""
    facts: str | None = field(default=None, metadata={"path": True})


@dataclass(frozen=True)
class Part:
    """Rows that belong together.

    Attributes:
        rows: a ``datasets.Dataset``.
        files: name and number of rows of each file that they come from, in order; none for a dataset of the hub.
        name: of the split.
    """

    rows: Any
    files: tuple[tuple[str, int], ...]
    name: str

    def __len__(self) -> int:
        return len(self.rows)

    def place(self, number: int) -> str:
        """A row in words by which the user finds it, counted from 1."""
        for file, count in self.files:
            if number < count:
                return f"row {number + 1} of {file}"
            number -= count
        return f"row {number + 1} of {self.name}"


class Table(Task):
    """Rows of a dataset. Nothing can be asked of it that its columns do not say: no answer to a changed question."""

    name = "dataset"
    version = 2
    description = "Questions from Parquet, CSV or JSON files, or from any dataset on the hub."
    Parameters: ClassVar[type] = TableParameters

    def __init__(self, parameters: TableParameters, seed: int) -> None:
        super().__init__(parameters, seed)
        self.parts = _load(parameters)
        for part in self.parts.values():
            _check_columns(parameters, part, "parameters.path")
        sizes = [len(part) for part in self.parts.values()]
        self.starts = dict(zip(self.parts, accumulate(sizes, initial=0), strict=False))
        self.total = sum(sizes)

    def __len__(self) -> int:
        return self.total

    def _at(self, index: int) -> tuple[str, int]:
        """The part that holds the example at ``index`` of the pool, and its row there."""
        name = next(name for name, part in self.parts.items() if index < self.starts[name] + len(part))
        return name, index - self.starts[name]

    def place(self, index: int) -> str:
        name, row = self._at(index)
        return self.parts[name].place(row)

    def example(self, index: int) -> Example:
        p = self.parameters
        name, number = self._at(index)
        part = self.parts[name]
        row = part.rows[number]
        prompt, answer = _question(p, row, part, number, "parameters.path")
        spans: dict[str, Span] = {}
        nested = row.get("positions")
        for position, span in nested.items() if isinstance(nested, Mapping) and "positions" not in p.positions else ():
            if span is not None:
                try:
                    start, stop = map(int, span)
                except (TypeError, ValueError):
                    raise UserError(
                        f"the position {position!r} of {part.place(number)} is no pair of numbers but {span!r}",
                        where="parameters.path",
                    ) from None
                spans[position] = start, stop
        for column in p.positions:
            start = prompt.rfind(_text(row[column]))
            if start < 0 or not _text(row[column]):
                raise UserError(
                    f"the prompt of {part.place(number)} does not hold its {column}, {row[column]!r}",
                    where="parameters.positions",
                )
            spans[column] = (start, start + len(_text(row[column])))
        return Example(
            prompt=prompt,
            answer=answer,
            positions=spans,
            intermediates=_named(row, "intermediates", p.intermediates),
            features=_named(row, "features", p.features),
            group=_text(row[p.group]) if p.group else _text(row.get("group")) or f"{name} {number}",
            given=(_text(row[p.noisy]) or None) if p.noisy else None,
        )

    def split(self, sizes: Mapping[str, int | float], seed: int) -> dict[str, list[int]]:
        """From the table's own splits when it has all three, else from all rows; drawn by the data seed either way."""
        if not set(SPLITS) <= set(self.parts):
            return super().split(sizes, seed)
        out = {}
        for name in (*SPLITS, *(name for name in EXTRA if sizes.get(name))):
            if name not in self.parts:
                self.set_apart(1, seed)
            rows, size = len(self.parts[name]), sizes[name]
            count = size if isinstance(size, int) else int(size * len(self))
            if not 1 <= count <= rows:
                raise UserError(f"the split {name!r} has {rows} rows, not {count}", where=f"splits.{name}")
            drawn = random.Random(f"split-{seed}-{name}").sample(range(rows), count)  # files may be sorted
            out[name] = [self.starts[name] + row for row in drawn]
        return out

    def set_apart(self, count: int, seed: int) -> Sequence[int]:
        """The rows of the table's own split of that name."""
        if "ood" not in self.parts:
            return super().set_apart(count, seed)
        rows = len(self.parts["ood"])
        if count > rows:
            raise UserError(f"the split 'ood' has {rows} rows, not {count}", where="splits.ood")
        return range(self.starts["ood"], self.starts["ood"] + rows)

    def facts(self) -> Sequence[Example]:
        return [fact for fact, _ in self._facts]

    def fact_place(self, number: int) -> str:
        return self._facts[number][1]

    @cached_property
    def _facts(self) -> list[tuple[Example, str]]:
        """Each fact and the row that it stands in."""
        p = self.parameters
        if not p.facts:
            return []
        only = TableParameters(path="", prompt=p.prompt, answer=p.answer)
        found: list[tuple[Example, str]] = []
        for part in _read(p.facts, None, "parameters.facts").values():
            _check_columns(only, part, "parameters.facts")
            for number, row in enumerate(part.rows):
                prompt, answer = _question(p, row, part, number, "parameters.facts")
                group = _text(row.get("group")) or f"fact {len(found)}"
                found.append((Example(prompt, answer, group=group), part.place(number)))
        return found

    def words(self) -> Iterable[str]:
        found: dict[str, None] = {}
        for example in (*(self.example(i) for i in range(len(self))), *self.facts()):
            found.update(dict.fromkeys(f"{example.text} {example.given or ''}".split()))
        return found

    @cached_property
    def _answers(self) -> list[str]:
        columns = [column for column in (self.parameters.answer, self.parameters.noisy) if column]
        values = (part.rows[column] for part in self.parts.values() for column in columns)
        return sorted({_text(value) for column in values for value in column} - {""})

    def answers(self, example: Example) -> Sequence[str]:
        return self._answers

    @cached_property
    def _rows_by_value(self) -> dict[str, dict[str, list[int]]]:
        """Intermediate result -> value -> the rows that have it."""
        rows: dict[str, dict[str, list[int]]] = {}
        for i in range(len(self)):
            for name, value in self.example(i).intermediates.items():
                rows.setdefault(name, {}).setdefault(value, []).append(i)
        return rows

    def values(self, intermediate: str) -> Sequence[str]:
        return sorted(self._rows_by_value.get(intermediate, ()))

    def neighbours(self, example: Example) -> Mapping[str, Sequence[int]]:
        """Rows with the same value of an intermediate result."""
        found = {}
        for name, value in example.intermediates.items():
            rows = self._rows_by_value[name].get(value, [])
            found[f"same_{name}"] = [row for row in rows if self._prompts[row] != example.prompt]
        return found

    @cached_property
    def _prompts(self) -> list[str]:
        column = self.parameters.prompt
        return [_text(value) for part in self.parts.values() for value in part.rows[column]]

    @cached_property
    def _alternatives(self) -> list[tuple[str, tuple[str, ...], dict[tuple[str, ...], dict[str, str]]]]:
        """Intermediate result, the features that decide the answer together with it, and by their values what each
        value of it leads to."""
        rows = [self.example(i) for i in range(len(self))]
        out = []
        for name in rows[0].intermediates if rows else ():
            features = [f for f in rows[0].features if all(f in row.features for row in rows)]
            known = [
                found
                for size in range(3)
                for chosen in combinations(features, size)
                if (found := _decided(rows, name, chosen)) is not None
            ]
            if known:
                chosen, table = min(known, key=lambda found: len(found[1]))
                out.append((name, chosen, table))
        return out

    def foils(self, example: Example) -> Sequence[str]:
        """Answers of rows that differ in an intermediate result alone, as far as the table has such rows.

        What else decides the answer is found in the table: none, one or two ``features`` with which no value of the
        intermediate result leads to two answers, of all such the coarsest.
        """
        found: dict[str, None] = {}
        for name, chosen, table in self._alternatives:
            if name in example.intermediates and all(f in example.features for f in chosen):
                answers = table.get(tuple(example.features[f] for f in chosen), {})
                found.update((a, None) for value, a in answers.items() if value != example.intermediates[name])
        found.pop(example.answer, None)
        return list(found)


def _decided(
    rows: Sequence[Example], name: str, features: tuple[str, ...]
) -> tuple[tuple[str, ...], dict[tuple[str, ...], dict[str, str]]] | None:
    """Values of features -> value of an intermediate result -> the one answer that all such rows have; else None."""
    table: dict[tuple[str, ...], dict[str, str]] = {}
    for row in rows:
        answers = table.setdefault(tuple(row.features[f] for f in features), {})
        if name not in row.intermediates or answers.setdefault(row.intermediates[name], row.answer) != row.answer:
            return None
    return features, table


def _question(p: TableParameters, row: Mapping[str, Any], part: Part, number: int, key: str) -> tuple[str, str]:
    """Prompt and answer of a row.

    Raises:
        UserError: when it lacks one of them.
    """
    prompt, answer = _text(row[p.prompt]), _text(row[p.answer])
    if not prompt or not answer:
        raise UserError(f"{part.place(number)} has no {'answer' if prompt else 'question'}", where=key)
    return prompt, answer


def _text(value: Any) -> str:
    """A value as words separated by single spaces."""
    return "" if value is None else " ".join(str(value).split())


def _named(row: Mapping[str, Any], column: str, columns: Sequence[str]) -> dict[str, str]:
    """Values of the named columns, or of a column that holds a mapping, as exported tasks have."""
    nested = row.get(column)
    whole = {k: v for k, v in nested.items() if v is not None} if isinstance(nested, Mapping) and not columns else {}
    return {name: _text(value) for name, value in {**whole, **{c: row[c] for c in columns}}.items()}


def _check_columns(p: TableParameters, part: Part, key_of_path: str) -> None:
    columns = part.rows.column_names
    if not columns:
        raise UserError(f"{part.name} holds no rows", where=key_of_path)
    wanted = {"prompt": p.prompt, "answer": p.answer}
    wanted |= {key: column for key, column in (("group", p.group), ("noisy", p.noisy)) if column}
    named = [*wanted.items(), *(("positions", c) for c in p.positions)]
    named += [("intermediates", c) for c in p.intermediates] + [("features", c) for c in p.features]
    for key, column in named:
        if column not in columns:
            raise UserError(
                f"the rows of {part.name} have no column {column!r}; they have {', '.join(columns)}",
                where=f"parameters.{key}",
                hint=did_you_mean(column, columns),
            )


def _load(p: TableParameters) -> dict[str, Part]:
    parts = _read(p.path, p.config, "parameters.path")
    if p.split:
        if p.split not in parts:
            raise UserError(
                f"{p.path} has no split {p.split!r}", where="parameters.split", hint=did_you_mean(p.split, parts)
            )
        return {p.split: parts[p.split]}
    return parts


@contextmanager
def without_bars() -> Iterator[None]:
    """Let datasets show no progress."""
    import datasets

    shown = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            datasets.enable_progress_bars()


def _read(path: str, config: str | None, key: str) -> dict[str, Part]:
    """Split -> rows, of a file, of a folder's files (a split each, named as they are), or of a dataset's name.

    Raises:
        UserError: when there is nothing to read.
    """
    import datasets

    place = Path(path)
    files = sorted(f for f in place.rglob("*") if f.suffix in FORMATS) if place.is_dir() else [place]
    files = [f for f in files if f.name not in ("dataset_info.json", "state.json")]
    try:
        if place.is_file() or (place.is_dir() and files):
            return _read_files(files, key)
        if place.is_dir() or path.startswith((".", "/", "~")) or place.suffix in FORMATS:
            raise UserError(f"{path!r} holds no rows", where=key, hint=f"files end with {', '.join(FORMATS)}")
        with without_bars():
            loaded = datasets.load_dataset(path, config)
        return {str(name): Part(rows, (), str(name)) for name, rows in loaded.items()}
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


def _read_files(files: Sequence[Path], key: str) -> dict[str, Part]:
    import datasets

    kinds = {FORMATS.get(f.suffix) for f in files}
    if len(kinds) > 1 or None in kinds:
        raise UserError(
            f"cannot tell which of {', '.join(f.name for f in files[:4])} to read", where=key, hint="name one file"
        )
    by_split: dict[str, list[tuple[str, Any]]] = {}
    for file in files:
        stem = file.stem.partition("-")[0]
        name = stem if stem in SPLITS else "train" if len(files) == 1 else stem
        by_split.setdefault(name, []).append((file.name, _rows(file)))
    return {
        name: Part(
            datasets.concatenate_datasets([rows for _, rows in read]), tuple((f, len(rows)) for f, rows in read), name
        )
        for name, read in by_split.items()
    }


def _rows(file: Path) -> Any:
    """The rows of one file, values of CSV as they are written: a leading zero is part of an answer."""
    import datasets

    if FORMATS[file.suffix] == "parquet":
        import pyarrow.parquet

        return datasets.Dataset(pyarrow.parquet.read_table(file))
    text = file.read_text(encoding="utf-8-sig")  # spreadsheets mark the beginning of what they write
    if FORMATS[file.suffix] == "csv":
        reader = csv.DictReader(io.StringIO(text), delimiter="\t" if file.suffix == ".tsv" else ",")
        return datasets.Dataset.from_list(list(reader))
    rows = json.loads(text) if file.suffix == ".json" else [json.loads(line) for line in text.splitlines() if line]
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError(f"{file.name} is no list of objects")
    return datasets.Dataset.from_list(rows)
