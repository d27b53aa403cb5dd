"""From a sweep file to blocks of cells, or to every fault of its shape at once."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from ..errors import Faults, UserError, clipped, did_you_mean
from ..paths import is_file, of_user
from ..spec import shape
from ..spec.loader import located, override
from ..spec.model import Seeds, too_close
from ..spec.options import Fault, OptionFaults, build, describe, shown
from ..spec.source import Path_, Source, read

MOST_CELLS = 10_000


@dataclass(frozen=True)
class Run:
    """How to run each cell of a sweep.

    Attributes:
        device: `auto`, `cpu`, `cuda`, ...
        dtype: of the weights.
        batch_size: of evaluation and diagnostics; chosen by the model's size when null.
        limit: use at most so many examples of each split, for a quick look.
        compile: models whose training steps torch.compile makes.
        threads_per_cell: processor threads of a cell; one for a small model and all cores for a large one when null.
        gpus_per_cell: GPUs of a cell, a share of one when below 1; one where there are any when null.
        stack: cells of one task, recipe and architecture that are trained as one at most, 1 for none; when null as many
            as fit on a GPU, and none on a processor, which gains nothing by it.
    """

    device: str = "auto"
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    batch_size: int | None = field(default=None, metadata={"min": 1})
    limit: int | None = field(default=None, metadata={"min": 2})
    compile: tuple[str, ...] = ()
    threads_per_cell: int | None = field(default=None, metadata={"min": 1})
    gpus_per_cell: float | None = field(default=None, metadata={"min": 0})
    stack: int | None = field(default=None, metadata={"min": 1})

    def __post_init__(self) -> None:
        gpus = self.gpus_per_cell
        if gpus is not None and gpus > 1 and gpus != int(gpus):
            raise ValueError(f"gpus_per_cell: {gpus:g} is neither whole nor below 1")


@dataclass(frozen=True)
class TaskEntry:
    """A task as a sweep names it; ``place`` is where."""

    reference: str
    profile: str | None
    overrides: tuple[Source, ...]
    place: str


@dataclass(frozen=True)
class ModelEntry:
    """A model as a sweep names it; ``place`` is where."""

    name: str
    overrides: tuple[Source, ...]
    place: str


@dataclass(frozen=True)
class Block:
    """Tasks times models times noise rates times seeds.

    Attributes:
        rates, seeds: each task's own when None.
        rates_at: where the rates stand.
    """

    tasks: tuple[TaskEntry, ...]
    models: tuple[ModelEntry, ...]
    rates: tuple[float, ...] | None
    seeds: tuple[Seeds, ...] | None
    rates_at: str


@dataclass(frozen=True)
class Definition:
    """A sweep file, read and found to have the right shape.

    Attributes:
        source: the file's data, in which ``tuning`` and ``contrasts`` stand.
    """

    name: str
    title: str
    description: str
    blocks: tuple[Block, ...]
    run: Run
    file: Path
    source: Source


@lru_cache(maxsize=1)
def schema() -> dict[str, Any]:
    """The JSON schema of a sweep file; ``run`` is filled in from the class that it builds."""
    loaded: dict[str, Any] = json.loads((Path(__file__).parent / "sweep.schema.json").read_text(encoding="utf-8"))
    properties = {o.name: {"description": f"{o.description} ({o.type})", "default": o.default} for o in describe(Run)}
    loaded["properties"]["run"].update(properties=properties, additionalProperties=False)
    return loaded


@lru_cache(maxsize=1)
def _validator() -> Any:
    return shape.validator(schema())


def is_sweep(path: str | Path) -> bool:
    """Whether a file is a sweep and not a task: only a sweep has a list of tasks."""
    try:
        return is_file(of_user(path)) and "tasks" in read(of_user(path)).data
    except UserError:  # whoever reads it for good says what is wrong
        return False


def load(path: Path) -> Definition:
    """Read a sweep file.

    Raises:
        UserError: when it cannot be read.
        Faults: with everything in which it differs from the schema, each with its line.
    """
    source = read(path)
    data = source.data
    faults = [fault for error in _validator().iter_errors(data) for fault in _faults(error)]
    run = None
    try:
        given = data.get("run", {})
        run = build(Run, given if isinstance(given, Mapping) else {}, ("run",))
    except OptionFaults as error:
        faults += error.faults
    if faults:
        raise Faults(located(source, faults))
    assert run is not None  # a fault would have been raised
    if many := _too_many(data):
        raise Faults(located(source, [many]))
    whole, wrong = {key: data[key] for key in data if key != "include"}, list[UserError]()
    blocks = [_block(source, whole, (), wrong)]
    blocks += [_block(source, part, ("include", i), wrong) for i, part in enumerate(data.get("include", ()))]
    named = {each.name for block in blocks for each in block.models}
    for at in (("noise_rates",), *(("include", i, "noise_rates") for i in range(len(data.get("include", ()))))):
        if close := too_close(_at(data, at) or ()):
            wrong += located(source, [Fault(at, close, "six digits count")])
    unnamed = [
        Fault(("run", "compile", i), f"{clipped(name)} is no model of this sweep", did_you_mean(name, named))
        for i, name in enumerate(run.compile)
        if name not in named
    ]
    wrong += located(source, unnamed)
    if wrong:
        raise Faults(wrong)
    return Definition(
        name=data["name"],
        title=data.get("title", data["name"]),
        description=" ".join(data.get("description", "").split()),
        blocks=tuple(blocks),
        run=run,
        file=path,
        source=source,
    )


def _faults(error: Any) -> list[Fault]:
    at = tuple(error.absolute_path)
    if "propertyNames" in error.absolute_schema_path and at[:1] != ("tuning",):
        return [Fault((*at, error.instance), f"{error.instance} can only stand in a task file")]
    if error.validator == "additionalProperties" and at[:1] == ("run",):
        return []  # the class that it builds says more
    return shape.faults(error, _words)


def _words(at: Path_, value: Any, rule: str) -> str | None:
    """One fault in a clause, where a sweep file has words of its own."""
    if len(at) > 1 and at[-2] == "noise_rates":
        return f"a noise rate must be at least 0 and below 1, not {shown(value)}"
    if at == ("tuning", "configurations") and rule == "minProperties":
        return "must be two or more, as of one there is nothing to choose"
    if len(at) == 3 and at[0] == "contrasts" and rule in ("minItems", "maxItems"):
        return f"must name two {str(at[2]).replace('_', ' ')}, not {len(value)}"
    return None


def _block(source: Source, data: Mapping[str, Any], at: Path_, wrong: list[UserError]) -> Block:
    """One block; what it lacks is taken from the top of the file."""

    def find(key: str) -> tuple[Any, Path_]:
        return (data[key], (*at, key)) if key in data else (source.data.get(key), (key,))

    tasks, tasks_at = find("tasks")
    models, models_at = find("models")
    (rates, rates_at), seeds = find("noise_rates"), find("seeds")[0]
    shared: list[Path_] = [("overrides",)] if not at else [("overrides",), (*at, "overrides")]
    entries = []
    for i, entry in enumerate(tasks):
        given = {"task": entry} if isinstance(entry, str) else entry
        overrides = [
            each for path in (*shared, (*tasks_at, i, "overrides")) for each in overrides_at(source, path, wrong)
        ]
        entries.append(TaskEntry(given["task"], given.get("profile"), tuple(overrides), source.where((*tasks_at, i))))
    named = []
    for i, entry in enumerate(models):
        name = entry if isinstance(entry, str) else entry["model"]
        own = overrides_at(source, (*models_at, i, "overrides"), wrong)
        named.append(ModelEntry(name, tuple(own), source.where((*models_at, i))))
    return Block(
        tasks=tuple(entries),
        models=tuple(named),
        rates=None if rates is None else tuple(rate + 0.0 for rate in rates),
        seeds=None if seeds is None else _seeds(seeds),
        rates_at=source.where(rates_at),
    )


def _too_many(data: Mapping[str, Any]) -> Fault | None:
    """Whether a sweep asks for more cells than anybody waits for, counted before any is made."""
    total = 0
    for block in ({}, *data.get("include", ())):
        merged = {**data, **block}
        seeds, rates = merged.get("seeds") or [0], merged.get("noise_rates") or [0]
        lists = [seeds] if isinstance(seeds, list) else list(seeds.values())
        total += math.prod(map(len, (merged["tasks"], merged["models"], rates, *lists)))
    tuning = data.get("tuning")
    if isinstance(tuning, Mapping):
        total += math.prod(map(len, (data["tasks"], data["models"], tuning["configurations"], tuning["seeds"])))
    if total <= MOST_CELLS:
        return None
    return Fault((), f"asks for {total:,} cells, and a sweep has {MOST_CELLS:,} at most", "write several sweeps")


def _at(data: Any, path: Path_) -> Any:
    for key in path:
        data = data.get(key) if isinstance(data, Mapping) else data[key]
        if data is None:
            return None
    return data


def overrides_at(source: Source, path: Path_, wrong: list[UserError]) -> list[Source]:
    """The overrides at a path of the file, with the lines on which they stand."""
    value: Any = source.data
    for key in path:
        if isinstance(value, str) or (isinstance(value, Mapping) and key not in value):
            return []
        value = value[key]
    if isinstance(value, Mapping):
        places = {p[len(path) :]: where for p, where in source.places.items() if p[: len(path)] == path}
        return [Source(dict(value), places)]
    out = []
    for i, text in enumerate(value):
        try:
            out.append(override(text, source.where((*path, i))))
        except Faults as error:
            wrong += error.faults
        except UserError as error:
            wrong.append(error)
    return out


def _seeds(given: Any) -> tuple[Seeds, ...]:
    """Each seed for everything, or the seeds by kind, crossed."""
    if isinstance(given, list):
        return tuple(Seeds.all(seed) for seed in given)
    names = ["data", *(name for name in (f.name for f in fields(Seeds)) if name != "data" and name in given)]
    out = []
    for values in itertools.product(*(given.get(name, [0]) for name in names)):
        chosen = dict(zip(names, values, strict=True))
        out.append(Seeds(**{f.name: chosen.get(f.name, chosen["data"]) for f in fields(Seeds)}))
    return tuple(out)
