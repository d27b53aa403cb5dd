"""Which cells have been done before, and what they took."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from ..comparison.trials import diverged
from ..errors import UserError
from ..pipeline.identity import NOT_PLANNED, differing, planned_parts
from ..pipeline.request import asked, made_by, surroundings
from ..pipeline.twins import schedule_of, stands
from ..report import record, write
from ..splits import make_data, make_noise, make_task
from .cells import Job

if TYPE_CHECKING:
    from ..plugins import Registry


@dataclass(frozen=True)
class Took:
    """What a finished cell took.

    Attributes:
        size: as ``Job.size``.
        seconds: of all its parts, those before an interruption included as far as they are known.
    """

    task: str
    model: str
    size: float | None
    seconds: float

    @classmethod
    def of(cls, job: Job, seconds: float) -> Took:
        """Of a cell that took so many seconds."""
        return cls(job.task, job.model, job.size, seconds)


def report_of(job: Job) -> record.Report | None:
    """The report in the cell's folder, or None when there is none that can be used."""
    try:
        return write.load_report(job.folder)
    except UserError:  # missing, or damaged: then the cell is run again
        return None


def usable(job: Job, report: record.Report) -> bool:
    """Whether a report tells what became of a cell; of a trial also one that says that its training diverged."""
    return report.status == "success" or (job.round > 0 and diverged(report))


def took(job: Job, report: record.Report) -> Took:
    """What a cell took by its report."""
    return Took.of(job, report.timings.total)


class Finished:
    """Looks whether cells are done, making each set of examples once.

    A report counts when it was made by the same request, or when everything that decides its numbers agrees and is
    known without the model. Pretrained weights and models of plugins may have changed under the same name: their cells
    go to a worker, which compares all of it.
    """

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.around = surroundings()
        self.fingerprints: dict[tuple[Any, ...], str] = {}

    def __call__(self, job: Job, report: record.Report, twin: record.Report | None = None) -> bool:
        if job.settings.overwrite or not usable(job, report):
            return False
        if job.bound and twin is None:  # what its schedule is to be, its twin will tell
            return False
        if job.settings.stacked and report.training.way == "alone":  # where it cannot be stacked, as a worker finds out
            return False
        schedule = schedule_of(job.spec, job.rate, job.settings, twin)
        given = (job.spec, job.model, job.rate, job.settings, self.registry, schedule)
        if made_by(report, asked(*given, around=self.around)):
            return True
        if report.model.source != "scratch":
            return False
        planned = planned_parts(*given)
        apart = set(differing(planned, report.identity.parts)) - NOT_PLANNED
        if apart and not stands(apart, report, twin):
            return False
        return report.data.fingerprint == self._fingerprint(job)

    def _fingerprint(self, job: Job) -> str:
        spec = job.spec
        key = (spec.content_hash(), spec.seeds.data, spec.seeds.noise, job.rate, job.settings.limit)
        if key not in self.fingerprints:
            task, kind = make_task(spec, self.registry), make_noise(spec, self.registry)
            self.fingerprints[key] = make_data(task, spec, kind, job.rate, limit=job.settings.limit).fingerprint()
        return self.fingerprints[key]


def predict(job: Job, known: Sequence[Took]) -> float | None:
    """Seconds that a cell will take, by cells of the same task.

    Those of the same model say it best, else those of the nearest size, in proportion to the parameters; None when
    nothing is known.
    """
    same = [each for each in known if each.task == job.task]
    own = [each.seconds for each in same if each.model == job.model]
    if own:
        return median(own)
    sized = [(each.size, each.seconds) for each in same if each.size]
    if not sized or not job.size:
        return None
    size = job.size
    nearest = min((s for s, _ in sized), key=lambda s: max(s, size) / min(s, size))
    return median(seconds for s, seconds in sized if s == nearest) * size / nearest
