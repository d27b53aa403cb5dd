"""Models to disk and back, whatever they are, and the same architecture with weights that learned nothing."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UserError
from . import lora
from .lora import is_adapted
from .wrapped import Wrapped

WEIGHTS = "model.safetensors"


def save(model: Any, folder: Path, builder: str | None = None) -> None:
    """Write a snapshot: what ``save_pretrained`` writes, or the module's own weights as safetensors.

    The latter is so with a module that is none of transformers, whose ``config.json`` names its class, and what the
    source of it and of its builder hashes to; and with a class of somebody else's whose own way to save itself fails.

    Of a model whose adapter is trained it is the adapter alone, which names its base.

    Args:
        builder: that hash.
    """
    from safetensors.torch import save_model

    if is_adapted(model):
        lora.save(model, folder)
        return
    if not isinstance(model, Wrapped):
        try:
            model.save_pretrained(folder)
            return
        except Exception:  # weights that are shared and not declared, or whatever else a stranger's class has wrong
            if _of_transformers(model):
                raise
    folder.mkdir(parents=True, exist_ok=True)
    save_model(_inner(model), str(folder / WEIGHTS), metadata={"format": "pt"})
    said = {**model.config.to_dict(), "builder": builder}
    (folder / "config.json").write_text(json.dumps(said, indent=2, allow_nan=False, default=str) + "\n")


def _inner(model: Any) -> nn.Module:
    inner: nn.Module = model.inner if isinstance(model, Wrapped) else model
    return inner


def _of_transformers(model: Any) -> bool:
    return type(model).__module__.startswith(("transformers.", "transformers_modules."))


def saved_state(folder: Path, model: Any) -> Mapping[str, Tensor]:
    """Parameters and buffers of a model of the same class that was saved to a folder.

    Raises:
        UserError: when it does not hold all weights of that model.
    """
    try:
        if is_adapted(model):
            return lora.saved_state(folder, model)
        if not _of_transformers(model):
            own: Mapping[str, Tensor] = _read(folder, model).state_dict()
            return own
        saved, seen = type(model).from_pretrained(
            folder,
            dtype=next(model.parameters()).dtype,
            use_safetensors=True,
            local_files_only=True,
            attn_implementation=model.config._attn_implementation,
            output_loading_info=True,
        )
        state: Mapping[str, Tensor] = saved.state_dict()
    except Exception as error:  # whatever a class of a stranger's raises
        raise UserError(f"cannot be loaded: {' '.join(str(error).split())[:200]}", where=str(folder)) from error
    shapes = {name: value.shape for name, value in model.state_dict().items()}
    if seen["missing_keys"] or {name: value.shape for name, value in state.items()} != shapes:
        raise UserError("holds other weights than the model has", where=str(folder))
    return state


def opened(folder: Path, model: Any, *, name: str, where: str, trust_remote_code: bool = False) -> Any:
    """The model of a folder, of the same architecture as one that is here.

    Args:
        name: what the user calls the folder, or its name on the hub.
        where: the flag by which it was named.

    Raises:
        UserError: when it holds no weights of that architecture. What else is wrong, the libraries say.
    """
    if not _of_transformers(model):
        return _read(folder, model)
    from .weights import read

    return read(
        folder,
        name=name,
        where=where,
        dtype=next(model.parameters()).dtype,
        use_safetensors=True,
        local_files_only=True,
        trust_remote_code=trust_remote_code,
        attn_implementation=model.config._attn_implementation,
    )


def unlearned(model: Any, seed: int) -> Any:
    """The same architecture with weights that never learned anything, in evaluation mode where the model is.

    They are random where the model can be built anew, by its configuration or its function. Where only the object is
    known, its own numbers are shuffled within each tensor.
    """
    from transformers import PreTrainedModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if isinstance(model, Wrapped) and model.again is not None:
            fresh: Any = copy.deepcopy(model)
            fresh.inner.load_state_dict(model.again(seed).state_dict())
        elif isinstance(model, PreTrainedModel):
            fresh = type(model)(model.config)
        else:
            fresh = _shuffled(copy.deepcopy(model))
    return fresh.to(next(model.parameters()).device).eval()


def _read(folder: Path, model: Any) -> Any:
    """A copy of a model with the weights of a folder.

    Raises:
        UserError: when that has none.
    """
    from safetensors.torch import load_model

    if not (folder / WEIGHTS).is_file():
        raise UserError(f"holds no {WEIGHTS}", where=str(folder))
    read = copy.deepcopy(model)
    load_model(_inner(read), folder / WEIGHTS)
    return read


def _shuffled(model: nn.Module) -> nn.Module:
    with torch.no_grad():
        for parameter in model.parameters():
            flat = parameter.detach().reshape(-1)
            order = torch.randperm(flat.numel()).to(flat.device)
            parameter.copy_(flat[order].view_as(parameter))
    return model
