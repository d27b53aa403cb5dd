"""Reports read again: what cannot be read is told, and harms no other."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import rote_bench
from rote_bench.cli import main
from rote_bench.errors import UserError

BROKEN: dict[str, Callable[[str], str]] = {
    "cut short": lambda text: text[:-30],
    "deep": lambda text: text.replace('"anatomy":', '"deep": ' + "[" * 990 + "]" * 990 + ', "anatomy":', 1),
    "deeper": lambda text: "[" * 100_000,
    "without end": lambda text: text.replace('"parameters":', '"parameters": 1' + "0" * 400 + ', "x":', 1),
    "infinite": lambda text: text.replace('"parameters":', '"parameters": 1e999, "x":', 1),
    "hostile": lambda text: text.replace('"status":', '"\\u202e\\u001b[2J": 1, "status":', 1),
    "large": lambda text: " " * (33 << 20),
    "no text": lambda text: "",
}


@pytest.fixture
def folder(thr_report: dict[str, Any], tmp_path: Path) -> Path:
    text = json.dumps(thr_report)
    for name, change in {"good": lambda text: text, **BROKEN}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "report.json").write_text(change(text))
    return tmp_path


def test_a_folder_is_shown_without_its_broken_reports(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(folder)]) == 0
    shown = capsys.readouterr().out
    assert shown.replace("\n", "").isprintable() and "gpt2-nano" in shown
    said = " ".join(shown.split())
    for name in BROKEN:
        assert said.count(f"/{name}/report.json:") == 1
    assert main(["show", str(folder), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found["rows"]) == 1 and len(found["left_out"]) == len(BROKEN)


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_report_alone_is_one_line_and_exit_two(
    folder: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for verb in ("show", "plot"):
        assert main([verb, str(folder / name)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.isprintable() and f"{name}/report.json: is" in line


def test_a_folder_of_broken_reports_says_what_is_wrong(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "good" / "report.json").unlink()
    assert main(["show", str(folder)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_figures_are_drawn_without_the_broken_reports(
    folder: Path, thr_report: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    name = "learning_dynamics"
    thr_report["diagnostics"] = {name: thr_report["diagnostics"][name]}
    (folder / "good" / "report.json").write_text(json.dumps(thr_report))
    assert main(["plot", str(folder)]) == 0
    captured = capsys.readouterr()
    assert captured.out.splitlines()[0].endswith(f"{name}.png")
    assert sum(line.startswith("warning: left out: ") for line in captured.err.splitlines()) == len(BROKEN)
    assert captured.err.replace("\n", "").isprintable()


def test_markup_in_names_shows_as_it_is_in_a_table_for_repositories(
    thr_report: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    thr_report["model"]["name"] = "a|b <img src=x onerror=y> \x1b[2J\ud800"
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "report.json").write_text(json.dumps(thr_report))
    assert main(["show", str(tmp_path), "--format", "github"]) == 0
    shown = capsys.readouterr().out
    assert r"a\|b &lt;img src=x onerror=y&gt;" in shown and "\x1b" not in shown
    assert main(["show", str(tmp_path / "r"), "--json"]) == 0
    printed = capsys.readouterr().out
    printed.encode("utf-8")
    assert json.loads(printed)["model"]["name"] == thr_report["model"]["name"]


def test_a_report_is_short_in_a_list_and_whole_when_printed(thr_cell: Path) -> None:
    report = rote_bench.load_report(thr_cell)
    told = f"success, held-out {report.value('validation_accuracy'):.3f}, memorised"
    assert repr(report).startswith(f"<Report small_thr, gpt2-nano, 5 % wrong labels, seed 0: {told}")
    assert len(repr(report)) < 300 + len(str(thr_cell)) and "\n" not in repr(report)
    assert len(str(report).splitlines()) > 30
    assert len({report, rote_bench.load_report(thr_cell)}) == 1


def test_frames_hold_what_the_files_hold(thr_cell: Path, thr_report: dict[str, Any]) -> None:
    report = rote_bench.load_report(thr_cell)
    metrics = report.metrics_frame()
    assert list(metrics.index) == list(thr_report["metrics"])
    one = thr_report["metrics"]["memorization_rate"]
    assert {key: metrics.loc["memorization_rate", key] for key in ("value", "ci_low", "ci_high", "n", "split")} == {
        key: one[key] for key in ("value", "ci_low", "ci_high", "n", "split")
    }
    for name, entry in thr_report["diagnostics"].items():
        assert set(metrics.index[metrics["diagnostic"] == name]) == set(entry["metrics"])
    curve = report.curve()
    lines = [json.loads(line) for line in (thr_cell / "dynamics.jsonl").read_text().splitlines()]
    assert list(curve.index) == [line["step"] for line in lines]
    assert list(curve["memorization_rate"]) == [line["memorization_rate"] for line in lines]
    samples = report.samples()
    held = samples[samples["split"] == "validation"]
    assert held["is_answer"].mean() == pytest.approx(report.value("validation_accuracy"))
    assert len(report.records("logit_lens")) == report.metrics["override_depth"].n


def test_what_a_report_has_not_is_named(thr_cell: Path) -> None:
    report = rote_bench.load_report(thr_cell)
    with pytest.raises(KeyError, match="did you mean 'memorization_rate'"):
        report.value("memorisation_rate")
    with pytest.raises(UserError, match="did you mean 'logit_lens'"):
        report.records("logitlens")
    with pytest.raises(UserError, match=r"learning_dynamics kept no records.*logit_lens"):
        report.records("learning_dynamics")


def test_a_cell_that_was_not_trained_has_no_curve(tmp_path: Path) -> None:
    from tests.reports import report

    with pytest.raises(UserError, match="it was not trained"):
        rote_bench.Report(report(), tmp_path).curve()


def test_a_notebook_shows_the_result_with_its_curve(thr_cell: Path) -> None:
    report = rote_bench.load_report(thr_cell)
    page = report._repr_html_()
    assert "small_thr, gpt2-nano" in page and page.count("data:image/png;base64,") == 1
    assert f"{len([m for m in report.metrics.values() if m.value is not None])} metrics" in page
    figures = report.figures
    assert set(figures) == {file.stem for file in (thr_cell / "figures").glob("*.png")}
    png = figures["probe"]._repr_png_()
    assert png is not None and png[0] == (thr_cell / "figures" / "probe.png").read_bytes()
    assert figures._repr_html_().count("<img") == len(figures)


def test_one_seed_gives_a_report_and_several_of_any_kind_a_list(thr_cell: Path) -> None:
    import numpy as np

    given: dict[str, Any] = {"model": "gpt2-nano", "output_path": thr_cell.parents[3], "quiet": True}
    task = thr_cell.parents[4] / "task.yaml"
    seed: Any = np.int64(0)
    one = rote_bench.run(task, seed=seed, **given)
    several: list[Any] = [[0], (0,), range(1), np.array([0])]
    for seeds in several:
        assert rote_bench.run(task, seed=seeds, noise_rate=np.array([0.05]), **given) == [one]
