"""Errors that are meant for the user, in whichever process they are raised."""

from __future__ import annotations

import importlib
import pickle
import pkgutil

import pytest

import rote_bench
from rote_bench.errors import Faults, UserError
from rote_bench.leaderboard.answers import Unreadable
from rote_bench.leaderboard.verify import Refused
from rote_bench.pipeline.accept import Rejected
from rote_bench.pipeline.cell import Clock
from rote_bench.plugins import NameTaken
from rote_bench.spec.options import Fault, OptionFaults

MISTAKE = UserError("it is wrong", where="a.yaml:3", hint="mend it")
SAMPLES: list[Exception] = [
    MISTAKE,
    UserError("bare"),
    NameTaken("taken", where="plugin a", hint="remove one"),
    Faults([MISTAKE, UserError("and this")]),
    Faults([]),
    OptionFaults([Fault(("a", 1), "wrong", "hint")]),
    Refused("no"),
    Unreadable("no"),
    Rejected("n", "it is 3", "give 2"),
]


@pytest.mark.parametrize("error", SAMPLES, ids=lambda e: type(e).__name__)
def test_errors_survive_the_way_from_another_process(error: Exception) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error) and str(again) == str(error) and again.args == error.args
    for name, value in vars(error).items():
        assert str(getattr(again, name)) == str(value) or getattr(again, name) == value
    if isinstance(error, Faults) and isinstance(again, Faults):
        assert [vars(fault) for fault in again.faults] == [vars(fault) for fault in error.faults]


def test_no_exception_with_arguments_of_its_own_is_left_out() -> None:
    own = set()
    for module in pkgutil.walk_packages(rote_bench.__path__, "rote_bench."):
        if module.name.startswith(("rote_bench.leaderboard", "rote_bench.diagnostics", "rote_bench.__main__")):
            continue
        for thing in vars(importlib.import_module(module.name)).values():
            if isinstance(thing, type) and issubclass(thing, Exception) and thing.__module__ == module.name:
                own |= {thing} if "__init__" in vars(thing) else set()
    assert own <= {type(error) for error in SAMPLES}


def test_a_stage_that_fails_is_timed_too(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("rote_bench.pipeline.cell.time.monotonic", lambda: now[0])
    timings = Clock()
    with pytest.raises(ZeroDivisionError), timings.stage("training"):
        now[0] = 5.0
        _ = 1 / 0
    assert timings.seconds["training"] == 5.0
