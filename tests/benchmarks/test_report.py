"""The page of benchmarks says what they found, and each of them can be run alone."""

from __future__ import annotations

import importlib
import json
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest

from benchmarks import report, timing
from benchmarks.report import Benchmark, page

SCRIPTS = sorted(p.stem for p in report.FOLDER.glob("*.py") if "def main(" in p.read_text())


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_script_explains_itself(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(report.FOLDER)  # some are run by their path
    module = importlib.import_module(f"benchmarks.{name}")
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit) as ended:
        module.main()
    said = capsys.readouterr().out
    assert ended.value.code == 0 and (module.__doc__ or "?").splitlines()[0] in said


def test_all_that_the_page_asks_is_there_or_will_be_named() -> None:
    names = [benchmark.name for benchmark in report.here()]
    assert names[0] == "peak" and set(names) <= set(SCRIPTS) and len(names) >= 7


def result(folder: Path, name: str, machine: str | None = None) -> dict[str, Any]:
    """What a benchmark writes, as the page reads it."""
    seconds = {"ours": [1.0, 2.0, 4.0], "theirs": [2.0, 3.0, 16.0]}
    options = Namespace(json=folder / f"{name}.json")
    timing.finish(options, timing.comparison(f"{name} compared", seconds, "ours", f"Note of {name}."))
    found: dict[str, Any] = json.loads(options.json.read_text())
    assert found["tables"][0]["seconds"] == seconds
    return {**found, "machine": machine or found["machine"]}


def test_the_page_holds_every_table_its_command_and_what_was_measured_elsewhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = (Benchmark("one", "First?"), Benchmark("two", "Second?"), Benchmark("three", "Third?", gpu=True))
    found = {"one": result(tmp_path, "one"), "two": result(tmp_path, "two", "a large card"), "three": None}
    printed = capsys.readouterr().out
    text = page(found, asked, timing.machine(), timing.versions())
    parts = {part.splitlines()[0]: part for part in text.split("\n## ")}
    assert list(parts)[1:] == ["First?", "Second?", "Third?"]
    row = "| theirs    | 3000             | 1.50 / 2.00 / 4.00"
    assert row in parts["First?"] and row in printed and "Note of one." in parts["First?"]
    assert "`python -m benchmarks.one`\n" in parts["First?"]
    assert ", on a large card; Python" in parts["Second?"] and "a large card" not in parts["First?"]
    assert "`python -m benchmarks.three`" in parts["Third?"] and "It needs a GPU" in parts["Third?"]
    assert timing.machine() in parts["# Benchmarks"] and "torch 2." in parts["# Benchmarks"]


def test_what_a_script_only_prints_is_kept_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "benchmarks"
    folder.mkdir()
    (folder / "says.py").write_text("import sys\nprint('8 of 9 stack', sys.argv[1:])\n")
    monkeypatch.setattr(report, "FOLDER", folder)
    asked = Benchmark("says", "How many?", "--fast", prints=True)
    assert [report.measure(asked, tmp_path, quick) for quick in (True, False)] == [True, True]
    kept = json.loads((tmp_path / "says.json").read_text())
    text = page({"says": kept}, (asked,), kept["machine"], kept["versions"])
    assert text.endswith("## How many?\n\n`python benchmarks/says.py`\n\n```text\n8 of 9 stack []\n```\n")
    (folder / "says.py").write_text("raise SystemExit(3)\n")
    assert not report.measure(asked, tmp_path, quick=False)


def test_variants_take_turns_and_those_that_measure_themselves_are_believed() -> None:
    called: list[str] = []
    clock = iter(range(100))

    def alone() -> float:
        called.append("alone")
        return 0.25

    variants = {"timed": lambda: called.append("timed"), "alone": alone}
    seconds = timing.take_turns(variants, 2, warmup=1, repeats=2, clock=lambda: float(next(clock)))
    assert called == ["timed", "timed", "alone", "alone"] * 3
    assert seconds == {"timed": [0.5, 0.5], "alone": [0.25, 0.25]}
