"""PEFT adapters: what their files hold, the base that they name, and both as one model."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..hashing import digest
from ..strangers import reason_of
from .content import of_files
from .folder import ADAPTER as CONFIG
from .folder import check_adapter, read_json
from .weights import check_whole

WEIGHTS = "adapter_model.safetensors"
# What a configuration says that no number hangs on: where the base lay, what the base is, and who wrote it down.
IDLE = ("base_model_name_or_path", "revision", "auto_mapping", "task_type", "peft_version", "inference_mode")
NEAR = 1e-3  # of the largest logit: more than float32 rounds away in any model, less than an adapter would change


def base_of(folder: Path, *, name: str, where: str) -> str:
    """The base that an adapter names: a folder, one that is named relatively being sought from the adapter, or a name.

    Args:
        name: what the user calls the adapter.
        where: the flag by which it was named.

    Raises:
        UserError: when it names none, the folder is not there, or files of the adapter are not what they are called.
    """
    check_adapter(folder, name=name, where=where)
    cannot = f"cannot load {name!r}"
    said = read_json(folder / CONFIG, cannot, where) or {}
    base, revision = said.get("base_model_name_or_path"), said.get("revision")
    if not isinstance(base, str) or not base.strip():
        raise UserError(
            f"{cannot}: its {CONFIG} does not name its base",
            where=where,
            hint="base_model_name_or_path is a folder, or a name on the hub",
        )
    place = folder / Path(base).expanduser()
    if place.is_dir():
        if (place / CONFIG).exists():
            raise UserError(f"{cannot}: its base {base!r} is an adapter itself", where=where, hint="merge that first")
        return str(place.resolve())
    if base.startswith((".", "/", "~")) or len(Path(base).parts) > 2:
        raise UserError(
            f"{cannot}: its base {base!r} is not there",
            where=where,
            hint=f"base_model_name_or_path in {CONFIG} is a folder, sought from the adapter's, or a name on the hub",
        )
    return f"{base}@{revision}" if isinstance(revision, str) and revision else base


def of_adapter(folder: Path) -> str:
    """The hash of an adapter's weights, and of how they are applied; its base is hashed by itself."""
    said = read_json(folder / CONFIG, str(folder), None) or {}
    return f"sha256:{digest([of_files(folder), {k: v for k, v in said.items() if k not in IDLE}])}"


def check_installed(where: str) -> None:
    """Whether there is what reads adapters.

    Raises:
        UserError: with the command that installs it.
    """
    if find_spec("peft") is None:
        raise UserError("adapters need peft", where=where, hint="pip install 'reason-to-rote-bench[peft]'")


def applied(base: Any, folder: Path, *, name: str, where: str) -> Any:
    """A base with an adapter merged into its weights, all of which can be trained.

    Args:
        base: in float32, where merging is exact but for rounding; it is used up.
        name: what the user calls the adapter.
        where: the flag by which it was named.

    Raises:
        UserError: when the adapter is not one of this base, or cannot be merged.
    """
    import torch
    from peft import PeftModel
    from safetensors.torch import load_file

    from .wrapped import words_of

    config = _config(folder, name, where)
    cannot = f"cannot load {name!r}"
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # of names that the libraries will change; what matters is proved below
            tied = _tied(base)
            model = PeftModel(base, config)
            set_weights(model, load_file(folder / WEIGHTS), name, where)
            model.eval()
            if tied:
                _untie(base)
            ids = torch.arange(8, device=next(base.parameters()).device)[None] % words_of(base)
            wanted = model(input_ids=ids).logits
            whole = model.merge_and_unload(safe_merge=True)
            found = whole(input_ids=ids).logits
    except UserError:
        raise
    except Exception as error:  # whatever the library makes of a base that an adapter does not fit
        reason = reason_of(error, 300)
        raise UserError(f"{cannot} with its base: {reason}", where=where, hint="is it the base it names?") from error
    if not bool(((found - wanted).abs().max() <= NEAR * wanted.abs().max()).item()):
        raise UserError(
            f"{cannot}: merged into its base it says something else",
            where=where,
            hint="merge them with PEFT's merge_and_unload(), and save model and tokenizer with save_pretrained()",
        )
    for parameter in whole.parameters():
        parameter.requires_grad_(parameter.is_floating_point())
    return whole


def _config(folder: Path, name: str, where: str) -> Any:
    """How the adapter is applied.

    Raises:
        UserError: when this version of the library does not know it, or it is of a kind that is no change of weights.
    """
    from peft import PeftConfig

    try:
        config = PeftConfig.from_pretrained(str(folder))
    except Exception as error:  # KeyError of a kind, TypeError of a field, ...
        reason = reason_of(error, 200)
        raise UserError(f"cannot load {name!r}: peft cannot read its {CONFIG}: {reason}", where=where) from error
    if config.is_prompt_learning or config.is_adaption_prompt:
        raise UserError(
            f"cannot load {name!r}: a {config.peft_type.value} adapter adds states, not weights",
            where=where,
            hint="adapters of weights, such as LoRA, are merged into their base",
        )
    return config


def set_weights(model: Any, weights: Mapping[str, Any], name: str, where: str) -> None:
    """Give a base with an adapter the adapter's weights, all of them and no others.

    Raises:
        UserError: naming what is missing, left over or of another size.
    """
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    needed = get_peft_model_state_dict(model, save_embedding_layers=False)
    known = get_peft_model_state_dict(model, save_embedding_layers=True)
    both = weights.keys() & known.keys()
    seen = {
        "missing_keys": needed.keys() - weights.keys(),
        "unexpected_keys": weights.keys() - known.keys(),
        "mismatched_keys": [
            (key, weights[key].shape, known[key].shape) for key in both if weights[key].shape != known[key].shape
        ],
    }
    check_whole(seen, name, where, described=f"{CONFIG} describes on its base")
    set_peft_model_state_dict(model, dict(weights))


def _tied(model: Any) -> bool:
    """Whether one matrix looks tokens up and makes the logits."""
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    return head is not None and getattr(head, "weight", None) is getattr(embedding, "weight", 0)


def _untie(model: Any) -> None:
    """Give the logits a matrix of their own where an adapter changes that one or the one of the embedding."""
    from torch import nn

    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    added = any(hasattr(end, "base_layer") for end in (head, embedding))
    if not added and not any(hasattr(end, "modules_to_save") for end in (head, embedding)):
        return
    if added:  # what replaces a matrix as a whole is a copy already
        inner = getattr(head, "base_layer", head)
        inner.weight = nn.Parameter(inner.weight.detach().clone(), requires_grad=False)
    for config in (model.config, model.config.get_text_config()):
        config.tie_word_embeddings = False
