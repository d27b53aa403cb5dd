"""Several models of one architecture trained as one: the same steps as ``loop``, on the weights of all side by side.

Each has its own examples, batches, labels, learning rate, curve, snapshots and end, as if it were trained by itself;
only the arithmetic is shared. A model that is done, or whose loss is no longer finite, leaves the others to go on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..evaluation import autocast
from ..machine import cpu_seconds
from ..models.stacking import Network, as_one, idle
from .course import Course, Trained
from .curve import Evaluation
from .lessons import Exam, Lessons, Questions, sit
from .loop import answer_loss, weights
from .optimizers import make_optimizer
from .replay import Replayed
from .side_by_side import SideBySide
from .state import SAVING_SHARE, SavedState

if TYPE_CHECKING:
    from ..encoding import Encoded
    from ..spec.model import Recipe


@dataclass
class Pupil:
    """One of the models that are trained as one; the fields are what ``loop.train`` takes."""

    model: Any
    data: Encoded
    rows: Tensor
    recipe: Recipe
    questions: Questions
    seed: int
    settle: int | None
    progress: Callable[[int, int, Evaluation | None], None]
    record: Callable[[Evaluation], None]
    checkpoint: Path | None = None
    identity: str = ""


def train_stacked(
    pupils: Sequence[Pupil],
    *,
    precision: str,
    batch_size: int = 512,
    checkpoint_seconds: float = 30.0,
    stop_requested: Callable[[], bool] = lambda: False,
    warn: Callable[[str], None] = lambda text: None,
) -> list[Trained | FloatingPointError]:
    """Train several models of one architecture as one.

    Args:
        pupils: with recipes that differ in learning rates and schedules only.
        batch_size: questions of each model that an evaluation asks at once, at most.
        checkpoint_seconds: as for ``train``, for the states of all together.
        stop_requested: asked before every step and after the last; when true all states are saved and
            ``KeyboardInterrupt`` raised.
        warn: told when a step could not be recorded on an accelerator, and as for ``train``.

    Returns:
        What became of each: FloatingPointError when its loss is no longer finite.

    Raises:
        KeyboardInterrupt: when a stop was requested.
        ValueError: when the recipes cannot be followed together.
    """
    if len({(p.recipe.batch_size, p.recipe.optimizer, p.recipe.clip) for p in pupils}) > 1:
        raise ValueError("recipes of models that are trained as one share batch size, optimizer and clipping")
    with as_one(pupils[0].model) as prime:
        return _Class(pupils, precision, batch_size, checkpoint_seconds, prime, warn).run(stop_requested)


def appetite(model: Any, data: Encoded, size: int, precision: str) -> int:
    """Bytes that a model takes in a stack on an accelerator, by a step on ``size`` rows that changes nothing.

    Beside what the step takes there are the weights once more, the gradients side by side, the states of the optimizer
    and the update.
    """
    device = next(model.parameters()).device
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    with autocast(device, precision):
        loss = answer_loss(model, data.rows(slice(size)).to(device))
    torch.autograd.backward(loss)
    peak = int(torch.cuda.max_memory_allocated(device)) - before
    model.zero_grad(set_to_none=True)
    own = sum(p.numel() * p.element_size() for p in model.parameters())
    return peak + 6 * int(own)


class _Class:
    """Models while they are trained as one; ``present`` holds the numbers of those that are not done."""

    def __init__(
        self,
        pupils: Sequence[Pupil],
        precision: str,
        batch_size: int,
        checkpoint_seconds: float,
        prime: Callable[[int, int], None],
        warn: Callable[[str], None],
    ) -> None:
        self.pupils, self.precision, self.batch_size = pupils, precision, batch_size
        self.prime, self.warn = prime, warn
        self.least, self.written, self.took = checkpoint_seconds, time.monotonic(), 0.0
        self.device = next(pupils[0].model.parameters()).device
        self.clip = pupils[0].recipe.clip
        self.optimizers = [
            make_optimizer(
                p.model,
                kind=p.recipe.optimizer,
                muon_lr=p.recipe.learning_rate,
                adam_lr=p.recipe.adam_learning_rate,
                weight_decay=p.recipe.weight_decay,
                precision=precision,
            )
            for p in pupils
        ]
        self.saved = [SavedState(p.checkpoint, p.identity, checkpoint_seconds, warn) for p in pupils]
        self.courses = [self._course(k) for k in range(len(pupils))]
        self.outcomes: dict[int, Trained | FloatingPointError] = {}
        self.present = list(range(len(pupils)))
        still = idle(pupils[0].model)
        learning = [n for n, p in pupils[0].model.named_parameters() if p.requires_grad and n not in still]
        self.network = Network([p.model for p in pupils], learning)
        self.numbers = SideBySide([p.model for p in pupils], self.optimizers, learning)
        self.lessons = Lessons(self.courses, self.device)
        self.exams = [Exam(p.questions) for p in pupils]
        self.replayed: Replayed | None = None
        for p in pupils:
            p.model.train()

    def _course(self, k: int) -> Course:
        p = self.pupils[k]
        at = self.saved[k].read(p.model, self.optimizers[k])
        at.candidates.tidy()
        course = Course(
            p.data, p.rows, p.recipe, at, seed=p.seed, settle=p.settle, progress=p.progress, record=p.record
        )
        course.lengths = course.lengths.cpu()
        return course

    def run(self, stop_requested: Callable[[], bool]) -> list[Trained | FloatingPointError]:
        self._leave([k for k in self.present if self.courses[k].over])
        while self.present:
            if stop_requested():
                self._save()
                raise KeyboardInterrupt
            self._step()
            due = [k for k in self.present if self.courses[k].due]
            if not due:
                continue
            self._evaluate(due)
            self._leave([k for k in self.present if k in self.outcomes or self.courses[k].over])
            if time.monotonic() - self.written >= max(self.least, SAVING_SHARE * self.took):
                self._save()
        if stop_requested():  # all have saved their state when they were done
            raise KeyboardInterrupt
        for p in self.pupils:
            p.model.eval()
        return [self.outcomes[k] for k in range(len(self.pupils))]

    def _step(self) -> None:
        courses = [self.courses[k] for k in self.present]
        for course, optimizer in zip(courses, self.numbers.optimizers, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = group["base_lr"] * course.multiplier
        index = [course.batch() for course in courses]
        widths = [int(course.lengths[rows].max()) for course, rows in zip(courses, index, strict=True)]
        recorded = self.device.type == "cuda"
        width = self.lessons.ids.shape[-1] if recorded else max(widths)
        batch = self.lessons.batch(self.present, index, width)
        settings = self.numbers.settings()
        self.prime(self.lessons.size, width)
        if recorded:
            if self.replayed is None:
                self.replayed = Replayed(self._learn, (*batch, settings), self.numbers.numbers, self.warn)
            losses = self.replayed(*batch, settings)
        else:
            losses = self._learn(*batch, settings)
        self.numbers.stepped()
        for course, own, loss in zip(courses, widths, losses, strict=True):
            course.stepped(loss, own)

    def _learn(self, ids: Tensor, at: Tensor, answers: Tensor, settings: Tensor) -> Tensor:
        """One step of all on their batches; returns the losses before it, (K,)."""
        with autocast(self.device, self.precision):
            found = self.network.gradients(self.numbers.weights, ids, self.lessons.columns, at, answers)
        gradients, losses = found
        self.numbers.step(gradients, settings, self.clip)
        return losses.detach()

    def _evaluate(self, due: Sequence[int]) -> None:
        means: dict[int, float] = {}
        for k in due:
            try:
                means[k] = self.courses[k].mean_loss()
            except FloatingPointError as error:
                self.outcomes[k] = error
        if not means:
            return
        before = time.monotonic(), cpu_seconds()
        places = [self.present.index(k) for k in means]
        network, numbers = self.network, self.numbers.weights
        if len(places) < len(self.present):
            network, numbers = network.keep(places), {name: each[places] for name, each in numbers.items()}
        exams = [self.exams[k] for k in means]
        self.network.model.eval()
        with torch.no_grad(), autocast(self.device, self.precision):
            hits = sit(exams, network, numbers, self.batch_size, self.prime)
        self.network.model.train()
        for k, own in zip(means, hits, strict=True):
            model = self.pupils[k].model
            self.courses[k].evaluated(
                self.pupils[k].questions.levels(own),
                loss=means[k],
                lr=float(self.optimizers[k].param_groups[0]["lr"]),
                before=before,
                weights=lambda model=model: weights(model),  # type: ignore[misc]
            )

    def _save(self) -> None:
        """Write the states of all that are not done."""
        before = time.monotonic()
        for place, k in enumerate(self.present):
            self.numbers.settle(place)
            self.saved[k].write(self.pupils[k].model, self.optimizers[k], self.courses[k].at)
        self.written = time.monotonic()
        self.took = self.written - before

    def _leave(self, leaving: Sequence[int]) -> None:
        """Bring the training of some to its end, and go on without them."""
        if not leaving:
            return
        for k in leaving:
            if k not in self.outcomes:
                model, optimizer, course = self.pupils[k].model, self.optimizers[k], self.courses[k]
                self.numbers.settle(self.present.index(k))
                saved = self.saved[k]
                # always written: should the others be interrupted, this one goes on from here
                self.outcomes[k] = course.end(
                    lambda m=model, o=optimizer, c=course, s=saved: s.write(m, o, c.at),  # type: ignore[misc]
                    stacked=len(self.pupils),
                )
        places = [self.present.index(k) for k in leaving]
        stay = [place for place in range(len(self.present)) if place not in places]
        self.numbers.release(places)
        self.network = self.network.keep(stay)
        self.present = [self.present[place] for place in stay]
        self.replayed = None
