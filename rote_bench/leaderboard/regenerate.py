"""A report's examples made again, from nothing but the task and the seeds that it names."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UserError

if TYPE_CHECKING:
    from ..noise import Labelled
    from ..plugins import Registry
    from ..report.record import Report
    from ..spec.model import TaskSpec
    from ..splits import Data
    from .answers import Answers


def spec_of(report: Report, registry: Registry) -> TaskSpec:
    """The task of a report, validated as any task file is; it causes no code to be loaded.

    Raises:
        UserError: when the task needs a plugin that is not here, or is not valid.
    """
    import dataclasses

    import yaml

    from ..spec.loader import load_task

    content = {key: value for key, value in report.task.spec.items() if key != "profile"}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "task.yaml"
        file.write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True), encoding="utf-8")
        spec = load_task(file, registry)
    given = [
        f.name for f in dataclasses.fields(registry.table("tasks")[spec.generator].Parameters) if f.metadata.get("path")
    ]
    if given:  # nor may a report name files of the reader's machine
        raise UserError("its questions stand in files that do not come with a report", where=spec.name)
    spec = dataclasses.replace(spec, profile=report.task.profile, source=None, places={})
    if spec.content_hash() != report.task.content_hash:
        raise UserError("the task read back is another one", where=report.task.name)
    return spec


def data_of(report: Report, spec: TaskSpec, registry: Registry) -> Data:
    """All splits of a report, labelled.

    Raises:
        UserError: when they do not fit into memory or cannot be drawn.
    """
    from ..splits import check_memory, make_data, make_noise, make_task

    task = make_task(spec, registry)
    check_memory(task, spec)
    return make_data(task, spec, make_noise(spec, registry), report.data.noise_rate, limit=report.data.limit)


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
