"""The built-in tasks, kinds of noise, models and diagnostics, registered as any plugin registers its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .hookspecs import hookimpl


@hookimpl
def register_tasks(register: Callable[[Any], None]) -> None:
    from .tasks.addition import Addition
    from .tasks.table import Table
    from .tasks.two_hop import TwoHop

    for task in (TwoHop, Addition, Table):
        register(task)


@hookimpl
def register_noise(register: Callable[[Any], None]) -> None:
    from .noise import BUILT_IN

    for kind in BUILT_IN:
        register(kind)


@hookimpl
def register_models(register: Callable[[Any], None]) -> None:
    from .models.pretrained import BUILT_IN

    for provider in BUILT_IN:
        register(provider)


@hookimpl
def register_diagnostics(register: Callable[[Any], None]) -> None:
    from .diagnostics.ablation import Ablation
    from .diagnostics.activation_patching import ActivationPatching
    from .diagnostics.circuits import Circuits
    from .diagnostics.erasure import Erasure
    from .diagnostics.interchange import Interchange
    from .diagnostics.leakage_kernel import LeakageKernel
    from .diagnostics.learning_dynamics import LearningDynamics
    from .diagnostics.logit_lens import LogitLens
    from .diagnostics.memorization_reuse import MemorizationReuse
    from .diagnostics.nearest import Nearest
    from .diagnostics.neighbourhood import Neighbourhood
    from .diagnostics.neurons import Neurons
    from .diagnostics.position_importance import PositionImportance
    from .diagnostics.probe import Probe

    look = (LearningDynamics, LogitLens, ActivationPatching, Probe, Erasure, Interchange)
    beside = (Neighbourhood, Nearest, LeakageKernel)
    for diagnostic in (*look, Ablation, PositionImportance, *beside, Circuits, Neurons, MemorizationReuse):
        register(diagnostic)
