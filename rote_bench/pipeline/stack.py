"""A stack of cells: those of one architecture and recipe are trained as one, all others by themselves."""

from __future__ import annotations

import sys
from collections.abc import Hashable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..hashing import canonical
from ..progress import Progress
from ..report import record
from ..report.build import plain_config
from . import again, lessons
from .cell import Cell
from .learning import learn_alone, learn_together
from .lock import alone
from .making import Made, can_stack
from .request import recall
from .runner import finished, prepare
from .settings import Settings

if TYPE_CHECKING:
    from ..models.load import LoadedModel
    from ..models.probe import Check
    from ..plugins import Registry
    from ..spec.model import TaskSpec

MARGIN = 0.8  # of an accelerator's free memory: as much is given to a stack at most


@dataclass(frozen=True)
class Wanted:
    """A cell of a stack; the fields are what ``run_cell`` takes."""

    spec: TaskSpec
    model_name: str
    rate: float
    settings: Settings
    progress: Progress
    twin: record.Report | None = None


def run_stack(wanted: Sequence[Wanted], registry: Registry, *, share: float = 1.0) -> list[record.Report | Exception]:
    """Run cells, as many as one as can be, or find that they are done already.

    Args:
        wanted: cells whose settings say ``stacked``.
        share: the part of the accelerator that is theirs.

    Returns:
        The report of each, or what went wrong with it.

    Raises:
        KeyboardInterrupt: after all have saved the state from which they go on.
    """
    outcomes: dict[int, record.Report | Exception] = {}
    proofs: dict[str, Check] = {}

    def stacks(loaded: LoadedModel) -> Check:
        key = canonical(plain_config(loaded.model.config)) if hasattr(loaded.model, "config") else ""
        if key not in proofs:
            proofs[key] = can_stack(loaded)
        return proofs[key]

    with ExitStack() as folders:
        groups: dict[Hashable, list[tuple[int, Cell, Made]]] = {}
        for i, each in enumerate(wanted):
            asked = (each.spec, each.model_name, each.rate)
            options: dict[str, Any] = {"settings": each.settings, "registry": registry, "twin": each.twin}
            options["progress"] = each.progress
            try:
                known = recall(*asked, **options)
                if known is not None:
                    outcomes[i] = known
                    continue
                cell, made = prepare(*asked, **options, stacks=stacks)
                folders.enter_context(alone(cell.folder))
                if each.settings.rediagnose:
                    outcomes[i] = again.rediagnose(cell, made, each.twin)
                    continue
                done = finished(cell, made, each.twin)
            except Exception as error:  # of this cell alone
                outcomes[i] = error
                continue
            if done is not None:
                outcomes[i] = done
                continue
            lessons.clear(cell)
            cell.timings.pause()
            groups.setdefault(_kind(i, made), []).append((i, cell, made))
        for members in groups.values():
            size = _room(members[0][1], members[0][2], share)
            for start in range(0, len(members), min(size, len(members))):
                _run(members[start : start + size], outcomes)
    return [outcomes[i] for i in range(len(wanted))]


def _kind(i: int, made: Made) -> Hashable:
    """What cells share that are trained as one; its number in those that are trained by themselves."""
    if made.way != "stacked":
        return i
    model, environment, recipe = made.loaded.model, made.facts.environment, made.facts.task.spec["training"]
    assert isinstance(recipe, dict)
    return (
        tuple((name, value.shape) for name, value in model.state_dict().items()),
        canonical(plain_config(model.config)),
        (environment.device, environment.precision, environment.dtype),
        tuple(recipe[key] for key in ("batch_size", "optimizer", "clip")),
    )


def _run(members: Sequence[tuple[int, Cell, Made]], outcomes: dict[int, record.Report | Exception]) -> None:
    if members[0][2].way == "stacked":
        if len(members) > 1:
            for _, cell, _ in members:
                cell.progress.say(f"trained as one with {len(members) - 1} other cells")
        found = learn_together([(cell, made) for _, cell, made in members])
        outcomes.update(zip((i for i, *_ in members), found, strict=True))
        return
    for i, cell, made in members:
        cell.timings.resume()
        try:
            report = learn_alone(cell, made)
            assert report is not None  # one process trains here
            outcomes[i] = report
        except Exception as error:  # is in its report, but for what the user has to change
            outcomes[i] = error


def _room(cell: Cell, made: Made, share: float) -> int:
    """How many models of a kind fit side by side; on a processor as many as were asked for."""
    import torch

    if made.way != "stacked" or not made.facts.environment.device.startswith("cuda"):
        return sys.maxsize
    from ..training.stacked import appetite

    data, _ = lessons.lesson_rows(made.subject(cell), cell.spec.training)
    each = appetite(made.loaded.model, data, cell.spec.training.batch_size, made.facts.environment.precision)
    free, _ = torch.cuda.mem_get_info(made.facts.environment.device)
    size = max(1, int(MARGIN * share * free / each))
    cell.progress.say(f"{size} models of {each / 2**20:.0f} MiB fit side by side")
    return size
