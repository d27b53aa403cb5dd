"""What authors of plugins import: these names stay, everything else in the package may move.

Importing this module imports nothing heavy; each name is looked up when it is first asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .diagnostics import Details, Diagnostic, NoOptions, NotApplicable, Records, Result
    from .encoding import IGNORED, Encoded, concatenate, encode, first_difference
    from .errors import UserError
    from .evaluation import batches, decode, forward, matches
    from .hookspecs import hookimpl
    from .interventions import (
        Edit,
        Intact,
        Site,
        ablate,
        capture,
        capture_with_gradient,
        replace,
        replace_units,
        run,
        states_at,
        states_by_layer,
    )
    from .measures import DIFFERENCE, SHARE, Measure
    from .models.anatomy import Anatomy
    from .models.load import FromConfig, LoadedModel, ModelProvider, ModelRequest
    from .models.objects import FromPython
    from .noise import Labelled, NoiseKind
    from .report.record import Metric
    from .spec.model import Recipe, Schedule
    from .statistics import (
        Estimate,
        bootstrap,
        cluster_codes,
        difference,
        from_draws,
        generator,
        interval,
        mean,
        proportion,
        quotient,
        resampled_means,
        wilson,
    )
    from .subject import Subject, View
    from .tasks.example import Example, Span, Task, word_spans
    from .training.curve import Evaluation, Levels
    from .training.loop import train

_HOMES = {
    "diagnostics": ("Details", "Diagnostic", "NoOptions", "NotApplicable", "Records", "Result"),
    "encoding": ("IGNORED", "Encoded", "concatenate", "encode", "first_difference"),
    "errors": ("UserError",),
    "evaluation": ("batches", "decode", "forward", "matches"),
    "hookspecs": ("hookimpl",),
    "interventions": (
        *("Edit", "Intact", "Site", "ablate", "capture", "capture_with_gradient", "replace", "replace_units"),
        *("run", "states_at", "states_by_layer"),
    ),
    "measures": ("DIFFERENCE", "SHARE", "Measure"),
    "models.anatomy": ("Anatomy",),
    "models.load": ("FromConfig", "LoadedModel", "ModelProvider", "ModelRequest"),
    "models.objects": ("FromPython",),
    "noise": ("Labelled", "NoiseKind"),
    "report.record": ("Metric",),
    "spec.model": ("Recipe", "Schedule"),
    "statistics": (
        *("Estimate", "bootstrap", "cluster_codes", "difference", "from_draws", "generator", "interval", "mean"),
        *("proportion", "quotient", "resampled_means", "wilson"),
    ),
    "subject": ("Subject", "View"),
    "tasks.example": ("Example", "Span", "Task", "word_spans"),
    "training.curve": ("Evaluation", "Levels"),
    "training.loop": ("train",),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "DIFFERENCE",
    "IGNORED",
    "SHARE",
    "Anatomy",
    "Details",
    "Diagnostic",
    "Edit",
    "Encoded",
    "Estimate",
    "Evaluation",
    "Example",
    "FromConfig",
    "FromPython",
    "Intact",
    "Labelled",
    "Levels",
    "LoadedModel",
    "Measure",
    "Metric",
    "ModelProvider",
    "ModelRequest",
    "NoOptions",
    "NoiseKind",
    "NotApplicable",
    "Recipe",
    "Records",
    "Result",
    "Schedule",
    "Site",
    "Span",
    "Subject",
    "Task",
    "UserError",
    "View",
    "ablate",
    "batches",
    "bootstrap",
    "capture",
    "capture_with_gradient",
    "cluster_codes",
    "concatenate",
    "decode",
    "difference",
    "encode",
    "first_difference",
    "forward",
    "from_draws",
    "generator",
    "hookimpl",
    "interval",
    "matches",
    "mean",
    "proportion",
    "quotient",
    "replace",
    "replace_units",
    "resampled_means",
    "run",
    "states_at",
    "states_by_layer",
    "train",
    "wilson",
    "word_spans",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __package__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
