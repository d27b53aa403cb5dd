"""What a notebook shows of a report cannot become markup of its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from rote_bench.report import inline
from tests.reports import report


def test_a_report_of_a_stranger_brings_no_markup() -> None:
    made = replace(report({"m": 0.5}, task="<script>x</script>"), warnings=("<img src=x>",))
    page = inline.html(made, {})
    assert "<script" not in page and "<img" not in page and "&lt;script&gt;" in page


def test_a_failed_run_and_a_short_one_say_so() -> None:
    assert "RuntimeError: by hand" in inline.html(report(status="failed"), {})
    assert "Cut short to 7 examples" in inline.html(report(limit=7), {})


def test_no_figures_are_none(tmp_path: Path) -> None:
    assert inline.Figures({})._repr_html_() == "<p>No figures.</p>\n"
    assert inline.Figure(tmp_path / "gone.png", "")._repr_png_() is None
