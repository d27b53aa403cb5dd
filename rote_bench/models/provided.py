"""What a provider gives, which a plugin may have written, held to what the harness relies on."""

from __future__ import annotations

from typing import Any, NoReturn, get_args

from ..errors import UserError
from ..strangers import reason_of
from .load import QUANTIZED, LoadedModel, ModelRequest
from .names import Source

WHERE = "--model"
TEXTS = ("revision", "weights", "tokenizer_content", "base", "builder", "code")


def provided(provider: Any, request: ModelRequest) -> LoadedModel:
    """The model that a provider makes.

    Raises:
        UserError: when the provider fails, or gives something else; what those of this package raise goes through.
    """
    try:
        loaded = provider.load(request)
    except UserError:
        raise
    except Exception as error:  # whatever a stranger's code raises
        if _own(provider):
            raise
        raise UserError(f"{_named(provider)} fails: {reason_of(error, 200)}", where=WHERE) from error
    check_loaded(provider, request, loaded)
    found: LoadedModel = loaded
    return found


def check_loaded(provider: Any, request: ModelRequest, loaded: Any) -> None:
    """Whether what a plugin's provider gave is a model with all that is said of one.

    Raises:
        UserError: naming what is not.
    """
    if _own(provider):
        return
    from torch import nn
    from transformers import PreTrainedTokenizerBase

    def refuse(what: str, hint: str) -> NoReturn:
        raise UserError(f"{_named(provider)} {what}", where=WHERE, hint=hint)

    if not isinstance(loaded, LoadedModel):
        refuse(f"gives {type(loaded).__name__}", "return a LoadedModel, which rote_bench.plugin has")
    if not isinstance(loaded.model, nn.Module):
        refuse(f"gives {type(loaded.model).__name__} for a model", "give a torch module")
    if loaded.tokenizer is not None and not isinstance(loaded.tokenizer, PreTrainedTokenizerBase):
        refuse(f"gives {type(loaded.tokenizer).__name__} for a tokenizer", "give one of transformers, or None")
    if loaded.source not in get_args(Source):
        refuse(f"gives the source {loaded.source!r}", "say plugin")
    if not isinstance(loaded.model_type, str) or not loaded.model_type:
        refuse(f"gives the model_type {loaded.model_type!r}", "say what kind of model it is")
    if not isinstance(loaded.trainable, bool):
        refuse(f"gives trainable={loaded.trainable!r}", "say True or False")
    for name in TEXTS:
        value = getattr(loaded, name)
        if value is not None and not isinstance(value, str):
            refuse(f"gives {name}={value!r}"[:200], "give a text, or None")
    first = next(loaded.model.parameters(), None)
    if first is None or request.dtype in QUANTIZED or not first.is_floating_point():
        return
    if str(first.dtype) != f"torch.{request.dtype}":
        refuse(f"gives weights of {first.dtype} where {request.dtype} is asked for", "model.to(request.dtype)")
    if first.device.type != request.device.partition(":")[0]:
        refuse(f"gives weights on {first.device} where {request.device} is asked for", "model.to(request.device)")


def _own(provider: Any) -> bool:
    return type(provider).__module__.startswith("rote_bench.")


def _named(provider: Any) -> str:
    return f"the provider {getattr(provider, 'name', type(provider).__name__)!r}"
