"""Reports: never NaN, never half written, every damage named."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rote_bench.cli import main
from rote_bench.errors import UserError
from rote_bench.hashing import canonical
from rote_bench.models.sizing import config_for
from rote_bench.plugins import Registry
from rote_bench.report.build import plain_config
from rote_bench.report.provenance import environment
from rote_bench.report.schema import read
from rote_bench.report.view import render
from rote_bench.report.write import faults, load_report, not_finite, write_json, write_text


def test_nan_is_refused_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"metrics\.a\[1\]"):
        write_json(tmp_path / "x.json", {"metrics": {"a": [1.0, float("nan")]}})
    assert list(tmp_path.iterdir()) == []
    assert list(not_finite({"a": float("inf"), "b": [{"c": 1.0}]})) == ["a"]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    write_text(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "\ud800")
    assert path.read_text() == "old" and len(list(tmp_path.iterdir())) == 1


def damage(report: dict[str, Any], kind: str) -> str:
    changed = copy.deepcopy(report)
    if kind == "truncated":
        return json.dumps(changed)[:-20]
    if kind == "nan":
        return json.dumps(changed).replace('"schema_version": 2', '"schema_version": NaN')
    if kind == "version":
        changed["schema_version"] = 0
    if kind == "extra":
        changed["extra"] = 1
    if kind == "list":
        return "[]"
    if kind == "null":
        changed["metrics"]["validation_accuracy"]["value"] = None
    return json.dumps(changed)


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("truncated", "not a complete JSON"),
        ("nan", "NaN is not allowed"),
        ("version", "schema version 0"),
        ("extra", "'extra' was unexpected"),
        ("list", "schema version None"),
        ("null", "reason_if_null"),
    ],
)
def test_damaged_reports_are_refused_in_one_line(
    thr_report: dict[str, Any], tmp_path: Path, kind: str, says: str
) -> None:
    path = tmp_path / "report.json"
    path.write_text(damage(thr_report, kind))
    with pytest.raises(UserError) as caught:
        load_report(tmp_path)
    assert says in str(caught.value) and str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_the_schema_is_closed_but_for_details(thr_report: dict[str, Any]) -> None:
    changed = copy.deepcopy(thr_report)
    changed["diagnostics"]["logit_lens"]["details"]["anything"] = [1, {"goes": None}]
    assert faults(changed) == []
    for section in ("identity", "task", "data", "model", "training", "seeds", "environment", "timings"):
        changed = copy.deepcopy(thr_report)
        changed[section]["surprise"] = 1
        assert faults(changed), section


def test_rendering_escapes_nothing_it_should_not_and_reads_when_narrow(
    thr_report: dict[str, Any], registry: Registry
) -> None:
    report = read(thr_report)
    changed = replace(report, model=replace(report.model, name="[red]<script>"))
    for width in (50, 80):
        text = render(changed, registry.measures(), width=width)
        assert "[red]<script>" in text
        assert max(map(len, text.splitlines())) <= width and "  \n" not in text
        assert all(name in text.split() for name in report.metrics)
        assert all(finding.id in text.split() for finding in report.findings)
    refuted = tuple(replace(f, verdict="not_replicated") for f in report.findings)
    assert "NOT replicated" in render(replace(report, findings=refuted), registry.measures(), width=80)


@pytest.mark.parametrize("width", [50, 80, 100])
def test_a_run_ends_with_what_was_found(thr_report: dict[str, Any], registry: Registry, width: int) -> None:
    report = read(thr_report)
    lines = render(report, registry.measures(), width=width, brief=True).splitlines()
    assert max(map(len, lines)) <= width and lines == [line.rstrip() for line in lines]
    tested = [finding for finding in report.findings if finding.verdict != "not_applicable"]
    shown = [line for line in lines if line.split()[-1:] and line.split()[-1] in {f.id for f in tested}]
    assert len(shown) >= len(tested) and "answers" in " ".join(lines[-len(report.findings) - 20 :])
    assert not any(f.claim[:20] in "\n".join(lines) for f in report.findings)
    reason = report.findings[0].reason
    assert reason is not None and reason not in "\n".join(lines)


def test_what_has_one_reason_is_one_line(thr_report: dict[str, Any], registry: Registry) -> None:
    report, why = read(thr_report), "there are no wrong labels"
    findings = tuple(replace(f, verdict="not_applicable", reason=why) for f in report.findings)
    findings = (*findings[:-1], replace(findings[-1], reason=f"{why}; and more"))
    diagnostics = {n: replace(d, status="not_applicable", reason=why) for n, d in report.diagnostics.items()}
    text = render(replace(report, findings=findings, diagnostics=diagnostics), registry.measures(), width=160)
    assert text.count(why) == 2 and text.count("not applicable") == 2
    assert all(finding.id in text for finding in findings) and "and more" not in text


def test_memory_that_nobody_measured_is_not_told(thr_report: dict[str, Any], registry: Registry) -> None:
    report = read(thr_report)
    assert "MiB" in render(report, registry.measures(), width=100)
    report = replace(report, timings=replace(report.timings, peak_memory_bytes=0))
    assert "MiB" not in render(report, registry.measures(), width=100)


def test_nothing_that_a_terminal_obeys_is_printed(thr_report: dict[str, Any], registry: Registry) -> None:
    report = read(thr_report)
    report = replace(report, model=replace(report.model, name="a\x1b[2Jb\u202ec\rd"))
    shown = render(report, registry.measures(), width=100)
    assert r"a\x1b[2Jb\u202ec d" in shown and shown.replace("\n", "").isprintable()


def test_different_seeds_are_told_apart(thr_report: dict[str, Any], registry: Registry) -> None:
    report = read(thr_report)
    assert "wrong labels), seed 0\n" in render(report, registry.measures(), width=120)
    mixed = replace(report, seeds=replace(report.seeds, order=4))
    assert "seeds data 0, noise 0, init 0, order 4, bootstrap 0" in render(mixed, registry.measures(), width=160)


def test_a_metric_that_nobody_declares_here_is_told_by_who_measured_it(thr_report: dict[str, Any]) -> None:
    assert "measured by logit_lens" in render(read(thr_report), {}, width=100)


def test_the_environment_names_versions() -> None:
    import torch

    found = environment(device="cpu", threads=1, dtype="float32", precision="float32")
    assert found.torch.split("+")[0] == torch.__version__.split("+")[0]
    assert (
        found.threads == 1
        and found.deterministic
        and found.cpu.endswith(f", {torch.backends.cpu.get_cpu_capability()}")
    )


@pytest.mark.parametrize("model_type", ["gpt2", "mamba2", "falcon_h1"])
def test_configurations_with_numbers_without_end_can_be_written(model_type: str) -> None:
    config = config_for(model_type, "nano", vocab_size=50, max_length=16)
    plain = plain_config(config)
    assert list(not_finite(plain)) == [] and canonical(plain)
    if hasattr(config, "time_step_limit"):
        assert plain["time_step_limit"] == [0.0, "Infinity"]


@pytest.mark.parametrize(("key", "value"), [("validation_accuracy", "x"), ("lr", "fast"), ("step", [1])])
def test_a_curve_that_is_none_is_refused_where_it_is_read(
    key: str, value: object, thr_report: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = copy.deepcopy(thr_report)
    made["diagnostics"]["learning_dynamics"]["details"]["curve"][1][key] = value
    (tmp_path / "report.json").write_text(json.dumps(made))
    with pytest.raises(UserError, match="is not a valid report: evaluation 1 of its curve"):
        load_report(tmp_path)
    for command in (["show", str(tmp_path)], ["compare", str(tmp_path), str(tmp_path)]):
        assert main(command) == 2 and "evaluation 1 of its curve" in capsys.readouterr().err
