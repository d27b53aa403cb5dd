"""From a model's name to weights: random ones from a configuration, or pretrained ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ..errors import UserError
from .names import SIZES, known_types, parse

DTYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class ModelRequest:
    """What a task needs of a model.

    Attributes:
        name: as given by the user.
        vocab_size, max_length, pad_token_id, eos_token_id: of the task's own tokenizer, for a model made from scratch.
        seed: of the random initialisation.
        device, dtype: where and how the weights are kept.
        overrides: architecture-neutral settings from the task file.
        trust_remote_code: whether code that comes with weights may run.
    """

    name: str
    vocab_size: int
    max_length: int
    pad_token_id: int | None = None
    eos_token_id: int | None = None
    seed: int = 0
    device: str = "cpu"
    dtype: str = "float32"
    overrides: Mapping[str, Any] = field(default_factory=dict)
    trust_remote_code: bool = False


@dataclass
class LoadedModel:
    """A model ready to train or diagnose.

    Attributes:
        model: a causal language model in evaluation mode.
        tokenizer: its own tokenizer, or None when the task's is used.
        source: ``scratch``, ``pretrained`` or ``plugin``.
        revision: the commit of pretrained weights where known.
    """

    model: Any
    tokenizer: Any
    source: str
    model_type: str
    revision: str | None = None
    trainable: bool = True


class ModelProvider(Protocol):
    """One way to get models; plugins register their own."""

    name: str
    description: str

    def matches(self, model_name: str) -> bool:
        """Whether this provider knows the name; must be cheap and must not import torch."""

    def names(self) -> list[str]:
        """Names for listing; cheap, without torch."""

    def load(self, request: ModelRequest) -> LoadedModel:
        """Make the model.

        Raises:
            UserError: with one line that says what is missing.
        """


class FromConfig:
    """Random weights of any architecture: ``gpt2-nano``, ``llama-micro``, ``mamba-small``."""

    name = "config"
    description = "<model_type>-<size>: random weights of any causal architecture of the installed transformers"

    def matches(self, model_name: str) -> bool:
        return not model_name.startswith("hf:") and model_name.rpartition("-")[2] in SIZES

    def names(self) -> list[str]:
        return [f"{model_type}-{size}" for model_type in sorted(known_types()) for size in SIZES]

    def load(self, request: ModelRequest) -> LoadedModel:
        import torch
        from transformers import AutoModelForCausalLM

        from .names import config_for

        name = parse(request.name)
        config = config_for(
            name.model_type,
            name.size,
            vocab_size=request.vocab_size,
            max_length=request.max_length,
            pad_token_id=request.pad_token_id,
            eos_token_id=request.eos_token_id,
            overrides=request.overrides,
        )
        attention = request.overrides.get("attention", "eager")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(request.seed)
            model = AutoModelForCausalLM.from_config(config, attn_implementation=attention)
        model = model.to(device=request.device, dtype=getattr(torch, request.dtype)).eval()
        return LoadedModel(model, None, "scratch", name.model_type)


class FromPretrained:
    """Pretrained weights with their tokenizer: ``hf:gpt2``, ``hf:./folder``, ``hf:name@revision``."""

    name = "pretrained"
    description = "hf:NAME_OR_PATH[@REVISION]: pretrained weights and tokenizer from a folder, the cache or the hub"

    def matches(self, model_name: str) -> bool:
        return model_name.startswith("hf:")

    def names(self) -> list[str]:
        return ["hf:NAME_OR_PATH[@REVISION]"]

    def load(self, request: ModelRequest) -> LoadedModel:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        name = parse(request.name)
        folder = Path(name.path)
        if name.path.startswith((".", "/", "~")) and not folder.expanduser().is_dir():
            raise UserError(f"no folder {name.path!r}", where="--model")
        source = str(folder.expanduser()) if folder.expanduser().is_dir() else name.path
        common: dict[str, Any] = {"revision": name.revision or "main", "trust_remote_code": request.trust_remote_code}
        try:
            tokenizer = AutoTokenizer.from_pretrained(source, **common)
            model = AutoModelForCausalLM.from_pretrained(
                source, dtype=getattr(torch, request.dtype), use_safetensors=True, **common
            )
        except (OSError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise UserError(
                f"cannot load {name.path!r}: {reason}",
                where="--model",
                hint="give a folder, a name in the local cache, or a hub name with the network reachable",
            ) from error
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        tokenizer.padding_side = "right"
        model.config.use_cache = False
        revision = getattr(model.config, "_commit_hash", None) or name.revision
        return LoadedModel(model.to(request.device).eval(), tokenizer, "pretrained", model.config.model_type, revision)


BUILT_IN: tuple[ModelProvider, ...] = (FromConfig(), FromPretrained())
