"""Training an adapter in place of a model's weights: low-rank changes of some of its matrices."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import UserError, did_you_mean
from ..strangers import reason_of

ADAPTER = "default"  # its name in the library
FUSED = "out_proj"  # of models with a state space
PREFIX = "base_model.model."  # before each tensor's name in a file


@dataclass(frozen=True)
class Lora:
    """What is trained of a pretrained model (Hu et al., 2021): W becomes W + alpha / rank * B A.

    Attributes:
        kind: of adapter.
        rank: rows of A and columns of B.
        alpha: times the change, over the rank; None takes twice the rank.
        targets: names of the matrices that are changed, or the ends of their paths; None takes all but the one that
            makes the logits.
        dropout: of what an adapter reads.
    """

    kind: str = "lora"
    rank: int = 8
    alpha: float | None = None
    targets: tuple[str, ...] | None = None
    dropout: float = 0.0

    @classmethod
    def asked(cls, given: Mapping[str, Any]) -> Lora:
        """From the key ``model.peft`` of a task file."""
        targets = given.get("targets")
        return cls(**{**given, "targets": None if targets is None else tuple(targets)})


def is_adapted(model: Any) -> bool:
    """Whether an adapter is trained in place of a model's own weights."""
    return "peft_config" in getattr(model, "__dict__", {})


def adapt(model: Any, asked: Lora, base: str, *, revision: str | None, seed: int, where: str) -> None:
    """Put an adapter that changes nothing yet into a model, and let it alone be trained.

    Args:
        base, revision: what the adapter is to name as its base.
        seed: of A; B is zero.
        where: the key or flag by which it was asked for.

    Raises:
        UserError: when a target is no matrix of the model, or the library cannot adapt it.
    """
    import torch
    from peft import LoraConfig, inject_adapter_in_model

    targets = _targets(model, asked.targets, where)
    config = LoraConfig(
        r=asked.rank,
        lora_alpha=2 * asked.rank if asked.alpha is None else asked.alpha,
        target_modules=targets,
        lora_dropout=asked.dropout,
        task_type="CAUSAL_LM",
        base_model_name_or_path=base,
        revision=revision,
    )
    try:
        with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
            warnings.simplefilter("ignore")  # it turns matrices round by itself where their class has them so
            torch.manual_seed(seed)
            inject_adapter_in_model(config, model, ADAPTER)
    except Exception as error:  # whatever the library makes of a class that it does not know
        reason = reason_of(error, 200)
        raise UserError(f"no adapter can be put into {model.config.model_type}: {reason}", where=where) from error
    for parameter in model.parameters():
        if parameter.requires_grad and parameter.dtype in (torch.float16, torch.bfloat16):
            parameter.data = parameter.data.float()  # steps would be lost in so few digits
    model.eval()


def _targets(model: Any, wanted: tuple[str, ...] | None, where: str) -> list[str]:
    """The names of the matrices that are changed.

    Raises:
        UserError: naming one that matches none, or is multiplied past its module, and those that there are.
    """
    paths = _matrices(model)
    called = _called(model)
    names = sorted({_name(path) for path in paths if path in called} - _fused(model))
    for target in wanted or ():
        matching = [path for path in paths if path == target or path.endswith(f".{target}")]
        if not called & {*matching}:
            what = "a matrix that is read past its module, of" if matching else "no matrix of"
            raise UserError(
                f"{target!r} is {what} {model.config.model_type}", where=where, hint=did_you_mean(target, names)
            )
    if not names:
        raise UserError(f"{model.config.model_type} has no matrices that an adapter changes", where=where)
    return sorted(wanted) if wanted else names


def _matrices(model: Any) -> list[str]:
    """The paths of the linear maps of a model but for the one that makes the logits."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    head = model.get_output_embeddings()
    return [p for p, m in model.named_modules() if isinstance(m, nn.Linear | Conv1D) and m is not head]


def _called(model: Any) -> set[str]:
    """The paths of the modules that a run calls: what is read past its module, an adapter would not change."""
    import torch

    from .probe import recorded
    from .wrapped import words_of

    ids = torch.arange(8, device=next(model.parameters()).device)[None] % words_of(model)
    with torch.no_grad(), recorded(model, ids.shape) as calls:
        model(input_ids=ids)
    return {call.path for call in calls}


def _fused(model: Any) -> set[str]:
    """Names of matrices that are called here, and that kernels elsewhere read themselves."""
    from .statespace import namespaces

    scans = {"mamba_selective_scan", "mamba2_chunk_scan"}
    return {FUSED} if any(scans & namespace.keys() for namespace in namespaces(model)) else set()


def _name(path: str) -> str:
    """The last part of a path, with what is before it where that is a number."""
    parts = path.split(".")
    return ".".join(parts[-2:] if parts[-1].isdigit() else parts[-1:])


def described(model: Any) -> dict[str, Any]:
    """The adapter of a model, and how many of the parameters are trained, for the report."""
    config = model.peft_config[ADAPTER]
    plain = Lora(
        rank=config.r,
        alpha=config.lora_alpha,
        targets=tuple(sorted(config.target_modules)),
        dropout=config.lora_dropout,
    )
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return {**asdict(plain), "targets": list(plain.targets or ()), "trainable_parameters": trained}


def merged(model: Any) -> Any:
    """A model whose weights hold the adapter: a copy of an adapted one, any other itself.

    In float32 it is the same function but for rounding; in fewer digits the sum is rounded once more.
    """
    if not is_adapted(model):
        return model
    from peft.tuners.tuners_utils import BaseTunerLayer

    whole = copy.deepcopy(model)
    for path, module in [*whole.named_modules()]:
        if isinstance(module, BaseTunerLayer):
            module.merge()
            whole.set_submodule(path, module.get_base_layer())
    del whole.peft_config
    for parameter in whole.parameters():
        parameter.requires_grad_(parameter.is_floating_point())
    return whole.eval()


def save(model: Any, folder: Path) -> None:
    """Write the adapter of a model, without its base, as the library reads it."""
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    from .adapters import WEIGHTS

    config = copy.copy(model.peft_config[ADAPTER])
    config.target_modules, config.inference_mode = sorted(config.target_modules), True
    folder.mkdir(parents=True, exist_ok=True)
    config.save_pretrained(str(folder))
    state = get_peft_model_state_dict(model, adapter_name=ADAPTER, save_embedding_layers=False)
    tensors = {f"{PREFIX}{name}": value.detach().cpu().contiguous() for name, value in sorted(state.items())}
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


def saved_state(folder: Path, model: Any) -> Mapping[str, Any]:
    """Parameters and buffers of an adapted model with the adapter that was saved to a folder.

    Raises:
        UserError: when it does not hold all weights of that adapter.
    """
    from safetensors.torch import load_file

    from .adapters import WEIGHTS, set_weights

    read = copy.deepcopy(model)
    tensors = {name.removeprefix(PREFIX): value for name, value in load_file(folder / WEIGHTS).items()}
    set_weights(read, tensors, str(folder), str(folder))
    state: Mapping[str, Any] = read.state_dict()
    return state
