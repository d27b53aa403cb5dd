"""How far training is, and the file from which an interrupted run goes on."""

from __future__ import annotations

import contextlib
import copy
import os
import random
import shutil
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ..machine import cpu_seconds
from ..writing import whole
from .candidates import Candidate, Candidates, apart
from .curve import Evaluation

SAVING_SHARE = 30.0  # a large model's state takes long to write: at most a thirtieth of the time goes into that


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
    """The file from which an interrupted run goes on, and beside it the one before.

    Args:
        path: None when nothing is to be kept.
        identity: what is being trained; a file of another identity is not gone on from.
        least: least seconds between two writings; longer when one takes long.
        warn: told in a line of what cannot be used, and of what cannot be written.
    """

    def __init__(
        self, path: Path | None, identity: str, least: float, warn: Callable[[str], None] = lambda text: None
    ) -> None:
        self.path, self.identity, self.least, self.warn = path, identity, least, warn
        self.written, self.took = time.monotonic(), 0.0
        self.good: Path | None = None  # the file on the disk from which this training could go on
        self.needed: set[Path] = set()  # files of candidates that belong to it

    @property
    def due(self) -> bool:
        return time.monotonic() - self.written >= max(self.least, SAVING_SHARE * self.took)

    def read(self, model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> Standing:
        """Restore weights, optimizer and random state, where there is something to restore.

        A file that is damaged, or another training's, is a warning; the one before it serves, or nothing does. No file
        is touched here: other processes of the same training may be reading them.
        """
        if self.path is None:
            return Standing()
        wrong, foreign = "", set[Path]()
        for file in (self.path, before(self.path)):
            if not os.path.lexists(file):
                continue
            try:
                state = _load(file)
                kept = [Candidate(*each) for each in state["candidates"]]
                candidates = Candidates(self.path, state["identity"], kept)
                if state["identity"] != self.identity:
                    wrong = wrong or f"{file}: is of a training with other settings or versions"
                    foreign |= candidates.saved
                    continue
                for each in kept:
                    if each.weights is None:
                        _require_fit(_load(candidates.file(each.step)), model.state_dict(), "a snapshot beside it")
                at = _standing(state, candidates)
                _apply(state, model, optimizer)
            except Exception as error:  # whatever a damaged file makes torch raise
                wrong = wrong or f"{file}: cannot be used ({_reason(error)})"
                continue
            self.good, self.needed = file, set(candidates.saved)
            if wrong:
                self.warn(f"{wrong}; training goes on from the state before it, at step {at.step}")
            return at
        if wrong:
            self.warn(f"{wrong}; training begins anew")
        return Standing(candidates=Candidates(self.path, self.identity, saved=foreign))

    def write(self, model: torch.nn.Module, optimizer: torch.optim.Optimizer, at: Standing) -> bool:
        """Write how far training is; whether that could be done, else a warning says why not."""
        if self.path is None:
            return False
        begun = time.monotonic()
        state = {
            "identity": self.identity,
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "rng": torch.get_rng_state(),
            "rng_plain": _plain_generators(),
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
        try:
            with whole(self.path) as file:
                torch.save(apart(state), file)
                if self.good == self.path and self.path.is_file():
                    os.replace(self.path, before(self.path))
                elif self.path.is_dir():  # in whose place no file can be put
                    _remove(self.path)
            if self.good is None:
                _remove(before(self.path))
        except (OSError, RuntimeError) as error:  # torch turns some of the system's errors into its own
            if not isinstance(error, OSError) and "inline_container" not in str(error):
                raise
            self.warn(f"{self.path}: the state of training cannot be written ({_reason(error)}); training goes on")
            self.written = time.monotonic()
            return False
        kept, self.good, self.needed = self.needed, self.path, at.candidates.waiting()
        at.candidates.saved = kept | self.needed
        at.candidates.tidy()
        self.written = time.monotonic()
        self.took = self.written - begun
        return True


def before(path: Path) -> Path:
    """Where the state is kept that was the newest until the last one was written."""
    return path.with_name(f"{path.stem}.before{path.suffix}")


def forget(path: Path) -> None:
    """Remove a state of training and all that belongs to it, when the training is over and done with."""
    for file in (path, before(path), *path.parent.glob(f".{path.stem}-*-*.pt")):
        _remove(file)


def _remove(file: Path) -> None:
    if file.is_dir() and not file.is_symlink():
        shutil.rmtree(file)
    else:
        file.unlink(missing_ok=True)


def standing(path: Path, identity: str) -> tuple[int, list[Evaluation]]:
    """How far a training has come by its file: steps and evaluations; none where no file of that training serves."""
    for file in (path, before(path)):
        with contextlib.suppress(Exception):  # a damaged one; whoever trains says so
            state = _load(file)
            if state["identity"] == identity:
                at = _standing(state, Candidates())
                return at.step, at.curve
    return 0, []


def _load(file: Path) -> dict[str, Any]:
    """The content of a file that torch wrote, each part of which has its checksum.

    Raises:
        Exception: when it is damaged; which one depends on how.
    """
    with zipfile.ZipFile(file) as parts:
        bad = parts.testzip()
    if bad is not None:
        raise ValueError(f"{bad} in it is damaged")
    state = torch.load(file, map_location="cpu", weights_only=True)
    if not isinstance(state, dict):
        raise ValueError("it holds no state")
    return state


def _standing(state: Mapping[str, Any], candidates: Candidates) -> Standing:
    numbers = {name: float(state.get(name, 0.0)) for name in ("evaluating", "seconds", "evaluating_cpu", "cpu")}
    at = Standing(
        curve=[Evaluation.read(point) for point in state["curve"]],
        candidates=candidates,
        step=int(state["step"]),
        tokens=int(state["tokens"]),
        running=list(state["running"]),
        evaluating=numbers["evaluating"],
        earlier=numbers["seconds"],
        evaluating_cpu=numbers["evaluating_cpu"],
        earlier_cpu=numbers["cpu"],
        stop_reason=state.get("stop_reason", "budget"),
    )
    if at.step < 0 or at.stop_reason not in ("budget", "memorized") or any(p.step > at.step for p in at.curve):
        raise ValueError("its parts contradict each other")
    return at


def _plain_generators() -> tuple[Any, Any]:
    """Where the generators of Python and numpy are that a model's own code may draw from, as plain values."""
    array: Any = np.random.get_state(legacy=True)
    kind, keys, *rest = array
    return random.getstate(), (kind, keys.tolist(), *rest)


def _set_plain_generators(state: tuple[Any, Any]) -> None:
    python, array = state
    random.setstate(python)
    np.random.set_state(array)


def _apply(state: Mapping[str, Any], model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Put weights, optimizer and generators where they were; all of them stay as they are when this raises."""
    _require_fit(state["model"], model.state_dict(), "it")
    _require_moments(state["optimizer"], optimizer)
    with _unless_whole(model, optimizer):
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["rng"])
        if "rng_plain" in state:
            _set_plain_generators(state["rng_plain"])
        for device, generator in zip(_accelerators(model), state.get("rng_cuda", ()), strict=False):
            torch.cuda.set_rng_state(generator, device)


@contextmanager
def _unless_whole(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """Put everything back when only a part of it could be restored."""
    weights = {name: value.detach().to("cpu", copy=True) for name, value in model.state_dict().items()}
    moments, generator, plain = copy.deepcopy(optimizer.state_dict()), torch.get_rng_state(), _plain_generators()
    try:
        yield
    except BaseException:
        model.load_state_dict(weights)
        optimizer.load_state_dict(moments)
        torch.set_rng_state(generator)
        _set_plain_generators(plain)
        raise


def _require_fit(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], whose: str) -> None:
    shapes = {name: (value.shape, value.dtype) for name, value in found.items()}
    if shapes != {name: (value.shape, value.dtype) for name, value in wanted.items()}:
        raise ValueError(f"{whose} holds other weights than the model has")


def _require_moments(found: Mapping[str, Any], optimizer: torch.optim.Optimizer) -> None:
    """See that what the optimizer remembers of each parameter has that parameter's shape."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for index, remembered in found["state"].items():
        for value in remembered.values():
            if isinstance(value, Tensor) and value.dim() and value.shape != parameters[index].shape:
                raise ValueError("its optimizer is another one")


def _reason(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = str(error).strip().partition("\n")[0][:120]
    return text or type(error).__name__


def _accelerators(model: torch.nn.Module) -> list[torch.device]:
    """The GPUs that hold the model, each of which has a generator of its own."""
    return sorted({p.device for p in model.parameters() if p.device.type == "cuda"}, key=str)
