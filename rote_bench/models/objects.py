"""Models that Python gives: an object, which is copied, or a function, which is asked for a new one each time."""

from __future__ import annotations

import copy
import functools
import inspect
import re
import sys
import unicodedata
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ..errors import UserError
from ..hashing import digest
from ..strangers import reason_of
from .load import QUANTIZED, LoadedModel, ModelRequest
from .names import NAME, Source
from .tokenizer import check_pad

if TYPE_CHECKING:
    from torch import nn

WHERE = "model"
SHORT = 8  # characters of a hash in a name
SHAPE = ("layers", "width", "heads", "mlp_width")  # settings that a function may have parameters for


class FromPython:
    """A provider of one model, under one name.

    Args:
        name: by which the model is asked for; None takes the name of its class or function and a part of its hash.
        model: a module, whose weights are the start whatever the seed; or a function that returns one. A function is
            given what it has parameters for among ``vocab_size``, ``max_length``, ``pad_token_id``, ``eos_token_id``,
            ``seed`` and the sizes that the task sets (``layers``, ``width``, ``heads``, ``mlp_width``), the vocabulary
            at least, and draws its weights from torch's generator, which the seed begins.
        tokenizer: of its inputs, a fast one; None reads the task's words one by one.
        description: what ``list models`` says of it.
        source: what reports say of where its first weights come from.

    Raises:
        UserError: when it is neither.
    """

    def __init__(
        self,
        name: str | None,
        model: Any,
        *,
        tokenizer: Any = None,
        description: str = "",
        source: Source = "plugin",
    ) -> None:
        if not callable(model):  # modules can be called too
            raise UserError(
                f"{type(model).__name__} is no model",
                where=WHERE,
                hint="give a name, a module, or a function of vocab_size that builds one",
            )
        model = getattr(model, "_orig_mod", model)  # a compiled one would be compiled again for each shape of a proof
        if _is_module(model):
            from .wrapped import Wrapped

            model = model.inner if isinstance(model, Wrapped) else model  # a snapshot's, which was opened
        self.model, self.tokenizer, self.source = model, tokenizer, source
        self.title = _title(model)
        if _is_module(model):
            _check_tensors(model, self.title)
        else:
            _parameters(model)
        _check_tokenizer(tokenizer)
        parts = [] if name is None else name.split("/")
        if name is not None and not (NAME.fullmatch(name) and all(part.strip(". ") for part in parts)):
            hint = "letters and digits, and . - _ / among them, 200 characters at most"
            raise UserError(f"no model can be called {name[:60]!r}", where="model_name", hint=hint)
        self.name = name if name is not None else f"{self.title}-{self._content()}"
        self.description = description or f"{self.title}, which Python gives"

    def matches(self, model_name: str) -> bool:
        return model_name == self.name

    def names(self) -> list[str]:
        return [self.name]

    def load(self, request: ModelRequest) -> LoadedModel:
        import torch

        from .code import of_model
        from .content import of_state
        from .outside import copied
        from .wrapped import causal, check_words

        if request.dtype in QUANTIZED:
            raise UserError(f"{self.name} cannot be {request.dtype}", where="--dtype", hint="or name hf: weights")
        build, tokenizer = self._builder(), copy.deepcopy(self.tokenizer)
        words = request.vocab_size if tokenizer is None else len(tokenizer)
        if build is None:
            made, again = copied(self.model, hint="give a function that builds it"), None
            _check_tensors(made, self.title)
            weights = of_state(made)
        else:
            made, again = _built(build, request, request.seed, words), _again(build, request, words)
            _check_tensors(made, self.title)
            other, twice = again(request.seed + 1), again(request.seed)
            if other is made:
                raise UserError(
                    "the function gives the same module each time it is asked, and every cell would train it on",
                    where=WHERE,
                    hint="build a new one each time, or give the module itself",
                )
            if of_state(twice) != of_state(made):
                raise UserError(
                    "the function builds another module when it is asked again with the same seed",
                    where=WHERE,
                    hint="draw from torch's, numpy's or Python's own generator, or from the seed that it is given",
                )
            weights = _common(made, other)
        builder = of_model(made, build)
        if build is not None and of_model(other, build) != builder:
            builder = of_model(made, build, arrays=False)
        model = causal(made, type(made).__name__, again).to(device=request.device, dtype=getattr(torch, request.dtype))
        self._check_own(model)
        set_attention = getattr(model, "set_attn_implementation", None)
        if set_attention is not None:
            set_attention(request.overrides.get("attention", "eager"))
        if build is not None:
            check_words(model, words)
        if tokenizer is not None:
            check_pad(tokenizer, model)
            tokenizer.padding_side = "right"
        return LoadedModel(
            model.eval(),
            tokenizer,
            self.source,
            model.config.model_type or self.title,
            trainable=_trainable(model),
            weights=weights,
            builder=builder,
        )

    def _check_own(self, model: Any) -> None:
        """Whether a copy of a model answers by its own weights, as snapshots and twins of it must.

        Raises:
            UserError: when it answers by those that it was copied from.
        """
        import torch

        from .outside import borrowed, copied

        ids = torch.tensor([[0, 1, 0, 1, 1]], device=next(model.parameters()).device)
        theirs = {id(p): name.removeprefix("inner.") for name, p in model.named_parameters()}
        if self._builder() is None:
            theirs |= {id(p): name for name, p in self.model.named_parameters()}
        name = next((theirs[id(each)] for each in borrowed(copied(model), ids) if id(each) in theirs), None)
        if name is not None:
            raise UserError(
                f"a copy of {self.title} answers by {name} of the module that it was copied from",
                where=WHERE,
                hint="a function that it holds keeps that module: make it a method of its class",
            )

    def reads(self, setting: str) -> bool:
        """Whether a setting of the task's ``model`` reaches the function."""
        if setting == "attention":
            return True
        build = self._builder()
        return build is not None and setting in SHAPE and setting in _parameters(build)

    def _builder(self) -> Callable[..., nn.Module] | None:
        """The function; None where the model is an object."""
        build: Callable[..., nn.Module] = self.model
        return None if _is_module(self.model) else build

    def _content(self) -> str:
        """The beginning of what it hashes to."""
        from .code import of_function, of_model
        from .content import of_state

        build = self._builder()
        if build is not None:
            return digest(of_function(build))[:SHORT]
        return digest([of_model(self.model), of_state(self.model)])[:SHORT]


def _is_module(model: Any) -> bool:
    """Whether it is a module, told without loading torch: before that is loaded there are none."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(model, torch.nn.Module)


def _title(model: Any) -> str:
    """The name of a class or function, as models are named."""
    if isinstance(model, functools.partial):
        return _title(model.func)
    plain = unicodedata.normalize("NFKD", getattr(model, "__name__", type(model).__name__))
    return re.sub(r"[^A-Za-z0-9_]", "", plain).strip("_") or "model"


def _check_tokenizer(tokenizer: Any) -> None:
    """Raises:
    UserError: when it is none that reads text as models of transformers do.
    """
    if tokenizer is None:
        return
    from transformers import PreTrainedTokenizerBase

    if not isinstance(tokenizer, PreTrainedTokenizerBase):
        hint = "PreTrainedTokenizerFast(tokenizer_object=...) makes one of a tokenizer of `tokenizers`"
        raise UserError(f"{type(tokenizer).__name__} is no tokenizer of transformers", where="tokenizer", hint=hint)


def _check_tensors(model: nn.Module, title: str) -> None:
    """Whether weights are tensors of real numbers that are there, each of its own, so that a snapshot can hold them.

    Raises:
        UserError: naming one that is not.
    """
    import torch
    from torch import Tensor
    from torch.nn.parameter import is_lazy

    def refused(what: str, hint: str) -> UserError:
        return UserError(f"{title} {what}", where=WHERE, hint=hint)

    for name, value in (*model.named_parameters(), *model.named_buffers()):
        if value.is_meta:
            raise UserError(f"{title} has no values for {name}, which is on the device meta", where=WHERE)
        if is_lazy(value):
            raise refused(f"has no {name} before it is called", "call it once on token ids, or name its size")
        if value.layout != torch.strided:
            raise refused(f"holds {name} in the layout {str(value.layout)[6:]}", "keep it dense: .to_dense()")
        if value.is_complex():
            hint = "keep them as pairs of real ones (torch.view_as_real), or make them in forward"
            raise refused(f"holds complex numbers: {name}", hint)
    at: dict[int, tuple[str, Tensor]] = {}
    for name, value in model.state_dict().items():
        if not isinstance(value, Tensor):
            raise refused(f"keeps {name} among its weights, which is no tensor", "leave out get_extra_state")
        if not value.numel():
            continue
        first, like = at.setdefault(value.untyped_storage().data_ptr(), (name, value))
        if (like.data_ptr(), like.shape, like.stride()) != (value.data_ptr(), value.shape, value.stride()):
            raise refused(f"has {first} and {name} in one piece of memory", "give each a tensor of its own: .clone()")


def _built(build: Callable[..., nn.Module], request: ModelRequest, seed: int, words: int) -> nn.Module:
    """What a function builds with a seed.

    Raises:
        UserError: when it fails, or builds no module.
    """
    from torch import nn

    from .outside import drawing

    offered = {
        "vocab_size": words,
        "max_length": request.max_length,
        "pad_token_id": request.pad_token_id,
        "eos_token_id": request.eos_token_id,
        "seed": seed,
        **{key: value for key, value in request.overrides.items() if key in SHAPE},
    }
    given, named = _arguments(build, offered)
    try:
        with drawing(seed):
            model = build(*given, **named)
    except UserError:
        raise
    except Exception as error:  # whatever a stranger's code raises
        reason = reason_of(error, 200)
        raise UserError(f"the function that builds the model fails: {reason}", where=WHERE) from error
    if not isinstance(model, nn.Module):
        raise UserError(f"the function gives {type(model).__name__} and no torch module", where=WHERE)
    return model


def _arguments(build: Callable[..., Any], offered: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """What a function is called with: what it has parameters for; its first one, whatever its name, the vocabulary.

    Raises:
        UserError: when it asks for more.
    """
    parameters = _parameters(build)
    named = {key: value for key, value in offered.items() if key in parameters}
    if {p.kind for p in parameters.values()} == {inspect.Parameter.VAR_KEYWORD}:  # it takes what comes
        named = {key: value for key, value in offered.items() if key not in SHAPE}
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    left = [p for p in parameters.values() if p.kind in kinds and p.default is p.empty and p.name not in named]
    given = []
    if "vocab_size" not in named and left and left[0].kind is not inspect.Parameter.KEYWORD_ONLY:
        given.append(offered["vocab_size"])
        left = left[1:]
    if left:
        raise UserError(
            f"the function asks for {left[0].name!r}, and is given {', '.join(offered)}",
            where=WHERE,
            hint="give that a default, or bind it with functools.partial",
        )
    return given, named


def _parameters(build: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """Raises:
    UserError: when Python cannot tell what a function takes.
    """
    try:
        return inspect.signature(build).parameters
    except (TypeError, ValueError):
        raise UserError(
            f"{_title(build)} does not say what it takes", where=WHERE, hint="wrap it: lambda vocab_size: ..."
        ) from None


def _again(build: Callable[..., nn.Module], request: ModelRequest, words: int) -> Callable[[int], nn.Module]:
    def again(seed: int) -> nn.Module:
        return _built(build, request, seed, words)

    return again


def _common(model: nn.Module, other: nn.Module) -> str:
    """The hash of the tensors that do not hang on the seed: what a function reads from elsewhere is among them."""
    import torch

    from .content import of_tensors

    theirs = other.state_dict()
    return of_tensors(
        {
            name: value
            for name, value in model.state_dict().items()
            if isinstance(value, torch.Tensor) and name in theirs and torch.equal(value, theirs[name])
        }
    )


def _trainable(model: Any) -> bool:
    quantized = getattr(model, "quantization_method", None) is not None
    return not quantized and any(p.requires_grad for p in model.parameters())
