"""Metrics recomputed from the details that a report itself holds, by the formulas of their diagnostics.

A report keeps, for its figures, most of what its metrics are made of. A number that was changed afterwards no longer
follows from it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ..diagnostics.learning_dynamics import LearningDynamicsOptions, lag
from ..diagnostics.position_importance import spread
from ..training.curve import Evaluation

Details = Mapping[str, Any]
Found = Mapping[str, Any]
TOLERANCE = 1e-6
ANSWER = "answer"


def recompute(report: Mapping[str, Any]) -> dict[str, float | None]:
    """Metric -> the value that the report's details imply, for every metric that they determine."""
    out: dict[str, float | None] = {}
    for _, found in _implied(report):
        out.update(found or {})
    return out


def differing(report: Mapping[str, Any]) -> list[str]:
    """Sentences about every metric that does not follow from the details beside it."""
    out = []
    for diagnostic, found in _implied(report):
        if found is None:
            out.append(f"the details of {diagnostic} are not those that its metrics are made of")
        for name, implied in (found or {}).items():
            claimed = report["metrics"].get(name, {}).get("value")
            if not agree(claimed, implied):
                out.append(f"{name} is {shown(claimed)}, but the details of its diagnostic give {shown(implied)}")
    return out


def _implied(report: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, float | None] | None]]:
    """Each diagnostic whose formula is known and that has metrics, with their values; None when nothing follows."""
    for name, entry in report["diagnostics"].items():
        formula = FORMULAS.get((name, entry["version"]))
        if formula is None or entry["status"] != "success" or not entry["metrics"]:
            continue
        try:
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")  # as of the mean of an empty list
                found = formula(report, entry["details"])
                values = {metric: None if found[metric] is None else float(found[metric]) for metric in found}
        except (KeyError, IndexError, TypeError, ValueError, AttributeError, ArithmeticError):
            yield name, None
        else:
            yield name, {metric: value for metric, value in values.items() if metric in entry["metrics"]}


def agree(claimed: float | None, implied: float | None) -> bool:
    """Whether a claimed value is the implied one, but for rounding."""
    if claimed is None or implied is None:
        return claimed is implied
    return abs(claimed - implied) <= TOLERANCE * max(1.0, abs(implied))


def shown(value: float | None) -> str:
    """A number, or its absence, as a message shows it."""
    return "null" if value is None else f"{value:.6g}"


def peak(curve: Sequence[Details], n: int) -> dict[str, float | None]:
    """``early_clean_peak`` and its relative form from a learning curve that n noisy examples were measured on."""
    best = max(curve, key=lambda point: point["noisy_true_rate"])
    value = round(best["noisy_true_rate"] * n) / n
    accuracy = best["validation_accuracy"]
    return {"early_clean_peak": value, "early_clean_peak_relative": value / accuracy if accuracy else None}


def level_of(report: Mapping[str, Any]) -> float:
    """The accuracy at which generalization and memorization count as reached."""
    chosen = report["identity"]["parts"].get("diagnostics", {}).get("learning_dynamics", {}).get("options", {})
    return float(chosen.get("level", LearningDynamicsOptions.level))


def _dynamics(report: Mapping[str, Any], details: Details) -> Found:
    n = report["metrics"]["early_clean_peak"]["n"]
    if n == 0:
        return {"early_clean_peak": None, "memorization_lag": None}
    return peak(details["curve"], n) | {
        "memorization_lag": lag([Evaluation.read(p) for p in details["curve"]], level_of(report)).value
    }


def _lens(report: Mapping[str, Any], details: Details) -> Found:
    over = details["snapshots"]["post_memorization"]["noisy"]["label_over_true"]
    layers = len(over)
    ahead = [layer for layer in range(layers) if over[layer] < 0.5]
    behind = [layer for layer in range(layers) if over[layer] <= 0.5]
    never = bool(behind) and behind[-1] == layers - 1
    return {
        "clean_label_depth": (ahead[0] + 1) / layers if ahead else None,
        "override_depth": None if never else (behind[-1] + 2 if behind else 1) / layers,
    }


def _kept(curve: Sequence[float], intact: float) -> Any:
    return np.asarray(curve, dtype=float) / intact


def _patching(report: Mapping[str, Any], details: Details) -> Found:
    intact = details["intact"]["post_memorization"]
    by_layer = details["directions"]["pre_into_post"]["mlp"]["all_positions"]
    together = details["all_layers"]["pre_into_post"]["mlp"]
    held, noisy = intact["validation_accuracy"], intact["memorization_rate"]
    area = None
    if held and noisy:
        area = float(
            (_kept(by_layer["validation_accuracy"], held) - _kept(by_layer["memorization_rate"], noisy)).mean()
        )
    return {
        "patch_dissociation": area,
        "patched_mlp_validation_accuracy": together["validation_accuracy"],
        "patched_mlp_memorization_rate": together["memorization_rate"],
    }


def _probe(report: Mapping[str, Any], details: Details) -> Found:
    targets = details["targets"]
    chosen = [name for name in targets if name != ANSWER] or [ANSWER]

    def mean(table: str) -> float:
        read = [np.asarray(targets[n][table], dtype=float).ravel()[targets[n]["chosen_site"]] for n in chosen]
        return float(np.mean(read))

    return {"probe_accuracy_noisy": mean("noisy"), "probe_control_noisy": mean("control")}


def _erasure(report: Mapping[str, Any], details: Details) -> Found:
    at, methods, intact = details["chosen_layer"] - 1, details["methods"], details["intact"]

    def reliance(key: str) -> float | None:
        lost = methods["random"][key][at] - methods["leace"][key][at]
        return lost / intact[key] if intact[key] else None

    return {
        "reasoning_reliance_memorization": reliance("memorized"),
        "reasoning_reliance_validation": reliance("validation"),
    }


def _interchange(report: Mapping[str, Any], details: Details) -> Found:
    at, shares = details["chosen_layer"] - 1, details["share_implied"]
    return {"interchange_accuracy": shares["concept"][at], "interchange_control": shares["random"][at]}


def _ablation(report: Mapping[str, Any], details: Details) -> Found:
    return {"distributedness_k50": min((k for k in details["k50"].values() if k is not None), default=None)}


def _positions(report: Mapping[str, Any], details: Details) -> Found:
    spreads = {key: float(spread(np.asarray(drop[0], dtype=float))) for key, drop in details["drop"].items()}
    return {f"position_spread_{key}": value if np.isfinite(value) else None for key, value in spreads.items()}


def _neighbourhood(report: Mapping[str, Any], details: Details) -> Found:
    kinds = details["kinds"].values()

    def mean(what: str, side: str) -> float:
        hits = sum(k[f"{what}_beside_{side}"] * k[f"n_{side}"] for k in kinds)
        return float(hits / sum(k[f"n_{side}"] for k in kinds))

    return {
        "neighbour_leakage": mean("error", "noisy") - mean("error", "clean"),
        "neighbour_same_label": mean("same_label", "noisy"),
    }


def _circuits(report: Mapping[str, Any], details: Details) -> Found:
    final = details["snapshots"]["post_memorization"]
    random, halves, cross = final["iou_random"], final["iou_split_half"], final["cross"]
    return {
        "circuit_sharing": None if halves - random < 0.05 else (final["iou"] - random) / (halves - random),
        "cross_faithfulness_memorization": float(np.mean(cross["clean_on_memorization"])),
        "cross_faithfulness_clean": float(np.mean(cross["memorization_on_clean"])),
        "cross_faithfulness_random": float(np.mean(cross["random"])),
    }


def _neurons(report: Mapping[str, Any], details: Details) -> Found:
    share, units = details["classified"] / details["units"], details["patching"]
    held, noisy = units["by_shift"]["validation"][0], units["by_shift"]["memorized"][0]

    def area(way: str) -> float:
        rows = units[way]
        return float((_kept(rows["validation"][1:], held) - _kept(rows["memorized"][1:], noisy)).mean())

    return {
        "heuristic_shift_concentration": details["share_of_shift_in_classified"] / share if share else None,
        "unit_patch_dissociation": area("by_shift") - area("random") if held and noisy else None,
    }


# Each formula belongs to one version of its diagnostic: a later version may define its metrics anew.
FORMULAS: Mapping[tuple[str, int], Callable[[Mapping[str, Any], Details], Found]] = {
    ("learning_dynamics", 1): _dynamics,
    ("logit_lens", 1): _lens,
    ("activation_patching", 1): _patching,
    ("probe", 1): _probe,
    ("erasure", 1): _erasure,
    ("interchange", 1): _interchange,
    ("ablation", 1): _ablation,
    ("position_importance", 1): _positions,
    ("neighbourhood", 1): _neighbourhood,
    ("circuits", 1): _circuits,
    ("neurons", 1): _neurons,
}
