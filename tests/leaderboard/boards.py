"""Boards that look like measured ones, made by hand: two published comparisons, or ordinary tasks without any."""

from __future__ import annotations

import copy
import math
import random
from itertools import combinations
from types import SimpleNamespace
from typing import Any

import numpy as np

from rote_bench.contrasts import across_seeds, family, permutation, rank_intervals, smallest_p, welch
from rote_bench.leaderboard.edges import edges
from rote_bench.leaderboard.sentences import sentences

# Name, type, millions of parameters, what a wrong label costs, spread of a seed, early clean peak.
MODELS = (
    ("gpt2-nano", "gpt2", 0.82, 0.21, 0.05, 0.93),
    ("llama-nano", "llama", 0.84, 0.24, 0.06, 0.91),
    ("qwen3-nano", "qwen3", 0.85, 0.27, 0.06, 0.90),
    ("gpt_neox-nano", "gpt_neox", 0.83, 0.25, 0.05, 0.92),
    ("mamba-nano", "mamba", 0.76, 0.06, 0.02, 0.97),
    ("mamba2-nano", "mamba2", 0.79, 0.08, 0.03, 0.97),
    ("rwkv-nano", "rwkv", 0.86, 0.41, 0.09, 0.74),
    ("falcon_h1-nano", "falcon_h1", 0.88, 0.14, 0.05, 0.95),
)
UNSOLVED = "rwkv-nano"  # whose twins do not learn the task
OUTLIER = ("llama-nano", "3", 1.93)  # a seed that went another way
LEFT_OUT = ("gemma2-nano", "not learned within the budget: no configuration settled on every tuning seed")
HEADINGS: dict[str, tuple[str, bool | None]] = {
    "noise_transfer": ("noise transfer", False),
    "early_clean_peak": ("early clean peak", True),
    "validation_accuracy": ("held-out accuracy", True),
    "counterfactual_memorization": ("memorization", None),
    "memorization_lag": ("memorization lag", None),
    "override_depth": ("override depth", None),
    "patch_dissociation": ("patch dissociation", None),
}
CLAIMS = {
    "generalize_then_memorize": "The model reaches half of its held-out questions before half of the noisy labels.",
    "clean_label_first": "Before memorising a noisy label the model gives the true answer to that very question.",
    "both_computed": "On memorised questions inner layers hold the true answer, later ones the noisy label.",
    "shared_circuits": "Memorised labels survive in the circuit of the clean task better than in a random circuit.",
}
RELATIONS = ("same_bridge_and_relation", "same_bridge", "same_first_hop", "same_second_hop")
CONFIGURATIONS = {"slow": "0.008", "middle": "0.016", "fast": "0.032"}
CAUSES = (
    ("peak_rate", 0.31, 0.5),
    ("final_rate", 0.31, 0.5),
    ("steps_at_full_rate", -0.5, 0.22),
    ("steps_after_memorised", 0.12, 0.8),
    ("accuracy_at_settle", 0.2, 0.7),
    ("memorised", -0.3, 0.5),
    ("twin_error", None, None),
    ("parameters", 0.64, 0.13),
)
CONTRASTS = (
    ("state_space", "mamba-nano", "gpt2-nano"),
    ("modern_block", "llama-nano", "gpt2-nano"),
    ("hybrid", "falcon_h1-nano", "gpt2-nano"),
)
CAUTION = (
    "The order of the models follows the steps at the full learning rate, the full learning rate and the number of"
    " parameters, which may explain it as well as what the models are."
)


def estimate(values: list[float] | float | None, half: float = 0.01, reason: str = "") -> dict[str, Any]:
    """A metric of a row: over seeds of some values, or around one."""
    if values is None:
        ends = {"ci_low": None, "ci_high": None, "ci_method": None, "n": 0, "item_half_width": None}
        return {"value": None, **ends, "higher_is_better": None, "reason_if_null": reason}
    if isinstance(values, float):
        found: tuple[float | None, ...] = (values, values - half, values + half)
    else:
        over = across_seeds(values)
        found = (over.value, over.ci_low, over.ci_high)
    return {
        **dict(zip(("value", "ci_low", "ci_high"), found, strict=True)),
        "ci_method": "t over seeds",
        "n": len(values) if isinstance(values, list) else 10,
        "item_half_width": half / 2,
        "higher_is_better": True,
        "reason_if_null": None,
    }


def learning(rng: random.Random, seed: str, rate: float) -> dict[str, Any]:
    late = 90_000 * (1 + 0.3 * rng.random())
    points = []
    for i in range(80):
        seen = int(512 * 1.092**i)
        right = 1 / (1 + math.exp(-(seen - 40_000) / 7_000))
        rote = 1 / (1 + math.exp(-(seen - late) / 16_000))
        known = rate > 0
        points.append(
            {
                "step": i * 10,
                "examples_seen": seen,
                "validation_accuracy": min(1.0, 0.985 * right + 0.01 * rng.random()),
                "train_clean_accuracy": min(1.0, 0.99 * right + 0.01 * rng.random()),
                "memorization_rate": 0.98 * rote if known else None,
                "noisy_true_rate": right * (1 - rote) if known else None,
            }
        )
    snapshots = {"pre_memorization": 540, "post_memorization": 790}
    return {"seed": seed, "snapshots": snapshots, "points": points}


def patching(rng: random.Random, seed: str) -> dict[str, Any]:
    layers = [1, 2, 3, 4]
    components: dict[str, Any] = {}
    for name, cut in (("block", 0.9), ("mixer", 0.15), ("mlp", 0.75)):
        kept = [max(0.0, 0.98 - cut * (layer / 4) - 0.05 * rng.random()) for layer in layers]
        right = [0.985 - 0.02 * rng.random() for _ in layers]
        components[name] = {"validation_accuracy": right, "memorization_rate": kept}
        if name != "block":
            control = [max(0.0, value - 0.2 * rng.random()) for value in right]
            components[name]["foreign"] = {"validation_accuracy": control, "memorization_rate": [0.9, 0.8, 0.85, 0.9]}
    return {"seed": seed, "layers": layers, "components": components}


def lens(rng: random.Random, seed: str) -> dict[str, Any]:
    true = [0.02, 0.35 + 0.1 * rng.random(), 0.7 + 0.1 * rng.random(), 0.3, 0.02]
    label = [0.0, 0.02, 0.15, 0.6 + 0.1 * rng.random(), 0.98]
    return {"seed": seed, "layers": [0, 1, 2, 3, 4], "true_top1": true, "label_top1": label}


def leaks(rng: random.Random, seed: str, cost: float) -> dict[str, Any]:
    said = {}
    for i, relation in enumerate(RELATIONS):
        chance = 0.004 * rng.random()
        said[relation] = {"observed": chance + cost * 0.3 / (i + 1) + 0.004 * rng.random(), "permuted": chance}
    return {"seed": seed, "relations": said}


def kernel(rng: random.Random, seed: str, cost: float) -> dict[str, Any]:
    def axis(steep: float) -> dict[str, list[float]]:
        near = [cost * 0.05 * (1 + steep * (3.5 - i) / 3.5) + 0.002 * rng.random() for i in range(8)]
        return {"observed": near, "permuted": [cost * 0.05 + 0.001 * rng.random() for _ in range(8)]}

    return {"seed": seed, "axes": {"task": axis(0.9), "states": axis(0.4)}}


def row(rng: random.Random, task: str, model: tuple[Any, ...], rate: float, seeds: int) -> dict[str, Any]:
    name, kind, size, cost, spread, peak = model
    noisy, solved = rate > 0, name != UNSOLVED
    names = [str(i) for i in range(seeds)]
    paid = {seed: cost + rng.gauss(0, spread) + 0.3 * (rate - 0.05) for seed in names} if noisy else {}
    if noisy and name == OUTLIER[0] and OUTLIER[1] in paid:
        paid[OUTLIER[1]] = OUTLIER[2]
    accuracy = (0.998 if solved else 0.61) - cost * rate
    metrics = {
        "noise_transfer": estimate(list(paid.values()) or None, 0.01, "needs wrong labels"),
        "early_clean_peak": estimate(peak if noisy else None, 0.012, "needs wrong labels"),
        "validation_accuracy": estimate(accuracy, 0.003),
        "counterfactual_memorization": estimate(0.985 - cost / 50 if noisy else None, 0.004, "needs wrong labels"),
        "memorization_lag": estimate(1.1 - 6 * rate if noisy else None, 0.08, "needs wrong labels"),
        "override_depth": estimate(0.75, 0.05),
        "patch_dissociation": estimate(0.55 - cost if solved else None, 0.06, "the task is not solved"),
        "reasoning_reliance_memorization": estimate(-0.04, 0.05),
    }
    drawn = names[:5]
    series: dict[str, Any] = {"learning_dynamics": [learning(rng, seed, rate) for seed in drawn]}
    if noisy:
        series["logit_lens"] = [lens(rng, seed) for seed in drawn]
        series["activation_patching"] = [patching(rng, seed) for seed in drawn]
        series["neighbourhood"] = [leaks(rng, seed, cost) for seed in names]
        series["leakage_kernel"] = [kernel(rng, seed, cost) for seed in names]
    why = "no wrong labels" if not noisy else "the task is not solved: held-out accuracy 0.610 at noise rate 0"
    return {
        "model": name,
        "model_type": kind,
        "source": "scratch",
        "parameters": int(size * 1e6),
        "setup": f"{rng.getrandbits(256):064x}",
        "noise_rate": rate,
        "rank_low": None,
        "rank_high": None,
        "reason": None if noisy and solved else why,
        "marks": ["from code with uncommitted changes: 3 of 3 cells"],
        "seeds": names,
        "cells": seeds,
        "failed": 1 if name == "mamba-nano" else 0,
        "values": [{"seed": seed, "value": value} for seed, value in paid.items()],
        "metrics": metrics,
        "findings": {
            id_: {
                "claim": claim,
                "replicated": seeds - 1,
                "not_replicated": 0,
                "inconclusive": 1,
                "not_applicable": 0,
                "reasons": [
                    {"verdict": "replicated", "reason": "the whole interval lies above 0", "seeds": names[1:]},
                    {"verdict": "inconclusive", "reason": "the interval [-0.1, 0.3] covers 0", "seeds": names[:1]},
                ],
            }
            for id_, claim in CLAIMS.items()
        },
        "series": series,
        "environment": {
            "git_commits": ["a3c5ae6f0d"],
            "torch": ["2.13.0"],
            "transformers": ["5.23.0"],
            "cpu": ["x86-64, 2 cores, AVX-512"],
        },
        "artifacts": {"present": 9, "missing": 0},
        "checked": {"recomputed": 18, "consistent": 72, "trusted": 9},
        "reports": [
            {
                "path": f"{task}/{name}/noise-{rate:g}/seed-{seed}/report.json",
                "sha256": f"{rng.getrandbits(256):064x}",
                "identity": f"{rng.getrandbits(256):064x}",
                "seed": seed,
            }
            for seed in names
        ],
    }


def compared(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Ranks of the rows of one noise rate, and every two of them that are ranked."""
    ranked = sorted((r for r in rows if r["reason"] is None), key=lambda r: r["metrics"]["noise_transfer"]["value"])
    values = [[one["value"] for one in r["values"]] for r in ranked]
    p = family(values)
    means = [sum(v) / len(v) for v in values]
    for r, (low, high) in zip(ranked, rank_intervals(means, p), strict=True):
        r["rank_low"], r["rank_high"] = low, high
    out = []
    for i, j in combinations(range(len(ranked)), 2):
        gap = welch(values[i], values[j])
        out.append(
            {
                "noise_rate": ranked[i]["noise_rate"],
                "first": ranked[i]["model"],
                "second": ranked[j]["model"],
                "metric": "noise_transfer",
                "seeds_first": len(values[i]),
                "seeds_second": len(values[j]),
                "difference": gap.value,
                "ci_low": gap.ci_low,
                "ci_high": gap.ci_high,
                "p": 0.0004 if p[i, j] < 0.05 else 0.2,
                "p_family": float(p[i, j]),
                "p_smallest": smallest_p(len(values[i]), len(values[j])),
            }
        )
    return out


def contrast(rows: list[dict[str, Any]], task: str, name: str, first: str, second: str) -> dict[str, Any]:
    """A planned contrast of two models."""
    values = {r["model"]: [one["value"] for one in r["values"]] for r in rows}
    sides = [values[first], values[second]]
    gap, p = welch(*sides), permutation(sides[0], sides[1], np.random.default_rng(0))
    return {
        "name": name,
        "first": first,
        "second": second,
        "tasks": [task, task],
        "models": [first, second],
        "noise_rates": [0.05, 0.05],
        "metric": "noise_transfer",
        "n": [len(side) for side in sides],
        "sd": 0.08,
        "visible": 0.13,
        "difference": gap.value,
        "ci_low": gap.ci_low,
        "ci_high": gap.ci_high,
        "p": p,
        "p_holm": p,
        "verdict": "not told apart" if p > 0.05 else "lower" if (gap.value or 0) < 0 else "higher",
        "reason": None,
    }


def said(rows: list[dict[str, Any]], pairs: list[dict[str, Any]], contrasts: list[dict[str, Any]]) -> Any:
    """The sentences that the rules make of such rows."""

    def row(one: dict[str, Any]) -> Any:
        metrics = {name: SimpleNamespace(**entry) for name, entry in one["metrics"].items()}
        return SimpleNamespace(
            model=one["model"],
            rate=one["noise_rate"],
            ranks=None if one["rank_low"] is None else (one["rank_low"], one["rank_high"]),
            reason=one["reason"],
            transfers={each["seed"]: each["value"] for each in one["values"]},
            metrics=metrics,
            value=lambda name: metrics[name].value,
        )

    made: list[Any] = [SimpleNamespace(**each) for each in pairs]
    dull = [{"cause": cause, "models": 7, "rho": rho, "p": p} for cause, rho, p in CAUSES]
    return sentences([row(one) for one in rows], made, contrasts, dull, [LEFT_OUT])


def published(
    rng: random.Random, rows: list[dict[str, Any]], pairs: list[dict[str, Any]], name: str, title: str
) -> dict[str, Any]:
    """What a board says of a published comparison of such rows."""
    models: list[dict[str, Any]] = []
    table, trials = [], []
    for model in MODELS:
        chosen = rng.choice(list(CONFIGURATIONS))
        settle = 100 * rng.randint(5, 9)
        models.append(
            {
                "model": model[0],
                "configuration": chosen,
                "reason": None,
                "recipe": {"training.learning_rate": CONFIGURATIONS[chosen]},
                "parameters": int(model[2] * 1e6),
                "peak_rate": float(CONFIGURATIONS[chosen]),
                "final_rate": float(CONFIGURATIONS[chosen]) / 10,
                "settle": settle,
                "steps": settle + 450,
                "overrides": {"model.mlp_width": "344"} if model[0] in ("llama-nano", "qwen3-nano") else {},
            }
        )
    none = dict.fromkeys(("configuration", "parameters", "peak_rate", "final_rate", "settle", "steps"))
    models.append({"model": LEFT_OUT[0], "reason": LEFT_OUT[1], "recipe": {}, "overrides": {}, **none})
    for one in models:
        for configuration in CONFIGURATIONS:
            learned, chosen = one["reason"] is None, configuration == one["configuration"]
            table.append(
                {
                    "model": one["model"],
                    "configuration": configuration,
                    "selection_accuracy": 0.9995 if learned else 0.41,
                    "standard_error": 0.0004 if learned else None,
                    "settled": [500, 520] if learned else [None, 700],
                    "settle": 650 if learned else None,
                    "steps": 1100 if learned else None,
                    "finalist": chosen,
                    "memorised_at": [720, 740] if chosen else None,
                    "chosen": chosen,
                }
            )
            trials += [
                {
                    "model": one["model"],
                    "configuration": configuration,
                    "noise_rate": 0.0,
                    "seed": seed,
                    "path": f"tuning/{configuration}/{name}/{one['model']}/noise-0/seed-{seed}/report.json",
                    "identity": f"{rng.getrandbits(256):064x}",
                    "sha256": f"{rng.getrandbits(256):064x}",
                }
                for seed in ("100", "101")
            ]
    contrasts = [contrast(rows, name, *one) for one in CONTRASTS]
    configurations = {key: {"training.learning_rate": rate} for key, rate in CONFIGURATIONS.items()}
    return {
        "name": name,
        "title": title,
        "rules": f"{rng.getrandbits(256):064x}",
        "models": models,
        "tuning": {
            "seeds": [100, 101],
            "noise_rate": 0.05,
            "memorised": 0.98,
            "margin": 1.25,
            "configurations": configurations,
            "edges": edges(configurations, [one["configuration"] for one in models if one["configuration"]]),
            "table": table,
            "trials": trials,
        },
        "contrasts": contrasts,
        "causes": [{"cause": cause, "models": 7, "rho": rho, "p": p} for cause, rho, p in CAUSES],
        "sentences": said(rows, pairs, contrasts),
    }


def board(
    rates: tuple[float, ...] = (0.0, 0.02, 0.05, 0.1, 0.2),
    models: int = len(MODELS),
    seeds: int = 10,
    *,
    comparisons: bool = True,
) -> dict[str, Any]:
    """A board of two tasks.

    Args:
        models: rows of each noise rate; more than there are models are made of copies.
        comparisons: whether both tasks are published comparisons.
    """
    rng = random.Random(7)
    tasks = []
    for name, profile, title in (("thr", "compact", "Two-hop reasoning, compact"), ("fda", "", "Four-digit addition")):
        task = f"{name}-{profile}" if profile else name
        n = len(MODELS)
        pool = [(f"{m[0]}{i // n or ''}", *m[1:]) for i, m in enumerate(MODELS * 9)][:models]
        rows = [row(rng, task, model, rate, seeds) for rate in rates for model in pool]
        pairs = [pair for rate in rates if rate for pair in compared([r for r in rows if r["noise_rate"] == rate])]
        rows.sort(
            key=lambda r: (
                r["noise_rate"] != 0.05,
                r["noise_rate"],
                r["rank_low"] is None,
                r["metrics"]["noise_transfer"]["value"] or 0,
            )
        )
        at_main = [r for r in rows if r["noise_rate"] == 0.05]
        whole = comparisons and models >= n and bool(at_main)
        heading = f"{title}: eight architectures" if whole else title
        tasks.append(
            {
                "task": f"{task} [comparison {name}]" if whole else task,
                "name": name,
                "profile": profile or None,
                "title": heading,
                "recipe": None,
                "version": 1,
                "content_hash": f"{rng.getrandbits(256):064x}",
                "main_rate": 0.05 if at_main else next((rate for rate in rates if rate), None),
                "noise_rates": list(rates),
                "rows": rows,
                "comparisons": pairs,
                "findings": [
                    {
                        "task": task,
                        "model": r["model"],
                        "noise": 0.05,
                        "id": "benign",
                        "verdict": "replicated" if r["metrics"]["noise_transfer"]["ci_high"] < 0.1 else "inconclusive",
                        "reason": "noise transfer lies below 0.1",
                        **{key: r["metrics"]["noise_transfer"][key] for key in ("value", "ci_low", "ci_high")},
                    }
                    for r in at_main
                ],
                "comparison": published(rng, at_main, [p for p in pairs if p["noise_rate"] == 0.05], name, heading)
                if whole
                else None,
            }
        )
    return {
        "schema_version": 4,
        "rote_bench": "0.1.0",
        "rule": "By noise transfer at the main noise rate, lowest first.",
        "gates": {"twin_validation_accuracy": 0.99, "counterfactual_memorization": 0.95},
        "columns": list(HEADINGS),
        "metrics": {
            name: {"heading": heading, "meaning": f"what {heading} says", "higher_is_better": better}
            for name, (heading, better) in HEADINGS.items()
        },
        "reports": {"found": 181, "counted": 180, "refused": 0, "barred": 1, "conflicts": 0, "duplicates": 0},
        "artifacts": {"present": 540, "missing": 0},
        "tasks": tasks,
        "refused": [
            {"path": "thr-compact/old/report.json", "reason": "of another version of the task", "kind": "barred"}
        ],
    }


def with_text(value: Any, text: str, keep: tuple[str, ...] = ("seed", "seeds", "columns")) -> Any:
    """The same board with every text in it replaced, apart from seeds and columns, which must stay different."""
    if isinstance(value, dict):
        return {k: v if k in keep else with_text(v, text) for k, v in value.items()}
    if isinstance(value, list):
        return [with_text(v, text) for v in value]
    return text if isinstance(value, str) else value


def with_names(given: dict[str, Any], text: str) -> dict[str, Any]:
    """The same board with a name of its own choice wherever a report chooses the name."""
    out = copy.deepcopy(given)
    out["gates"][text] = 0.5
    out["metrics"][text] = out["metrics"]["override_depth"]
    for task in out["tasks"]:
        if task["comparison"]:
            task["comparison"]["tuning"]["configurations"][text] = {text: text}
        for r in task["rows"]:
            r["metrics"][text] = r["metrics"]["override_depth"]
            r["findings"][text] = r["findings"]["shared_circuits"]
            r["environment"][text] = [text]
            r["seeds"] = [text + seed for seed in r["seeds"]]
            for one in r["values"]:
                one["seed"] = text + one["seed"]
            for one in r["series"]["learning_dynamics"]:
                one["seed"] = text + one["seed"]
            for one in r["series"].get("activation_patching", ()):
                one["components"][text] = one["components"]["mlp"]
            for one in r["series"].get("neighbourhood", ()):
                one["relations"][text] = one["relations"][RELATIONS[0]]
    return out
