"""From a model's name to weights: random ones from a configuration, or pretrained ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from ..errors import UserError
from ..hashing import digest
from ..machine import memory_at_hand
from ..paths import of_user
from .content import of_code, of_files, of_state, of_tokenizer
from .folder import ADAPTER, check_config, check_files, check_weight, elements_of, tokenizer_missing
from .hub import cached, check_hub, commit, fetched_adapter
from .names import SIZES, ModelName, Source, is_registered, is_sized, known_types, parse, registered_types
from .tokenizer import check_pad, read_tokenizer, unloadable
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
        adapter = _adapter(name, place)
        if adapter is not None:
            return self._adapted(request, name, adapter, common)
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

    def _adapted(self, request: ModelRequest, name: ModelName, folder: Path, common: dict[str, Any]) -> LoadedModel:
        """The base that an adapter names, with the adapter merged into its weights."""
        import torch

        from .adapters import applied, base_of, check_installed, of_adapter

        check_installed("--model")
        if request.dtype in QUANTIZED:
            raise UserError(f"an adapter cannot be merged into {request.dtype} weights", where="--dtype")
        own = request.needs_tokenizer and not tokenizer_missing(folder)
        base_name = f"hf:{base_of(folder, name=name.path, where='--model')}"
        needs = request.needs_tokenizer and not own
        base = self.load(replace(request, name=base_name, dtype="float32", needs_tokenizer=needs))
        model = applied(base.model, folder, name=name.path, where="--model").to(getattr(torch, request.dtype))
        tokenizer, tokenizer_content, code = base.tokenizer, base.tokenizer_content, base.code
        if own:
            tokenizer = read_tokenizer(str(folder), name.path, folder, common, offline=True)
            check_pad(tokenizer, model)
            tokenizer.padding_side, tokenizer_content = "right", of_tokenizer(tokenizer)
            came = of_code(folder, tokenizer) if request.trust_remote_code else None
            code = code if came is None else f"sha256:{digest([code, came])}"
        content = of_adapter(folder)
        return replace(
            base,
            model=model.eval(),
            tokenizer=tokenizer,
            revision=folder.name if not of_user(name.path).is_dir() else content,  # of the hub's cache, its commit
            weights=content,
            tokenizer_content=tokenizer_content,
            base=base.weights,
            code=code,
        )


def with_base(folder: str, like: Any, *, trust_remote_code: bool) -> Any:
    """The model of a snapshot that is an adapter: its base, with the adapter merged in, kept as another model is.

    Raises:
        UserError: when the base is not there, or the adapter is not one of it.
    """
    first = next(like.parameters())
    attention = getattr(like.config, "_attn_implementation", None)
    request = ModelRequest(
        f"hf:{folder}",
        0,
        0,
        device=str(first.device),
        dtype=str(first.dtype).removeprefix("torch."),
        overrides={"attention": attention} if attention else {},
        trust_remote_code=trust_remote_code,
        needs_tokenizer=False,
    )
    try:
        return FromPretrained().load(request).model
    except UserError as error:
        raise UserError(error.what, where="--snapshot", hint=error.hint) from error


def own_tokenizer(request: ModelRequest) -> Any:
    """The tokenizer of pretrained weights, without the weights."""
    name, place, local, common = _located(request)
    adapter = _adapter(name, place)
    if adapter is not None:
        from .adapters import base_of

        if not tokenizer_missing(adapter):
            return read_tokenizer(str(adapter), name.path, adapter, common, offline=True)
        return own_tokenizer(replace(request, name=f"hf:{base_of(adapter, name=name.path, where='--model')}"))
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


def _adapter(name: ModelName, place: Path) -> Path | None:
    """The folder of an adapter, here or in the cache of the hub; None for what is none."""
    folder = place if place.is_dir() else fetched_adapter(name.path, name.revision)
    return folder if folder is not None and (folder / ADAPTER).exists() else None


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
        raise unloadable(path, error) from error


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
    tokenizer = None if bare else read_tokenizer(source, path, place, common, offline=offline)
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
        raise unloadable(path, error) from error
    return tokenizer, model


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
