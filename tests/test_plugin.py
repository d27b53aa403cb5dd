"""What authors of plugins import."""

from __future__ import annotations

import subprocess
import sys
import typing
from pathlib import Path

import pytest

from rote_bench import plugin

ROOT = Path(__file__).parent.parent
PUBLIC = """
    DIFFERENCE IGNORED SHARE Anatomy Details Diagnostic Edit Encoded Estimate Evaluation Example FromConfig FromPython
    Intact Labelled Levels LoadedModel Measure Metric ModelProvider ModelRequest NoOptions NoiseKind NotApplicable
    Recipe Records Result Schedule Site Span Subject Task UserError View ablate batches bootstrap capture
    capture_with_gradient cluster_codes concatenate decode difference encode first_difference forward from_draws
    generator hookimpl interval matches mean proportion quotient replace replace_units resampled_means run states_at
    states_by_layer train wilson word_spans
""".split()


def test_the_list_of_public_names_is_kept() -> None:
    assert plugin.__all__ == PUBLIC
    assert set(PUBLIC) <= set(dir(plugin))


@pytest.mark.parametrize("name", PUBLIC)
def test_every_name_is_that_of_its_home(name: str) -> None:
    thing = getattr(plugin, name)
    if isinstance(thing, type) or callable(thing):
        home = getattr(thing, "__module__", "")
        assert home.startswith(("rote_bench.", "pluggy")) or typing.get_origin(thing) is not None
    with pytest.raises(AttributeError, match="no_such_name"):
        plugin.no_such_name  # noqa: B018


def test_the_checker_and_the_interpreter_see_the_same_names() -> None:
    text = (ROOT / "rote_bench" / "plugin.py").read_text()
    typed = text[text.index("if TYPE_CHECKING:") : text.index("_HOMES")]
    assert all(f" {name}" in typed for name in PUBLIC)


def test_importing_it_imports_nothing_heavy() -> None:
    code = "import sys, rote_bench.plugin; print([m for m in ('torch', 'transformers', 'numpy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_authors_import_from_there_alone() -> None:
    """Packages of plugins, templates and the page for authors name no other module of the package."""
    allowed = ("rote_bench.plugin", "rote_bench.testing")
    sources = [*ROOT.glob("plugins/*/*.py"), *ROOT.glob("rote_bench/scaffold/templates/*/__name__.py.txt")]
    assert len(sources) > 7
    for file in [*sources, ROOT / "docs" / "plugins.md"]:
        for line in file.read_text().splitlines():
            words = line.split()
            if words[:1] == ["from"] and words[1].startswith("rote_bench"):
                assert words[1] in allowed, f"{file.name}: {line.strip()}"
