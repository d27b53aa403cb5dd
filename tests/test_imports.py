"""The house's floors: imports go down, heavy libraries stay where they are needed, only one room hooks models."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import rote_bench

PACKAGE = Path(rote_bench.__file__).parent
# From the roof down. A module may import modules of its own line, or of lines below; siblings of one line that are
# marked apart may not import each other.
FLOORS: list[set[str]] = [
    {"__main__"},
    {"cli"},
    {"api"},
    {"catalog", "drawing", "reading", "planning", "opening"},
    {"plugin", "testing", "scaffold"},
    {"sweep"},
    {"leaderboard"},
    {"comparison"},
    {"builtin"},
    {"pipeline"},
    {"diagnostics"},
    {"measurement", "findings", "report", "subject", "export", "foils", "concepts", "erasing", "nodes"},
    {"training", "interventions", "evaluation", "patching"},
    {
        "spec",
        "plugins",
        "splits",
        "encoding",
        "endings",
        "rendering",
        "noise",
        "models",
        "progress",
        "machine",
        "linear",
        "partitions",
    },
    {"contrasts", "dissociation", "matching", "surrogates"},
    {
        "tasks",
        "statistics",
        "measures",
        "plain",
        "errors",
        "hookspecs",
        "hashing",
        "terminal",
        "notebook",
        "writing",
        "strangers",
        "paths",
    },
]
LEVEL = {name: level for level, names in enumerate(FLOORS) for name in names}
# plugins loads what is built in, which is the one place where the ground floor reaches up.
ALLOWED = {("plugins", "builtin")}


def imports(path: Path) -> list[tuple[str, bool]]:
    """Top-level names of this package that a file imports, and whether only for type checking."""
    tree = ast.parse(path.read_text())
    typed = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and isinstance(block.test, ast.Name) and block.test.id == "TYPE_CHECKING"
        for node in ast.walk(block)
    }
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = list(parts[: len(parts) - node.level])
            dotted = base + (node.module.split(".") if node.module else [])
            names = [dotted[0]] if dotted else [alias.name for alias in node.names]
            found += [
                (name, id(node) in typed)
                for name in names
                if (PACKAGE / name).is_dir() or (PACKAGE / f"{name}.py").is_file()
            ]
    return found


MODULES = sorted(p for p in PACKAGE.rglob("*.py") if p.name != "__init__.py" or p.parent != PACKAGE)


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_down(path: Path) -> None:
    here = room(path)
    assert here in LEVEL, f"{here} stands on no floor"
    for name, only_typed in imports(path):
        if name != here and not only_typed and (here, name) not in ALLOWED:
            assert LEVEL[name] >= LEVEL[here], f"{path.name} imports {name}, which is above it"


def test_diagnostics_do_not_import_each_other() -> None:
    names = {p.stem for p in (PACKAGE / "diagnostics").glob("*.py")} - {"__init__"}
    for path in (PACKAGE / "diagnostics").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.level == 1 and path.name != "__init__.py":
                assert (node.module or "").split(".")[0] not in names - {path.stem}


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_one_file_hooks_models_for_diagnostics_and_one_room_knows_how_they_are_built(path: Path) -> None:
    text = path.read_text()
    inside = path.relative_to(PACKAGE).as_posix()
    if inside != "interventions.py" and not inside.startswith("models/"):
        assert "register_forward" not in text and "register_full_backward" not in text
    if not inside.startswith("models/"):
        assert not any(name in text for name in (".transformer.h", ".model.layers", ".lm_head"))


def test_modules_stay_small() -> None:
    for path in MODULES:
        assert len(path.read_text().splitlines()) <= 460, path


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["run", "--help"],
        ["list", "tasks"],
        ["list", "models"],
        ["list", "diagnostics"],
        ["validate", "TASK"],
        ["validate", "SWEEP"],
        ["schema", "report"],
    ],
)
def test_light_verbs_import_no_torch(arguments: list[str], tmp_path: Path) -> None:
    task = tmp_path / "t.yaml"
    task.write_text("name: t\ngenerator: addition\nsplits: {train: 10, selection: 5, validation: 5}\n")
    sweep = tmp_path / "s.yaml"
    sweep.write_text("name: s\ntasks: [t.yaml]\nmodels: [gpt2-nano]\n")
    code = (
        "import sys; from rote_bench.cli import main\n"
        "try: main(sys.argv[1:])\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'transformers', 'datasets', 'matplotlib', 'scipy', 'sklearn'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    given = [{"TASK": str(task), "SWEEP": str(sweep)}.get(a, a) for a in arguments]
    done = subprocess.run([sys.executable, "-c", code, *given], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_no_function_of_the_package_has_the_name_of_a_module() -> None:
    """Importing the module would put it in the function's place."""
    modules = {p.stem for p in PACKAGE.iterdir() if p.suffix == ".py" or p.is_dir()}
    assert not modules & set(rote_bench.__all__)
