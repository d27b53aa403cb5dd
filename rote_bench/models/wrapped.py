"""Any module that takes token ids and gives logits, with what the harness asks of a causal language model."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UserError
from ..strangers import reason_of
from .probe import recorded

WHERE = "model"
FORM = "its forward must take token ids (batch, length) and give logits (batch, length, vocabulary)"


class Config:
    """What stands in for the configuration that a module does not have.

    Attributes:
        model_type: what it is called.
        module_class: the name of its class.
        vocab_size: of its logits.
        settings: what its own configuration says, as far as that is plain.
    """

    attribute_map: Mapping[str, str] = {}
    use_cache = False
    pad_token_id = None
    _attn_implementation = None

    def __init__(self, name: str, module: nn.Module, vocab_size: int, settings: Mapping[str, Any]) -> None:
        self.model_type = name
        self.module_class = class_of(module)
        self.vocab_size = vocab_size
        self.settings = settings

    def to_dict(self) -> dict[str, Any]:
        own = {"model_type": self.model_type, "module_class": self.module_class, "vocab_size": self.vocab_size}
        return {**self.settings, **own}

    def get_text_config(self) -> Config:
        return self


def class_of(module: nn.Module) -> str:
    """The name of a module's class, with where it stands."""
    return f"{type(module).__module__}.{type(module).__qualname__}"


class Wrapped(nn.Module):
    """A module of any kind as a causal language model.

    Its own parameters and buffers stand under ``inner``. A snapshot of it is ``model.safetensors`` with the names that
    the module itself gives them.

    Attributes:
        inner: the module.
        config: what stands in for a configuration.
        again: makes another one, from a seed; None where only this one is known.
    """

    def __init__(self, inner: nn.Module, name: str, again: Callable[[int], nn.Module] | None = None) -> None:
        super().__init__()
        self.inner = inner
        self.again = again
        try:
            named = inspect.signature(inner.forward).parameters.get("input_ids")
        except (TypeError, ValueError):
            raise UserError(
                f"{type(inner).__name__} does not say what its forward takes",
                where=WHERE,
                hint="give the module itself",
            ) from None
        self._by_name = named is not None and named.kind is not inspect.Parameter.POSITIONAL_ONLY
        self._embedding, self._unembedding, vocab_size = _ends(self)
        self.config = Config(name, inner, vocab_size, _settings(inner))

    def forward(self, input_ids: Tensor) -> Any:
        from transformers.modeling_outputs import CausalLMOutput

        return CausalLMOutput(logits=logits_of(self._call(input_ids)))

    def _call(self, input_ids: Tensor) -> Any:
        return self.inner(input_ids=input_ids) if self._by_name else self.inner(input_ids)

    def get_input_embeddings(self) -> nn.Module | None:
        """The module that looks token ids up, where there is one."""
        return None if self._embedding is None else self.get_submodule(self._embedding)

    def get_output_embeddings(self) -> nn.Module | None:
        """The module that makes the logits, where there is one."""
        return None if self._unembedding is None else self.get_submodule(self._unembedding)


def causal(model: nn.Module, name: str, again: Callable[[int], nn.Module] | None = None) -> Any:
    """A module as a causal language model: itself where it is one of transformers, else wrapped.

    Args:
        name: what it is called where it has no type.
        again: makes another one, from a seed.

    Raises:
        UserError: when it does not give logits for token ids.
    """
    from transformers import PreTrainedModel

    if isinstance(model, Wrapped):
        return model
    if next(model.parameters(), None) is None:
        raise UserError(f"{name} has no parameters", where=WHERE, hint="give it one, if only to say where it lives")
    if isinstance(model, PreTrainedModel):
        cached, model.config.use_cache = getattr(model.config, "use_cache", False), False
        if _is_whole(model):
            if again is not None:
                model.again = again
            return model
        model.config.use_cache = cached
    was_training = model.training
    try:
        model.eval()
        return Wrapped(model, name, again).train(was_training)
    finally:
        model.train(was_training)


def check_words(model: Any, words: int) -> None:
    """Whether a model can be given, and can answer with, so many tokens.

    Raises:
        UserError: when its vocabulary is smaller.
    """
    rows = words_of(model)
    if isinstance(model, Wrapped):
        rows = min(rows, model.config.vocab_size)
    if rows < words:
        raise UserError(
            f"{model.config.model_type} has a vocabulary of {rows} tokens where {words} are asked for",
            where=WHERE,
            hint=f"make it with at least {words}, or give a function that builds it with the vocab_size it is given",
        )


def check_rows(model: Any) -> None:
    """Whether a model answers each row of a batch by itself, as far as its modules show.

    Raises:
        UserError: when one of them mixes the rows.
    """
    mixing = next((each for each in model.modules() if isinstance(each, nn.modules.batchnorm._BatchNorm)), None)
    if mixing is not None:
        raise UserError(
            f"{model.config.model_type} has {type(mixing).__name__}, which mixes the rows of a batch and later tokens"
            " into each position",
            where=WHERE,
            hint="normalise each position by itself, as LayerNorm and RMSNorm do",
        )


def check_asked(model: Any, ids: Tensor, words: int) -> None:
    """Whether a model can be asked what it will be asked.

    Args:
        ids: (batch, length) the longest of the questions with their answers.
        words: how many tokens there are, one more than the largest id.

    Raises:
        UserError: when its vocabulary is smaller, it cannot read as much, it mixes the rows of a batch, or reading
            changes the shapes of its state.
    """
    name = model.config.model_type
    check_words(model, words)
    check_rows(model)
    before = {key: value.shape for key, value in model.state_dict().items()}
    logits = _tried(model, ids).logits
    grown = next((key for key, value in model.state_dict().items() if before.get(key) != value.shape), None)
    if grown is not None:
        raise UserError(
            f"{name} changes the shape of {grown.removeprefix('inner.')} as it reads, so that no snapshot of it opens",
            where=WHERE,
            hint="make it as long as max_length says, or register_buffer(..., persistent=False)",
        )
    if logits.shape[-1] < words:
        raise UserError(f"{name} gives {logits.shape[-1]} logits and the task takes {words}", where=WHERE)


def words_of(model: Any) -> int:
    """How many tokens a model can be given."""
    embedding = model.get_input_embeddings()
    weight = getattr(embedding, "weight", None)
    return int(model.config.vocab_size if weight is None else weight.shape[0])


def logits_of(output: Any) -> Tensor:
    """The logits in what a module returns: a tensor, ``logits`` of an object or mapping, or the first of several.

    Raises:
        TypeError: when there are none.
    """
    if isinstance(output, Mapping):
        output = output.get("logits")
    elif not isinstance(output, Tensor) and hasattr(output, "logits"):
        output = output.logits
    if isinstance(output, tuple | list):
        output = next((each for each in output if isinstance(each, Tensor) and each.is_floating_point()), None)
    if isinstance(output, Tensor):
        return output
    raise TypeError("it gives no logits")


def _is_whole(model: Any) -> bool:
    """Whether a model of transformers does all that is asked of one."""
    device = next(model.parameters()).device
    try:
        with torch.no_grad():
            output = model(input_ids=torch.zeros(1, 2, dtype=torch.long, device=device))
        return isinstance(output.logits, Tensor) and model.get_input_embeddings() is not None
    except Exception:  # whatever a class of its own raises; it is tried, and explained, once more as a module
        return False


def _tried(model: nn.Module, ids: Tensor) -> Any:
    """What a model gives for token ids.

    Raises:
        UserError: when its code fails, or gives something else than logits of each of them.
    """
    name = type(getattr(model, "inner", model)).__name__
    try:
        with torch.no_grad():
            output = model(input_ids=ids)
    except Exception as error:  # whatever a stranger's code raises
        reason = reason_of(error, 200)
        raise UserError(
            f"{name} fails for ids of shape {tuple(ids.shape)}: {reason}", where=WHERE, hint=FORM
        ) from error
    shape, dtype = tuple(output.logits.shape), output.logits.dtype
    if not dtype.is_floating_point:
        raise UserError(f"{name} gives logits of {dtype}, which are no real numbers", where=WHERE, hint=FORM)
    if len(shape) != 3 or shape[:2] != tuple(ids.shape):
        batch, length = ids.shape
        hint = FORM
        if len(shape) == 3 and (shape[0], shape[2]) == (batch, length):
            hint = "the last two are the wrong way round: give (batch, length, vocabulary)"
        elif len(shape) == 3 and shape[:2] == (length, batch):
            hint = "the first two are the wrong way round: give (batch, length, vocabulary), as batch_first=True does"
        elif shape[:1] == (batch,):
            hint = "give the logits of every position, not of the last alone"
        raise UserError(
            f"{name} gives logits of shape {shape} for ids of shape {tuple(ids.shape)}", where=WHERE, hint=hint
        )
    return output


def _ends(model: Wrapped) -> tuple[str | None, str | None, int]:
    """The paths of the modules that look tokens up and that make the logits, where there are such, and how many logits
    there are."""
    device = next(model.parameters()).device
    ids = torch.tensor([[0, 1, 0, 1, 1], [1, 1, 0, 0, 1]], device=device)
    asked: list[str] = []

    def looks_up(path: str) -> Callable[[nn.Module, tuple[Any, ...], Any], None]:
        def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            weight = getattr(module, "weight", None)
            given = bool(args) and isinstance(args[0], Tensor) and torch.equal(args[0], ids)
            if given and isinstance(weight, Tensor) and weight.ndim == 2:
                asked.append(path)

        return hook

    handles = [module.register_forward_hook(looks_up(path)) for path, module in model.named_modules() if path]
    try:
        with recorded(model, ids.shape) as calls:
            logits = _tried(model, ids).logits
    finally:
        for handle in handles:
            handle.remove()
    words = int(logits.shape[-1])
    weights = [(call.path, getattr(call.module, "weight", None)) for call in calls]
    made = [
        path for path, weight in weights if isinstance(weight, Tensor) and weight.ndim == 2 and len(weight) == words
    ]
    fitting = {c.path for c in calls if c.output is not None and c.output.shape == logits.shape}
    return next(iter(asked), None), next((path for path in reversed(made) if path in fitting), None), words


def _settings(module: nn.Module) -> dict[str, Any]:
    """The plain entries of a configuration of any kind that a module has."""
    found: Any = {}
    try:
        config = getattr(module, "config", None)
        if callable(getattr(config, "to_dict", None)):
            found = config.to_dict()  # type: ignore[union-attr]
        elif is_dataclass(config) and not isinstance(config, type):
            found = asdict(config)
        elif isinstance(config, Mapping):
            found = config
        elif hasattr(config, "__dict__"):
            found = vars(config)
    except Exception:  # whatever is called config there is for reading along, and nothing hangs on it
        return {}
    plain = bool | int | float | str | None
    kept = {str(k): v for k, v in found.items() if isinstance(v, plain)} if isinstance(found, Mapping) else {}
    return {k: str(v) if isinstance(v, float) and not math.isfinite(v) else v for k, v in kept.items()}
