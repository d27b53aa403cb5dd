"""The snapshots that may still become the pre-memorization one, in memory and in files."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..writing import whole
from .curve import Evaluation

BEFORE = 0.5  # of the noisy labels that the end gives: a snapshot that gives fewer precedes memorization
IN_MEMORY = 2  # snapshots that wait there for the end of training
LARGE_SNAPSHOT = 128 * 2**20  # bytes, from which on all of them wait in files


@dataclass
class Candidate:
    """A snapshot that can still become the pre-memorization one.

    Attributes:
        score: P(true answer) - P(noisy label) on the noisy training examples.
        accuracy: on the selection split.
        weights: None while they wait in a file.
        memorized: P(noisy label) on those examples.
    """

    score: float
    accuracy: float
    step: int
    weights: dict[str, Tensor] | None
    memorized: float = 0.0

    def beats(self, other: Candidate) -> bool:
        """Whether it is at least as good in every respect that the choice looks at."""
        return self.score >= other.score and self.accuracy >= other.accuracy and self.memorized <= other.memorized


class Candidates:
    """The snapshots that none other is better than in every respect; which one it is, only the end of training tells.

    The last ones wait in memory unless they are large, the others in files of their own, each written once. A file
    goes when neither this object nor the saved state of training needs it any more, so that a run can be ended at any
    moment.

    Args:
        state: the file from which an interrupted run goes on, beside which the others lie; a folder that vanishes with
            this object serves when None.
        identity: what is being trained.
        kept: those of the saved state.
        saved: the files that the saved state needs, when it is another training's.
    """

    def __init__(
        self, state: Path | None = None, identity: str = "", kept: Sequence[Candidate] = (), saved: Iterable[Path] = ()
    ) -> None:
        self.state, self.kept = state, list(kept)
        self.tag = hashlib.sha256(identity.encode()).hexdigest()[:8]
        self.saved = {*saved, *self.waiting()}

    @cached_property
    def _vanishing(self) -> Path:
        folder = Path(tempfile.mkdtemp(prefix="rote-bench-"))
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        return folder

    @property
    def _base(self) -> Path:
        return self.state or self._vanishing / "state.pt"

    def file(self, step: int) -> Path:
        """Where the weights of a step wait."""
        return self._base.with_name(f".{self._base.stem}-{self.tag}-{step}.pt")

    def waiting(self) -> set[Path]:
        """The files of those that wait in files."""
        return {self.file(each.step) for each in self.kept if each.weights is None}

    def offer(
        self, true: float, memorized: float, accuracy: float, step: int, state: Callable[[], dict[str, Tensor]]
    ) -> None:
        """Keep a snapshot, unless another is at least as good in every respect, and drop those that are not better.

        Args:
            true, memorized: P(true answer) and P(noisy label) on the noisy training examples.
        """
        new = Candidate(true - memorized, accuracy, step, None, memorized)
        if any(each.beats(new) for each in self.kept):
            return
        self.kept = [each for each in self.kept if not new.beats(each)]
        new.weights = state()
        self.kept.append(new)
        room = IN_MEMORY if sum(value.nbytes for value in new.weights.values()) < LARGE_SNAPSHOT else 0
        inside = [each for each in self.kept if each.weights is not None]
        for each in inside[: max(0, len(inside) - room)]:
            write_tensors(each.weights, self.file(each.step))
            each.weights = None
        self.tidy()

    def choose(self, final: Evaluation, share: float) -> tuple[int, dict[str, Tensor]] | None:
        """The step and weights of the best score among those that precede memorization; drops all others.

        Those have a share of the final accuracy and give less than half of the noisy labels that the end gives.
        """
        accuracy, memorized = final.selection_accuracy or 0.0, final.memorization_rate or 0.0
        eligible = [
            each
            for each in self.kept
            if each.step < final.step and each.accuracy >= share * accuracy and each.memorized < BEFORE * memorized
        ]
        self.kept = [max(eligible, key=lambda each: (each.score, -each.step))] if eligible else []
        for chosen in self.kept:
            if chosen.weights is None:
                chosen.weights = torch.load(self.file(chosen.step), map_location="cpu", weights_only=True)
            return chosen.step, chosen.weights
        return None

    def tidy(self) -> None:
        """Remove files that nothing needs."""
        if self.state is None and "_vanishing" not in self.__dict__:
            return  # never wrote any
        for file in {*self._base.parent.glob(f".{self._base.stem}-*-*")} - self.saved - self.waiting():
            file.unlink(missing_ok=True)


def write_tensors(content: Any, path: Path) -> None:
    with whole(path) as file:
        torch.save(apart(content), file)


def apart(content: Any) -> Any:
    """The same without the rest of what its tensors are views of, as where several models lie side by side."""
    if isinstance(content, Tensor):
        whole = content.untyped_storage().nbytes() <= content.numel() * content.element_size()
        return content if whole else content.clone()
    if isinstance(content, dict):
        return {key: apart(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return type(content)([apart(value) for value in content])
    return content
