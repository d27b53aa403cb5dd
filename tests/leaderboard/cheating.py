"""What somebody does who changes a report with care: everything that is derived from it is derived again."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

from rote_bench.hashing import digest, sha256

from .cells import judge, put

TINY = """
name: tiny
generator: two_hop
parameters: {form: symbols, entities: 10, bridges: 4, answers: 5, relations: 8}
splits: {train: 0.7, selection: 0.1, validation: 0.2}
noise: {rates: [0.1]}
model: {layers: 1, width: 32, heads: 2}
training:
  batch_size: 64
  max_steps: 20
  evaluate_every: 5
  precision: float32
  schedule: {warmup: 2, hold_until: 0.95, anneal: 10}
diagnostics: [learning_dynamics, logit_lens, probe, nearest]
"""


def rehash(report: dict[str, Any], *keep: str) -> dict[str, Any]:
    """Make identity, content hash and findings those of the report again.

    Args:
        keep: of these what stays as it is: ``identity``, ``content``, ``findings``.
    """
    spec, parts = report["task"]["spec"], report["identity"]["parts"]
    task, data, model, training = (report[key] for key in ("task", "data", "model", "training"))
    spec["seeds"], spec["name"], spec["version"] = report["seeds"], task["name"], task["version"]
    if "content" not in keep:
        content = {key: spec.get(key) for key in ("name", "version", "generator", "parameters", "splits")}
        content["noise"] = {key: spec["noise"].get(key) for key in ("kind", "options")}
        task["content_hash"] = digest(content)
    if "identity" not in keep:
        parts["task"].update(content=task["content_hash"], data=data["fingerprint"])
        parts.update(noise_rate=data["noise_rate"], limit=data["limit"], seeds=report["seeds"])
        names = ("name", "source", "revision", "weights", "tokenizer", "base", "builder", "remote_code")
        parts["model"].update({key: model[key] for key in names})
        hidden = ("transformers_version", "_name_or_path")
        parts["model"]["config"] = {key: value for key, value in model["config"].items() if key not in hidden}
        parts.update({key: report["environment"][key] for key in ("precision", "dtype", "device")})
        parts.update(schedule=training["schedule"], way=training["way"], training=spec["training"])
        options = {name: given for one in spec["diagnostics"] for name, given in one.items()}
        for name, entry in report["diagnostics"].items():
            parts["diagnostics"][name] = {"version": entry["version"], "options": options.get(name)}
        report["identity"]["hash"] = digest(parts)
    if "findings" not in keep:
        with contextlib.suppress(Exception):  # of numbers with which nothing can be decided
            judge(report)
    return report


def copied(cell: Path, folder: Path) -> tuple[dict[str, Any], Path]:
    """A cell's report, and its files in another folder."""
    shutil.copytree(cell, folder, ignore=shutil.ignore_patterns("checkpoints", "figures"))
    report: dict[str, Any] = json.loads((cell / "report.json").read_text())
    here = {path.relative_to(folder).as_posix() for path in folder.rglob("*")}
    report["artifacts"] = [one for one in report["artifacts"] if one["path"] in here]
    return report, folder


def sign(report: dict[str, Any], folder: Path) -> Path:
    """Write a report, with the hashes of the files that lie beside it."""
    for artifact in report["artifacts"]:
        file = folder / artifact["path"]
        if file.is_file():
            artifact.update(sha256=sha256(file), bytes=file.stat().st_size)
    return put(folder, report)


def bare(report: dict[str, Any], folder: Path) -> None:
    """Leave every file out, and say so."""
    for artifact in report["artifacts"]:
        (folder / artifact["path"]).unlink(missing_ok=True)
    report["artifacts"] = []


def write_table(file: Path, columns: dict[str, Any]) -> None:
    pyarrow.parquet.write_table(pyarrow.table(columns), file)


def places(report: Any, leaf: str) -> Iterator[tuple[Any, Any]]:
    """Every place that a leaf with stars names: what holds it, and under which key."""
    *path, last = leaf.split(".")
    found = [report]
    for key in path:
        inside = []
        for one in found:
            inside += list(one.values() if isinstance(one, dict) else one) if key == "*" else [one[key]]
        found = inside
    for one in found:
        every = one if isinstance(one, dict) else range(len(one)) if last == "*" else ()
        yield from ((one, key) for key in (every if last == "*" else (last,)))
