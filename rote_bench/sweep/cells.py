"""From blocks to cells: every task, model and rate looked up, every folder one cell's."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import count
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import Faults, UserError, clipped, did_you_mean
from ..models.names import parse
from ..paths import exists, is_file, of_user
from ..pipeline.cell import cell_folder
from ..pipeline.settings import Settings
from ..pipeline.twins import all_but_labels, compares_twin, waits
from ..plugins import BUILT_IN
from ..spec.loader import line, load_task, shipped
from ..spec.preflight import check_drawable, data_of, locate_fault
from ..splits import rates_of
from .sizes import approximate_size, threads_for

if TYPE_CHECKING:
    from ..plugins import Registry
    from ..spec.model import TaskSpec
    from ..spec.source import Source
    from .definition import Block, Definition, ModelEntry, TaskEntry
    from .sizes import Size

GIB = 1 << 30


@dataclass(frozen=True)
class Asked:
    """Data of which cells are made, and all noise rates that they have; ``rates_at`` is where the first were given."""

    spec: TaskSpec
    rates: list[float]
    rates_at: str | None


@dataclass(frozen=True)
class Job:
    """One cell of a sweep with all that a process needs to run it; plain data, so that it can be sent there.

    Attributes:
        settings: with the absolute folder of all cells, and the threads of this one.
        plugins: absolute paths of plugin files.
        gpus: how many, a share of one when below 1; None is one where there are any.
        size: rough number of parameters, where it is known.
        twin: folder of the cell at noise rate 0 that is run before, as this one takes over its schedule, or as a
            diagnostic compares the two.
        others: more cells, which one process trains as one with this one.
        round: of a tuning, the first or the second, of which the cell is a trial; 0 for any other.
        below: the folder of its kind below that of all cells.
    """

    spec: TaskSpec
    model: str
    rate: float
    settings: Settings
    plugins: tuple[str, ...] = ()
    gpus: float | None = None
    size: float | None = None
    twin: Path | None = None
    others: tuple[Job, ...] = ()
    round: int = 0
    below: str = ""

    @property
    def bound(self) -> bool:
        """Whether it cannot be run when its twin failed."""
        return self.twin is not None and waits(self.spec, self.rate, self.settings)

    @property
    def cells(self) -> tuple[Job, ...]:
        """All cells of its stack, or itself."""
        return (replace(self, others=()), *self.others)

    @property
    def folder(self) -> Path:
        """Where the cell's report and files go."""
        return cell_folder(self.settings.output_path, self.spec, self.model, self.rate)

    @property
    def name(self) -> str:
        """The folder below that of all cells."""
        return (Path(self.below) / self.folder.relative_to(self.settings.output_path)).as_posix()

    @property
    def task(self) -> str:
        """The task with its profile, as folders have it."""
        return self.folder.relative_to(self.settings.output_path).parts[0]

    @property
    def phase(self) -> str:
        """What the cell is for."""
        return ("cells", "first round", "second round")[self.round]

    @property
    def threads(self) -> int:
        """Processor threads."""
        return self.settings.threads or 1

    @property
    def memory(self) -> float:
        """Bytes that the cell is expected to need: the libraries, and weights, gradients, optimizer and copies."""
        return GIB + 60 * sum(each.size or 0.0 for each in (self, *self.others))


def plan(
    definition: Definition,
    registry: Registry,
    *,
    output: Path,
    plugins: Sequence[str | Path] = (),
    overwrite: bool = False,
    rediagnose: bool = False,
    workers: int | None = None,
    size_of: Size = approximate_size,
) -> list[Job]:
    """All cells, block after block; in each the first seed of everything comes first, each twin before its cells.

    A sweep that is stopped early has then seen every task and model, rather than one of them with every seed, and has
    few twins whose cells are still to come.

    Raises:
        Faults: every task, profile, override, model or rate that is wrong, and entries that share a folder.
    """
    run, files = definition.run, tuple(str(Path(file).absolute()) for file in plugins)
    shared = {name: value for name, value in asdict(run).items() if name != "compile"}
    several = None if run.stack is None else run.stack > 1
    again = {"overwrite": overwrite, "rediagnose": rediagnose}
    base = Settings.picked({**shared, "output_path": output.absolute(), **again})

    def job(spec: TaskSpec, model: str, rate: float) -> Job:
        size = size_of(model, spec.model)
        threads = run.threads_per_cell or threads_for(size, workers)
        compiled = model in run.compile
        settings = replace(base, threads=threads, compile=compiled, stacked=False if compiled else several)
        return Job(spec, model, rate, settings, files, run.gpus_per_cell, size)

    faults: dict[str, UserError] = {}
    asked: dict[str, Asked] = {}
    jobs: dict[Path, tuple[Job, tuple[str, str], tuple[int, int, int, bool]]] = {}
    pairs = count()
    for number, block in enumerate(definition.blocks):
        models = [m for m in block.models if _holds(partial(_check_model, m, registry), faults)]
        for entry in block.tasks:
            look = partial(_specs, entry, block, definition.file, registry, base.limit, faults, asked)
            common = look() if not models or any(not model.overrides for model in models) else []
            for model in models:
                specs = look(model.overrides) if model.overrides else common
                here, pair = (entry.place, model.place), next(pairs)
                for turn, (spec, rates) in enumerate(specs):
                    for made in (job(spec, model.name, rate) for rate in rates):
                        order = number, turn, pair, made.rate > 0
                        first, there, _ = jobs.setdefault(made.folder, (made, here, order))
                        if first is not made:
                            fault = _twice(made, here, there)
                            faults.setdefault(f"{fault.where} {fault.hint}", fault)
    for each in asked.values():
        _holds(partial(_check_drawable, each, registry), faults)
    found = paired([made for made, _, _ in sorted(jobs.values(), key=itemgetter(2))], registry)
    for made in [] if "tuning" in definition.source.data else found:  # which says when the rate falls
        if made.twin is None and made.rate and made.spec.training.schedule.settle == "twin":
            fault = _alone(made, jobs[made.folder][1][0])
            faults.setdefault(str(fault), fault)
    if faults:
        raise Faults(sorted(faults.values(), key=line))
    return found


def paired(jobs: Sequence[Job], registry: Registry) -> list[Job]:
    """The same cells, each that has a twin among them with its folder."""
    twins: dict[Hashable, list[Job]] = {}
    for job in jobs:
        if job.rate == 0:
            twins.setdefault(all_but_labels(job.spec, job.model), []).append(job)

    def with_twin(job: Job) -> Job:
        found = twins.get(all_but_labels(job.spec, job.model))
        wanted = waits(job.spec, job.rate, job.settings) or (job.rate > 0 and compares_twin(job.spec, registry))
        if not found or not wanted:
            return job
        twin = next((each for each in found if each.spec.seeds == job.spec.seeds), found[0])
        return replace(job, twin=twin.folder)

    return [with_twin(job) for job in jobs]


def _alone(job: Job, place: str) -> UserError:
    return UserError(
        f"the learning rate of cells such as {job.name} is to fall when their twin's did, and they have none",
        where=place,
        hint="add 0 to noise_rates, or give training.schedule.settle another value",
    )


def _check_drawable(asked: Asked, registry: Registry) -> None:
    """Whether a task can be made with all noise rates that the sweep asks for."""
    faults = check_drawable(asked.spec, registry, asked.rates or None, asked.rates_at)
    if faults:
        raise Faults(faults)


def _holds(check: Callable[[], None], faults: dict[str, UserError]) -> bool:
    """Whether a check raises nothing; its faults are kept, each once."""
    try:
        check()
    except Faults as error:
        faults.update((str(fault), fault) for fault in error.faults)
        return False
    except UserError as error:
        faults[str(error)] = error
        return False
    return True


def _check_model(entry: ModelEntry, registry: Registry) -> None:
    """Whether there is such a model, as far as that can be known without making it."""
    name = entry.name
    try:
        provider = registry.provider(name)
        if registry.source_of("models", provider.name) == BUILT_IN:
            path = of_user(parse(name).path)
            if name.startswith(("hf:.", "hf:/", "hf:~")) and not exists(path):
                raise UserError(f"no folder or file {clipped(str(path))!r}")
    except UserError as error:
        raise UserError(error.what, where=entry.place, hint=error.hint) from None


def _specs(
    entry: TaskEntry,
    block: Block,
    file: Path,
    registry: Registry,
    limit: int | None,
    faults: dict[str, UserError],
    asked: dict[str, Asked],
    overrides: tuple[Source, ...] = (),
) -> list[tuple[TaskSpec, tuple[float, ...]]]:
    """A task with each of the block's seeds, and its noise rates; none when it has faults.

    Args:
        overrides: of a model, stronger than the task's.
    """
    found: list[tuple[TaskSpec, tuple[float, ...]]] = []

    def look() -> None:
        known = {**registry.task_files(), **shipped()}
        beside = file.parent / of_user(entry.reference)
        reference = str(beside)
        if beside.suffix not in (".yaml", ".yml") and not is_file(beside) and entry.reference in known:
            reference = entry.reference
        try:
            spec = load_task(reference, registry, profile=entry.profile, overrides=(*entry.overrides, *overrides))
        except UserError as error:  # of the reference and not of what stands in the file
            if error.where == "TASK":
                hint = did_you_mean(entry.reference, known)
                raise UserError(f"unknown task {clipped(entry.reference)!r}", where=entry.place, hint=hint) from None
            if error.where in (reference, "--profile"):
                what = error.what if error.where == "--profile" else f"{clipped(entry.reference)}: {error.what}"
                raise UserError(what, where=entry.place, hint=error.hint) from None
            raise
        specs = [spec.replace(seeds=seeds) for seeds in block.seeds or (spec.seeds,)]
        data = asked.setdefault(data_of(specs[0]), Asked(specs[0], [], block.rates_at if block.rates else None))
        data.rates.extend(block.rates or specs[0].noise.rates)
        try:
            found.extend([(each, rates_of(each, registry, block.rates or (), limit=limit)) for each in specs])
        except UserError as error:
            raise locate_fault(error, spec) from None

    _holds(look, faults)
    return found


def _twice(job: Job, here: tuple[str, str], there: tuple[str, str]) -> UserError:
    task = here[0] != there[0] or here[1] == there[1]
    return UserError(
        f"makes cells that another entry makes too, such as {job.name}",
        where=here[0] if task else here[1],
        hint=f"see {there[0] if task else there[1]}; give one of them another profile, or another noise rate or seed",
    )
