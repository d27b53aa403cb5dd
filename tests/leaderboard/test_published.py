"""Published comparisons: accepted when nothing is missing and every choice is the rule's, refused in one line else."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from rote_bench.cli import main
from rote_bench.comparison.rules import Comparison, Contrast
from rote_bench.errors import UserError
from rote_bench.leaderboard import tables
from rote_bench.leaderboard.assemble import assemble
from rote_bench.leaderboard.build import known_measures, lines, stood
from rote_bench.leaderboard.collect import Collection, Refusal
from rote_bench.leaderboard.page import render
from rote_bench.leaderboard.published import Accepted, accept
from rote_bench.leaderboard.schema import schema
from rote_bench.leaderboard.select import select
from rote_bench.plugins import Registry
from rote_bench.report.record import Report
from rote_bench.spec.loader import load_task
from rote_bench.spec.model import Seeds

from .cells import build
from .cheating import TINY
from .planting import RATE, SEEDS, Plan, collection, comparison, entrant, failed, planted, reported

MODELS = ("alpha", "beta", "gamma")
PLANS = {
    "alpha": Plan(),
    "beta": Plan(transfers=(0.6, 0.62, 0.64, 0.66, 0.68)),
    "gamma": Plan(memorises={"slow": 225, "fast": 219}, transfers=(0.21, 0.23, 0.25, 0.27, 0.29), parameters=2_000_000),
}
CONTRAST = Contrast("gap", ("thr", "thr"), ("beta", "alpha"), "noise_transfer", (RATE, RATE), 0.05)


@pytest.fixture(scope="module")
def made(registry: Registry) -> Comparison:
    return comparison(registry, MODELS, [CONTRAST])


@pytest.fixture
def reports(registry: Registry, made: Comparison) -> dict[str, Report]:
    return planted(registry, made, PLANS)


def kept(folder: Path, made: Comparison, name: str = "reports") -> Path:
    """A folder with the record of the rules."""
    file = folder / name / f"{made.name}.protocol.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"rules": made.rules()}))
    return folder


def accepted(
    made: Comparison, found: Collection, root: Path, published: frozenset[str] = frozenset()
) -> list[Accepted]:
    counted = select(found.entries, {}, published).counted
    return accept(made, counted, found.refusals, root, published)


def board_of(
    registry: Registry, made: Comparison, found: Collection, root: Path, published: frozenset[str] = frozenset()
) -> dict[str, Any]:
    there = accepted(made, found, root, published)
    return assemble(found, {}, known_measures(registry), published, there)


@pytest.fixture
def board(registry: Registry, made: Comparison, reports: dict[str, Report], tmp_path: Path) -> dict[str, Any]:
    return board_of(registry, made, collection(registry, reports), kept(tmp_path, made))


def test_a_whole_comparison_is_one_table_across_recipes(board: dict[str, Any], made: Comparison) -> None:
    assert not list(Draft202012Validator(schema()).iter_errors(board))
    (task,) = board["tasks"]
    assert (task["task"], task["title"]) == ("thr [comparison planted]", "Planted models")
    at_rate = {row["model"]: row for row in task["rows"] if row["noise_rate"] == RATE}
    ranks = {model: (row["rank_low"], row["rank_high"]) for model, row in at_rate.items()}
    assert ranks == {"alpha": (1, 2), "gamma": (1, 2), "beta": (3, 3)}
    assert [one["value"] for one in at_rate["beta"]["values"]] == [0.6, 0.62, 0.64, 0.66, 0.68]
    assert [one["seed"] for one in at_rate["beta"]["values"]] == list(map(str, SEEDS))
    assert all(row["values"] == [] for row in task["rows"] if row["noise_rate"] == 0)
    found = task["comparison"]
    assert found["rules"] == made.rules()
    models = {one["model"]: one for one in found["models"]}
    assert [models[name]["configuration"] for name in MODELS] == ["slow", "slow", "fast"]
    assert models["gamma"]["recipe"] == {"training.learning_rate": "0.032", "training.schedule.settle": "125"}
    assert models["gamma"]["peak_rate"] == 0.032 and models["gamma"]["steps"] == 225
    assert models["alpha"]["overrides"]["activation"] == "relu"
    paths = {report["path"] for row in task["rows"] for report in row["reports"]}
    trials = found["tuning"]["trials"]
    assert len(trials) == 3 * 2 * 2 * 2 and not paths & {trial["path"] for trial in trials}
    assert len(paths) == 3 * 2 * len(SEEDS)
    table = {(one["model"], one["configuration"]): one for one in found["tuning"]["table"]}
    assert table["gamma", "fast"]["chosen"] and not table["gamma", "slow"]["chosen"]
    assert table["alpha", "slow"]["settled"] == [200, 200] and table["alpha", "slow"]["memorised_at"] == [210, 210]
    assert board["reports"]["found"] == board["reports"]["counted"] == len(trials) + len(paths)


def test_order_decides_nothing_to_the_byte(
    registry: Registry, made: Comparison, reports: dict[str, Report], board: dict[str, Any], tmp_path: Path
) -> None:
    again = collection(registry, dict(reversed(reports.items())))
    random.Random(0).shuffle(again.entries)
    other = board_of(registry, made, again, tmp_path)
    for show in (lines, tables.markdown, tables.latex, tables.plain, render):
        assert show(other) == show(board)


def test_the_texts_show_models_choices_and_what_was_tried(board: dict[str, Any]) -> None:
    (task,) = board["tasks"]
    sentences = task["comparison"]["sentences"]
    text = tables.markdown(board)
    assert text.index("At 5 % wrong labels alpha pays least for a wrong label") < text.index("| rank")
    for heading in (
        "### Models with 5 % of the labels wrong",
        "### Planned contrasts",
        "### Tuning",
        "### All metrics",
    ):
        assert heading in text
    (line,) = [each for each in text.splitlines() if "| gamma" in each and "| fast" in each and "1-2" in each]
    cells = [cell.strip() for cell in line.split("|")][1:-1]
    assert (
        cells[:2] == ["1-2", "gamma"] and cells[2].startswith("0.250 \\[0.21") and cells[5:8] == ["fast", "125", "225"]
    )
    tex = tables.latex(board)
    assert tex.count(r"\begin{table}") == tex.count(r"\end{table}") >= 4 and "Planted models." in tex
    assert sentences["result"] in " ".join(tables.plain(board).split())


def drop(part: str) -> Callable[[dict[str, Report]], None]:
    def change(reports: dict[str, Report]) -> None:
        del reports[next(path for path in reports if part in path)]

    return change


def forged(reports: dict[str, Report]) -> None:
    """Trials by which another configuration is the better one."""
    for path, report in reports.items():
        if path.startswith("tuning/fast/thr/alpha/noise-0.05/"):
            curve = report.diagnostics["learning_dynamics"].details["curve"]
            curve[1]["memorization_rate"] = 1.0  # type: ignore[index]
            curve[1]["step"] = 50  # type: ignore[index]


def another_recipe(reports: dict[str, Report]) -> None:
    path = "thr/beta/noise-0.05/seed-3/report.json"
    spec = dict(reports[path].task.spec)
    spec["training"] = {**spec["training"], "weight_decay": 0.1}  # type: ignore[dict-item]
    task, identity = reports[path].task, reports[path].identity
    parts = {**identity.parts, "training": spec["training"]}
    reports[path] = replace(reports[path], task=replace(task, spec=spec), identity=replace(identity, parts=parts))


def of_other_versions(reports: dict[str, Report]) -> None:
    path = "thr/beta/noise-0.05/seed-3/report.json"
    identity = reports[path].identity
    parts = {**identity.parts, "versions": {"training": 2}}
    reports[path] = replace(reports[path], identity=replace(identity, parts=parts))


def without_curve(reports: dict[str, Report]) -> None:
    path = "tuning/slow/thr/alpha/noise-0/seed-101/report.json"
    reports[path] = replace(reports[path], diagnostics={})


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            drop("tuning/slow/thr/beta/noise-0/seed-101"),
            "a trial is not among the reports that count: beta on thr by slow",
        ),
        (drop("tuning/fast/thr/beta/noise-0.05/seed-100"), "beta on thr by fast, noise rate 0.05, seed 100"),
        (drop("thr/alpha/noise-0/seed-2"), "1 of 10 cells of alpha are not among the reports"),
        (forged, "alpha on thr has cells by slow, but its trials choose fast"),
        (another_recipe, "beta on thr, noise rate 0.05, seed 3 by slow"),
        (of_other_versions, "beta on thr, noise rate 0.05, seed 3 by slow"),
        (without_curve, "noise-0/seed-101/report.json has no learning curve that tells what it came to"),
        (dict.clear, "none of its trials and cells is among the reports"),
    ],
)
def test_what_is_missing_or_not_by_the_rule_refuses_the_comparison_in_one_line(
    registry: Registry,
    made: Comparison,
    reports: dict[str, Report],
    tmp_path: Path,
    change: Callable[[dict[str, Report]], None],
    says: str,
) -> None:
    change(reports)
    with pytest.raises(UserError) as caught:
        accepted(made, collection(registry, reports), kept(tmp_path, made))
    assert str(caught.value).startswith("comparison planted: ") and says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "other",
    [
        {"contrasts": ()},
        {"contrasts": (replace(CONTRAST, sd=0.02),)},
        {"contrasts": (replace(CONTRAST, models=("alpha", "beta")),)},
    ],
)
def test_rules_that_were_changed_afterwards_are_refused(
    registry: Registry, made: Comparison, reports: dict[str, Report], tmp_path: Path, other: Mapping[str, Any]
) -> None:
    found = collection(registry, reports)
    with pytest.raises(UserError, match=r"planted\.protocol\.json is not among the reports"):
        accepted(made, found, tmp_path)
    kept(tmp_path, made)
    assert accepted(replace(made, title="Another title"), found, tmp_path)
    with pytest.raises(UserError, match=r"its rules are not those that reports/planted\.protocol\.json kept"):
        accepted(replace(made, **other), found, tmp_path)


def test_a_strangers_record_and_reports_move_nothing(
    registry: Registry, made: Comparison, reports: dict[str, Report], board: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "a" / "planted.protocol.json").parent.mkdir()
    (tmp_path / "a" / "planted.protocol.json").write_text("[" * 100_000)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "planted.protocol.json").write_text('{"rules": "0"}')
    own = reports["thr/alpha/noise-0.05/seed-0/report.json"]
    spec = made.entrants[0].chosen(made.entrants[0].cells[1][0], "slow", 250)
    strangers = {
        # another seed and another model by the same recipe, and cells and trials that are there
        "a/new-seed/report.json": reported(spec.replace(seeds=Seeds.all(7)), "alpha", RATE, settled=250, accuracy=0.1),
        "a/new-model/report.json": reported(spec, "omega", RATE, settled=250, memorised=210),
        "a/a/a/a/a/report.json": reported(spec, "alpha", RATE, settled=250, memorised=210, accuracy=0.9),
        "a/b/b/b/b/report.json": reported(
            made.entrants[0].trial("fast", 100, spec.diagnostics[0], 125), "alpha", RATE, settled=125, memorised=60
        ),
    }
    assert strangers["a/a/a/a/a/report.json"].value("validation_accuracy") != own.value("validation_accuracy")
    found = collection(registry, {**strangers, **reports})
    other = board_of(registry, made, found, tmp_path)
    ours, theirs = other["tasks"][0], other["tasks"][1:]
    assert lines(ours["comparison"]) == lines(board["tasks"][0]["comparison"])
    assert [row["values"] for row in ours["rows"]] == [row["values"] for row in board["tasks"][0]["rows"]]
    assert {row["model"] for task in theirs for row in task["rows"]} == {"alpha", "omega"}
    assert all(task["comparison"] is None for task in theirs)
    assert {one["path"] for one in other["refused"]} == {"a/a/a/a/a/report.json", "a/b/b/b/b/report.json"}


def test_what_stood_on_the_board_stays_in_its_comparison(
    registry: Registry, made: Comparison, reports: dict[str, Report], board: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "leaderboard.json").write_text(lines(board))
    published = stood(tmp_path / "leaderboard.json")
    assert len(published) == len(reports)  # the trials among them
    trial = made.entrants[0].trial("fast", 100, made.entrants[0].spec.diagnostics[0], 125)
    better = reported(trial, "alpha", RATE, settled=125, memorised=60)
    place = "thr/alpha/noise-0.05/seed-100/report.json"  # where runs put it, and the trial's own place is none
    found = collection(registry, {**reports, place: better})
    assert lines(board_of(registry, made, found, tmp_path, published)["tasks"][0]) == lines(board["tasks"][0])


def test_a_trial_that_diverged_is_published_and_a_failure_of_another_kind_is_a_gap(
    registry: Registry, made: Comparison, reports: dict[str, Report], tmp_path: Path
) -> None:
    kept(tmp_path, made)
    path = "tuning/fast/thr/alpha/noise-0/seed-100/report.json"
    broken = reports.pop(path)
    for other in [each for each in reports if each.startswith("tuning/fast/thr/alpha/noise-0.05/")]:
        del reports[other]  # what did not learn has no second round
    found = collection(registry, reports, failed(broken, path))
    (task,) = board_of(registry, made, found, tmp_path)["tasks"]
    row = next(
        one
        for one in task["comparison"]["tuning"]["table"]
        if (one["model"], one["configuration"]) == ("alpha", "fast")
    )
    assert row["settled"] == [None, 100] and not row["finalist"] and row["memorised_at"] is None
    assert path in [trial["path"] for trial in task["comparison"]["tuning"]["trials"]]
    assert board_of(registry, made, found, tmp_path)["refused"] == []
    out_of_memory = Refusal(path, "RuntimeError: out of memory")
    with pytest.raises(UserError, match="alpha on thr by fast, noise rate 0, seed 100"):
        accepted(made, collection(registry, reports, out_of_memory), tmp_path)


def test_a_model_of_which_a_cell_diverged_is_listed_with_that_and_the_others_stand(
    registry: Registry, made: Comparison, reports: dict[str, Report], tmp_path: Path
) -> None:
    kept(tmp_path, made)
    path = next(each for each in reports if each.startswith("thr/alpha/noise-0.05/"))
    broken = reports.pop(path)
    found = collection(registry, reports, failed(broken, path))
    board = board_of(registry, made, found, tmp_path)
    assert not list(Draft202012Validator(schema()).iter_errors(board))
    (task,) = [one for one in board["tasks"] if one["comparison"] is not None]
    alpha = next(one for one in task["comparison"]["models"] if one["model"] == "alpha")
    ended = f"1 of its {2 * len(SEEDS)} trainings broke off, their loss not finite"
    assert alpha["reason"].startswith(f"{ended}, first with seed ")
    assert {row["model"] for row in task["rows"]} == {"beta", "gamma"}
    assert f"alpha: {alpha['reason']}" in task["comparison"]["sentences"]["left_out"]
    (gap,) = task["comparison"]["contrasts"]
    assert gap["verdict"] == "not told apart" and gap["reason"] is not None
    with pytest.raises(UserError, match=r"1 of .* cells of alpha are not among the reports that count"):
        accepted(made, collection(registry, reports, Refusal(path, "RuntimeError: out of memory")), tmp_path)


@pytest.mark.parametrize(
    ("plan", "reason"),
    [
        (Plan(settles={"slow": None, "fast": None}), "not learned within the budget"),
        (Plan(memorises={"slow": None, "fast": None}), "not memorised within the budget, by the fastest recipes"),
    ],
)
def test_a_model_that_finds_no_recipe_is_listed_with_its_reason(
    registry: Registry, made: Comparison, tmp_path: Path, plan: Plan, reason: str
) -> None:
    reports = planted(registry, made, {**PLANS, "beta": plan})
    board = board_of(registry, made, collection(registry, reports), kept(tmp_path, made))
    assert not list(Draft202012Validator(schema()).iter_errors(board))
    (task,) = board["tasks"]
    beta = next(one for one in task["comparison"]["models"] if one["model"] == "beta")
    assert beta["reason"] == reason and beta["configuration"] is None and beta["recipe"] == {}
    assert {row["model"] for row in task["rows"]} == {"alpha", "gamma"}
    (contrast,) = task["comparison"]["contrasts"]
    assert (
        contrast["verdict"] == "not told apart" and contrast["reason"] == "beta has no cells" and contrast["p"] is None
    )
    assert task["comparison"]["sentences"]["left_out"] == f"Not ranked: beta: {reason}."
    assert f"not ranked: {reason}" in tables.markdown(board)


def test_a_comparison_of_which_no_model_finds_a_recipe_is_one(registry: Registry, tmp_path: Path) -> None:
    made = comparison(registry, ["alpha"])
    reports = planted(registry, made, {"alpha": Plan(settles={"slow": None, "fast": None})})
    board = board_of(registry, made, collection(registry, reports), kept(tmp_path, made))
    assert not list(Draft202012Validator(schema()).iter_errors(board))
    (task,) = board["tasks"]
    assert task["rows"] == [] and task["main_rate"] is None and task["version"] == made.entrants[0].spec.version
    assert task["comparison"]["sentences"]["result"].startswith("No model can be ranked.")
    assert all(show(board) for show in (tables.markdown, tables.latex, tables.plain, render))


def test_contrasts_of_several_tasks_stand_at_their_own_and_are_corrected_together(
    registry: Registry, tmp_path: Path
) -> None:
    other = load_task("thr", registry, profile="compact")
    planned = [CONTRAST, replace(CONTRAST, name="other", tasks=("thr-compact",) * 2, models=("gamma", "alpha"))]
    one = comparison(registry, MODELS, planned)
    made = replace(one, entrants=(*one.entrants, *(entrant(other, model, "thr-compact") for model in MODELS)))
    board = board_of(registry, made, collection(registry, planted(registry, made, PLANS)), kept(tmp_path, made))
    assert [task["title"] for task in board["tasks"]] == ["Planted models: thr", "Planted models: thr-compact"]
    (first,), (second,) = (task["comparison"]["contrasts"] for task in board["tasks"])
    assert (first["name"], second["name"]) == ("gap", "other")
    assert first["p_holm"] == pytest.approx(2 * first["p"], abs=2e-6) and second["p_holm"] == second["p"] > 0.05
    assert (first["verdict"], second["verdict"]) == ("higher", "not told apart")


def test_one_model_is_compared_with_itself_at_two_rates_and_at_two_tasks(registry: Registry, tmp_path: Path) -> None:
    other = load_task("thr", registry, profile="compact")
    planned = [
        replace(CONTRAST, name="labels", models=("beta",) * 2, metric="validation_accuracy", noise_rates=(RATE, 0.0)),
        replace(CONTRAST, name="places", models=("beta",) * 2, tasks=("thr-compact", "thr")),
    ]
    one = comparison(registry, MODELS, planned)
    made = replace(one, entrants=(*one.entrants, *(entrant(other, model, "thr-compact") for model in MODELS)))
    board = board_of(registry, made, collection(registry, planted(registry, made, PLANS)), kept(tmp_path, made))
    assert not list(Draft202012Validator(schema()).iter_errors(board))
    at = {task["title"]: task["comparison"] for task in board["tasks"]}
    (labels,), (places,) = (at[f"Planted models: {task}"]["contrasts"] for task in ("thr", "thr-compact"))
    rows = {row["noise_rate"]: row for row in board["tasks"][0]["rows"] if row["model"] == "beta"}
    noisy, twin = (rows[rate]["metrics"]["validation_accuracy"]["value"] for rate in (RATE, 0.0))
    assert (labels["first"], labels["second"]) == (f"beta at noise {RATE:g}", "beta at noise 0")
    assert labels["noise_rates"] == [RATE, 0.0] and labels["models"] == ["beta", "beta"]
    assert labels["difference"] == pytest.approx(noisy - twin, abs=2e-6) and labels["verdict"] == "lower"
    assert (places["first"], places["second"]) == ("beta at thr-compact", "beta at thr")
    assert places["difference"] == 0 and places["verdict"] == "not told apart"
    said = at["Planted models: thr"]["sentences"]["planned"]
    assert said.endswith(f"1 is told apart: beta at noise {RATE:g} lower than beta at noise 0 in validation accuracy.")
    line = next(line for line in tables.markdown(board).splitlines() if line.startswith("| labels"))
    shown = [cell.strip() for cell in line.strip("|").split("|")]
    assert shown[1:3] == [f"beta at noise {RATE:g}", "beta at noise 0"] and shown[4] == f"{RATE:g}, 0"
    assert f"beta at noise {RATE:g}" in render(board)


HOSTILE = "<b>|x_{y}\u202e%&$#\\ *t*"


def test_hostile_names_show_as_they_are(registry: Registry, reports: dict[str, Report], tmp_path: Path) -> None:
    made = comparison(registry, MODELS, [replace(CONTRAST, name=HOSTILE)], title=HOSTILE)
    board = board_of(registry, made, collection(registry, reports), kept(tmp_path, made))
    title = board["tasks"][0]["title"]
    assert "\u202e" not in title and title.startswith("<b>|x_{y}")
    text, tex, plain = tables.markdown(board), tables.latex(board), tables.plain(board)
    assert "<b>" not in text and r"\|x\_{y}" in text and r"\*t\*" in text
    assert "<b>" not in tex and r"x\_\{y\}" in tex and r"\%\&\$\#" in tex
    assert "\u202e" not in text + tex + plain
    assert "<b>|x" not in render(board)


TINY_COMPARISON = """
name: tiny_comparison
title: Two tiny models
tasks: [{task: tiny.yaml, overrides: {diagnostics: [learning_dynamics]}}]
models: [gpt2-nano, {model: llama-nano, overrides: {model: {activation: silu}}}]
noise_rates: [0, 0.1]
seeds: [0]
tuning:
  seeds: [100]
  finalists: 1
  memorised: 0.01
  configurations:
    slow: {training: {learning_rate: 0.008}}
    fast: {training: {learning_rate: 0.03}}
"""


def test_what_a_sweep_made_is_published_by_one_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "tiny.yaml").write_text(TINY.replace("hold_until: 0.95", "hold_until: 0.01"))
    file, runs = tmp_path / "tiny_comparison.yaml", tmp_path / "runs"
    file.write_text(TINY_COMPARISON)
    assert main(["sweep", str(file), "-o", str(runs), "--workers", "1", "--quiet"]) == 0
    board = build([runs], tmp_path / "board", "--comparison", str(file))
    (task,) = board["tasks"]
    found = task["comparison"]
    assert task["title"] == "Two tiny models" and {row["model"] for row in task["rows"]} == {"gpt2-nano", "llama-nano"}
    assert len(found["tuning"]["trials"]) == 2 * (2 + 1) and board["reports"]["counted"] == 6 + 4
    assert all(one["configuration"] in ("slow", "fast") for one in found["models"])
    before = {path.name: path.read_bytes() for path in (tmp_path / "board").iterdir()}
    build([runs / "tiny", runs / "tuning", runs], tmp_path / "board", "--comparison", str(file))
    assert {path.name: path.read_bytes() for path in (tmp_path / "board").iterdir()} == before

    build([runs], tmp_path / "exported", "--comparison", str(file), "--export", "every-eval-ever")
    assert len(list((tmp_path / "exported" / "every_eval_ever").rglob("*.json"))) == 4
    capsys.readouterr()
    arguments = ["leaderboard", "build", str(runs), "-o", str(tmp_path / "other"), "--quiet", "--comparison", str(file)]
    trial = tmp_path / "runs" / found["tuning"]["trials"][0]["path"]
    report = json.loads(trial.read_text())
    curve = report["diagnostics"]["learning_dynamics"]["details"]["curve"]
    curve[-1]["selection_accuracy"] = 1 - curve[-1]["selection_accuracy"]
    trial.write_text(json.dumps(report))
    assert main([*arguments, "--comparison", str(file)]) == 2
    assert "two comparisons are called tiny_comparison (give each file once)" in capsys.readouterr().err
    for remove, says in ((False, "a trial is not among the reports that count"), (True, "is not among the reports")):
        if remove:
            (runs / "tiny_comparison.protocol.json").unlink()
        assert main(arguments) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert says in line and not (tmp_path / "other").exists()
    file.write_text(TINY_COMPARISON.partition("tuning:")[0])
    assert main(arguments) == 2
    assert "plans no comparison" in capsys.readouterr().err
