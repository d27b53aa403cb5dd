"""Any table of questions and answers as a task: Parquet, CSV or JSON files, folders of them, or a dataset's name."""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate, chain
from typing import Any, ClassVar, Literal

from ..errors import UserError, did_you_mean
from .alternatives import Leads, alternatives
from .example import EXTRA, SPLITS, WORD, Example, Span, Task, word_spans
from .files import Wanted
from .repeats import alike, check_alike, composed, keep
from .sources import Part, check_columns, homes_of, read_parts
from .untaught import untaught
from .values import are_whole, more, spelled, texts, words

NESTED = ("positions", "intermediates", "features", "group")  # what exported tasks have beside question and answer
EXPORTED = frozenset((*NESTED, "index", "label", "noisy", "phantom"))  # by which an exported task is told


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
        intermediates: columns of intermediate results; ``answer`` is taken.
        positions: columns whose text is looked up in the prompt (its last occurrence, as words of its own where it
            stands as such) and names those tokens; ``last``
            and ``answer_1``, ``answer_2`` and so on are taken.
        features: columns of surface classes, for structured noise and heuristics of units.
        group: column of the cluster to which a row belongs; every row is its own when empty.
        noisy: column of labels as they were given, right or wrong, for noise of the kind ``given``; a row without one
            keeps its answer.
        facts: a file or folder of rows that are trained on and always clean; relative to the task file.
        records: key of the list of rows in a JSON file that holds several; a dot leads further in.
        duplicates: what becomes of a question that stands several times: ``refuse`` it, count its ``first`` row
            whatever the others answer, or, with ``agreeing``, its first row where all answer the same, and none of its
            rows where they do not.
        pool: draw all splits from all rows, though the names of files or splits say which are for training and which
            for tests.
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
    records: str = field(default="", metadata={"unsaid": True})
    duplicates: Literal["refuse", "first", "agreeing"] = field(default="refuse", metadata={"unsaid": True})
    pool: bool = field(default=False, metadata={"unsaid": True})

    def named(self) -> list[tuple[str, str]]:
        """Keys that name a column, with the column."""
        single = [(key, str(getattr(self, key))) for key in ("prompt", "answer", "group", "noisy")]
        several = [(key, column) for key in ("positions", "intermediates", "features") for column in getattr(self, key)]
        return [(key, column.strip()) for key, column in (*single, *several) if column]

    def wanted(self) -> Wanted:
        """What is looked for in a file."""
        used = frozenset((*NESTED, *(column for _, column in self.named())))
        return Wanted((self.prompt.strip(), self.answer.strip()), used, self.records)


class Table(Task):
    """Rows of a dataset. Nothing can be asked of it that its columns do not say: no answer to a changed question."""

    name = "dataset"
    version = 4
    description = "Questions from Parquet, CSV or JSON files, or from any dataset on the hub."
    Parameters: ClassVar[type] = TableParameters

    def __init__(self, parameters: TableParameters, seed: int) -> None:
        super().__init__(parameters, seed)
        self.parts = self._read()
        self.homes = None if parameters.pool else homes_of(self.parts, parameters.path)
        self._columns: dict[str, list[str]] = {}
        self.starts = dict(zip(self.parts, accumulate(map(len, self.parts.values()), initial=0), strict=False))
        self._begins, self._in_order = list(self.starts.values()), list(self.parts.values())
        files = [rows for part in self._in_order for rows in part.files]
        self._nested = {*NESTED} if all(EXPORTED.issubset(rows.names) for rows in files) else set[str]()
        self._bare = not self._nested and len(parameters.named()) == 2  # nothing but questions and answers
        self.questions = self._texts("prompt", parameters.prompt, missing="question")
        self.solutions = self._texts("answer", parameters.answer, missing="answer")
        self.given = self._texts("noisy label", parameters.noisy) if parameters.noisy else None
        self.kept = self._keep()
        check_alike(self.solutions, self.given, self.kept, self._row_place)

    def _read(self) -> dict[str, Part]:
        p = self.parameters
        parts = read_parts(p.path, p.config, p.wanted(), "parameters.path")
        if p.split and p.split not in parts:
            hint = did_you_mean(p.split, parts)
            raise UserError(f"{p.path} has no split {p.split!r}", where="parameters.split", hint=hint)
        if p.split:
            parts = {p.split: Part(p.split, parts[p.split].files)}
        for part in parts.values():
            check_columns(part, p.named(), "parameters.path")
        return parts

    def _texts(self, what: str, column: str, *, missing: str = "") -> list[str]:
        """A column of all parts as text, by row; what surrounds it is part of a question only.

        Args:
            missing: what a row lacks that has nothing there, where none may.
        """
        column = column.strip()
        values = [value for part in self.parts.values() for value in part.column(column)]
        found = texts(values, what, self._row_place, "parameters.path", whole=self._whole(column))
        if missing and "" in found:
            others = more(found.count("") - 1, "has none", "have none")
            raise UserError(f"{self._row_place(found.index(''))} has no {missing}{others}", where="parameters.path")
        return found if what == "prompt" else [text.strip() for text in found]

    def _column(self, key: str, column: str) -> list[str]:
        if column not in self._columns:
            self._columns[column] = self._texts(f"value of {key}, {column},", column, missing=f"{column} ({key})")
        return self._columns[column]

    def _keep(self) -> Sequence[int]:
        """The rows that count, in order: all, but for questions that stand several times."""
        total = len(self.questions)
        drawn = [name for names in (self.homes or {}).values() for name in names] or list(self.parts)
        order = [i for name in dict.fromkeys(drawn) for i in self._rows_of(name)]
        lost = keep(order, self.questions, self.solutions, self.parameters.duplicates, self._row_place)
        return [i for i in range(total) if i not in lost] if lost else range(total)

    def _rows_of(self, part: str) -> range:
        return range(self.starts[part], self.starts[part] + len(self.parts[part]))

    def __len__(self) -> int:
        return len(self.kept)

    def _row(self, row: int) -> tuple[Part, int]:
        """The part that holds a row, and its number there."""
        at = bisect_right(self._begins, row) - 1
        return self._in_order[at], row - self._begins[at]

    def _row_place(self, row: int) -> str:
        part, number = self._row(row)
        return part.place(number)

    def place(self, index: int) -> str:
        return self._row_place(self.kept[index])

    def remarks(self) -> Sequence[str]:
        p = self.parameters
        said = []
        if self.homes and set(self.homes) - {"ood"} != {n for names in self.homes.values() for n in names} - {"ood"}:
            each = (f"{name} from {' and '.join(names)}" for name, names in self.homes.items())
            said.append(f"the splits are drawn apart: {', '.join(each)} (pool: true draws from all)")
        for key, column in p.named():
            values = [value for part in self.parts.values() for value in part.column(column)]
            if any(type(v) is float for v in values):
                how = "whole, and written as 6 and not as 6.0" if self._whole(column) else "written as decimals"
                said.append(f"the numbers of {column!r} ({key}) are {how}")
            if any(type(v) is bool for v in values):
                said.append(f"the values of {column!r} ({key}) are written as true and false")
        if len(self.kept) < len(self.questions):
            rows = len(self.questions) - len(self.kept)
            said.append(f"{rows} of {len(self.questions)} rows do not count: their questions stand several times")
        return said

    def untaught(self, rows: Mapping[str, Sequence[int]]) -> Sequence[str]:
        texts = {
            what: {name: [column[self.kept[i]] for i in part] for name, part in rows.items()}
            for what, column in (("question", self.questions), ("answer", self.solutions))
        }
        facts = {"question": [f.prompt for f in self.facts()], "answer": [f.answer for f in self.facts()]}
        return untaught(texts, facts, lambda split, number: self.place(rows[split][number]))

    def example(self, index: int) -> Example:
        p = self.parameters
        row = self.kept[index]
        part, number = self._row(row)
        prompt = self.questions[row]
        if self._bare:
            return Example(prompt, self.solutions[row], group=f"{part.name} {number}")
        spans = self._nested_spans(part, number)
        for column in p.positions:
            spans[column] = self._span(prompt, column.strip(), row)
        if p.group:
            own = self._column("group", p.group)[row]
        else:
            own = _plain(part.column("group")[number]) if "group" in self._nested else ""
        return Example(
            prompt=prompt,
            answer=self.solutions[row],
            positions=spans,
            intermediates=self._named(part, number, row, "intermediates", p.intermediates),
            features=self._named(part, number, row, "features", p.features),
            group=own if p.group else own or f"{part.name} {number}",
            given=(self.given[row] or None) if self.given is not None else None,
        )

    def question(self, index: int) -> tuple[str, Mapping[str, Span]]:
        return (self.questions[self.kept[index]], {}) if self._bare else super().question(index)

    def _nested_spans(self, part: Part, number: int) -> dict[str, Span]:
        """Positions of a column that holds a mapping, as exported tasks have."""
        if "positions" not in self._nested or "positions" in self.parameters.positions:
            return {}
        nested = part.column("positions")[number]
        spans: dict[str, Span] = {}
        for position, span in nested.items() if isinstance(nested, Mapping) else ():
            if span is not None:
                try:
                    start, stop = map(int, span)
                except (TypeError, ValueError):
                    raise UserError(
                        f"the position {position!r} of {part.place(number)} is no pair of numbers but {span!r}",
                        where="parameters.path",
                    ) from None
                spans[position] = start, stop
        return spans

    def _span(self, prompt: str, column: str, row: int) -> Span:
        """The last place in the prompt where a column's text stands, in any Unicode form: as words, else within one."""
        text = self._column("positions", column)[row]
        for form in alike(text):
            spans = word_spans(form, prompt)
            if spans:
                return spans[-1]
        for form in alike(text):
            start = prompt.rfind(form) if form else -1
            if start >= 0:
                return start, start + len(form)
        raise UserError(
            f"the prompt of {self._row_place(row)} does not hold its {column}, {text!r}", where="parameters.positions"
        )

    def _named(self, part: Part, number: int, row: int, key: str, columns: Sequence[str]) -> dict[str, str]:
        """Values of the named columns, or of a column that holds a mapping, as exported tasks have."""
        if columns:
            return {name: self._column(key, name.strip())[row] for name in columns}
        nested = part.column(key)[number] if key in self._nested else None
        if not isinstance(nested, Mapping):
            return {}
        first = self._in_order[0].column(key)[0]  # a task's first intermediate result is that of its first row
        order = list(first) if isinstance(first, Mapping) else []
        names = sorted(nested, key=lambda name: order.index(name) if name in order else len(order))
        return {name: _plain(nested[name]) for name in names if nested[name] is not None}

    def split(self, sizes: Mapping[str, int | float], seed: int) -> dict[str, list[int]]:
        """From the parts that are for each split, else from all rows; drawn by the data seed either way."""
        if self.homes is None:
            return super().split(sizes, seed)
        asked: dict[tuple[str, ...], list[str]] = {}
        for name in (*SPLITS, *(name for name in EXTRA if sizes.get(name))):
            if name not in self.homes:
                self.set_apart(1, seed)
            asked.setdefault(self.homes[name], []).append(name)
        out: dict[str, list[int]] = {}
        for home, names in asked.items():
            rows = [index for part in home for index in self._indices(part)]
            counts = [s if isinstance(s := sizes[name], int) else int(s * len(self)) for name in names]
            if min(counts) < 1 or sum(counts) > len(rows):
                own = f"the split {names[0]!r} is" if len(names) == 1 else f"{' and '.join(names)} are"
                own = own[:-2] + "has" if home == (*names,) else f"{own} drawn from {' and '.join(home)}, which has"
                short = next((name for name, n in zip(names, counts, strict=True) if n < 1), names[-1])
                wanted = " and ".join(map(str, counts))
                raise UserError(f"{own} {len(rows)} rows, not {wanted}", where=f"splits.{short}")
            drawn = random.Random(f"split-{seed}-{'-'.join(names)}").sample(range(len(rows)), sum(counts))
            for name, count in zip(names, counts, strict=True):  # files may be sorted
                out[name], drawn = [rows[i] for i in drawn[:count]], drawn[count:]
        return {name: out[name] for name in (*SPLITS, *EXTRA) if name in out}

    def _indices(self, part: str) -> Sequence[int]:
        """Pool indices of the rows of a part that count."""
        rows = self._rows_of(part)
        if isinstance(self.kept, range):
            return rows
        return [index for index, row in enumerate(self.kept) if row in rows]

    def set_apart(self, count: int, seed: int) -> Sequence[int]:
        """The rows of the table's own split of that name."""
        if "ood" not in self.parts:
            return super().set_apart(count, seed)
        rows = self._indices("ood")
        if count > len(rows):
            raise UserError(f"the split 'ood' has {len(rows)} rows, not {count}", where="splits.ood")
        return rows

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
        found: list[tuple[Example, str]] = []
        columns = (("prompt", p.prompt.strip(), "question"), ("answer", p.answer.strip(), "answer"))
        answers = {composed(text): text for text in self._answers}
        known: dict[str, tuple[str, str]] = {}
        for part in self._fact_parts:
            check_columns(part, [(key, column) for key, column, _ in columns], "parameters.facts")
            both = [
                texts(part.column(column), what, part.place, "parameters.facts", whole=self._whole(column))
                for _, column, what in columns
            ]
            for number, (prompt, answer, group) in enumerate(zip(*both, part.column("group"), strict=True)):
                if not prompt or not answer:
                    lacks = "answer" if prompt else "question"
                    raise UserError(f"{part.place(number)} has no {lacks}", where="parameters.facts")
                place, answer = part.place(number), answer.strip()
                form = answers.setdefault(composed(answer), answer)
                if form != answer:
                    what = f"the answer of {place}, {answer!r}, looks like {form!r} and is another text"
                    raise UserError(what, where="parameters.facts", hint="write them alike")
                said, where = known.setdefault(composed(prompt), (answer, place))
                if said != answer:
                    what = f"{where} and {place} state the same, {prompt!r}, but answer {said!r} and {answer!r}"
                    raise UserError(what, where="parameters.facts", hint="facts are true: keep one of them")
                cluster = (_plain(group) if self._nested else "") or f"fact {len(found)}"
                found.append((Example(prompt, answer, group=cluster), place))
        return found

    @cached_property
    def _fact_parts(self) -> Sequence[Part]:
        p = self.parameters
        return tuple(read_parts(p.facts, None, p.wanted(), "parameters.facts").values()) if p.facts else ()

    def _whole(self, column: str) -> bool:
        """Whether all numbers are, of a column and of those that it is compared with: answers, given ones, facts'."""
        p = self.parameters
        answers = [name.strip() for name in (p.answer, p.noisy) if name]
        columns = answers if column in answers else [column]
        parts = (*self.parts.values(), *self._fact_parts)
        return are_whole(chain.from_iterable(part.column(name) for part in parts for name in columns))

    def words(self) -> Iterable[str]:
        columns = [self.questions, self.solutions, *([] if self.given is None else [self.given])]
        rows = zip(*([column[row] for row in self.kept] for column in columns), strict=True)
        found = dict.fromkeys(WORD.findall(" ".join(chain.from_iterable(rows))))
        for fact in self.facts():
            found.update(dict.fromkeys(WORD.findall(fact.text)))
        return found

    @cached_property
    def _answers(self) -> list[str]:
        return sorted({text for row in self.kept for text in (self.solutions[row], *self._given(row))} - {""})

    def _given(self, row: int) -> Sequence[str]:
        return () if self.given is None else (self.given[row],)

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
            found[f"same_{name}"] = [i for i in rows if self.questions[self.kept[i]] != example.prompt]
        return found

    @cached_property
    def _alternatives(self) -> list[tuple[str, tuple[str, ...], Leads]]:
        return alternatives([self.example(i) for i in range(len(self))])

    def foils(self, example: Example) -> Sequence[str]:
        """Answers of rows that differ in an intermediate result alone, as far as the table has such rows."""
        found: dict[str, None] = {}
        for name, chosen, table in self._alternatives:
            if name in example.intermediates and all(f in example.features for f in chosen):
                answers = table.get(tuple(example.features[f] for f in chosen), {})
                found.update((a, None) for value, a in answers.items() if value != example.intermediates[name])
        found.pop(example.answer, None)
        return list(found)


def _plain(value: Any) -> str:
    """A value that nobody named, as text; empty where it is none."""
    try:
        return words(spelled(value, whole=False))
    except ValueError:
        return ""
