"""What a cell is made of: the examples of its task, and the model with the tokenizer of its inputs."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from typing import TYPE_CHECKING, Any

from ..errors import UserError
from ..paths import of_user
from .cell import Cell

if TYPE_CHECKING:
    from ..encoding import Encoded
    from ..models.load import LoadedModel
    from ..splits import Data

UNLIKE = 0.1  # of the rate asked for: what whole questions round away at usual sizes is less
PROBE_LENGTH = 16  # positions that proofs of the anatomy need, however short the task


def make_examples(cell: Cell) -> tuple[Any, Data]:
    """The task and its labelled splits, checked against the memory at hand before they are made."""
    from ..splits import check_memory, make_data, make_noise, make_task
    from ..tasks.hooks import least_train

    spec = cell.spec
    task = make_task(spec, cell.registry)
    check_memory(task, spec)
    kind = make_noise(spec, cell.registry)
    cell.progress.stage("making examples")
    data = make_data(task, spec, kind, cell.rate, limit=cell.settings.limit)
    share = len(data.train.noisy) / max(1, len(data.train))
    if kind.rated and share and abs(share - cell.rate) > UNLIKE * cell.rate:
        cell.warn(
            f"{share:.3g} of the training questions have a wrong label, where {cell.rate:g} was asked for: what a wrong"
            " label costs is counted by those that there are"
        )
    if cell.settings.limit is not None and cell.settings.train:
        for text in few(len(data.train), len(task.split(spec.splits, spec.seeds.data)["train"]), least_train(task)):
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
    from ..models.provided import provided
    from ..models.statespace import quicken
    from ..models.wrapped import causal
    from ..splits import chosen

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
    reader = tokenizer  # of the questions, whose lengths and tokens a function builds its model for
    if getattr(provider, "tokenizer", None) is not None:
        reader = deepcopy(provider.tokenizer)
        reader.padding_side = "right"
        reader.pad_token = reader.eos_token if reader.pad_token is None else reader.pad_token
        settle(reader, task, data, where="--model", taught=cell.settings.train)
    longest = max(encoded.max_length for _, encoded in encodings(reader))
    request = ModelRequest(
        name=cell.model_name,
        vocab_size=len(tokenizer),
        max_length=max(longest + 1, PROBE_LENGTH),
        pad_token_id=reader.pad_token_id,
        eos_token_id=reader.eos_token_id,
        seed=cell.spec.seeds.init,
        device=device,
        dtype=cell.settings.dtype,
        overrides=cell.spec.model,
        trust_remote_code=cell.settings.trust_remote_code,
        task=task,
        data=data,
        tokenizer=tokenizer,
    )
    loaded = provided(provider, request)
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
    elif cell.settings.train:
        for text in task.untaught(chosen(task, cell.spec, cell.settings.limit)):
            cell.warn(text)
    if loaded.foreign:
        _check_asked(cell, loaded, encodings(loaded.tokenizer or tokenizer))
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


def _check_asked(cell: Cell, loaded: LoadedModel, encodings: Iterator[tuple[Any, Encoded]]) -> None:
    """Whether a model from elsewhere can be asked the longest of the questions, knows all tokens, and is whole in its
    snapshots.

    Raises:
        UserError: when it cannot.
    """
    from ..models.keeping import check_saved
    from ..models.outside import borrowed, check_kept
    from ..models.signature import signature
    from ..models.wrapped import check_asked

    model = loaded.model
    every = [encoded for _, encoded in encodings]
    longest = max(every, key=lambda encoded: encoded.max_length)
    words = max(int(max(each.input_ids.max(), each.targets.max())) for each in every) + 1
    ids = longest.input_ids[:2].to(next(model.parameters()).device)
    check_asked(model, ids, words)
    trains = cell.settings.train and loaded.trainable
    if trains and (idle := check_kept(model, ids)):
        named = f"{', '.join(idle[:3])}{', ...' if len(idle) > 3 else ''}"
        what = f"{len(idle)} parameters of {cell.model_name} ({named}) took no part in the logits of two questions"
        cell.warn(f"{what}: experts that were not asked? Else, is the first thing that it returns the logits?")
    if trains and (hidden := borrowed(model, ids)):
        shapes = ", ".join(str(tuple(each.shape)) for each in hidden[:3])
        what = f"{len(hidden)} weights that are none of its parameters ({shapes}), so that nothing trains them"
        hint = "does a plain list hold modules? nn.ModuleList registers them"
        cell.warn(f"{cell.model_name} answers by {what}: {hint}")
    if trains:
        check_saved(model, ids, loaded.builder)
    loaded.signature = signature(model, longest.max_length, trained=trains)
