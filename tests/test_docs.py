"""Documentation keeps up with the code."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

import rote_bench
from rote_bench import plugins
from rote_bench.cli import parser
from rote_bench.testing import check_diagnostic, check_task

ROOT = Path(__file__).parent.parent
DIAGNOSTICS = sorted(plugins.built_in().table("diagnostics"))


@pytest.mark.parametrize("name", DIAGNOSTICS)
def test_every_diagnostic_has_a_page(name: str) -> None:
    text = (ROOT / "docs" / "diagnostics" / f"{name}.md").read_text()
    for heading in ("Metrics", "What it cannot show", "Controls", "Cost", "Sources"):
        assert f"\n## {heading}\n" in text
    assert f"({name}.md)" in (ROOT / "docs" / "diagnostics" / "README.md").read_text()


def test_every_reported_metric_has_a_meaning(thr_report: dict[str, Any], fda_report: dict[str, Any]) -> None:
    assert set(thr_report["metrics"]) | set(fda_report["metrics"]) <= set(plugins.built_in().measures())


def test_every_promise_of_safety_is_held_by_a_test() -> None:
    promised = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (ROOT / "SECURITY.md").read_text())
    rows = re.findall(r"^\| [A-Z].* \|$", (ROOT / "SECURITY.md").read_text(), re.MULTILINE)
    assert len(promised) > 8 and len(rows) == len(promised)
    for file, name in promised:
        assert re.search(rf"^def {name}\(", (ROOT / file).read_text(), re.MULTILINE), f"{file} has no {name}"


def test_the_readme_shows_only_verbs_that_exist() -> None:
    verbs = set(parser().get_default("subparsers").choices)
    lines = [line for line in (ROOT / "README.md").read_text().splitlines() if line.startswith("rote-bench ")]
    assert len(lines) > 8
    assert {line.split()[1] for line in lines} <= verbs


PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
LINK = re.compile(r"\]\(([^)\s]+)\)")


def anchors(page: Path) -> set[str]:
    """What a repository's page can be linked to: its headings in lower case, spaces as hyphens, no punctuation."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(page.read_text()):
        target, _, anchor = link.partition("#")
        place = (page.parent / target).resolve() if target else page
        if ":" in link or (ROOT / "plugins") in place.parents:  # the example plugins may go; their own test looks there
            continue
        assert place.exists(), f"{page.name} names {target}"
        assert place.is_relative_to(ROOT), f"{page.name} links out of the repository"
        assert not anchor or anchor in anchors(place), f"{page.name} names {link}"


def test_the_index_names_every_page() -> None:
    docs = ROOT / "docs"
    named = {(docs / link.partition("#")[0]).resolve() for link in LINK.findall((docs / "README.md").read_text())}
    assert {p.resolve() for p in docs.glob("*.md")} - {docs / "README.md"} <= named
    assert (docs / "diagnostics" / "README.md") in named


def test_the_code_on_the_page_for_plugin_authors_works(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "plugins.md").read_text()
    code = [block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "@hookimpl" in block]
    files = [tmp_path / f"block_{i}.py" for i in range(len(code))]
    for file, block in zip(files, code, strict=True):
        file.write_text(block)
    registry = plugins.load(files)
    check_task(registry.table("tasks")["parity"], rule=lambda prompt: ["even", "odd"][prompt.count("1") % 2])
    assert set(check_diagnostic(registry.table("diagnostics")["label_rate"]).metrics) == {"label_rate"}
    (text,) = (block for block in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL) if "parity" in block)
    (tmp_path / "parity.yaml").write_text(text)
    assert rote_bench.validate([tmp_path / "parity.yaml"], plugins=files) == []


def generated() -> dict[str, str]:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return {name: make().rstrip() + "\n" for name, make in module.PAGES.items()}


def test_pages_made_from_the_code_are_up_to_date() -> None:
    for name, text in generated().items():
        assert (ROOT / "docs" / name).read_text() == text, f"docs/{name} is old: run `make docs`"
