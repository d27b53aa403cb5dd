"""The plugin manager: what is built in and what strangers add, all through the same hooks."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import hookspecs
from .errors import UserError

if TYPE_CHECKING:
    import pluggy

GROUP = "rote_bench"
KINDS = ("tasks", "noise", "models", "diagnostics")
BUILT_IN = "built-in"


@dataclass(frozen=True)
class PluginInfo:
    """A plugin and what became of it.

    Attributes:
        name: of its entry point or file.
        source: the distribution, or the file's path.
        error: None when it loaded.
    """

    name: str
    source: str
    version: str | None = None
    error: str | None = None


@dataclass
class Registry:
    """Everything registered, by kind and name."""

    tables: dict[str, dict[str, Any]] = field(default_factory=lambda: {kind: {} for kind in KINDS})
    sources: dict[tuple[str, str], str] = field(default_factory=dict)
    plugins: list[PluginInfo] = field(default_factory=list)
    manager: pluggy.PluginManager | None = None

    def table(self, kind: str) -> Mapping[str, Any]:
        """Name -> registered object."""
        return self.tables[kind]

    def source_of(self, kind: str, name: str) -> str:
        """Where a registered object comes from: ``built-in``, a distribution or a file."""
        return self.sources[kind, name]

    def task_files(self) -> dict[str, Path]:
        """Task files that plugins bring along, by the name of the file."""
        files = (getattr(task, "spec_file", None) for task in self.tables["tasks"].values())
        return {Path(file).stem: Path(file) for file in files if file is not None}

    def add(self, module: Any, info: PluginInfo) -> None:
        """Register one plugin: all that its hooks add, or, when one of them fails, nothing.

        Raises:
            UserError: when a name is already taken by another plugin.
        """
        added: dict[tuple[str, str], Any] = {}
        for kind in KINDS:
            hook = getattr(module, f"register_{kind}", None)
            if hook is not None:
                hook(_collector(kind, added))
        for kind, name in added:
            if (kind, name) in self.sources:
                other = self.sources[kind, name]
                raise UserError(
                    f"{kind} {name!r} is registered by both {other} and {info.source}",
                    where=f"plugin {info.name}",
                    hint="remove one, or pick plugins with ROTE_BENCH_PLUGINS",
                )
        for (kind, name), thing in added.items():
            self.tables[kind][name] = thing
            self.sources[kind, name] = info.source
        if self.manager is not None:
            self.manager.register(module, name=f"{info.name} ({info.source})")
        self.plugins.append(info)


def _collector(kind: str, added: dict[tuple[str, str], Any]) -> Callable[[Any], None]:
    def register(thing: Any) -> None:
        name = getattr(thing, "name", None)
        if not isinstance(name, str) or not name:
            raise TypeError(f"{thing!r} has no name to be registered under")
        if (kind, name) in added:
            raise ValueError(f"{kind} {name!r} is registered twice")
        added[kind, name] = thing

    return register


def load(files: Sequence[str | Path] = (), *, warn: Callable[[str], None] | None = None) -> Registry:
    """Load what is built in, then installed plugins, then single files.

    Args:
        files: Python files given with ``--plugin``.
        warn: receives one line for each installed plugin that fails; standard error by default.

    Raises:
        UserError: when two plugins claim one name, or a file of ``files`` cannot be loaded.
    """
    import pluggy

    from . import builtin

    say = warn or (lambda text: print(text, file=sys.stderr))
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    registry = Registry(manager=manager)
    registry.add(builtin, PluginInfo("rote_bench", BUILT_IN))
    for point in _wanted(metadata.entry_points(group=GROUP)):
        source = point.dist.name if point.dist else point.value
        version = point.dist.version if point.dist else None
        try:
            registry.add(point.load(), PluginInfo(point.name, source, version))
        except UserError:
            raise
        except Exception as error:  # whatever a stranger's code raises must harm nothing but that plugin
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            registry.plugins.append(PluginInfo(point.name, source, version, reason))
            say(f"rote-bench: plugin {point.name!r} of {source} did not load: {reason}")
    for file in files:
        registry.add(_from_file(Path(file)), PluginInfo(Path(file).stem, str(file)))
    return registry


def _wanted(points: Iterable[metadata.EntryPoint]) -> list[metadata.EntryPoint]:
    """The entry points that ``ROTE_BENCH_PLUGINS`` allows: all when unset, none when empty, else those named."""
    chosen = os.environ.get("ROTE_BENCH_PLUGINS")
    every = sorted(points, key=lambda p: (p.name, p.value))
    if chosen is None:
        return every
    names = {name.strip() for name in chosen.split(",")}
    return [p for p in every if p.name in names or (p.dist is not None and p.dist.name in names)]


def _from_file(path: Path) -> Any:
    if not path.is_file():
        raise UserError("no such file", where=f"--plugin {path}")
    name = f"rote_bench_plugin_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UserError("is not a Python file", where=f"--plugin {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # the user named this file, so its failure is the user's to mend
        del sys.modules[name]
        raise UserError(f"did not load: {type(error).__name__}: {error}", where=f"--plugin {path}") from error
    return module
