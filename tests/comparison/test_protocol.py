"""The record of a comparison, written and read again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rote_bench.comparison import protocol
from rote_bench.comparison.choice import Learned, first_choice, second_choice
from rote_bench.comparison.rules import Comparison, Contrast, Entrant, Tuning
from rote_bench.errors import UserError
from rote_bench.plugins import Registry
from rote_bench.spec.loader import load_task
from rote_bench.spec.model import Seeds


def comparison(registry: Registry) -> Comparison:
    """Two models at one task, four seeds each."""
    spec = load_task("thr", registry, profile="compact")
    cells = tuple((spec.replace(seeds=Seeds.all(seed)), rate) for seed in range(4) for rate in (0.0, 0.05))
    recipes = {"slow": spec.training, "fast": spec.training}
    entrants = tuple(Entrant("thr-compact", model, spec, recipes, cells) for model in ("gpt2-nano", "rwkv-nano"))
    contrast = Contrast("one", ("thr-compact",) * 2, ("rwkv-nano", "gpt2-nano"), "noise_transfer", (0.05,) * 2, 0.08)
    return Comparison("two", "Two models", entrants, Tuning({"slow": {}, "fast": {}}, (100, 101), 0.05), (contrast,))


def test_a_protocol_is_read_as_it_was_written_and_plans_no_cells_of_a_model_without_a_recipe(
    registry: Registry, tmp_path: Path
) -> None:
    made = comparison(registry)
    assert made.tuning is not None
    first, second = made.entrants
    rows = first_choice(made.tuning, first.recipes, {name: [Learned(9, 10, 200)] * 2 for name in first.recipes})
    able = second_choice(rows, {"slow": (500, 520), "fast": (500, None)})
    none = second_choice(
        first_choice(made.tuning, second.recipes, {name: [Learned(9, 10, None)] * 2 for name in second.recipes}), {}
    )
    written = protocol.content(made, [(first, able), (second, none)])
    file = protocol.file_of(tmp_path, made.name)
    protocol.write(file, written)
    assert protocol.read(file) == written and file.name == "two.protocol.json"
    assert written["planned"] == 8 and written["rules"] == made.rules()
    assert [each["configuration"] for each in written["choices"]] == ["slow", None]
    assert written["choices"][1]["reason"] == "not learned within the budget"
    assert 0.15 < written["contrasts"][0]["visible"] < 0.3


@pytest.mark.parametrize("text", ["{}", "[", "[]", json.dumps({"schema_version": 2}), '{"rules": NaN}'])
def test_what_is_no_protocol_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    file = tmp_path / "two.protocol.json"
    with pytest.raises(UserError, match="no protocol here"):
        protocol.read(file)
    file.write_text(text)
    with pytest.raises(UserError, match="is no protocol"):
        protocol.read(file)
