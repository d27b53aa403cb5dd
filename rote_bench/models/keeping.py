"""Models to disk and back, whatever they are, and the same architecture with weights that learned nothing."""

from __future__ import annotations

import copy
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UserError
from ..strangers import reason_of
from . import lora
from .lora import is_adapted
from .outside import KEEP, WHERE, alike, copied
from .wrapped import Wrapped, class_of

WEIGHTS = "model.safetensors"
OF_MODULE = "module_class"  # in the config.json of a snapshot that is a module's own weights


def save(model: Any, folder: Path, builder: str | None = None) -> None:
    """Write a snapshot: what ``save_pretrained`` writes, or the module's own weights as safetensors.

    The latter is so with a module that is none of transformers, or that was changed after its configuration had made
    it, and with a class of somebody else's whose own way to save itself fails. Its ``config.json`` names its class, and
    what the source of it and of its builder hashes to.

    Of a model whose adapter is trained it is the adapter alone, which names its base.

    Args:
        builder: that hash.
    """
    from safetensors.torch import save_model

    if is_adapted(model) and builder is None:  # an adapter on a model of Python's has no base that it could name
        lora.save(model, folder)
        return
    if not isinstance(model, Wrapped) and (builder is None or _as_configured(model)):
        try:
            model.save_pretrained(folder)
            return
        except Exception:  # weights that are shared and not declared, or whatever else a stranger's class has wrong
            if _of_transformers(model):
                raise
    folder.mkdir(parents=True, exist_ok=True)
    inner = _inner(model)
    save_model(inner, str(folder / WEIGHTS), metadata={"format": "pt"})
    said = {**model.config.to_dict(), OF_MODULE: class_of(inner), "builder": builder}
    (folder / "config.json").write_text(json.dumps(said, indent=2, allow_nan=False, default=str) + "\n")


def _inner(model: Any) -> nn.Module:
    inner: nn.Module = model.inner if isinstance(model, Wrapped) else model
    return inner


def _of_transformers(model: Any) -> bool:
    return type(model).__module__.startswith(("transformers.", "transformers_modules."))


def check_saved(model: Any, ids: Tensor, builder: str | None = None) -> None:
    """Whether a snapshot of a model opens, and answers as the model does.

    Args:
        ids: (batch, length) of the questions asked of both.
        builder: as for ``save``.

    Raises:
        UserError: when it does not.
    """
    name = type(_inner(model)).__name__
    read = copied(model)  # saving writes into configurations
    with tempfile.TemporaryDirectory() as folder:
        try:
            save(read, Path(folder) / "snapshot", builder)
            with torch.no_grad():
                for parameter in read.parameters():
                    parameter.zero_()
            read.load_state_dict(saved_state(Path(folder) / "snapshot", model))
        except Exception as error:  # whatever a class of a stranger's raises
            reason = reason_of(error, 200).replace(f"{folder}{os.sep}", "")
            hint = "let state_dict() hold all weights, under the names that load_state_dict() takes"
            raise UserError(f"a snapshot of {name} does not open: {reason}", where=WHERE, hint=hint) from error
    if not alike(model, read, ids):
        raise UserError(f"a snapshot of {name} answers otherwise than the model itself", where=WHERE, hint=KEEP)


def _as_configured(model: Any) -> bool:
    """Whether the configuration of a model of transformers makes one with the same weights."""
    try:
        with torch.device("meta"):
            made = type(model)(copy.deepcopy(model.config))
    except Exception:  # a class of a stranger's that is made of more than a configuration
        return False
    return _shapes(made) == _shapes(model)


def _shapes(model: nn.Module) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in model.state_dict().items()}


def of_module(folder: Path) -> str | None:
    """The class whose own weights a snapshot is; None of one that transformers can read by itself."""
    try:
        said = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    kind = said.get(OF_MODULE) if isinstance(said, dict) else None
    return kind if isinstance(kind, str) else None


def saved_state(folder: Path, model: Any) -> Mapping[str, Tensor]:
    """Parameters and buffers of a model of the same class that was saved to a folder.

    Raises:
        UserError: when it does not hold all weights of that model.
    """
    try:
        if is_adapted(model) and of_module(folder) is None:
            return lora.saved_state(folder, model)
        if not _of_transformers(model) or of_module(folder) is not None:
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
    if seen["missing_keys"] or {name: value.shape for name, value in state.items()} != _shapes(model):
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
    if not _of_transformers(model) or of_module(folder) is not None:
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
    again = getattr(model, "again", None)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if again is not None:
            fresh: Any = copy.deepcopy(model)
            _inner(fresh).load_state_dict(again(seed).state_dict())
        else:
            fresh = _from_configuration(model)
        if fresh is None:
            fresh = _shuffled(copy.deepcopy(model))
    fresh.to(next(model.parameters()).device)
    like = dict(model.named_parameters())
    for name, parameter in fresh.named_parameters():
        if name in like and like[name].is_floating_point():
            parameter.requires_grad_(like[name].requires_grad)
    return fresh.eval()


def _from_configuration(model: Any) -> Any:
    """Another model with the weights of one of transformers, at random; None where its configuration makes none."""
    from transformers import PreTrainedModel

    if not isinstance(model, PreTrainedModel):
        return None
    try:
        fresh = type(model)(model.config)
    except Exception:  # a class of a stranger's that is made of more than a configuration
        return None
    return fresh if _shapes(fresh) == _shapes(model) else None


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
