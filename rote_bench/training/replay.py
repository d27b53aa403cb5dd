"""A training step recorded once as a CUDA graph and replayed: small models spend their time on starting kernels."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

WARM_UP = 2  # steps before recording, in which libraries set themselves up


class Replayed:
    """A function of tensors, recorded for their shapes; where that fails, or does something else, called as it is.

    Args:
        step: changes ``state`` and returns a tensor; works on what it is given, and asks the device for nothing.
        inputs: of the shapes that all calls will have.
        state: all that the step changes, which recording leaves as it was.
        warn: told why nothing could be recorded.
    """

    def __init__(
        self,
        step: Callable[..., Tensor],
        inputs: Sequence[Tensor],
        state: Sequence[Tensor],
        warn: Callable[[str], None],
    ) -> None:
        self.step, self.device = step, state[0].device
        self.graph: torch.cuda.CUDAGraph | None = None
        self.inputs = [each.to(self.device, copy=True) for each in inputs]
        before = [each.clone() for each in state]

        def restore() -> None:
            for each, was in zip(state, before, strict=True):
                each.copy_(was)

        try:
            graph, self.output = self._record()
            restore()
            wanted = [self.step(*self.inputs).clone(), *(each.clone() for each in state)]
            restore()
            graph.replay()
            if all(_close(a, b) for a, b in zip((self.output, *state), wanted, strict=True)):
                self.graph = graph
            else:
                warn("steps are not recorded as a CUDA graph: a recorded one does something else")
        except RuntimeError as error:
            warn(f"steps are not recorded as a CUDA graph: {str(error).strip().splitlines()[0]}")
        finally:
            restore()

    def _record(self) -> tuple[torch.cuda.CUDAGraph, Tensor]:
        beside = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
        beside.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(beside):
            for _ in range(WARM_UP):
                self.step(*self.inputs)
        torch.cuda.current_stream(self.device).wait_stream(beside)
        torch.cuda.empty_cache()  # what the warm-up took, the recording takes again for itself
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            output = self.step(*self.inputs)
        return graph, output

    def __call__(self, *inputs: Tensor) -> Tensor:
        for own, given in zip(self.inputs, inputs, strict=True):
            own.copy_(given, non_blocking=True)
        if self.graph is None:
            return self.step(*self.inputs)
        self.graph.replay()
        return self.output.clone()


def _close(a: Tensor, b: Tensor) -> bool:
    """Whether two results of one step differ by no more than its arithmetic rounds."""
    apart, size = (a - b).float().nan_to_num().norm(), b.float().nan_to_num().norm()
    return bool((a.isnan() == b.isnan()).all()) and bool(apart <= 1e-2 * size + 1e-6)
