"""A finished cell diagnosed again gives, to the last digit, what one run with all diagnostics gives."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import rote_bench
from rote_bench.cli import main
from rote_bench.errors import UserError
from rote_bench.hashing import sha256
from rote_bench.pipeline import again, diagnose
from rote_bench.report.build import own_files

from ..releases import OLD_TRANSFORMERS

TASK = """
name: pair
generator: two_hop
parameters: {form: symbols, entities: 10, bridges: 4, answers: 6, relations: 8}
splits: {train: 0.8, selection: 0.08, validation: 0.12}
noise: {rates: [0.1]}
model: {layers: 2, width: 32, heads: 2, activation: relu}
diagnostics: [learning_dynamics]
training:
  batch_size: 128
  max_steps: 200
  evaluate_every: 10
  precision: float32
  learning_rate: 0.02
  adam_learning_rate: 0.006
  schedule: {warmup: 5, anneal: 60, hold_until: 0.9}
"""
MORE = (
    "[learning_dynamics, logit_lens, {activation_patching: {examples: 32}}, probe, {neurons: {examples: 60, top: 5}}]"
)
WIDER = ("--set", f"diagnostics={MORE}")


@pytest.fixture
def task(tmp_path: Path) -> Path:
    path = tmp_path / "pair.yaml"
    path.write_text(TASK)
    return path


def run(task: Path, output: Path, *more: str, model: str = "gpt2-nano") -> int:
    return main(["run", str(task), "--model", model, "-o", str(output), "--quiet", *more])


def cells(output: Path) -> dict[str, Path]:
    return {p.parent.relative_to(output).as_posix(): p.parent for p in sorted(output.rglob("report.json"))}


def read(folder: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return report


def timeless(report: dict[str, Any]) -> dict[str, Any]:
    """All of a report that is the same whenever it is made."""
    kept = {key: value for key, value in report.items() if key not in ("timings", "artifacts")}
    kept["identity"] = {key: report["identity"][key] for key in ("hash", "parts", "code")}
    kept["environment"] = {k: v for k, v in report["environment"].items() if not k.startswith("git_")}
    for entry in kept["diagnostics"].values():
        for key in ("seconds", "cpu_seconds"):
            entry.pop(key)
    for point in kept["diagnostics"]["learning_dynamics"]["details"]["curve"]:
        point.pop("seconds")
    return kept


def tables(folder: Path) -> dict[str, str]:
    """Hashes of answers, records and figures; weights and their tokenizer."""
    names = {p.relative_to(folder).as_posix(): p for p in own_files(folder)}
    return {name: sha256(p) for name, p in names.items() if name != "dynamics.jsonl"}


def content(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*unused: Any, **also: Any) -> None:
        raise AssertionError("it trains")

    monkeypatch.setattr("rote_bench.training.loop.train", refuse)
    monkeypatch.setattr("rote_bench.training.stacked.train_stacked", refuse)


def same(output: Path, whole: Path) -> None:
    assert cells(output).keys() == cells(whole).keys()
    for name, folder in cells(output).items():
        mine, its = read(folder), read(whole / name)
        assert timeless(mine) == timeless(its), name
        assert tables(folder) == tables(whole / name), name
        assert {a["path"]: a["sha256"] for a in mine["artifacts"]} == {
            p.relative_to(folder).as_posix(): sha256(p) for p in own_files(folder)
        }
        assert not (folder / again.STAGING).exists()


def test_the_numbers_are_those_of_one_run_with_twin_and_seeds(
    task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    which = ("--twin", "--seed", "0", "--seed", "1")
    assert run(task, tmp_path / "whole", *which, *WIDER) == 0
    assert run(task, tmp_path / "runs", *which) == 0
    before = {name: read(folder) for name, folder in cells(tmp_path / "runs").items()}
    early = any("pre_memorization" in report["training"]["snapshots"] for report in before.values())
    assert early or OLD_TRANSFORMERS, "of the weights that newer releases draw, some learn before they memorise"
    no_training(monkeypatch)
    assert run(task, tmp_path / "runs", *which, *WIDER, "--rediagnose") == 0
    same(tmp_path / "runs", tmp_path / "whole")
    for name, folder in cells(tmp_path / "runs").items():
        report, old = read(folder), before[name]
        for kept in ("training", "evaluation"):
            assert report["timings"][kept] == old["timings"][kept]
        assert report["timings"]["total"] > old["timings"]["training"]
        assert report["identity"]["hash"] != old["identity"]["hash"]
        assert (
            report["diagnostics"]["learning_dynamics"]["details"]
            == (old["diagnostics"]["learning_dynamics"]["details"])
        )
    # the same command finds them done, and so does the one that would train
    capsys.readouterr()
    after = {name: content(folder) for name, folder in cells(tmp_path / "runs").items()}
    shown = ["run", str(task), "--model", "gpt2-nano", "-o", str(tmp_path / "runs"), *which, *WIDER]
    assert main(shown) == main([*shown, "--rediagnose"]) == 0
    assert capsys.readouterr().err.count("already done") == 8
    assert {name: content(folder) for name, folder in cells(tmp_path / "runs").items()} == after
    # and fewer diagnostics take their files with them
    assert run(task, tmp_path / "runs", *which, "--rediagnose") == 0
    folder = cells(tmp_path / "runs")["pair/gpt2-nano/noise-0.1/seed-0"]
    assert timeless(read(folder)) == timeless(before["pair/gpt2-nano/noise-0.1/seed-0"])
    assert not (folder / "probe.parquet").exists() and not (folder / "figures" / "probe.png").exists()


@pytest.mark.parametrize("model", ["gpt2-nano", "llama-nano"])
def test_cells_of_a_stack(task: Path, tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def stacked(output: Path, *more: str) -> Any:
        return rote_bench.run(
            task, model=model, output_path=output, overrides=list(more), stacked=True, quiet=True, rediagnose=again_
        )

    again_ = False
    stacked(tmp_path / "whole", f"diagnostics={MORE}")
    stacked(tmp_path / "runs")
    no_training(monkeypatch)
    assert run(task, tmp_path / "runs", *WIDER, "--rediagnose", model=model) == 0  # a command that stacks nothing
    same(tmp_path / "runs", tmp_path / "whole")
    (folder,) = cells(tmp_path / "runs").values()
    assert read(folder)["training"]["way"] == "stacked" and read(folder)["identity"]["request"] is None
    again_ = True
    stacked(tmp_path / "runs")
    assert list(read(folder)["diagnostics"]) == ["learning_dynamics"]


def test_a_sweep(task: Path, tmp_path: Path) -> None:
    sweep = tmp_path / "sweep.yaml"
    text = "name: s\ntasks: [pair.yaml]\nmodels: [gpt2-nano]\nnoise_rates: [0, 0.1]\nseeds: [0, 1]\nrun: {stack: 2}\n"
    sweep.write_text(text)
    assert main(["sweep", str(sweep), "-o", str(tmp_path / "runs"), "--quiet", "--workers", "1"]) == 0
    weights = {p: sha256(p) for p in (tmp_path / "runs").rglob("*.safetensors")}
    task.write_text(TASK.replace("[learning_dynamics]", MORE))
    assert main(["sweep", str(sweep), "-o", str(tmp_path / "runs"), "--quiet", "--workers", "1"]) == 1
    command = ["sweep", str(sweep), "-o", str(tmp_path / "runs"), "--quiet", "--workers", "1", "--rediagnose"]
    assert main(command) == 0
    assert {p: sha256(p) for p in (tmp_path / "runs").rglob("*.safetensors")} == weights
    assert main(["sweep", str(sweep), "-o", str(tmp_path / "whole"), "--quiet", "--workers", "1"]) == 0
    same(tmp_path / "runs", tmp_path / "whole")
    assert main([*command, "--dry-run"]) == 2


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the task file and a finished cell."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "pair.yaml").write_text(TASK)
    assert run(folder / "pair.yaml", folder / "runs") == 0
    return folder


@pytest.fixture
def place(trained: Path, tmp_path: Path) -> Path:
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    return tmp_path


def report_file(place: Path) -> Path:
    return place / "runs/pair/gpt2-nano/noise-0.1/seed-0/report.json"


def edit(place: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    report = json.loads(report_file(place).read_text())
    change(report)
    report_file(place).write_text(json.dumps(report))


def no_curve(place: Path) -> None:
    edit(place, lambda r: r["diagnostics"].pop("learning_dynamics"))
    (report_file(place).parent / "dynamics.jsonl").unlink()


def other_weights(place: Path) -> None:
    file = report_file(place).parent / "checkpoints/post_memorization/model.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"\0")


@pytest.mark.parametrize(
    ("spoil", "more", "says"),
    [
        (lambda p: None, ["--set", "training.max_steps=190"], "it differs in training.max_steps"),
        (lambda p: None, ["--dtype", "bfloat16"], "it differs in dtype"),
        (lambda p: edit(p, lambda r: r["identity"]["parts"]["versions"].update(noise=1)), [], "versions.noise"),
        (lambda p: edit(p, lambda r: r.update(status="failed", error="x")), [], "not finished (failed)"),
        (no_curve, [], "its curve is neither"),
        (other_weights, [], "post_memorization/model.safetensors is not the file that the report names"),
        (
            lambda p: (report_file(p).parent / "checkpoints/post_memorization/model.safetensors").unlink(),
            [],
            "post_memorization/model.safetensors is missing",
        ),
        (lambda p: edit(p, lambda r: r.update(artifacts=[])), [], "names no weights of the snapshot"),
        (lambda p: report_file(p).unlink(), [], "no finished cell to diagnose again"),
        (lambda p: None, ["--seed", "1"], "no finished cell to diagnose again"),
        (lambda p: None, ["--overwrite"], "--rediagnose"),
    ],
)
@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
def test_what_cannot_be_is_one_line_and_nothing_is_lost(
    place: Path,
    spoil: Callable[[Path], Any],
    more: list[str],
    says: str,
    dry: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    spoil(place)
    before = content(report_file(place).parent)
    capsys.readouterr()
    assert run(place / "pair.yaml", place / "runs", *WIDER, "--rediagnose", *more, *dry) == 2
    said = capsys.readouterr().err
    assert says in said and said.count("\n") == 1
    assert content(report_file(place).parent) == before


def test_what_it_will_take_is_told_without_training_and_without_a_trace(
    task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, which = tmp_path / "runs", {"noise_rates": [0, 0.1], "output_path": tmp_path / "runs"}
    assert run(task, output, "--twin") == 0
    no_training(monkeypatch)
    before = content(output)
    told = rote_bench.expect_cells(task, model="gpt2-nano", rediagnose=True, overrides=list(WIDER[1:]), **which)
    assert content(output) == before
    assert list(told) == [output / "pair/gpt2-nano/noise-0/seed-0", output / "pair/gpt2-nano/noise-0.1/seed-0"]
    assert all(each is not None and each.training == 0 for each in told.values())
    noisy = told[output / "pair/gpt2-nano/noise-0.1/seed-0"]
    assert noisy is not None and noisy.diagnoses > 0
    assert run(task, output, "--twin", *WIDER, "--rediagnose") == 0
    done = rote_bench.expect_cells(task, model="gpt2-nano", rediagnose=True, overrides=list(WIDER[1:]), **which)
    assert set(done.values()) == {None}


def test_versions_of_what_only_diagnoses_may_differ(place: Path) -> None:
    parts = read(report_file(place).parent)["identity"]["parts"]
    edit(place, lambda r: r["identity"]["parts"]["versions"].update(linear=0))
    edit(place, lambda r: r["identity"].update(hash="0" * 64, request=None))
    assert run(place / "pair.yaml", place / "runs", "--rediagnose") == 0
    assert read(report_file(place).parent)["identity"]["parts"] == parts


@pytest.mark.parametrize("curve", ["dynamics.jsonl", "report"])
def test_either_place_of_the_curve_is_enough(place: Path, curve: str) -> None:
    folder = report_file(place).parent
    was = (folder / "dynamics.jsonl").read_bytes()
    if curve == "report":
        (folder / "dynamics.jsonl").unlink()
    else:
        edit(place, lambda r: r["diagnostics"].pop("learning_dynamics"))
    assert run(place / "pair.yaml", place / "runs", *WIDER, "--rediagnose") == 0
    assert (folder / "dynamics.jsonl").read_bytes() == was


@pytest.mark.parametrize("at", ["diagnosis", "end"])
def test_an_interrupted_one_leaves_the_old_report_and_can_be_repeated(
    place: Path, at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = content(report_file(place).parent)

    def interrupt(*unused: Any, **also: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        if at == "diagnosis":
            patched.setattr(diagnose, "draw_figures", interrupt)
            patched.setattr("rote_bench.pipeline.learning.draw_figures", interrupt)
        else:
            patched.setattr("rote_bench.pipeline.again.write.save_report", interrupt)
        assert run(place / "pair.yaml", place / "runs", *WIDER, "--rediagnose") == 130
    if at == "diagnosis":
        assert content(report_file(place).parent) == before
    assert report_file(place).read_bytes() == before["report.json"]
    assert run(place / "pair.yaml", place / "runs", *WIDER, "--rediagnose") == 0
    assert run(place / "pair.yaml", place / "whole", *WIDER) == 0
    same(place / "runs", place / "whole")


def test_a_diagnostic_that_failed_is_tried_again(place: Path) -> None:
    was = read(report_file(place).parent)
    edit(place, lambda r: r["diagnostics"]["learning_dynamics"].update(status="failed", reason="memory"))
    assert run(place / "pair.yaml", place / "runs", "--rediagnose") == 0
    assert timeless(read(report_file(place).parent)) == timeless(was)


def test_an_untrained_cell_is_diagnosed_again_from_its_snapshots(place: Path) -> None:
    weights = report_file(place).parent / "checkpoints/post_memorization"
    flags = ["--no-train", "--snapshot", f"post={weights}"]
    lens = ("--set", "diagnostics=[logit_lens]")
    assert run(place / "pair.yaml", place / "untrained", *flags, "--set", "diagnostics=[neurons]") == 0
    assert run(place / "pair.yaml", place / "untrained", *flags, *lens, "--rediagnose") == 0
    assert run(place / "pair.yaml", place / "whole", *flags, *lens) == 0
    (mine,), (its,) = cells(place / "untrained").values(), cells(place / "whole").values()
    assert read(mine)["metrics"] == read(its)["metrics"] and read(mine)["identity"] == read(its)["identity"]


@pytest.mark.parametrize(
    ("model", "dtype"), [("gpt2-nano", "bfloat16"), ("llama-nano", "bfloat16"), ("mamba-nano", "float32")]
)
def test_weights_come_back_as_they_were(task: Path, tmp_path: Path, model: str, dtype: str) -> None:
    short = {"training.max_steps": 20, "training.schedule.anneal": 5, "training.precision": "bfloat16"}
    options: dict[str, Any] = {"model": model, "overrides": short, "dtype": dtype, "quiet": True}
    options |= {"output_path": tmp_path / "runs"}
    states: list[dict[str, torch.Tensor]] = []

    def keep(subject: Any) -> Any:
        states.append({k: v.clone() for k, v in subject.anatomy().model.state_dict().items()})
        for name, buffer in subject.anatomy().model.named_buffers():
            states[-1][f"buffer {name}"] = buffer.clone()
        return evaluate(subject)

    from rote_bench import measurement

    evaluate = measurement.evaluate
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(measurement, "evaluate", keep)
        rote_bench.run(task, **options)
        wider = {**short, "diagnostics": ["learning_dynamics", "logit_lens"]}
        rote_bench.run(task, **{**options, "overrides": wider}, rediagnose=True)
    first, second = states
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) and first[name].dtype == second[name].dtype for name in first)


def test_api_says_the_same(place: Path) -> None:
    with pytest.raises(UserError, match="differs in dtype"):
        rote_bench.run(
            place / "pair.yaml",
            model="gpt2-nano",
            output_path=place / "runs",
            rediagnose=True,
            dtype="bfloat16",
            quiet=True,
        )
