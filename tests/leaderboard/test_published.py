"""The published leaderboard is what its reports give."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rote_bench.cli import main
from rote_bench.leaderboard.build import FILES
from rote_bench.plugins import Registry
from rote_bench.report.record import SCHEMA_VERSION
from rote_bench.sweep.cells import plan
from rote_bench.sweep.definition import load

FOLDER = Path(__file__).parents[2] / "leaderboards"
FIRST = next((FOLDER / "reports").rglob("report.json"), None)
published = pytest.mark.skipif(
    FIRST is None or json.loads(FIRST.read_text(encoding="utf-8"))["schema_version"] != SCHEMA_VERSION,
    reason="no reports of this schema version stand beside the package",
)


@published
def test_the_published_files_are_built_again_byte_for_byte(tmp_path: Path) -> None:
    assert main(["leaderboard", "build", str(FOLDER / "reports"), "-o", str(tmp_path), "--quiet"]) == 0
    for name in FILES:
        assert (tmp_path / name).read_bytes() == (FOLDER / name).read_bytes(), f"{name} is old: run `make leaderboard`"


@published
def test_every_report_is_a_cell_of_the_sweep_and_the_page_says_how_many(registry: Registry) -> None:
    wanted = {job.folder for job in plan(load(FOLDER / "sweep.yaml"), registry, output=FOLDER / "reports")}
    there = {path.parent for path in (FOLDER / "reports").rglob("report.json")}
    assert there <= wanted
    assert f"{len(there)} of its {len(wanted)} cells" in (FOLDER / "README.md").read_text()
