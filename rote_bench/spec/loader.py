"""From a task file, a profile and flags to a ``TaskSpec``, or to every fault at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import Faults, UserError, clipped, did_you_mean
from ..paths import is_file, of_user
from .model import DiagnosticSpec, NoiseSpec, Recipe, Seeds, TaskSpec, too_close
from .options import Fault, OptionFaults, build, shown, spelled_out
from .source import Path_, Source, merge, parse_value, read
from .structure import schema as schema
from .structure import structural

if TYPE_CHECKING:
    from ..plugins import Registry

PACKAGE = Path(__file__).parent.parent
ONLY_IN_FILES = ("extends", "profiles")


def shipped() -> dict[str, Path]:
    """The task files that come with rote-bench, by name: inside the installed package, or beside it in a checkout."""
    for folder in (PACKAGE / "shipped", PACKAGE.parent / "tasks"):
        if folder.is_dir():
            return {path.stem: path for path in sorted(folder.glob("*.yaml"))}
    return {}


def locate(reference: str, registry: Registry) -> Path:
    """The file that a TASK argument means: a path, a folder with a task.yaml, a shipped task, or a plugin's task file.

    Raises:
        UserError: when it is none of them.
    """
    path = of_user(reference)
    known = {**registry.task_files(), **shipped()}
    try:
        if path.suffix in (".yaml", ".yml") or path.is_file():
            return path
        if reference in known:
            return known[reference]
        if (path / "task.yaml").is_file():
            return path / "task.yaml"
        if path.exists():
            return path
    except OSError:  # no file can have such a name, so it is the name of a task, mistyped
        reference = f"{reference[:40]}..."
    raise UserError(f"unknown task {reference!r}", where="TASK", hint=did_you_mean(reference, known))


def load_task(
    reference: str | Path, registry: Registry, *, profile: str | None = None, overrides: Sequence[str | Source] = ()
) -> TaskSpec:
    """Load, resolve and validate a task.

    Args:
        reference: a path, or the name of a task.
        profile: one of the file's profiles.
        overrides: ``path.to.key=VALUE`` texts, or data with its places; strongest of all, the last strongest.

    Raises:
        UserError: for one fault.
        Faults: for several, each with its file and line.
    """
    path = locate(str(reference), registry)
    source = inherit(path)
    if profile is not None:
        source = _with_profile(source, path, profile)
    given: list[Source] = []
    faults: list[UserError] = []
    for text in overrides:
        try:
            given.append(text if isinstance(text, Source) else override(text))
        except Faults as error:
            faults += error.faults
        except UserError as error:
            faults.append(error)
    if faults:
        raise Faults(faults)
    for each in given:
        source = merge(source, each)
    return _validated(source, path, profile, registry)


def inherit(path: Path, above: tuple[Path, ...] = ()) -> Source:
    """A task file merged over the one that it extends, and so on; a profile that it sets to null is taken out.

    Raises:
        UserError: when a file cannot be read or extends itself in a circle.
    """
    if path.resolve() in above:
        raise UserError("extends itself in a circle", where=str(path))
    source = read(path)
    if "extends" not in source.data:
        return source
    parent = source.data.pop("extends")
    if not isinstance(parent, str):
        raise UserError("extends must name a task file", where=source.where(("extends",)))
    base = path.parent / of_user(parent)
    if not is_file(base):
        raise UserError(f"extends {shown(parent)}, which is no file", where=source.where(("extends",)))
    inherited = inherit(base, (*above, path.resolve()))
    merged = merge(inherited, source)
    known, profiles = inherited.data.get("profiles"), merged.data.get("profiles")
    if isinstance(known, Mapping) and isinstance(profiles, Mapping):
        kept = {name: each for name, each in profiles.items() if each is not None or name not in known}
        merged.data["profiles"] = kept
    return merged


def _with_profile(source: Source, path: Path, profile: str) -> Source:
    profiles = source.data.get("profiles") or {}
    if not isinstance(profiles, Mapping) or profile not in profiles:
        known = profiles if isinstance(profiles, Mapping) else ()
        raise UserError(
            f"{path} has no profile {clipped(profile)!r}", where="--profile", hint=did_you_mean(profile, known)
        )
    if not isinstance(profiles[profile], Mapping):  # a fault of the file's shape, found with all others
        return source
    places = {p[2:]: w for p, w in source.places.items() if p[:2] == ("profiles", profile)}
    return merge(source, Source(profiles[profile], places))


def override(text: str, place: str | None = None) -> Source:
    """A ``path.to.key=VALUE`` text as data.

    Args:
        place: where the text stands; the flag ``--set`` when None.

    Raises:
        UserError: when the text is something else, or names a key that only a task file has.
    """
    dotted, equals, value = text.partition("=")
    keys = dotted.split(".")
    if not equals or not all(keys):
        raise UserError(f"cannot understand {clipped(text)!r}", where=place or "--set", hint="write path.to.key=VALUE")
    place = place or f"--set {clipped(dotted, 200)}"
    if keys[0] in ONLY_IN_FILES:
        raise UserError(f"{keys[0]} can only stand in a task file", where=place)
    data: Any = parse_value(value, place)
    places = dict.fromkeys(_paths(data, tuple(keys)), place)
    for key in reversed(keys):
        data = {key: data}
    through: dict[Path_, str] = {tuple(keys[:n]): place for n in range(1, len(keys))}
    return Source(data, places, through)


def _paths(data: Any, path: Path_) -> Iterator[Path_]:
    """A path, and those of all keys below it."""
    yield path
    if isinstance(data, Mapping):
        for key, value in data.items():
            yield from _paths(value, (*path, key))


class _Checks:
    """Gathers the faults of one task file while its parts are looked up and built."""

    def __init__(self, data: Mapping[str, Any], registry: Registry) -> None:
        self.data = data
        self.registry = registry
        self.faults = structural(data)

    def section(self, key: str) -> Mapping[str, Any]:
        """A mapping of the file, empty when it is missing or, which is a structural fault, something else."""
        value = self.data.get(key)
        return value if isinstance(value, Mapping) else {}

    def build(self, cls: type, values: Any, at: Path_) -> Any:
        """An instance of an options class, or None and faults."""
        try:
            return build(cls, values if isinstance(values, Mapping) else {}, at)
        except OptionFaults as error:
            self.faults.extend(error.faults)
            return None

    def find(self, kind: str, name: Any, at: Path_) -> Any:
        """A registered object, or None; a name that is not text is a structural fault already."""
        table = self.registry.table(kind)
        if not isinstance(name, str) or name in table:
            return table[name] if isinstance(name, str) else None
        label = {"tasks": "generator", "noise": "kind of noise", "diagnostics": "diagnostic"}[kind]
        hint = did_you_mean(name, table) + "; is a plugin missing?"
        self.faults.append(Fault(at, f"unknown {label} {clipped(name)!r}", hint))
        return None

    def diagnostics(self) -> tuple[DiagnosticSpec, ...]:
        """The diagnostics asked for; when the file does not say, all but those that must be asked for."""
        usual = [name for name, each in self.registry.table("diagnostics").items() if each.by_default]
        chosen = self.data.get("diagnostics", usual)
        out: dict[str, DiagnosticSpec] = {}
        for i, entry in enumerate(chosen if isinstance(chosen, list) else []):
            one = isinstance(entry, Mapping) and len(entry) == 1
            name, values = next(iter(entry.items())) if one else (entry, {})
            found = self.find("diagnostics", name, ("diagnostics", i))
            if found and name in out:
                self.faults.append(Fault(("diagnostics", i), f"{name!r} stands here twice", "keep one of them"))
            elif found:
                options = self.build(found.Options, values, ("diagnostics", i, name))
                out[name] = DiagnosticSpec(name, asdict(options) if options else {})
        return tuple(out.values())

    def rates(self, kind: Any) -> tuple[float, ...]:
        """The noise rates; none where the data has its own."""
        given = self.section("noise").get("rates")
        if kind and not kind.rated:
            if given is not None:
                what = f"labels of the kind {kind.name} have the rate that the data has"
                hint = "take the line out; --noise-rate 0 trains on the true labels"
                self.faults.append(Fault(("noise", "rates"), what, hint))
            return ()
        if not isinstance(given, list) or not given:
            return NoiseSpec.rates
        numbers = [rate for rate in given if isinstance(rate, int | float) and 0 <= rate < 1]
        if close := too_close(numbers):
            self.faults.append(Fault(("noise", "rates"), close, "six digits count"))
        return tuple(rate + 0.0 for rate in numbers)  # a zero has no sign

    def splits(self) -> dict[str, int | float]:
        """The sizes of the splits; shares may not exceed the whole."""
        sizes = {name: size for name, size in self.section("splits").items() if size != 0}
        share = sum(size for size in sizes.values() if isinstance(size, float))
        if share > 1 + 1e-9 and all(0 < size < 1 for size in sizes.values() if isinstance(size, float)):
            self.faults.append(Fault(("splits",), f"the shares add up to {share:g}, which is more than 1"))
        return sizes


def retrained(spec: TaskSpec, over: Source) -> TaskSpec:
    """A task with other values for keys of its training, stronger than those that it has.

    Raises:
        Faults: with everything that is wrong with them, or does not fit the other values.
    """
    source = merge(Source({"training": asdict(spec.training)}), over)  # what does not fit is blamed on what is new
    try:
        recipe = build(Recipe, source.data["training"], ("training",))
        faults = _fits(recipe, source)
    except OptionFaults as error:
        faults = list(error.faults)
    if faults:
        raise Faults(located(source, faults))
    return spec.replace(training=recipe)


STEPS, EVERY = ("training", "max_steps"), ("training", "evaluate_every")
SCHEDULED = (("training", "schedule", "warmup"), ("training", "schedule", "anneal"))
SETTLE = ("training", "schedule", "settle")


def _validated(source: Source, path: Path, profile: str | None, registry: Registry) -> TaskSpec:
    data, checks = source.data, _Checks(source.data, registry)
    noise = checks.section("noise")
    task = checks.find("tasks", data.get("generator"), ("generator",))
    parameters = checks.build(task.Parameters, checks.section("parameters"), ("parameters",)) if task else None
    kind_name = noise.get("kind", NoiseSpec.kind)
    kind = checks.find("noise", kind_name, ("noise", "kind"))
    options = checks.build(kind.Options, noise.get("options"), ("noise", "options")) if kind else None
    recipe = checks.build(Recipe, checks.section("training"), ("training",))
    if recipe:
        checks.faults += _fits(recipe, source)
    seeds = checks.build(Seeds, checks.section("seeds"), ("seeds",))
    diagnostics, splits, rates = checks.diagnostics(), checks.splits(), checks.rates(kind)
    if checks.faults:
        raise Faults(located(source, checks.faults))
    assert parameters is not None and options is not None  # a fault would have been raised
    return TaskSpec(
        name=data["name"],
        version=data.get("version", 1),
        title=data.get("title", data["name"]),
        description=" ".join(data.get("description", "").split()),
        citation=" ".join(data.get("citation", "").split()),
        generator=data["generator"],
        parameters=spelled_out(parameters),
        splits=splits,
        noise=NoiseSpec(kind_name, rates, asdict(options)),
        model=dict(checks.section("model")),
        training=recipe,
        diagnostics=diagnostics,
        seeds=seeds,
        source=str(path),
        profile=profile,
        places={".".join(map(str, p)): where for p, where in source.places.items() if p and p[0] != "profiles"},
        through={".".join(map(str, p)): where for p, where in source.through.items()},
    )


def _fits(recipe: Recipe, source: Source) -> list[Fault]:
    """How the numbers of a recipe fit together, all that must hold said at once."""
    schedule, steps, every = recipe.schedule, recipe.max_steps, recipe.evaluate_every
    faults: list[Fault] = []
    short: list[tuple[str, Sequence[Path_]]] = []
    if schedule.warmup + schedule.anneal > steps:
        both = schedule.warmup + schedule.anneal
        short.append((f"warmup {schedule.warmup} and anneal {schedule.anneal}, together {both}", SCHEDULED))
    if every > steps:
        short.append((f"an evaluation every {every}", (EVERY,)))
    if short:
        must = "max_steps must be at least schedule.warmup + schedule.anneal, of which anneal is 1 or more"
        faults.append(
            Fault(
                _blamed(source, STEPS, *(key for _, keys in short for key in keys)),
                f"{steps} steps are too few for {' and for '.join(what for what, _ in short)}",
                f"{must}, and at least evaluate_every",
            )
        )
    first, last = schedule.warmup, steps - schedule.anneal
    if isinstance(schedule.settle, int) and not short and not first <= schedule.settle <= last:
        faults.append(
            Fault(
                _blamed(source, SETTLE, STEPS, *SCHEDULED),
                f"the rate cannot fall after step {schedule.settle}: warmup ends at {first}, and the last step from"
                f" which annealing fits is {last}",
                f"give schedule.settle a step from {first} to {last}, or `event`",
            )
        )
    return faults


def _blamed(source: Source, *keys: Path_) -> Path_:
    """Of keys that do not fit together the one that a flag set, else the first that stands in the file."""
    flags = (key for key in keys if source.where(key).endswith(f" {'.'.join(map(str, key))}"))
    return next(flags, next((key for key in keys if key in source.places), keys[0]))


def located(source: Source, faults: Sequence[Fault]) -> list[UserError]:
    """Faults with their file and line, in the order of the file, one for each path."""
    return sorted((_located(source, fault) for fault in _unique(faults)), key=line)


def _unique(faults: Sequence[Fault]) -> list[Fault]:
    """One fault for each path: the first, which is the schema's."""
    seen: dict[tuple[Path_, str], Fault] = {}
    for fault in faults:  # several missing keys share the path of what should hold them
        seen.setdefault((fault.path, fault.what if fault.what.startswith("the key") else ""), fault)
    return list(seen.values())


def line(fault: UserError) -> tuple[str, int]:
    """For sorting: the file of a fault, then its line."""
    file, _, line = (fault.where or "").rpartition(":")
    if not fault.where:
        return "\uffff", 0  # of no place in particular
    return (file, int(line)) if line.isdigit() else (fault.where, 0)


def _located(source: Source, fault: Fault) -> UserError:
    dotted, where = clipped(".".join(map(str, fault.path)), 200), source.where(fault.path)
    named = not dotted or where.endswith(f" {dotted}")  # --set names the key already
    return UserError(fault.what if named else f"{dotted}: {fault.what}", where=where, hint=fault.hint)
