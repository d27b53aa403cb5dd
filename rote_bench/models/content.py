"""What weights and tokenizers hash to, so that one name never stands for two contents."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..hashing import digest, sha256
from ..paths import of_user
from .folder import is_adapter

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerBase


def of_files(place: Path) -> str:
    """The hash of local weights: a folder trained further must not pass for what it was."""
    files = sorted(place.glob("*.safetensors")) if place.is_dir() else [place]
    return f"sha256:{digest([sha256(file) for file in files])}"


def of_snapshot(folder: str) -> str:
    """The hash of a snapshot's weights and configuration; the name itself where it is no folder here.

    Of an adapter, its own and that of the base that it names.

    Raises:
        UserError: when an adapter's base is not there.
    """
    place = of_user(folder)
    if not place.is_dir():
        return folder
    if is_adapter(place):
        from .adapters import base_of, of_adapter

        return f"{of_adapter(place)}+{of_snapshot(base_of(place, name=folder, where='--snapshot'))}"
    config = place / "config.json"
    return f"{of_files(place)}+{sha256(config)[:12] if config.is_file() else 'none'}"


def of_state(model: nn.Module) -> str:
    """The hash of all parameters and buffers in memory, by name, type and shape."""
    return of_tensors(model.state_dict())


def of_tensors(state: Mapping[str, Any]) -> str:
    """The hash of tensors by name, type and shape; what is none is left out."""
    import torch

    hasher = hashlib.sha256()
    for name, value in sorted(state.items()):
        if not isinstance(value, torch.Tensor):
            continue
        hasher.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        hasher.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return f"sha256:{hasher.hexdigest()}"


def of_tokenizer(tokenizer: PreTrainedTokenizerBase) -> str:
    """The hash of what a tokenizer makes of text: its whole pipeline where that is known, and its special tokens."""
    core = getattr(tokenizer, "backend_tokenizer", None)
    rules = core.to_str() if core is not None else sorted(tokenizer.get_vocab().items())
    special = {name: str(token) for name, token in tokenizer.special_tokens_map.items()}
    return f"sha256:{digest([rules, special])}"


def of_code(place: Path | None, *things: object) -> str | None:
    """The hash of code that came with a model and may run: of its folder, and of the modules of what it made.

    Args:
        things: the model and its tokenizer.
    """
    import sys

    packages = {
        kind.__module__.rpartition(".")[0] + "."
        for thing in things
        for kind in (type(thing), type(getattr(thing, "config", None)))
        if kind.__module__.startswith("transformers_modules.")
    }
    files = [Path(m.__file__) for n, m in sys.modules.items() if n.startswith(tuple(packages)) and m.__file__]
    files += place.rglob("*.py") if place is not None and place.is_dir() else []
    return f"sha256:{digest(sorted(sha256(file) for file in files))}" if files else None
