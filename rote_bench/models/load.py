"""From a model's name to weights: random ones from a configuration, or pretrained ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ..errors import UserError
from ..machine import memory_at_hand
from ..paths import of_user
from .content import of_code, of_files, of_state, of_tokenizer
from .folder import check_config, check_files, check_weight, elements_of, tokenizer_missing, tokenizer_needs
from .hub import cached, check_hub, commit
from .names import SIZES, ModelName, Source, is_registered, is_sized, known_types, parse, registered_types
from .weights import read

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
        _check_memory(request, sum(p.numel() for p in empty.parameters()))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(request.seed)
            model = AutoModelForCausalLM.from_config(config, attn_implementation=attention)
        model = model.to(device=request.device, dtype=getattr(torch, request.dtype)).eval()
        builder = of_model(model) if is_registered(request.name) else None
        return LoadedModel(model, None, "scratch", name.model_type, builder=builder)


class FromPretrained:
    """Pretrained weights with their tokenizer: ``hf:gpt2``, ``hf:./folder``, ``hf:./file.gguf``, ``hf:name@sha``."""

    name = "pretrained"
    description = "hf:NAME_OR_PATH[@REVISION]: pretrained weights and tokenizer from a folder, the cache or the hub"

    def matches(self, model_name: str) -> bool:
        return model_name.startswith("hf:")

    def names(self) -> list[str]:
        return ["hf:NAME_OR_PATH[@REVISION]"]

    def load(self, request: ModelRequest) -> LoadedModel:
        import torch

        name, place, local, common = _located(request)
        gguf = "gguf_file" in common
        quantized = _quantization(request)
        options: dict[str, Any] | None = {
            "dtype": getattr(torch, "float32" if quantized else request.dtype),
            "attn_implementation": request.overrides.get("attention", "eager"),
            **({"quantization_config": quantized} if quantized else {} if gguf else {"use_safetensors": True}),
        }
        tokenizer, model = _fetch(name, place, options, common, local=local, bare=not request.needs_tokenizer)
        if tokenizer is not None:
            check_pad(tokenizer, model)
            tokenizer.padding_side = "right"
        if gguf:
            model = _unquantized(model).to(getattr(torch, request.dtype))
        model.config.use_cache = False
        content = of_files(place) if local else commit(name.path, name.revision)
        if quantized is None:
            model = model.to(request.device)
        kept = getattr(model, "quantization_method", None) is None
        return LoadedModel(
            model.eval(),
            tokenizer,
            "pretrained",
            model.config.model_type,
            content or name.revision,
            trainable=kept,
            weights=content or of_state(model),
            tokenizer_content=None if tokenizer is None else of_tokenizer(tokenizer),
            code=of_code(place if local else None, model, tokenizer) if request.trust_remote_code else None,
        )


def own_tokenizer(request: ModelRequest) -> Any:
    """The tokenizer of pretrained weights, without the weights."""
    name, place, local, common = _located(request)
    return _fetch(name, place, None, common, local=local)[0]


def _located(request: ModelRequest) -> tuple[ModelName, Path, bool, dict[str, Any]]:
    """The name understood, the folder or file that it may be, whether that is here, and how it is to be read.

    Raises:
        UserError: when it can only be a folder or file, and is not here.
    """
    name = parse(request.name)
    place = of_user(name.path)
    gguf = place.suffix == ".gguf"
    if name.path.startswith((".", "/", "~")) and not (place.is_file() if gguf else place.is_dir()):
        raise UserError(f"no {'file' if gguf else 'folder'} {name.path!r}", where="--model")
    common: dict[str, Any] = {"revision": name.revision or "main", "trust_remote_code": request.trust_remote_code}
    if gguf:
        _needs("gguf", "accelerate", what="GGUF files")
        common["gguf_file"] = place.name
    return name, place, place.is_dir() or (gguf and place.is_file()), common


def _fetch(
    name: ModelName,
    place: Path,
    options: dict[str, Any] | None,
    common: dict[str, Any],
    *,
    local: bool,
    bare: bool = False,
) -> tuple[Any, Any]:
    """Tokenizer and model from a folder, the cache or the hub; without ``options`` the tokenizer alone.

    Args:
        bare: the model alone.
    """
    path = name.path
    if local:
        check_files(place, name=path, where="--model")
        gguf = "gguf_file" in common
        source = str(place.parent if gguf else place)
        return _fetched(source, path, None if gguf else place, options, common, offline=True, bare=bare)
    try:
        return _fetched(path, path, cached(path, name.revision), options, common, offline=True, bare=bare)
    except (OSError, ValueError):  # not all of it is in the cache
        check_hub(path, name.revision)
    try:
        return _fetched(path, path, None, options, common, offline=False, bare=bare)
    except (OSError, ValueError) as error:
        raise _unloadable(path, error) from error


def _fetched(
    source: str,
    path: str,
    place: Path | None,
    options: dict[str, Any] | None,
    common: dict[str, Any],
    *,
    offline: bool,
    bare: bool,
) -> tuple[Any, Any]:
    """Tokenizer and model.

    Args:
        path: what the user calls them.
        place: the folder that they are read from, where it is known.
        offline: ask nobody.
        bare: the model alone.

    Raises:
        UserError: when they cannot be read. Offline, what is no fault of a folder's goes through as it is.
    """
    tokenizer = None if bare else _read_tokenizer(source, path, place, common, offline=offline)
    if options is None:
        return tokenizer, None
    try:
        if "gguf_file" not in common:
            _check_size(source, path, place, common, offline=offline)
        model = read(source, name=path, where="--model", local_files_only=offline, **options, **common)
    except UserError:
        raise
    except Exception as error:  # as above
        if place is None and offline and isinstance(error, OSError | ValueError):
            raise
        raise _unloadable(path, error) from error
    return tokenizer, model


def _read_tokenizer(source: str, path: str, place: Path | None, common: dict[str, Any], *, offline: bool) -> Any:
    """The tokenizer; as for ``_fetched``."""
    from transformers import AutoTokenizer

    if place is not None and not common["trust_remote_code"]:
        _check_tokenizer(place, path)
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, local_files_only=offline, **common)
    except Exception as error:  # whatever the libraries below make of files that are not as they expect
        if place is None and offline and isinstance(error, OSError | ValueError):
            raise
        raise _unloadable(path, error, "its tokenizer cannot be read: ") from error
    if not {*tokenizer.get_vocab()} - {*map(str, tokenizer.get_added_vocab())}:
        raise _without_tokenizer(path)
    return tokenizer


def _check_size(source: str, path: str, place: Path | None, common: dict[str, Any], *, offline: bool) -> None:
    """Refuse a configuration that describes more than its weights hold, or than fits into memory.

    Raises:
        UserError: with both sizes.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    if common["trust_remote_code"]:  # such code is known to compute as it builds
        return
    config = AutoConfig.from_pretrained(source, local_files_only=offline, **common)
    if place is None:
        check_config(config.to_dict(), name=path, where="--model")
    with torch.device("meta"):
        empty = AutoModelForCausalLM.from_config(config)
    check_weight(empty, None if place is None else elements_of(place), name=path, where="--model")


def check_pad(tokenizer: Any, model: Any) -> None:
    """Pad with a token that the model has: padding is never read, but it is looked up."""
    from .wrapped import words_of

    rows = words_of(model)
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id >= rows:
        end = tokenizer.eos_token_id
        tokenizer.pad_token = tokenizer.eos_token if end is not None and end < rows else None


def _check_tokenizer(place: Path, path: str) -> None:
    """Whether a folder has a tokenizer, and what reads it is installed.

    Raises:
        UserError: naming the package.
    """
    from importlib.util import find_spec

    if tokenizer_missing(place):
        raise _without_tokenizer(path)
    needed = tokenizer_needs(place)
    if needed is not None and find_spec(needed[1].replace("-", "_")) is None:
        raise UserError(
            f"cannot load {path!r}: its tokenizer is {needed[0]}, which {needed[1]} reads",
            where="--model",
            hint=f"pip install {needed[1]}, or put the tokenizer.json of the same model beside it",
        )


def _without_tokenizer(path: str) -> UserError:
    return UserError(
        f"cannot load {path!r}: it has no tokenizer",
        where="--model",
        hint="save one into the folder with tokenizer.save_pretrained()",
    )


def _needs(*packages: str, what: str) -> None:
    """Say which packages are missing.

    Raises:
        UserError: with the command that installs them.
    """
    from importlib.util import find_spec

    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        raise UserError(
            f"{what} need {' and '.join(missing)}", where="--model", hint=f"pip install {' '.join(missing)}"
        )


def _quantization(request: ModelRequest) -> Any:
    """The settings of 8- or 4-bit weights, or None."""
    if request.dtype not in QUANTIZED:
        return None
    from transformers import BitsAndBytesConfig

    _needs("bitsandbytes", "accelerate", what=f"{request.dtype} weights")
    return BitsAndBytesConfig(load_in_8bit=request.dtype == "8bit", load_in_4bit=request.dtype == "4bit")


def _unquantized(model: Any) -> Any:
    """The same weights in a model that knows nothing of the file they were read from, so that it can be saved."""
    config = type(model.config)(**{k: v for k, v in model.config.to_dict().items() if k != "quantization_config"})
    fresh = type(model)(config)
    fresh.load_state_dict(model.state_dict())
    return fresh


def _unloadable(path: str, error: Exception, what: str = "") -> UserError:
    """What is wrong with files that could not be loaded, and what to do about it."""
    reason = " ".join(str(error).split())[:300].rstrip(": ")
    if not isinstance(error, OSError | ValueError) or not reason:
        reason = f"{type(error).__name__}: {reason}"
    hint = "a folder needs config.json, a tokenizer and weights in safetensors"
    place = of_user(path)
    pickled = sorted(p.name for pattern in ("*.bin", "*.pt", "*.pth") for p in place.glob(pattern))
    if "trust_remote_code" in str(error):
        what, reason = "", "it comes with code of its own"
        hint = "read that code, then add --trust-remote-code to let it run"
    elif pickled and not any(place.glob("*.safetensors")):
        what, reason = "", f"its weights are pickled ({pickled[0]}), and loading those can run code"
        hint = "save them with save_pretrained(), which writes safetensors"
    return UserError(f"cannot load {path!r}: {what}{reason}", where="--model", hint=hint)


def _check_memory(request: ModelRequest, parameters: int) -> None:
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


BUILT_IN: tuple[ModelProvider, ...] = (FromConfig(), FromPretrained())
