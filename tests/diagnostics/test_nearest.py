"""What the nearest training questions would answer, and what stands beside it: questions out of distribution."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rote_bench.cli import main
from rote_bench.diagnostics import NotApplicable
from rote_bench.diagnostics.nearest import Nearest, vote
from rote_bench.subject import Subject
from tests.conftest import SMALL_THR
from tests.diagnostics.reports import value


def test_the_nearest_win_among_equally_many_votes() -> None:
    assert [vote(labels.split()) for labels in ("a b b", "a b", "b a a b c", "")] == ["b", "a", "b", ""]


def test_several_rows_outvote_a_wrong_label(thr: Subject, thr_report: dict[str, Any]) -> None:
    """Rows of one bridge have the same answers, so that more of them are wrong together less often."""
    clean = replace(thr.data.train, labels=tuple(e.answer for e in thr.data.train.examples))
    without = Nearest(Nearest.Options()).run(replace(thr, data=replace(thr.data, train=clean)))
    assert without.metrics["nearest_neighbour_1"].value == pytest.approx(1, abs=0.02)
    shares = [value(thr_report, f"nearest_neighbour_{k}") for k in (1, 3)]
    assert shares[0] == pytest.approx(0.95, abs=0.04) and shares[0] < shares[1]


def test_nothing_of_that_kind_adds(fda_report: dict[str, Any]) -> None:
    assert value(fda_report, "nearest_neighbour_1") < 0.2 < value(fda_report, "validation_accuracy")


def test_a_task_without_a_distance_is_told_so(thr: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(thr.task), "nearest", lambda *unused: None)
    with pytest.raises(NotApplicable, match="no distance"):
        Nearest(Nearest.Options()).run(thr)


def test_answers_out_of_distribution_are_kept_and_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "task.yaml"
    text = SMALL_THR[: SMALL_THR.index("diagnostics:")].replace("validation: 0.12}", "validation: 0.1, ood: 25}")
    file.write_text(f"{text}diagnostics: [learning_dynamics, nearest]\n")
    short = ["--set", "training.max_steps=6", "--set", "training.schedule={warmup: 1, anneal: 3}"]
    short += ["--set", "training.evaluate_every=3"]
    assert main(["run", str(file), "--model", "gpt2-nano", "-o", str(tmp_path / "runs"), *short]) == 0
    assert "validation_accuracy_ood" in capsys.readouterr().out
    (path,) = (tmp_path / "runs").rglob("report.json")
    report = json.loads(path.read_text())
    metric = report["metrics"]["validation_accuracy_ood"]
    assert report["data"]["counts"]["ood"] == metric["n"] == 25 and metric["split"] == "ood"
    assert metric["ci_low"] <= metric["value"] <= metric["ci_high"]
    assert main(["leaderboard", "check", str(path), "--json"]) == 0
    (check,) = json.loads(capsys.readouterr().out)
    found = {outcome["claim"]: outcome["verdict"] for outcome in check["outcomes"]}
    known = ("data", "samples", "validation_accuracy_ood", "nearest_neighbour_1", "nearest_neighbour_5")
    assert [found[claim] for claim in known] == ["confirmed"] * len(known)
    for change in ({"value": 24 / 25}, None):
        changed = json.loads(path.read_text())
        if change is None:
            del changed["metrics"]["validation_accuracy_ood"]
        else:
            changed["metrics"]["validation_accuracy_ood"] |= change
        path.write_text(json.dumps(changed))
        assert main(["leaderboard", "check", str(path)]) == 1
        capsys.readouterr()
