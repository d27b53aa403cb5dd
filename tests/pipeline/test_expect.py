"""What a run says it will take: told from real steps that leave no trace, before anything is trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import rote_bench
from rote_bench import machine, plugins
from rote_bench.cli import main
from rote_bench.pipeline import expect
from rote_bench.pipeline.expect import Expected, table
from rote_bench.training.candidates import Candidates
from rote_bench.training.state import SavedState, Standing, standing
from tests.models.loose import Plain
from tests.pipeline.test_runner import tiny


class Counting(Plain):
    """It counts its training steps in a buffer, and its answers grow with them."""

    steps: torch.Tensor

    def __init__(self, vocab_size: int) -> None:
        super().__init__(vocab_size)
        self.register_buffer("steps", torch.zeros(()))

    def forward(self, tokens: torch.Tensor) -> Any:
        self.steps = self.steps + float(self.training)
        return super().forward(tokens) * (1 + self.steps / 1000)


@pytest.mark.parametrize("model", ["gpt2-nano", Counting])
def test_a_run_says_what_it_will_take_and_its_numbers_do_not_know(
    model: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = tiny(tmp_path, "diagnostics: [learning_dynamics, logit_lens]\n")
    told = rote_bench.run(task, model=model, output_path=tmp_path / "told")
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("expected:")]
    assert len(said) == 1 and "training" in said[0] and "GiB" in said[0]
    untold = rote_bench.run(task, model=model, output_path=tmp_path / "untold", quiet=True)
    assert "expected" not in capsys.readouterr().err

    def made(report: rote_bench.Report) -> dict[str, Any]:
        files = {a.path: a.sha256 for a in report.record.artifacts if a.path.endswith((".safetensors", ".parquet"))}
        lines = (report.folder / "dynamics.jsonl").read_text().splitlines()
        curve = [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]
        return {"files": files, "curve": curve, "metrics": report.data["metrics"]}

    assert made(told) == made(untold)
    assert any(path.endswith(".safetensors") for path in made(told)["files"])


def test_a_dry_run_says_it_for_every_cell_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task, out = tiny(tmp_path), tmp_path / "runs"
    command = ["run", str(task), "--model", "gpt2-nano", "-o", str(out), "--dry-run"]
    assert main([*command, "--twin", "--seed", "0", "--seed", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    cells = [f"{out}/tiny/gpt2-nano/noise-{rate}/seed-{seed}" for rate in ("0", "0.1") for seed in (0, 1)]
    *each, last = lines
    assert each[::2] == cells and last.startswith("all: about")
    assert all(line.startswith("  about") for line in each[1::2])
    assert not out.exists()
    assert main([*command[:-1], "--quiet"]) == 0
    before = sorted(out.rglob("*"))
    assert main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == [{"folder": cells[2], "expected": None}]
    assert main([*command, "--json", "--overwrite"]) == 0
    (again,) = json.loads(capsys.readouterr().out)
    assert again["expected"]["seconds"] > again["expected"]["training"] > 0
    assert again["expected"]["memory_bytes"] > 1 << 26
    assert sorted(out.rglob("*")) == before
    assert main([*command, "--set", "training.max_steps=13"]) == 2
    assert "training.max_steps" in capsys.readouterr().err
    assert main([*command[:-1], "--dry-run", "--noise-rate", "1.5"]) == 2


def test_a_sweeps_dry_run_times_each_kind_of_cell_once_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny(tmp_path)
    sweep = tmp_path / "sweep.yaml"
    sweep.write_text("name: s\ntasks: [tiny.yaml]\nmodels: [gpt2-nano]\nnoise_rates: [0, 0.1, 0.2]\nseeds: [0, 1]\n")
    monkeypatch.setattr(machine, "count_cores", lambda: 1)
    steps = iter([1.0, 2.0])  # seconds of a step of one kind, and of the other: none is timed twice
    monkeypatch.setattr(expect, "_step", lambda *args, **kwargs: next(steps))
    assert main(["sweep", str(sweep), "-o", str(tmp_path / "runs"), "--workers", "2", "--dry-run", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert not (tmp_path / "runs").exists()
    seconds = {each["folder"]: each["expected"]["seconds"] for each in told["cells"]}
    assert len(seconds) == 6 and len(set(seconds.values())) == 2
    assert told["seconds"] == pytest.approx(sum(seconds.values()) / 2, abs=0.01)
    assert main(["sweep", str(sweep), "--executor", "ray", "--dry-run"]) == 2


def test_a_sweeps_dry_run_knows_finished_cells_of_models_that_must_be_made_to_be_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny(tmp_path)
    file = tmp_path / "mine.py"
    file.write_text(
        "from rote_bench import hookimpl\nfrom rote_bench.models.objects import FromPython\n"
        "from tests.models.loose import Plain\n\n\n"
        "@hookimpl\ndef register_models(register):\n    register(FromPython('mine', lambda vocab_size: Plain(60)))\n"
    )
    sweep = tmp_path / "sweep.yaml"
    sweep.write_text("name: s\ntasks: [tiny.yaml]\nmodels: [mine]\nnoise_rates: [0, 0.1]\nseeds: [0]\n")
    common = ["sweep", str(sweep), "-o", str(tmp_path / "runs"), "--plugin", str(file)]
    assert main([*common, "--workers", "1", "--quiet"]) == 0
    capsys.readouterr()

    def left(*more: str) -> int:
        assert main([*common, "--dry-run", "--json", *more]) == 0
        return sum(each["expected"] is not None for each in json.loads(capsys.readouterr().out)["cells"])

    assert (left(), left("--overwrite")) == (0, 2)


def test_evaluations_steps_and_diagnoses_add_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expect, "_step", lambda *args, **kwargs: 2.0)
    monkeypatch.setattr(expect, "_forward", lambda subject: 0.5)
    monkeypatch.setattr(expect, "DRAWING", 0.0)
    task = tiny(tmp_path, "diagnostics: [learning_dynamics, logit_lens, ablation: {examples: 3}]\n")
    (found,) = rote_bench.expect_cells(task, model="gpt2-nano", output_path=tmp_path / "runs").values()
    assert found is not None
    # steps 1, 2, 3, 4, 8 and 12; 20 held-out and 6 noisy questions, each with two answers of two tokens, 54 and 10
    each = (2 * (20 + 6) + 54 + 10) * 0.5
    assert found.training == 12 * 2.0 + 6 * each
    lens, ablated = (plugins.built_in().table("diagnostics")[name].passes for name in ("logit_lens", "ablation"))
    assert found.diagnoses == pytest.approx((6 * sum(lens) + 3 * sum(ablated)) * 0.5)
    assert found.rest == (20 + 6 + 54) * 2 * 0.5
    assert found.at_most
    fixed = {"training.schedule.settle": 5}
    (found,) = rote_bench.expect_cells(task, model="gpt2-nano", overrides=fixed, output_path=tmp_path).values()
    assert found is not None and found.training == 9 * 2.0 + 6 * each and not found.at_most


def test_every_diagnostic_built_in_says_what_it_costs() -> None:
    for cls in plugins.built_in().table("diagnostics").values():
        assert "passes" in vars(cls), cls.name


def test_training_is_expected_to_go_on_where_its_state_was_left(tmp_path: Path) -> None:
    model = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    file = tmp_path / "training-state.pt"
    assert standing(file, "this") == (0, [])
    SavedState(file, "this", 0.0).write(model, optimizer, Standing(step=7, candidates=Candidates(file, "this")))
    assert standing(file, "this") == (7, [])
    assert standing(file, "another") == (0, [])


def test_it_is_said_in_words() -> None:
    first = Expected(training=100, at_most=True, diagnoses=40, rest=5, memory=2**30)
    later = Expected(training=50, at_most=False, diagnoses=0, rest=5, memory=2**29, resumed=300)
    assert str(first) == "about 2:25 (training 1:40 at most, diagnoses 0:40), 1.0 GiB of memory"
    assert str(later) == "about 0:55 (training from step 300 on 0:50, diagnoses 0:00), 0.5 GiB of memory"
    assert table({Path("a"): first, Path("b"): None, Path("c"): later}).splitlines() == [
        *("a", f"  {first}"),
        *("b", "  done already"),
        *("c", f"  {later}"),
        "all: about 3:20, 1.0 GiB of memory",
    ]
