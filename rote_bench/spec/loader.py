"""From a task file, a profile and flags to a ``TaskSpec``, or to every fault at once."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import Faults, UserError, did_you_mean
from .model import DiagnosticSpec, NoiseSpec, Recipe, Seeds, TaskSpec
from .options import Fault, OptionFaults, build
from .source import Path_, Source, merge, parse, read

if TYPE_CHECKING:
    from ..plugins import Registry

PACKAGE = Path(__file__).parent.parent


@lru_cache(maxsize=1)
def schema() -> dict[str, Any]:
    """The JSON schema of a task file; ``training`` and ``seeds`` are filled in from the classes that they build."""
    from .options import describe

    loaded: dict[str, Any] = json.loads((Path(__file__).parent / "task.schema.json").read_text(encoding="utf-8"))
    for key, cls in (("training", Recipe), ("seeds", Seeds)):
        properties = {
            o.name: {"description": f"{o.description} ({o.type})", "default": o.default} for o in describe(cls)
        }
        loaded["properties"][key].update(
            properties=json.loads(json.dumps(properties, default=asdict)), additionalProperties=False
        )
    return loaded


def shipped() -> dict[str, Path]:
    """The task files that come with rote-bench, by name: inside the installed package, or beside it in a checkout."""
    for folder in (PACKAGE / "shipped", PACKAGE.parent / "tasks"):
        if folder.is_dir():
            return {path.stem: path for path in sorted(folder.glob("*.yaml"))}
    return {}


def locate(reference: str, registry: Registry) -> Path:
    """The file that a TASK argument means: a path, a shipped task, or a plugin's task with a file of its own."""
    path = Path(reference)
    if path.suffix in (".yaml", ".yml") or path.exists():
        return path
    known = {**registry.task_files(), **shipped()}
    if reference in known:
        return known[reference]
    raise UserError(f"unknown task {reference!r}", where="TASK", hint=did_you_mean(reference, known))


def load_task(
    reference: str | Path, registry: Registry, *, profile: str | None = None, overrides: Sequence[str] = ()
) -> TaskSpec:
    """Load, resolve and validate a task.

    Args:
        reference: a path, or the name of a task.
        profile: one of the file's profiles.
        overrides: ``path.to.key=VALUE`` texts, strongest of all.

    Raises:
        UserError: for one fault.
        Faults: for several, each with its file and line.
    """
    path = locate(str(reference), registry)
    source = _inherit(path, ())
    profiles = source.data.pop("profiles", None) or {}
    if profile is not None:
        if not isinstance(profiles, Mapping) or profile not in profiles:
            raise UserError(
                f"{path} has no profile {profile!r}", where="--profile", hint=did_you_mean(profile, profiles)
            )
        chosen = Source(
            profiles[profile], {p[2:]: w for p, w in source.places.items() if p[:2] == ("profiles", profile)}
        )
        source = merge(source, chosen)
    for text in overrides:
        source = merge(source, _override(text))
    return _validated(source, path, profile, registry)


def _inherit(path: Path, above: tuple[Path, ...]) -> Source:
    if path.resolve() in above:
        raise UserError("extends itself in a circle", where=str(path))
    source = read(path)
    parent = source.data.pop("extends", None)
    if parent is None:
        return source
    if not isinstance(parent, str):
        raise UserError("extends must name a task file", where=source.where(("extends",)))
    base = path.parent / parent
    if not base.is_file():
        raise UserError(f"extends {parent!r}, which does not exist", where=source.where(("extends",)))
    return merge(_inherit(base, (*above, path.resolve())), source)


def _override(text: str) -> Source:
    dotted, equals, value = text.partition("=")
    if not equals or not dotted.strip("."):
        raise UserError(f"cannot understand {text!r}", where="--set", hint="write --set path.to.key=VALUE")
    parsed = parse(f"value: {value}", f"--set {dotted}").data["value"]
    keys = dotted.split(".")
    data: Any = parsed
    for key in reversed(keys):
        data = {key: data}
    places: dict[Path_, str] = {tuple(keys[:n]): f"--set {dotted}" for n in range(1, len(keys) + 1)}
    return Source(data, places)


def _validated(source: Source, path: Path, profile: str | None, registry: Registry) -> TaskSpec:
    faults = _structural(source)
    data = source.data

    def section(key: str, kind: type, default: Any) -> Any:
        value = data.get(key, default)
        return default if value is None or not isinstance(value, kind) else value

    def checked(cls: type, values: Mapping[str, Any], at: Path_) -> Any:
        try:
            return build(cls, values, at)
        except OptionFaults as error:
            faults.extend(error.faults)
            return None

    def known(kind: str, name: str, at: Path_) -> Any:
        table = registry.table(kind)
        if name not in table:
            label = {"tasks": "generator", "noise": "kind of noise", "diagnostics": "diagnostic"}[kind]
            hint = did_you_mean(name, table) + "; is a plugin missing?"
            faults.append(Fault(at, f"unknown {label} {name!r}", hint))
            return None
        return table[name]

    generator = str(data.get("generator", ""))
    task = known("tasks", generator, ("generator",)) if generator else None
    parameters = checked(task.Parameters, section("parameters", dict, {}), ("parameters",)) if task else None
    noise = section("noise", dict, {})
    kind_name = str(noise.get("kind", NoiseSpec.kind))
    kind = known("noise", kind_name, ("noise", "kind"))
    options = noise.get("options") or {}
    if kind and isinstance(options, Mapping):
        checked(kind.Options, options, ("noise", "options"))
    recipe = checked(Recipe, section("training", dict, {}), ("training",))
    if recipe:
        faults += _fits(recipe)
    seeds = checked(Seeds, section("seeds", dict, {}), ("seeds",))
    chosen = section("diagnostics", list, sorted(registry.table("diagnostics")) if "diagnostics" not in data else [])
    diagnostics = []
    for i, entry in enumerate(chosen):
        name, values = (
            (entry, {})
            if isinstance(entry, str)
            else next(iter(entry.items()))
            if isinstance(entry, dict) and entry
            else ("", {})
        )
        found = known("diagnostics", str(name), ("diagnostics", i)) if name else None
        if found:
            checked(found.Options, values or {}, ("diagnostics", i, str(name)))
            diagnostics.append(DiagnosticSpec(str(name), dict(values or {})))
    if faults:
        raise Faults([_located(source, fault) for fault in _unique(faults)])
    assert parameters is not None  # a fault would have been raised
    return TaskSpec(
        name=data["name"],
        version=data.get("version", 1),
        title=data.get("title", data["name"]),
        description=" ".join(str(data.get("description", "")).split()),
        citation=" ".join(str(data.get("citation", "")).split()),
        generator=generator,
        parameters=asdict(parameters),
        splits=dict(data["splits"]),
        noise=NoiseSpec(kind_name, tuple(float(r) for r in noise.get("rates", NoiseSpec.rates)), dict(options)),
        model=dict(section("model", dict, {})),
        training=recipe,
        diagnostics=tuple(diagnostics),
        seeds=seeds,
        source=str(path),
        profile=profile,
    )


def _structural(source: Source) -> list[Fault]:
    """Faults against the schema, in this project's words."""
    from jsonschema import Draft202012Validator

    faults = []
    for error in Draft202012Validator(schema()).iter_errors(source.data):
        at = tuple(error.absolute_path)
        if at and at[0] in ("training", "seeds"):  # their classes give better messages
            continue
        if error.validator == "additionalProperties":
            allowed = error.schema.get("properties", {})
            faults += [
                Fault((*at, key), f"unknown key {key!r}", did_you_mean(key, allowed))
                for key in error.instance
                if key not in allowed
            ]
        elif error.validator == "required":
            faults += [
                Fault(at, f"the key {key!r} is missing") for key in error.validator_value if key not in error.instance
            ]
        elif error.validator == "type":
            names = {
                "object": "a mapping",
                "array": "a list",
                "string": "text",
                "integer": "an integer",
                "number": "a number",
            }
            faults.append(
                Fault(
                    at,
                    f"must be {names.get(str(error.validator_value), error.validator_value)}, not {error.instance!r}"[
                        :200
                    ],
                )
            )
        elif at[:1] == ("splits",):
            faults.append(
                Fault(at, f"must be a count of at least 1 or a share between 0 and 1, not {error.instance!r}")
            )
        elif at[:2] == ("noise", "rates") and len(at) == 3:
            faults.append(Fault(at, f"a noise rate must be at least 0 and below 1, not {error.instance!r}"))
        elif error.validator == "pattern":
            faults.append(Fault(at, f"{error.instance!r} must be lower-case letters, digits and underscores"))
        elif at[:1] == ("diagnostics",):
            faults.append(Fault(at, f"must be a diagnostic's name or {{name: options}}, not {error.instance!r}"))
        else:
            faults.append(Fault(at, error.message))
    return faults


def _fits(recipe: Recipe) -> list[Fault]:
    """How the numbers of a recipe fit together."""
    faults = []
    needed = recipe.schedule.warmup + recipe.schedule.anneal
    if needed > recipe.max_steps:
        faults.append(
            Fault(
                ("training", "max_steps"),
                f"{recipe.max_steps} steps are fewer than warmup and anneal together, {needed}",
            )
        )
    if recipe.evaluate_every > recipe.max_steps:
        faults.append(
            Fault(("training", "evaluate_every"), f"{recipe.evaluate_every} is more than max_steps {recipe.max_steps}")
        )
    return faults


def _unique(faults: Sequence[Fault]) -> list[Fault]:
    """One fault for each path: the first, which is the schema's."""
    seen: dict[tuple[Path_, str], Fault] = {}
    for fault in faults:  # several missing keys share the path of what should hold them
        seen.setdefault((fault.path, fault.what if fault.what.startswith("the key") else ""), fault)
    return list(seen.values())


def _located(source: Source, fault: Fault) -> UserError:
    dotted = ".".join(map(str, fault.path))
    what = f"{dotted}: {fault.what}" if dotted else fault.what
    return UserError(what, where=source.where(fault.path), hint=fault.hint)
