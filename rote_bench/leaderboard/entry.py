"""What the board keeps of a report: a few kilobytes of its content, and nothing that was not looked at."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..hashing import digest
from ..report.table import task_label

CURVES = ("validation_accuracy", "train_clean_accuracy", "memorization_rate", "noisy_true_rate")
COMPONENTS = ("block", "mixer", "mlp")
KEPT = ("value", "ci_low", "ci_high", "ci_method", "n", "higher_is_better", "reason_if_null")
MOST_POINTS, MOST_LAYERS = 64, 256


@dataclass(frozen=True, slots=True)
class Entry:
    """One admitted report.

    Attributes:
        path: relative to the common root, with forward slashes.
        task: the task with its profile.
        content: hash of what decides the examples.
        setup: hash of what decides a model's result apart from task, noise rate and seeds.
        seeds: data, noise, init, order, bootstrap.
        metrics: name -> the values of ``KEPT``.
        findings: id -> (claim, verdict).
        curve: step, examples seen and ``CURVES`` of each evaluation.
        environment: commit, dirty, torch, transformers, cpu, precision, remote code.
        odd: failed diagnostics and other things that a reader should know.
        artifacts: how many of the files beside the report are there, and how many are not.
        barred: why the report does not count although nothing is wrong with it, or None.
    """

    path: str
    sha256: str
    identity: str
    task: str
    name: str
    profile: str | None
    title: str
    version: int
    content: str
    setup: str
    model: str
    model_type: str
    source: str
    parameters: int
    rate: float
    seeds: tuple[int, int, int, int, int]
    metrics: Mapping[str, tuple[Any, ...]]
    findings: Mapping[str, tuple[str, str]]
    snapshots: Mapping[str, int]
    curve: Sequence[tuple[float | None, ...]]
    lens: tuple[Sequence[float], Sequence[float], Sequence[float]] | None
    patching: Mapping[str, Sequence[float]] | None
    environment: Mapping[str, Any]
    odd: tuple[str, ...]
    artifacts: tuple[int, int]
    barred: str | None

    def metric(self, name: str) -> dict[str, Any] | None:
        """A metric as the report holds it, without its split."""
        found = self.metrics.get(name)
        return None if found is None else dict(zip(KEPT, found, strict=True))

    def value(self, name: str) -> float | None:
        found = self.metrics.get(name)
        value: float | None = None if found is None else found[0]
        return value

    @property
    def seed(self) -> str:
        """A short name: the seed, or all five when they differ."""
        return str(self.seeds[0]) if len(set(self.seeds)) == 1 else "-".join(map(str, self.seeds))

    def as_report(self) -> dict[str, Any]:
        """The part of the report that findings over several cells are decided on."""
        return {
            "status": "success",
            "task": {"name": self.name, "spec": {"name": self.name, "profile": self.profile}},
            "model": {"name": self.model},
            "data": {"noise_rate": self.rate},
            "seeds": dict(zip(("data", "noise", "init", "order", "bootstrap"), self.seeds, strict=True)),
            "metrics": {
                name: {"value": self.value(name)}
                for name in ("validation_accuracy", "counterfactual_memorization", "memorization_rate")
            },
        }


def make(report: Mapping[str, Any], *, path: str, sha256: str, artifacts: tuple[int, int], barred: str | None) -> Entry:
    """The entry of a report that was found to be sound."""
    task, model, environment = report["task"], report["model"], report["environment"]
    parts, diagnostics = report["identity"]["parts"], report["diagnostics"]
    setup = {
        "overrides": task["spec"].get("model"),
        "recipe": parts.get("recipe"),
        "snapshots": parts.get("snapshots"),
        "revision": model["revision"],
        "source": model["source"],
        "dtype": parts.get("dtype"),
    }
    seeds = report["seeds"]
    return Entry(
        path=path,
        sha256=sha256,
        identity=report["identity"]["hash"],
        task=sys.intern(task_label(report)),
        name=sys.intern(task["name"]),
        profile=task["spec"].get("profile"),
        title=sys.intern(str(task["spec"].get("title") or task["name"])),
        version=task["version"],
        content=sys.intern(task["content_hash"]),
        setup=sys.intern(digest(setup)),
        model=sys.intern(model["name"]),
        model_type=sys.intern(model["model_type"]),
        source=sys.intern(model["source"]),
        parameters=model["parameters"],
        rate=float(report["data"]["noise_rate"]),
        seeds=(seeds["data"], seeds["noise"], seeds["init"], seeds["order"], seeds["bootstrap"]),
        metrics={sys.intern(name): tuple(entry[key] for key in KEPT) for name, entry in report["metrics"].items()},
        findings={f["id"]: (f["claim"], f["verdict"]) for f in report["findings"]},
        snapshots=dict(report["training"]["snapshots"]),
        curve=_curve(_details(diagnostics, "learning_dynamics"), set(report["training"]["snapshots"].values())),
        lens=_lens(_details(diagnostics, "logit_lens")),
        patching=_patching(_details(diagnostics, "activation_patching")),
        environment={
            "rote_bench": environment["rote_bench"],
            "git_commit": environment["git_commit"],
            "git_dirty": environment["git_dirty"],
            "torch": environment["torch"],
            "transformers": environment["transformers"],
            "cpu": environment["cpu"],
            "precision": environment["precision"],
            "remote_code": environment["remote_code"],
        },
        odd=tuple(f"{name} failed" for name, entry in sorted(diagnostics.items()) if entry["status"] == "failed"),
        artifacts=artifacts,
        barred=barred,
    )


def _details(diagnostics: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    entry = diagnostics.get(name)
    details: Mapping[str, Any] = entry["details"] if entry is not None and entry["status"] == "success" else {}
    return details


def _at(value: Any, *keys: str) -> Any:
    """The value under nested keys, None where there is none."""
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _numbers(value: Any) -> list[float] | None:
    """A list of ordinary numbers, rounded for drawing; None when it is anything else."""
    if not isinstance(value, list) or not 0 < len(value) <= MOST_LAYERS:
        return None
    if any(isinstance(v, bool) or not isinstance(v, int | float) or abs(v) > 1e9 for v in value):
        return None
    return [round(float(v), 4) for v in value]


def _curve(details: Mapping[str, Any], steps: set[int]) -> list[tuple[float | None, ...]]:
    """The learning curve, thinned evenly to ``MOST_POINTS`` beside the snapshots; empty when it is no curve."""
    curve = details.get("curve")
    if not isinstance(curve, list) or not all(isinstance(point, Mapping) for point in curve):
        return []
    keep = set(range(len(curve)))
    if len(curve) > MOST_POINTS:
        keep = {round(i * (len(curve) - 1) / (MOST_POINTS - 1)) for i in range(MOST_POINTS)}
        keep |= {i for i, point in enumerate(curve) if point.get("step") in steps}
    rows: list[tuple[float | None, ...]] = []
    for i in sorted(keep):
        point = curve[i]
        row = [point.get(key) for key in ("step", "examples_seen", *CURVES)]
        if None in row[:2] or _numbers([0 if value is None else value for value in row]) is None:
            return []
        rows.append((int(row[0]), int(row[1]), *(None if v is None else round(float(v), 4) for v in row[2:])))
    return rows


def _lens(details: Mapping[str, Any]) -> tuple[Sequence[float], Sequence[float], Sequence[float]] | None:
    part = _at(details, "snapshots", "post_memorization")
    layers = _numbers(_at(part, "layers"))
    true, label = (_numbers(_at(part, "noisy", key)) for key in ("true_top1", "label_top1"))
    if layers is None or true is None or label is None or not len(layers) == len(true) == len(label):
        return None
    return [int(layer) for layer in layers], true, label


def _patching(details: Mapping[str, Any]) -> Mapping[str, Sequence[float]] | None:
    layers = _numbers(details.get("layers"))
    if layers is None:
        return None
    out: dict[str, Sequence[float]] = {"layers": [int(layer) for layer in layers]}
    for component in COMPONENTS:
        found = _at(details, "directions", "pre_into_post", component, "all_positions")
        curves = [_numbers(_at(found, key)) for key in ("validation_accuracy", "memorization_rate")]
        if all(curve is not None and len(curve) == len(layers) for curve in curves):
            out[f"{component} validation_accuracy"], out[f"{component} memorization_rate"] = curves  # type: ignore[assignment]
    return out if len(out) > 1 else None
