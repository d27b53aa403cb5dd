"""A board that others cannot move: whatever is laid beside honest reports, their rows, ranks and titles stay."""

from __future__ import annotations

import copy
import json
import os
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from rote_bench.cli import main
from rote_bench.hashing import digest, sha256
from rote_bench.leaderboard import tables
from rote_bench.leaderboard.assemble import Measures, assemble
from rote_bench.leaderboard.build import known_measures, stood
from rote_bench.leaderboard.collect import Collection, collect, find
from rote_bench.leaderboard.names import canonical, imitated, skeleton
from rote_bench.leaderboard.page import render
from rote_bench.leaderboard.schema import check
from rote_bench.leaderboard.shipped import Known, known_tasks
from rote_bench.plugins import Registry

from ..conftest import SMALL_THR
from .cells import answers, build, cell, draw_again, identify, judge, put, trained

MODELS = ("gpt2-nano", "gpt2-micro")
Attack = Callable[["Honest", Path], object]


@dataclass(frozen=True)
class Honest:
    """Reports with the answers behind them, and what is known of their task."""

    folder: Path
    template: dict[str, Any]
    found: Collection
    known: Known
    measures: Measures
    registry: Registry

    @property
    def board(self) -> dict[str, Any]:
        """What they give by themselves."""
        return assemble(self.found, self.known, self.measures)

    @property
    def task(self) -> str:
        """All that the board says of their task."""
        return json.dumps(self.board["tasks"][0])

    def cell(self, model: str = "gpt2-nano", rate: float = 0.05, seed: int = 0, wrong: int = 30) -> dict[str, Any]:
        made: dict[str, Any] = cell(self.template, model, rate, seed, wrong)
        return made

    def first(self) -> dict[str, Any]:
        """An honest report, read again."""
        file = self.folder / "small_thr" / "gpt2-nano" / "noise-0.05" / "seed-0" / "report.json"
        found: dict[str, Any] = json.loads(file.read_text())
        return found

    def beside(self, attack: Attack, folder: Path, published: Iterable[str] = ()) -> dict[str, Any]:
        """The board of the honest reports with those of an attack, whose paths sort first."""
        attack(self, folder / "0B")
        made = collect(folder, [f"0B/{path}" for path in find([folder / "0B"])[1]], self.registry)
        found = Collection([*made.entries, *self.found.entries], [*made.refusals, *self.found.refusals])
        board = assemble(found, self.known, self.measures, frozenset(published))
        check(board)
        return board


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The task file, which comes with the package while these tests run."""
    file = tmp_path_factory.mktemp("shipped") / "small_thr.yaml"
    file.write_text(f"{SMALL_THR}title: Small two-hop reasoning\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rote_bench.spec.loader.shipped", lambda: {"small_thr": file})
        yield file


@pytest.fixture(scope="module")
def honest(thr_cell: Path, shipped: Path, registry: Registry, tmp_path_factory: pytest.TempPathFactory) -> Honest:
    folder = tmp_path_factory.mktemp("honest")
    report = json.loads((thr_cell / "report.json").read_text())
    for model in MODELS:
        for seed in range(3):
            for rate, wrong in ((0.0, 0), (0.05, 2 * seed + (model == "gpt2-micro"))):
                place = folder / "small_thr" / model / f"noise-{rate:g}" / f"seed-{seed}"
                answers(place, cell(report, model, rate, seed, wrong), random.Random(f"{model}{rate}{seed}"))
    found = collect(*find([folder]), registry)
    return Honest(folder, report, found, known_tasks(registry), known_measures(registry), registry)


def test_the_board_of_honest_reports_names_what_is_shipped(honest: Honest) -> None:
    (task,) = honest.board["tasks"]
    assert (task["task"], task["title"], task["recipe"]) == ("small_thr", "Small two-hop reasoning", None)
    assert [row["model"] for row in task["rows"] if row["rank_low"]] == list(MODELS) and not honest.board["refused"]
    assert not any("wrong answers" in mark for row in task["rows"] for mark in row["marks"])
    assert all(row["checked"]["recomputed"] == 3 * (6 if row["noise_rate"] else 2) for row in task["rows"])


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
    for model in ("gpt2-nano", "gpt2-mini"):
        for seed in range(3):
            for rate in (0.0, 0.05):
                made = honest.cell(model, rate, seed, 0)
                made["task"]["spec"]["training"]["learning_rate"] *= 2
                made["identity"]["parts"]["training"] = made["task"]["spec"]["training"]
                trained(made, f"other {model} {rate} {seed}")
                identify(made)
                put(folder / model / f"{rate}" / str(seed), made)


def with_failures(honest: Honest, folder: Path) -> None:
    for seed in range(9):
        put(folder / str(seed), {**honest.cell("gpt2-micro", seed=seed + 10), "status": "failed", "error": "e"})


def with_failures_of_no_identity(honest: Honest, folder: Path) -> None:
    for seed in range(9):
        made = {**honest.cell("gpt2-micro", seed=seed + 10), "status": "failed", "error": "e"}
        made["identity"]["hash"] = "0" * 64
        put(folder / "small_thr" / "gpt2-micro" / "noise-0.05" / f"seed-{seed}", made)


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
    for seed in range(2):
        made = honest.first()
        made["seeds"]["bootstrap"] = 100 + seed
        draw_again(made, 100 + seed)
        judge(made)
        identify(made)
        put(folder / str(seed), made)


def relabelled(honest: Honest, folder: Path) -> None:
    made = honest.first()
    made["seeds"].update(init=7, order=7)
    identify(made)
    put(folder, made)


def of_the_same_weights(honest: Honest, folder: Path) -> None:
    made = honest.first()
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
        (with_failures, ["refused"] * 9, "the run failed: e"),
        (with_failures_of_no_identity, ["refused"] * 9, "the run failed: e"),
        (titled, ["conflict"], "contradicts small_thr/gpt2-nano/noise-0.05/seed-0"),
        (of_other_examples, [], ""),
        (resampled, ["duplicate"] * 2, "the same cell as small_thr/gpt2-nano/noise-0.05/seed-0"),
        (relabelled, ["refused"], "the same training as small_thr/gpt2-nano/noise-0.05/seed-0"),
        (of_the_same_weights, ["refused"], "the same training as small_thr/gpt2-nano/noise-0.05/seed-0"),
        (looking_alike, ["refused"] * 3, "its model's name looks like gpt2-nano and is another one"),
    ],
)
def test_honest_rows_stay_to_the_last_character(
    honest: Honest, tmp_path: Path, attack: Attack, kinds: list[str], says: str
) -> None:
    board = honest.beside(attack, tmp_path)
    assert json.dumps(board["tasks"][0]) == honest.task
    assert [one["kind"] for one in board["refused"]] == kinds
    assert all(says in one["reason"] for one in board["refused"])
    assert all(task["task"].startswith("small_thr [") for task in board["tasks"][1:])  # what stands by itself
    texts = (tables.markdown(board), tables.latex(board), render(board), tables.plain(board))
    assert not any("WITHDRAWN" in text for text in texts)


def rows(board: dict[str, Any]) -> str:
    """The rows of the honest models."""
    return json.dumps([row for row in board["tasks"][0]["rows"] if row["model"] in MODELS])


def test_weights_from_elsewhere_never_take_a_plain_name(honest: Honest, tmp_path: Path) -> None:
    board = honest.beside(of_another_origin, tmp_path)
    assert rows(board) == rows(honest.board)
    (other,) = [row for row in board["tasks"][0]["rows"] if row["model"] not in MODELS]
    assert other["model"].startswith("gpt2-nano [") and other["rank_low"] is None


def test_of_two_reports_with_as_much_evidence_the_one_that_stood_stays_and_both_are_shown(
    honest: Honest, tmp_path: Path
) -> None:
    def forged(honest: Honest, folder: Path) -> None:
        made = honest.cell()
        made["environment"]["git_dirty"] = False
        answers(folder / "small_thr/gpt2-nano/noise-0.05/seed-0", made, random.Random("forged"))

    def first(board: dict[str, Any]) -> dict[str, Any]:
        row: dict[str, Any] = next(row for row in board["tasks"][0]["rows"] if row["model"] == "gpt2-nano")
        return row

    mark = "another report of seed 0 has other numbers and as many files"
    before = first(honest.board)
    stood = [report["sha256"] for row in honest.board["tasks"][0]["rows"] for report in row["reports"]]
    board = honest.beside(forged, tmp_path, stood)
    assert first(board) == {**before, "marks": sorted([*before["marks"], mark])}
    (one,) = board["refused"]
    assert one["kind"] == "conflict" and board["reports"]["conflicts"] == 1
    assert "validation_accuracy is" in one["reason"] and "small_thr/gpt2-nano/noise-0.05/seed-0" in one["reason"]


def test_a_report_with_answers_stands_before_one_that_stood_without(honest: Honest, tmp_path: Path) -> None:
    contradicting(honest, tmp_path / "early")
    stood = [sha256(file) for file in (tmp_path / "early").rglob("report.json")]
    board = honest.beside(contradicting, tmp_path, stood)
    assert json.dumps(board["tasks"][0]) == honest.task and board["reports"]["conflicts"] == 3


def test_what_stood_on_a_board_is_read_from_it(honest: Honest, tmp_path: Path) -> None:
    file = tmp_path / "leaderboard.json"
    file.write_text(json.dumps(honest.board))
    assert len(stood(file)) == 12 and stood(tmp_path / "nowhere") == frozenset()
    for text in ("", "[]", "[" * 9999, '{"tasks": [{"rows": 1}]}'):
        file.write_text(text)
        assert stood(file) == frozenset()


def test_a_failed_run_counts_once_beside_the_cells_of_its_row(honest: Honest, tmp_path: Path) -> None:
    failed = {"status": "failed", "error": "RuntimeError"}
    place = tmp_path / "small_thr" / "gpt2-nano" / "noise-0.05"
    put(place / "seed-0", honest.cell(seed=0))
    put(place / "seed-1", {**honest.cell(seed=1), **failed})
    put(place / "again", {**honest.cell(seed=1), **failed})
    put(place / "done", {**honest.cell(seed=0), **failed})
    put(place / "other", {**honest.cell("gpt2-micro", seed=2), **failed})
    false = {**honest.cell(seed=3), **failed}
    false["identity"]["hash"] = "1" * 64
    put(place / "false", false)
    board = assemble(collect(*find([tmp_path]), honest.registry), honest.known, honest.measures)
    (row,) = board["tasks"][0]["rows"]
    assert (row["cells"], row["failed"]) == (1, 1)


def test_equal_wrong_answers_are_marked_at_the_later_report_and_few_are_not(honest: Honest, tmp_path: Path) -> None:
    def copied(honest: Honest, folder: Path) -> None:
        for model, wrong in (("gpt2-small", 25), ("gpt2-mini", 19)):
            for seed in (4, 5):
                place = folder / "small_thr" / model / "noise-0.05" / f"seed-{seed}"
                answers(place, honest.cell(model, seed=seed, wrong=wrong), random.Random(model))

    board = honest.beside(copied, tmp_path)
    assert rows(board) == rows(honest.board)
    marks = {r["model"]: [m for m in r["marks"] if "wrong answers" in m] for r in board["tasks"][0]["rows"]}
    said = "seed 5 gives the same 25 wrong answers as seed 4 of gpt2-small at noise rate 0.05"
    assert marks["gpt2-small"] == [said] and not marks["gpt2-mini"]


def test_another_recipe_is_another_comparison_and_says_which(honest: Honest, tmp_path: Path) -> None:
    main, other = honest.beside(with_another_recipe, tmp_path)["tasks"]
    assert {row["model"] for row in other["rows"]} == {"gpt2-nano", "gpt2-mini"}
    assert (
        other["recipe"] == "training.learning_rate=0.04" and other["title"] == "Small two-hop reasoning, another recipe"
    )
    assert {c["first"] for c in main["comparisons"]} <= set(MODELS) and len(other["comparisons"]) == 1


def test_versions_and_contents_of_a_task_that_is_not_shipped_stand_apart(honest: Honest, tmp_path: Path) -> None:
    put(tmp_path / "old", honest.template)
    newer(honest, tmp_path / "new")
    board = assemble(collect(*find([tmp_path]), honest.registry), {}, honest.measures)
    assert sorted(task["version"] for task in board["tasks"]) == [1, 2] and not board["refused"]
    assert len({task["task"] for task in board["tasks"]}) == 2


def test_an_older_version_of_a_shipped_task_is_barred(honest: Honest) -> None:
    known = {label: replace(one, version=2) for label, one in honest.known.items()}
    board = assemble(honest.found, known, honest.measures)
    assert (board["reports"]["barred"], board["reports"]["counted"]) == (12, 0)
    assert "version 1 of the task small_thr; this rote-bench has version 2" in board["refused"][0]["reason"]


def put_in(report: dict[str, Any], *path: Any) -> str:
    """A report's text with another value, the last argument, in one place."""
    *keys, last, value = path
    inside: Any = report
    for key in keys:
        inside = inside[key]
    inside[last] = value
    return json.dumps(report)


DEEP = '"spec": ' + '{"a":' * 900 + "1" + "}" * 900
HOSTILE: dict[str, Callable[[dict[str, Any]], str]] = {
    "half of a character": lambda r: put_in(r, "model", "anatomy", {"\ud800": [True]}),
    "diagnostic named by a half": lambda r: put_in(r, "diagnostics", "\ud800", r["diagnostics"]["probe"]),
    "screen cleared": lambda r: put_in(r, "diagnostics", "\x1b[2J\u202e", 3),
    "metric turned round": lambda r: put_in(r, "diagnostics", "logit_lens", "metrics", 0, "\u202e<b>"),
    "a long name": lambda r: put_in(r, "diagnostics", "x" * 2_000_000, r["diagnostics"]["probe"]),
    "depth": lambda r: "[" * 100_000,
    "depth inside": lambda r: put_in(r, "task", "spec", 77).replace('"spec": 77', DEEP),
    "a number without end": lambda r: put_in(r, "model", "parameters", 777).replace("777", "1" + "0" * 400),
    "too large": lambda r: " " * 13_000_000,
    "too many lists": lambda r: "[" + "[]," * 1_100_000 + "1]",
    "nothing": lambda r: "",
}


def test_hostile_reports_harm_none_but_themselves(
    honest: Honest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for i, text in enumerate(HOSTILE.values()):
        (tmp_path / "0B" / str(i)).mkdir(parents=True)
        (tmp_path / "0B" / str(i) / "report.json").write_text(text(copy.deepcopy(honest.template)))
    os.mkfifo(tmp_path / "0B" / "report.json")
    (tmp_path / "0B" / "\x1b[2J" / "report.json").mkdir(parents=True)
    board = build([honest.folder, tmp_path / "0B"], tmp_path / "board")
    ours, alone = board["tasks"][0]["rows"], honest.board["tasks"][0]["rows"]
    assert [row["metrics"] for row in ours] == [row["metrics"] for row in alone]
    assert board["reports"]["counted"] == 12 and board["reports"]["refused"] == len(HOSTILE) + 2
    assert all(one["reason"].isprintable() and len(one["reason"]) <= 320 for one in board["refused"])
    assert capsys.readouterr().err.replace("\n", "").isprintable()
    for file in (tmp_path / "board").iterdir():
        assert not {"\u202e", "\x1b"} & set(file.read_text()) and file.stat().st_size < 2_000_000
    before = {file.name: file.read_bytes() for file in (tmp_path / "board").iterdir()}
    with pytest.MonkeyPatch.context() as patch:  # a build that fails leaves the files as they were
        patch.setattr(tables, "latex", lambda board: 1 / 0)
        assert main(["leaderboard", "build", str(honest.folder), "-o", str(tmp_path / "board"), "--quiet"]) == 1
    assert {file.name: file.read_bytes() for file in (tmp_path / "board").iterdir()} == before


def test_a_fault_of_the_program_in_one_report_refuses_that_one(
    honest: Honest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*given: Any, **more: Any) -> Any:
        raise MemoryError("\x1b[2J")

    monkeypatch.setattr("rote_bench.leaderboard.collect.make", broken)
    board = honest.beside(lambda honest, folder: put(folder, honest.cell("gpt2-mini")), tmp_path)
    assert json.dumps(board["tasks"][0]) == honest.task
    assert board["refused"][0]["reason"] == r"cannot be checked (MemoryError: \x1b[2J)"


@pytest.mark.parametrize(
    "name", ["GPT2-nano", "gpt2-nan0", "gpt2_nano", "gpt\u200b2-nano", "ɡрt2-nano", "ｇｐｔ２-nano"]
)
def test_names_that_look_like_a_registered_one_are_told(name: str) -> None:
    assert imitated(name) == "gpt2-nano" and skeleton(name) == skeleton("gpt2-nano")


@pytest.mark.parametrize("name", ["gpt2-nano", "gpt-neox-nano", "gpt_neox-nano", "hf:gpt2", "planted", "модель"])
def test_registered_and_other_names_are_no_imitations(name: str) -> None:
    assert imitated(name) is None


def test_one_architecture_has_one_name() -> None:
    assert canonical("gpt-neox-nano") == canonical("gpt_neox-nano") == "gpt_neox-nano"
    assert canonical("hf:gpt-neox-nano") == "hf:gpt-neox-nano"
