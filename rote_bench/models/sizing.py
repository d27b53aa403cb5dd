"""A configuration of comparable size for every architecture, by rules over the names of its fields.

Configurations call the same quantity by different names. Each name is listed once with the quantity it holds; what is
not listed keeps the architecture's default. The few architectures that these rules cannot serve stand in ``SPECIAL``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..errors import UserError, did_you_mean
from .names import SIZES

# quantity -> the fields that hold it. Where a field is absent, or None by default and optional, nothing is set.
FIELDS: Mapping[str, tuple[str, ...]] = {
    "layers": (
        *("num_hidden_layers", "n_layer", "n_layers", "num_layers", "num_blocks", "decoder_layers", "encoder_layers"),
        *("num_decoder_layers", "num_encoder_layers", "num_layers_per_stack", "depth"),
    ),
    "width": (
        *("hidden_size", "n_embd", "d_model", "embedding_size", "emb_dim", "embedding_dim", "attention_hidden_size"),
        *("lru_width", "word_embed_proj_dim", "input_embedding_size", "output_embedding_size", "hidden_size_global"),
        *("pronunciation_embed_dim", "shape_embed_dim", "ext_pw_out_channel", "depthwise_separable_out_channel"),
        *("nemo_conv_channels", "output_channels", "out_hidden_size", "projector_input_dim", "projector_output_dim"),
        "vision_output_dim",
    ),
    "heads": (
        *("num_attention_heads", "n_head", "n_heads", "num_heads", "attention_heads", "decoder_attention_heads"),
        *("encoder_attention_heads", "num_decoder_attention_heads", "num_encoder_attention_heads"),
        *("swa_num_attention_heads", "index_n_heads", "linear_num_heads", "linear_num_key_heads"),
        *("linear_num_value_heads", "num_key_value_heads", "num_kv_heads", "swa_num_key_value_heads"),
        "num_query_groups",
    ),
    "head_width": (
        *("head_dim", "kv_channels", "attention_head_size", "d_head", "dim_head", "swa_head_dim", "index_head_dim"),
        *("qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim", "swa_v_head_dim", "linear_head_dim"),
        *("linear_key_head_dim", "linear_value_head_dim", "mamba_d_head", "mamba_head_dim", "mamba_headdim"),
        *("rotary_dim", "laurel_rank", "hidden_size_per_layer_input", "adapter_rank", "router_hidden_size"),
        "global_head_dim",
    ),
    "two_head_widths": ("qk_head_dim", "kv_lora_rank", "q_lora_rank", "o_lora_rank", "hc_lowrank"),
    "mlp_width": (
        *("intermediate_size", "n_inner", "ffn_dim", "decoder_ffn_dim", "encoder_ffn_dim", "d_ff", "dff", "dim_ff"),
        *("d_inner", "ffn_hidden_size", "intermediate_size_mlp", "dense_intermediate_size", "feed_forward_size"),
        "mlp_dim",
    ),
    "expert_width": (
        *("moe_intermediate_size", "expert_ffn_hidden_size", "shared_expert_intermediate_size"),
        *("moe_shared_expert_intermediate_size", "shared_experts_intermediate_size", "shared_intermediate_size"),
    ),
    "experts": ("num_experts", "n_routed_experts", "num_local_experts", "moe_num_experts"),
    "experts_used": ("num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_k"),
    "one": (
        *("n_group", "topk_group", "num_expert_group", "n_shared_experts", "num_shared_experts", "o_groups"),
        *("moe_num_shared_experts", "first_k_dense_replace", "num_dense_layers", "n_groups", "mamba_n_groups"),
        *("zero_expert_num", "block_multiple_of", "num_global_layers"),
    ),
    "ssm_heads": ("mamba_n_heads", "mamba_num_heads"),
    "ssm_width": ("mamba_d_ssm",),
    "state": ("mamba_d_state", "state_size", "ssm_state_size"),
    "ssm_rank": ("time_step_rank", "mamba_dt_rank"),
    "chunk": ("chunk_size", "mamba_chunk_size"),
    "max_length": (
        *("max_position_embeddings", "n_positions", "n_ctx", "context_length", "max_seq_len", "seq_length"),
        *("model_max_length", "max_target_positions"),
    ),
    "vocab_size": ("vocab_size", "decoder_vocab_size", "vocab_size_per_layer_input", "shape_vocab_size"),
    "activation": (
        *("hidden_act", "activation_function", "hidden_activation", "activation", "hidden_activation_function"),
        *("afn", "gelu_activation_function"),
    ),
}
QUANTITY = {name: quantity for quantity, names in FIELDS.items() for name in names}
# How often a layer of another kind comes: at least every second one, so that small models show every kind.
PERIODS = ("_period", "_interval", "_pattern", "every_n_layers", "layer_group_size", "n_layers_per_attn_res_block")

NOT_FOR_TEXT: Mapping[str, str] = {
    "musicgen": "it writes several streams of audio codes, not text",
    "musicgen_melody": "it writes several streams of audio codes, not text",
    "gemma4_assistant": "it drafts for another model and reads that model's states",
    "gemma4_unified_assistant": "it drafts for another model and reads that model's states",
    "gemma3n": "its vision tower needs the package timm; gemma3n_text is the same language model",
    "dots3_note": "its language model is dots3_note_text",
}

Sized = Mapping[str, Any]
# Towers for images or sound are never called, so they are as small as can be.
TOWER: Sized = {"layers": 1, "width": 32, "heads": 4, "head_width": 8, "mlp_width": 32}


def _alternating(*kinds: str) -> Callable[[Sized], list[str]]:
    return lambda q: [kinds[layer % len(kinds)] for layer in range(q["layers"])]


def _blt(q: Sized) -> dict[str, Any]:
    one = {
        "hidden_size": q["width"],
        "hidden_size_global": TOWER["width"],
        "num_attention_heads": q["heads"],
        "num_key_value_heads": q["heads"],
        "head_dim": q["head_width"],
        "intermediate_size": q["mlp_width"],
        "max_position_embeddings": q["max_length"],
        "vocab_size": q["vocab_size"],
        "num_hidden_layers": 1,
    }
    return {
        "encoder_config": one,
        "decoder_config": {**one, "num_hidden_layers": max(q["layers"] // 2, 1)},
        "encoder_hash_byte_group_vocab": 100,
    }


def _dots3(q: Sized) -> dict[str, Any]:
    head, two = q["head_width"], q["two_head_widths"]
    return {
        "head_dim": two,
        "swa_num_attention_heads": q["heads"],
        "swa_num_key_value_heads": q["heads"],
        "swa_q_lora_rank": two,
        "swa_kv_lora_rank": two,
        "swa_head_dim": two,
        "swa_qk_nope_head_dim": head,
        "swa_v_head_dim": head,
    }


def _gemma4(q: Sized) -> dict[str, Any]:
    return {"global_head_dim": q["head_width"], "vocab_size_per_layer_input": q["vocab_size"]}


def _qwen4(q: Sized) -> dict[str, Any]:
    head = q["head_width"]
    return {
        "indexer_n_heads": q["heads"],
        "indexer_kv_heads": 1,
        "indexer_head_dim": head,
        "indexer_budget": 64,
        "indexer_compress_ratio": 4,
        "hc_count": 2,
        "hc_lowrank": head,
    }


# Architectures that the rules cannot serve: the fields they need, with the reason.
SPECIAL: Mapping[str, Callable[[Sized], dict[str, Any]]] = {
    # Text configuration without rotary settings of its own; three position axes must share a head.
    "cohere_compass_text": lambda q: {
        "rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 10_000.0}},
    },
    # Its text runs through three stacks; the last one, which writes, gets the size. Hashes would outweigh them all.
    "blt": _blt,
    # Attention and experts sit in configurations of their own.
    "dbrx": lambda q: {
        "attn_config": {"kv_n_heads": q["heads"], "rope_theta": 10_000.0, "clip_qkv": 8.0},
        "ffn_config": {"ffn_hidden_size": q["expert_width"], "moe_num_experts": 4, "moe_top_k": 2},
    },
    # The number of experts has no default.
    "dots1": lambda q: {"n_routed_experts": q["experts"], "num_experts_per_tok": 2, "n_shared_experts": 1},
    # Layers with a window are sized by fields that only old files have.
    "dots3_note_text": _dots3,
    # Layers without a window are sized by a field that only old files have.
    **dict.fromkeys(("gemma4", "gemma4_text", "gemma4_unified", "gemma4_unified_text"), _gemma4),
    # Layers that share keys and values would leave none that makes them.
    "gemma3n_text": lambda q: {"num_kv_shared_layers": 0, "vocab_size_per_layer_input": q["vocab_size"]},
    # The kinds of layers are spelled as [[kinds], repetitions].
    "gpt_neo": lambda q: {"attention_types": [[[kind], 1] for kind in _alternating("global", "local")(q)]},
    # Two stacks take turns.
    "hrm_text": lambda q: {"num_layers_per_stack": max(q["layers"] // 2, 1)},
    # No default says which layers attend.
    "lfm2_moe": lambda q: {"layer_types": _alternating("conv", "full_attention")(q)},
    # Every layer holds two attentions, two MLPs and the experts.
    "longcat_flash": lambda q: {"ffn_hidden_size": q["expert_width"], "expert_ffn_hidden_size": q["expert_width"] // 2},
    # Layers with a window take twice as many key heads.
    "mimo_v2_flash": lambda q: {"num_key_value_heads": max(q["heads"] // 2, 1)},
    # The indexer of its attention has no defaults.
    "qwen4_exp": _qwen4,
    "qwen4_exp_text": _qwen4,
    # Depth is the length of a list; positions are a grid; random hashing would answer differently every time.
    "reformer": lambda q: {
        "attn_layers": _alternating("local", "lsh")(q),
        "axial_pos_embds": False,
        "hash_seed": 0,
        "num_buckets": 2,
    },
    # One adapter a language, and no default language.
    "xmod": lambda q: {"default_language": "en_XX"},
    # Layers that share one transformer must be named, and be at least two.
    "zamba": lambda q: {
        "layers_block_type": _alternating("linear_attention", "hybrid")(q),
        "attention_hidden_size": 2 * q["width"],
        "attention_head_dim": 2 * q["head_width"],
    },
    "zamba2": lambda q: {
        "layers_block_type": _alternating("linear_attention", "hybrid")(q),
        "num_mem_blocks": 1,
        "attention_hidden_size": 2 * q["width"],
        "attention_head_dim": 2 * q["head_width"],
        "n_mamba_heads": q["ssm_heads"],
    },
    # It routes each token to one expert only.
    "zaya": lambda q: {"num_experts_per_tok": 1},
}


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
        UserError: when the type is no model of text, or an override names no field of this configuration.
    """
    from transformers import CONFIG_MAPPING

    if model_type in NOT_FOR_TEXT:
        raise UserError(f"{model_type} cannot be trained on a task: {NOT_FOR_TEXT[model_type]}", where="--model")
    given = dict(overrides or {})
    raw = dict(given.pop("config", None) or {})
    quantities = _quantities(size, given)
    quantities.update(vocab_size=vocab_size, max_length=max_length)
    ids = {"pad_token_id": pad_token_id, "bos_token_id": eos_token_id, "eos_token_id": eos_token_id}

    default = CONFIG_MAPPING[model_type]()
    text = default.get_text_config()
    known = {*_fields(text), *getattr(type(text), "attribute_map", {})}
    for name in raw:
        if name not in known:
            hint = did_you_mean(name, known)
            raise UserError(f"{model_type} has no setting {name!r}", where=f"model.config.{name}", hint=hint)
    own = {**_sized(text, quantities), **ids}
    own.update(SPECIAL[model_type](quantities) if model_type in SPECIAL else {})
    own.update(raw)
    own = _every_kind(type(text), own, quantities["layers"])
    kwargs = own if text is default else {**_sized(default, quantities), **ids}
    for name, part in _parts(default).items():
        if name in kwargs:
            continue
        if part is text:
            kwargs[name] = {"model_type": part.model_type, **own}
        else:
            kwargs[name] = {"model_type": part.model_type, **_sized(part, {**quantities, **TOWER})}
    config = type(default)(**kwargs)
    config.use_cache = config.get_text_config().use_cache = False
    return config


def _quantities(size: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Every quantity of a size, derived from depth, width and heads."""
    base = SIZES[size]
    layers = int(given.get("layers", base.layers))
    width, heads = int(given.get("width", base.width)), int(given.get("heads", base.heads))
    if width % heads:
        raise UserError(f"width {width} is not divisible by {heads} heads", where="model")
    mlp_width = int(given.get("mlp_width", 4 * width))
    quantities: dict[str, Any] = {
        "layers": layers,
        "width": width,
        "heads": heads,
        "head_width": width // heads,
        "two_head_widths": 2 * width // heads,
        "mlp_width": mlp_width,
        "experts": 4,
        "experts_used": 2,
        "expert_width": max(mlp_width // 4, 1),
        "one": 1,
        "ssm_heads": 2 * heads,
        "ssm_width": 2 * width,
        "state": 16,
        "ssm_rank": max(width // 16, 1),
        "chunk": 16,
        "dropout": float(given.get("dropout", 0.0)),
    }
    if "activation" in given:
        quantities["activation"] = given["activation"]
    return quantities


def _fields(config: Any) -> dict[str, Any]:
    fields: dict[str, Any] = config.to_dict()
    return fields


def _parts(config: Any) -> dict[str, Any]:
    """The configurations inside a configuration."""
    from transformers import PretrainedConfig

    nested = [name for name, value in _fields(config).items() if isinstance(value, dict) and name.endswith("_config")]
    return {name: getattr(config, name) for name in nested if isinstance(getattr(config, name), PretrainedConfig)}


def _sized(config: Any, quantities: Sized) -> dict[str, Any]:
    """The values of a configuration's fields at the given quantities."""
    fields = _fields(config)
    out: dict[str, Any] = {}
    optional = ("two_head_widths", "expert_width", "one", "experts")
    for name, value in fields.items():
        quantity = QUANTITY.get(name)
        if quantity is not None and quantity in quantities and not (value is None and quantity in optional):
            out[name] = quantities[quantity]
        elif isinstance(value, bool):
            if name in ("is_decoder", "causal"):  # encoders that can be told not to look ahead
                out[name] = True
        elif isinstance(value, float) and "drop" in name:
            out[name] = quantities["dropout"]
        elif isinstance(value, int) and name.endswith(PERIODS) and value > 2:
            out[name] = 2
        elif isinstance(value, int) and name.endswith("_layer_offset"):
            out[name] = 1
    held = {QUANTITY.get(name) for name in out if not name.startswith("shared")}
    dense = any(
        value is False for name, value in fields.items() if name.endswith("moe")
    )  # experts that are switched off
    if "experts" in held and "expert_width" not in held and not dense:
        out.update({name: quantities["expert_width"] for name in out if QUANTITY.get(name) == "mlp_width"})
    if "expand" in fields and "num_heads" in out and "head_dim" in out:
        out["num_heads"] = fields["expand"] * quantities["width"] // quantities["head_width"]
    return out


def _every_kind(kind: type, own: dict[str, Any], layers: int) -> dict[str, Any]:
    """Lists with one entry a layer, cut so that every kind of layer of the full model is in the small one."""
    full, small = _fields(kind()), _fields(kind(**own))
    depth = next((full[n] for n in FIELDS["layers"] if isinstance(full.get(n), int)), None)
    for name, entries in full.items():
        if not isinstance(entries, list) or len(entries) != depth or name in own:
            continue
        cut = small[name] if isinstance(small[name], list) and len(small[name]) == layers else entries[:layers]
        if all(isinstance(entry, str) for entry in entries):
            cut = list(cut)
            missing = [kind_ for kind_ in dict.fromkeys(entries) if kind_ not in cut]
            for at, entry in enumerate(missing[: layers - 1], 1):
                cut[-at] = entry
        if cut != small[name]:
            own[name] = cut
    return own
