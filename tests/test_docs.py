"""Documentation keeps up with the code."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from rote_bench import plugins
from rote_bench.cli import parser
from rote_bench.report.view import MEANINGS

ROOT = Path(__file__).parent.parent
DIAGNOSTICS = sorted(plugins.built_in().table("diagnostics"))


@pytest.mark.parametrize("name", DIAGNOSTICS)
def test_every_diagnostic_has_a_page(name: str) -> None:
    text = (ROOT / "docs" / "diagnostics" / f"{name}.md").read_text()
    for heading in ("Metrics", "What it cannot show", "Controls", "Cost", "Sources"):
        assert f"\n## {heading}\n" in text
    assert f"({name}.md)" in (ROOT / "docs" / "diagnostics" / "README.md").read_text()


def test_every_reported_metric_has_a_meaning(thr_report: dict, fda_report: dict) -> None:
    assert set(thr_report["metrics"]) | set(fda_report["metrics"]) <= set(MEANINGS)


def test_the_readme_shows_only_verbs_that_exist() -> None:
    verbs = set(parser().get_default("subparsers").choices)
    lines = [line for line in (ROOT / "README.md").read_text().splitlines() if line.startswith("rote-bench ")]
    assert len(lines) > 8
    assert {line.split()[1] for line in lines} <= verbs


def test_files_that_documents_name_are_there() -> None:
    import re

    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} names {target}"


def generated() -> dict[str, str]:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return {name: make().rstrip() + "\n" for name, make in module.PAGES.items()}


def test_pages_made_from_the_code_are_up_to_date() -> None:
    for name, text in generated().items():
        assert (ROOT / "docs" / name).read_text() == text, f"docs/{name} is old: run `make docs`"
