"""Pretrained weights: where a name leads, what is read there, and what of it belongs to a cell's identity."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..hashing import digest
from ..paths import of_user
from .content import of_code, of_files, of_state, of_tokenizer
from .folder import check_config, check_files, check_weight, elements_of, is_adapter, tokenizer_missing
from .hub import cached, check_hub, commit, fetched_adapter
from .load import QUANTIZED, FromConfig, LoadedModel, ModelProvider, ModelRequest
from .names import ModelName, parse
from .tokenizer import check_pad, read_tokenizer, unloadable
from .weights import read


class FromPretrained:
    """Pretrained weights with their tokenizer: ``hf:gpt2``, ``hf:./folder``, ``hf:./file.gguf``, ``hf:name@sha``."""

    name = "pretrained"
    description = "hf:NAME_OR_PATH[@REVISION]: pretrained weights and tokenizer from a folder, the cache or the hub"

    def matches(self, model_name: str) -> bool:
        return model_name.startswith("hf:")

    def names(self) -> list[str]:
        return ["hf:NAME_OR_PATH[@REVISION]"]

    def reads(self, setting: str) -> bool:
        """Whether a setting of the task's ``model`` reaches weights that are there already."""
        return setting == "attention"

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
    return folder if folder is not None and is_adapter(folder) else None


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


BUILT_IN: tuple[ModelProvider, ...] = (FromConfig(), FromPretrained())
