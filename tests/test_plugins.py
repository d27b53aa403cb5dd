"""Plugins: single files, installed packages, broken and clashing ones."""

from __future__ import annotations

import json
import textwrap
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from rote_bench import hookimpl, plugins
from rote_bench.cli import main
from rote_bench.errors import UserError
from rote_bench.models.objects import FromPython
from rote_bench.noise import Uniform
from rote_bench.spec.loader import load_task
from rote_bench.spec.options import build

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


HOOKS = """from rote_bench import hookimpl
from rote_bench.noise import NoiseKind, Uniform
N = type("N", (Uniform,), {"name": "n"})
"""
REGISTER = "@hookimpl\ndef register_noise(register):\n    register({})\n"

TYPED = """
from __future__ import annotations
from dataclasses import dataclass
from typing import ClassVar

from rote_bench import hookimpl
from rote_bench.models.objects import FromPython
from rote_bench.noise import Uniform


@dataclass(frozen=True)
class Depth{name}:
    metres: float = 1.0


@dataclass(frozen=True)
class Options:
    depth: Depth{name} = Depth{name}()


class Deep(Uniform):
    name = "deep_{name}"
    Options: ClassVar[type] = Options


@hookimpl
def register_noise(register):
    register(Deep)
"""


def plugin(folder: Path, text: str, name: str = "extra.py") -> Path:
    path = folder / name
    path.write_text(textwrap.dedent(text))
    return path


@pytest.fixture(autouse=True)
def plugins_are_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other tests switch installed plugins off; here they are the subject."""
    monkeypatch.delenv("ROTE_BENCH_PLUGINS", raising=False)


class Point:
    """Stands for an installed entry point."""

    def __init__(self, name: str, load: Any) -> None:
        self.name, self.value, self.load = name, f"{name}:plugin", load
        self.dist = None


def test_built_in_things_come_through_the_hooks(registry: plugins.Registry) -> None:
    assert set(registry.table("tasks")) == {"two_hop", "addition", "dataset"}
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

    monkeypatch.setattr(metadata, "entry_points", lambda group: [Point("broken", fail)])
    warned: list[str] = []
    registry = plugins.load(warn=warned.append)
    assert len(warned) == 1 and "broken" in warned[0] and "half an install" in warned[0] and "\n" not in warned[0]
    (said,) = [p.error for p in registry.plugins if p.name == "broken"]
    assert said is not None and said.startswith("RuntimeError: half an install (test_plugins.py:")
    assert "two_hop" in registry.table("tasks")


def test_a_plugin_that_fails_half_way_registers_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Half:
        @staticmethod
        @hookimpl
        def register_noise(register: Any) -> None:
            register(type("Made", (Uniform,), {"name": "made"}))
            raise RuntimeError("and then this")

        @staticmethod
        @hookimpl
        def register_commands(cli: Any) -> None:
            raise AssertionError("a plugin that failed must not be asked again")

    monkeypatch.setattr(metadata, "entry_points", lambda group: [Point("half", lambda: Half)])
    registry = plugins.load(warn=lambda text: None)
    assert "made" not in registry.table("noise")
    (said,) = [p.error for p in registry.plugins if p.name == "half"]
    assert said is not None and said.startswith("RuntimeError: and then this (test_plugins.py:")
    registry.add_verbs(None, pytest.fail)


def test_an_installed_plugin_may_not_take_a_built_in_name(monkeypatch: pytest.MonkeyPatch) -> None:
    class Takes:
        @staticmethod
        @hookimpl
        def register_noise(register: Any) -> None:
            register(Uniform)

    monkeypatch.setattr(metadata, "entry_points", lambda group: [Point("takes", lambda: Takes)])
    with pytest.raises(UserError, match=r"noise 'uniform' is registered by both built-in and takes:plugin"):
        plugins.load()


def test_a_clash_of_installed_plugins_stops_every_verb_but_the_one_that_shows_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Takes:
        @staticmethod
        @hookimpl
        def register_noise(register: Any) -> None:
            register(type("Mine", (Uniform,), {"name": "mine"}))
            register(Uniform)

        @staticmethod
        @hookimpl
        def register_commands(cli: Any) -> None:
            raise AssertionError("a plugin that was refused must not be asked again")

    monkeypatch.setattr(metadata, "entry_points", lambda group: [Point("takes", lambda: Takes)])
    both = "noise 'uniform' is registered by both built-in and takes:plugin"
    assert main(["list", "noise"]) == 2
    assert both in capsys.readouterr().err
    assert main(["list", "plugins", "--json"]) == 0
    shown = capsys.readouterr()
    (listed,) = (p for p in json.loads(shown.out) if p["name"] == "takes")
    assert listed["status"] == "failed" and both in listed["description"]
    assert shown.err.count(both) == 1
    registry = plugins.load(warn=lambda text: None, clashes=True)
    assert "mine" not in registry.table("noise") and registry.source_of("noise", "uniform") == "built-in"
    registry.add_verbs(None, pytest.fail)


def test_the_file_of_an_installed_plugin_is_not_loaded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = plugin(tmp_path, PARITY)
    module = plugins._from_file(file)
    monkeypatch.setattr(metadata, "entry_points", lambda group: [Point("parity", lambda: module)])
    registry = plugins.load([file, file.parent / "." / file.name])
    assert [p.name for p in registry.plugins] == ["rote_bench", "parity"]
    with pytest.raises(UserError, match="registered by both parity:plugin and "):
        plugins.load([plugin(tmp_path, PARITY, "copy.py")])


def test_two_plugins_with_one_name_are_both_named(tmp_path: Path) -> None:
    one, two = plugin(tmp_path, PARITY, "one.py"), plugin(tmp_path, PARITY, "two.py")
    with pytest.raises(UserError) as caught:
        plugins.load([one, two])
    assert "one.py" in str(caught.value) and "two.py" in str(caught.value)


def test_one_file_given_twice_is_loaded_once(tmp_path: Path) -> None:
    file = plugin(tmp_path, PARITY)
    registry = plugins.load([file, file.parent / "." / file.name])
    assert [p.name for p in registry.plugins].count("extra") == 1


def test_files_of_one_name_keep_their_own_types(tmp_path: Path) -> None:
    files = []
    for name in ("A", "B"):
        (tmp_path / name).mkdir()
        files.append(plugin(tmp_path / name, TYPED.format(name=name)))
    registry = plugins.load(files)
    for name in ("A", "B"):
        options = build(registry.table("noise")[f"deep_{name}"].Options, {"depth": {"metres": 2}})
        assert type(options.depth).__name__ == f"Depth{name}" and options.depth.metres == 2


def test_a_task_with_a_file_of_its_own_is_found_by_name(tmp_path: Path) -> None:
    (tmp_path / "odd_ones.yaml").write_text(
        "name: odd_ones\ngenerator: parity\nsplits: {train: 0.5, selection: 0.2, validation: 0.3}\n"
    )
    with_file = f'    spec_file = "{tmp_path / "odd_ones.yaml"}"\n    name = "parity"\n'
    registry = plugins.load([plugin(tmp_path, PARITY.replace('    name = "parity"\n', with_file))])
    assert load_task("odd_ones", registry).generator == "parity"
    (tmp_path / "odd_ones.yaml").unlink()
    with pytest.raises(UserError, match="spec_file that does not exist"):
        plugins.load([tmp_path / "extra.py"])


def test_a_task_file_may_not_take_the_name_of_a_shipped_one(tmp_path: Path) -> None:
    (tmp_path / "thr.yaml").write_text("name: thr\ngenerator: parity\n")
    text = PARITY.replace('    name = "parity"\n', f'    spec_file = "{tmp_path / "thr.yaml"}"\n    name = "parity"\n')
    with pytest.raises(UserError, match=r"task file 'thr' is registered by both built-in and .*extra.py"):
        plugins.load([plugin(tmp_path, text)])


@pytest.mark.parametrize(("chosen", "found"), [(None, {"a", "b"}), ("", set()), ("b", {"b"}), ("a, b", {"a", "b"})])
def test_the_environment_picks_plugins(monkeypatch: pytest.MonkeyPatch, chosen: str | None, found: set[str]) -> None:
    def quiet() -> Any:
        return type("Quiet", (), {"register_tasks": staticmethod(hookimpl(lambda register: None))})

    monkeypatch.setattr(metadata, "entry_points", lambda group: [Point("a", quiet), Point("b", quiet)])
    monkeypatch.delenv("ROTE_BENCH_PLUGINS", raising=False)
    if chosen is not None:
        monkeypatch.setenv("ROTE_BENCH_PLUGINS", chosen)
    warned: list[str] = []
    assert {p.name for p in plugins.load(warn=warned.append).plugins} - {"rote_bench"} == found
    assert warned == []


def test_a_picked_plugin_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "entry_points", lambda group: [])
    monkeypatch.setenv("ROTE_BENCH_PLUGINS", "mispelt")
    warned: list[str] = []
    plugins.load(warn=warned.append)
    assert len(warned) == 1 and "'mispelt', which is not installed" in warned[0]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("raise ValueError('no')", "ValueError: no"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("import nothing_like_this", "ModuleNotFoundError"),
        ("def (:", "SyntaxError"),
        ("def register_noise(register):\n    pass", "it has no hook; mark functions with @rote_bench.hookimpl"),
        (HOOKS + "@hookimpl\ndef register_task(register):\n    pass", "register_task"),
        (HOOKS + "@hookimpl\ndef register_noise(registry):\n    pass", "registry"),
        (HOOKS + "@hookimpl\ndef register_noise(register):\n    register.no()", "AttributeError"),
        (HOOKS + REGISTER.format("5"), "5 has no name"),
        (HOOKS + REGISTER.format("type('N', (), {'name': 'n'})"), "noise 'n' has no draw, mark, phantom"),
        (HOOKS + REGISTER.format("type('N', (NoiseKind,), {'name': 'n'})"), "noise 'n' does not implement draw"),
        (HOOKS + REGISTER.format("type('N', (Uniform,), {'name': 'n', 'Options': dict})"), "dataclass as its Options"),
        (HOOKS + REGISTER.format("Uniform(None)"), "must be registered as a class"),
        (HOOKS + REGISTER.format("N)\n    register(N"), "noise 'n' is registered twice"),
    ],
)
def test_a_file_that_does_not_load_is_one_line(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(UserError) as caught:
        plugins.load([plugin(tmp_path, text)])
    assert says in str(caught.value) and "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"--plugin {tmp_path / 'extra.py'}: did not load: ")
    with pytest.raises(UserError, match="no such file"):
        plugins.load([tmp_path / "gone.py"])


def test_a_plugin_adds_a_verb(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Greets:
        @staticmethod
        @hookimpl
        def register_commands(cli: Any) -> None:
            cli.add_parser("greet").set_defaults(verb=lambda options: print("hello") or 0)

    class Fails:
        @staticmethod
        @hookimpl
        def register_commands(cli: Any) -> None:
            raise RuntimeError("no verbs today")

    points = [Point("fails", lambda: Fails), Point("greets", lambda: Greets)]
    monkeypatch.setattr(metadata, "entry_points", lambda group: points)
    assert main(["greet"]) == 0
    shown = capsys.readouterr()
    assert shown.out == "hello\n"
    said = (
        "rote-bench: plugin fails (fails:plugin) did not add its verbs: RuntimeError: no verbs today (test_plugins.py:"
    )
    assert shown.err.startswith(said) and shown.err.count("\n") == 1


def test_a_slow_plugin_is_named_once_and_works(monkeypatch: pytest.MonkeyPatch) -> None:
    class Nothing:
        @staticmethod
        @hookimpl
        def register_noise(register: Any) -> None:
            register(type("Slow", (Uniform,), {"name": "slow"}))

    times = iter([0.0, 3.5])
    monkeypatch.setattr(time, "monotonic", lambda: next(times))
    monkeypatch.setattr(metadata, "entry_points", lambda group: [Point("sluggish", lambda: Nothing)])
    warned: list[str] = []
    registry = plugins.load(warn=warned.append)
    assert len(warned) == 1 and "'sluggish'" in warned[0] and "3.5 s" in warned[0]
    assert "slow" in registry.table("noise")
    assert [p.seconds for p in registry.plugins if p.name == "sluggish"] == [3.5]


PROVIDER = """from rote_bench import hookimpl

class Toy:
    name, description = "toy", "toys"
    def matches(self, name):
        return name in self.names()
    def names(self):
        return [NAME]
    def load(self, request):
        raise NotImplementedError

@hookimpl
def register_models(register):
    register(Toy())
"""


@pytest.mark.parametrize("name", ["toy-small", "my-own-gpt2-nano", "toy", "gpt2-tiny"])
def test_a_plugins_model_may_be_called_as_it_likes(tmp_path: Path, name: str) -> None:
    """Also with a size at the end: built-in patterns claim no more names than they can load."""
    file = tmp_path / "toy.py"
    file.write_text(PROVIDER.replace("NAME", repr(name)))
    registry = plugins.load([file])
    assert registry.provider(name).name == "toy"
    assert registry.provider("gpt2-small").name == "config" and registry.provider("hf:toy-small").name == "pretrained"
    for provider in registry.table("models").values():  # what is listed is what can be run
        for listed in provider.names()[:50]:
            assert registry.provider(listed) is provider


def test_a_plugin_takes_no_built_in_models_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "toy.py"
    file.write_text(PROVIDER.replace("NAME", "'gpt2-small'"))
    assert main(["run", "thr", "--model", "gpt2-small", "--plugin", str(file), "-o", str(tmp_path / "runs")]) == 2
    assert f"'gpt2-small' is claimed by the providers 'config' (built-in) and 'toy' ({file})" in capsys.readouterr().err
    with pytest.raises(UserError, match="unknown model 'toy-smal'"):
        plugins.built_in().provider("toy-smal")


def test_a_mistyped_model_of_a_plugin_is_answered_with_its_name() -> None:
    registry = plugins.load()
    registry.adopt(FromPython("gated-scan", lambda vocab_size: None), "mine.py")
    for typed in ("gated_scan", "gated-scn", "gatedscan"):
        with pytest.raises(UserError, match=r"unknown model '.*' \(did you mean 'gated-scan'\?\)"):
            registry.provider(typed)
    with pytest.raises(UserError, match="sizes: nano"):
        registry.provider("gpt2-nan")
