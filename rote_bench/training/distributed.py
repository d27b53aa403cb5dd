"""Data-parallel training: several processes, each with a part of every batch, as ``accelerate launch`` starts them.

The processes hold the same weights and see the same batches; gradients are summed over all of them, so that a run
with several processes follows the same curve as a run with one. Only the first process evaluates, writes and diagnoses.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

from ..errors import UserError

T = TypeVar("T")

PATIENCE = timedelta(minutes=10)  # for the others to come
SILENCE = 5.0  # seconds after which waiting is said
ALONE = "to train in one process, unset WORLD_SIZE and RANK"


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


def several() -> int:
    """How many processes train together, by what their launcher has put into the environment.

    ``WORLD_SIZE`` alone says nothing: schedulers set it too. A launcher also says which process this is, and where to
    meet the others.

    Raises:
        UserError: when it says which process this is, but not where the others are.
    """
    count, rank = _number("WORLD_SIZE"), _number("RANK")
    if count is None or count == 1 or rank is None:
        return 1
    missing = [name for name in ("MASTER_ADDR", "MASTER_PORT") if not os.environ.get(name)]
    if count < 1 or not 0 <= rank < count:
        raise UserError(f"WORLD_SIZE is {count} and RANK {rank}", where="environment", hint=ALONE)
    if missing:
        raise UserError(
            f"WORLD_SIZE and RANK speak of {count} processes, but {' and '.join(missing)} do not say where they meet",
            where="environment",
            hint=f"start them with torchrun or accelerate launch; {ALONE}",
        )
    return count


def remark() -> str | None:
    """What is to be said of an environment that speaks of several processes though this one trains alone."""
    said = os.environ.get("WORLD_SIZE")
    if said is None or said.strip() == "1" or several() > 1:
        return None
    why = "is no number" if _number("WORLD_SIZE") is None else "is set without a RANK"
    return f"WORLD_SIZE={said} {why} and is ignored: this process trains alone"


def _number(name: str) -> int | None:
    try:
        return int(os.environ[name])
    except (KeyError, ValueError):
        return None


def join(device: str, say: Callable[[str], object] = lambda text: None) -> tuple[Processes, str]:
    """Join the other processes that the environment speaks of (``WORLD_SIZE``, ``RANK``, ``LOCAL_RANK``).

    Args:
        device: ``auto``, ``cpu`` or ``cuda``.
        say: told when the others let this one wait.

    Returns:
        This process among all, and the device that it should use.

    Raises:
        UserError: when the others cannot be found, or do not come.
    """
    count = several()
    if count == 1:
        return Processes(), device
    import torch
    from torch import distributed

    gpu = device != "cpu" and torch.cuda.is_available()
    if gpu:
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
        torch.cuda.set_device(device)
    if not distributed.is_initialized():
        _meet(count, "nccl" if gpu else "gloo", say)
    return Processes(distributed.get_rank(), distributed.get_world_size()), device if gpu else "cpu"


def _meet(count: int, backend: str, say: Callable[[str], object]) -> None:
    """Wait for the other processes, for so long as it takes to start them."""
    from torch import distributed
    from torch.distributed.rendezvous import rendezvous

    place = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
    waiting = f"process {os.environ['RANK']} of {count} waits for the others at {place} ({PATIENCE} at most; {ALONE})"
    alarm = threading.Timer(SILENCE, say, (waiting,))
    alarm.daemon = True
    alarm.start()
    try:
        store, rank, size = next(iter(rendezvous("env://", timeout=PATIENCE)))
        # the others wait in the next cell while the first process diagnoses this one
        distributed.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=timedelta(days=2))
    except (RuntimeError, ValueError, OSError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise UserError(
            f"the {count} processes did not meet at {place}: {reason}", where="environment", hint=ALONE
        ) from error
    finally:
        alarm.cancel()


def leave() -> None:
    """Part from the other processes, where there are any."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.distributed.is_available() and torch.distributed.is_initialized() and several() > 1:
        torch.distributed.destroy_process_group()
