"""How far training is, and the file from which an interrupted run goes on."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import time
import weakref
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from ..machine import cpu_seconds
from ..writing import whole
from .curve import Evaluation

SAVING_SHARE = 30.0  # a large model's state takes long to write: at most a thirtieth of the time goes into that
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
            _write(each.weights, self.file(each.step))
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


@dataclass
class Standing:
    """How far training is; with the weights and the optimizer's state, all that a run needs to go on.

    Attributes:
        running: losses of the steps since the last evaluation.
        evaluating: seconds spent on evaluations, in all calls.
        earlier: seconds spent before this call.
        evaluating_cpu, earlier_cpu: the same in seconds of processor time.
        stop_reason: why training ends, once it does; ``budget`` until then.
    """

    curve: list[Evaluation] = field(default_factory=list)
    candidates: Candidates = field(default_factory=Candidates)
    step: int = 0
    tokens: int = 0
    running: list[Tensor] = field(default_factory=list)
    evaluating: float = 0.0
    earlier: float = 0.0
    evaluating_cpu: float = 0.0
    earlier_cpu: float = 0.0
    stop_reason: Literal["memorized", "budget"] = "budget"
    start: float = field(default_factory=time.monotonic)
    start_cpu: float = field(default_factory=cpu_seconds)

    @property
    def seconds(self) -> float:
        return self.earlier + time.monotonic() - self.start

    @property
    def cpu(self) -> float:
        return self.earlier_cpu + cpu_seconds() - self.start_cpu


class SavedState:
    """The file from which an interrupted run goes on.

    Args:
        path: None when nothing is to be kept.
        identity: what is being trained; a file of another identity is ignored.
        least: least seconds between two writings; longer when one takes long.
    """

    def __init__(self, path: Path | None, identity: str, least: float) -> None:
        self.path, self.identity, self.least = path, identity, least
        self.written, self.took = time.monotonic(), 0.0

    @property
    def due(self) -> bool:
        return time.monotonic() - self.written >= max(self.least, SAVING_SHARE * self.took)

    def read(self, model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> Standing:
        """Restore weights, optimizer and random state, where there is something to restore."""
        if self.path is None or not self.path.is_file():
            return Standing(candidates=Candidates(self.path, self.identity))
        state: dict[str, Any] = torch.load(self.path, map_location="cpu", weights_only=True)
        kept = [Candidate(*each) for each in state["candidates"]]
        candidates = Candidates(self.path, state["identity"], kept)
        if state["identity"] != self.identity:
            return Standing(candidates=Candidates(self.path, self.identity, saved=candidates.saved))
        if not all(file.is_file() for file in candidates.saved):  # somebody took them away
            self.path.unlink(missing_ok=True)
            return Standing(candidates=Candidates(self.path, self.identity))
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["rng"])
        for device, generator in zip(_accelerators(model), state.get("rng_cuda", ()), strict=False):
            torch.cuda.set_rng_state(generator, device)
        return Standing(
            curve=[Evaluation.read(point) for point in state["curve"]],
            candidates=candidates,
            step=state["step"],
            tokens=state["tokens"],
            running=list(state["running"]),
            evaluating=state["evaluating"],
            earlier=state["seconds"],
            evaluating_cpu=state.get("evaluating_cpu", 0.0),
            earlier_cpu=state.get("cpu", 0.0),
            stop_reason=state.get("stop_reason", "budget"),
        )

    def write(self, model: torch.nn.Module, optimizer: torch.optim.Optimizer, at: Standing) -> None:
        if self.path is None:
            return
        before = time.monotonic()
        state = {
            "identity": self.identity,
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "rng": torch.get_rng_state(),
            "rng_cuda": [torch.cuda.get_rng_state(device) for device in _accelerators(model)],
            "curve": [point.plain() for point in at.curve],
            "candidates": [(c.score, c.accuracy, c.step, c.weights, c.memorized) for c in at.candidates.kept],
            "step": at.step,
            "tokens": at.tokens,
            "running": at.running,
            "evaluating": at.evaluating,
            "seconds": at.seconds,
            "evaluating_cpu": at.evaluating_cpu,
            "cpu": at.cpu,
            "stop_reason": at.stop_reason,
        }
        _write(state, self.path)
        at.candidates.saved = at.candidates.waiting()
        at.candidates.tidy()
        self.written = time.monotonic()
        self.took = self.written - before


def standing(path: Path, identity: str) -> tuple[int, list[Evaluation]]:
    """How far a training has come by its file: steps and evaluations; none where there is no file of that training."""
    if not path.is_file():
        return 0, []
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    if state["identity"] != identity:
        return 0, []
    return state["step"], [Evaluation.read(point) for point in state["curve"]]


def _accelerators(model: torch.nn.Module) -> list[torch.device]:
    """The GPUs that hold the model, each of which has a generator of its own."""
    return sorted({p.device for p in model.parameters() if p.device.type == "cuda"}, key=str)


def _write(content: Any, path: Path) -> None:
    with whole(path) as file:
        torch.save(_apart(content), file)


def _apart(content: Any) -> Any:
    """The same without the rest of what its tensors are views of, as where several models lie side by side."""
    if isinstance(content, Tensor):
        whole = content.untyped_storage().nbytes() <= content.numel() * content.element_size()
        return content if whole else content.clone()
    if isinstance(content, dict):
        return {key: _apart(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return type(content)([_apart(value) for value in content])
    return content
