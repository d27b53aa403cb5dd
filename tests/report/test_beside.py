"""Files beside a report are read where they are those that it names."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import rote_bench
from rote_bench.errors import UserError
from rote_bench.report import beside


@pytest.fixture
def cell(thr_cell: Path, tmp_path: Path) -> rote_bench.Report:
    """A copy of a cell, to be changed."""
    shutil.copytree(thr_cell, tmp_path / "cell")
    return rote_bench.load_report(tmp_path / "cell")


def test_a_curve_is_read_from_the_report_where_its_file_is_another(cell: rote_bench.Report) -> None:
    whole = beside.curve(cell.record, cell.folder)
    (cell.folder / beside.DYNAMICS).write_text("{}\n")
    assert beside.curve(cell.record, cell.folder) == whole != []
    stated = json.loads((cell.folder / "report.json").read_text())
    del stated["diagnostics"]["learning_dynamics"]
    stated["metrics"] = {k: v for k, v in stated["metrics"].items() if k not in cell.record.measured_by()}
    (cell.folder / "report.json").write_text(json.dumps(stated))
    assert beside.curve(rote_bench.load_report(cell.folder).record, cell.folder) == []


def test_a_file_that_was_changed_or_removed_is_not_read(cell: rote_bench.Report) -> None:
    file = cell.folder / "neurons.parquet"
    shutil.copy(cell.folder / "logit_lens.parquet", file)
    with pytest.raises(UserError, match=r"neurons\.parquet: is not the file that the report names"):
        cell.records("neurons")
    (cell.folder / "samples.parquet").unlink()
    with pytest.raises(UserError, match=r"samples\.parquet: is missing"):
        cell.samples()
    (cell.folder / "figures" / "probe.png").write_bytes(b"")
    assert "probe" not in cell.figures
