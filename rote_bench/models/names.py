"""What ``--model`` can name, and a configuration of comparable size for every architecture."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..errors import UserError, did_you_mean


@dataclass(frozen=True)
class Size:
    """Depth, width and heads of a size, the same for all architectures."""

    layers: int
    width: int
    heads: int


# small to xl are the published sizes of GPT-2 (Radford et al., 2019).
SIZES: Mapping[str, Size] = {
    "nano": Size(4, 128, 4),
    "micro": Size(6, 256, 4),
    "mini": Size(8, 512, 8),
    "small": Size(12, 768, 12),
    "medium": Size(24, 1024, 16),
    "large": Size(36, 1280, 20),
    "xl": Size(48, 1600, 25),
}

# The names under which configurations keep the same thing, most common first.
FIELDS: Mapping[str, tuple[str, ...]] = {
    "layers": ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers"),
    "width": ("hidden_size", "n_embd", "d_model", "dim", "hidden_dim", "embedding_size"),
    "heads": (
        "num_attention_heads",
        "n_head",
        "n_heads",
        "num_heads",
        "decoder_attention_heads",
        "encoder_attention_heads",
    ),
    "kv_heads": ("num_key_value_heads", "num_kv_heads", "n_head_kv", "multi_query_group_num"),
    "mlp_width": ("intermediate_size", "n_inner", "ffn_dim", "decoder_ffn_dim", "d_ff", "ffn_hidden_size"),
    "max_length": ("max_position_embeddings", "n_positions", "n_ctx", "context_length", "max_seq_len", "seq_length"),
    "activation": (
        "hidden_act",
        "activation_function",
        "hidden_activation",
        "activation",
        "hidden_activation_function",
    ),
}
NEUTRAL = ("layers", "width", "heads", "mlp_width", "activation", "dropout", "attention", "config")


@dataclass(frozen=True)
class ModelName:
    """A parsed ``--model``: ``<model_type>-<size>``, or ``hf:PATH[@REVISION]``."""

    text: str
    source: str
    model_type: str = ""
    size: str = ""
    path: str = ""
    revision: str | None = None


@lru_cache(maxsize=1)
def known_types() -> tuple[str, ...]:
    """Every causal model type of the installed transformers, read from its source without importing it."""
    spec = importlib.util.find_spec("transformers")
    if spec is None or spec.origin is None:
        raise UserError("transformers is not installed", hint="install the project with pip")
    path = Path(spec.origin).parent / "models" / "auto" / "modeling_auto.py"
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        target = node.targets[0] if isinstance(node, ast.Assign) else None
        if isinstance(target, ast.Name) and target.id == "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES":
            assert isinstance(node, ast.Assign) and isinstance(node.value, ast.Call)
            return tuple(name for name, _ in ast.literal_eval(node.value.args[0]))
    raise RuntimeError(f"{path} no longer lists the causal models")


def parse(text: str, types: Iterable[str] | None = None) -> ModelName:
    """Understand a model's name.

    Raises:
        UserError: for an unknown type or size, with the nearest valid name.
    """
    if text.startswith("hf:"):
        path, _, revision = text[3:].partition("@")
        if not path:
            raise UserError(
                "hf: needs a name or folder", where="--model", hint="for example hf:gpt2 or hf:./checkpoint"
            )
        return ModelName(text, "hf", path=path, revision=revision or None)
    known = set(types if types is not None else known_types())
    model_type, _, size = text.rpartition("-")
    for spelling in (model_type, model_type.replace("-", "_"), model_type.replace("_", "-")):
        if spelling in known and size in SIZES:
            return ModelName(text, "scratch", model_type=spelling, size=size)
    if model_type in known or model_type.replace("-", "_") in known:
        hint = f"sizes: {', '.join(SIZES)}"
    elif Path(text).is_dir():
        hint = f"for a folder write hf:{text}"
    else:
        hint = did_you_mean(text, (f"{t}-{s}" for t in known for s in SIZES)) + "; see `rote-bench list models`"
    raise UserError(f"unknown model {text!r}", where="--model", hint=hint)


def _present(config: Any, key: str) -> list[str]:
    return [name for name in FIELDS[key] if hasattr(config, name)]


def _assign(config: Any, key: str, value: Any) -> bool:
    """Set a quantity under whatever names this configuration keeps it; False when it has none."""
    mapped = getattr(type(config), "attribute_map", {})
    found = False
    for name in _present(config, key):
        if name in mapped and mapped[name] in FIELDS[key]:
            continue
        found = _set(config, name, value) or found
    return found


def _set(config: Any, name: str, value: Any) -> bool:
    """Set a field unless the configuration computes it from others."""
    if isinstance(getattr(type(config), name, None), property):
        return False
    setattr(config, name, value)
    return True


def config_for(
    model_type: str,
    size: str,
    *,
    vocab_size: int,
    max_length: int,
    pad_token_id: int | None = None,
    eos_token_id: int | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Any:
    """A configuration of the given type and size for a task's vocabulary.

    Args:
        overrides: architecture-neutral keys (layers, width, heads, mlp_width, activation, dropout, attention) and
            ``config``, raw fields of this architecture.

    Raises:
        UserError: when an override names no field of this configuration.
    """
    from transformers import CONFIG_MAPPING

    given = dict(overrides or {})
    raw = dict(given.pop("config", None) or {})
    base = SIZES[size]
    width, heads = int(given.get("width", base.width)), int(given.get("heads", base.heads))
    if width % heads:
        raise UserError(f"width {width} is not divisible by {heads} heads", where="model")
    config = CONFIG_MAPPING[model_type]()
    text = config.get_text_config()
    for part in {id(config): config, id(text): text}.values():
        _assign(part, "layers", int(given.get("layers", base.layers)))
        _assign(part, "width", width)
        _assign(part, "heads", heads)
        _assign(part, "kv_heads", heads)
        _assign(part, "mlp_width", int(given.get("mlp_width", 4 * width)))
        _assign(part, "max_length", max_length)
        if "activation" in given:
            _assign(part, "activation", given["activation"])
        for name in ("head_dim", "rotary_dim"):  # rotary_dim: the part of each head that is rotated, at most all of it
            if getattr(part, name, None) is not None:
                _set(part, name, width // heads)
        for name in ("word_embed_proj_dim", "embedding_size", "attention_hidden_size", "d_inner"):
            if isinstance(getattr(part, name, None), int):
                _set(part, name, width)
        for name, value in list(part.to_dict().items()):
            if isinstance(value, float) and ("dropout" in name or name.endswith(("_pdrop", "_drop"))):
                _set(part, name, float(given.get("dropout", 0.0)))
        if getattr(part, "layer_types", None):
            layers = int(given.get("layers", base.layers))
            _set(part, "layer_types", [part.layer_types[i % len(part.layer_types)] for i in range(layers)])
        part.vocab_size = vocab_size
        part.use_cache = False
    config.pad_token_id = text.pad_token_id = pad_token_id
    config.bos_token_id = config.eos_token_id = text.bos_token_id = text.eos_token_id = eos_token_id
    for name, value in raw.items():
        if not hasattr(text, name):
            hint = did_you_mean(name, text.to_dict())
            raise UserError(f"{model_type} has no setting {name!r}", where=f"model.config.{name}", hint=hint)
        setattr(text, name, value)
    return config
