"""The notebooks are kept as they ran, and run."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "docs" / "notebooks"
NOTEBOOKS = sorted(path.name for path in FOLDER.glob("*.ipynb"))
NEEDS = {"other-tools.ipynb": ("transformer_lens", "nnsight")}


def read(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / name).read_text())
    return found


def code(notebook: Any) -> list[Any]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_was_run_from_top_to_bottom_and_shows_no_place_of_its_maker(name: str) -> None:
    cells = code(read(name))
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert outputs and not any(output["output_type"] == "error" for output in outputs)
    assert not any(output.get("name") == "stderr" for output in outputs)
    assert not re.search(r"(?<![\w./<])/(tmp|home|root|work|Users)/", json.dumps(outputs))
    assert (FOLDER / name).stat().st_size < 1 << 20


def test_the_index_names_every_notebook_and_their_links_lead_somewhere() -> None:
    assert set(re.findall(r"\]\((\S+\.ipynb)\)", (FOLDER / "README.md").read_text())) == set(NOTEBOOKS)
    for name in NOTEBOOKS:
        text = "".join("".join(cell["source"]) for cell in read(name)["cells"] if cell["cell_type"] == "markdown")
        for link in re.findall(r"\]\(([^)#\s]+)\)", text):
            assert (FOLDER / link).exists(), f"{name} names {link}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where they all run, so that the second finds the cell that the first has trained."""
    return tmp_path_factory.mktemp("notebooks")


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # the client and the peers warn of their own doings
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_runs_again(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbformat, client = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    for module in ("ipykernel", *NEEDS.get(name, ())):
        pytest.importorskip(module)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    notebook = nbformat.read(FOLDER / name, as_version=4)
    kept = code(read(name))
    client.NotebookClient(notebook, timeout=3000, resources={"metadata": {"path": str(folder)}}).execute()
    for again, before in zip(code(notebook), kept, strict=True):
        shown = [[output["output_type"] for output in cell["outputs"]] for cell in (again, before)]
        assert shown[0] == shown[1], again["source"]
