"""How far training is, and the file from which an interrupted run goes on."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .curve import Evaluation

SAVING_SHARE = 30.0  # a large model's state takes long to write: at most a thirtieth of the time goes into that


@dataclass
class Candidates:
    """Snapshots that can still become the pre-memorization one: none other is better in both respects."""

    kept: list[tuple[float, float, int, dict[str, Tensor]]] = field(default_factory=list)

    def offer(self, score: float, accuracy: float, step: int, state: Callable[[], dict[str, Tensor]]) -> None:
        if any(s >= score and a >= accuracy for s, a, _, _ in self.kept):
            return
        self.kept = [k for k in self.kept if not (k[0] <= score and k[1] <= accuracy)]
        self.kept.append((score, accuracy, step, state()))

    def choose(self, final: float, share: float) -> tuple[int, dict[str, Tensor]]:
        eligible = [k for k in self.kept if k[1] >= share * final] or self.kept
        _, _, step, state = max(eligible, key=lambda k: (k[0], -k[2]))
        return step, state


@dataclass
class Standing:
    """How far training is; with the weights and the optimizer's state, all that a run needs to go on.

    Attributes:
        running: losses of the steps since the last evaluation.
        evaluating: seconds spent on evaluations, in all calls.
        earlier: seconds spent before this call.
    """

    curve: list[Evaluation] = field(default_factory=list)
    candidates: Candidates = field(default_factory=Candidates)
    step: int = 0
    tokens: int = 0
    running: list[Tensor] = field(default_factory=list)
    evaluating: float = 0.0
    earlier: float = 0.0
    start: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        return self.earlier + time.monotonic() - self.start


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
            return Standing()
        state: dict[str, Any] = torch.load(self.path, map_location="cpu", weights_only=True)
        if state["identity"] != self.identity:
            return Standing()
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["rng"])
        return Standing(
            curve=[Evaluation.read(point) for point in state["curve"]],
            candidates=Candidates(state["candidates"]),
            step=state["step"],
            tokens=state["tokens"],
            running=list(state["running"]),
            evaluating=state["evaluating"],
            earlier=state["seconds"],
        )

    def write(self, model: torch.nn.Module, optimizer: torch.optim.Optimizer, at: Standing) -> None:
        if self.path is None:
            return
        before = time.monotonic()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_suffix(".partial")
        state = {
            "identity": self.identity,
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "rng": torch.get_rng_state(),
            "curve": [point.plain() for point in at.curve],
            "candidates": at.candidates.kept,
            "step": at.step,
            "tokens": at.tokens,
            "running": at.running,
            "evaluating": at.evaluating,
            "seconds": at.seconds,
        }
        torch.save(state, partial)
        os.replace(partial, self.path)
        self.written = time.monotonic()
        self.took = self.written - before
