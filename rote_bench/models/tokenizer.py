"""Tokenizers of pretrained weights, and what is said of files that could not be loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import UserError
from ..paths import of_user
from .folder import tokenizer_missing, tokenizer_needs


def read_tokenizer(source: str, path: str, place: Path | None, common: dict[str, Any], *, offline: bool) -> Any:
    """The tokenizer of a folder or a name on the hub.

    Args:
        path: what the user calls it.
        place: the folder that it is read from, where it is known.
        offline: ask nobody.

    Raises:
        UserError: when it cannot be read. Offline, what is no fault of a folder's goes through as it is.
    """
    from transformers import AutoTokenizer

    if place is not None and not common["trust_remote_code"]:
        _check_tokenizer(place, path)
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, local_files_only=offline, **common)
    except Exception as error:  # whatever the libraries below make of files that are not as they expect
        if place is None and offline and isinstance(error, OSError | ValueError):
            raise
        raise unloadable(path, error, "its tokenizer cannot be read: ") from error
    if not {*tokenizer.get_vocab()} - {*map(str, tokenizer.get_added_vocab())}:
        raise _without_tokenizer(path)
    return tokenizer


def check_pad(tokenizer: Any, model: Any) -> None:
    """Pad with a token that the model has: padding is never read, but it is looked up."""
    from .wrapped import words_of

    rows = words_of(model)
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id >= rows:
        end = tokenizer.eos_token_id
        tokenizer.pad_token = tokenizer.eos_token if end is not None and end < rows else None


def _check_tokenizer(place: Path, path: str) -> None:
    """Whether a folder has a tokenizer, and what reads it is installed.

    Raises:
        UserError: naming the package.
    """
    from importlib.util import find_spec

    if tokenizer_missing(place):
        raise _without_tokenizer(path)
    needed = tokenizer_needs(place)
    if needed is not None and find_spec(needed[1].replace("-", "_")) is None:
        raise UserError(
            f"cannot load {path!r}: its tokenizer is {needed[0]}, which {needed[1]} reads",
            where="--model",
            hint=f"pip install {needed[1]}, or put the tokenizer.json of the same model beside it",
        )


def _without_tokenizer(path: str) -> UserError:
    return UserError(
        f"cannot load {path!r}: it has no tokenizer",
        where="--model",
        hint="save one into the folder with tokenizer.save_pretrained()",
    )


def unloadable(path: str, error: Exception, what: str = "") -> UserError:
    """What is wrong with files that could not be loaded, and what to do about it."""
    reason = " ".join(str(error).split())[:300].rstrip(": ")
    if not isinstance(error, OSError | ValueError) or not reason:
        reason = f"{type(error).__name__}: {reason}"
    hint = "a folder needs config.json, a tokenizer and weights in safetensors"
    place = of_user(path)
    pickled = sorted(p.name for pattern in ("*.bin", "*.pt", "*.pth") for p in place.glob(pattern))
    if "trust_remote_code" in str(error):
        what, reason = "", "it comes with code of its own"
        hint = "read that code, then add --trust-remote-code to let it run"
    elif pickled and not any(place.glob("*.safetensors")):
        what, reason = "", f"its weights are pickled ({pickled[0]}), and loading those can run code"
        hint = "save them with save_pretrained(), which writes safetensors"
    return UserError(f"cannot load {path!r}: {what}{reason}", where="--model", hint=hint)
