"""How to run a cell, apart from what it is: the one place of run options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

from ..errors import UserError, did_you_mean
from ..paths import placed
from ..training.tracking import require

Dtype = Literal["float32", "bfloat16", "float16", "8bit", "4bit"]
TWIN = "twin"
SNAPSHOTS = {"pre": "pre_memorization", "post": "post_memorization", TWIN: TWIN}


@dataclass(frozen=True)
class Settings:
    """The options of a run. The command line, ``rote_bench.run``, sweeps and repeated runs all make one of these.

    Attributes:
        output_path: folder of all cells.
        device: ``auto``, ``cpu``, ``cuda``, ...
        dtype: of the weights; ``8bit`` and ``4bit`` need bitsandbytes and ``train=False``.
        batch_size: examples per forward pass of evaluations and diagnostics; None chooses by the model's size.
        limit: examples per split, for a quick look; such reports are barred from leaderboards.
        overwrite: run again even when a complete report is there.
        rediagnose: keep the training of a finished cell, and measure and diagnose its snapshots again.
        train: False diagnoses the model as it is.
        snapshots: ``pre`` or ``post`` -> folder of weights to diagnose instead of those from training; ``twin`` ->
            weights of the same cell trained without wrong labels, with which some diagnostics compare.
        threads: of the processor; None chooses by the model's size.
        trust_remote_code: let code that comes with weights run.
        compile: let torch.compile make the training steps; it takes a minute or two before the first one.
        forks: let diagnostics run in forked children, one for each core, where that is possible. For a process that is
            rote-bench's own, as the command line's: a fork of somebody else's, a notebook's say, can stand still for
            ever when one of its threads held a lock.
        stacked: train as several cells are that are trained as one, alone in it where there are no others; None does so
            on a GPU, where the model is not large. A model that cannot be stacked is trained by itself.
        track: ``tensorboard``, ``trackio`` or ``wandb``: where to write the curves while they are made; decides no
            number.

    Raises:
        UserError: naming the option that is wrong.
    """

    output_path: Path = Path("runs")
    device: str = "auto"
    dtype: Dtype = "float32"
    batch_size: int | None = None
    limit: int | None = None
    overwrite: bool = False
    rediagnose: bool = False
    train: bool = True
    snapshots: Mapping[str, str] = field(default_factory=dict)
    threads: int | None = None
    trust_remote_code: bool = False
    compile: bool = False
    stacked: bool | None = None
    track: str | None = None
    forks: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "output_path", placed(self.output_path))
        object.__setattr__(self, "snapshots", {SNAPSHOTS.get(n, n): str(f) for n, f in self.snapshots.items()})
        known = get_args(Dtype)
        if self.dtype not in known:
            raise UserError(f"unknown dtype {self.dtype!r}", where="--dtype", hint=did_you_mean(self.dtype, known))
        for flag, number, least in (
            ("--batch-size", self.batch_size, 1),
            ("--limit", self.limit, 2),
            ("--threads", self.threads, 1),
        ):
            if number is not None and number < least:
                raise UserError(f"must be at least {least}, not {number}", where=flag)
        for name in self.snapshots:
            if name not in SNAPSHOTS.values():
                raise UserError(f"unknown snapshot {name!r}", where="--snapshot", hint="pre, post or twin")
        if self.snapshots and self.train:
            raise UserError("a model that is trained makes its own", where="--snapshot", hint="add --no-train")
        if self.rediagnose and self.overwrite:
            raise UserError("what it keeps, --overwrite would replace", where="--rediagnose", hint="leave out one")
        if self.track is not None:
            require(self.track)

    def having(self, options: Mapping[str, Any]) -> Settings:
        """These, with other options in their place.

        Raises:
            TypeError: for an option that there is not.
        """
        known = {f.name for f in fields(self)}
        for name in options:
            if name not in known:
                raise TypeError(f"there is no option {name!r} ({did_you_mean(name, known)})")
        return replace(self, **options)

    @classmethod
    def picked(cls, options: Mapping[str, Any]) -> Settings:
        """The options of this class among others, as a parsed command line or a sweep's ``run`` has them."""
        return cls(**{f.name: options[f.name] for f in fields(cls) if f.name in options})
