"""What a diagnostic hands over is kept only when it is sound, and nothing that breaks harms the rest of a report."""

from __future__ import annotations

import json
import re
import threading
from pathlib import Path
from typing import Any

import matplotlib
import pyarrow.parquet
import pytest

from rote_bench import plugins
from rote_bench.cli import main

TASK = """
name: tiny
generator: two_hop
parameters: {form: symbols, entities: 12, bridges: 4, answers: 5, relations: 6}
splits: {train: 0.7, selection: 0.1, validation: 0.2}
noise: {rates: [0.1]}
model: {layers: 1, width: 32, heads: 2}
training: {batch_size: 64, max_steps: 20, evaluate_every: 10, precision: float32, schedule: {warmup: 2, anneal: 5}}
"""
HEAD = """
import numpy as np
from rote_bench.plugin import SHARE, Diagnostic, Estimate, Measure, NotApplicable, Result, hookimpl, wilson

def one(name, split="validation", bounds=SHARE, **more):
    return Measure(name, "a number", split, bounds, **more)

class Base(Diagnostic):
    description = "one that may be broken"
    def run(self, subject):
        return Result({self.metrics[0].name: self.value()}, self.details(), self.records())
    def value(self): return wilson(3, 10)
    def details(self): return {}
    def records(self): return {}
"""
# name of the diagnostic -> its class's body, and what its reason must say (None: it succeeds)
CASES: dict[str, tuple[str, str | None]] = {
    "sound": ("", None),
    "numpy_numbers": (
        'def value(self): return Estimate(np.float32(0.5), np.float64(0.25), np.float32(0.75), "m", np.int64(4))\n'
        'def details(self): return {"a": np.float32(0.5), "b": np.arange(3), 1: (np.bool_(True),)}\n'
        'def records(self): return {"x": np.arange(4), "y": [np.float32(0.5)] * 4}',
        None,
    ),
    "takes_a_headline": (
        'def run(self, subject): return Result({"validation_accuracy": wilson(1, 2)})',
        "every report has a metric validation_accuracy",
    ),
    "takes_anothers": (
        'def run(self, subject): return Result({"early_clean_peak": wilson(1, 2)})',
        "learning_dynamics measures early_clean_peak too",
    ),
    "undeclared": ('def run(self, subject): return Result({"other": wilson(1, 2)})', "'other' is not declared"),
    "nan_in_details": ('def details(self): return {"a": [1.0, float("nan")]}', r"details\.a\[1\] is nan"),
    "ragged": ('def records(self): return {"a": [1], "b": [1, 2]}', "columns have lengths"),
    "many": ("def value(self): return wilson(3, 10**6)", "n = 1000000, but validation holds"),
    "more_than_asked": ('def records(self): return {"a": [1, 2]}', "n = 10, but records holds 2"),
    "negative": ('def value(self): return Estimate(0.5, 0.2, 0.7, "m", -1)', "has n = -1"),
    "too_large": ('def value(self): return Estimate(1.5, 1.0, 2.0, "m", 3)', r"is 1\.5, outside"),
    "beside": ('def value(self): return Estimate(0.9, 0.1, 0.2, "m", 3)', r"is 0\.9 in \[0\.1, 0\.2\]"),
    "no_interval": ("def value(self): return Estimate(0.5, None, None, None, 3)", "no_interval has none"),
    "half_interval": ('def value(self): return Estimate(0.5, 0.1, None, "m", 3)', "half there"),
    "with_reason": (
        'def value(self): return Estimate(0.5, None, None, None, 3, reason_if_no_interval="it is one of three")',
        None,
    ),
    "no_estimate": ("def value(self): return 0.5", "is a float; give an Estimate"),
    "no_result": ("def run(self, subject): return None", "run gives NoneType"),
    "breaks": ('def run(self, subject): raise KeyError("x")', "KeyError: 'x'"),
    "exits": ("def run(self, subject): raise SystemExit(3)", "SystemExit: 3"),
    "not_made": ("def __init__(self, options, seed): raise RuntimeError('not made')", "not made"),
    "disagrees": ('def implied(self, details, records): return {"disagrees": 0.5}', "its details give 0.5"),
    "other_n": ('def implied(self, details, records): return {"other_n": wilson(6, 20)}', "its details give 20"),
    "implies_nothing": ('def implied(self, details, records): return {"implies_nothing": details["x"]}', "KeyError"),
    "figure_raises": ('@staticmethod\ndef draw(details, path): raise SystemExit("no figure")', None),
    "figure_missing": ("@staticmethod\ndef draw(details, path): return True", None),
    "not_here": ("def run(self, subject): raise NotApplicable('not here')", "not here"),
}


def plugin(folder: Path, cases: dict[str, str]) -> Path:
    """A plugin with a diagnostic for each case, named like its metric."""
    text = HEAD
    for name, body in cases.items():
        lines = body.splitlines() or ["pass"]
        text += f'\nclass C_{name}(Base):\n    name = "{name}"\n    metrics = (one("{name}"),)\n'
        text += "".join(f"    {line}\n" for line in lines)
    text += "\n@hookimpl\ndef register_diagnostics(register):\n"
    text += "".join(f"    register(C_{name})\n" for name in cases)
    file = folder / "strangers.py"
    file.write_text(text)
    return file


def run(folder: Path, names: list[str], file: Path, *more: str) -> tuple[int, dict[str, Any], Path]:
    task = folder / "tiny.yaml"
    task.write_text(TASK + f"diagnostics: [learning_dynamics, {', '.join(names)}]\n")
    given = ["run", str(task), "--model", "gpt2-nano", "-o", str(folder / "runs"), "--quiet", "--plugin", str(file)]
    code = main([*given, *more])
    (report,) = (folder / "runs").rglob("report.json")
    return code, json.loads(report.read_text()), report.parent


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> tuple[int, dict[str, Any], Path]:
    folder = tmp_path_factory.mktemp("strangers")
    file = plugin(folder, {name: body for name, (body, _) in CASES.items()})
    return run(folder, list(CASES), file)


@pytest.mark.parametrize("name", CASES)
def test_a_run_keeps_what_is_sound_and_says_what_is_not(name: str, strangers: Any) -> None:
    _, report, folder = strangers
    reason = CASES[name][1]
    entry = report["diagnostics"][name]
    if reason is None:
        assert (entry["status"], entry["metrics"]) == ("success", [name])
        assert name in report["metrics"]
        return
    assert entry["status"] == ("not_applicable" if name == "not_here" else "failed")
    assert re.search(reason, entry["reason"]), entry["reason"]
    assert "\n" not in entry["reason"] and entry["metrics"] == [] and entry["details"] == {}
    assert name not in report["metrics"] and not (folder / f"{name}.parquet").exists()


def test_the_rest_of_the_report_is_intact(strangers: Any, tmp_path: Path) -> None:
    code, report, folder = strangers
    assert (code, report["status"]) == (0, "success")
    _, alone, _ = run(tmp_path, ["sound"], plugin(tmp_path, {"sound": ""}))
    assert {name: report["metrics"][name] for name in alone["metrics"]} == alone["metrics"]
    assert report["diagnostics"]["learning_dynamics"]["status"] == "success"
    columns = pyarrow.parquet.read_table(folder / "samples.parquet").column_names
    assert columns[:3] == ["split", "index", "group"]
    assert (folder / "figures" / "learning_dynamics.png").is_file()


def test_numbers_of_numpy_are_plain_in_the_report(strangers: Any) -> None:
    _, report, folder = strangers
    metric = report["metrics"]["numpy_numbers"]
    assert (metric["value"], metric["ci_low"], metric["ci_high"], metric["n"]) == (0.5, 0.25, 0.75, 4)
    assert report["diagnostics"]["numpy_numbers"]["details"] == {"a": 0.5, "b": [0, 1, 2], "1": [True]}
    assert pyarrow.parquet.read_table(folder / "numpy_numbers.parquet").column("x").to_pylist() == [0, 1, 2, 3]
    assert report["metrics"]["with_reason"]["reason_if_no_interval"] == "it is one of three"


def test_a_figure_that_fails_is_a_warning(strangers: Any) -> None:
    _, report, folder = strangers
    about = [w for w in report["warnings"] if w.startswith("figure of")]
    assert [w.split()[2] for w in about] == ["figure_raises", "figure_missing"]
    assert "no figure" in about[0] and "there is none" in about[1]
    assert not list((folder / "figures").glob("*figure_*"))


def test_debug_lets_the_error_of_a_diagnostic_through(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = plugin(tmp_path, {"breaks": CASES["breaks"][0]})
    with pytest.raises(KeyError):
        run(tmp_path, ["breaks"], file, "--debug")


@pytest.mark.parametrize(
    ("name", "metrics", "reason"),
    [
        ("samples", '(one("mine"),)', "called like a file of the harness"),
        ("report", '(one("mine"),)', "called like a file of the harness"),
        ("a/b", '(one("mine"),)', "has no name for a file"),
        ("mine", '(one("validation_accuracy"),)', "'validation_accuracy', which every report has"),
        ("mine", '(one("noise_transfer"),)', "'noise_transfer', which every report has"),
        ("mine", '(one("a"), one("a"))', "declares the metric 'a' twice"),
        ("mine", '[one("a")]', "needs a tuple of Measures"),
        ("mine", '("a",)', "needs a tuple of Measures"),
        ("mine", '(one("override_depth"),)', "metric 'override_depth' is registered by both built-in and"),
    ],
)
def test_names_are_refused_before_anything_runs(name: str, metrics: str, reason: str, tmp_path: Path) -> None:
    file = tmp_path / "stranger.py"
    file.write_text(
        f'{HEAD}\nclass Mine(Base):\n    name = "{name}"\n    metrics = {metrics}\n'
        "@hookimpl\ndef register_diagnostics(register): register(Mine)\n"
    )
    with pytest.raises(Exception, match=reason):
        plugins.load([file])


def test_two_diagnostics_of_one_plugin_share_no_metric(tmp_path: Path) -> None:
    file = tmp_path / "stranger.py"
    classes = "".join(f'class C{n}(Base):\n    name = "c{n}"\n    metrics = (one("both"),)\n' for n in (1, 2))
    hook = "@hookimpl\ndef register_diagnostics(register):\n    register(C1)\n    register(C2)\n"
    file.write_text(HEAD + classes + hook)
    with pytest.raises(Exception, match="'c1' and 'c2' both declare the metric 'both'"):
        plugins.load([file])


def test_figures_leave_the_callers_matplotlib_alone(strangers: Any, tmp_path: Path) -> None:
    """Neither backend nor style is changed, and no pyplot keeps the figure."""
    report = strangers[1]
    cls = plugins.built_in().table("diagnostics")["learning_dynamics"]
    details = report["diagnostics"]["learning_dynamics"]["details"]
    with matplotlib.rc_context({"axes.labelsize": 12}):
        before = dict(matplotlib.rcParams)
        drawn: list[bool] = []
        thread = threading.Thread(target=lambda: drawn.append(cls.draw(details, tmp_path / "again.png")))
        thread.start()
        thread.join()
        assert drawn == [True] and dict(matplotlib.rcParams) == before
