"""Figures of a report, drawn from its plain data alone, to be understood without the paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
}
SNAPSHOT_NAMES = {"pre_memorization": "before memorization", "post_memorization": "after memorization"}
COMPONENTS = {"block": "whole block", "mixer": "attention (mixer)", "mlp": "MLP"}


def new_figure(columns: int, width: float, height: float, *, share: bool = True) -> tuple[Figure, list[Axes]]:
    """A row of axes in the house style."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            1, columns, figsize=(width, height), sharey=share, squeeze=False, layout="constrained"
        )
    return figure, list(axes[0])


def save(figure: Figure, path: Path) -> None:
    """Write a PNG and forget the figure."""
    import matplotlib.pyplot as plt

    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, facecolor="white")
    plt.close(figure)


def _label_ends(ax: Axes, ends: Sequence[tuple[float, float, str, str]]) -> None:
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


def learning_curves(curve: Sequence[Mapping[str, Any]], snapshots: Mapping[str, int], path: Path) -> None:
    """Four curves of training with both snapshots marked."""
    figure, (ax,) = new_figure(1, 8.6, 4.6)
    lines = (
        ("validation_accuracy", "right on held-out questions", HELD_OUT, "-"),
        ("train_clean_accuracy", "right on clean training questions", CLEAN, "--"),
        ("memorization_rate", "wrong label memorised", MEMORISED, "-"),
        ("noisy_true_rate", "right in spite of the wrong label", TRUE, "-"),
    )
    ends = []
    for key, text, color, dash in lines:
        points = [(r["examples_seen"], r[key]) for r in curve if r.get(key) is not None]
        if points:
            xs, ys = zip(*points, strict=True)
            ax.plot(xs, ys, dash, color=color)
            ends.append((xs[-1], ys[-1], text, color))
    ax.set_ylim(-0.02, 1.06)
    ax.set_xlim(0, curve[-1]["examples_seen"])
    seen = {r["step"]: r["examples_seen"] for r in curve}
    for name, step in snapshots.items():
        if step in seen:
            ax.axvline(seen[step], color=GREY, linewidth=1.0, linestyle=":")
            ax.annotate(
                f"snapshot {SNAPSHOT_NAMES.get(name, name)}",
                (seen[step], 1.06),
                xytext=(-4, -3),
                textcoords="offset points",
                ha="right",
                va="top",
                fontsize=8,
                color=GREY,
                rotation=90,
            )
    _label_ends(ax, ends)
    ax.set_xlabel("training examples seen")
    ax.set_ylabel("share of questions")
    ax.xaxis.set_major_formatter(lambda value, _: f"{value / 1000:g}k" if value else "0")
    per_epoch = curve[-1]["examples_seen"] / curve[-1]["epoch"] if curve[-1].get("epoch") else None
    if per_epoch:
        top = ax.secondary_xaxis("top", functions=(lambda x: x / per_epoch, lambda x: x * per_epoch))
        top.set_xlabel("passes over the training data", fontsize=9)
    peak = max((r["noisy_true_rate"] for r in curve if r.get("noisy_true_rate") is not None), default=None)
    title = "What the model answers while it learns"
    if peak is not None and peak >= 0.5:
        title = f"First it reasons, then it memorises: at the peak {peak:.0%} of mislabelled questions are right"
    figure.suptitle(title, x=0.01, ha="left", fontsize=11.5, fontweight="bold")
    save(figure, path)


def lens(details: Mapping[str, Any], path: Path) -> None:
    """The noisy and the true answer through the layers, before and after memorization."""
    snapshots = details["snapshots"]
    figure, axes = new_figure(len(snapshots), 4.6 * len(snapshots) + 0.8, 4.4)
    for ax, (name, part) in zip(axes, snapshots.items(), strict=True):
        layers, noisy = part["layers"], part["noisy"]
        true_leads = [1 - share for share in noisy["label_over_true"]]
        ax.plot(layers, noisy["true_top1"], color=TRUE, marker="o", label="true answer is the top answer")
        ax.plot(layers, noisy["label_top1"], color=MEMORISED, marker="o", label="wrong label is the top answer")
        ax.plot(
            layers, true_leads, color=GREY, linestyle=":", marker=".", label="true answer ranks above the wrong label"
        )
        ax.axhline(0.5, color="#bbbbbb", linewidth=0.8)
        ax.set_title(SNAPSHOT_NAMES.get(name, name), fontsize=10.5, loc="left")
        ax.set_xlabel("after layer")
        ax.set_xticks(layers if len(layers) <= 12 else layers[:: max(1, len(layers) // 12)])
        ax.set_ylim(-0.02, 1.04)
    axes[0].set_ylabel("share of mislabelled training questions")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    figure.suptitle(
        "Which answer each layer holds for a mislabelled question", x=0.01, ha="left", fontsize=11.5, fontweight="bold"
    )
    save(figure, path)


def patching(details: Mapping[str, Any], path: Path) -> None:
    """What activations from before memorization undo in the model from after it, by component and layer."""
    direction = details["directions"]["pre_into_post"]
    figure, axes = new_figure(len(direction), max(8.6, 3.4 * len(direction) + 0.6), 4.4)
    intact = details["intact"]["post_memorization"]
    lines = (
        ("validation_accuracy", "right on held-out questions", HELD_OUT),
        ("memorization_rate", "wrong label still given", MEMORISED),
        ("noisy_true_rate", "true answer given instead", TRUE),
    )
    layers = details["layers"]
    for ax, (component, where) in zip(axes, direction.items(), strict=True):
        everywhere = where["all_positions"]
        together = details["all_layers"]["pre_into_post"][component]
        at = len(layers) + 1.2
        for key, text, color in lines:
            ax.plot(layers, everywhere[key], color=color, marker="o", label=text)
            ax.plot([at], [together[key]], color=color, marker="D", markersize=7, linestyle="none")
            ax.axhline(intact[key], color=color, linewidth=0.9, linestyle=":")
        ax.axvline(len(layers) + 0.6, color="#cccccc", linewidth=0.8)
        step = max(1, len(layers) // 8)
        ax.set_xticks([*layers[::step], at], [*map(str, layers[::step]), "all"])
        ax.set_title(COMPONENTS.get(component, component), fontsize=10.5, loc="left")
        ax.set_xlabel("patched layer")
        ax.set_ylim(-0.02, 1.04)
    axes[0].set_ylabel("share of questions")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    figure.suptitle(
        "Activations from before memorization, put into the model after it (dotted: unpatched)",
        x=0.01,
        ha="left",
        fontsize=11.5,
        fontweight="bold",
    )
    save(figure, path)
