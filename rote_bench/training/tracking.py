"""Training's curves where people watch them while they are made: TensorBoard, Trackio or Weights & Biases."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from ..errors import UserError, did_you_mean

if TYPE_CHECKING:
    from .curve import Evaluation

FOLDER = "tracking"  # inside a cell's folder; holds times of day, so it is no part of the report's artifacts
PROJECT = "rote-bench"
MODULES = {"tensorboard": "torch.utils.tensorboard", "trackio": "trackio", "wandb": "wandb"}
Follow: TypeAlias = "Callable[[Evaluation], None]"


def require(kind: str) -> Any:
    """The module that writes a kind of track.

    Raises:
        UserError: for a kind that is not known, or whose package is not installed.
    """
    if kind not in MODULES:
        raise UserError(f"cannot track with {kind!r}", where="--track", hint=did_you_mean(kind, MODULES))
    try:
        return importlib.import_module(MODULES[kind])
    except ImportError as error:
        raise UserError(f"{kind} cannot be imported ({error})", where="--track", hint=f"pip install {kind}") from error


@contextmanager
def following(kind: str | None, folder: Path, output: Path) -> Iterator[Follow]:
    """A function that takes each evaluation of training as it is made; it does nothing when ``kind`` is None.

    A resumed run hands over all its evaluations again, so what an earlier part wrote is replaced (the files of
    TensorBoard and wandb) or left beside it as a run of its own (Trackio, and what wandb has sent).

    Args:
        folder: the cell's; the files of TensorBoard and wandb go below it.
        output: the folder of all cells, from which the run is named.

    Raises:
        UserError: as ``require`` does.
    """
    if kind is None:
        yield lambda point: None
        return
    module = require(kind)
    opened = {"tensorboard": _tensorboard, "trackio": _trackio, "wandb": _wandb}[kind]
    with opened(module, folder, output) as log:
        yield lambda point: log(scalars(point), point.step)


def scalars(point: Evaluation) -> dict[str, float]:
    """The curves, the loss and the learning rate (``lr``) of an evaluation: all numbers that measure no progress."""
    ruler = ("step", "epoch", "examples_seen", "seconds")
    return {name: float(value) for name, value in point.plain().items() if name not in ruler and value is not None}


@contextmanager
def _tensorboard(module: Any, folder: Path, output: Path) -> Iterator[Callable[[Mapping[str, float], int], None]]:
    place = _emptied(folder)
    writer = module.SummaryWriter(str(place))

    def log(values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            writer.add_scalar(name, value, step)
        writer.flush()

    try:
        yield log
    finally:
        writer.close()


def _emptied(folder: Path) -> Path:
    """The folder of a cell's track, without what an earlier part wrote."""
    import shutil

    place = folder / FOLDER
    if place.exists():
        shutil.rmtree(place)
    place.mkdir(parents=True)
    return place


@contextmanager
def _trackio(module: Any, folder: Path, output: Path) -> Iterator[Callable[[Mapping[str, float], int], None]]:
    name = folder.relative_to(output).as_posix()
    with contextlib.redirect_stdout(io.StringIO()):  # standard output is for results
        run = module.init(project=PROJECT, name=name, embed=False, auto_log_gpu=False, auto_log_cpu=False)
    try:
        yield lambda values, step: run.log(dict(values), step=step)
    finally:
        with contextlib.redirect_stdout(io.StringIO()):
            module.finish()


@contextmanager
def _wandb(module: Any, folder: Path, output: Path) -> Iterator[Callable[[Mapping[str, float], int], None]]:
    place = _emptied(folder)
    quiet = {"silent": True, "console": "off", "disable_git": True, "disable_code": True, "x_disable_stats": True}
    run = module.init(
        project=PROJECT,
        name=folder.relative_to(output).as_posix(),
        dir=str(place),
        mode=os.environ.get("WANDB_MODE", "offline"),  # nothing is sent unless the user says so
        reinit="create_new",  # a run of the caller's goes on
        settings=module.Settings(**quiet),
    )
    try:
        yield lambda values, step: run.log(dict(values), step=step)
    finally:
        run.finish()
