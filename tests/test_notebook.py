"""What a notebook shows while a run goes on: one output that is replaced, and nothing on standard error."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from rote_bench.notebook import Bar, in_notebook
from rote_bench.progress import Progress
from rote_bench.sweep.board import Board


class Handle:
    def __init__(self, shown: list[dict[str, str]]) -> None:
        self.shown = shown

    def update(self, bundle: dict[str, str], raw: bool) -> None:
        assert raw
        self.shown.append(bundle)


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[list[dict[str, str]]]:
    """The outputs of a kernel's cell, each with what it showed one after the other."""
    outputs: list[list[dict[str, str]]] = []

    def display(bundle: dict[str, str], raw: bool, display_id: bool) -> Handle:
        assert raw and display_id
        outputs.append([bundle])
        return Handle(outputs[-1])

    ipython, displays = ModuleType("IPython"), ModuleType("IPython.display")
    ipython.get_ipython = lambda: SimpleNamespace(kernel=object())  # type: ignore[attr-defined]
    displays.display = display  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", displays)
    return outputs


@pytest.mark.parametrize("shell", [None, SimpleNamespace()])
def test_a_shell_without_a_kernel_is_no_notebook(monkeypatch: pytest.MonkeyPatch, shell: Any) -> None:
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    assert not in_notebook()
    ipython = ModuleType("IPython")
    ipython.get_ipython = lambda: shell  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    assert not in_notebook() and Progress().bar is None


def test_a_run_is_one_output_whose_bar_moves(
    shown: list[list[dict[str, str]]], capsys: pytest.CaptureFixture[str]
) -> None:
    progress = Progress(every=0.0)
    progress.every = 0.0
    progress.say("a <b> cell")
    progress.stage("training")
    for step in (1, 2):
        progress.step(step, 4)
    (output,) = shown
    assert '<progress style="width: 12em" value="2" max="4"></progress>' in output[-1]["text/html"]
    assert output[-1]["text/plain"].splitlines()[1].startswith("training: 2/4")
    progress.warn("look out")
    progress.stage("drawing")
    assert output[-1]["text/plain"] == "a <b> cell\nwarning: look out\ndrawing"
    assert "a &lt;b&gt; cell" in output[-1]["text/html"] and "<progress" not in output[-1]["text/html"]
    progress.passing("")
    assert output[-1]["text/plain"] == "a <b> cell\nwarning: look out" and len(shown) == 1
    assert capsys.readouterr() == ("", "")


def test_a_quiet_run_shows_warnings_alone(shown: list[list[dict[str, str]]]) -> None:
    progress = Progress(quiet=True)
    progress.stage("training")
    progress.step(1, 1)
    assert shown == []
    progress.warn("look out")
    assert [output[-1]["text/plain"] for output in shown] == ["warning: look out"]


def test_what_has_not_changed_is_not_sent_again(shown: list[list[dict[str, str]]]) -> None:
    bar = Bar()
    for _ in range(3):
        bar.show("waiting", 1, 2)
    assert len(shown[0]) == 1


def test_a_sweep_has_a_bar_too(shown: list[list[dict[str, str]]], capsys: pytest.CaptureFixture[str]) -> None:
    with Board("cells", quiet=False) as board:
        board.say("one: started")
        board.show([], {})
    assert shown[0][-1]["text/plain"] == "one: started\n0 cells: " and capsys.readouterr().err == ""
