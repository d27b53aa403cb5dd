"""How large models are, before any of their cells is run: by that, cells are given threads and memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from ..errors import UserError
from ..machine import LARGE, count_cores
from ..models.names import SIZES, parse
from ..strangers import contained

if TYPE_CHECKING:
    from ..plugins import Registry

Size: TypeAlias = "Callable[[str, Mapping[str, Any]], float | None]"


def approximate_size(model: str, overrides: Mapping[str, Any]) -> float | None:
    """Rough number of parameters of a model made from scratch, 12 x layers x width squared; None of any other."""
    try:
        name = parse(model)
    except UserError:  # a plugin's model
        return None
    if name.source != "scratch":
        return None
    size = SIZES[name.size]
    layers, width = overrides.get("layers", size.layers), overrides.get("width", size.width)
    return float(12 * layers * width**2)


def built_size(registry: Registry) -> Size:
    """The same, and of a plugin's model the parameters that it has when it is built, once for equal settings.

    One that cannot be built by itself, without a task, has no size.
    """
    known: dict[str, float | None] = {}

    def size(model: str, overrides: Mapping[str, Any]) -> float | None:
        found = approximate_size(model, overrides)
        if found is not None or model.startswith("hf:"):
            return found
        key = f"{model} {sorted(overrides.items())}"
        if key not in known:
            known[key] = _built(registry, model, overrides)
        return known[key]

    return size


def _built(registry: Registry, model: str, overrides: Mapping[str, Any]) -> float | None:
    from ..models.load import ModelRequest

    request = ModelRequest(model, 512, 64, pad_token_id=0, eos_token_id=2, overrides=overrides, needs_tokenizer=False)
    try:
        with contained():
            loaded = registry.provider(model).load(request)
        return float(sum(parameter.numel() for parameter in loaded.model.parameters()))
    except Exception:  # whatever a plugin's code raises, its cells will say
        return None


def threads_for(size: float | None, workers: int | None) -> int:
    """One for a small model; for a large one or one of unknown size all cores, or this worker's part of them."""
    if size is not None and size < LARGE:
        return 1
    return max(1, count_cores() // (workers or 1))
