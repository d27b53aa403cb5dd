"""The plugin manager: what is built in and what strangers add, all through the same hooks."""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, is_dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import hookspecs
from .errors import UserError, nearest
from .measures import HEADLINE, NAME, OOD, RESERVED, Measure
from .models.names import registered_types
from .progress import put
from .strangers import contained, reason_of

if TYPE_CHECKING:
    import pluggy

GROUP = "rote_bench"
KINDS = ("tasks", "noise", "models", "diagnostics")
BUILT_IN = "built-in"
# Names of files and folders beside a report, which no diagnostic can have.
FILES = frozenset(
    ("answers", "checkpoints", "data", "dynamics", "figures", "report", "run", "samples", "tracking", "training_state")
)
SLOW = 1.0  # seconds after which loading a plugin is worth a word


@dataclass(frozen=True)
class PluginInfo:
    """A plugin and what became of it.

    Attributes:
        name: of its entry point or file.
        source: the distribution, or the file's path.
        error: None when it loaded.
        seconds: how long loading took.
    """

    name: str
    source: str
    version: str | None = None
    error: str | None = None
    seconds: float = 0.0


def _title(info: PluginInfo) -> str:
    return f"{info.name} ({info.source})"


class NameTaken(UserError):
    """Two plugins register one name."""


@dataclass
class Registry:
    """Everything registered, by kind and name."""

    manager: pluggy.PluginManager
    tables: dict[str, dict[str, Any]] = field(default_factory=lambda: {kind: {} for kind in KINDS})
    sources: dict[tuple[str, str], str] = field(default_factory=dict)
    plugins: list[PluginInfo] = field(default_factory=list)

    def table(self, kind: str) -> Mapping[str, Any]:
        """Name -> registered object."""
        return self.tables[kind]

    def source_of(self, kind: str, name: str) -> str:
        """Where a registered object comes from: ``built-in``, a distribution or a file."""
        return self.sources[kind, name]

    def measures(self) -> dict[str, Measure]:
        """Every metric that is declared, by name: those that need no diagnostic first."""
        declared = {measure.name: measure for measure in (*HEADLINE, OOD)}
        for diagnostic in self.tables["diagnostics"].values():
            declared |= {measure.name: measure for measure in diagnostic.metrics}
        return declared

    def provider(self, model: str) -> Any:
        """The provider that knows a model's name.

        Raises:
            UserError: when none does, with the nearest valid name, or when several do.
        """
        found = [name for name, provider in self.table("models").items() if provider.matches(model)]
        if len(found) > 1:
            sources = " and ".join(f"{name!r} ({self.source_of('models', name)})" for name in found)
            raise UserError(
                f"the model {model!r} is claimed by the providers {sources}",
                where="--model",
                hint="remove one, or pick plugins with ROTE_BENCH_PLUGINS",
            )
        if not found:
            from .models.names import parse

            own = [each for name in self.table("models") for each in self._own_names(name)]
            if close := nearest(model.replace("_", "-"), own, cutoff=0.75):
                raise UserError(f"unknown model {model!r}", where="--model", hint=f"did you mean {close!r}?")
            parse(model)  # says what is wrong with the name
            raise UserError(
                f"no provider knows the model {model!r}", where="--model", hint="see `rote-bench list models`"
            )
        return self.table("models")[found[0]]

    def _own_names(self, provider: str) -> list[str]:
        """What a provider of a plugin calls its models."""
        if self.source_of("models", provider) == BUILT_IN:
            return []
        names: list[str] = self.table("models")[provider].names()
        return names

    def adopt(self, provider: Any, source: str) -> None:
        """Register one provider of a model that the caller gives.

        Raises:
            UserError: when another one knows its name.
        """
        name = provider.name
        known = next((other for other, each in self.table("models").items() if each.matches(name)), None)
        if known is not None:
            raise UserError(
                f"the name {name!r} is that of a model of {known!r}", where="model_name", hint="choose another one"
            )
        self.accept({("models", name): provider}, PluginInfo(name, source))

    def task_files(self) -> dict[str, Path]:
        """Task files that plugins bring along, by the name of the file."""
        files = (getattr(task, "spec_file", None) for task in self.tables["tasks"].values())
        return {Path(file).stem: Path(file) for file in files if file is not None}

    def add(self, module: Any, info: PluginInfo) -> None:
        """Register one plugin: all that its hooks add, or, when one of them fails, nothing.

        Raises:
            UserError: when a name is already taken by another plugin.
            Exception: whatever the plugin raises.
        """
        self.accept(self.collect(module, info), info)

    def collect(self, module: Any, info: PluginInfo) -> dict[tuple[str, str], Any]:
        """Call a plugin's hooks and check what they register; nothing is kept when this raises.

        Returns:
            (kind, name) -> registered object.
        """
        name = _title(info)
        others = self.manager.get_plugins()
        try:
            self.manager.register(module, name=name)
            self.manager.check_pending()
            if not self.manager.get_hookcallers(module) and not registered_types():  # else that may be all it does
                raise TypeError("it has no hook; mark functions with @rote_bench.hookimpl")
            added: dict[tuple[str, str], Any] = {}
            for kind in KINDS:
                only = self.manager.subset_hook_caller(f"register_{kind}", remove_plugins=others)
                only(register=_collector(kind, added))
        except BaseException:
            if self.manager.has_plugin(name):
                self.manager.unregister(name=name)
            raise
        return added

    def accept(self, added: Mapping[tuple[str, str], Any], info: PluginInfo) -> None:
        """Keep what a plugin registers.

        Raises:
            NameTaken: when a name is already taken by another plugin, which is then forgotten as a whole.
        """
        files = (getattr(thing, "spec_file", None) for thing in added.values())
        claimed = [*added, *(("task file", Path(file).stem) for file in files if file is not None)]
        claimed += [("metric", m.name) for (kind, _), d in added.items() if kind == "diagnostics" for m in d.metrics]
        for kind, name in claimed:
            if (kind, name) in self.sources:
                other = self.sources[kind, name]
                self.manager.unregister(name=_title(info))
                raise NameTaken(
                    f"{kind} {name!r} is registered by both {other} and {info.source}",
                    where=f"plugin {info.name}",
                    hint="remove one, or pick plugins with ROTE_BENCH_PLUGINS",
                )
        for (kind, name), thing in added.items():
            self.tables[kind][name] = thing
        self.sources.update(dict.fromkeys(claimed, info.source))
        self.plugins.append(info)

    def add_verbs(self, cli: Any, say: Callable[[str], None] | None = None) -> None:
        """Let each plugin add its verbs to the command line; one that fails is named and harms no other."""
        loaded = self.manager.list_name_plugin()
        for name, module in loaded:
            others = [other for _, other in loaded if other is not module]
            try:
                with contained():
                    self.manager.subset_hook_caller("register_commands", remove_plugins=others)(cli=cli)
            except Exception as error:  # whatever a stranger's code raises
                (say or _to_standard_error)(f"rote-bench: plugin {name} did not add its verbs: {reason_of(error)}")


# What the harness relies on in each kind of thing: a dataclass of options, and what can be called.
OPTIONS = {"tasks": "Parameters", "noise": "Options", "diagnostics": "Options"}
CALLED = {
    "tasks": ("example", "words", "answers", "split"),
    "noise": ("draw", "mark", "phantom"),
    "models": ("matches", "names", "load"),
    "diagnostics": ("run", "implied", "draw", "series"),
}


def _collector(kind: str, added: dict[tuple[str, str], Any]) -> Callable[[Any], None]:
    def register(thing: Any) -> None:
        name = getattr(thing, "name", None)
        if not isinstance(name, str) or not name:
            raise TypeError(f"{thing!r} has no name to be registered under")
        lacks = lacking(kind, thing)
        if lacks:
            raise TypeError(f"{kind} {name!r} {lacks}")
        if (kind, name) in added:
            raise ValueError(f"{kind} {name!r} is registered twice")
        if kind == "diagnostics":
            _refuse_shared(name, thing, added)
        added[kind, name] = thing

    return register


def lacking(kind: str, thing: Any) -> str | None:
    """What a registered object lacks, found now and not in the middle of a run."""
    if kind in OPTIONS and not isinstance(thing, type):
        return "must be registered as a class, not as an object"
    if inspect.isabstract(thing):
        return f"does not implement {', '.join(sorted(thing.__abstractmethods__))}"
    missing = [name for name in CALLED[kind] if not callable(getattr(thing, name, None))]
    if missing:
        return f"has no {', '.join(missing)}; is its base class missing?"
    if not isinstance(getattr(thing, "description", None), str):
        return "has no description"
    if kind in OPTIONS and not is_dataclass(getattr(thing, OPTIONS[kind], None)):
        return f"needs a dataclass as its {OPTIONS[kind]}"
    if kind == "diagnostics":
        return _misnamed(thing)
    file = getattr(thing, "spec_file", None)
    if file is not None and not Path(file).is_file():
        return f"has a spec_file that does not exist: {file}"
    return None


def _misnamed(diagnostic: Any) -> str | None:
    """What is wrong with the names of a diagnostic and of its metrics."""
    if not NAME.fullmatch(diagnostic.name):
        return "has no name for a file: use lower-case letters, digits and underscores"
    if diagnostic.name in FILES:
        return f"is called like a file of the harness (those: {', '.join(sorted(FILES))}); choose another name"
    metrics = diagnostic.metrics
    if not isinstance(metrics, tuple) or not all(isinstance(measure, Measure) for measure in metrics):
        return "needs a tuple of Measures as its metrics"
    names = [measure.name for measure in metrics]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        return f"declares the metric {twice!r} twice"
    headline = next((name for name in names if name in RESERVED), None)
    return f"declares the metric {headline!r}, which every report has; choose another name" if headline else None


def _refuse_shared(name: str, diagnostic: Any, added: Mapping[tuple[str, str], Any]) -> None:
    """Whether another diagnostic of the same plugin declares one of its metrics."""
    for (kind, other), thing in added.items():
        shared = {m.name for m in thing.metrics} & {m.name for m in diagnostic.metrics} if kind == "diagnostics" else ()
        if shared:
            raise ValueError(f"diagnostics {other!r} and {name!r} both declare the metric {min(shared)!r}")


def built_in() -> Registry:
    """What comes with rote-bench and nothing else."""
    from . import builtin
    from .spec.loader import shipped

    registry = Registry(_manager())
    registry.sources.update({("task file", name): BUILT_IN for name in shipped()})
    registry.add(builtin, PluginInfo("rote_bench", BUILT_IN))
    return registry


def load(
    files: Sequence[str | Path] = (), *, warn: Callable[[str], None] | None = None, clashes: bool = False
) -> Registry:
    """Load what is built in, then installed plugins, then single files.

    Args:
        files: Python files given with ``--plugin``; the file of an installed plugin is not loaded again.
        warn: receives one line for each installed plugin that fails; standard error by default.
        clashes: only list an installed plugin that claims the name of another one, as failed.

    Raises:
        UserError: when two plugins claim one name, or a file of ``files`` cannot be loaded.
    """
    say = warn or _to_standard_error
    registry = built_in()
    installed: set[Path] = set()
    for point in _wanted(metadata.entry_points(group=GROUP), say):
        source = point.dist.name if point.dist else point.value
        version = point.dist.version if point.dist else None
        info = PluginInfo(point.name, source, version)
        start = time.monotonic()
        try:
            with contained():
                module = point.load()
                added = registry.collect(module, info)
            info = replace(info, seconds=time.monotonic() - start)
            registry.accept(added, info)
        except NameTaken as error:
            if not clashes:
                raise
            reason = str(error)
        except Exception as error:  # whatever a stranger's code raises must harm nothing but that plugin
            reason = reason_of(error)
        else:
            if getattr(module, "__file__", None):
                installed.add(Path(module.__file__).resolve())
            if info.seconds > SLOW:
                say(
                    f"rote-bench: plugin {point.name!r} of {source} takes {info.seconds:.1f} s to load, with every"
                    " command; it should import what is heavy inside its functions"
                )
            continue
        registry.plugins.append(replace(info, error=reason))
        say(f"rote-bench: plugin {point.name!r} of {source} did not load: {reason}")
    for place, file in {Path(file).resolve(): Path(file) for file in files}.items():
        if place in installed:
            continue
        info = PluginInfo(file.stem, str(file))
        try:
            with contained():
                added = registry.collect(_from_file(file), info)
        except UserError:
            raise
        except Exception as error:  # the user named this file, so its failure is the user's to mend
            raise UserError(f"did not load: {reason_of(error)}", where=f"--plugin {file}") from error
        registry.accept(added, info)
    return registry


def _manager() -> pluggy.PluginManager:
    import pluggy

    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    return manager


def _to_standard_error(text: str) -> None:
    put(f"{text}\n")


def _wanted(points: Iterable[metadata.EntryPoint], say: Callable[[str], None]) -> list[metadata.EntryPoint]:
    """The entry points that ``ROTE_BENCH_PLUGINS`` allows: all when unset, none when empty, else those named."""
    chosen = os.environ.get("ROTE_BENCH_PLUGINS")
    every = sorted(points, key=lambda p: (p.name, p.value))
    if chosen is None:
        return every
    names = {name.strip() for name in chosen.split(",")} - {""}
    found = [p for p in every if {p.name, p.dist.name if p.dist else p.name} & names]
    for name in sorted(names - {p.name for p in found} - {p.dist.name for p in found if p.dist}):
        say(f"rote-bench: ROTE_BENCH_PLUGINS names {name!r}, which is not installed")
    return found


def _from_file(path: Path) -> Any:
    if not path.is_file():
        raise UserError("no such file", where=f"--plugin {path}")
    # files of one name in two folders are two modules
    name = f"rote_bench_plugin_{path.stem}_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UserError("is not a Python file", where=f"--plugin {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
