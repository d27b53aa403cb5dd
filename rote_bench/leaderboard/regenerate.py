"""A report's examples made again, from nothing but the task and the seeds that it names."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UserError
from ..spec.loader import ONLY_IN_FILES
from ..strangers import reason_of

LENGTHS = 64, 128  # of questions: what differs between the two follows them
TOKENS = "pad_token_id", "bos_token_id", "eos_token_id"
MOST_MODULES = 1_000  # layers or experts of a model that is made to be counted

if TYPE_CHECKING:
    from ..noise import Labelled
    from ..plain import JsonObject
    from ..plugins import Registry
    from ..report.record import Report
    from ..spec.model import TaskSpec
    from ..splits import Data
    from .answers import Answers


def spec_of(report: Report, registry: Registry, task: str | Path | None = None) -> TaskSpec:
    """The task of a report, validated as any task file is; it causes no code to be loaded and no other file to be read.

    Args:
        task: the reader's own file of the same task, whose files are read where its questions stand in some.

    Raises:
        UserError: when the task needs a plugin that is not here, is not valid, is no resolved one, or not the reader's.
    """
    import yaml

    from ..spec.loader import load_task

    stated = report.task.spec
    if any(key in stated for key in ONLY_IN_FILES):
        raise UserError("a report's task extends no file and has no profiles", where=report.task.name)
    own = None
    if task is None:
        _refuse_files(stated, registry)
    else:
        own = load_task(task, registry, profile=report.task.profile)
        if own.content_hash() != report.task.content_hash:
            raise UserError("it is not the task of the report", where=str(task))
    content = {key: value for key, value in stated.items() if key != "profile"}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "task.yaml"
        try:
            file.write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True), encoding="utf-8")
            spec = load_task(file, registry)
        except UserError as error:
            raise UserError(str(error).replace(f"{file}:", "line ").replace(str(file), "the task")) from None
    source = None if own is None else own.source
    spec = dataclasses.replace(spec, profile=report.task.profile, source=source, places={})
    if spec.content_hash() != report.task.content_hash:
        raise UserError("the task read back is another one", where=report.task.name)
    return spec


def _refuse_files(stated: Mapping[str, Any], registry: Registry) -> None:
    """A report names no file, folder or data set of the reader's: only what comes with it could be read.

    Raises:
        UserError: when its task's questions stand in one.
    """
    generator, parameters = registry.table("tasks").get(str(stated.get("generator"))), stated.get("parameters")
    if generator is None or not isinstance(parameters, Mapping):
        return  # which loading it says better
    for field in dataclasses.fields(generator.Parameters):
        if field.metadata.get("path") and parameters.get(field.name) is not None:
            what = "its questions stand in files that do not come with a report"
            raise UserError(what, where=field.name, hint="name your own task file: --task, or task=...")


def data_of(report: Report, spec: TaskSpec, registry: Registry) -> Data:
    """All splits of a report, labelled.

    Raises:
        UserError: when they do not fit into memory or cannot be drawn.
    """
    from ..splits import check_memory, make_data, make_noise, make_task

    task = make_task(spec, registry)
    check_memory(task, spec)
    return make_data(task, spec, make_noise(spec, registry), report.data.noise_rate, limit=report.data.limit)


def model_of(
    report: Report, spec: TaskSpec | None, data: Data | None, registry: Registry
) -> tuple[JsonObject, int] | str | None:
    """Configuration and number of parameters of a model of random weights, which is made without any; None of another,
    and where its weights come from, where the report says otherwise.

    Where the examples are not known, vocabulary, tokens with a meaning and what follows the length of questions are as
    the report has them.

    Raises:
        UserError: when the architecture is not here, or the report's configuration cannot be made.
    """
    from ..models.load import FromConfig
    from ..report.build import plain_config

    name, known = report.model.name, isinstance(registry.provider(report.model.name), FromConfig)
    if known != (report.model.source == "scratch"):
        return "scratch" if known else "elsewhere"
    if not known:
        return None
    config = _claimed(report) if spec is None or data is None else _configured(name, spec, data, registry)
    found = plain_config(config)
    if any(count > MOST_MODULES for count in _counts(found)):
        raise UserError("a model of so many layers or experts is not made here", where=name)
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    model.tie_weights()  # releases up to 5.0 tie none that have no values
    return found, sum(p.numel() for p in model.parameters())


def _configured(name: str, spec: TaskSpec, data: Data, registry: Registry) -> Any:
    """The configuration of a model for the examples of a task."""
    from ..encoding import build_tokenizer, encode
    from ..models.names import parse
    from ..models.sizing import config_for
    from ..pipeline.loading import PROBE_LENGTH
    from ..splits import make_task

    tokenizer, parsed = build_tokenizer(make_task(spec, registry).words()), parse(name)
    lengths = (encode(tokenizer, p.examples, p.labels, named=False).max_length for _, p in data if len(p))
    return config_for(
        parsed.model_type,
        parsed.size,
        vocab_size=len(tokenizer),
        max_length=max(max(lengths) + 1, PROBE_LENGTH),
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        overrides=spec.model,
    )


def _claimed(report: Report) -> Any:
    """The configuration that name and task of a report make, with its own word for what the examples decide.

    Raises:
        UserError: when there is no such configuration.
    """
    from ..models.names import parse
    from ..models.sizing import config_for
    from ..report.build import plain_config

    parsed, claimed, overrides = parse(report.model.name), report.model.config, report.task.spec.get("model")
    words = claimed.get("vocab_size")
    if not isinstance(words, int) or not isinstance(overrides, Mapping):
        raise UserError("its configuration names no vocabulary, or its task no sizes", where=report.model.name)
    try:
        made = [
            config_for(parsed.model_type, parsed.size, vocab_size=words, max_length=length, overrides=overrides)
            for length in LENGTHS
        ]
        plain = [plain_config(each) for each in made]
        moving = {key for key in plain[0] if plain[0][key] != plain[1].get(key)} | {*TOKENS}
        own = {key: claimed[key] for key in moving & claimed.keys()}
        return type(made[0]).from_dict({**made[0].to_dict(), **own})
    except UserError:
        raise
    except Exception as error:  # whatever a configuration makes of values that it did not expect
        raise UserError(
            f"its configuration cannot be made: {reason_of(error, 200)}", where=report.model.name
        ) from error


def _counts(config: object, key: str = "") -> Iterator[int]:
    """The numbers in a configuration that say how many modules are made."""
    if isinstance(config, Mapping):
        for name, value in config.items():
            yield from _counts(value, str(name))
    elif isinstance(config, int) and ("layer" in key or "expert" in key or "block" in key):
        yield config


def mismatches(answers: Answers, data: Data) -> Iterator[str]:
    """Everything in which the examples that were asked differ from those that should have been."""
    noisy = set(data.train.noisy)
    clean = [i for i in range(len(data.train)) if i not in noisy]
    parts = {"validation": data.validation, "ood": data.ood, "train_noisy": data.train.take(data.train.noisy)}
    asked = len(answers.splits["train_clean"]["index"])
    parts["train_clean"] = data.train.take(clean[:asked])
    for split, part in parts.items():
        columns = answers.splits.get(split)
        if columns is None:
            if len(part):
                yield f"the {len(part)} examples of {split} are missing"
            continue
        if len(columns["index"]) != len(part):
            yield f"{split} holds {len(columns['index'])} examples instead of {len(part)}"
            continue
        yield from _rows(split, columns, part)


def _rows(split: str, columns: Mapping[str, list[Any]], part: Labelled) -> Iterator[str]:
    for row, (example, label, index) in enumerate(zip(part.examples, part.labels, part.indices, strict=True)):
        expected = {
            "index": index,
            "group": example.group,
            "prompt": example.prompt,
            "answer": example.answer,
            "label": label,
        }
        for name, value in expected.items():
            if columns[name][row] != value:
                yield f"{split}, row {row}: {name} is {columns[name][row]!r} instead of {value!r}"
                break
