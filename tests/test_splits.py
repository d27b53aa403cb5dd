"""A plugin's own ``split`` is held to what it was asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rote_bench import plugins
from rote_bench.errors import UserError
from rote_bench.spec.loader import load_task
from rote_bench.splits import chosen, make_task
from tests.conftest import SMALL_THR


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda rows: {**rows, "validation": rows["validation"][:3]}, "split gives 3 of"),
        (lambda rows: {name: part for name, part in rows.items() if name != "selection"}, "of selection"),
    ],
)
def test_a_split_that_draws_others_is_refused(change: Any, said: str, tmp_path: Path) -> None:
    (tmp_path / "task.yaml").write_text(SMALL_THR)
    registry = plugins.built_in()
    spec = load_task(tmp_path / "task.yaml", registry)
    spec = spec.replace(splits={"train": 100, "selection": 20, "validation": 20})
    task = make_task(spec, registry)
    assert {name: len(part) for name, part in chosen(task, spec, None).items() if part} == dict(spec.splits)
    whole = task.split
    task.split = lambda sizes, seed: change(whole(sizes, seed))  # type: ignore[method-assign]
    with pytest.raises(UserError, match=said):
        chosen(task, spec, None)
