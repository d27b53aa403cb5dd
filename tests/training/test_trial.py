"""Compiled steps on trial: when they are refused, and that nothing of it stays; the clock is the tests' own."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch

from rote_bench.encoding import IGNORED, Encoded
from rote_bench.errors import UserError
from rote_bench.models.load import FromConfig, ModelRequest
from rote_bench.training.distributed import Processes
from rote_bench.training.trial import try_compiled

TARGETS = torch.full((20, 6), IGNORED)
TARGETS[:, 3] = 7
TARGETS[15, 5] = 8  # in no row of the first batch
DATA = Encoded(torch.arange(120).reshape(20, 6) % 30, TARGETS, {})


class Clock:
    """Stands still until a network is called, which takes as long as the test says."""

    def __init__(self) -> None:
        self.now = 0.0
        self.shapes: list[tuple[int, ...]] = []
        overrides = {"layers": 1, "width": 32, "heads": 2}
        self.model = FromConfig().load(ModelRequest("gpt2-nano", 30, 16, pad_token_id=0, overrides=overrides)).model

    def read(self) -> float:
        return self.now

    def taking(self, *seconds: float) -> Callable[..., Any]:
        """The model, which takes so long at each of its calls, and from then on as long as at the last."""
        left = list(seconds)

        def call(**inputs: Any) -> Any:
            self.now += left.pop(0) if len(left) > 1 else left[0]
            self.shapes.append(tuple(inputs["input_ids"].shape))
            return self.model(**inputs)

        return call

    def tried(self, *seconds: float, size: int = 10, processes: Processes | None = None) -> None:
        """The trial of a compiled model that takes so long, where a plain step takes 1."""
        plain = self.model.transformer.register_forward_pre_hook(self._one, with_kwargs=True)
        try:
            call = self.taking(*seconds)
            try_compiled(self.model, call, DATA, size, "float32", processes=processes or Processes(), clock=self.read)
        finally:
            plain.remove()

    def _one(self, module: Any, args: Any, kwargs: Any) -> None:
        self.now += 1.0


def test_slower_steps_are_refused_with_the_ratio() -> None:
    with pytest.raises(UserError, match=r"--compile: compiled steps take 1\.20 times as long as plain ones here"):
        Clock().tried(60.0, 0.2)  # beside the plain model's own second


@pytest.mark.parametrize("beside", [0.0, 0.04])
def test_steps_that_are_not_slower_go_on(beside: float) -> None:
    Clock().tried(60.0, beside)


def test_one_disturbed_step_decides_nothing() -> None:
    Clock().tried(60.0, 0.0, 9.0, 9.0)
    with pytest.raises(UserError, match=r"1\.50 times"):
        Clock().tried(60.0, 0.5, 9.0, 9.0)


def test_compiled_steps_have_one_shape_and_leave_nothing_behind() -> None:
    clock = Clock()
    clock.model.register_buffer("seen", torch.zeros(1))

    def count(*_: Any) -> None:
        clock.model.seen.add_(1)

    clock.model.transformer.register_forward_hook(count)
    before = copy.deepcopy(clock.model.state_dict())
    clock.tried(60.0, 0.0)
    assert set(clock.shapes) == {(10, 6)}
    assert all(torch.equal(before[name], value) for name, value in clock.model.state_dict().items())
    assert all(p.grad is None for p in clock.model.parameters()) and not clock.model.training


def test_processes_try_their_part_and_agree() -> None:
    class Second(Processes):
        def agree(self, value: Any) -> Any:
            return 0.9  # what the first has found

    clock = Clock()
    clock.tried(60.0, 5.0, processes=Second(1, 2))
    assert set(clock.shapes) == {(5, 6)}
