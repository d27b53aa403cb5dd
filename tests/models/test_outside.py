"""What a model keeps outside of its state: found before training where it counts, and after it where it waited."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from rote_bench.errors import UserError
from rote_bench.models.outside import check_kept, copied, left_out
from rote_bench.models.wrapped import causal
from tests.models.loose import Plain


class Warming(Plain):
    """Its blocks open with the count of its training steps, which begins to matter after some."""

    def __init__(self, after: int = 0) -> None:
        super().__init__(20)
        self.steps, self.after = 0, after

    def forward(self, ids: Tensor) -> Tensor:
        self.steps += self.training
        logits: Tensor = super().forward(ids)
        return logits * (1 + 0.01 * max(0, self.steps - self.after))


class Counting(Plain):
    """The same count in a buffer."""

    count: Tensor

    def __init__(self, *, persistent: bool) -> None:
        super().__init__(20)
        self.register_buffer("count", torch.zeros(()), persistent=persistent)

    def forward(self, ids: Tensor) -> Tensor:
        if self.training:
            self.count += 1
        logits: Tensor = super().forward(ids)
        return logits * (1 + 0.01 * self.count)


class Remembering(Plain):
    """It keeps of its last batch what its answers do not need."""

    def forward(self, ids: Tensor) -> Tensor:
        logits: Tensor = super().forward(ids)
        self.seen, self.loss = ids, logits.mean()
        return logits


class Locked(Plain):
    def __init__(self) -> None:
        super().__init__(20)
        self.lock = threading.Lock()


class Failing(Plain):
    def forward(self, ids: Tensor) -> Tensor:
        if self.training:
            raise ValueError("no targets")
        logits: Tensor = super().forward(ids)
        return logits


IDS = torch.randint(0, 20, (2, 7), generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (Warming, r"Warming answers by something \(steps\) that training changes"),
        (lambda: Counting(persistent=False), r"Counting answers by something \(count\) that training changes"),
        (Locked, "Locked cannot be copied: .*lock"),
        (lambda: Failing(20), "Failing fails in a step of training: .*no targets"),
    ],
)
def test_what_no_snapshot_would_hold_is_refused_before_training(make: Callable[[], nn.Module], said: str) -> None:
    with pytest.raises(UserError, match=said):
        check_kept(causal(make().eval(), "it"), IDS)


@pytest.mark.parametrize(
    "make",
    [lambda: Plain(20), lambda: Counting(persistent=True), lambda: Remembering(20), lambda: Plain(20).bfloat16()],
)
def test_what_a_snapshot_holds_or_nobody_asks_for_is_let_be_and_left_as_it_was(make: Callable[[], nn.Module]) -> None:
    model = causal(make().eval(), "it")
    before, rng = {k: v.clone() for k, v in model.state_dict().items()}, torch.get_rng_state()
    check_kept(model, IDS)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert torch.equal(rng, torch.get_rng_state())
    assert not model.training and all(p.grad is None for p in model.parameters())


def test_what_waits_is_found_when_it_counts() -> None:
    model = causal(Warming(after=5).eval(), "it")
    check_kept(model, IDS)
    fresh = copied(model)
    with torch.no_grad():
        for _ in range(4):
            model.train()(input_ids=IDS)
    assert left_out(model, copied(fresh), IDS) is None
    with torch.no_grad():
        for _ in range(4):
            model.train()(input_ids=IDS)
    fault = left_out(model, copied(fresh), IDS)
    assert fault is not None and "(steps)" in fault
