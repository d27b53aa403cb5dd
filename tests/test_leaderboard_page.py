"""The page of the leaderboard: what it escapes, that it is one closed file, and how it behaves in a browser."""

from __future__ import annotations

import math
import random
from typing import Any

MODELS = (
    ("gpt2-nano", "gpt2", 0.82, 0.010),
    ("llama-nano", "llama", 1.06, 0.018),
    ("qwen3-nano", "qwen3", 1.07, 0.022),
    ("mamba-nano", "mamba", 0.61, 0.055),
    ("rwkv-nano", "rwkv", 0.72, 0.075),
    ("gpt_neox-nano", "gpt_neox", 0.83, 0.031),
)
CLAIMS = {
    "generalize_then_memorize": "The model reaches half of its held-out questions before half of the noisy labels.",
    "clean_label_first": "Before memorising a noisy label the model gives the true answer to that very question.",
    "both_computed": "On memorised questions inner layers hold the true answer, later ones the noisy label.",
    "shared_circuits": "Memorised labels survive in the circuit of the clean task better than in a random circuit.",
}


def estimate(rng: random.Random, value: float | None, spread: float, reason: str | None = None) -> dict[str, Any]:
    if value is None:
        ends = {"ci_low": None, "ci_high": None, "ci_method": None, "n": 0, "item_half_width": None}
        return {"value": None, **ends, "higher_is_better": None, "reason_if_null": reason}
    low, high = value - spread * (0.5 + rng.random()), value + spread * (0.5 + rng.random())
    return {
        "value": value,
        "ci_low": low,
        "ci_high": high,
        "ci_method": "bootstrap_iqm",
        "n": 3,
        "item_half_width": spread / 2,
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
    layers = [0, 1, 2, 3]
    components = {}
    for name, cut in (("block", 0.9), ("mixer", 0.15), ("mlp", 0.75)):
        kept = [max(0.0, 0.98 - cut * (layer / 3) - 0.05 * rng.random()) for layer in layers]
        right = [0.985 - 0.02 * rng.random() for _ in layers]
        components[name] = {"validation_accuracy": right, "memorization_rate": kept}
    return {"seed": seed, "layers": layers, "components": components}


def lens(rng: random.Random, seed: str) -> dict[str, Any]:
    true = [0.02, 0.35 + 0.1 * rng.random(), 0.7 + 0.1 * rng.random(), 0.3, 0.02]
    label = [0.0, 0.02, 0.15, 0.6 + 0.1 * rng.random(), 0.98]
    return {"seed": seed, "layers": [0, 1, 2, 3, 4], "true_top1": true, "label_top1": label}


def row(rng: random.Random, task: str, model: tuple[str, str, float, float], rate: float) -> dict[str, Any]:
    name, kind, size, cost = model
    fails = name == "rwkv-nano"
    accuracy = 0.61 if fails else 0.996 - cost * rate * 4
    noisy = rate > 0
    values = {
        "noise_transfer": (cost * 4 if noisy and not fails else None, 0.012),
        "early_clean_peak": (0.96 - cost if noisy else None, 0.012),
        "validation_accuracy": (accuracy, 0.003),
        "counterfactual_memorization": (0.985 - cost / 10 if noisy else None, 0.004),
        "memorization_lag": (1.1 - 6 * rate if noisy else None, 0.08),
        "override_depth": (0.75, 0.05),
        "patch_dissociation": (0.55 - cost, 0.06),
        "reasoning_reliance_memorization": (-0.04, 0.05),
    }
    seeds = ["0", "1", "2"]
    return {
        "model": name,
        "model_type": kind,
        "source": "scratch",
        "parameters": int(size * 1e6),
        "setup": f"{rng.getrandbits(256):064x}",
        "noise_rate": rate,
        "rank": None,
        "reason": "nothing to memorise" if not noisy else "the twin reaches validation accuracy 0.61" if fails else None,
        "marks": ["one seed failed"] if name == "mamba-nano" else [],
        "seeds": seeds,
        "cells": 3,
        "failed": 1 if name == "mamba-nano" else 0,
        "metrics": {k: estimate(rng, v, s, "needs wrong labels") for k, (v, s) in values.items()},
        "findings": {
            id_: {"claim": claim, "replicated": 2, "not_replicated": 0, "inconclusive": 1, "not_applicable": 0}
            for id_, claim in CLAIMS.items()
        },
        "series": {
            "learning": [learning(rng, seed, rate) for seed in seeds],
            "lens": [lens(rng, seed) for seed in seeds] if noisy else [],
            "patching": [patching(rng, seed) for seed in seeds] if noisy else [],
        },
        "environment": {
            "git_commits": ["a3c5ae6f0d"],
            "torch": ["2.13.0"],
            "transformers": ["5.23.0"],
            "cpu": ["x86-64, 2 cores, AVX-512"],
        },
        "artifacts": {"present": 9, "missing": 0},
        "reports": [
            {
                "path": f"{task}/{name}/noise-{rate:g}/seed-{seed}/report.json",
                "sha256": f"{rng.getrandbits(256):064x}",
                "identity": f"{rng.getrandbits(256):064x}",
                "seed": seed,
            }
            for seed in seeds
        ],
    }


def board(rates: tuple[float, ...] = (0.0, 0.02, 0.05, 0.1, 0.2), models: int = 6) -> dict[str, Any]:
    """A board of two tasks that looks like a measured one."""
    rng = random.Random(7)
    tasks = []
    for name, profile, title in (("thr", "compact", "Two-hop reasoning, symbols"), ("fda", "", "Four-digit addition")):
        task = f"{name}-{profile}" if profile else name
        pool = [(f"{m[0]}{i // 6 or ''}", *m[1:3], m[3] * (1 + i // 6 / 5)) for i, m in enumerate(MODELS * 9)][:models]
        rows = [row(rng, task, model, rate) for rate in rates for model in pool]
        for rate in rates:
            ranked = [r for r in rows if r["noise_rate"] == rate > 0 and r["reason"] is None]
            for rank, r in enumerate(sorted(ranked, key=lambda r: r["metrics"]["noise_transfer"]["value"]), start=1):
                r["rank"] = rank
        rows.sort(key=lambda r: (r["noise_rate"] != 0.05, r["noise_rate"], r["rank"] is None, r["rank"] or 0))
        comparisons = [
            {
                "noise_rate": 0.05,
                "first": a[0],
                "second": b[0],
                "metric": "noise_transfer",
                "pairs": 3,
                "difference": a[3] - b[3],
                "ci_low": a[3] - b[3] - 0.02,
                "ci_high": a[3] - b[3] + 0.02,
                "p": 0.0004 if abs(a[3] - b[3]) > 0.04 else 0.2,
                "p_holm": 0.0009 if abs(a[3] - b[3]) > 0.04 else 0.6,
                "p_smallest": 0.0002,
            }
            for i, a in enumerate(pool)
            for b in pool[i + 1 :]
        ]
        tasks.append(
            {
                "task": task,
                "name": name,
                "profile": profile or None,
                "title": title,
                "version": 1,
                "content_hash": f"{rng.getrandbits(256):064x}",
                "main_rate": 0.05,
                "noise_rates": list(rates),
                "rows": rows,
                "comparisons": comparisons,
                "findings": [
                    {
                        "task": task,
                        "model": model[0],
                        "noise": 0.05,
                        "id": "benign",
                        "verdict": "replicated" if model[3] < 0.03 else "inconclusive",
                        "reason": "noise transfer lies below 0.1",
                        "value": model[3] * 4,
                        "ci_low": model[3] * 4 - 0.02,
                        "ci_high": model[3] * 4 + 0.02,
                    }
                    for model in pool
                ],
            }
        )
    return {
        "schema_version": 1,
        "rote_bench": "0.1.0",
        "rule": "By noise transfer at the main noise rate, lowest first; ties by early clean peak, highest first.",
        "gates": {"twin_validation_accuracy": 0.99, "counterfactual_memorization": 0.95},
        "reports": {"found": 181, "counted": 180, "refused": 0, "barred": 1, "duplicates": 0},
        "artifacts": {"present": 540, "missing": 0},
        "tasks": tasks,
        "refused": [{"path": "thr-compact/old/report.json", "reason": "of another version of the task", "kind": "barred"}],
    }
