"""A board that others cannot move: whatever is laid beside honest reports, their rows, ranks and titles stay."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from rote_bench.hashing import digest
from rote_bench.leaderboard.names import canonical, imitated, skeleton

from ..conftest import SMALL_THR
from .cells import answers, build, cell, identify, put, trained

MODELS = ("gpt2-nano", "llama-nano")
Attack = Callable[["Honest", Path], None]


@dataclass(frozen=True)
class Honest:
    """Reports with the answers behind them, and the board that they give by themselves."""

    reports: Path
    template: dict[str, Any]
    task: str

    def cell(self, model: str = "gpt2-nano", rate: float = 0.05, seed: int = 0, wrong: int = 30) -> dict[str, Any]:
        made: dict[str, Any] = cell(self.template, model, rate, seed, wrong)
        return made

    def one(self, model: str = "gpt2-nano", rate: float = 0.05, seed: int = 0) -> dict[str, Any]:
        """An honest report, read again."""
        file = self.reports / "small_thr" / model / f"noise-{rate:g}" / f"seed-{seed}" / "report.json"
        found: dict[str, Any] = json.loads(file.read_text())
        return found


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("shipped") / "small_thr.yaml"
    file.write_text(f"{SMALL_THR}title: Small two-hop reasoning\n")
    return file


@pytest.fixture(scope="module")
def reports(thr_cell: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("honest") / "reports"
    report = json.loads((thr_cell / "report.json").read_text())
    for model in MODELS:
        for seed in range(3):
            for rate, wrong in ((0.0, 0), (0.05, 2 * seed + (model == "llama-nano"))):
                place = folder / "small_thr" / model / f"noise-{rate:g}" / f"seed-{seed}"
                answers(place, cell(report, model, rate, seed, wrong), random.Random(f"{model}{rate}{seed}"))
    return folder


@pytest.fixture
def honest(
    reports: Path, shipped: Path, thr_report: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Honest:
    monkeypatch.setattr("rote_bench.spec.loader.shipped", lambda: {"small_thr": shipped})
    board = build([reports], tmp_path / "alone")
    (task,) = board["tasks"]
    assert (task["task"], task["title"], task["recipe"]) == ("small_thr", "Small two-hop reasoning", None)
    assert [row["rank_low"] for row in task["rows"]] == [1, 1, None, None]
    assert not any("copy" in mark or "wrong answers" in mark for row in task["rows"] for mark in row["marks"])
    return Honest(reports, thr_report, json.dumps(task))


def beside(honest: Honest, tmp_path: Path, attack: Attack, *, old: Path | None = None) -> dict[str, Any]:
    """The board of the honest reports with those of an attack, in a folder that sorts before theirs."""
    attack(honest, tmp_path / "0B")
    output = tmp_path / "attacked" if old is None else old
    return build([honest.reports, tmp_path / "0B"], output) if (tmp_path / "0B").exists() else {}


def relative(task: dict[str, Any]) -> str:
    """A task without the common root of its paths, which further places move."""
    return json.dumps(task).replace("honest0/reports/", "").replace("/report.json", "")


def newer(honest: Honest, folder: Path) -> None:
    made = honest.cell()
    made["task"]["version"] = made["task"]["spec"]["version"] = 2
    contents(made)
    put(folder, made)


def contents(report: dict[str, Any]) -> None:
    """The content hash of the report's task again."""
    spec = report["task"]["spec"]
    content = {key: spec[key] for key in ("name", "version", "generator", "parameters", "splits")}
    content["noise"] = {key: spec["noise"][key] for key in ("kind", "options")}
    report["task"]["content_hash"] = report["identity"]["parts"]["task"]["content"] = digest(content)
    identify(report)


def contradicting(honest: Honest, folder: Path) -> None:
    for seed in range(3):
        put(folder / "a" / str(seed), honest.cell(seed=seed))


def with_another_recipe(honest: Honest, folder: Path) -> None:
    for model in (*MODELS, "mamba-nano"):
        for seed in range(4):
            for rate in (0.0, 0.05):
                made = honest.cell(model, rate, seed, 0)
                made["task"]["spec"]["training"]["max_steps"] += 1
                made["identity"]["parts"]["training"] = made["task"]["spec"]["training"]
                trained(made, f"other {model} {rate} {seed}")
                identify(made)
                put(folder / model / f"{rate}" / str(seed), made)


def with_failures(honest: Honest, folder: Path) -> None:
    for seed in range(50):
        put(folder / str(seed), {**honest.cell("llama-nano", seed=seed + 10), "status": "failed", "error": "e"})


def with_failures_of_no_identity(honest: Honest, folder: Path) -> None:
    for seed in range(9):
        made = {**honest.cell("llama-nano", seed=seed + 10), "status": "failed", "error": "e"}
        made["identity"]["hash"] = "0" * 64
        put(folder / "small_thr" / "llama-nano" / "noise-0.05" / f"seed-{seed}", made)


def titled(honest: Honest, folder: Path) -> None:
    made = honest.cell(seed=0)
    made["task"]["spec"]["title"] = "Two-hop (WITHDRAWN: see https://evil.example)"
    put(folder, made)


def of_other_examples(honest: Honest, folder: Path) -> None:
    made = honest.cell()
    made["task"]["spec"]["splits"]["train"] = 0.7
    made["task"]["spec"]["title"] = "WITHDRAWN"
    contents(made)
    put(folder, made)


def resampled(honest: Honest, folder: Path) -> None:
    for seed in range(5):
        made = honest.one()
        made["seeds"]["bootstrap"] = 100 + seed
        made["artifacts"] = []
        from .cells import draw_again, judge

        draw_again(made, 100 + seed)
        judge(made)
        identify(made)
        put(folder / str(seed), made)


def relabelled(honest: Honest, folder: Path) -> None:
    made = honest.one()
    made["seeds"].update(init=7, order=7)
    identify(made)
    put(folder, made)


def of_the_same_weights(honest: Honest, folder: Path) -> None:
    made = honest.one()
    weights = [a for a in made["artifacts"] if a["path"].endswith(".safetensors")]
    stolen = honest.cell(seed=9, wrong=3)
    for artifact in stolen["artifacts"]:
        artifact["sha256"] = next((a["sha256"] for a in weights if a["path"] == artifact["path"]), artifact["sha256"])
    put(folder, stolen)


def looking_alike(honest: Honest, folder: Path) -> None:
    for name in ("GPT2-nano", "gpt2-nan0", "gpt2_nano"):
        put(folder / name, honest.cell(name, seed=0, wrong=0))


def of_another_origin(honest: Honest, folder: Path) -> None:
    made = honest.cell(seed=5, wrong=90)
    made["model"].update(source="pretrained", weights="1" * 64)
    made["identity"]["parts"]["model"].update(source="pretrained", weights="1" * 64)
    identify(made)
    put(folder, made)


@pytest.mark.parametrize(
    ("attack", "kinds", "says"),
    [
        (newer, [], ""),
        (contradicting, ["conflict"] * 3, "contradicts small_thr/gpt2-nano"),
        (with_another_recipe, [], ""),
        (with_failures, ["refused"] * 50, "the run failed: e"),
        (with_failures_of_no_identity, ["refused"] * 9, "the run failed: e"),
        (titled, ["conflict"], "contradicts small_thr/gpt2-nano/noise-0.05/seed-0"),
        (of_other_examples, [], ""),
        (resampled, ["duplicate"] * 5, "the same cell as small_thr/gpt2-nano/noise-0.05/seed-0"),
        (relabelled, ["refused"], "the same training as small_thr/gpt2-nano/noise-0.05/seed-0"),
        (of_the_same_weights, ["refused"], "the same training as small_thr/gpt2-nano/noise-0.05/seed-0"),
        (looking_alike, ["refused"] * 3, "its model's name looks like gpt2-nano and is another one"),
        (of_another_origin, [], ""),
    ],
)
def test_honest_rows_stay_to_the_last_character(
    honest: Honest, tmp_path: Path, attack: Attack, kinds: list[str], says: str
) -> None:
    board = beside(honest, tmp_path, attack)
    assert relative(board["tasks"][0]) == relative(json.loads(honest.task))
    assert [one["kind"] for one in board["refused"]] == kinds
    assert all(says in relative(one) for one in board["refused"])
    for task in board["tasks"][1:]:  # where what is left of the attack stands by itself
        assert task["task"].startswith("small_thr [") and "WITHDRAWN" not in task["title"]
    text = (tmp_path / "attacked" / "index.html").read_text() + (tmp_path / "attacked" / "leaderboard.md").read_text()
    assert "WITHDRAWN" not in text
