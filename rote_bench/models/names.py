"""What ``--model`` can name, and a configuration of comparable size for every architecture."""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

from ..errors import UserError, did_you_mean, nearest
from ..paths import exists, of_user


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

NAME = re.compile(r"[A-Za-z0-9](?:[\w .:/@+=~,-]{0,198}[\w.-])?", re.ASCII)  # of a model, on boards and in folders

# where a model's first weights come from
Source = Literal["scratch", "pretrained", "plugin", "object"]


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


def registered_types() -> tuple[str, ...]:
    """Model types that code of this process registered with both AutoConfig and AutoModelForCausalLM, such as that of a
    plugin; read without importing anything."""
    configs = sys.modules.get("transformers.models.auto.configuration_auto")
    models = sys.modules.get("transformers.models.auto.modeling_auto")
    if configs is None or models is None:
        return ()
    own = {kind.model_type for kind in models.MODEL_FOR_CAUSAL_LM_MAPPING._extra_content}
    return tuple(sorted(own & configs.CONFIG_MAPPING._extra_content.keys() - {*known_types()}))


def is_registered(text: str) -> bool:
    """Whether a name is a model type that was registered here and a size."""
    return not text.startswith("hf:") and _sized(text, registered_types()) is not None


def _sized(text: str, known: Container[str]) -> tuple[str, str] | None:
    """The model type and size of a name; in a type, hyphens and underscores stand for each other."""
    model_type, _, size = text.rpartition("-")
    spellings = (model_type, model_type.replace("-", "_"), model_type.replace("_", "-"))
    found = next((spelling for spelling in spellings if spelling in known), None)
    return (found, size) if found is not None and size in SIZES else None


def is_sized(text: str) -> bool:
    """Whether a name is a model type of transformers' own and a size: not every name that ends in one is."""
    return not text.startswith("hf:") and text.rpartition("-")[2] in SIZES and _sized(text, known_types()) is not None


def parse(text: str, types: Iterable[str] | None = None) -> ModelName:
    """Understand a model's name.

    Raises:
        UserError: for an unknown type or size, with the nearest valid name.
    """
    if text.startswith("hf:"):
        there = exists(of_user(text[3:]))  # a folder may have an @ in its name
        path, _, revision = (text[3:], "", "") if there else text[3:].partition("@")
        if not path:
            raise UserError(
                "hf: needs a name or folder", where="--model", hint="for example hf:gpt2 or hf:./checkpoint"
            )
        return ModelName(text, "hf", path=path, revision=revision or None)
    known = set(types if types is not None else (*known_types(), *registered_types()))
    sized = _sized(text, known)
    if sized is not None:
        return ModelName(text, "scratch", model_type=sized[0], size=sized[1])
    model_type = text.rpartition("-")[0]
    if model_type in known or model_type.replace("-", "_") in known:
        hint = f"sizes: {', '.join(SIZES)}"
    elif Path(text).is_dir():
        hint = f"for a folder write hf:{text}"
    elif text.rpartition("-")[2] not in SIZES and (close := text if text in known else nearest(text, sorted(known))):
        hint = f"did you mean '{close}-nano', random weights, or 'hf:{close}', pretrained ones?"
    else:
        hint = did_you_mean(text, (f"{t}-{s}" for t in known for s in SIZES)) + "; see `rote-bench list models`"
    raise UserError(f"unknown model {text!r}", where="--model", hint=hint)
