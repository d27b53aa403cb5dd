"""The stages of a cell, in the order in which the runner calls them."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UserError
from ..paths import of_user
from ..report import write
from ..report.build import own_files
from ..report.record import POST, PRE
from .cell import Cell
from .interrupts import interruptible

if TYPE_CHECKING:
    from torch import Tensor

    from ..encoding import Encoded
    from ..models.load import LoadedModel
    from ..spec.model import Recipe
    from ..splits import Data
    from ..subject import Subject
    from ..training.course import Trained
    from ..training.curve import Evaluation

STATE = "training-state.pt"  # in a cell's folder: from which an interrupted training goes on
PROBE_LENGTH = 16  # positions that proofs of the anatomy need, however short the task


def make_examples(cell: Cell) -> tuple[Any, Data]:
    """The task and its labelled splits, checked against the memory at hand before they are made."""
    from ..splits import check_memory, make_data, make_noise, make_task

    spec = cell.spec
    task = make_task(spec, cell.registry)
    check_memory(task, spec)
    kind = make_noise(spec, cell.registry)
    cell.progress.stage("making examples")
    data = make_data(task, spec, kind, cell.rate, limit=cell.settings.limit)
    if cell.settings.limit is not None and cell.settings.train:
        for text in few(len(data.train), len(task.split(spec.splits, spec.seeds.data)["train"]), task.least_train()):
            cell.warn(text)
    return task, data


def few(taught: int, asked: int, least: int) -> Iterator[str]:
    """What a reader must know of a cell that ``--limit`` left few questions to learn from.

    Args:
        taught: training questions that there are.
        asked: those of the task file.
        least: about how many it takes to learn the task; 0 where the task does not say.
    """
    if taught < least:
        yield (
            f"{taught} training questions are too few to learn this task, which takes about {least}: expect"
            " memorization without generalization"
        )
    elif taught < asked and not least:
        yield (
            f"--limit leaves {taught} of {asked} training questions: this shows that the run works, do not expect the"
            " model to generalise"
        )


def load_model(cell: Cell, provider: Any, task: Any, data: Data, device: str) -> tuple[LoadedModel, Any]:
    """The model and the tokenizer of its inputs: its own, or the task's."""
    from ..encoding import build_tokenizer, encode
    from ..endings import check_fits, check_prompts, settle
    from ..models.content import of_state, of_tokenizer
    from ..models.load import ModelRequest
    from ..models.statespace import quicken
    from ..models.wrapped import causal

    def encodings(tokenizer: Any) -> Iterator[tuple[Any, Encoded]]:
        for _, part in data:
            if len(part):
                yield part.examples, encode(tokenizer, part.examples, part.labels, named=False)

    cell.progress.stage(f"loading {cell.model_name}")
    tokenizer = build_tokenizer(task.words())
    alike: UserError | None = None
    ending = None
    try:
        ending = settle(tokenizer, task, data, where="parameters", taught=cell.settings.train)
    except UserError as error:  # matters unless the model brings a tokenizer of its own
        alike = error
    longest = max(encoded.max_length for _, encoded in encodings(tokenizer))
    request = ModelRequest(
        name=cell.model_name,
        vocab_size=len(tokenizer),
        max_length=max(longest + 1, PROBE_LENGTH),
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        seed=cell.spec.seeds.init,
        device=device,
        dtype=cell.settings.dtype,
        overrides=cell.spec.model,
        trust_remote_code=cell.settings.trust_remote_code,
        task=task,
        data=data,
        tokenizer=tokenizer,
    )
    loaded: LoadedModel = provider.load(request)
    _check_settings(cell, provider, loaded)
    if cell.settings.train and "peft" in cell.spec.model:
        _adapt(cell, loaded)
    if loaded.foreign:
        loaded.model = causal(loaded.model, cell.model_name)
    if loaded.tokenizer is not None:
        ending = settle(loaded.tokenizer, task, data, where="--model", taught=cell.settings.train)
        for _, part in data:
            check_prompts(loaded.tokenizer, part, where="--model")
    elif alike is not None:
        raise alike
    if loaded.foreign:
        _check_asked(loaded.model, encodings(loaded.tokenizer or tokenizer))
    check_fits(encodings(loaded.tokenizer or tokenizer), loaded.tokenizer or tokenizer, loaded.model, where="--model")
    if ending is not None:
        cell.progress.say(str(ending))
    if loaded.source == "plugin" and loaded.weights is None:
        loaded.weights = of_state(loaded.model)
    if loaded.tokenizer is not None and loaded.tokenizer_content is None:
        loaded.tokenizer_content = of_tokenizer(loaded.tokenizer)
    quicken(loaded.model)
    return loaded, loaded.tokenizer or tokenizer


def _adapt(cell: Cell, loaded: LoadedModel) -> None:
    """Let an adapter be trained in place of pretrained weights.

    Raises:
        UserError: when there are none, or they cannot be adapted as is asked.
    """
    from ..models.adapters import check_installed
    from ..models.lora import Lora, adapt
    from ..models.names import parse

    where = cell.spec.place("model.peft")
    check_installed(where)
    if loaded.source != "pretrained":
        hint = "name hf: weights; random ones are trained as a whole"
        raise UserError(f"{cell.model_name} has no base that an adapter could name", where=where, hint=hint)
    if loaded.base is not None:
        hint = "save the two as one with PEFT's merge_and_unload()"
        raise UserError(f"{cell.model_name} is an adapter itself", where=where, hint=hint)
    if not loaded.trainable:
        raise UserError(f"adapters of {cell.settings.dtype} weights are not trained", where=where)
    name = parse(cell.model_name)
    place = of_user(name.path)
    if place.is_file():
        raise UserError("an adapter cannot name a GGUF file as its base", where=where, hint="save it as a folder first")
    base = str(place.resolve()) if place.is_dir() else name.path
    asked = Lora.asked(cell.spec.model["peft"])
    revision = None if place.is_dir() else loaded.revision
    at = cell.spec.place("model.peft.targets")
    adapt(loaded.model, asked, base, revision=revision, seed=cell.spec.seeds.init, where=at)


def _check_settings(cell: Cell, provider: Any, loaded: LoadedModel) -> None:
    """Say which sizes of the task do not reach a model that Python gives, as others are built with them.

    Providers that say what they read (``reads``) are asked; of others nothing is known.

    Raises:
        UserError: for a setting of the model that was asked for by a flag and would do nothing.
    """
    from ..models.objects import SHAPE

    reads = getattr(provider, "reads", None)
    if reads is None:
        return
    idle = [key for key in cell.spec.model if key != "peft" and not reads(key)]
    for key in idle:
        place = cell.spec.place(f"model.{key}")
        if place.startswith("--set"):
            hint = "leave it out, or give the function that builds the model a parameter of that name"
            raise UserError(f"{cell.model_name} does not read model.{key}", where=place, hint=hint)
    if loaded.source == "pretrained":  # which nobody takes for built by the task
        return
    if sizes := [f"{key}={cell.spec.model[key]}" for key in idle if key in SHAPE]:
        cell.warn(f"the task's {', '.join(sizes)} does not reach {cell.model_name}, which has sizes of its own")


def _check_asked(model: Any, encodings: Iterator[tuple[Any, Encoded]]) -> None:
    """Whether a model that came from elsewhere can be asked the longest of the questions, and knows all tokens.

    Raises:
        UserError: when it cannot.
    """
    from ..models.wrapped import check_asked

    every = [encoded for _, encoded in encodings]
    longest = max(every, key=lambda encoded: encoded.max_length)
    words = max(int(max(each.input_ids.max(), each.targets.max())) for each in every) + 1
    check_asked(model, longest.input_ids[:2].to(next(model.parameters()).device), words)


def learn(
    cell: Cell,
    subject: Subject,
    loaded: LoadedModel,
    precision: str,
    identity_hash: str,
    *,
    settle: int | None = None,
) -> Trained:
    """Train on noisy labels and facts, with the four curves.

    Args:
        settle: the step after which the learning rate falls; None waits for the recipe's event.
    """
    from ..measurement import curves
    from ..models.compiling import compiled
    from ..training.loop import train
    from ..training.trial import try_compiled
    from .expect import expect

    recipe = cell.spec.training
    encoded, rows = lessons(subject, recipe)
    call = None
    if cell.settings.compile:
        cell.progress.stage("compiling")
        call = compiled(loaded.model)
        size = min(recipe.batch_size, len(rows))
        try_compiled(loaded.model, call, encoded, size, precision, processes=cell.processes)
    if cell.processes.count == 1 and not cell.progress.quiet:
        found = expect(cell, subject, (encoded, rows), precision=precision, settle=settle, identity=identity_hash)
        cell.progress.expect(found.total, str(found))
    cell.progress.stage("training")
    with interruptible() as stop_requested, recording(cell) as record:
        trained = train(
            loaded.model,
            encoded,
            rows,
            recipe,
            curves(subject, loaded.model, recipe.evaluation_examples),
            seed=cell.spec.seeds.order,
            precision=precision,
            settle=settle,
            compiled=call,
            progress=cell.progress.step,
            record=record,
            checkpoint=cell.folder / STATE,
            identity=identity_hash,
            stop_requested=stop_requested,
            processes=cell.processes,
            warn=cell.progress.warn,
        )
    account(cell, trained)
    return trained


def learn_together(
    members: Sequence[tuple[Cell, Subject, LoadedModel, str, int | None]], precision: str
) -> list[Trained | FloatingPointError]:
    """Train several cells as one; see ``training.stacked``.

    Args:
        members: cell, subject, model, hash of what decides the training, and the step after which the rate falls.
    """
    from ..measurement import Curves
    from ..training.stacked import Pupil, train_stacked

    with interruptible() as stop_requested, ExitStack() as stack:
        pupils = []
        for cell, subject, loaded, identity, settle in members:
            cell.progress.stage("training")
            encoded, rows = lessons(subject, cell.spec.training)
            pupils.append(
                Pupil(
                    loaded.model,
                    encoded,
                    rows,
                    cell.spec.training,
                    Curves(subject, cell.spec.training.evaluation_examples),
                    cell.spec.seeds.order,
                    settle,
                    progress=cell.progress.step,
                    record=stack.enter_context(recording(cell)),
                    checkpoint=cell.folder / STATE,
                    identity=identity,
                )
            )
        first, subject, *_ = members[0]
        outcomes = train_stacked(
            pupils,
            precision=precision,
            batch_size=subject.batch_size,
            stop_requested=stop_requested,
            warn=first.progress.warn,
        )
    for (cell, *_), trained in zip(members, outcomes, strict=True):
        if not isinstance(trained, FloatingPointError):
            account(cell, trained, share=1 / len(members))
    return outcomes


def lessons(subject: Subject, recipe: Recipe) -> tuple[Encoded, Tensor]:
    """What is trained on: the encoded rows with the labels taught, then the facts; and the indices of a pass."""
    import torch

    from ..encoding import concatenate, encode

    data = subject.data
    encoded = encode(subject.tokenizer, data.train.examples, data.train.labels, named=False)
    rows = torch.arange(len(encoded))
    if len(data.facts):
        facts = encode(subject.tokenizer, data.facts.examples, named=False)
        encoded = concatenate([encoded, facts], subject.tokenizer.pad_token_id or 0)
        every_fact = torch.arange(len(rows), len(encoded))
        rows = torch.cat([rows, *[every_fact] * recipe.facts_repeat])
    return encoded.to(subject.device), rows


@contextmanager
def recording(cell: Cell) -> Iterator[Callable[[Evaluation], None]]:
    """A function that keeps each evaluation of the cell's training as it is made."""
    from ..training.tracking import following

    records: list[Mapping[str, float | None]] = []
    track = cell.settings.track if cell.processes.first else None
    with following(track, cell.folder, cell.settings.output_path) as follow:

        def record(point: Evaluation) -> None:
            if not cell.processes.first:
                return
            records.append(point.plain())
            follow(point)
            write.write_lines(cell.folder / "dynamics.jsonl", records)

        yield record


def account(cell: Cell, trained: Trained, *, share: float = 1.0) -> None:
    """Put the time of training on the cell's clock.

    Args:
        share: the cell's part of it.
    """
    cell.timings.seconds["training"] += share * (trained.seconds - trained.evaluation_seconds)
    cell.timings.seconds["evaluation"] += share * trained.evaluation_seconds
    cell.timings.earlier += share * trained.earlier_seconds
    cell.timings.cpu["training"] += share * (trained.cpu - trained.evaluation_cpu)
    cell.timings.cpu["evaluation"] += share * trained.evaluation_cpu
    cell.timings.earlier_cpu += share * trained.earlier_cpu


def clear(cell: Cell) -> None:
    """Make the cell's folder, without the files that an earlier run left: they are not those of the next report."""
    cell.folder.mkdir(parents=True, exist_ok=True)
    for path in (cell.folder / write.FILE, cell.folder / write.PAGE, *own_files(cell.folder)):
        path.unlink(missing_ok=True)


def snapshots(cell: Cell, anatomy: Any, trained: Trained, tokenizer: Any, builder: str | None = None) -> dict[str, Any]:
    """The snapshots that there are as models, saved as ordinary folders.

    Args:
        builder: what the source of a model without a name hashes to.
    """
    from ..models.keeping import save

    found = {POST: anatomy}
    if trained.pre_step is not None:
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
