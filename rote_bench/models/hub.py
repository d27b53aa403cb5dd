"""Names on the hub: where the cache keeps what was fetched of them, and whether the hub knows them."""

from __future__ import annotations

from pathlib import Path

from ..errors import UserError


def cached(path: str, revision: str | None) -> Path | None:
    """The folder in which the cache keeps a model."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        file = try_to_load_from_cache(path, "config.json", revision=revision)
    except HFValidationError:  # no name of a model; the library says so
        return None
    return Path(file).parent if isinstance(file, str) else None


def commit(path: str, revision: str | None) -> str | None:
    """The commit under which the cache keeps a model."""
    place = cached(path, revision)
    return None if place is None else place.name


def check_hub(path: str, revision: str | None) -> None:
    """Ask the hub once for a name that is not in the local cache, and say plainly when it does not answer.

    Raises:
        UserError: when it does not know the name, or cannot be asked.
    """
    import os

    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

    missing = f"{path!r} is neither a folder nor in the local cache"
    if constants.HF_HUB_OFFLINE or os.environ.get("TRANSFORMERS_OFFLINE"):
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
