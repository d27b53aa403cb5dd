"""The style that all figures share: to be understood without the paper, whatever the caller's matplotlib is set to."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, which readers with any kind of colour vision can tell apart.
HELD_OUT, CLEAN, MEMORISED, TRUE, GREY = "#0072B2", "#56B4E9", "#D55E00", "#009E73", "#666666"
STYLE: Any = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e6e6",
    "axes.edgecolor": "#888888",
    "lines.linewidth": 2.0,
    "figure.dpi": 150,
    "text.parse_math": False,  # a name with a dollar sign is no formula
}
SNAPSHOT_NAMES = {"pre_memorization": "before memorization", "post_memorization": "after memorization"}
TITLE, ABOUT = 11.5, 9.0  # sizes in points
CHARACTERS = 9.8  # of a bold title, in an inch
COMPONENTS = {"block": "whole block", "mixer": "attention (mixer)", "mlp": "MLP"}
_about: ContextVar[str] = ContextVar("about", default="")


@contextmanager
def about(text: str) -> Iterator[None]:
    """Name what the figures drawn inside are about; each says so below its title."""
    token = _about.set(text)
    try:
        yield
    finally:
        _about.reset(token)


@contextmanager
def drawing(
    path: Path, columns: int, width: float, height: float, *, share: bool = True
) -> Iterator[tuple[Figure, list[Axes]]]:
    """A figure with a row of axes in the house style, written to ``path`` (PNG) once it is drawn.

    The file carries the sentence of ``title`` as its ``Title`` and what it is about as its ``Description``, which
    programs can read out to those who do not see it.

    Args:
        width, height: in inches.
        share: whether the axes share the vertical scale.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):  # no pyplot: it would choose a backend for the whole process
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(1, columns, sharey=share, squeeze=False)
        yield figure, list(axes[0])
        said = {"Title": " ".join(figure.get_suptitle().split()), "Description": _about.get()}
        _name(figure, _about.get())
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, facecolor="white", metadata={key: text for key, text in said.items() if text})


def title(figure: Figure, text: str) -> None:
    """The sentence above all axes: what was found, in words that need no paper. Long ones are folded."""
    width = max(20, int(figure.get_figwidth() * CHARACTERS))
    figure.suptitle(textwrap.fill(text, width), x=0.01, ha="left", fontsize=TITLE, fontweight="bold")


def _name(figure: Figure, text: str) -> None:
    """Write what a figure is about below its title, or where that would be."""
    if not text:
        return
    above = figure.get_suptitle()
    lines = figure.suptitle(f"{above}\n " if above else " ", x=0.01, ha="left", fontsize=TITLE, fontweight="bold")
    figure.draw_without_rendering()  # the layout puts the title in its place
    bottom = lines.get_window_extent().transformed(figure.transFigure.inverted()).y0
    figure.text(0.01, bottom, text, ha="left", va="bottom", fontsize=ABOUT, color=GREY)


def percent(share: float) -> str:
    """A share in a title: ``97 %``, and never 0 or 100 where it is not."""
    digits = next((n for n in range(4) if share in (0, 1) or 0 < round(100 * share, n) < 100), 4)
    return f"{100 * share:.{digits}f} %"


def line(
    ax: Axes,
    x: Sequence[float],
    levels: Mapping[str, Sequence[float | None]],
    color: str,
    label: str,
    dash: str = "-",
    marker: str = "o",
) -> None:
    """A line through values with its intervals as a band.

    Args:
        levels: ``value``, ``ci_low`` and ``ci_high``, one of each for every x; the last two may be missing.
        dash: the line's style; empty for markers alone, whose intervals are bars.
    """
    value, low, high = (_numbers(levels.get(key)) for key in ("value", "ci_low", "ci_high"))
    assert value is not None
    ax.plot(x, value, linestyle=dash or "none", color=color, marker=marker, markersize=5, label=label)
    if low is None or high is None:
        return
    if dash:
        ax.fill_between(x, low, high, color=color, alpha=0.15, linewidth=0)
    else:
        ax.vlines(x, low, high, color=color, linewidth=1.2)


def _numbers(values: Sequence[float | None] | None) -> list[float] | None:
    """With what is not known as NaN, which is not drawn."""
    return None if values is None else [math.nan if value is None else value for value in values]


def panel(ax: Axes, text: str, *, size: float = 10.5) -> None:
    """The words above one of several axes."""
    ax.set_title(text, fontsize=size, loc="left")


def legend(figure: Figure, ax: Axes, columns: int = 4) -> None:
    """The legend of one of the axes, below all of them."""
    handles, labels = ax.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False, fontsize=9)


def shares(ax: Axes, text: str = "") -> None:
    """A vertical scale from 0 to 1."""
    ax.set_ylim(-0.02, 1.04)
    if text:
        ax.set_ylabel(text)


def layer_ticks(ax: Axes, layers: Sequence[int], text: str = "after layer") -> None:
    """A horizontal scale of layers, with a dozen numbers or so."""
    ax.set_xticks(list(layers)[:: max(1, len(layers) // 12)])
    ax.set_xlabel(text)


def label_ends(ax: Axes, ends: Sequence[tuple[float, float, str, str]]) -> None:
    """Write names beside the ends of lines, pushed apart where they would overlap and kept inside the axes."""
    low, high = ax.get_ylim()
    gap = 0.065 * (high - low)
    ordered = sorted(ends, key=lambda e: e[1])
    heights = [e[1] for e in ordered]
    for i in range(1, len(heights)):
        heights[i] = max(heights[i], heights[i - 1] + gap)
    top = high - gap / 2
    for i in range(len(heights) - 1, -1, -1):
        heights[i] = min(heights[i], top)
        top = heights[i] - gap
    for (x, _, text, color), height in zip(ordered, heights, strict=True):
        ax.annotate(
            text,
            (x, height),
            xytext=(6, 0),
            textcoords="offset points",
            color=color,
            va="center",
            fontsize=9,
            annotation_clip=False,
        )


def mark(ax: Axes, x: float, top: float, text: str) -> None:
    """A dotted vertical line with its name beside it, down from ``top``."""
    ax.axvline(x, color=GREY, linewidth=1.0, linestyle=":")
    ax.annotate(
        text,
        (x, top),
        xytext=(-4, -3),
        textcoords="offset points",
        ha="right",
        va="top",
        fontsize=8,
        color=GREY,
        rotation=90,
    )
