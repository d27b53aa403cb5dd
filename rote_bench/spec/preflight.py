"""What can be known of a task file before anything is trained: faults, splits that fit, labels that can be drawn."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import Faults, UserError, clipped
from ..noise import label_held_out, label_train
from ..splits import check_clean, check_examples, check_memory, check_questions, make_noise, make_task, rates_of
from ..tasks.example import WORD
from ..tasks.hooks import least_train
from .loader import inherit, load_task, locate
from .model import TaskSpec

if TYPE_CHECKING:
    from ..noise import Labelled, NoiseKind
    from ..plugins import Registry
    from ..tasks.example import Task

MOST_PROFILES = 50  # as the schema has it
SAMPLE = 4096  # examples of a split that are made and labelled, however many it has


@dataclass
class Examined:
    """What is found in files before anything is trained: their faults, and what is to be known of those without any."""

    faults: list[UserError] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def examine_file(reference: str | Path, registry: Registry, say: Callable[[str], None] = lambda text: None) -> Examined:
    """Every fault of a task file, of each of its profiles and of the data that they ask for; remarks if there is none.

    Args:
        reference: a path, or the name of a task.
        say: is told what is being looked at.
    """
    faults: dict[str, UserError] = {}
    remarks: dict[str, None] = {}
    made: dict[str, Task] = {}
    looked_at: set[str] = set()

    def look(profile: str | None) -> None:
        say(f"{reference}: {profile or 'task'}")
        try:
            spec = load_task(reference, registry, profile=profile)
            if spec.training.stop_at is not None:
                early = "cells that end before their schedule does are compared with no twin"
                remarks[f"{spec.place('training.stop_at')}: {early}"] = None
            own = spec.parameters.get("noisy") if spec.generator == "dataset" else None
            if own and spec.noise.kind != "given":
                idle = f"the labels of the column {own!r} are taught by noise of the kind given alone"
                remarks[f"{spec.place('noise.kind')}: {idle}"] = None
            content = f"{data_of(spec)} {spec.noise.rates}"
            if content in looked_at:  # a profile of the recipe alone has the same data
                return
            looked_at.add(content)
            task = _drawn(spec, registry, None, made)
            said = (*task.remarks(), *task.untaught(task.split(spec.splits, spec.seeds.data)))
            remarks.update((f"{spec.place('parameters')}: {each}", None) for each in said)
        except UserError as error:
            found = error.faults if isinstance(error, Faults) else (error,)
            for fault in found:  # one that the task has without a profile is told once
                faults.setdefault(str(fault), _in_profile(fault, profile, str(Path(reference))))

    look(None)
    try:
        profiles = inherit(locate(str(reference), registry)).data.get("profiles")
    except UserError:  # found just above
        profiles = None
    if not faults or (isinstance(profiles, dict) and len(profiles) <= MOST_PROFILES):
        for profile in profiles if isinstance(profiles, dict) else ():
            look(profile)
    return Examined(list(faults.values()), [] if faults else list(remarks))


def _in_profile(fault: UserError, profile: str | None, file: str) -> UserError:
    """A fault that names the profile in which it is one, where its line stands in a file that is extended."""
    if profile is None or (fault.where or "").startswith(f"{file}:"):
        return fault
    return UserError(f"{fault.what}, in profile {clipped(profile)}", where=fault.where, hint=fault.hint)


def data_of(spec: TaskSpec) -> str:
    """What decides the labelled examples but for the noise rate: the same text for the same data."""
    options = (spec.noise.kind, spec.noise.options)
    return repr((spec.generator, spec.parameters, spec.source, spec.splits, options, spec.seeds.data, spec.seeds.noise))


def check_drawable(
    spec: TaskSpec, registry: Registry, rates: Sequence[float] | None = None, rates_at: str | None = None
) -> list[UserError]:
    """Whether the task can be made, its splits fit it and the memory, no question stands twice, and wrong labels exist.

    At most ``SAMPLE`` examples of a split are labelled, and more only when those fail.

    Args:
        rates: noise rates instead of the spec's own.
        rates_at: where those were asked for.

    Returns:
        The first fault, with the place of the key that causes it; empty when there is none.
    """
    try:
        _drawn(spec, registry, rates, {}, rates_at)
    except UserError as error:
        return [error]
    return []


def _drawn(
    spec: TaskSpec,
    registry: Registry,
    rates: Sequence[float] | None,
    made: dict[str, Task],
    rates_at: str | None = None,
) -> Task:
    """The task of a spec, found to be as ``check_drawable`` says.

    Args:
        made: tasks that were made before, by what decides them; this one is put among them.
    """
    try:
        key = repr((spec.generator, spec.parameters, spec.source, spec.seeds.data))
        task = made[key] if key in made else make_task(spec, registry)
        made.clear()  # one at a time in memory
        made[key] = task
        kind = make_noise(spec, registry)
        rates = rates_of(spec, registry) if rates is None else rates
        check_memory(task, spec)
        least_train(task)
        rows = task.split(spec.splits, spec.seeds.data)
        facts = task.facts()
        check_questions(task, rows, {name: map(task.question, part) for name, part in rows.items()}, facts)
        try:
            _draw(task, kind, spec, rates, {name: part[:SAMPLE] for name, part in rows.items()})
        except UserError:  # a sample may lack what the whole has
            _draw(task, kind, spec, rates, rows)
    except UserError as error:
        if rates_at is not None and error.where == "noise.rates":
            raise UserError(error.what, where=rates_at, hint=error.hint) from None
        raise locate_fault(error, spec) from None
    return task


def _draw(
    task: Task, kind: NoiseKind, spec: TaskSpec, rates: Sequence[float], rows: Mapping[str, Sequence[int]]
) -> None:
    """Label training and held-out examples at the extremes of the noise rates."""
    train = [task.example(i) for i in rows["train"]]
    held_out = [task.example(i) for i in rows["validation"]]
    check_examples(task, rows, {"train": train, "validation": held_out})
    seed, words = spec.seeds.noise, set(task.words())
    for rate in sorted({min(rates), max(rates)}):
        taught = label_train(task, kind, train, rows["train"], rate, seed)
        check_clean(taught, rate)
        if rate > 0 and not taught.noisy:
            raise UserError(
                f"a rate of {rate:g} makes none of {len(train)} training labels wrong",
                where="noise.rates",
                hint="raise it, or ask for 0",
            )
        phantoms = label_held_out(task, kind, held_out, rows["validation"], rate, seed, train, "validation")
        _check_words(words, taught, phantoms)


def _check_words(known: Collection[str], *parts: Labelled) -> None:
    """Whether the task's own tokenizer will know every word.

    Raises:
        UserError: naming one that it will not.
    """
    for part in parts:
        for example, label in zip(part.examples, part.labels, strict=True):
            for text, where in ((example.text, "parameters"), (label, "noise.options")):
                unknown = next((word for word in WORD.findall(text) if word not in known), None)
                if unknown is not None:
                    raise UserError(f"the task does not know the word {unknown!r} of {text!r}", where=where)


def locate_fault(error: UserError, spec: TaskSpec) -> UserError:
    """The same fault with the file and line of the key that it names."""
    key = (error.where or "").rpartition(": ")[2]
    if key.partition(".")[0] not in ("parameters", "splits", "noise"):
        return error
    return UserError(f"{key}: {error.what}", where=spec.place(key), hint=error.hint)
