"""Whatever a plugin's code does, this process stays, and stays one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from rote_bench.errors import did_you_mean
from rote_bench.strangers import ProcessLeft, contained, reason_of


def raising(error: BaseException) -> Callable[[], None]:
    def act() -> None:
        raise error

    return act


@pytest.mark.parametrize(
    ("act", "said"),
    [
        (raising(SystemExit(3)), "SystemExit: 3"),
        (raising(SystemExit()), "SystemExit"),
        (raising(GeneratorExit("gone")), "GeneratorExit: gone"),
        (raising(BaseException("two\nlines")), "BaseException: two lines"),
        (lambda: os._exit(0), "os._exit(0)"),
    ],
)
def test_to_leave_the_process_is_an_error(act: Callable[[], None], said: str) -> None:
    leave = os._exit
    with pytest.raises(ProcessLeft) as caught, contained():
        act()
    assert str(caught.value) == said and os._exit is leave


def test_a_reason_names_the_innermost_line_that_is_nobodys_library(tmp_path: Path) -> None:
    file = tmp_path / "theirs.py"
    file.write_text(
        "import json\n\ndef act(text):\n    return json.loads(text)\n\ndef end():\n    raise SystemExit(3)\n"
    )
    theirs: dict[str, Callable[..., None]] = {}
    exec(compile(file.read_text(), str(file), "exec"), theirs)
    with pytest.raises(ValueError) as caught:
        theirs["act"]("{")
    assert reason_of(caught.value).startswith("JSONDecodeError: Expecting")
    assert reason_of(caught.value, 20) == "JSONDecodeError: ... (theirs.py:4)"
    with pytest.raises(ProcessLeft) as left, contained():
        theirs["end"]()
    assert reason_of(left.value) == "SystemExit: 3 (theirs.py:7)"


def test_a_reason_without_code_of_a_stranger_is_the_error_alone() -> None:
    assert reason_of(ValueError("two\nlines")) == "ValueError: two lines"
    try:
        did_you_mean("x", None)  # type: ignore[arg-type]
    except TypeError as error:
        assert reason_of(error.with_traceback(error.__traceback__.tb_next)).endswith("not iterable")  # type: ignore[union-attr]


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt()])
def test_errors_and_interrupts_are_as_they_were(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught, contained():
        raise error
    assert caught.value is error


def test_what_contains_may_be_contained_and_the_folder_is_the_same_afterwards(tmp_path: Path) -> None:
    before, leave = os.getcwd(), os._exit
    with contained():
        os.chdir(tmp_path)
        with pytest.raises(ProcessLeft), contained():
            os.chdir("/")
            os._exit(1)
        assert Path(os.getcwd()) == tmp_path
        assert os._exit is not leave
    assert os.getcwd() == before and os._exit is leave


FORK = """
import os, sys, time
from rote_bench.strangers import ProcessLeft, contained
try:
    with contained():
        {body}
    print("went on")
except ProcessLeft as error:
    print(error)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("os.fork()", "os.fork(): it came back as two processes"),
        ("os.fork() or time.sleep(0.3)", "os.fork(): it came back as two processes"),
        ("os.fork() or sys.exit(1)", "os.fork(): it came back as two processes"),
        ("os.fork() or os._exit(1)", "went on"),
        ("__import__('multiprocessing').get_context('fork').Process(target=int).start()", "went on"),
    ],
)
def test_a_copy_of_the_process_ends_where_it_comes_back(body: str, said: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORK.format(body=body)], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{said}\n", "")
