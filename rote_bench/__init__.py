"""rote-bench: how language models memorise wrong labels and still reason well.

Every verb of the command line is a function here: ``run``, ``load_task``, ``validate``, ``data``, ``dataset``,
``export_data``, ``listing``, ``check_model``, ``check_models``, ``load_report``, ``show``, ``show_html``, ``plot``,
``schema``, ``new``, ``sweep_cells``, ``build_leaderboard`` and ``check_report``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api import (
        Report,
        build_leaderboard,
        check_model,
        check_models,
        check_report,
        compare,
        data,
        dataset,
        export_data,
        listing,
        load_report,
        load_task,
        new,
        plot,
        run,
        run_cells,
        schema,
        show,
        show_data,
        show_html,
        sweep_cells,
        validate,
    )
    from .errors import UserError
    from .hookspecs import hookimpl

__all__ = [
    "Report",
    "UserError",
    "build_leaderboard",
    "check_model",
    "check_models",
    "check_report",
    "compare",
    "data",
    "dataset",
    "expect_cells",
    "expect_sweep",
    "export_data",
    "hookimpl",
    "listing",
    "load_report",
    "load_task",
    "new",
    "plot",
    "run",
    "run_cells",
    "schema",
    "show",
    "show_data",
    "show_html",
    "sweep_cells",
    "validate",
]


def __getattr__(name: str) -> Any:
    """Import on first use, so that the command line starts at once."""
    if name not in __all__:
        raise AttributeError(f"module 'rote_bench' has no attribute {name!r}")
    from importlib import import_module

    module = {"UserError": "errors", "hookimpl": "hookspecs"}.get(name, "api")
    return getattr(import_module(f".{module}", __name__), name)


def __dir__() -> list[str]:
    """The public names, loaded or not."""
    return list(__all__)
