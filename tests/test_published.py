"""The published leaderboard is what its reports give."""

from __future__ import annotations

from pathlib import Path

import pytest

from rote_bench.cli import main
from rote_bench.leaderboard.build import FILES

FOLDER = Path(__file__).parent.parent / "leaderboards"


@pytest.mark.skipif(not (FOLDER / "reports").is_dir(), reason="no reports stand beside the package")
def test_the_published_files_are_built_again_byte_for_byte(tmp_path: Path) -> None:
    assert main(["leaderboard", "build", str(FOLDER / "reports"), "-o", str(tmp_path), "--quiet"]) == 0
    for name in FILES:
        assert (tmp_path / name).read_bytes() == (FOLDER / name).read_bytes(), f"{name} is old: run `make leaderboard`"


@pytest.mark.skipif(not (FOLDER / "reports").is_dir(), reason="no reports stand beside the package")
def test_the_sweep_behind_it_is_valid() -> None:
    assert main(["validate", str(FOLDER / "sweep.yaml")]) == 0
