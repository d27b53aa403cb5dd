"""Every verb of the command line as a function."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from .catalog import check_model, check_models, data, dataset, export_data, listing, new, schema
from .drawing import plot
from .errors import UserError
from .paths import of_user, placed
from .planning import (
    Overrides,
    cells_of,
    examine,
    expect_cells,
    expect_sweep,
    load_task,
    name_of,
    require_drawable,
    sweep_of,
)
from .plugins import load as load_plugins
from .progress import Progress
from .reading import Report, compare, load_report, show, show_data, show_html

if TYPE_CHECKING:
    from torch import nn

    from .leaderboard.outcome import Check
    from .pipeline.settings import Settings
    from .report import record
    from .spec.model import Seeds, TaskSpec


__all__ = [
    "Report",
    "build_leaderboard",
    "check_model",
    "check_models",
    "check_report",
    "compare",
    "data",
    "dataset",
    "examine",
    "expect_cells",
    "expect_sweep",
    "export_data",
    "listing",
    "load_report",
    "load_task",
    "new",
    "plot",
    "remarks",
    "run",
    "run_cells",
    "schema",
    "show",
    "show_data",
    "show_html",
    "sweep_cells",
    "validate",
]


@overload
def run(
    task: str | Path,
    *,
    model: str | nn.Module | Callable[..., nn.Module],
    noise_rate: float | None = None,
    seed: int | None = None,
    profile: str | None = None,
    overrides: Overrides = (),
    plugins: Sequence[str | Path] = (),
    twin: bool = False,
    tokenizer: Any = None,
    model_name: str | None = None,
    quiet: bool = False,
    settings: Settings | None = None,
    **options: Any,
) -> Report: ...


@overload
def run(
    task: str | Path,
    *,
    model: str | nn.Module | Callable[..., nn.Module],
    noise_rate: float | Iterable[float] | None = None,
    seed: int | Iterable[int] | None = None,
    profile: str | None = None,
    overrides: Overrides = (),
    plugins: Sequence[str | Path] = (),
    twin: bool = False,
    tokenizer: Any = None,
    model_name: str | None = None,
    quiet: bool = False,
    settings: Settings | None = None,
    **options: Any,
) -> Report | list[Report]: ...


def run(
    task: str | Path,
    *,
    model: str | nn.Module | Callable[..., nn.Module],
    noise_rate: float | Iterable[float] | None = None,
    seed: int | Iterable[int] | None = None,
    profile: str | None = None,
    overrides: Overrides = (),
    plugins: Sequence[str | Path] = (),
    twin: bool = False,
    tokenizer: Any = None,
    model_name: str | None = None,
    quiet: bool = False,
    settings: Settings | None = None,
    **options: Any,
) -> Report | list[Report]:
    """Train (or load) one model on one task under label noise, diagnose it and write its report.

    The caller's process is left as it was found: threads, logging, warnings, environment, drawing.

    Args:
        task: a task file or the name of a shipped task.
        model: ``<model_type>-<size>`` or ``hf:NAME_OR_PATH[@REVISION]``; or a ``torch.nn.Module``, one of
            transformers or any whose forward takes token ids and gives logits, which is copied and whose weights are
            the start of every seed; or a function of ``vocab_size`` that builds one, which is asked anew for each cell
            (see ``docs/models.md``).
        noise_rate, seed: the task file's own when None; a list of either runs one cell after the other.
        overrides: of keys of the task file, ``["training.max_steps=60"]`` or ``{"training.max_steps": 60}``.
        twin: train the same cell without wrong labels first, whose schedule it then takes over; the report's
            ``noise_transfer`` says what the wrong labels cost against it.
        tokenizer: of the inputs of a model that is no name; None reads the task's words one by one.
        model_name: what a model that is no name is called, in reports and folders; None takes that of its class or
            function, with a part of its hash.
        settings: how to run it; ``options`` are fields of ``Settings`` that differ: ``output_path``, ``device``,
            ``dtype``, ``batch_size``, ``limit``, ``overwrite``, ``rediagnose``, ``train``, ``snapshots`` and more.

    Returns:
        The report; a list of them where a list was given. Twins that were not asked for are in their folders only.

    Raises:
        UserError: when the input is wrong, or names several noise rates.
        TypeError: for an option that there is not.
    """
    several, progress = isinstance(noise_rate, Iterable) or isinstance(seed, Iterable), Progress(quiet=quiet)
    try:
        reports = run_cells(
            task,
            model=model,
            noise_rates=_listed(noise_rate),
            seeds=_listed(seed),
            profile=profile,
            overrides=overrides,
            plugins=plugins,
            twin=twin,
            tokenizer=tokenizer,
            model_name=model_name,
            progress=progress,
            single=not several,
            settings=settings,
            **options,
        )
    finally:
        progress.passing("")
    return reports if several else reports[0]


def _listed(given: Any) -> list[Any]:
    """One or several numbers as a list of Python's own, also where they are another library's; of None none."""
    own = given.tolist() if hasattr(given, "tolist") else given
    if own is None:
        return []
    return list(own) if isinstance(own, Iterable) else [own]


def run_cells(
    task: str | Path,
    *,
    model: str | nn.Module | Callable[..., nn.Module],
    noise_rates: Sequence[float] = (),
    seeds: Sequence[int] = (),
    profile: str | None = None,
    overrides: Overrides = (),
    plugins: Sequence[str | Path] = (),
    twin: bool = False,
    tokenizer: Any = None,
    model_name: str | None = None,
    progress: Progress | None = None,
    single: bool = False,
    settings: Settings | None = None,
    **options: Any,
) -> list[Report]:
    """All cells of noise rates times seeds, one after the other, twins first; see ``run``.

    Started in several processes, as by ``accelerate launch``, all train together and the first returns the reports.
    """
    from .pipeline.cell import cell_folder
    from .pipeline.process import undisturbed
    from .pipeline.request import recall
    from .pipeline.runner import run_cell
    from .pipeline.settings import Settings
    from .training.distributed import leave

    settings = (settings or Settings()).having(options)
    progress = progress or Progress()
    registry = load_plugins(plugins)
    named = name_of(model, registry, tokenizer=tokenizer, model_name=model_name)
    spec = load_task(task, profile=profile, overrides=overrides, registry=registry)
    asked, cells = cells_of(spec, named, noise_rates, seeds, registry, settings, twin=twin)
    if single and len(asked) > 1:
        raise UserError(
            f"{task} names {len(asked)} noise rates", where="run()", hint="give one, or a list, as noise_rate"
        )
    done: dict[tuple[Seeds, float], record.Report] = {}

    def known(run: Callable[..., record.Report | None], cell: TaskSpec, rate: float) -> bool:
        first = done.get((cell.seeds, 0.0)) if rate else None
        found = run(cell, named, rate, settings=settings, registry=registry, progress=progress, twin=first)
        if found is not None:
            done[cell.seeds, rate] = found
        return found is not None

    def waits(cell: TaskSpec, rate: float) -> bool:
        """Whether a twin comes first that is yet to be run, and so what is asked of the cell is not known."""
        return rate > 0 and (cell, 0.0) in cells and (cell.seeds, 0.0) not in done

    left = [(cell, rate) for cell, rate in cells if waits(cell, rate) or not known(recall, cell, rate)]
    require_drawable(spec, [rate for _, rate in left], registry, asked=bool(noise_rates))
    if left:
        with undisturbed():
            try:
                for cell, rate in left:
                    known(run_cell, cell, rate)  # a process that only helps to train has no report
            except Exception:
                if rate == 0 and any(other for _, other in left):
                    progress.warn(
                        "the cell at noise rate 0 failed, so that those that take over its schedule are not run"
                    )
                raise
            finally:
                leave()
    return [
        Report(done[cell.seeds, rate], cell_folder(settings.output_path, cell, named, rate))
        for cell, rate in asked
        if (cell.seeds, rate) in done
    ]


def sweep_cells(
    file: str | Path,
    *,
    output_path: str | Path = "runs",
    executor: str = "local",
    workers: int | None = None,
    stack: int | Literal["auto"] | None = None,
    address: str | None = None,
    submitit: Mapping[str, Any] | None = None,
    plugins: Sequence[str | Path] = (),
    overwrite: bool = False,
    rediagnose: bool = False,
    quiet: bool = False,
) -> Mapping[str, Any]:
    """All cells of a sweep file, several at a time; those that are done already are left alone.

    Args:
        executor: ``local``, ``ray`` or ``submitit``, which hands cells to SLURM.
        workers: how many cells at a time, or stacks of them; None as many as the machine holds.
        stack: how many cells of one task, recipe and architecture are trained as one at most; ``auto`` is as many as
            fit on a GPU, and none on a processor; None leaves it to the file.
        address: of a running Ray cluster.
        submitit: options of submitit's ``AutoExecutor``, as ``{"slurm_partition": "gpu", "timeout_min": 240}``.
        rediagnose: measure and diagnose finished cells again, without their training.

    Returns:
        The summary that also stands in the output folder: what became of each cell.

    Raises:
        UserError: when the input is wrong, with every fault; nothing has been run then.
        KeyboardInterrupt: once the cells have saved their state.
    """
    from .sweep import conduct, record
    from .sweep.board import Board

    registry = load_plugins(plugins)
    found = sweep_of(
        file,
        output_path,
        registry,
        executor=executor,
        workers=workers,
        address=address,
        submitit=submitit,
        stack=stack,
        plugins=plugins,
        overwrite=overwrite,
        rediagnose=rediagnose,
    )
    output, wanted, phases = placed(output_path), found.wanted, found.phases
    with Board(wanted.title, quiet=quiet) as board:
        if phases is not None:
            board.totals = phases.totals
        states = conduct.conduct(
            found.jobs,
            found.pool,
            board,
            registry,
            lambda states: record.keep(wanted, output, states, phases),
            stack=wanted.run.stack,
            further=phases,
        )
    return record.entry(wanted, states, phases)


def validate(files: Sequence[str | Path], *, plugins: Sequence[str | Path] = ()) -> list[UserError]:
    """Every fault of every task or sweep file, and of all profiles; an empty list when there is none."""
    return examine(files, plugins=plugins).faults


def remarks(files: Sequence[str | Path], *, plugins: Sequence[str | Path] = ()) -> list[str]:
    """What is to be known of valid task files before they are run, a line each."""
    return examine(files, plugins=plugins).remarks


def build_leaderboard(
    reports: Sequence[str | Path],
    output_path: str | Path,
    *,
    comparisons: Sequence[str | Path] = (),
    export: str | None = None,
    plugins: Sequence[str | Path] = (),
    workers: int = 1,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Rank the models of many reports and write ``leaderboard.json``, ``.md``, ``.tex`` and ``index.html``.

    Args:
        reports: ``report.json`` files, and folders that hold some.
        comparisons: sweep files of published ones. Each becomes one table, every model by the recipe that its trials
            chose, once all of its trials and cells are found among the reports.
        export: ``every-eval-ever`` writes each counted report in that interchange schema too.
        workers: processes that read reports; more than one needs a main module that can be imported.

    Returns:
        The content of ``leaderboard.json``; what was left out, and why, stands under ``refused``.

    Raises:
        UserError: when there is no report, a comparison is not what its rules make of the reports, or the output cannot
            be written.
    """
    from .leaderboard.build import build
    from .sweep.comparing import comparison_of

    registry = load_plugins(plugins)
    progress = progress or Progress()
    return build(
        reports,
        placed(output_path),
        registry=registry,
        plugins=plugins,
        comparisons=[comparison_of(of_user(file), registry) for file in comparisons],
        export=export,
        workers=workers,
        say=progress.say,
        warn=progress.warn,
    )


def check_report(
    path: str | Path,
    *,
    rerun: bool = False,
    task: str | Path | None = None,
    plugins: Sequence[str | Path] = (),
    progress: Progress | None = None,
) -> Check:
    """Compute a report's numbers again from the files beside it, and its examples from its task and seeds.

    Args:
        path: the file, or the folder that holds ``report.json``.
        rerun: train and diagnose the cell again too, in a temporary folder, and compare every metric.
        task: your own file of the report's task, where its questions stand in files, which do not come with a report.

    Raises:
        UserError: when there is no report to check, or no such task.
    """
    from .leaderboard.check import check

    registry = load_plugins(plugins)
    progress = progress or Progress()

    def run_again(spec: TaskSpec, model: str, rate: float, settings: Settings) -> record.Report:
        from .pipeline.process import undisturbed
        from .pipeline.runner import run_cell

        with undisturbed():
            report = run_cell(spec, model, rate, settings=settings, registry=registry, progress=progress)
        assert report is not None  # one process trains here
        return report

    return check(Path(path), registry, run_again if rerun else None, task)
