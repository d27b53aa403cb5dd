"""Logits of some positions only: those that nobody reads cost more than the blocks where a vocabulary is large."""

from __future__ import annotations

import inspect
from typing import Any
from weakref import WeakSet

from .probe import Probe

PARAMETER = "logits_to_keep"
# Entries of a vocabulary. With fewer there is little to save, and the unembedding's gradient, a sum over fewer rows,
# would move in its last bits, and with it every curve.
WORTH_FROM = 1024

_selective: WeakSet[Any] = WeakSet()


def prove(model: Any, probe: Probe) -> bool:
    """Find out whether a model gives the same logits when it is asked for those of some positions alone.

    What was found is remembered for ``selective``; a small vocabulary counts as no.

    Args:
        probe: of the model, with its logits at all positions.
    """
    if probe.logits.shape[-1] < WORTH_FROM or PARAMETER not in inspect.signature(model.forward).parameters:
        return False
    length = probe.ids.shape[1]
    choices = [[length - 1], list(range(1, length, 2))]
    for columns in (probe.ids.new_tensor(choice) for choice in choices):
        asked = model(input_ids=probe.ids, **{PARAMETER: columns}).logits
        if not probe.near(asked, probe.logits[:, columns]):
            return False
    _selective.add(model)
    return True


def share(model: Any, other: Any) -> None:
    """What was proved of a model holds for another that computes the same: of other weights, or compiled."""
    if model in _selective:
        _selective.add(other)


def selective(model: Any) -> bool:
    """Whether a model was proved to give the logits of some positions alone, and that is worth asking for."""
    return model in _selective
