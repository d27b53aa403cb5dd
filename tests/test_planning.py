"""Overrides from Python, as notebooks hold them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rote_bench
from rote_bench.errors import UserError
from tests.conftest import SMALL_THR


@pytest.fixture
def task(tmp_path: Path) -> Path:
    file = tmp_path / "task.yaml"
    file.write_text(SMALL_THR)
    return file


@pytest.mark.parametrize("value", [1600, np.int64(1600), np.array(1600)])
def test_numbers_of_numpy_are_numbers(value: Any, task: Path) -> None:
    assert rote_bench.load_task(task, overrides={"training.max_steps": value}).training.max_steps == 1600


def test_one_text_is_one_override(task: Path) -> None:
    assert rote_bench.load_task(task, overrides="training.max_steps=1600").training.max_steps == 1600


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({"training.max_steps": {1, 2}}, "overrides: training.max_steps: a set is no value of a task file"),
        (None, "overrides: neither texts nor a mapping"),
        ([{"training.max_steps": 1600}], "overrides: neither texts nor a mapping"),
    ],
)
def test_what_is_no_override_is_refused_by_its_key(overrides: Any, said: str, task: Path) -> None:
    with pytest.raises(UserError, match=said):
        rote_bench.load_task(task, overrides=overrides)
