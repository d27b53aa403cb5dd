"""A finished cell is diagnosed again: what training left behind is kept, all that follows is made anew.

So a diagnostic can be added, or its options or version changed, without training again. Whatever decides the training
must be the same, and the snapshots those that the report names by their hashes. The old report and its files stay until
the new ones are whole.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UserError
from ..hashing import digest, sha256
from ..report import beside, build, card, record, write
from . import snapshots
from .identity import AFTERWARDS, TRAINING, differing, other_code
from .learning import look
from .twins import OF_SCHEDULE, stands, told

if TYPE_CHECKING:
    from ..subject import Subject
    from ..training.curve import Evaluation
    from .cell import Cell
    from .making import Made

STAGING = ".rediagnosis"  # in the cell's folder: what is made until it is whole
CHECKPOINTS = "checkpoints"


def rediagnose(cell: Cell, made: Made, twin: record.Report | None) -> record.Report:
    """Measure and diagnose the snapshots of a finished cell, and replace its report.

    Args:
        made: its examples, and the model from which its training began.
        twin: as ``runner.run_cell`` takes it.

    Returns:
        The report; the one that is there where nothing in it would change.

    Raises:
        UserError: when the cell cannot be diagnosed without training, saying why; nothing is touched then.
    """
    old, curve = _trained(cell, made, twin)
    if curve is None:
        return old
    _remark(cell, made, old)
    cell.timings.earlier += old.timings.training + old.timings.evaluation
    cell.timings.earlier_cpu += _cpu(old.timings)
    subject = made.subject(cell)
    if curve:
        _restore(cell, subject, old, curve)
    elif cell.settings.snapshots:
        subject.anatomies = snapshots.given_snapshots(cell, subject.anatomy(), made.loaded)
    staging = cell.folder / STAGING
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir()
    try:
        training = replace(old.training, schedule=made.schedule)
        report = look(replace(cell, folder=staging), made, subject, training)
        report = replace(report, timings=_timings(report.timings, old.timings))
        _compare(cell, report, old)
        report = replace(report, warnings=tuple(cell.warnings))
        _put_in_place(cell.folder, staging)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    if curve:
        write.write_lines(cell.folder / beside.DYNAMICS, [point.plain() for point in curve])
        card.write_cards(cell.folder / CHECKPOINTS, report, curve)
    report = replace(report, artifacts=build.artifacts(cell.folder))
    write.save_report(cell.folder / write.FILE, report)
    return report


def is_done(cell: Cell, made: Made, twin: record.Report | None) -> record.Report | None:
    """The report of a finished cell in which nothing would change; None where it can be diagnosed again.

    Raises:
        UserError: as ``rediagnose``.
    """
    old, curve = _trained(cell, made, twin)
    return old if curve is None else None


def _trained(cell: Cell, made: Made, twin: record.Report | None) -> tuple[record.Report, Sequence[Evaluation] | None]:
    """The report of a finished cell with its learning curve, empty without training; None where nothing would change.

    Raises:
        UserError: as ``rediagnose``.
    """
    if cell.processes.count > 1:
        raise UserError("one process diagnoses a cell", where="--rediagnose", hint="start it in one")
    path = cell.folder / write.FILE
    old = write.load_report(path)
    if old.status != "success":
        raise _refused(path, f"that run is not finished ({old.status})", "run it without --rediagnose")
    if not old.kept:
        raise _refused(path, record.NOT_KEPT, "let the model keep all state in parameters and buffers")
    _as_trained(made, old, path, twin)
    check_signature(made, old, path)
    if _nothing_new(made.facts.identity, old):
        cell.progress.say(f"already done: {path}")
        return old, None
    curve = _curve(cell.folder, old) if old.training.steps else []
    if curve:
        _check_snapshots(cell.folder, old)
    return old, curve


def check_signature(made: Made, old: record.Report, path: Path) -> None:
    """Whether the model answers, before training, as that of a report did.

    Raises:
        UserError: when it does not, although its code and weights have the same hashes.
    """
    from ..models.signature import alike

    if not alike(made.facts.model.signature, old.model.signature, dtype=old.environment.dtype):
        raise UserError(
            f"{old.model.name} answers otherwise than the model of that report, by code or values that no hash sees",
            where=str(path),
            hint="give it another name or the cell another place; --overwrite (in Python overwrite=True) replaces it",
        )


def _refused(path: Path, why: str, hint: str = "--overwrite trains the cell anew") -> UserError:
    return UserError(f"cannot be diagnosed without training: {why}", where=str(path), hint=hint)


def _as_trained(made: Made, old: record.Report, path: Path, twin: record.Report | None) -> None:
    """Let the cell be the one that was trained: in the way, and by the schedule, that the report says.

    Raises:
        UserError: naming what decides the training and differs.
    """
    facts, parts = made.facts, dict(made.facts.identity.parts)
    was = old.identity.parts
    apart = {
        field
        for field in differing(parts, was)
        if field.partition(".")[0] != "diagnostics" and field not in {f"versions.{room}" for room in AFTERWARDS}
    }
    request = facts.identity.request
    if parts["way"] is not None and was.get("way") is not None and "way" in apart:
        apart.remove("way")
        parts["way"], request = was["way"], None
    scheduled = apart & OF_SCHEDULE
    if scheduled == {"schedule.twin"} and made.schedule.settle == "twin":  # it was diagnosed again itself
        apart -= scheduled
    elif scheduled and stands(scheduled, old, twin):
        apart -= scheduled
        made.schedule = old.training.schedule
        parts["schedule"], request = asdict(made.schedule), None
    if apart:
        hint = "give what it was trained with, or train it anew with --overwrite"
        if scheduled and old.training.schedule.settle == "twin" and twin is None:
            hint = "add --twin"
        raise _refused(path, f"it differs in {told(sorted(apart), old, twin)}", hint)
    code = dict(facts.identity.code) | {room: old.identity.code[room] for room in TRAINING & old.identity.code.keys()}
    facts.identity = record.Identity(digest(parts), parts, code, request)
    facts.environment = replace(
        facts.environment, compiled=old.environment.compiled, processes=old.environment.processes
    )


def _nothing_new(identity: record.Identity, old: record.Report) -> bool:
    failed = any(entry.status == "failed" for entry in old.diagnostics.values())
    return identity.hash == old.identity.hash and not other_code(identity.code, old.identity.code) and not failed


def _curve(folder: Path, old: record.Report) -> list[Evaluation]:
    """The evaluations that were made during training.

    Raises:
        UserError: when neither the file that the report names nor the report has them.
    """
    found = beside.curve(old, folder)
    if not found:
        raise _refused(folder / write.FILE, f"its curve is neither in {beside.DYNAMICS} nor in the report")
    return found


def _check_snapshots(folder: Path, old: record.Report) -> None:
    """See that the snapshots are those that the report names.

    Raises:
        UserError: naming the first file that is missing or another one.
    """
    for name in old.training.snapshots:
        place = f"{CHECKPOINTS}/{name}/"
        kept = [a for a in old.artifacts if a.path.startswith(place) and a.path != f"{place}{card.FILE}"]
        if not any(artifact.path.endswith(".safetensors") for artifact in kept):
            raise _refused(folder / write.FILE, f"the report names no weights of the snapshot {name}")
        for artifact in kept:
            file = folder / artifact.path
            if not file.is_file():
                raise _refused(folder / write.FILE, f"{artifact.path} is missing")
            if sha256(file) != artifact.sha256:
                raise _refused(folder / write.FILE, f"{artifact.path} is not the file that the report names")


def _restore(cell: Cell, subject: Subject, old: record.Report, curve: Sequence[Evaluation]) -> None:
    """Give the subject what training left behind."""
    from ..training.course import without_pre

    subject.curve = curve
    subject.snapshots = dict(old.training.snapshots)
    subject.without_pre = without_pre(curve, cell.spec.training.snapshot_share)
    subject.anatomies = snapshots.kept_snapshots(cell.folder / CHECKPOINTS, subject.anatomy(), subject.snapshots)


def _remark(cell: Cell, made: Made, old: record.Report) -> None:
    """Warn of what is not as it was when the cell was trained."""
    now, then = made.facts.environment, old.environment
    names = ("python", "torch", "transformers", "platform", "cpu", "device", "threads")
    moved = [f"{name} {getattr(then, name)}, now {getattr(now, name)}" for name in names]
    moved = [text for name, text in zip(names, moved, strict=True) if getattr(then, name) != getattr(now, name)]
    if old.training.steps and moved:
        cell.warn(f"it was trained on another machine or with other versions than it is diagnosed: {'; '.join(moved)}")
    shared = [
        room
        for room in other_code(made.facts.identity.code, old.identity.code)
        if "." not in room and room not in AFTERWARDS
    ]
    if old.training.steps and shared:
        cell.warn(f"it was trained by other code of the same versions, in {', '.join(shared)}")


def _compare(cell: Cell, report: record.Report, old: record.Report) -> None:
    """Warn where the same weights no longer give the same answers."""
    own = {name for name in report.metrics if name not in report.measured_by()}
    moved = [
        f"{name} was {old.value(name):.6g} and is {report.value(name):.6g}"
        for name in sorted(own & old.metrics.keys())
        if report.value(name) is not None and old.value(name) is not None and report.value(name) != old.value(name)
    ]
    if moved:
        cell.warn(f"answers round otherwise here than when it was trained: {'; '.join(moved)}")


def _cpu(timings: record.Timings) -> float:
    """Processor seconds of training, its evaluations included, as far as they were kept."""
    return sum(timings.cpu_by_stage.get(stage, 0.0) for stage in ("training", "evaluation"))


def _timings(new: record.Timings, old: record.Timings) -> record.Timings:
    """Those of this call, with training's own."""
    stages = ("training", "evaluation")
    cpu = {**new.cpu_by_stage, **{name: old.cpu_by_stage[name] for name in stages if name in old.cpu_by_stage}}
    return replace(
        new,
        training=old.training,
        evaluation=old.evaluation,
        peak_memory_bytes=max(new.peak_memory_bytes, old.peak_memory_bytes),
        cpu_by_stage=cpu if old.cpu_by_stage else {},
    )


def _put_in_place(folder: Path, staging: Path) -> None:
    """Move what was made to where it belongs, and remove what it replaces."""
    made = [p.relative_to(staging) for p in build.own_files(staging)]
    for name in made:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        os.replace(staging / name, folder / name)
    for file in build.own_files(folder):
        name = file.relative_to(folder)
        if name not in made and name.parts[0] not in (CHECKPOINTS, beside.DYNAMICS):
            file.unlink()
