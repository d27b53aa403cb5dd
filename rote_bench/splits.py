"""The data of one cell: splits of a task, labelled, in the form that training and diagnostics share."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import UserError
from .machine import memory_at_hand
from .noise import Labelled, NoiseKind, label_held_out, label_train
from .paths import exists, of_user
from .spec.options import build
from .tasks import hooks
from .tasks.example import EXTRA, SPLITS, Example, Span, Task, reserved, rows_of
from .tasks.repeats import composed

if TYPE_CHECKING:
    from .plugins import Registry
    from .spec.model import TaskSpec

Question = tuple[str, Mapping[str, Span]]
SPLIT_NAMES = (*SPLITS, *EXTRA, "facts")
HELD_OUT = (*SPLITS[1:], *EXTRA)
NOTHING = Labelled((), (), ())


@dataclass(frozen=True)
class Data:
    """All splits of one cell.

    Attributes:
        train: training questions, a share of them with a noisy label.
        selection: held-out questions on which snapshots, layers and recipes are chosen; labels are phantoms.
        validation: held-out questions that are reported; labels are phantoms.
        facts: auxiliary training examples, always clean.
        ood: held-out questions unlike those trained; none where the task sets none apart.
    """

    train: Labelled
    selection: Labelled
    validation: Labelled
    facts: Labelled
    ood: Labelled = NOTHING

    def __iter__(self) -> Iterator[tuple[str, Labelled]]:
        parts = ((name, getattr(self, name)) for name in SPLIT_NAMES)
        return ((name, part) for name, part in parts if len(part) or name not in EXTRA)

    def counts(self) -> dict[str, int]:
        return {name: len(part) for name, part in self}

    def fingerprint(self) -> str:
        """SHA-256 over every prompt, answer and label in order."""
        digest = hashlib.sha256()
        for name, part in self:
            for example, label in zip(part.examples, part.labels, strict=True):
                digest.update(f"{name}\t{example.prompt}\t{example.answer}\t{label}\n".encode())
        return digest.hexdigest()


def make_task(spec: TaskSpec, registry: Registry) -> Task:
    """The generator that a spec names; paths among its parameters are relative to the task file.

    Raises:
        UserError: when the generator cannot be made, for example because a file is missing.
    """
    cls = registry.table("tasks")[spec.generator]
    parameters = build(cls.Parameters, spec.parameters)
    folder = Path(spec.source).parent if spec.source else Path()
    paths = {f.name: getattr(parameters, f.name) for f in fields(parameters) if f.metadata.get("path")}
    beside = {name: folder / of_user(value) for name, value in paths.items() if value}
    found = {name: str(path) for name, path in beside.items() if exists(path)}
    task: Task = cls(replace(parameters, **found), spec.seeds.data)
    return task


def make_noise(spec: TaskSpec, registry: Registry) -> NoiseKind:
    """The kind of noise that a spec names."""
    cls = registry.table("noise")[spec.noise.kind]
    kind: NoiseKind = cls(build(cls.Options, spec.noise.options))
    return kind


def rates_of(
    spec: TaskSpec, registry: Registry, asked: Sequence[float] = (), *, limit: int | None = None
) -> tuple[float, ...]:
    """The noise rates of the cells of a spec with these seeds: those asked for, else the file's, or the data's own.

    Raises:
        UserError: when the data has a rate of its own and another is asked for, or none of its labels is wrong.
    """
    kind = make_noise(spec, registry)
    if kind.rated or (asked and not any(asked)):
        return tuple(asked) or spec.noise.rates
    if asked:
        raise UserError(
            f"labels of the kind {kind.name} have the rate that the data has",
            where="noise.rates",
            hint="ask for no rate, or for 0 alone, the true labels",
        )
    task = make_task(spec, registry)
    check_memory(task, spec)
    train = [task.example(i) for i in chosen(task, spec, limit)["train"]]
    wrong = len(kind.mark(task, train, 1.0, random.Random(0)))
    if not wrong:
        raise UserError(f"none of {len(train)} given training labels is wrong", where="parameters.noisy")
    return (wrong / len(train),)


def chosen(task: Task, spec: TaskSpec, limit: int | None) -> dict[str, list[int]]:
    """Split -> pool indices of its examples, cut to a limit but for the training questions that the task needs.

    Raises:
        UserError: when the task, a plugin's, draws others than it was asked for.
    """
    rows = task.split(spec.splits, spec.seeds.data)
    for name, size in spec.splits.items():
        found = len(rows.get(name, ()))
        if found != size and (isinstance(size, int) or name not in rows):
            what = f"{type(task).__name__}.split gives {found} of {size} examples of {name}"
            raise UserError(what, where=f"splits.{name}", hint="mend the task")
    if limit is None:
        return rows
    return {name: part[: max(limit, hooks.least_train(task) if name == "train" else 0)] for name, part in rows.items()}


def make_data(task: Task, spec: TaskSpec, kind: NoiseKind, rate: float, *, limit: int | None = None) -> Data:
    """Draw the splits with the data seed and the labels with the noise seed.

    Args:
        limit: keep at most this many examples of each split, for a quick look; of ``train`` no fewer than it takes to
            learn the task.

    Raises:
        UserError: when the splits do not fit the task, a question stands twice, a wrong label cannot be drawn, or no
            training example keeps its true one.
    """
    indices = chosen(task, spec, limit)
    examples = {name: [task.example(i) for i in rows] for name, rows in indices.items()}
    facts = list(task.facts())
    check_questions(task, indices, {n: ((e.prompt, e.positions) for e in part) for n, part in examples.items()}, facts)
    check_examples(task, indices, examples)
    seed = spec.seeds.noise
    train = label_train(task, kind, examples["train"], indices["train"], rate, seed)
    check_clean(train, rate)
    held_out = {
        name: label_held_out(task, kind, examples[name], indices[name], rate, seed, examples["train"], name)
        for name in HELD_OUT
        if name in indices
    }
    taught = Labelled(tuple(facts), tuple(f.answer for f in facts), tuple(range(len(facts))))
    return Data(train, facts=taught, **held_out)


def check_questions(
    task: Task, rows: Mapping[str, Sequence[int]], questions: Mapping[str, Iterable[Question]], facts: Iterable[Example]
) -> None:
    """Whether every question stands once, in one split and not among the facts, and all name the same free positions.

    Args:
        rows: split -> pool index of each of its examples.
        questions: split -> what ``Task.question`` gives for each of them.

    Raises:
        UserError: naming the two places: a question that stood twice could have a wrong label and a true one, or be
            both taught and held out.
    """
    seen: dict[str, int] = {}
    positions: Mapping[str, Span] | None = None
    for split, part in questions.items():
        for index, (prompt, named) in zip(rows[split], part, strict=True):
            if prompt in seen:
                raise UserError(
                    f"{task.place(seen[prompt])} and {task.place(index)} ask the same: {prompt!r}",
                    where="parameters",
                    hint="keep one of them: a question may stand once",
                )
            seen[prompt] = index
            if positions is None:
                positions = named
                _check_free(task, "positions", named)
            if named or positions:
                _check_positions(prompt, named, positions, task.place(index))
    facts = tuple(facts)
    forms = {composed(prompt): index for prompt, index in seen.items()} if facts else {}
    hooks.check_facts(task, facts)
    for number, fact in enumerate(facts):
        if composed(fact.prompt) in forms:
            index = forms[composed(fact.prompt)]
            split = next(name for name, part in rows.items() if index in part)
            raise UserError(
                f"{task.fact_place(number)} is also a question of the {split} split, {task.place(index)}:"
                f" {fact.prompt!r}",
                where="parameters.facts",
                hint="take it out of the facts: they are always taught, with the true answer",
            )


def _check_positions(prompt: str, named: Mapping[str, Span], like: Mapping[str, Span], place: str) -> None:
    if named.keys() != like.keys():
        raise _unlike("positions", named, like, place)
    for name, (start, stop) in named.items():
        if not 0 <= start < stop <= len(prompt):
            raise UserError(
                f"the position {name!r} of {place}, {start} to {stop}, is no part of its question",
                where="parameters",
            )


SINGULAR = {"positions": "position", "intermediates": "intermediate result", "features": "feature"}


def _unlike(what: str, named: Mapping[str, object], like: Mapping[str, object], place: str) -> UserError:
    name = min(named.keys() ^ like.keys())
    return UserError(
        f"{place} {'has' if name in named else 'lacks'} the {SINGULAR[what]} {name!r}, unlike the questions before it",
        where="parameters",
        hint=f"all questions name the same {SINGULAR[what]}s",
    )


def _check_free(task: Task, what: str, names: Iterable[str]) -> None:
    for name in names:
        means = reserved(what, name)
        if means is not None:
            raise UserError(
                f"no {SINGULAR[what]} can be called {name!r}: that is {means}",
                where=f"parameters.{what}" if hasattr(task.parameters, what) else "parameters",
                hint="give it another name",
            )


def check_examples(task: Task, rows: Mapping[str, Sequence[int]], examples: Mapping[str, Sequence[Example]]) -> None:
    """Whether all examples name the same intermediate results and features, by names that are free.

    Args:
        rows: split -> pool index of each of its examples, in the order of ``examples``.

    Raises:
        UserError: naming the place of one that does not.
    """
    first: Example | None = None
    for split, part in examples.items():
        for index, example in zip(rows[split], part, strict=True):
            if first is None:
                first = example
                _check_free(task, "intermediates", example.intermediates)
                hooks.check_ordered(task, example)
            if example.intermediates.keys() != first.intermediates.keys():
                raise _unlike("intermediates", example.intermediates, first.intermediates, task.place(index))
            if example.features.keys() != first.features.keys():
                raise _unlike("features", example.features, first.features, task.place(index))


def check_clean(train: Labelled, rate: float) -> None:
    """Whether the noise leaves something that is true.

    Raises:
        UserError: when every training label is wrong.
    """
    if len(train.noisy) == len(train):
        raise UserError(
            f"a rate of {rate:g} leaves none of {len(train)} training examples its true label",
            where="noise.rates",
            hint="lower the rate or enlarge splits.train; given labels must be written as the answers are",
        )


BYTES_PER_EXAMPLE = 4000


def check_memory(task: Task, spec: TaskSpec) -> None:
    """Refuse splits whose examples would not fit into memory, before they are made.

    Raises:
        UserError: saying how many would fit.
    """
    free = memory_at_hand()
    sizes = (rows_of(size, len(task)) for size in spec.splits.values())
    wanted = sum(sizes)
    if free is not None and wanted * BYTES_PER_EXAMPLE > 0.8 * free:
        fit = int(0.8 * free) // BYTES_PER_EXAMPLE
        raise UserError(
            f"{wanted:,} examples do not fit in memory; about {fit:,} would",
            where=f"{spec.source or 'task'}: splits",
            hint="lower the splits",
        )
