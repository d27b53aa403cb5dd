"""Examples and model of a cell, and all that is known about it before it runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..errors import UserError
from ..hashing import digest
from ..machine import FILLING, choose_batch_size, choose_cap, choose_device, choose_precision, choose_threads
from ..report import build, record
from ..report.provenance import environment
from ..strangers import contained
from . import loading
from .cell import Cell
from .identity import identify
from .interrupts import heed
from .request import asked

if TYPE_CHECKING:
    from ..models.anatomy import Anatomy
    from ..models.load import LoadedModel
    from ..models.probe import Check
    from ..splits import Data
    from ..subject import Subject


@dataclass
class Made:
    """Examples and model of a cell.

    Attributes:
        schedule: how the fall of the learning rate is timed.
        tokenizer: of the model's inputs.
    """

    facts: build.Facts
    schedule: record.Schedule
    task: Any
    data: Data
    loaded: LoadedModel
    tokenizer: Any

    @property
    def way(self) -> record.Way | None:
        """How the model is trained; None where it is not."""
        found: record.Way | None = self.facts.identity.parts["way"]  # type: ignore[assignment]
        return found

    @property
    def decides_training(self) -> str:
        """What everything that decides the training hashes to."""
        parts = {k: v for k, v in self.facts.identity.parts.items() if k != "diagnostics"}
        signature = self.facts.model.signature  # of the same machine, as states of training seldom move
        return digest(parts if signature is None else {**parts, "signature": [f"{n:.3g}" for n in signature]})

    def subject(self, cell: Cell, like: Anatomy | None = None) -> Subject:
        """The model as diagnoses look at it, whose structure is entered among the facts.

        Args:
            like: the structure of another model of the same configuration, which need not be found again.
        """
        from ..models.anatomy import Anatomy
        from ..models.lora import merged
        from ..subject import Subject

        model = self.loaded.model
        # what is proved of the weights with the adapter in them holds of both side by side, module by module
        anatomy = Anatomy.of(merged(model)).on(model) if like is None else like.on(model)
        facts = self.facts
        facts.model = build.with_anatomy(facts.model, anatomy)
        batch_size = cell.settings.batch_size or choose_batch_size(model)
        facts.environment = replace(facts.environment, batch_size=batch_size)
        return Subject(
            cell.spec,
            self.task,
            self.data,
            self.tokenizer,
            {record.POST: anatomy},
            [],
            facts.environment.device,
            cap=choose_cap(model),
            batch_size=batch_size,
            warn=cell.warn,
        )


def make(
    cell: Cell, wanted: str, schedule: record.Schedule, stacks: Callable[[LoadedModel], Check] | None = None
) -> Made:
    """Make examples and model of a cell.

    Args:
        wanted: the device.
        stacks: whether the model can be trained as one with others; asked where the settings want that.

    Raises:
        UserError: when the input cannot be run.
    """
    spec, settings = cell.spec, cell.settings
    provider = cell.registry.provider(cell.model_name)
    if settings.train and settings.dtype == "float16" and not choose_device(wanted).startswith("cuda"):
        raise UserError(
            "float16 cannot be trained on a processor", where="--dtype", hint="bfloat16, float32, or --no-train"
        )
    # before anything is read: what changes meanwhile then makes another request
    request = asked(spec, cell.model_name, cell.rate, settings, cell.registry, schedule)
    with contained():
        task, data = loading.make_examples(cell)
    heed()
    from transformers.utils import logging as transformers_logging

    from ..endings import reading

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    device = choose_device(wanted)
    with contained():
        loaded, tokenizer = loading.load_model(cell, provider, task, data, device)
    heed()
    precision = choose_precision(spec.training.precision, device)
    if settings.train and loaded.source == "pretrained" and not loaded.trainable:
        raise UserError("quantised weights cannot be trained", where="--model", hint="add --no-train")
    if settings.train and loaded.source == "object" and not loaded.trainable:
        raise UserError(
            "nothing in the model can be trained: no parameter requires a gradient",
            where="model",
            hint="train=False diagnoses it as it is",
        )
    model = build.model_entry(cell.model_name, loaded, remote_code=settings.trust_remote_code)
    identity = identify(
        spec,
        cell.model_name,
        cell.rate,
        settings,
        cell.registry,
        schedule,
        loaded=loaded,
        data=data,
        config=model.config,
        device=device,
        precision=precision,
        way=_way(cell, loaded, device, stacks or can_stack),
        request=None if request is None else request.hash(loaded.weights),
        reads=reading(tokenizer, data, own=loaded.tokenizer is not None),
    )
    threads = choose_threads(settings.threads, loaded.model)
    facts = build.Facts(
        identity=identity,
        task=record.Task(spec.name, spec.version, spec.content_hash(), spec.resolved()),
        data=record.Data(data.counts(), data.fingerprint(), len(data.train.noisy), cell.rate, settings.limit),
        model=model,
        seeds=spec.seeds,
        environment=environment(
            device=device,
            threads=threads,
            dtype=settings.dtype,
            precision=precision,
            remote_code=settings.trust_remote_code,
            processes=cell.processes.count,
            compiled=settings.compile and settings.train,
        ),
    )
    return Made(facts, schedule, task, data, loaded, tokenizer)


def can_stack(loaded: LoadedModel) -> Check:
    """Whether a model can be trained as one with others of its architecture."""
    from ..models.lora import is_adapted
    from ..models.probe import Check
    from ..models.stacking import stackable

    if loaded.source in ("plugin", "object"):
        return Check(False, "only models that transformers makes by name are")
    if is_adapted(loaded.model):
        return Check(False, "adapters are trained one by one")
    return stackable(loaded.model)


def _way(cell: Cell, loaded: LoadedModel, device: str, stacks: Callable[[LoadedModel], Check]) -> record.Way | None:
    settings = cell.settings
    if not settings.train or not loaded.trainable:
        return None
    if cell.processes.count > 1:
        return "distributed"
    wanted = settings.stacked
    if wanted is None:
        wanted = device.startswith("cuda") and sum(p.numel() for p in loaded.model.parameters()) < FILLING
    if not wanted or settings.compile:
        return "alone"
    check = stacks(loaded)
    if not check.ok:
        cell.progress.say(f"{cell.model_name} is trained by itself, as it cannot be stacked: {check.detail}")
    return "stacked" if check.ok else "alone"
