"""The training of a cell: what is learned, the record of it, and the folder that both leave."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from ..report import write
from ..report.build import own_files
from .cell import Cell
from .interrupts import interruptible

if TYPE_CHECKING:
    from torch import Tensor

    from ..encoding import Encoded
    from ..models.load import LoadedModel
    from ..spec.model import Recipe
    from ..subject import Subject
    from ..training.course import Trained
    from ..training.curve import Evaluation

STATE = "training-state.pt"  # in a cell's folder: from which an interrupted training goes on


def learn(
    cell: Cell,
    subject: Subject,
    loaded: LoadedModel,
    precision: str,
    identity_hash: str,
    *,
    settle: int | None = None,
) -> Trained:
    """Train on noisy labels and facts, with the four curves.

    Args:
        settle: the step after which the learning rate falls; None waits for the recipe's event.
    """
    from ..measurement import curves
    from ..models.compiling import compiled
    from ..training.loop import train
    from ..training.trial import try_compiled
    from .expect import expect

    recipe = cell.spec.training
    encoded, rows = lesson_rows(subject, recipe)
    call = None
    if cell.settings.compile:
        cell.progress.stage("compiling")
        call = compiled(loaded.model)
        size = min(recipe.batch_size, len(rows))
        try_compiled(loaded.model, call, encoded, size, precision, processes=cell.processes)
    if cell.processes.count == 1 and not cell.progress.quiet:
        found = expect(cell, subject, (encoded, rows), precision=precision, settle=settle, identity=identity_hash)
        cell.progress.expect(found.total, str(found))
    cell.progress.stage("training")
    with interruptible() as stop_requested, recording(cell) as record:
        trained = train(
            loaded.model,
            encoded,
            rows,
            recipe,
            curves(subject, loaded.model, recipe.evaluation_examples),
            seed=cell.spec.seeds.order,
            precision=precision,
            settle=settle,
            compiled=call,
            progress=cell.progress.step,
            record=record,
            checkpoint=cell.folder / STATE,
            identity=identity_hash,
            stop_requested=stop_requested,
            processes=cell.processes,
            warn=cell.progress.warn,
        )
    account(cell, trained)
    return trained


def learn_together(
    members: Sequence[tuple[Cell, Subject, LoadedModel, str, int | None]], precision: str
) -> list[Trained | FloatingPointError]:
    """Train several cells as one; see ``training.stacked``.

    Args:
        members: cell, subject, model, hash of what decides the training, and the step after which the rate falls.
    """
    from ..measurement import Curves
    from ..training.stacked import Pupil, train_stacked

    with interruptible() as stop_requested, ExitStack() as stack:
        pupils = []
        for cell, subject, loaded, identity, settle in members:
            cell.progress.stage("training")
            encoded, rows = lesson_rows(subject, cell.spec.training)
            pupils.append(
                Pupil(
                    loaded.model,
                    encoded,
                    rows,
                    cell.spec.training,
                    Curves(subject, cell.spec.training.evaluation_examples),
                    cell.spec.seeds.order,
                    settle,
                    progress=cell.progress.step,
                    record=stack.enter_context(recording(cell)),
                    checkpoint=cell.folder / STATE,
                    identity=identity,
                )
            )
        first, subject, *_ = members[0]
        outcomes = train_stacked(
            pupils,
            precision=precision,
            batch_size=subject.batch_size,
            stop_requested=stop_requested,
            warn=first.progress.warn,
        )
    for (cell, *_), trained in zip(members, outcomes, strict=True):
        if not isinstance(trained, FloatingPointError):
            account(cell, trained, share=1 / len(members))
    return outcomes


def lesson_rows(subject: Subject, recipe: Recipe) -> tuple[Encoded, Tensor]:
    """What is trained on: the encoded rows with the labels taught, then the facts; and the indices of a pass."""
    import torch

    from ..encoding import concatenate, encode

    data = subject.data
    encoded = encode(subject.tokenizer, data.train.examples, data.train.labels, named=False)
    rows = torch.arange(len(encoded))
    if len(data.facts):
        facts = encode(subject.tokenizer, data.facts.examples, named=False)
        encoded = concatenate([encoded, facts], subject.tokenizer.pad_token_id or 0)
        every_fact = torch.arange(len(rows), len(encoded))
        rows = torch.cat([rows, *[every_fact] * recipe.facts_repeat])
    return encoded.to(subject.device), rows


@contextmanager
def recording(cell: Cell) -> Iterator[Callable[[Evaluation], None]]:
    """A function that keeps each evaluation of the cell's training as it is made."""
    from ..training.tracking import following

    records: list[Mapping[str, float | None]] = []
    track = cell.settings.track if cell.processes.first else None
    with following(track, cell.folder, cell.settings.output_path) as follow:

        def record(point: Evaluation) -> None:
            if not cell.processes.first:
                return
            records.append(point.plain())
            follow(point)
            write.write_lines(cell.folder / "dynamics.jsonl", records)

        yield record


def account(cell: Cell, trained: Trained, *, share: float = 1.0) -> None:
    """Put the time of training on the cell's clock.

    Args:
        share: the cell's part of it.
    """
    cell.timings.seconds["training"] += share * (trained.seconds - trained.evaluation_seconds)
    cell.timings.seconds["evaluation"] += share * trained.evaluation_seconds
    cell.timings.earlier += share * trained.earlier_seconds
    cell.timings.cpu["training"] += share * (trained.cpu - trained.evaluation_cpu)
    cell.timings.cpu["evaluation"] += share * trained.evaluation_cpu
    cell.timings.earlier_cpu += share * trained.earlier_cpu


def clear(cell: Cell) -> None:
    """Make the cell's folder, without the files that an earlier run left: they are not those of the next report."""
    cell.folder.mkdir(parents=True, exist_ok=True)
    for path in (cell.folder / write.FILE, cell.folder / write.PAGE, *own_files(cell.folder)):
        path.unlink(missing_ok=True)
