"""Names on the hub: where the cache keeps what was fetched of them, and whether the hub knows them."""

from __future__ import annotations

from pathlib import Path

from ..errors import UserError
from .folder import ADAPTER

OF_ADAPTER = ("*.json", "*.safetensors", "*.txt", "*.model", "*.jinja")  # files that an adapter may need


def cached(path: str, revision: str | None, file: str = "config.json") -> Path | None:
    """The folder in which the cache keeps a model.

    Args:
        file: by which it is recognised.
    """
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(path, file, revision=revision)
    except HFValidationError:  # no name of a model; the library says so
        return None
    return Path(found).parent if isinstance(found, str) else None


def commit(path: str, revision: str | None, file: str = "config.json") -> str | None:
    """The commit under which the cache keeps a model; see ``cached``."""
    place = cached(path, revision, file)
    return None if place is None else place.name


def fetched_adapter(path: str, revision: str | None) -> Path | None:
    """The folder in which the cache keeps an adapter, fetched where it does not; None for a name that is none."""
    from huggingface_hub import hf_hub_download, snapshot_download

    kept = cached(path, revision, ADAPTER)
    if (kept is None and cached(path, revision) is not None) or (kept is not None and any(kept.glob("*.safetensors"))):
        return kept
    if _switched_off():
        return kept
    try:
        hf_hub_download(path, ADAPTER, revision=revision)
        return Path(snapshot_download(path, revision=revision, allow_patterns=list(OF_ADAPTER)))
    except Exception:  # a name that is no adapter's, or not known, or nobody answers: said by what looks for a model
        return kept


def _switched_off() -> bool:
    import os

    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE or os.environ.get("TRANSFORMERS_OFFLINE"))


def check_hub(path: str, revision: str | None) -> None:
    """Ask the hub once for a name that is not in the local cache, and say plainly when it does not answer.

    Raises:
        UserError: when it does not know the name, or cannot be asked.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

    missing = f"{path!r} is neither a folder nor in the local cache"
    if _switched_off():
        raise UserError(
            f"{missing}, and the hub is switched off", where="--model", hint="unset HF_HUB_OFFLINE to ask it"
        )
    try:
        HfApi().model_info(path, revision=revision, timeout=10)
    except (RepositoryNotFoundError, RevisionNotFoundError):
        raise UserError(
            f"{missing}, and the hub does not know it", where="--model", hint="is the name right?"
        ) from None
    except HfHubHTTPError as error:
        raise UserError(f"{missing}, and the hub refused: {error}", where="--model") from None
    except Exception as error:  # the network layers below raise what they like when nothing answers
        raise UserError(
            f"{missing}, and the hub cannot be reached ({type(error).__name__})",
            where="--model",
            hint="give a folder, as in hf:./my-model",
        ) from error
