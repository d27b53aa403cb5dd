"""The models that a cell is diagnosed by: those that training kept, or those of folders that the user names."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UserError
from ..paths import of_user
from ..report.record import POST, PRE
from .cell import Cell

if TYPE_CHECKING:
    from ..models.load import LoadedModel
    from ..training.course import Trained


def snapshots(cell: Cell, anatomy: Any, trained: Trained, tokenizer: Any, builder: str | None = None) -> dict[str, Any]:
    """The snapshots that there are as models, saved as ordinary folders.

    Args:
        builder: what the source of a model without a name hashes to.
    """
    from ..models.keeping import save

    found = {POST: anatomy}
    if trained.pre_step is not None:
        _let_go(anatomy.model)
        before = copy.deepcopy(anatomy.model)
        before.load_state_dict(trained.pre_state)
        found = {PRE: anatomy.on(before.eval()), **found}
    for name, snapshot in found.items():
        folder = cell.folder / "checkpoints" / name
        if folder.exists():
            shutil.rmtree(folder)
        save(snapshot.model, folder, builder)
        tokenizer.save_pretrained(folder)
    return _whole(found)


def _let_go(model: Any) -> None:
    """Replace what modules keep of a training step, such as an auxiliary loss, by its value: no graph can be copied."""
    import torch

    for module in model.modules():
        for name, value in list(vars(module).items()):
            if isinstance(value, torch.Tensor) and not value.is_leaf:
                setattr(module, name, value.detach())
            elif isinstance(value, list):
                value[:] = [v.detach() if isinstance(v, torch.Tensor) and not v.is_leaf else v for v in value]


def _whole(found: Mapping[str, Any]) -> dict[str, Any]:
    """Snapshots as they are diagnosed: the weights of each hold its adapter, where one was trained."""
    from ..models.lora import is_adapted, merged

    return {name: each.on(merged(each.model)) if is_adapted(each.model) else each for name, each in found.items()}


def kept_snapshots(checkpoints: Path, anatomy: Any, names: Collection[str]) -> dict[str, Any]:
    """The snapshots that a training left behind, as it had them: what it saved goes back into the model it began with.

    Args:
        checkpoints: the folder that holds them.
        anatomy: of the model before training, which becomes the last snapshot.

    Raises:
        UserError: when a folder does not hold all weights of that model.
    """
    from ..models.keeping import saved_state

    model = anatomy.model
    states = {name: saved_state(checkpoints / name, model) for name in names}
    found = {}
    if PRE in states:
        before = copy.deepcopy(model)
        before.load_state_dict(states[PRE])
        found[PRE] = anatomy.on(before.eval())
    model.load_state_dict(states[POST])
    return _whole({**found, POST: anatomy})


def given_snapshots(cell: Cell, anatomy: Any, loaded: LoadedModel) -> dict[str, Any]:
    """Snapshots from folders that the user names, as the model itself is kept.

    Raises:
        UserError: when a folder holds no weights of the same architecture and size.
    """
    named = {name: folder for name, folder in cell.settings.snapshots.items() if name in (PRE, POST)}
    return {POST: anatomy, **{name: open_snapshot(folder, cell, anatomy, loaded) for name, folder in named.items()}}


def open_snapshot(folder: str, cell: Cell, anatomy: Any, loaded: LoadedModel) -> Any:
    """The model of a folder, as the cell's own model is kept; an adapter's is its base with it merged in.

    Raises:
        UserError: when it holds no weights of the same architecture and size.
    """
    from ..models.folder import check_files, is_adapter
    from ..models.keeping import opened
    from ..models.pretrained import with_base
    from ..models.wrapped import Wrapped

    place = of_user(folder)
    if place.is_dir():
        if not (is_adapter(place) or isinstance(loaded.model, Wrapped)):  # what strangers call layers, nobody knows
            check_files(place, name=folder, where="--snapshot")
    elif folder.startswith((".", "/", "~")):
        raise UserError(f"no folder {folder!r}", where="--snapshot")
    like = next(loaded.model.parameters())
    try:
        trusted = cell.settings.trust_remote_code
        if is_adapter(place):
            model = with_base(folder, loaded.model, trust_remote_code=trusted)
        else:
            model = opened(place, loaded.model, name=folder, where="--snapshot", trust_remote_code=trusted)
    except UserError:
        raise
    except Exception as error:  # whatever the libraries below make of files that are not as they expect
        raise UserError(
            f"cannot load {folder!r}: {' '.join(str(error).split())[:200] or type(error).__name__}",
            where="--snapshot",
            hint="a snapshot is a folder with config.json and weights in safetensors",
        ) from error
    if {n: p.shape for n, p in model.named_parameters()} != {n: p.shape for n, p in loaded.model.named_parameters()}:
        raise UserError(
            f"{folder!r} is no snapshot of {cell.model_name}: its weights have other names or sizes",
            where="--snapshot",
        )
    model.config.use_cache = False
    return anatomy.on(model.to(like.device).eval())
