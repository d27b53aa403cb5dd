"""Tracking: the curves reach where they are watched, and the report does not know of it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rote_bench.cli import main
from rote_bench.errors import UserError
from rote_bench.training import tracking
from rote_bench.training.curve import Evaluation

TASK = """
name: t
generator: addition
parameters: {digits: 2}
splits: {train: 200, selection: 40, validation: 40}
model: {layers: 1, width: 16, heads: 2}
training: {max_steps: 8, evaluate_every: 4, precision: float32, schedule: {warmup: 1, anneal: 4}}
diagnostics: [learning_dynamics]
"""


def run(folder: Path, *more: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "t.yaml").write_text(TASK)
    arguments = ["run", str(folder / "t.yaml"), "--model", "gpt2-nano", "--quiet", "-o", str(folder / "runs"), *more]
    assert main(arguments) == 0
    (report,) = (folder / "runs").rglob("report.json")
    return report.parent


def records(cell: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (cell / "dynamics.jsonl").read_text().splitlines()]


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(one[key] == other[key] for key in ("identity", "metrics", "findings", "training"))


def test_tensorboard_shows_the_curves_and_changes_nothing(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    tracked, plain = run(tmp_path / "a", "--track", "tensorboard"), run(tmp_path / "b")
    (file,) = (tracked / tracking.FOLDER).iterdir()
    events = EventAccumulator(str(file)).Reload()
    curve = records(tracked)
    for name in ("lr", "loss", "validation_accuracy", "train_clean_accuracy", "memorization_rate", "noisy_true_rate"):
        shown = [(e.step, e.value) for e in events.Scalars(name)]
        assert shown == [(r["step"], pytest.approx(r[name], rel=1e-6)) for r in curve]
    reports = [json.loads((cell / "report.json").read_text()) for cell in (tracked, plain)]
    assert same(*reports)
    paths = [{a["path"]: a["sha256"] for a in r["artifacts"] if a["path"].endswith("safetensors")} for r in reports]
    assert paths[0] == paths[1] != {}
    assert not any(a["path"].startswith(tracking.FOLDER) for a in reports[0]["artifacts"])


def test_a_run_that_goes_on_writes_its_curves_once(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    curve = [
        Evaluation(step=step, examples_seen=step, epoch=0.1, seconds=0, loss=1.0 / step, lr=0.5) for step in (1, 2, 3)
    ]
    for part in (curve[:2], curve):  # training hands all its records over again when it goes on
        with tracking.following("tensorboard", tmp_path / "cell", tmp_path) as follow:
            for record in part:
                follow(record)
    events = EventAccumulator(str(tmp_path / "cell" / tracking.FOLDER)).Reload()
    assert [e.step for e in events.Scalars("loss")] == [1, 2, 3]
    assert events.Tags()["scalars"] == ["loss", "lr"]


def test_trackio_holds_the_curves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    storage = pytest.importorskip("trackio.sqlite_storage").SQLiteStorage
    cell = run(tmp_path / "a", "--track", "trackio")
    assert capsys.readouterr().out == ""
    name = cell.relative_to(tmp_path / "a" / "runs").as_posix()
    shown = [(log["step"], log["loss"], log["memorization_rate"]) for log in storage.get_logs(tracking.PROJECT, name)]
    assert shown == [(r["step"], r["loss"], r["memorization_rate"]) for r in records(cell)]


@pytest.mark.filterwarnings("default")  # wandb's own
def test_wandb_gets_the_same_and_is_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("wandb")
    from wandb.proto.wandb_internal_pb2 import Record

    monkeypatch.delenv("WANDB_MODE", raising=False)
    cell = run(tmp_path / "a", "--track", "wandb")
    assert capsys.readouterr().out == ""
    (file,) = (cell / tracking.FOLDER).glob("wandb/offline-run-*/*.wandb")
    found = []
    for content in logged(file.read_bytes()):
        record = Record.FromString(content)
        if record.WhichOneof("record_type") == "history":
            items = {item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.history.item}
            found.append((items["_step"], items["loss"], items["memorization_rate"]))
    assert found == [(r["step"], r["loss"], r["memorization_rate"]) for r in records(cell)]
    report = json.loads((cell / "report.json").read_text())
    assert not any(a["path"].startswith(tracking.FOLDER) for a in report["artifacts"])


def logged(content: bytes) -> Iterator[bytes]:
    """The records of a log: blocks of 32 KiB, in them pieces with checksum, length and kind, after a short head."""
    at, whole = 7, b""
    while at + 7 <= len(content):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        length, kind = int.from_bytes(content[at + 4 : at + 6], "little"), content[at + 6]
        whole += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last piece
            yield whole
            whole = b""


def test_a_package_that_is_missing_is_named_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "trackio", None)  # an import of it fails
    (tmp_path / "t.yaml").write_text(TASK)
    arguments = ["run", str(tmp_path / "t.yaml"), "--model", "gpt2-nano", "-o", str(tmp_path / "runs")]
    assert main([*arguments, "--track", "trackio"]) == 2
    error = capsys.readouterr().err
    assert "--track: trackio cannot be imported" in error and "pip install trackio" in error
    assert error.count("\n") == 1 and not (tmp_path / "runs").exists()
    with pytest.raises(UserError, match="did you mean 'tensorboard'"):
        tracking.require("tensorbord")


def test_without_tracking_nothing_is_imported() -> None:
    before = set(sys.modules)
    with tracking.following(None, Path("cell"), Path()) as follow:
        follow(Evaluation(step=1, examples_seen=1, epoch=0, seconds=0, loss=1, lr=1))
    assert {m for m in set(sys.modules) - before if "tensorboard" in m or "trackio" in m} == set()
