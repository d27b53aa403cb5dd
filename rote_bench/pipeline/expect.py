"""What a cell will take, told from a few timed steps before it is trained."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, Any

import torch

from ..evaluation import matches
from ..models.outside import copied
from ..progress import duration
from ..report.provenance import peak_memory_bytes
from ..terminal import near
from ..training.candidates import IN_MEMORY
from ..training.curve import Levels
from ..training.loop import train
from ..training.schedule import evaluation_steps, last_step, settled_at
from ..training.state import standing
from .diagnose import at_once, costs_of

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from ..encoding import Encoded
    from ..spec.model import Recipe
    from ..subject import Subject, View
    from .cell import Cell

STEPS, SHARE = 10, 0.01  # of steps that are timed: so many at the most, and this part of a training
BUDGET = 5.0  # seconds after which no more are timed, if there are two
DRAWING = 0.4  # seconds that a figure and the files of a diagnostic take
WORKING = 120 << 20  # bytes that a diagnostic works on, apart from models


@dataclass(frozen=True)
class Expected:
    """What a cell will take from here on.

    Attributes:
        training: seconds, evaluations along the way among them.
        at_most: whether training may end before, by an event that only training tells.
        diagnoses: seconds, as many at a time as will be run.
        rest: seconds of the evaluation at the end and of drawing.
        memory: bytes that the process, and children beside it, hold at the most.
        resumed: the step from which training goes on, 0 at its start.
    """

    training: float
    at_most: bool
    diagnoses: float
    rest: float
    memory: int
    resumed: int = 0

    @property
    def total(self) -> float:
        """All seconds."""
        return self.training + self.diagnoses + self.rest

    def plain(self) -> dict[str, float | bool]:
        """As JSON holds it."""
        return {
            "seconds": round(self.total, 3),
            "training": round(self.training, 3),
            "diagnostics": round(self.diagnoses, 3),
            "at_most": self.at_most,
            "memory_bytes": self.memory,
        }

    def __str__(self) -> str:
        most = " at most" if self.at_most else ""
        left = f" from step {self.resumed} on" if self.resumed else ""
        trained = f"training{left} {duration(self.training)}{most}, " if self.training else ""
        return (
            f"about {duration(self.total)} ({trained}diagnoses {duration(self.diagnoses)}),"
            f" {self.memory / 2**30:.1f} GiB of memory"
        )


def table(cells: Mapping[Path, Expected | None]) -> str:
    """What each cell will take, below its folder, and all of them one after the other."""
    lines = [entry(near(folder), each) for folder, each in cells.items()]
    left = [each for each in cells.values() if each is not None]
    if len(cells) > 1:
        memory = max((each.memory for each in left), default=0) / 2**30
        lines.append(f"all: about {duration(sum(each.total for each in left))}, {memory:.1f} GiB of memory")
    return "\n".join(lines)


def entry(place: Path | str, expected: Expected | None) -> str:
    """A cell and, in a second line, what it will take."""
    return f"{place}\n  {'done already' if expected is None else expected}"


def expect(
    cell: Cell,
    subject: Subject,
    lesson: tuple[Encoded, Tensor] | None,
    *,
    precision: str = "float32",
    settle: int | None = None,
    identity: str = "",
) -> Expected:
    """Time up to ten steps of training, fewer of a large model, on a copy of it.

    Args:
        lesson: rows to train on and their indices, as ``train`` takes them; None without training.
        settle: as ``train`` takes it.
        identity: of a state of training to go on from.
    """
    recipe, anatomy = cell.spec.training, subject.anatomy()
    step, trained, done, at_most = 0.0, 0, 0, False
    evaluations = 0
    if lesson is not None:
        with torch.random.fork_rng():
            step = _step(copied(anatomy.model), *lesson, recipe, seed=cell.spec.seeds.order, precision=precision)
        done, curve = standing(cell.folder / "training-state.pt", identity)
        settled = settled_at(curve, recipe.schedule, settle)
        last = last_step(recipe, settled)
        trained, at_most = max(0, last - done), settled is None or recipe.stop_at is not None
        evaluations = sum(done < at < last for at in evaluation_steps(recipe.evaluate_every, recipe.max_steps)) + 1
    each = _forward(subject)
    views = [subject.validation, subject.noisy, subject.clean, subject.selection]
    once = sum(min(recipe.evaluation_examples, len(view)) for view in views)
    once += sum(min(recipe.evaluation_examples, len(view)) for view in views[:2] if not _shared(view))
    costs = [each * cost for cost in costs_of(cell, subject)]
    count = at_once(cell, subject)
    weights = sum(p.numel() * p.element_size() for p in anatomy.model.parameters())
    copies = IN_MEMORY if trained and len(subject.noisy) else 0  # beside the one that was timed
    return Expected(
        training=trained * step + evaluations * once * each,
        at_most=at_most,
        diagnoses=max([sum(costs) / count, *costs]),
        rest=_asked(subject) * each + DRAWING * len(costs),
        memory=peak_memory_bytes() + copies * weights + count * (WORKING + 2 * weights),
        resumed=done,
    )


def _step(model: Any, data: Encoded, rows: Tensor, recipe: Recipe, *, seed: int, precision: str) -> float:
    """Seconds of a training step; the first one, which is slower, does not count."""
    times, most = [time.monotonic()], min(STEPS, max(2, round(SHARE * recipe.max_steps)))

    def enough() -> bool:
        return len(times) > most or (len(times) > 2 and times[-1] - times[0] > BUDGET)

    def tick(*unused: object) -> None:
        if data.input_ids.is_cuda:
            torch.cuda.synchronize(data.input_ids.device)
        times.append(time.monotonic())

    try:
        train(
            model,
            data,
            rows,
            recipe,
            Levels,
            seed=seed,
            precision=precision,
            progress=tick,
            record=lambda point: None,
            stop_requested=enough,
        )
    except KeyboardInterrupt:
        if not enough():  # it was no request of ours
            raise
    taken = [after - before for before, after in pairwise(times)]
    return median(taken[1:] or taken)


def _forward(subject: Subject) -> float:
    """Seconds that an example takes in a batch without gradients."""
    view = max((subject.validation, subject.clean), key=len)
    batch = view.true.rows(slice(subject.batch_size))
    model = subject.anatomy().model
    taken = []
    for _ in range(2):
        before = time.monotonic()
        matches(model, [batch], batch_size=subject.batch_size)
        taken.append(time.monotonic() - before)
    return min(taken) / max(1, len(batch))


def _shared(view: View) -> bool:
    """Whether one pass answers for both encodings."""
    return torch.equal(view.true.input_ids, view.taught.input_ids)


def _asked(subject: Subject) -> int:
    """Examples sent through the model by the evaluation at the end, once for each token of an answer."""
    data = subject.data
    n = len(data.validation) + len(data.ood) + len(data.train.noisy) + len(subject.clean)
    view = subject.validation
    answers = len(view.places) - len(view.true.positions) + 1
    return n * answers
