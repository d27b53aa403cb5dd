"""What is asked for by a model's name and what comes of it; random weights from a configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from ..errors import UserError
from ..machine import memory_at_hand
from .folder import check_config
from .names import SIZES, Source, is_registered, is_sized, known_types, parse, registered_types

QUANTIZED = ("8bit", "4bit")


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
        needs_tokenizer: whether pretrained weights without one are refused.
        task, data, tokenizer: what the model will be asked, for models that are built for it; None in ``check-model``.
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
    needs_tokenizer: bool = True
    task: Any = None
    data: Any = None
    tokenizer: Any = None


@dataclass
class LoadedModel:
    """A model ready to train or diagnose.

    Attributes:
        model: a causal language model in evaluation mode.
        tokenizer: its own tokenizer, or None when the task's is used.
        source: ``scratch``, ``pretrained`` or ``plugin``.
        revision: the commit of pretrained weights where known; for a folder or file, what its weights hash to.
        weights: what first weights from elsewhere hash to, or their commit; None for random ones.
        tokenizer_content: what a tokenizer of its own hashes to.
        base: what the weights under an adapter hash to.
        builder: what the source hashes to of a model that is none of transformers' own.
        code: what the code that came with the weights hashes to; None where none of it ran.
        signature: how it answers before training, of a foreign model.
    """

    model: Any
    tokenizer: Any
    source: Source
    model_type: str
    revision: str | None = None
    trainable: bool = True
    weights: str | None = None
    tokenizer_content: str | None = None
    base: str | None = None
    builder: str | None = None
    code: str | None = None
    signature: tuple[float, ...] | None = None

    @property
    def foreign(self) -> bool:
        """Whether the code of the model is not that of transformers."""
        return self.source in ("plugin", "object") or self.builder is not None or self.code is not None


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
        return is_sized(model_name) or is_registered(model_name)

    def names(self) -> list[str]:
        every = sorted((*known_types(), *registered_types()))
        return [f"{model_type}-{size}" for model_type in every for size in SIZES]

    def load(self, request: ModelRequest) -> LoadedModel:
        import torch
        from transformers import AutoModelForCausalLM

        from .code import of_model
        from .sizing import FIELDS, config_for

        name = parse(request.name)
        sizes = {FIELDS[key][0]: value for key, value in request.overrides.items() if key in FIELDS}
        check_config({**sizes, **(request.overrides.get("config") or {})}, name=request.name, where="model")
        config = config_for(
            name.model_type,
            name.size,
            vocab_size=request.vocab_size,
            max_length=request.max_length,
            pad_token_id=request.pad_token_id,
            eos_token_id=request.eos_token_id,
            overrides=request.overrides,
        )
        if request.dtype in QUANTIZED:
            raise UserError(f"random weights cannot be {request.dtype}", where="--dtype", hint="or name hf: weights")
        attention = request.overrides.get("attention", "eager")
        with torch.device("meta"):
            empty = AutoModelForCausalLM.from_config(config)
        check_memory(request, sum(p.numel() for p in empty.parameters()))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(request.seed)
            model = AutoModelForCausalLM.from_config(config, attn_implementation=attention)
        model = model.to(device=request.device, dtype=getattr(torch, request.dtype)).eval()
        builder = of_model(model) if is_registered(request.name) else None
        return LoadedModel(model, None, "scratch", name.model_type, builder=builder)


def check_memory(request: ModelRequest, parameters: int) -> None:
    """Refuse a model that cannot be held: weights, gradients, two moments and two snapshots, four bytes each.

    Raises:
        UserError: with its size and the memory at hand.
    """
    free = memory_at_hand()
    if free is None or not request.device.startswith("cpu"):
        return
    needed = parameters * 4 * 6
    if needed > free:
        raise UserError(
            f"{request.name} has {parameters / 1e9:.1f}B parameters; training takes about {needed / 2**30:.0f} GiB"
            f" and {free / 2**30:.0f} GiB are free",
            where="--model",
            hint="choose a smaller size",
        )
