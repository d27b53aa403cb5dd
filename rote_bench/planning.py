"""What a command asks for, before any of it is run: tasks, cells, sweeps, and what they are expected to take."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .errors import Faults, UserError, did_you_mean
from .paths import of_user, placed
from .plugins import Registry
from .plugins import load as load_plugins
from .progress import Progress

if TYPE_CHECKING:
    from .pipeline.expect import Expected
    from .pipeline.settings import Settings
    from .report import record
    from .spec.model import Seeds, TaskSpec
    from .spec.preflight import Examined
    from .sweep.cells import Job
    from .sweep.conduct import Pool
    from .sweep.definition import Definition
    from .sweep.phases import Phases

Overrides = Sequence[str] | Mapping[str, Any]
EXECUTORS = ("local", "ray", "submitit")


def load_task(
    task: str | Path,
    *,
    profile: str | None = None,
    overrides: Overrides = (),
    plugins: Sequence[str | Path] = (),
    registry: Registry | None = None,
) -> TaskSpec:
    """A task file as a validated ``TaskSpec``.

    Args:
        overrides: ``["training.max_steps=60"]``, or ``{"training.max_steps": 60}``.

    Raises:
        UserError: with every fault, its file and line.
    """
    from .spec.loader import load_task as load

    return load(task, registry or load_plugins(plugins), profile=profile, overrides=_as_texts(overrides))


def examine(
    files: Sequence[str | Path], *, plugins: Sequence[str | Path] = (), progress: Progress | None = None
) -> Examined:
    """Every fault of task and sweep files, and what is to be known of those that have none."""
    from .spec.preflight import Examined, examine_file
    from .sweep import comparing
    from .sweep.definition import is_sweep

    registry = load_plugins(plugins)
    say = (progress or Progress(quiet=True)).passing
    found, faults = Examined(), dict[str, UserError]()
    for file in dict.fromkeys(map(str, files)):
        if is_sweep(file):
            say(f"{file}: sweep")
            each = Examined(*comparing.validate_file(Path(file), registry))
        else:
            each = examine_file(file, registry, say)
        faults.update((str(fault), fault) for fault in each.faults)
        found.remarks += each.remarks
    say("")
    found.faults = list(faults.values())
    return found


def _as_texts(overrides: Overrides) -> list[str]:
    """Overrides as the command line has them."""
    if isinstance(overrides, str):
        return [overrides]
    if isinstance(overrides, Mapping):
        return [f"{path}={_as_json(path, value)}" for path, value in overrides.items()]
    if not isinstance(overrides, Sequence) or any(isinstance(each, Mapping) for each in overrides):
        hint = '["training.max_steps=60"] or {"training.max_steps": 60}'
        raise UserError("neither texts nor a mapping", where="overrides", hint=hint)
    return list(overrides)


def _as_json(path: str, value: Any) -> str:
    """A value as JSON has it; numbers of numpy and paths as the plain ones that they are."""
    try:
        return json.dumps(value, default=_plainer)
    except (TypeError, ValueError):
        raise UserError(f"a {type(value).__name__} is no value of a task file", where=f"overrides: {path}") from None


def _plainer(value: Any) -> Any:
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if callable(getattr(value, "tolist", None)):  # numbers and arrays of numpy and torch
        return value.tolist()
    raise TypeError


def name_of(model: Any, registry: Registry, *, tokenizer: Any = None, model_name: str | None = None) -> str:
    """The name under which a registry knows a model from here on: its own, or that of one that Python gives.

    Args:
        model: a name, a module, or a function of ``vocab_size`` that builds one.
        tokenizer: of the inputs of a model that has no name.
        model_name: what such a model is to be called.

    Raises:
        UserError: when it is none of these, or another model has its name.
    """
    if isinstance(model, str):
        if tokenizer is not None or model_name is not None:
            raise UserError(
                f"{model!r} brings its own",
                where="tokenizer" if tokenizer is not None else "model_name",
                hint="it is for models that are no names",
            )
        return model
    from .models.objects import FromPython

    provider = FromPython(model_name, model, tokenizer=tokenizer, source="object")
    registry.adopt(provider, "Python")
    return provider.name


def cells_of(
    spec: TaskSpec,
    model: str,
    rates: Sequence[float],
    seeds: Sequence[int],
    registry: Registry,
    settings: Settings,
    *,
    twin: bool,
) -> tuple[list[tuple[TaskSpec, float]], list[tuple[TaskSpec, float]]]:
    """The cells that were asked for, and those to run, twins first."""
    from .pipeline.runner import expand
    from .pipeline.twins import twins_first

    registry.provider(model)
    asked = expand(spec, rates, seeds, registry, limit=settings.limit)
    return asked, twins_first(asked, settings, also=twin)


def require_drawable(spec: TaskSpec, rates: Sequence[float], registry: Registry, *, asked: bool = False) -> None:
    """See that the task can be made with each noise rate.

    Args:
        asked: whether the rates were asked for beside the task file.

    Raises:
        Faults: every reason why it cannot.
    """
    from .spec.preflight import check_drawable

    faults = check_drawable(spec, registry, rates, "--noise-rate" if asked else None) if rates else []
    if faults:
        raise Faults(faults)


def expect_cells(
    task: str | Path,
    *,
    model: Any,
    noise_rates: Sequence[float] = (),
    seeds: Sequence[int] = (),
    profile: str | None = None,
    overrides: Overrides = (),
    plugins: Sequence[str | Path] = (),
    twin: bool = False,
    tokenizer: Any = None,
    model_name: str | None = None,
    progress: Progress | None = None,
    settings: Settings | None = None,
    **options: Any,
) -> dict[Path, Expected | None]:
    """What the same call of ``run_cells`` would take here, told from a few timed steps; nothing is kept or written.

    Returns:
        The folder of each cell, twins first -> what it would take; None where it is done already.

    Raises:
        UserError: as ``run_cells``.
    """
    from .pipeline.cell import cell_folder
    from .pipeline.process import undisturbed
    from .pipeline.runner import foresee
    from .pipeline.settings import Settings
    from .report import record
    from .report.write import load_report

    settings = (settings or Settings()).having(options)
    registry = load_plugins(plugins)
    model = name_of(model, registry, tokenizer=tokenizer, model_name=model_name)
    spec = load_task(task, profile=profile, overrides=overrides, registry=registry)
    _, cells = cells_of(spec, model, noise_rates, seeds, registry, settings, twin=twin)
    require_drawable(spec, [rate for _, rate in cells], registry, asked=bool(noise_rates))
    done: dict[Seeds, record.Report] = {}
    found: dict[Path, Expected | None] = {}
    progress = progress or Progress()
    with undisturbed():
        for cell, rate in cells:
            first = done.get(cell.seeds) if rate else None
            each = foresee(cell, model, rate, settings=settings, registry=registry, progress=progress, twin=first)
            folder = cell_folder(settings.output_path, cell, model, rate)
            if rate == 0 and (settings.rediagnose or isinstance(each, record.Report)):
                done[cell.seeds] = each if isinstance(each, record.Report) else load_report(folder)
            found[folder] = None if isinstance(each, record.Report) else each
    return found


def expect_sweep(
    file: str | Path,
    *,
    output_path: str | Path = "runs",
    workers: int | None = None,
    plugins: Sequence[str | Path] = (),
    overwrite: bool = False,
    quiet: bool = False,
) -> tuple[dict[str, Expected | None], float]:
    """What the cells of a sweep file would take on this machine, told from a few timed steps of each kind of cell.

    Trials and cells of a comparison whose recipe is not chosen yet count with the first configurations, at their full
    length. What each contrast can see is said on standard error.

    One cell is timed for every task and model, with wrong labels and without, as it would run alone; nothing is trained
    or written.

    Returns:
        The folder of each cell below the output -> what it would take, None where it is done; and the seconds until
        all of them are done.

    Raises:
        UserError: as ``sweep_cells``.
    """
    from .sweep.board import Board
    from .sweep.foresee import foresee_all

    registry = load_plugins(plugins)
    found = sweep_of(file, output_path, registry, workers=workers, plugins=plugins, overwrite=overwrite)
    with Board(found.wanted.title, quiet=quiet) as board:
        for text in found.sees():
            board.say(text)
        return foresee_all(found.jobs, found.pool(), board, registry, phases=found.phases)


@dataclass(frozen=True)
class Sweep:
    """A sweep file with what there is to run.

    Attributes:
        jobs: all cells, or the first trials of a comparison.
        phases: what plans the others, of a comparison.
        pool: opens what runs them.
    """

    wanted: Definition
    jobs: Sequence[Job]
    phases: Phases | None
    pool: Callable[[], Pool]

    def sees(self) -> list[str]:
        """What each contrast can see, a line each."""
        from .sweep.contrasts import sees

        return [] if self.phases is None else sees(self.phases.comparison)


def sweep_of(
    file: str | Path,
    output_path: str | Path,
    registry: Registry,
    *,
    executor: str = "local",
    workers: int | None = None,
    address: str | None = None,
    submitit: Mapping[str, Any] | None = None,
    stack: int | Literal["auto"] | None = None,
    plugins: Sequence[str | Path] = (),
    overwrite: bool = False,
    rediagnose: bool = False,
) -> Sweep:
    """A sweep file with its cells, and what opens the pool that runs them.

    Raises:
        UserError: when anything is wrong with it, or its rules are not those by which cells have been run.
    """
    from .machine import check_writable
    from .pipeline.identity import sources
    from .sweep import cells, cluster, comparing, definition, local, sizes, submitted
    from .sweep.phases import Phases

    if executor not in EXECUTORS:
        raise UserError(f"unknown executor {executor!r}", where="--executor", hint=did_you_mean(executor, EXECUTORS))
    if workers is not None and workers < 1:
        raise UserError(f"must be at least 1, not {workers}", where="--workers")
    if address is not None and executor != "ray":
        raise UserError("only a Ray cluster has an address", where="--address", hint="add --executor ray")
    if submitit and executor != "submitit":
        raise UserError("these are submitit's", where="--submitit", hint="add --executor submitit")
    if isinstance(stack, int) and stack < 1:
        raise UserError(f"must be at least 1, not {stack}", where="--stack")
    output = placed(output_path)
    wanted = definition.load(of_user(file))
    if stack is not None:
        wanted = replace(wanted, run=replace(wanted.run, stack=None if stack == "auto" else stack))
    again = {"overwrite": overwrite, "rediagnose": rediagnose}
    size_of = sizes.built_size(registry)
    jobs = cells.plan(wanted, registry, output=output, plugins=plugins, workers=workers, size_of=size_of, **again)
    planned = comparing.compare(wanted, jobs, registry)
    phases = None if planned is None else Phases(planned, output, registry)
    check_writable(output)

    def pool() -> Pool:
        if executor == "ray":
            return cluster.Cluster(workers=workers, address=address, jobs=jobs)
        if executor == "submitit":
            return submitted.Queue(workers=workers, options=submitit or {}, output=output)
        return local.Local(workers=workers, device=wanted.run.device, code=sources(registry))

    return Sweep(wanted, jobs if phases is None else phases.first(), phases, pool)
