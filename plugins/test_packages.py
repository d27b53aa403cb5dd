"""Every example is documented, and loads from where pip installed it."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

import pytest

from rote_bench import plugins

FOLDER = Path(__file__).parent
PACKAGES = sorted(file.parent.name for file in FOLDER.glob("*/pyproject.toml"))


def test_links_lead_somewhere() -> None:
    for page in FOLDER.rglob("README.md"):
        for target in re.findall(r"\]\(([^)#:\s]+)[#)]", page.read_text()):
            assert (page.parent / target).exists(), f"{page.parent.name} names {target}"


def test_the_index_names_every_package() -> None:
    assert set(re.findall(r"\]\((\w+)/README\.md\)", (FOLDER / "README.md").read_text())) == set(PACKAGES)


@pytest.mark.parametrize("package", PACKAGES)
def test_an_installed_package_loads_by_its_entry_point(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    distribution = f"rote-bench-{package.replace('_', '-')}"
    try:
        metadata.distribution(distribution)
    except metadata.PackageNotFoundError:
        pytest.skip(f"{distribution} is not installed; `make test` installs it")
    monkeypatch.setenv("ROTE_BENCH_PLUGINS", package)
    registry = plugins.load()
    (info,) = (p for p in registry.plugins if p.source != "built-in")
    assert (info.name, info.source, info.error) == (package, distribution, None)
    assert distribution in registry.sources.values(), "it registers nothing"
