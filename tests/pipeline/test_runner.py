"""Real small runs through the command line: reports, artifacts, resuming, and diagnostics on what was trained."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import rote_bench
from rote_bench.cli import main
from rote_bench.encoding import encode
from rote_bench.errors import UserError
from rote_bench.evaluation import matches
from rote_bench.hashing import sha256
from rote_bench.interventions import Site, capture, replace, run
from rote_bench.models.anatomy import Anatomy
from rote_bench.report.write import faults
from rote_bench.tasks.example import Example
from rote_bench.training import trial
from tests.conftest import SMALL_THR, run_cell

TINY = """
name: tiny
generator: addition
parameters: {digits: 1}
splits: {train: 60, selection: 10, validation: 20}
noise: {rates: [0.1]}
model: {layers: 1, width: 16, heads: 2}
training: {batch_size: 32, max_steps: 12, evaluate_every: 4, precision: float32, schedule: {warmup: 2, anneal: 4}}
"""


CURVES = "diagnostics: [learning_dynamics, logit_lens]\n"  # for tests that look at no other diagnostic


def tiny(folder: Path, extra: str = CURVES) -> Path:
    path = folder / "tiny.yaml"
    path.write_text(TINY + extra)
    return path


def numbers(report: dict[str, Any]) -> dict[str, Any]:
    return {"metrics": report["metrics"], "findings": report["findings"], "identity": report["identity"]}


@pytest.mark.parametrize("which", ["thr_report", "fda_report"])
def test_a_run_learns_memorises_and_says_so(which: str, request: pytest.FixtureRequest) -> None:
    report = request.getfixturevalue(which)
    assert faults(report) == [] and report["status"] == "success"
    metrics = {name: m["value"] for name, m in report["metrics"].items()}
    assert metrics["validation_accuracy"] > 0.85
    assert metrics["counterfactual_memorization"] > 0.9
    assert {n: d["reason"] for n, d in report["diagnostics"].items() if d["status"] != "success"} == {}
    for name, m in report["metrics"].items():
        assert m["value"] is None or m["ci_low"] is None or m["ci_low"] <= m["value"] <= m["ci_high"], name
    assert {f["id"] for f in report["findings"]} >= {"generalize_then_memorize", "clean_label_first", "both_computed"}


def test_addition_generalises_first_and_patching_mlps_undoes_memorization(fda_report: dict[str, Any]) -> None:
    verdicts = {f["id"]: f["verdict"] for f in fda_report["findings"]}
    assert verdicts["generalize_then_memorize"] == verdicts["clean_label_first"] == "replicated"
    assert fda_report["metrics"]["patch_dissociation"]["ci_low"] > 0.3
    metrics = {name: m["value"] for name, m in fda_report["metrics"].items()}
    assert metrics["patched_mlp_memorization_rate"] < 0.2 < 0.7 < metrics["patched_mlp_validation_accuracy"]


@pytest.mark.parametrize("which", ["thr_report", "fda_report"])
def test_controls_of_the_diagnostics_hold(which: str, request: pytest.FixtureRequest) -> None:
    diagnostics = request.getfixturevalue(which)["diagnostics"]
    controls = diagnostics["activation_patching"]["details"]["controls"]
    assert controls["self_patch_changed"] == 0.0
    assert controls["last_block_agreement"] > 0.95
    assert diagnostics["logit_lens"]["details"]["self_check"]["max_abs_error"] < 1e-4


@pytest.fixture(scope="module")
def pair(thr_cell: Path) -> tuple[Anatomy, Anatomy, Any]:
    """Both snapshots of a trained run, loaded as anybody would load them, and encoded held-out questions."""
    folders = [thr_cell / "checkpoints" / name for name in ("pre_memorization", "post_memorization")]
    before, after = (AutoModelForCausalLM.from_pretrained(f, attn_implementation="eager").eval() for f in folders)
    tokenizer = AutoTokenizer.from_pretrained(folders[1])
    samples = pyarrow.parquet.read_table(thr_cell / "samples.parquet").to_pylist()
    held = [s for s in samples if s["split"] == "validation"]
    encoded = encode(tokenizer, [Example(s["prompt"], s["answer"]) for s in held], named=False)
    anatomy = Anatomy.of(after)
    return anatomy.on(before), anatomy, encoded


def test_saved_snapshots_give_the_reported_numbers(pair: Any, thr_report: dict[str, Any]) -> None:
    _, after, encoded = pair
    (hits,) = matches(after.model, [encoded])
    assert float(hits.double().mean()) == thr_report["metrics"]["validation_accuracy"]["value"]


def test_on_a_trained_model_the_lens_ends_at_the_logits(pair: Any) -> None:
    for anatomy in pair[:2]:
        with torch.no_grad():
            logits, states = capture(anatomy, pair[2].input_ids, [Site(1, "block")])
            assert torch.allclose(anatomy.lens(states[Site(1, "block")]), logits, atol=1e-4)


def test_on_a_trained_model_patching_everything_from_the_donor_gives_the_donor(pair: Any) -> None:
    donor, recipient, encoded = pair
    ids = encoded.input_ids
    sites = [Site(layer, part) for layer in range(2) for part in ("block", "mixer", "mlp")]
    with torch.no_grad():
        donor_logits, states = capture(donor, ids, sites)
        own_logits, own = capture(recipient, ids, sites)
        assert torch.equal(run(recipient, ids, {s: replace(own[s]) for s in sites}), own_logits)
        hidden = recipient.lens(states[Site(1, "block")])
        patched = run(recipient, ids, {s: replace(states[s]) for s in sites})
        assert torch.allclose(patched, hidden, atol=1e-4)
        back = run(donor, ids, {s: replace(states[s]) for s in sites})
        assert torch.equal(back, donor_logits)
    assert not torch.allclose(donor_logits, own_logits, atol=0.1)


def test_samples_recompute_the_metrics(thr_cell: Path, thr_report: dict[str, Any]) -> None:
    table = pyarrow.parquet.read_table(thr_cell / "samples.parquet").to_pydict()
    split, answered, labelled = (np.array(table[k]) for k in ("split", "is_answer", "is_label"))
    wrong = np.array([a != b for a, b in zip(table["answer"], table["label"], strict=True)])
    memorised = labelled[split == "train_noisy"].mean()
    phantom = labelled[(split == "validation") & wrong].mean()
    metrics = thr_report["metrics"]
    assert metrics["memorization_rate"]["value"] == pytest.approx(memorised)
    assert metrics["counterfactual_memorization"]["value"] == pytest.approx(memorised - phantom)
    assert metrics["validation_accuracy"]["value"] == pytest.approx(answered[split == "validation"].mean())
    said = np.array([p == a for p, a in zip(table["prediction"], table["answer"], strict=True)])
    assert (said == answered).all()


def test_artifacts_are_listed_with_their_hashes(thr_cell: Path, thr_report: dict[str, Any]) -> None:
    listed = {a["path"]: a for a in thr_report["artifacts"]}
    assert {"samples.parquet", "dynamics.jsonl", "figures/logit_lens.png"} <= set(listed)
    for path, entry in listed.items():
        assert sha256(thr_cell / path) == entry["sha256"]
    lines = [json.loads(line) for line in (thr_cell / "dynamics.jsonl").read_text().splitlines()]
    assert lines == thr_report["diagnostics"]["learning_dynamics"]["details"]["curve"]


def test_the_same_seeds_give_the_same_numbers_and_other_seeds_others(tmp_path: Path) -> None:
    task = tiny(tmp_path, "")  # every diagnostic
    first = rote_bench.run(task, model="gpt2-nano", output_path=tmp_path / "a", quiet=True)
    again = rote_bench.run(task, model="gpt2-nano", output_path=tmp_path / "b", quiet=True)
    task = tiny(tmp_path)
    other = rote_bench.run(task, model="gpt2-nano", seed=1, output_path=tmp_path / "b", quiet=True)
    assert numbers(first.data) == numbers(again.data)
    assert {name: first.metrics[name] for name in other.metrics} != other.metrics
    assert first.data["data"]["fingerprint"] != other.data["data"]["fingerprint"]


def test_a_compiled_run_is_the_same_cell_and_says_how_it_was_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    monkeypatch.setattr(trial, "SLOWER", math.inf)  # this backend makes nothing faster
    reports = [
        rote_bench.run(
            tiny(tmp_path), model="gpt2-nano", output_path=tmp_path / str(compile), compile=compile, quiet=True
        )
        for compile in (False, True)
    ]
    plain, made = [report.data for report in reports]
    assert faults(made) == [] and plain["identity"] == made["identity"]
    assert [plain["environment"]["compiled"], made["environment"]["compiled"]] == [False, True]
    losses = [
        [json.loads(line)["loss"] for line in (report.folder / "dynamics.jsonl").read_text().splitlines()]
        for report in reports
    ]
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


def test_what_compiling_makes_slower_is_refused_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch, "compile", lambda model, **_: model)
    monkeypatch.setattr(trial, "SLOWER", 0.0)
    assert main(["run", str(tiny(tmp_path)), "--model", "gpt2-nano", "--compile", "-o", str(tmp_path / "runs")]) == 2
    said = capsys.readouterr().err
    assert re.search(r"--compile: compiled steps take \d+\.\d\d times as long as plain ones here", said)
    assert "leave it out" in said
    assert not list((tmp_path / "runs").rglob("dynamics.jsonl"))


def test_a_finished_cell_is_skipped_and_another_recipe_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["run", str(tiny(tmp_path)), "--model", "gpt2-nano", "-o", str(tmp_path / "runs")]
    assert main(arguments) == 0
    (report,) = (tmp_path / "runs").rglob("report.json")
    before = report.stat().st_mtime_ns
    capsys.readouterr()
    assert main(arguments) == 0
    assert "already done" in capsys.readouterr().err
    assert report.stat().st_mtime_ns == before
    assert main([*arguments, "--set", "training.batch_size=16"]) == 2
    assert "differs in training.batch_size" in capsys.readouterr().err
    assert main([*arguments, "--set", "training.batch_size=16", "--overwrite"]) == 0
    assert report.stat().st_mtime_ns > before


def test_noise_rates_and_seeds_make_cells(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "runs"
    arguments = [
        "--noise_rate",
        "0",
        "--noise-rate=0.2",
        "--seed",
        "3",
        "--seed",
        "4",
        "--output_path",
        str(out),
        "--quiet",
    ]
    assert main(["run", str(tiny(tmp_path)), "--model", "gpt2-nano", *arguments]) == 0
    found = {p.parent.relative_to(out).as_posix() for p in out.rglob("report.json")}
    assert found == {f"tiny/gpt2-nano/noise-{r}/seed-{s}" for r in ("0", "0.2") for s in (3, 4)}
    capsys.readouterr()
    assert main(["show", str(out)]) == 0
    table = capsys.readouterr().out
    assert table.count("gpt2-nano") == 3 and "held-out accuracy" in table
    assert "benign" in table and "wrong labels; 50 are needed" in table
    clean = rote_bench.load_report(out / "tiny/gpt2-nano/noise-0/seed-3")
    assert clean.value("memorization_rate") is None
    assert "no noisy labels" in str(clean.metrics["memorization_rate"].reason_if_null)
    assert clean.data["diagnostics"]["logit_lens"]["status"] == "not_applicable"
    assert clean.findings["generalize_then_memorize"] == "not_applicable"


def test_a_crashing_diagnostic_leaves_the_rest_intact(tmp_path: Path) -> None:
    plugin = tmp_path / "crash.py"
    plugin.write_text(
        "from rote_bench import hookimpl\nfrom rote_bench.diagnostics import Diagnostic\n"
        "class Crash(Diagnostic):\n    name = 'crash'\n"
        "    def run(self, subject):\n        raise RuntimeError('boom')\n"
        "@hookimpl\ndef register_diagnostics(register):\n    register(Crash)\n"
    )
    task = tiny(tmp_path, "diagnostics: [crash, learning_dynamics]\n")
    report = rote_bench.run(task, model="gpt2-nano", output_path=tmp_path / "runs", plugins=[plugin], quiet=True)
    assert report.status == "success"
    crashed = report.data["diagnostics"]["crash"]
    assert (crashed["status"], crashed["reason"]) == ("failed", "RuntimeError: boom (crash.py:6)")
    assert report.data["diagnostics"]["learning_dynamics"]["status"] == "success"
    assert any("crash" in w for w in report.data["warnings"])


def test_a_run_that_fails_leaves_a_report_that_says_why(tmp_path: Path) -> None:
    task = tiny(tmp_path, "diagnostics: [learning_dynamics]\n")
    arguments = ["run", str(task), "--model", "gpt2-nano", "-o", str(tmp_path / "runs"), "--quiet"]
    assert main([*arguments, "--set", "training.learning_rate=1e30", "--set", "training.adam_learning_rate=1e30"]) == 1
    (path,) = (tmp_path / "runs").rglob("report.json")
    report = json.loads(path.read_text())
    assert report["status"] == "failed" and "not finite" in report["error"] and faults(report) == []
    assert main(arguments) == 0


SHORT = SMALL_THR.replace("max_steps: 500", "max_steps: 160").replace("anneal: 200", "anneal: 50")
SHORT = SHORT[: SHORT.index("diagnostics:")] + "diagnostics: [learning_dynamics, logit_lens, position_importance]\n"


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The report of a run that nothing interrupts."""
    report: dict[str, Any] = json.loads((run_cell(tmp_path_factory.mktemp("whole"), SHORT) / "report.json").read_text())
    return report


def weights(report: dict[str, Any]) -> dict[str, str]:
    """File -> hash of each snapshot's weights."""
    found = {a["path"]: a["sha256"] for a in report["artifacts"] if a["path"].endswith(".safetensors")}
    assert len(found) == len(report["training"]["snapshots"]) > 0
    return found


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_run_goes_on_and_ends_the_same(
    tmp_path: Path, how: signal.Signals, undisturbed: dict[str, Any]
) -> None:
    task = tmp_path / "task.yaml"
    task.write_text(SHORT)
    out = tmp_path / "broken"
    command = [sys.executable, "-m", "rote_bench", "run", str(task), "--model", "gpt2-nano", "-o", str(out)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env={**os.environ})
    dynamics = out / "small_thr/gpt2-nano/noise-0.05/seed-0/dynamics.jsonl"
    while process.poll() is None and not (dynamics.is_file() and dynamics.read_text().count("\n") >= 9):
        time.sleep(0.02)
    assert process.poll() is None, "the run ended before it could be interrupted"
    process.send_signal(how)
    assert process.wait() == (130 if how == signal.SIGINT else -signal.SIGKILL)
    if how == signal.SIGINT:
        left = rote_bench.load_report(dynamics.parent)
        assert (left.status, left.record.error) == ("interrupted", "the same command goes on from here")
    else:
        assert not (dynamics.parent / "report.json").exists()
    assert main([*command[3:], "--quiet"]) == 0
    broken = json.loads((dynamics.parent / "report.json").read_text())
    assert numbers(broken) == numbers(undisturbed) and weights(broken) == weights(undisturbed)
    seconds = broken["timings"]
    assert sum(seconds[stage] for stage in ("data", "training", "evaluation", "diagnostics")) < seconds["total"]
    assert not (dynamics.parent / "training-state.pt").exists()


def test_figures_are_drawn_again_from_the_report_alone(
    thr_cell: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "report.json"
    copy.write_text((thr_cell / "report.json").read_text())
    assert main(["plot", str(tmp_path)]) == 0
    drawn = capsys.readouterr().out.split()
    report = json.loads(copy.read_text())
    assert {Path(p).stem for p in drawn} == {n for n, d in report["diagnostics"].items() if d["status"] == "success"}
    assert all(Path(p).read_bytes().startswith(b"\x89PNG") for p in drawn)


def test_no_train_diagnoses_given_snapshots(thr_cell: Path, tmp_path: Path) -> None:
    task = tmp_path / "task.yaml"
    kept = "diagnostics: [learning_dynamics, logit_lens, {activation_patching: {examples: 128}}]\n"
    task.write_text(SMALL_THR[: SMALL_THR.index("diagnostics:")] + kept)
    folder = thr_cell / "checkpoints"
    report = rote_bench.run(
        task,
        model=f"hf:{folder / 'post_memorization'}",
        train=False,
        snapshots={"pre": str(folder / "pre_memorization")},
        output_path=tmp_path / "runs",
        compile=True,
        quiet=True,
    )
    assert report.data["environment"]["compiled"] is False
    original = rote_bench.load_report(thr_cell)
    assert report.data["training"]["stop_reason"] == "not_trained"
    for name in ("validation_accuracy", "counterfactual_memorization", "patch_dissociation", "override_depth"):
        assert report.value(name) == pytest.approx(original.value(name), abs=0.02), name
    assert report.data["diagnostics"]["learning_dynamics"]["status"] == "not_applicable"


def test_a_snapshot_of_another_model_is_refused(thr_cell: Path, tmp_path: Path) -> None:
    task = tmp_path / "task.yaml"
    task.write_text(SMALL_THR)
    post = thr_cell / "checkpoints" / "post_memorization"
    other = AutoModelForCausalLM.from_pretrained(post, n_layer=1, ignore_mismatched_sizes=True)
    other.save_pretrained(tmp_path / "other")
    for folder, says in ((tmp_path / "other", "is no snapshot of hf:"), (tmp_path / "nowhere", "no folder")):
        with pytest.raises(UserError, match=f"--snapshot: .*{says}"):
            rote_bench.run(
                task,
                model=f"hf:{post}",
                train=False,
                snapshots={"pre": str(folder)},
                output_path=tmp_path / "runs",
                quiet=True,
            )


def test_running_again_leaves_nothing_of_the_run_before_in_the_report(tmp_path: Path) -> None:
    task, out = tiny(tmp_path, "diagnostics: [learning_dynamics, logit_lens]\n"), tmp_path / "runs"
    first = rote_bench.run(task, model="gpt2-nano", output_path=out, quiet=True)
    (first.folder / "notes.txt").write_text("mine")
    tiny(tmp_path, "diagnostics: [learning_dynamics]\n")
    second = rote_bench.run(task, model="gpt2-nano", output_path=out, overwrite=True, quiet=True)
    listed = {artifact.path for artifact in second.record.artifacts}
    gone = {artifact.path for artifact in first.record.artifacts} - listed
    assert gone == {"figures/logit_lens.png", "logit_lens.parquet"}
    assert not any((first.folder / path).exists() for path in gone)
    assert "notes.txt" not in listed and (first.folder / "notes.txt").read_text() == "mine"
    here = {p.relative_to(out).as_posix() for p in first.folder.rglob("*") if p.is_file()}
    assert {Path(p).name for p in here} == {Path(p).name for p in listed} | {"notes.txt", "report.json"}


def test_lists_of_rates_and_seeds_give_a_list_of_reports(tmp_path: Path) -> None:
    options = {"training.max_steps": 8, "diagnostics": ["learning_dynamics"]}
    before = time.process_time()
    reports = rote_bench.run(
        tiny(tmp_path),
        model="gpt2-nano",
        noise_rate=[0.0, 0.2],
        seed=[1],
        overrides=options,
        output_path=tmp_path / "runs",
        quiet=True,
    )
    assert isinstance(reports, list)
    assert sum(r.record.timings.cpu_seconds for r in reports) <= time.process_time() - before
    assert [r.record.data.noise_rate for r in reports] == [0.0, 0.2]
    assert all(r.record.training.steps == 8 and list(r.record.diagnostics) == ["learning_dynamics"] for r in reports)
    texts = rote_bench.run(
        tiny(tmp_path),
        model="gpt2-nano",
        noise_rate=0.2,
        seed=1,
        twin=True,
        output_path=tmp_path / "texts",
        quiet=True,
        overrides=["training.max_steps=8", "diagnostics=[learning_dynamics]"],
    )
    assert texts.record.identity == reports[1].record.identity


def test_how_training_went_stands_in_the_report(thr_cell: Path) -> None:
    report = rote_bench.load_report(thr_cell).record
    curve = [json.loads(line) for line in (thr_cell / "dynamics.jsonl").read_text().splitlines()]
    settled = next((point["step"] for point in curve if point["selection_accuracy"] >= 0.95), None)
    training = report.training
    assert training.settled_step == settled
    assert training.schedule.settle == "event" and training.schedule.twin is None and training.way == "alone"
    full = [point["step"] for point in curve if point["memorization_rate"] >= 0.98]
    assert training.steps_after_98 == (training.steps - full[0] if full else None)
    assert report.timings.cpu_seconds > 0.5 * report.timings.training
    assert report.environment.batch_size == 512
