"""What the anatomy finds in one model, or in every architecture."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..errors import UserError
from .load import ModelProvider, ModelRequest


def check(
    name: str, providers: Iterable[ModelProvider], *, device: str = "cpu", trust_remote_code: bool = False
) -> dict[str, Any]:
    """Load a model and prove its structure.

    ``proved``: every proof holds that diagnostics of blocks and lens need. ``refused``: the model cannot be used, for
    the reason given. ``failed``: it could not even be built.

    Raises:
        UserError: when no provider knows the name.
    """
    from transformers.utils import logging as transformers_logging

    from .anatomy import Anatomy
    from .names import parse

    transformers_logging.set_verbosity_error()
    provider = next((p for p in providers if p.matches(name)), None)
    if provider is None:
        parse(name)
        raise UserError(f"no provider knows the model {name!r}", where="MODEL")
    request = ModelRequest(
        name,
        vocab_size=128,
        max_length=32,
        pad_token_id=0,
        eos_token_id=2,
        device=device,
        trust_remote_code=trust_remote_code,
    )
    result: dict[str, Any] = {
        "model_type": "",
        "name": name,
        "status": "failed",
        "reason": None,
        "parameters": None,
        "checks": {},
    }
    try:
        loaded = provider.load(request)
    except UserError:
        raise
    except Exception as error:  # any architecture's own code may fail on a configuration; that is the answer
        result["reason"] = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        return result
    result["model_type"] = loaded.model_type
    result["parameters"] = sum(p.numel() for p in loaded.model.parameters())
    try:
        anatomy = Anatomy.of(loaded.model)
    except UserError as error:
        result.update(status="refused", reason=str(error))
        return result
    result["checks"] = {key: {"ok": c.ok, "detail": c.detail} for key, c in anatomy.checks.items()}
    missing = [key for key in ("causal", "right_padding", "no_op", "last_block", "lens") if not anatomy.checks[key].ok]
    result["status"] = "refused" if missing else "proved"
    result["reason"] = "; ".join(f"{key}: {anatomy.checks[key].detail}" for key in missing) or None
    return result
