"""Figures of the diagnostics that look inside: probes, erasure, interchange, ablation, positions, neighbours, circuits,
units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .figures import CLEAN, GREY, HELD_OUT, MEMORISED, SNAPSHOT_NAMES, TRUE, new_figure, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def _title(figure: Any, text: str) -> None:
    figure.suptitle(text, x=0.01, ha="left", fontsize=11.5, fontweight="bold")


def _legend(figure: Any, ax: Axes, columns: int = 4) -> None:
    handles, labels = ax.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False, fontsize=9)


def _layers(ax: Axes, layers: Sequence[int], text: str = "after layer") -> None:
    ax.set_xticks(list(layers)[:: max(1, len(layers) // 12)])
    ax.set_xlabel(text)


def probes(details: Mapping[str, Any], path: Path) -> None:
    """Best probe accuracy over positions, by layer, on memorised and held-out questions, with both floors."""
    targets = details["targets"]
    shown = list(targets)[:5] if len(targets) <= 5 else [*list(targets)[:4], "answer"]
    figure, axes = new_figure(len(shown), 2.6 * len(shown) + 1.4, 4.0)
    lines = (
        ("validation", "held-out questions", HELD_OUT, "-"),
        ("noisy", "memorised questions", MEMORISED, "-"),
        ("control", "control task", GREY, ":"),
        ("random_network", "untrained network", GREY, "--"),
    )
    for ax, name in zip(axes, shown, strict=True):
        for key, text, color, dash in lines:
            ax.plot(
                details["layers"], [max(row) for row in targets[name][key]], dash, color=color, marker=".", label=text
            )
        ax.set_title("true answer" if name == "answer" else name.replace("_", " "), fontsize=10.5, loc="left")
        _layers(ax, details["layers"])
        ax.set_ylim(-0.02, 1.04)
    axes[0].set_ylabel("probe accuracy, best position")
    _legend(figure, axes[0])
    _title(figure, "What can be read from the hidden states")
    save(figure, path)


def erasure(details: Mapping[str, Any], path: Path) -> None:
    """Accuracy and memorization under erasure of the intermediate result and under its controls."""
    figure, axes = new_figure(2, 8.6, 4.2)
    lines = (
        ("leace", "erased (LEACE)", MEMORISED, "-"),
        ("inlp", "erased (INLP)", "#E69F00", "-"),
        ("random", "random, same rank and variance", GREY, "--"),
        ("irrelevant", "irrelevant concept", GREY, ":"),
    )
    titles = (("validation", "right on held-out questions"), ("memorized", "wrong label still given"))
    for ax, (key, title) in zip(axes, titles, strict=True):
        for method, text, color, dash in lines:
            ax.plot(details["layers"], details["methods"][method][key], dash, color=color, marker="o", label=text)
        ax.axhline(details["intact"][key], color="#bbbbbb", linewidth=0.9)
        ax.set_title(title, fontsize=10.5, loc="left")
        _layers(ax, details["layers"], "erased after layer")
        ax.set_ylim(-0.02, 1.04)
    axes[0].set_ylabel("share of questions")
    _legend(figure, axes[0])
    _title(figure, f"Erasing {' and '.join(details['intermediates']).replace('_', ' ')} from the residual stream")
    save(figure, path)


def interchange(details: Mapping[str, Any], path: Path) -> None:
    """How often a swapped intermediate result decides the answer."""
    figure, (ax,) = new_figure(1, 6.4, 4.2)
    lines = (
        ("concept", "its subspace swapped", TRUE, "-"),
        ("random", "random subspace swapped", GREY, ":"),
    )
    for way, text, color, dash in lines:
        ax.plot(details["layers"], details["share_implied"][way], dash, color=color, marker="o", label=text)
    _layers(ax, details["layers"], "swapped after layer")
    ax.set_ylim(-0.02, 1.04)
    ax.set_ylabel("answers that follow the swapped value")
    _legend(figure, ax, 3)
    _title(figure, f"Another example's {details['intermediate'].replace('_', ' ')}, swapped in")
    save(figure, path)


def ablation(details: Mapping[str, Any], path: Path) -> None:
    """Accuracy and memorization as more heads or units are set to their mean."""
    figure, axes = new_figure(len(details["kinds"]), 4.4 * len(details["kinds"]) + 0.6, 4.2)
    for ax, (kind, curves) in zip(axes, details["kinds"].items(), strict=True):
        for way, dash in (("by_importance", "-"), ("random", ":")):
            suffix = "" if way == "by_importance" else ", random order"
            ax.plot(
                details["shares"],
                curves[way]["validation_accuracy"],
                dash,
                color=HELD_OUT,
                label=f"right on held-out questions{suffix}",
            )
            ax.plot(
                details["shares"],
                curves[way]["memorization_rate"],
                dash,
                color=MEMORISED,
                label=f"wrong label still given{suffix}",
            )
        ax.set_xscale("log")
        ax.xaxis.set_major_formatter(lambda value, _: f"{value:.1%}")
        ax.set_title(
            {"heads": "attention heads", "units": "MLP units"}[kind] + f" ({curves['count']})",
            fontsize=10.5,
            loc="left",
        )
        ax.set_xlabel("share set to its mean")
        ax.set_ylim(-0.02, 1.04)
    axes[0].set_ylabel("share of questions")
    _legend(figure, axes[0], 2)
    _title(figure, "Removing what matters most for memorization")
    save(figure, path)


def position_importance(details: Mapping[str, Any], path: Path) -> None:
    """Fall of accuracy and of memorization when one position's state is resampled."""
    figure, axes = new_figure(2, 8.6, 0.6 + 0.42 * len(details["layers"]) + 1.8)
    for ax, (key, title) in zip(
        axes, (("validation", "held-out questions"), ("memorization", "memorised labels")), strict=True
    ):
        image = ax.imshow(details["drop"][key], vmin=0, vmax=1, cmap="cividis", aspect="auto", origin="lower")
        ax.set_title(title, fontsize=10.5, loc="left")
        ax.set_xticks(
            range(len(details["positions"])),
            [p.replace("_", " ") for p in details["positions"]],
            rotation=30,
            ha="right",
            fontsize=8,
        )
        ax.set_yticks(range(len(details["layers"])), [str(i + 1) for i in details["layers"]])
        ax.grid(visible=False)
    axes[0].set_ylabel("after layer")
    figure.colorbar(image, ax=axes, label="answers lost", shrink=0.8)
    _title(figure, "What each token still carries at each depth")
    save(figure, path)


def neighbourhood(details: Mapping[str, Any], path: Path) -> None:
    """Errors beside mislabelled and beside clean examples, by kind of neighbour."""
    kinds = details["kinds"]
    figure, (ax,) = new_figure(1, 1.6 * len(kinds) + 3.0, 4.0)
    for k, (offset, key, color, text) in enumerate(
        (
            (-0.25, "error_beside_noisy", MEMORISED, "wrong beside a mislabelled example"),
            (0.0, "error_beside_clean", HELD_OUT, "wrong beside a clean one"),
            (0.25, "same_label_beside_noisy", GREY, "gives the neighbour's wrong label"),
        )
    ):
        ax.bar(
            [i + offset for i in range(len(kinds))],
            [row[key] for row in kinds.values()],
            0.24,
            color=color,
            label=text,
            zorder=2 + k,
        )
    ax.set_xticks(range(len(kinds)), [name.replace("_", " ") for name in kinds])
    ax.set_ylabel("share of held-out neighbours")
    _legend(figure, ax, 2)
    _title(figure, "Does a memorised label leak to its neighbours?")
    save(figure, path)


def circuits(details: Mapping[str, Any], path: Path) -> None:
    """Faithfulness of each task's circuit by size, and circuits run on the other task."""
    snapshots = details["snapshots"]
    figure, axes = new_figure(len(snapshots), 4.4 * len(snapshots) + 0.6, 4.2)
    for ax, (name, part) in zip(axes, snapshots.items(), strict=True):
        ax.plot(
            details["shares"],
            part["faithfulness"]["clean"],
            color=HELD_OUT,
            marker="o",
            label="clean task, own circuit",
        )
        ax.plot(
            details["shares"],
            part["faithfulness"]["memorization"],
            color=MEMORISED,
            marker="o",
            label="memorization, own circuit",
        )
        cross = part["cross"]
        for key, color, text in (
            ("clean_on_memorization", MEMORISED, "memorization in the clean task's circuit"),
            ("memorization_on_clean", HELD_OUT, "clean task in memorization's circuit"),
            ("random", GREY, "memorization in a random circuit"),
        ):
            at = part["share"]["memorization" if key == "memorization_on_clean" else "clean"]
            ax.plot(
                [at],
                [sum(cross[key]) / len(cross[key])],
                "D",
                color=color,
                markersize=8,
                markerfacecolor="white",
                label=text,
            )
        ax.set_xscale("log")
        ax.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        ax.set_title(
            f"{SNAPSHOT_NAMES.get(name, name)}: overlap {part['iou']:.2f}\n"
            f"(random circuits {part['iou_random']:.2f}, two halves of one task {part['iou_split_half']:.2f})",
            fontsize=9.5,
            loc="left",
        )
        ax.set_xlabel("share of heads and units kept")
    axes[0].set_ylabel("part of the logit lead kept")
    _legend(figure, axes[0], 2)
    _title(figure, "Circuits of the clean task and of memorization")
    save(figure, path)


def neurons(details: Mapping[str, Any], path: Path) -> None:
    """What putting back the units that shifted most does, and which families of patterns units follow."""
    figure, axes = new_figure(2, 9.2, 4.2, share=False)
    shares = [0.0, *details["shares"]]
    for way, dash in (("by_shift", "-"), ("random", ":")):
        suffix = "" if way == "by_shift" else ", random units"
        axes[0].plot(
            shares,
            details["patching"][way]["validation"],
            dash,
            color=HELD_OUT,
            label=f"right on held-out questions{suffix}",
        )
        axes[0].plot(
            shares,
            details["patching"][way]["memorized"],
            dash,
            color=MEMORISED,
            label=f"wrong label still given{suffix}",
        )
    axes[0].set_xlabel("share of MLP units put back, most shifted first")
    axes[0].set_ylabel("share of questions")
    axes[0].set_ylim(-0.02, 1.04)
    families = details["families"] or {"none": 0}
    total = max(1, details["units"])
    axes[1].barh(list(families)[::-1], [count / total for count in families.values()][::-1], color=CLEAN)
    axes[1].set_xlabel("share of units that follow a pattern")
    axes[1].set_title(f"{details['classified']} of {details['units']} units", fontsize=10.5, loc="left")
    _legend(figure, axes[0], 2)
    _title(figure, "Units before memorization, put back after it")
    save(figure, path)
