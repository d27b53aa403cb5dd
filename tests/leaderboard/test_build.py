"""Leaderboards: what is tampered with stays out, the rest is ranked by the rule, and a rebuild gives the same bytes."""

from __future__ import annotations

import contextlib
import copy
import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator
from scipy import stats

from rote_bench.cli import main
from rote_bench.hashing import digest, sha256
from rote_bench.leaderboard import tables
from rote_bench.leaderboard.assemble import assemble
from rote_bench.leaderboard.build import FILES, known_measures
from rote_bench.leaderboard.collect import Collection, Refusal, admit, collect, find
from rote_bench.leaderboard.schema import check as check_board
from rote_bench.leaderboard.schema import schema
from rote_bench.plugins import Registry
from rote_bench.report.record import SCHEMA_VERSION
from rote_bench.statistics import wilson

from .cells import accuracy, build, cell, identify, judge, put

Change = Callable[[dict[str, Any], Path], None]


def raised(report: dict[str, Any], folder: Path) -> None:
    report["metrics"]["patch_dissociation"]["value"] += 0.1


def answered(report: dict[str, Any], folder: Path) -> None:
    right = round(report["metrics"]["validation_accuracy"]["value"] * report["metrics"]["validation_accuracy"]["n"])
    accuracy(report, right - 1)


def swapped(report: dict[str, Any], folder: Path) -> None:
    (folder / "samples.parquet").write_bytes((folder / "logit_lens.parquet").read_bytes())


def climbing(report: dict[str, Any], folder: Path) -> None:
    report["artifacts"][0]["path"] = "../elsewhere.bin"


def absolute(report: dict[str, Any], folder: Path) -> None:
    report["artifacts"][0]["path"] = "/etc/hostname"


def linked(report: dict[str, Any], folder: Path) -> None:
    (folder / "dynamics.jsonl").rename(folder.parent / "outside.jsonl")
    (folder / "dynamics.jsonl").symlink_to(folder.parent / "outside.jsonl")


def scripted(report: dict[str, Any], folder: Path) -> None:
    report["model"]["name"] = "<script>alert(1)</script>"
    identify(report)


def another_seed(report: dict[str, Any], folder: Path) -> None:
    report["seeds"]["data"] = 7


def another_identity(report: dict[str, Any], folder: Path) -> None:
    report["identity"]["hash"] = "0" * 64


def another_task(report: dict[str, Any], folder: Path) -> None:
    report["task"]["spec"]["splits"]["train"] = 0.5


def verdict(report: dict[str, Any], folder: Path) -> None:
    finding = report["findings"][0]
    finding["verdict"] = "inconclusive" if finding["verdict"] != "inconclusive" else "replicated"


def later_version(report: dict[str, Any], folder: Path) -> None:
    report["schema_version"] = SCHEMA_VERSION + 1


def failed(report: dict[str, Any], folder: Path) -> None:
    report.update(status="failed", error="RuntimeError: out of memory")


def interrupted(report: dict[str, Any], folder: Path) -> None:
    report["status"] = "interrupted"


def own_metric(report: dict[str, Any], folder: Path) -> None:
    report["metrics"]["greatness"] = report["metrics"]["validation_accuracy"]


def of_another_version(report: dict[str, Any], folder: Path) -> None:
    report["diagnostics"]["activation_patching"]["version"] = 99
    report["identity"]["parts"]["diagnostics"]["activation_patching"]["version"] = 99
    report["metrics"]["patch_dissociation"]["value"] = 5.0
    judge(report)
    identify(report)


def of_a_stranger(report: dict[str, Any], folder: Path) -> None:
    report["diagnostics"]["stranger"] = {**report["diagnostics"]["probe"], "metrics": [], "version": 1}
    report["task"]["spec"]["diagnostics"].append({"stranger": {}})
    report["identity"]["parts"]["diagnostics"]["stranger"] = {"version": 1, "options": {}}
    identify(report)


def undeclared(report: dict[str, Any], folder: Path) -> None:
    report["metrics"]["greatness"] = report["metrics"]["validation_accuracy"]
    report["diagnostics"]["probe"]["metrics"].append("greatness")


def beyond_its_bounds(report: dict[str, Any], folder: Path) -> None:
    report["metrics"]["probe_accuracy_noisy"]["value"] = 1.5


def on_another_split(report: dict[str, Any], folder: Path) -> None:
    report["metrics"]["probe_accuracy_noisy"]["split"] = "validation"


def in_another_direction(report: dict[str, Any], folder: Path) -> None:
    report["metrics"]["early_clean_peak"]["higher_is_better"] = False


def with_other_options(report: dict[str, Any], folder: Path) -> None:
    report["identity"]["parts"]["diagnostics"]["learning_dynamics"]["options"] = {"level": 0.4}
    identify(report)


def on_more_examples(report: dict[str, Any], folder: Path) -> None:
    report["metrics"]["early_clean_peak"]["n"] *= 100


def narrowed(report: dict[str, Any], folder: Path) -> None:
    metric = report["metrics"]["memorization_lag"]
    metric["ci_low"] = metric["ci_high"] = metric["value"]
    judge(report)


def of_other_weights(report: dict[str, Any], folder: Path) -> None:
    report["model"]["weights"] = "1" * 64


def under_another_schedule(report: dict[str, Any], folder: Path) -> None:
    report["training"]["schedule"]["settle"] = "fixed"


def of_a_failure(report: dict[str, Any], folder: Path) -> None:
    report["diagnostics"]["probe"].update(status="failed", reason="by hand")


def without_form(report: dict[str, Any], folder: Path) -> None:
    report["diagnostics"]["logit_lens"]["details"] = {"snapshots": []}


def outside_interval(report: dict[str, Any], folder: Path) -> None:
    report["metrics"]["train_clean_accuracy"].update(value=0.0)


def right_and_wrong_at_once(report: dict[str, Any], folder: Path) -> None:
    for name in ("memorization_rate", "noisy_true_rate"):
        found = wilson(report["data"]["n_noisy"], report["data"]["n_noisy"])
        report["metrics"][name].update(value=found.value, ci_low=found.ci_low, ci_high=found.ci_high)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (raised, "patch_dissociation is"),
        (answered, "but samples.parquet gives"),
        (swapped, "'samples.parquet' is not the file that the report describes"),
        (climbing, "'../elsewhere.bin' leaves the report's folder"),
        (absolute, "'/etc/hostname' leaves the report's folder"),
        (linked, "'dynamics.jsonl' is a link that leaves the report's folder"),
        (scripted, "no model can be called '<script>alert(1)</script>'"),
        (another_seed, "seeds differs between the report and its identity"),
        (another_identity, "the identity hash is not that of its parts"),
        (another_task, "content hash of the task is not that of its specification"),
        (verdict, "but its numbers give"),
        (later_version, f"is of schema version {SCHEMA_VERSION + 1}; this rote-bench reads {SCHEMA_VERSION}"),
        (failed, "the run failed: RuntimeError: out of memory"),
        (interrupted, "the run was interrupted"),
        (own_metric, "no diagnostic gives the metric greatness"),
        (outside_interval, "train_clean_accuracy 0 lies outside its own interval"),
        (
            right_and_wrong_at_once,
            "memorization_rate and noisy_true_rate, 1 and 1, exceed 1",
        ),
        (of_another_version, "activation_patching: its version 99 is not known here; this rote-bench has"),
        (of_a_stranger, "the diagnostic 'stranger' is not known here; it needs its plugin"),
        (undeclared, "probe measures no 'greatness'"),
        (beyond_its_bounds, "probe_accuracy_noisy 1.5 lies outside what is possible"),
        (on_another_split, "probe_accuracy_noisy is measured on 'validation' instead of train_noisy"),
        (in_another_direction, "the direction of early_clean_peak is another one than its declaration's"),
        (with_other_options, "the options of 'learning_dynamics' differ between the report and its identity"),
        (on_more_examples, "early_clean_peak is"),
        (narrowed, "memorization_lag is"),
        (of_other_weights, "weights of the model differs between the report and its identity"),
        (under_another_schedule, "schedule differs between the report and its identity"),
        (of_a_failure, "probe has metrics although it did not succeed"),
        (without_form, "the details of logit_lens are not those that its metrics are made of"),
    ],
)
def test_a_report_that_was_tampered_with_is_left_out_and_the_rest_is_built(
    thr_cell: Path, fda_cell: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: Change, says: str
) -> None:
    shutil.copytree(thr_cell, tmp_path / "reports" / "bad")
    shutil.copytree(fda_cell, tmp_path / "reports" / "good")
    report = json.loads((thr_cell / "report.json").read_text())
    change(report, tmp_path / "reports" / "bad")
    put(tmp_path / "reports" / "bad", report)
    board = build([tmp_path / "reports"], tmp_path / "board")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: left out: bad/report.json: ") and says in line
    (left_out,) = board["refused"]
    assert left_out["path"] == "bad/report.json" and left_out["kind"] == "refused" and says in left_out["reason"]
    assert [path["path"] for task in board["tasks"] for row in task["rows"] for path in row["reports"]] == [
        "good/report.json"
    ]


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda text: text[:-30], "is not a complete JSON report"),
        (
            lambda text: text.replace(f'"schema_version": {SCHEMA_VERSION}', '"schema_version": NaN'),
            "NaN is not allowed",
        ),
        (lambda text: "[" * 100_000, "nested too deeply"),
        (lambda text: "[]", "schema version None"),
        (lambda text: '{"schema_version": true}', "schema version True"),
    ],
)
def test_a_damaged_file_is_left_out(
    thr_report: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: Any, says: str
) -> None:
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "report.json").write_text(damage(json.dumps(thr_report)))
    assert main(["leaderboard", "build", str(tmp_path / "r"), "-o", str(tmp_path / "board"), "--quiet"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert says in line


def test_a_number_that_overflows_is_refused(
    thr_report: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    thr_report["timings"]["total"] = 12345.5
    put(tmp_path / "r", thr_report)
    text = (tmp_path / "r" / "report.json").read_text().replace("12345.5", "1e999")
    (tmp_path / "r" / "report.json").write_text(text)
    assert main(["leaderboard", "build", str(tmp_path / "r"), "-o", str(tmp_path / "board"), "--quiet"]) == 1
    assert "infinite" in capsys.readouterr().err


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place inside a report, of long lists the first few."""
    if path:
        yield path
    inside = value.items() if isinstance(value, dict) else enumerate(value[:4]) if isinstance(value, list) else ()
    for key, item in inside:
        yield from places(item, (*path, key))


@pytest.mark.parametrize("count", [80, pytest.param(2000, marks=pytest.mark.slow)])
def test_whatever_stands_in_a_report_it_is_admitted_or_refused_in_one_line(
    thr_report: dict[str, Any], tmp_path: Path, registry: Registry, count: int
) -> None:
    rng = random.Random(count)
    odd = [None, True, -1, 1e300, 10**30, "", "x" * 600, "\u202e<b>", "\ud800", [], {}, [[1]], {"a": None}]
    everywhere = list(places(thr_report))
    refused = 0
    for _ in range(count):
        changed = copy.deepcopy(thr_report)
        *path, last = rng.choice(everywhere)
        inside = changed
        for key in path:
            inside = inside[key]
        inside[last] = rng.choice(odd)
        with contextlib.suppress(AttributeError, KeyError, TypeError):
            changed["identity"]["hash"] = digest(changed["identity"]["parts"])
        found = admit(put(tmp_path / "r", changed), "report.json", registry)
        if isinstance(found, Refusal):
            refused += 1
            assert found.reason and found.reason.isprintable() and len(found.reason) <= 300
        else:
            check_board(assemble(Collection([found], []), {}, known_measures(registry)))
    assert 0 < refused < count


def test_a_diagnostic_of_another_version_than_its_identity_is_refused(
    thr_report: dict[str, Any], tmp_path: Path, registry: Registry
) -> None:
    thr_report["diagnostics"]["probe"]["version"] = 99
    found = admit(put(tmp_path / "r", thr_report), "report.json", registry)
    assert isinstance(found, Refusal) and "version of 'probe' differs" in found.reason


def drawn(report: dict[str, Any], folder: Path, registry: Registry) -> dict[str, Any]:
    found = admit(put(folder, report), "report.json", registry)
    assert not isinstance(found, Refusal), found
    return dict(found.series)


def test_what_the_page_draws_is_little_and_of_its_form(
    thr_report: dict[str, Any], tmp_path: Path, registry: Registry
) -> None:
    series = drawn(thr_report, tmp_path / "r", registry)
    assert set(series) == {"learning_dynamics", "logit_lens", "activation_patching", "neighbourhood"}
    leaks = thr_report["diagnostics"]["neighbourhood"]["details"]
    assert list(series["neighbourhood"]["relations"]) == leaks["kinds"]
    patches = thr_report["diagnostics"]["activation_patching"]["details"]
    control = patches["levels"]["mlp"]["foreign"]["memorization_rate"]["value"]
    drawn_control = series["activation_patching"]["components"]["mlp"]["foreign"]["memorization_rate"]
    assert drawn_control == [round(v, 4) for v in control]
    details = thr_report["diagnostics"]["learning_dynamics"]["details"]
    assert len(series["learning_dynamics"]["points"]) == min(len(details["curve"]), 64)
    lens = thr_report["diagnostics"]["logit_lens"]["details"]["snapshots"]["post_memorization"]["noisy"]
    top = lens["true_top1"]["value"]
    assert series["logit_lens"]["true_top1"] == [round(v, 4) for v in top]
    for odd in (["x"] * len(top), [1e12], {"a": 1}, "text", [[0.5]], [0.5] * 1000):
        lens["true_top1"]["value"] = odd
        assert set(drawn(thr_report, tmp_path / "r", registry)) == set(series) - {"logit_lens"}


def test_processes_find_what_one_finds(many: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    root, paths = find([many])
    alone = collect(root, paths, registry)
    monkeypatch.setattr("rote_bench.leaderboard.collect.WORTH_PROCESSES", 1)
    monkeypatch.setattr("rote_bench.leaderboard.collect.CHUNK", 12)
    assert collect(root, paths, registry, workers=2) == alone and len(alone.entries) == 24


STRANGER = """
from rote_bench import hookimpl
from rote_bench.diagnostics import Diagnostic, Measure, Result


class Stranger(Diagnostic):
    name = "stranger"
    description = "what nobody else measures"
    metrics = (Measure("greatness", "how great it is", "validation", (0.0, 9.0), False, interval="by hand", column=2),)

    def run(self, subject):
        return Result()

    def implied(self, details, records):
        return {"greatness": details["seen"] / 2}

    @staticmethod
    def series(details):
        return {"seen": [details["seen"]]}


@hookimpl
def register_diagnostics(register):
    register(Stranger)
"""


def greatly(report: dict[str, Any], value: float) -> dict[str, Any]:
    """A report with the metric of a plugin, of whose details 2 follows."""
    made = copy.deepcopy(report)
    of_a_stranger(made, Path())
    metric = {
        **made["metrics"]["interchange_control"],
        "value": value,
        "ci_low": None,
        "ci_high": None,
        "ci_method": None,
        "reason_if_no_interval": "made by a stranger",
        "split": "validation",
        "higher_is_better": False,
    }
    made["metrics"]["greatness"] = metric
    made["diagnostics"]["stranger"].update(metrics=["greatness"], details={"seen": 4})
    return made


def test_a_plugin_owns_its_metrics_as_any_diagnostic_does(
    thr_report: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plugin = tmp_path / "stranger.py"
    plugin.write_text(STRANGER)
    put(tmp_path / "r" / "honest", greatly(thr_report, 2.0))
    put(tmp_path / "r" / "raised", greatly(thr_report, 3.0))
    put(tmp_path / "r" / "beyond", greatly(thr_report, 10.0))
    monkeypatch.setattr("rote_bench.leaderboard.collect.WORTH_PROCESSES", 1)
    for workers in (1, 2):
        monkeypatch.setattr("rote_bench.leaderboard.build.cores", lambda count=workers: count)
        board = build([tmp_path / "r"], tmp_path / "board", "--plugin", str(plugin), "--export", "every-eval-ever")
        reasons = {one["path"]: one["reason"] for one in board["refused"]}
        assert "greatness is 3, but the details of its diagnostic give 2" in reasons["raised/report.json"]
        assert "greatness 10 lies outside what is possible" in reasons["beyond/report.json"]
        (row,) = board["tasks"][0]["rows"]
        assert row["metrics"]["greatness"]["value"] == 2.0 and row["series"]["stranger"] == [{"seen": [4], "seed": "0"}]
    assert board["columns"][1:3] == ["early_clean_peak", "greatness"]
    assert board["metrics"]["greatness"] == {
        "heading": "greatness",
        "meaning": "how great it is",
        "higher_is_better": False,
    }
    assert "how great it is" in (tmp_path / "board" / "index.html").read_text()
    (record,) = (tmp_path / "board" / "every_eval_ever").rglob("*.json")
    configs = {
        r["evaluation_name"].split(": ")[1]: r["metric_config"]
        for r in json.loads(record.read_text())["evaluation_results"]
    }
    assert (configs["greatness"]["min_score"], configs["greatness"]["max_score"]) == (0.0, 9.0)
    assert configs["greatness"]["lower_is_better"] is True
    capsys.readouterr()
    code, found = check(tmp_path / "r" / "honest", capsys, "--plugin", str(plugin))
    assert code in (0, 3) and found["greatness"]["note"].startswith("its details agree")


def test_models_are_ranked_by_the_rule_and_barred_by_the_gates(many: Path, tmp_path: Path) -> None:
    board = build([many], tmp_path / "board")
    (task,) = board["tasks"]
    at_rate = {row["model"]: row for row in task["rows"] if row["noise_rate"] == 0.05}
    ranks = {m: (row["rank_low"], row["rank_high"]) for m, row in at_rate.items()}
    none = (None, None)
    assert ranks == {"better": (1, 2), "good": (1, 2), "unsolved": none, "careful": none}  # three seeds order nothing
    assert [row["model"] for row in task["rows"] if row["rank_low"]] == ["better", "good"]
    assert "the task is not solved" in at_rate["unsolved"]["reason"]
    assert "the noise is not memorised" in at_rate["careful"]["reason"]
    assert all(row["rank_low"] is None for row in task["rows"] if row["noise_rate"] == 0)
    n = at_rate["good"]["reports"] and json.loads((many / "good/0/0/report.json").read_text())["data"]["counts"]
    transfer = at_rate["good"]["metrics"]["noise_transfer"]
    share = round(0.05 * n["train"]) / n["train"]
    assert transfer["value"] == pytest.approx(2 / n["validation"] / share, abs=1e-6)  # 1, 2 and 3 errors
    assert transfer["n"] == 3 and transfer["item_half_width"] > 0 and transfer["higher_is_better"] is False
    (comparison,) = task["comparisons"]
    assert (comparison["first"], comparison["second"], comparison["seeds_second"]) == ("better", "good", 3)
    assert comparison["difference"] < 0 and comparison["p"] == comparison["p_smallest"] == 0.1
    better, good = np.zeros(3), np.arange(1, 4) / n["validation"] / share
    theirs = stats.ttest_ind(better, good, equal_var=False)
    assert comparison["p_family"] == pytest.approx(theirs.pvalue, abs=1e-6) and theirs.pvalue > 0.05
    assert {f["id"] for f in task["findings"]} == {"benign"} and len(task["findings"]) == 4
    assert not list(Draft202012Validator(schema()).iter_errors(board))


def test_a_model_without_its_twin_has_no_rank(thr_report: dict[str, Any], tmp_path: Path) -> None:
    put(tmp_path / "r", cell(thr_report, "alone", 0.05, 0, 0))
    (task,) = build([tmp_path / "r"], tmp_path / "board")["tasks"]
    (row,) = task["rows"]
    assert row["rank_low"] is None and "no run at noise rate 0" in row["reason"]
    assert row["metrics"]["noise_transfer"]["value"] is None and row["metrics"]["noise_transfer"]["reason_if_null"]


def test_cells_of_several_precisions_are_marked(thr_report: dict[str, Any], tmp_path: Path) -> None:
    for rate, seed, precision in ((0, 0, "float32"), (0, 1, "bfloat16"), (0.05, 0, "bfloat16"), (0.05, 1, "bfloat16")):
        made = cell(thr_report, "mixed", rate, seed, 0)
        made["environment"]["precision"] = made["identity"]["parts"]["precision"] = precision
        made["task"]["spec"]["training"]["precision"] = "auto"
        made["identity"]["parts"]["training"] = made["task"]["spec"]["training"]
        identify(made)
        put(tmp_path / "r" / f"{rate}-{seed}", made)
    (task,) = build([tmp_path / "r"], tmp_path / "board")["tasks"]
    marks = {row["noise_rate"]: [m for m in row["marks"] if "precision" in m] for row in task["rows"]}
    assert marks[0] == ["cells differ in arithmetic precision"]
    assert marks[0.05] == ["trained in another precision than the twin with seed 0"]


def test_a_rebuild_gives_the_same_bytes_from_anywhere_and_in_any_order(
    many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = ("--export", "every-eval-ever")
    build([many / m for m in ("good", "better", "unsolved", "careful")], tmp_path / "a", *flags)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    build(
        [Path(os.path.relpath(many, elsewhere)) / m for m in ("careful", "unsolved", "good", "better")],
        tmp_path / "b",
        *flags,
    )
    first = {p.relative_to(tmp_path / "a"): p.read_bytes() for p in (tmp_path / "a").rglob("*") if p.is_file()}
    second = {p.relative_to(tmp_path / "b"): p.read_bytes() for p in (tmp_path / "b").rglob("*") if p.is_file()}
    assert first == second and {str(path) for path in first} >= set(FILES) and len(first) == len(FILES) + 24
    assert all(str(tmp_path).encode() not in content for content in first.values())


def test_duplicates_and_short_runs_do_not_count(thr_report: dict[str, Any], tmp_path: Path) -> None:
    for name in ("a", "b"):
        put(tmp_path / "r" / name, cell(thr_report, "m", 0.05, 0, 0))
    short = cell(thr_report, "m", 0.05, 1, 0)
    short["data"]["limit"] = 100
    identify(short)
    put(tmp_path / "r" / "short", short)
    dirty = cell(thr_report, "m", 0.05, 2, 0)
    dirty["model"]["remote_code"] = dirty["identity"]["parts"]["model"]["remote_code"] = True
    identify(dirty)
    dirty["environment"].update(git_dirty=True, remote_code=True)
    put(tmp_path / "r" / "dirty", dirty)
    board = build([tmp_path / "r"], tmp_path / "board")
    assert board["reports"] == {
        "found": 4,
        "counted": 2,
        "refused": 0,
        "barred": 1,
        "conflicts": 0,
        "duplicates": 1,
    }
    reasons = {one["path"]: one["reason"] for one in board["refused"]}
    assert "the same cell as a/report.json" in reasons["b/report.json"] and "--limit" in reasons["short/report.json"]
    (row,) = board["tasks"][0]["rows"]
    assert any("uncommitted" in m for m in row["marks"]) and any("came with the weights" in m for m in row["marks"])
    assert board["artifacts"]["missing"] > 0 and board["artifacts"]["present"] == 0


def test_every_format_escapes_what_would_be_markup(many: Path, tmp_path: Path) -> None:
    board = build([many], tmp_path / "board")
    for task in board["tasks"]:
        task["title"] = "50 % <script>alert(1)</script> & a_b | c $x$ \\input{y}"
    for text in (tables.markdown(board), tables.latex(board)):
        assert "<script>" not in text
    markdown, latex = tables.markdown(board), tables.latex(board)
    assert "&lt;script&gt;" in markdown and r"a\_b \| c \$x\$" in markdown
    assert r"50 \% \textless{}script\textgreater{}" in latex and r"\textbackslash{}input\{y\}" in latex


def test_the_interchange_records_hold_what_the_schema_asks_for(many: Path, tmp_path: Path) -> None:
    board = build([many], tmp_path / "board", "--export", "every-eval-ever")
    records = [json.loads(p.read_text()) for p in (tmp_path / "board" / "every_eval_ever").rglob("*.json")]
    assert len(records) == board["reports"]["counted"] == 24
    for one in records:
        assert {"schema_version", "evaluation_id", "retrieved_timestamp", "source_metadata", "model_info"} <= set(one)
        assert {"name", "version"} <= set(one["eval_library"]) and {"name", "id"} <= set(one["model_info"])
        for result in one["evaluation_results"]:
            config, score = result["metric_config"], result["score_details"]["score"]
            assert config["min_score"] <= score <= config["max_score"] and isinstance(config["lower_is_better"], bool)
            details = [config["additional_details"], result["source_data"]["additional_details"]]
            assert all(isinstance(value, str) for part in details for value in part.values())


def check(folder: Path, capsys: pytest.CaptureFixture[str], *flags: str) -> tuple[int, dict[str, dict[str, str]]]:
    code = main(["leaderboard", "check", str(folder), "--json", *flags])
    (found,) = json.loads(capsys.readouterr().out)
    return code, {outcome["claim"]: outcome for outcome in found["outcomes"]}


@pytest.mark.parametrize("which", ["thr_cell", "fda_cell"])
def test_an_honest_report_is_confirmed_to_the_last_digit(
    which: str, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    code, found = check(request.getfixturevalue(which), capsys)
    assert code == 0 and {o["verdict"] for o in found.values()} == {"confirmed", "on trust"}
    for claim in (
        *("artifacts", "identity", "consistency", "findings", "data", "samples", "validation_accuracy"),
        *("train_clean_accuracy", "memorization_rate", "noisy_true_rate", "phantom_rate"),
        *("counterfactual_memorization", "early_clean_peak", "early_clean_peak_relative", "memorization_lag"),
        *("clean_label_depth", "override_depth", "cross_faithfulness_random"),
    ):
        assert found[claim]["verdict"] == "confirmed", found[claim]


def resign(folder: Path, file: str) -> None:
    """Give a changed file's hash to the report, as somebody who tampers with care would."""
    report = json.loads((folder / "report.json").read_text())
    for artifact in report["artifacts"]:
        if artifact["path"] == file:
            artifact.update(sha256=sha256(folder / file), bytes=(folder / file).stat().st_size)
    put(folder, report)


@pytest.mark.parametrize(
    ("column", "claims"),
    [
        ("is_answer", {"samples", "validation_accuracy"}),
        ("prompt", {"samples"}),
        ("label", {"samples"}),
        ("prediction", {"samples"}),
    ],
)
def test_changed_samples_are_found(
    thr_cell: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], column: str, claims: set[str]
) -> None:
    import pyarrow
    import pyarrow.parquet

    folder = Path(shutil.copytree(thr_cell, tmp_path / "cell"))
    columns = pyarrow.parquet.read_table(folder / "samples.parquet").to_pydict()
    right = zip(columns["split"], columns["is_answer"], strict=True)
    row = list(right).index(("validation", True))  # of a wrong answer, only a rerun can tell that it was another one
    columns[column][row] = not columns[column][row] if column == "is_answer" else f"{columns[column][row]} x"
    pyarrow.parquet.write_table(pyarrow.table(columns), folder / "samples.parquet")
    resign(folder, "samples.parquet")
    code, found = check(folder, capsys)
    assert code == 1 and claims <= {claim for claim, o in found.items() if o["verdict"] == "differs"}


def test_a_changed_curve_and_a_changed_interval_are_found(
    thr_cell: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(thr_cell, tmp_path / "cell"))
    report = json.loads((folder / "report.json").read_text())
    report["metrics"]["memorization_lag"]["ci_low"] += 0.01
    report["metrics"]["override_depth"]["ci_low"] = 0.0
    put(folder, report)
    code, found = check(folder, capsys)
    assert code == 1
    assert found["memorization_lag"]["verdict"] == found["override_depth"]["verdict"] == "differs"
    assert found["clean_label_depth"]["verdict"] == "confirmed"


def test_another_curve_beside_the_report_is_found(
    thr_cell: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(thr_cell, tmp_path / "cell"))
    lines = (folder / "dynamics.jsonl").read_text().splitlines()
    last = json.loads(lines[-1])
    last["validation_accuracy"] /= 2
    (folder / "dynamics.jsonl").write_text("\n".join([*lines[:-1], json.dumps(last)]) + "\n")
    resign(folder, "dynamics.jsonl")
    code, found = check(folder, capsys)
    assert code == 1 and [claim for claim, o in found.items() if o["verdict"] == "differs"] == ["curve"]
    (folder / "dynamics.jsonl").unlink()
    assert check(folder, capsys)[1]["curve"]["verdict"] == "not recomputed"


def test_records_are_what_the_numbers_are_made_of(
    thr_cell: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import pyarrow
    import pyarrow.parquet

    folder = Path(shutil.copytree(thr_cell, tmp_path / "cell"))
    columns = pyarrow.parquet.read_table(folder / "logit_lens.parquet").to_pydict()
    columns["label_rank"] = [[rank + 1000 for rank in ranks] for ranks in columns["label_rank"]]
    pyarrow.parquet.write_table(pyarrow.table(columns), folder / "logit_lens.parquet")
    resign(folder, "logit_lens.parquet")
    code, found = check(folder, capsys)
    assert code == 1 and found["override_depth"]["verdict"] == "differs" and found["details"]["verdict"] == "confirmed"
    (folder / "logit_lens.parquet").unlink()
    code, found = check(folder, capsys)
    depth = found["override_depth"]
    assert code == 0 and (depth["verdict"], depth["note"]) == ("confirmed", "its details")


def test_a_version_that_is_not_known_differs(
    thr_report: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    of_another_version(thr_report, tmp_path)
    code, found = check(put(tmp_path / "r", thr_report), capsys)
    assert code == 1 and found["patch_dissociation"]["verdict"] == "differs"
    assert "its version 99 is not known here; this rote-bench has" in found["patch_dissociation"]["note"]
    assert found["probe_accuracy_noisy"]["verdict"] == "on trust"


def test_without_its_files_a_report_is_not_recomputed_and_says_why(
    thr_report: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, found = check(put(tmp_path / "bare", thr_report), capsys)
    assert code == 3 and found["data"]["verdict"] == "confirmed"
    assert found["validation_accuracy"]["verdict"] == "not recomputed"
    assert "samples.parquet is not here" in found["validation_accuracy"]["note"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["build", "nowhere", "-o", "x"], "no such file or folder"),
        (["build", ".", "-o", "x"], "holds no reports"),
        (["build", "."], "-o: says where the leaderboard goes"),
        (["build", ".", "-o", "x", "--rerun"], "--rerun: does not go with"),
        (["check", ".", "-o", "x"], "-o: does not go with"),
        (["build", ".", "-o", "x", "--export", "csv"], "cannot export 'csv'"),
        (["check", "nowhere"], "no report here"),
        (["check", "nowhere", "--task", "none.yaml"], "none.yaml: no such file"),
        (["build", ".", "-o", "x", "--task", "thr"], "--task: does not go with"),
        (["check", "."], "holds no reports"),
    ],
)
def test_wrong_input_is_one_line_and_exit_two(
    arguments: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["leaderboard", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert says in line and not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_repeated_run_gives_the_same_numbers(thr_cell: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, found = check(thr_cell, capsys, "--rerun")
    repeated = {claim: o for claim, o in found.items() if claim.startswith("rerun: ")}
    assert code == 0 and len(repeated) > 20 and {o["verdict"] for o in repeated.values()} == {"confirmed"}
    assert {o["note"] for o in repeated.values()} == {"as in the repeated run", "must be equal: same machine"}
