"""Weights as their files have them: nothing that a file lacks is made up, and nothing that it holds is left out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

SHOWN = 3  # tensors that a message names


def read(source: str | Path, *, name: str, where: str, **options: Any) -> PreTrainedModel:
    """A causal language model with exactly the weights of its files.

    What is tied needs to be there once, and what the architecture itself declares to be ignored is ignored.

    Args:
        source: a folder, or a name on the hub.
        name: what the user calls it.
        where: the flag by which it was named.
        options: of ``from_pretrained``.

    Raises:
        UserError: when weights are missing, left over or of another size. What else is wrong, the library says.
    """
    from transformers import AutoModelForCausalLM

    model, seen = AutoModelForCausalLM.from_pretrained(
        source,
        output_loading_info=True,
        ignore_mismatched_sizes=True,
        adapter_kwargs={"local_files_only": True},  # with peft, the hub would be asked whether the name is an adapter's
        **options,
    )
    check_whole(seen, name, where)
    _ask_greedily(model)
    whole: PreTrainedModel = model
    return whole


def check_whole(seen: Mapping[str, Any], name: str, where: str, *, described: str = "config.json describes") -> None:
    """Whether all weights were found, of the right sizes, and no others.

    Args:
        seen: what is said of them, as the library does; of tensors of another size also their two shapes.
        described: by what, of which file.

    Raises:
        UserError: naming the first that are not as they should be.
    """
    faults = []
    other = {key if isinstance(key, str) else key[0]: key for key in seen.get("mismatched_keys") or ()}
    if other:
        shapes = next(iter(sorted(other.items())))[1]
        told = (
            ""
            if isinstance(shapes, str)
            else f": {tuple(shapes[1])} in the file, {tuple(shapes[2])} by {described.split()[0]}"
        )
        faults.append(f"{_listed(other, 'has', 'have')} another size{told}")
    if missing := set(seen.get("missing_keys") or ()) - other.keys():
        faults.append(f"{_listed(missing, 'is', 'are')} missing")
    if left := set(seen.get("unexpected_keys") or ()):
        faults.append(f"{_listed(left, 'belongs', 'belong')} to no part of the model")
    faults += [" ".join(str(text).split())[:200] for text in seen.get("error_msgs") or ()]
    if faults:
        raise UserError(
            f"the weights of {name!r} are not those of the model that {described}: {'; '.join(faults)}",
            where=where,
            hint="what is missing would be random; save weights and configuration together with save_pretrained()",
        )


def _listed(names: Iterable[str], one: str, several: str) -> str:
    """The first of the names, and how many there are."""
    found = sorted(names)
    shown = ", ".join(repr(name[:100]) for name in found[:SHOWN])
    if len(found) == 1:
        return f"{shown} {one}"
    return f"{shown} {several}" if len(found) <= SHOWN else f"{len(found)} tensors, such as {shown}, {several}"


def _ask_greedily(model: Any) -> None:
    """Keep of the settings of generation only which tokens begin, end and pad a text.

    Nothing here draws answers at random, and some releases refuse to save a model whose settings contradict each other.
    """
    from transformers import GenerationConfig

    given = getattr(model, "generation_config", None)
    if given is not None:
        ids = {key: getattr(given, key, None) for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
        model.generation_config = GenerationConfig(**{key: value for key, value in ids.items() if value is not None})
