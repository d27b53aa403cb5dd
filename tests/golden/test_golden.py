"""Numbers that move must raise a declared version: identity counts on it."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from rote_bench.pipeline import identity

from ..releases import OLD_TRANSFORMERS
from .numbers import HERE, ROOM_NUMBERS, all_rooms

GOLDEN = json.loads((HERE / "golden.json").read_text())
ROOMS = all_rooms()


def same(a: Any, b: Any) -> bool:
    """Whether what is known, ``b``, is found again in ``a``, but for what processors round apart; more may be there."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() >= b.keys() and all(same(a[k], b[k]) for k in b)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, float) and isinstance(b, float):
        return math.isclose(a, b, rel_tol=1e-4, abs_tol=1e-6)
    return type(a) is type(b) and a == b


# What transformers draws and how it sizes models is its own, and differs between its releases.
OF_TRANSFORMERS = {"models", "diagnostics.memorization_reuse"}


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_numbers_move_with_the_declared_version_alone(room: str) -> None:
    declared, compute = ROOMS[room]
    known = GOLDEN.get(room, {"version": None})
    assert known["version"] == declared, f"write the numbers of version {declared}: python -m tests.golden {room}"
    if OLD_TRANSFORMERS and room in OF_TRANSFORMERS:
        pytest.skip("another release of transformers draws other weights")
    found = json.loads(json.dumps(compute()))
    assert same(found, known["numbers"]), (
        f"{room} gives other numbers than its version {declared} did: raise that, write the new ones with"
        f" `python -m tests.golden`, and say in the changelog which numbers changed\n{found}\n{known['numbers']}"
    )


def test_every_room_of_the_identity_has_its_numbers() -> None:
    assert ROOM_NUMBERS.keys() == identity.ROOMS.keys()
    assert GOLDEN.keys() == ROOMS.keys()


def test_every_file_that_makes_numbers_belongs_to_a_room() -> None:
    listed = {file for room in identity.ROOMS.values() for file in room.files}
    assert all((identity.PACKAGE / file).is_file() for file in listed)
    rooms = ("training", "models")
    here = {
        p.relative_to(identity.PACKAGE).as_posix() for room in rooms for p in (identity.PACKAGE / room).glob("*.py")
    }
    # what only shows, follows, hashes, checks or speeds up makes no number
    none = {
        "training/tracking.py",
        "training/curve.py",
        "training/trial.py",
        "models/compiling.py",
        "models/survey.py",
        "models/content.py",
        "models/outside.py",
        "models/provided.py",
        "models/signature.py",
    }
    assert {f for f in here if not f.endswith("__init__.py")} - none <= listed
