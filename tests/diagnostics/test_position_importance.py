"""How evenly answers hang on all tokens."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rote_bench.diagnostics.position_importance import PositionImportance, _derangement, spread
from rote_bench.models.anatomy import Anatomy
from rote_bench.spec.options import build
from rote_bench.subject import POST, Subject
from tests.diagnostics.reports import details
from tests.models.test_prefix import Shelf


@given(st.lists(st.floats(0, 1), min_size=2, max_size=9))
def test_spread_is_a_share_of_the_largest_entropy(drops: list[float]) -> None:
    s = float(spread(np.array(drops)))
    assert np.isnan(s) if sum(drops) == 0 else -1e-9 <= s <= 1 + 1e-9


def test_spread_at_its_ends() -> None:
    assert spread(np.array([0.5, 0.5, 0.5])) == pytest.approx(1)
    assert spread(np.array([0.5, 0.0, 0.0])) == pytest.approx(0)


def test_layers_are_counted_as_everywhere(thr_report: dict[str, Any]) -> None:
    found = details(thr_report, "position_importance")
    assert found["layers"] == details(thr_report, "logit_lens")["snapshots"]["post_memorization"]["layers"] == [1, 2]
    assert len(found["drop"]["validation"]) == 2


def test_what_falls_is_what_hooks_find_where_blocks_pass_more_than_the_stream(thr: Subject) -> None:
    model, shelf = copy.deepcopy(thr.anatomy().model), {}  # type: tuple[Any, dict[str, torch.Tensor]]
    for layer, block in enumerate(model.transformer.h):
        block.mlp = Shelf(block.mlp, shelf, reads=layer == 1)
    subject = dataclasses.replace(thr, anatomies={POST: Anatomy.of(model)})
    assert not subject.anatomy().checks["prefix"].ok
    found = PositionImportance(build(PositionImportance.Options, {"examples": 30})).run(subject).details
    encoded, name = subject.noisy.taught.rows(slice(30)), found["positions"][-1]
    other, at = _derangement(30, subject.rng("position-noisy")), encoded.positions[found["positions"][-1]]
    for layer, block in enumerate(model.transformer.h):
        states: list[torch.Tensor] = []

        def swapped(module: Any, args: Any, output: Any, states: list[torch.Tensor] = states) -> Any:
            state = output if isinstance(output, torch.Tensor) else output[0]
            states.append(state.clone())
            if len(states) == 2:
                state = state.clone()
                state[range(30), at] = states[0][other, at[other]]
            return state if isinstance(output, torch.Tensor) else (state, *output[1:])

        handle = block.register_forward_hook(swapped)
        with torch.no_grad():
            before, after = (encoded.correct(model(input_ids=encoded.input_ids).logits).double() for _ in range(2))
        handle.remove()
        drop = found["drop"]["memorization"][layer][found["positions"].index(name)]
        assert drop == pytest.approx(float((before - after).mean()))
