"""New packages: they pass their own tests and run as they are generated."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import rote_bench
from rote_bench.cli import main, parser
from rote_bench.scaffold import KINDS

SHORT = [
    "--set",
    "training.max_steps=20",
    "--set",
    "training.evaluate_every=10",
    "--set",
    "training.schedule={warmup: 2, anneal: 10}",
]


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_package_passes_its_own_tests(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["new", kind, "my_thing", "--folder", str(tmp_path)]) == 0
    package = tmp_path / "my_thing"
    assert not [p for p in package.rglob("*") if p.is_file() and "$" in p.read_text()]
    monkeypatch.chdir(package)
    monkeypatch.syspath_prepend(package)
    try:
        assert pytest.main(["-q", "-W", "error", "-p", "no:cacheprovider"]) == pytest.ExitCode.OK
    finally:
        for name, module in list(sys.modules.items()):  # the next package has the same name
            if (getattr(module, "__file__", None) or "").startswith(str(package)):
                del sys.modules[name]
    lint = [
        sys.executable,
        "-m",
        "ruff",
        "check",
        "--isolated",
        "--select",
        "E,F,W",
        "--line-length",
        "120",
        str(package),
    ]
    assert subprocess.run(lint, capture_output=True).returncode == 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_package_loads_fast(kind: str, tmp_path: Path) -> None:
    assert main(["new", kind, "my_thing", "--folder", str(tmp_path)]) == 0
    code = """
import sys
from rote_bench.cli import main
assert main(["list", "tasks", "--plugin", "my_thing.py"]) == 0
sys.exit(bool({"torch", "transformers", "matplotlib"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path / "my_thing", capture_output=True)
    assert done.returncode == 0, "every command loads every installed plugin"


def test_the_commands_of_a_new_readme_are_accepted(tmp_path: Path) -> None:
    assert main(["new", "task", "my_thing", "--folder", str(tmp_path)]) == 0
    package = tmp_path / "my_thing"
    lines = [line for line in (package / "README.md").read_text().splitlines() if line.startswith("rote-bench run")]
    assert len(lines) == 2
    for line in lines:
        options = parser().parse_args(shlex.split(line)[1:])
        loaded = rote_bench.load_task(options.task, overrides=options.set, plugins=[package / "my_thing.py"])
        assert loaded.name == options.task


def test_new_packages_run_at_once(tmp_path: Path) -> None:
    for kind, name in (("task", "my_task"), ("noise", "my_noise"), ("diagnostic", "my_look")):
        assert main(["new", kind, name, "--folder", str(tmp_path)]) == 0
    arguments = ["run", str(tmp_path / "my_task" / "my_task.yaml"), "--model", "gpt2-nano", "--quiet", "--limit", "100"]
    for name in ("my_task", "my_noise", "my_look"):
        arguments += ["--plugin", str(tmp_path / name / f"{name}.py")]
    more = [
        "--set",
        "noise.kind=my_noise",
        "--set",
        "diagnostics=[learning_dynamics, my_look]",
        "-o",
        str(tmp_path / "runs"),
    ]
    assert main([*arguments, *SHORT, *more]) == 0
    (file,) = (tmp_path / "runs").rglob("report.json")
    report = json.loads(file.read_text())
    assert report["diagnostics"]["my_look"]["status"] == "success"
    assert report["metrics"]["my_look_noisy"]["ci_low"] is not None
    assert (file.parent / "figures" / "my_look.png").is_file()


def test_a_new_model_is_trained_by_its_name(tmp_path: Path) -> None:
    assert main(["new", "model", "my_mixer", "--folder", str(tmp_path)]) == 0
    plugin = ["--plugin", str(tmp_path / "my_mixer" / "my_mixer.py")]
    arguments = ["run", "fda", "--model", "my-mixer", "--quiet", "--limit", "40", *plugin, *SHORT]
    assert main([*arguments, "--set", "diagnostics=[logit_lens]", "-o", str(tmp_path / "runs")]) == 0
    (file,) = (tmp_path / "runs").rglob("report.json")
    report = json.loads(file.read_text())
    assert report["model"]["source"] == "plugin" and report["model"]["builder"]
    assert report["diagnostics"]["logit_lens"]["status"] == "success"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("My-Task", "cannot name a package"),
        ("class", "cannot name"),
        ("../up", "cannot name"),
        ("torch", "knows 'torch' already"),
    ],
)
def test_bad_names_write_nothing(name: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new", "task", name, "--folder", str(tmp_path)]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_what_is_there_is_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine").mkdir()
    assert main(["new", "task", "mine", "--folder", str(tmp_path)]) == 2
    assert "is there already" in capsys.readouterr().err
