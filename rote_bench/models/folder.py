"""What can be told of a model's files before any of them is loaded: what is no model, and what would never fit."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..machine import memory_at_hand
from ..paths import is_pointer
from .sizing import QUANTITY

TOKENIZERS = ("tokenizer.*", "*.tiktoken", "tekken.json", "vocab.*", "merges.txt", "spiece.model", "*.bpe.model")
# More than any model has, by far.
MOST = {"layers": 10_000, "width": 10**6, "heads": 10**5, "head_width": 10**6, "vocab_size": 10**8, "mlp_width": 10**7}
MOST |= {"expert_width": 10**7, "experts": 10**5, "two_head_widths": 10**6, "state": 10**6}
ADAPTER = "adapter_config.json"
SLACK = 20_000_000  # parameters beyond four times those of the files that are still built, to name what is missing


def check_files(place: Path, *, name: str, where: str) -> None:
    """Whether the files of a folder, or one file, are what they are called.

    Raises:
        UserError: for adapters, pointers of git-lfs, weights that are cut short, and sizes that they do not have.
    """
    cannot = f"cannot load {name!r}"
    if place.is_file():
        _check_pointer(place, cannot, where)
        return
    if is_adapter(place):  # whatever else is there: some releases would look for the base that it names
        raise UserError(
            f"{cannot}: it is an adapter, whose base lies elsewhere",
            where=where,
            hint="merge them with PEFT's merge_and_unload(), and save model and tokenizer with save_pretrained()",
        )
    weights = _weights(place)
    for file in sorted({*weights, *(f for f in place.iterdir() if f.suffix in (".json", ".model", ".txt"))}):
        if file.is_file():
            _check_pointer(file, cannot, where)
    shapes = [shape for file in weights if file.is_file() for shape in _shapes(file, cannot, where)]
    config = read_json(place / "config.json", cannot, where)
    if config is not None and shapes:
        check_config(config, shapes, name=name, where=where)


def is_adapter(place: Path) -> bool:
    """Whether a folder holds an adapter."""
    return (place / ADAPTER).is_file()


def check_adapter(place: Path, *, name: str, where: str) -> None:
    """Whether the files of an adapter's folder are what they are called, and all of it is safetensors.

    Raises:
        UserError: for a model beside it, pickled weights or none, pointers of git-lfs, and weights that are cut short.
    """
    cannot = f"cannot load {name!r}"
    if _weights(place):
        raise UserError(
            f"{cannot}: it holds a whole model, and an adapter", where=where, hint=f"move {ADAPTER} into another folder"
        )
    weights = place / "adapter_model.safetensors"
    for file in sorted({weights, *(f for f in place.iterdir() if f.suffix in (".json", ".model", ".txt"))}):
        if file.is_file():
            _check_pointer(file, cannot, where)
    if weights.is_file():
        _shapes(weights, cannot, where)
        return
    pickled = sorted(file.name for file in place.glob("*.bin"))
    why = f"its weights are pickled ({pickled[0]}), and loading those can run code" if pickled else "it has no weights"
    raise UserError(f"{cannot}: {why}", where=where, hint=f"PEFT's save_pretrained() writes {weights.name}")


def check_config(
    config: Mapping[str, Any], shapes: list[tuple[int, ...]] | None = None, *, name: str, where: str
) -> None:
    """Whether a configuration asks for a model that can be built.

    Args:
        shapes: of the tensors of its weights, where there are some: no layer has none, no width more than all.

    Raises:
        UserError: naming the field.
    """
    elements = None if shapes is None else sum(map(math.prod, shapes))
    for key, value in _values(config):
        quantity = QUANTITY.get(key)
        most = MOST.get(quantity or "", None)
        if most is None:
            continue
        if isinstance(value, str):
            told = ", which is no number"
        elif shapes is not None and quantity == "layers" and value > max(len(shapes), 1):
            told = f", and its weights hold {len(shapes)} tensors"
        elif elements is not None and quantity != "head_width" and value > max(elements, 1):
            told = f", and its weights hold {elements} numbers"
        elif value > most:
            told = ""
        else:
            continue
        raise UserError(f"{name!r} cannot be built: its configuration says {key} {str(value)[:20]}{told}", where=where)


def check_weight(empty: Any, elements: int | None, *, name: str, where: str) -> None:
    """Whether a model that was built without memory is as large as its weights, and fits into memory.

    Args:
        empty: the model, on the device ``meta``.
        elements: the numbers that its files hold, where that is known.

    Raises:
        UserError: with both sizes.
    """
    count = sum(p.numel() for p in empty.parameters())
    if elements is not None and count > 4 * elements + SLACK:
        raise UserError(
            f"{name!r} cannot be loaded: its configuration describes {count:,} parameters, and its weights hold"
            f" {elements:,}",
            where=where,
        )
    needed = sum(t.numel() * t.element_size() for t in (*empty.parameters(), *empty.buffers()))
    free = memory_at_hand()
    if free is not None and needed > free:
        raise UserError(
            f"{name!r} takes {needed / 2**30:.0f} GiB, and {free / 2**30:.0f} GiB are free",
            where=where,
            hint="choose a smaller one",
        )


def elements_of(place: Path) -> int | None:
    """How many numbers the weights of a folder hold; None where that is not known, as of quantised ones."""
    config = read_json(place / "config.json", str(place), None)
    files = [file for file in _weights(place) if file.is_file()]
    if not files or config is None or "quantization_config" in config:
        return None
    return sum(math.prod(shape) for file in files for shape in _shapes(file, str(place), None))


def tokenizer_missing(place: Path) -> bool:
    """Whether a folder has no file that a tokenizer could be read from."""
    return not any(any(place.glob(pattern)) for pattern in TOKENIZERS)


def tokenizer_needs(place: Path) -> tuple[str, str] | None:
    """The file that a tokenizer has to be read from, and the package that reads it; None for tokenizer.json."""
    if (place / "tokenizer.json").exists():
        return None
    for file in (place / "tokenizer.model", place / "spiece.model", *place.glob("*.bpe.model")):
        if file.is_file():
            with file.open("rb") as opened:
                return file.name, "sentencepiece" if opened.read(1) == b"\n" else "tiktoken"
    if (place / "tekken.json").is_file() and not (place / "vocab.json").exists():
        return "tekken.json", "mistral-common"
    return None


def read_json(file: Path, cannot: str, where: str | None) -> dict[str, Any] | None:
    """What a file of settings says; None without one.

    Raises:
        UserError: when it is no JSON object.
    """
    if not file.is_file():
        return None
    try:
        found = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise UserError(f"{cannot}: {file.name} is not JSON: {str(error)[:100]}", where=where) from None
    if not isinstance(found, dict):
        raise UserError(f"{cannot}: {file.name} holds no settings but {type(found).__name__}", where=where)
    return found


def _weights(place: Path) -> list[Path]:
    """The files of weights that are read from a folder: the one file, or those of its index."""
    single, index = place / "model.safetensors", place / "model.safetensors.index.json"
    if single.exists() or not index.is_file():
        return [single] if single.exists() else []
    try:
        shards = json.loads(index.read_bytes())["weight_map"].values()
        return sorted({place / str(shard) for shard in shards})
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):  # also a pointer; told by what reads it
        return []


def _check_pointer(file: Path, cannot: str, where: str) -> None:
    with file.open("rb") as opened:
        if is_pointer(opened.read(200)):
            raise UserError(
                f"{cannot}: {file.name} is a git-lfs pointer, not the file itself",
                where=where,
                hint="`git lfs pull` in its folder fetches the files",
            )


def _shapes(file: Path, cannot: str, where: str | None) -> list[tuple[int, ...]]:
    """The shape of each tensor of a safetensors file, by its header.

    Raises:
        UserError: when the file is none, or does not have the length that its header says.
    """
    size = file.stat().st_size
    broken = UserError(
        f"{cannot}: {file.name} is cut short or damaged", where=where, hint="copy or download it once more"
    )
    with file.open("rb") as opened:
        start = opened.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else size
        if length + 8 > size:
            raise broken
        try:
            header = json.loads(opened.read(length))
            tensors = [entry for key, entry in header.items() if key != "__metadata__"]
            end = max((int(entry["data_offsets"][1]) for entry in tensors), default=0)
            shapes = [tuple(map(int, entry["shape"])) for entry in tensors]
        except (ValueError, RecursionError, KeyError, TypeError, AttributeError, IndexError):
            raise broken from None
    if 8 + length + end != size:
        raise broken
    return shapes


def _values(value: Any, key: str = "") -> Iterator[tuple[str, float | str]]:
    """Name and value of every number and text of a configuration, also of those inside it."""
    stack: list[tuple[str, Any]] = [(key, value)]
    while stack:
        name, found = stack.pop()
        if isinstance(found, Mapping):
            stack += found.items()
        elif isinstance(found, list):
            stack += [(name, entry) for entry in found]
        elif isinstance(found, int | float | str) and not isinstance(found, bool):
            yield name, found
