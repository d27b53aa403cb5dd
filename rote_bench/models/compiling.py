"""Training steps by torch.compile: on accelerators, and for models that spend them on many small operations."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch

from ..errors import UserError
from . import columns
from .statespace import keep_from_compiler


def compiled(model: Any) -> Callable[..., Any]:
    """The model's forward pass, compiled at its first call for that call's shapes; the model itself stays as it is.

    Hooks of the model are not run by it, so that only training may use it. On a processor the scan of a state-space
    model stays as ``statespace`` has it, which is faster than what the compiler makes of it.

    Raises:
        UserError: when nothing can be compiled here, as without a C++ compiler.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.compile(torch.sin)(torch.zeros(8))
    except Exception as error:  # the kinds of failure differ from one release of torch to the next
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"torch.compile does not work here: {reason}",
            where="--compile",
            hint="install a C++ compiler, or leave it out",
        ) from error
    if next(model.parameters()).device.type == "cpu":
        keep_from_compiler(model)
    quiet = _Quiet(torch.compile(model, dynamic=False))
    columns.share(model, quiet)
    return quiet


class _Quiet:
    """Without what the compiler warns of inside transformers, which nobody who trains a model can mend."""

    def __init__(self, call: Callable[..., Any]) -> None:
        self.call = call

    def __call__(self, **inputs: Any) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return self.call(**inputs)
