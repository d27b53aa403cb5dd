"""What a cell's diagnostics see of its twin: what that answers, and its model after training.

All of it is held against the twin's report, whose identity says what decides its numbers and whose artifacts say what
its files hash to. A cell's own identity does not name the twin but for the schedule: whether one stood beside decides
no number but those of diagnostics that compare with it, and these keep its hash among their details.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UserError
from ..hashing import digest, sha256
from ..models.content import of_snapshot
from ..report.record import POST, Report
from . import snapshots
from .cell import Cell, cell_folder
from .settings import TWIN

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..splits import Data
    from ..subject import Subject, Twin
    from .making import Made

SAMPLES = "samples.parquet"
SNAPSHOT = f"checkpoints/{POST}"


def twin_of(cell: Cell, subject: Subject, made: Made) -> Twin | None:
    """The twin that was run before the cell, or whose weights the user names; None without one."""
    from ..evaluation import matches
    from ..subject import Twin

    anatomy, loaded = subject.anatomy(), made.loaded
    if cell.rate == 0:
        return None
    if TWIN in cell.settings.snapshots:
        given = snapshots.open_snapshot(cell.settings.snapshots[TWIN], cell, anatomy, loaded)

        def answer() -> NDArray[np.bool_]:
            (right,) = matches(given.model, [subject.all_of("validation").true], batch_size=subject.batch_size)
            found: NDArray[np.bool_] = right.numpy()
            return found

        return Twin(of_snapshot(cell.settings.snapshots[TWIN]), answer, lambda: given)
    report = cell.twin
    if report is None or report.status != "success":
        return None
    folder = cell_folder(cell.settings.output_path, cell.spec.replace(seeds=report.seeds), cell.model_name, 0)
    files = {each.path: each.sha256 for each in report.artifacts}
    kept = {path: wanted for path, wanted in files.items() if path.startswith(f"{SNAPSHOT}/")}
    there = (folder / SNAPSHOT).is_dir()  # reports travel without their weights

    def load() -> Any:
        check(folder, kept)
        return snapshots.open_snapshot(str(folder.absolute() / SNAPSHOT), cell, anatomy, loaded)

    return Twin(
        report.identity.hash,
        lambda: answers(report, folder, subject.data),
        load if kept and there and report.kept else None,
    )


def answers(report: Report, folder: Path, data: Data) -> NDArray[np.bool_]:
    """(n,) whether the twin gives the true answer to each held-out question, as its files say.

    Raises:
        UserError: when they are not those of its report, or of other questions.
    """
    import numpy as np
    import pyarrow.parquet as pq

    if digest(report.identity.parts) != report.identity.hash:
        raise UserError("the identity of the twin's report is not that of its parts", where=str(folder))
    check(folder, {each.path: each.sha256 for each in report.artifacts if each.path == SAMPLES})
    columns = ["split", "prompt", "answer", "is_answer"]
    table = pq.read_table(folder / SAMPLES, columns=columns, filters=[("split", "=", "validation")]).to_pydict()
    asked = [(example.prompt, example.answer) for example in data.validation.examples]
    if list(zip(table["prompt"], table["answer"], strict=True)) != asked:
        raise UserError("the twin was asked other held-out questions", where=str(folder / SAMPLES))
    return np.array(table["is_answer"], dtype=bool)


def check(folder: Path, wanted: Mapping[str, str]) -> None:
    """Whether files are those of a report.

    Raises:
        UserError: when there are none, or one is missing or another.
    """
    if not wanted:
        raise UserError("the twin's report names no such file", where=str(folder))
    for path, content in wanted.items():
        if not (folder / path).is_file() or sha256(folder / path) != content:
            raise UserError(f"the twin's {path} is not that of its report", where=str(folder))
