"""A finished cell opened again: the weights of a snapshot, and what it was asked, encoded as its diagnoses saw it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import UserError, did_you_mean
from .plugins import load as load_plugins
from .terminal import near

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from .plugins import Registry
    from .report.record import Report
    from .spec.model import TaskSpec
    from .subject import View


@dataclass(frozen=True, repr=False)
class Snapshot:
    """The weights of a cell at one moment, with the examples that diagnoses look at.

    Each view has ``labelled`` (questions, answers, labels), ``true`` and ``taught`` (both encoded, followed by the true
    answer and by the label: ``input_ids``, ``targets``, ``positions``) and ``places``, the token index of every named
    position.

    Attributes:
        name: ``pre_memorization`` or ``post_memorization``.
        step: of training.
        folder: of the weights, which other libraries read too.
        model: in evaluation mode.
        tokenizer: of its inputs.
        noisy: training questions with a wrong label (D_n).
        clean: training questions with their true label (D_c), some of them.
        validation: held-out questions (V); the labels are phantoms, never taught.
    """

    name: str
    step: int
    folder: Path
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    noisy: View
    clean: View
    validation: View

    def __repr__(self) -> str:
        counts = f"{len(self.noisy)} noisy, {len(self.clean)} clean, {len(self.validation)} held-out examples"
        return f"<Snapshot {self.name}, step {self.step}: {type(self.model).__name__}, {counts}; {near(self.folder)}>"


def open_snapshot(
    report: Report,
    folder: Path,
    snapshot: str,
    *,
    task: str | Path | None = None,
    model: Any = None,
    device: str = "cpu",
    plugins: Sequence[str | Path] = (),
) -> Snapshot:
    """The weights that a report names, and its examples made again.

    Args:
        folder: of the report.
        task: the task file; needed where the questions stand in files.
        model: the module or function that was run, where the model is no name.

    Raises:
        UserError: when there is no such snapshot, its files are not those that the report names, its examples cannot be
            made again, or the model is another one.
    """
    from .leaderboard.regenerate import spec_of
    from .pipeline.process import undisturbed

    name = _named(report, folder, snapshot)
    registry = load_plugins(plugins)
    with undisturbed():
        spec = spec_of(report, registry, task)
        make = partial(_made, report, spec, registry, model)
        read, tokenizer, place = _weights(report, folder, name, spec, make, device)
        noisy, clean, validation = _views(report, spec, registry, read, tokenizer, device)
    return Snapshot(name, report.training.snapshots[name], place, read, tokenizer, noisy, clean, validation)


def _named(report: Report, folder: Path, snapshot: str) -> str:
    from .pipeline.settings import SNAPSHOTS

    kept = report.training.snapshots
    name = SNAPSHOTS.get(snapshot, snapshot)
    if name in kept:
        return name
    if not kept:
        raise UserError("the cell was not trained, and kept no snapshots", where=str(folder))
    hint = did_you_mean(snapshot, kept)
    if name in SNAPSHOTS.values():
        hint = f"there is {' and '.join(kept)}"
    raise UserError(f"no snapshot {snapshot!r}", where=str(folder), hint=hint)


def _weights(
    report: Report, folder: Path, name: str, spec: TaskSpec, make: Callable[[Any], Any], device: str
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, Path]:
    """The snapshot's model and tokenizer, and their folder.

    Args:
        make: the model before training, from the tokenizer, where it is no model by name.
    """
    import torch
    from transformers import AutoTokenizer
    from transformers.utils import logging as transformers_logging

    from .machine import choose_device
    from .models.folder import is_adapter
    from .models.keeping import of_module, opened
    from .models.weights import read
    from .report import beside, card

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    below = f"checkpoints/{name}"
    files = [a.path for a in report.artifacts if a.path.startswith(f"{below}/") and a.path != f"{below}/{card.FILE}"]
    for file in files or [f"{below}/config.json"]:
        beside.require(report, folder, file)
    place = (folder / below).absolute()
    local: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    try:
        tokenizer = AutoTokenizer.from_pretrained(place, **local)
        if is_adapter(place):
            model = _adapted(report, place, spec)
        elif report.model.source == "object" or of_module(place) is not None:
            model = opened(place, make(tokenizer), name=str(place), where="load")
        else:
            model = read(
                place,
                name=str(place),
                where="load",
                dtype=getattr(torch, report.environment.dtype),
                use_safetensors=True,
                attn_implementation=spec.model.get("attention", "eager"),
                **local,
            )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        said = " ".join(str(error).split())[:200]
        hint = "a class of a plugin's own must be registered with AutoModelForCausalLM first"
        raise UserError(f"cannot be loaded: {said}", where=str(place), hint=hint) from error
    tokenizer.padding_side = "right"
    return model.to(choose_device(device)).eval(), tokenizer, place


def _adapted(report: Report, place: Path, spec: TaskSpec) -> PreTrainedModel:
    """An adapter with its base, which must be what it was.

    Raises:
        UserError: when it is another one.
    """
    from .models.load import ModelRequest
    from .models.pretrained import FromPretrained

    dtype, overrides = report.environment.dtype, spec.model
    request = ModelRequest(f"hf:{place}", 0, 0, dtype=dtype, overrides=overrides, needs_tokenizer=False)
    loaded = FromPretrained().load(request)
    if loaded.base != report.model.weights:
        raise UserError("its base is not the one that it was trained on", where=str(place))
    model: PreTrainedModel = loaded.model
    return model


def _made(report: Report, spec: TaskSpec, registry: Registry, given: Any, tokenizer: Any) -> Any:
    """The model before training, made by what was run.

    Raises:
        UserError: when nothing is given that makes it, or something else.
    """
    from .encoding import encode
    from .leaderboard.regenerate import data_of
    from .models.load import ModelRequest
    from .models.objects import FromPython
    from .models.signature import alike, signature
    from .pipeline.loading import PROBE_LENGTH

    name = report.model.name
    if given is None:
        hint = "give the module or function that was run: model=..."
        raise UserError(f"{name} is no model by name", where="load", hint=hint)
    parts = (part for _, part in data_of(report, spec, registry) if len(part))
    longest = max(encode(tokenizer, part.examples, part.labels, named=False).max_length for part in parts)
    request = ModelRequest(
        name,
        vocab_size=len(tokenizer),
        max_length=max(longest + 1, PROBE_LENGTH),
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        seed=report.seeds.init,
        dtype=report.environment.dtype,
        overrides=spec.model,
    )
    loaded = FromPython(name, given, source="object").load(request)
    if loaded.builder != report.model.builder:
        raise UserError(f"it is made by other code than {name} was", where="load")
    if report.model.source == "object" and loaded.weights != report.model.weights:
        raise UserError(f"it begins with other weights than {name} did", where="load")
    found = signature(loaded.model, longest, trained=report.training.steps > 0)
    if not alike(found, report.model.signature, dtype=report.environment.dtype):
        raise UserError(f"it answers otherwise than {name} did, by code or values that no hash sees", where="load")
    return loaded.model


def _views(
    report: Report, spec: TaskSpec, registry: Registry, model: Any, tokenizer: Any, device: str
) -> tuple[View, View, View]:
    from .leaderboard.regenerate import data_of
    from .machine import choose_cap, choose_device
    from .splits import make_task
    from .subject import Subject

    data = data_of(report, spec, registry)
    if data.fingerprint() != report.data.fingerprint:
        raise UserError("the examples made again are others than the report's", where=report.task.name)
    cap, device = choose_cap(model), choose_device(device)
    subject = Subject(spec, make_task(spec, registry), data, tokenizer, {}, [], device, cap=cap)
    return subject.noisy, subject.clean, subject.validation
