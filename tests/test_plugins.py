"""Plugins: single files, installed packages, broken and clashing ones."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import pytest

from rote_bench import plugins
from rote_bench.cli import main
from rote_bench.errors import UserError

PARITY = """
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rote_bench import hookimpl
from rote_bench.tasks.example import Example, Task


@dataclass(frozen=True)
class Parameters:
    bits: int = 8


class Parity(Task):
    name = "parity"
    description = "is the number of ones odd?"
    Parameters: ClassVar[type] = Parameters

    def __len__(self) -> int:
        return 2 ** self.parameters.bits

    def example(self, index: int) -> Example:
        bits = f"{index:0{self.parameters.bits}b}"
        return Example(" ".join([*bits, "="]), "odd" if bits.count("1") % 2 else "even", group=bits[:2])

    def words(self) -> Sequence[str]:
        return ["0", "1", "=", "odd", "even"]

    def answers(self, example: Example) -> Sequence[str]:
        return ["even", "odd"]


@hookimpl
def register_tasks(register):
    register(Parity)
"""


def plugin(folder: Path, text: str, name: str = "extra.py") -> Path:
    path = folder / name
    path.write_text(textwrap.dedent(text))
    return path


class Point:
    """Stands for an installed entry point."""

    def __init__(self, name: str, load: Any) -> None:
        self.name, self.value, self.load = name, f"{name}:plugin", load
        self.dist = None


def test_built_in_things_come_through_the_hooks(registry: plugins.Registry) -> None:
    assert set(registry.table("tasks")) == {"two_hop", "addition"}
    assert {registry.source_of("noise", n) for n in registry.table("noise")} == {"built-in"}
    assert {"learning_dynamics", "logit_lens", "activation_patching"} <= set(registry.table("diagnostics"))


def test_a_single_file_adds_a_task_that_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = plugin(tmp_path, PARITY)
    task = tmp_path / "parity.yaml"
    task.write_text(
        "name: parity\ngenerator: parity\nsplits: {train: 200, selection: 20, validation: 30}\n"
        "model: {layers: 1, width: 16, heads: 2}\n"
        "training: {max_steps: 6, evaluate_every: 3, schedule: {warmup: 1, anneal: 3}}\n"
        "diagnostics: [learning_dynamics]\n"
    )
    arguments = ["run", str(task), "--model", "gpt2-nano", "-o", str(tmp_path / "runs"), "--json"]
    assert main(arguments) == 2
    assert "unknown generator 'parity'" in capsys.readouterr().err
    assert main([*arguments, "--plugin", str(file)]) == 0
    assert main(["list", "tasks", "--plugin", str(file), "--json"]) == 0
    assert f'"source": "{file}"' in capsys.readouterr().out


def test_a_broken_installed_plugin_is_named_and_harms_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> Any:
        raise RuntimeError("half an install")

    monkeypatch.setattr(plugins.metadata, "entry_points", lambda group: [Point("broken", fail)])
    warned: list[str] = []
    registry = plugins.load(warn=warned.append)
    assert len(warned) == 1 and "broken" in warned[0] and "half an install" in warned[0] and "\n" not in warned[0]
    assert [p.error for p in registry.plugins if p.name == "broken"] == ["RuntimeError: half an install"]
    assert "two_hop" in registry.table("tasks")


def test_a_plugin_that_fails_half_way_registers_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Half:
        @staticmethod
        def register_tasks(register: Any) -> None:
            register(type("Made", (), {"name": "made"}))
            raise RuntimeError("and then this")

    monkeypatch.setattr(plugins.metadata, "entry_points", lambda group: [Point("half", lambda: Half)])
    assert "made" not in plugins.load(warn=lambda text: None).table("tasks")


def test_two_plugins_with_one_name_are_both_named(tmp_path: Path) -> None:
    one, two = plugin(tmp_path, PARITY, "one.py"), plugin(tmp_path, PARITY, "two.py")
    with pytest.raises(UserError) as caught:
        plugins.load([one, two])
    assert "one.py" in str(caught.value) and "two.py" in str(caught.value)


@pytest.mark.parametrize(("chosen", "found"), [(None, {"a", "b"}), ("", set()), ("b", {"b"}), ("a, b", {"a", "b"})])
def test_the_environment_picks_plugins(monkeypatch: pytest.MonkeyPatch, chosen: str | None, found: set[str]) -> None:
    empty = type("Empty", (), {})
    monkeypatch.setattr(
        plugins.metadata, "entry_points", lambda group: [Point("a", lambda: empty), Point("b", lambda: empty)]
    )
    monkeypatch.delenv("ROTE_BENCH_PLUGINS", raising=False)
    if chosen is not None:
        monkeypatch.setenv("ROTE_BENCH_PLUGINS", chosen)
    assert {p.name for p in plugins.load().plugins} - {"rote_bench"} == found


@pytest.mark.parametrize(
    ("text", "says"),
    [("raise ValueError('no')", "ValueError: no"), ("import nothing_like_this", "ModuleNotFoundError")],
)
def test_a_file_that_does_not_load_is_one_line(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        plugins.load([plugin(tmp_path, text)])
    with pytest.raises(UserError, match="no such file"):
        plugins.load([tmp_path / "gone.py"])


def test_a_plugin_adds_a_verb(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from rote_bench import hookimpl

    class Greets:
        @staticmethod
        @hookimpl
        def register_commands(cli: Any) -> None:
            cli.add_parser("greet").set_defaults(verb=lambda options: print("hello") or 0)

    monkeypatch.setattr(plugins.metadata, "entry_points", lambda group: [Point("greets", lambda: Greets)])
    assert main(["greet"]) == 0
    assert capsys.readouterr().out == "hello\n"
