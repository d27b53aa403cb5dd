"""Data-parallel training: several processes, each with a part of every batch, as ``accelerate launch`` starts them.

The processes hold the same weights and see the same batches; gradients are summed over all of them, so that a run
with several processes follows the same curve as a run with one. Only the first process evaluates, writes and diagnoses.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Processes:
    """This process among all.

    Attributes:
        rank: its number, from 0.
        count: how many there are.
    """

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this process evaluates, writes and diagnoses."""
        return self.rank == 0

    def part(self, batch: Any) -> Any:
        """This process's rows of a batch."""
        return batch[self.rank :: self.count]

    def sum_gradients(self, parameters: Sequence[Any]) -> None:
        """Add up the gradients of all processes, in place, in one message per type of number."""
        if self.count == 1:
            return
        import torch
        from torch import distributed

        for p in parameters:
            if p.grad is None and p.requires_grad:
                p.grad = torch.zeros_like(p)
        by_type: dict[Any, list[Any]] = {}
        for p in parameters:
            if p.grad is not None:
                by_type.setdefault(p.grad.dtype, []).append(p.grad)
        for gradients in by_type.values():
            flat = torch.cat([g.flatten() for g in gradients])
            distributed.all_reduce(flat)
            start = 0
            for g in gradients:
                g.copy_(flat[start : start + g.numel()].view_as(g))
                start += g.numel()

    def sum(self, value: Any) -> Any:
        """The sum of a tensor over all processes."""
        if self.count == 1:
            return value
        from torch import distributed

        total = value.clone()
        distributed.all_reduce(total)
        return total

    def agree(self, value: T) -> T:
        """What the first process says."""
        if self.count == 1:
            return value
        from torch import distributed

        box = [value]
        distributed.broadcast_object_list(box, src=0)
        return box[0]

    def any(self, flag: bool, device: str) -> bool:
        """Whether the flag is set in any process."""
        if self.count == 1:
            return flag
        import torch

        return bool(self.sum(torch.tensor(float(flag), device=device)) > 0)


def join(device: str) -> tuple[Processes, str]:
    """Join the other processes that the environment speaks of (``WORLD_SIZE``, ``RANK``, ``LOCAL_RANK``).

    Args:
        device: ``auto``, ``cpu`` or ``cuda``.

    Returns:
        This process among all, and the device that it should use.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        return Processes(), device
    import torch
    from torch import distributed

    gpu = device != "cpu" and torch.cuda.is_available()
    if gpu:
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
        torch.cuda.set_device(device)
    if not distributed.is_initialized():
        # the others wait in the next cell while the first process diagnoses this one
        distributed.init_process_group("nccl" if gpu else "gloo", timeout=timedelta(days=2))
    return Processes(distributed.get_rank(), distributed.get_world_size()), device if gpu else "cpu"


def leave() -> None:
    """Part from the other processes, where there are any."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return
    from torch import distributed

    if distributed.is_initialized():
        distributed.destroy_process_group()
