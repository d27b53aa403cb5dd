"""The contract between rote-bench and its plugins.

A plugin is a module with any of these functions, each marked with ``rote_bench.hookimpl``. Each receives a
``register`` callable and calls it once for every object that it adds. Everything built in arrives the same way.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from .diagnostics import Diagnostic
    from .models.load import ModelProvider
    from .noise import NoiseKind
    from .tasks.example import Task

PROJECT = "rote_bench"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def register_tasks(register: Callable[[type[Task]], None]) -> None:
    """Register task classes: ``register(MyTask)``; task files name them under ``generator``."""


@hookspec
def register_noise(register: Callable[[type[NoiseKind]], None]) -> None:
    """Register kinds of label noise: ``register(MyNoise)``; task files name them under ``noise.kind``."""


@hookspec
def register_models(register: Callable[[ModelProvider], None]) -> None:
    """Register model providers: ``register(MyProvider())``; ``--model NAME`` asks each whether it knows NAME."""


@hookspec
def register_diagnostics(register: Callable[[type[Diagnostic[Any]]], None]) -> None:
    """Register diagnostics: ``register(MyDiagnostic)``; task files list them under ``diagnostics``."""


@hookspec
def register_commands(cli: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add verbs to the command line: ``cli.add_parser(...).set_defaults(verb=function)``."""
