"""A question of a task as a model is asked it, with the wrong label that noise could give it."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...errors import UserError
from ...rendering import Rendered

if TYPE_CHECKING:
    from ...plugins import Registry

SEED = 0


@dataclass(frozen=True)
class Asked:
    """One question.

    Attributes:
        about: what the task asks, as its file says.
        steps: what has to be found on the way, by name.
        own: whether the board's task has the examples of the shipped file.
    """

    about: str
    prompt: str
    answer: str
    label: str
    steps: Mapping[str, str]
    own: bool


def asked(tasks: Sequence[Mapping[str, Any]], registry: Registry) -> dict[str, Asked]:
    """Label of each task on a board -> a question, for those of shipped tasks and of plugins'."""
    from ...spec.loader import shipped

    files = {**registry.task_files(), **shipped()}
    found = {}
    for task in tasks:
        if task["name"] in files:
            try:
                found[task["task"]] = question(files[task["name"]], task["profile"], task["content_hash"], registry)
            except UserError:  # a profile that this version does not have, or data that are not here
                continue
    return found


def question(file: Any, profile: str | None, content: str, registry: Registry) -> Asked:
    """One question of a task file, the same at every call.

    Raises:
        UserError: when the task cannot be made.
    """
    from ...spec.loader import load_task
    from ...splits import make_noise, make_task

    spec = load_task(file, registry, profile=profile)
    task, rng = make_task(spec, registry), random.Random(SEED)
    example = task.example(rng.randrange(len(task)))
    (label,) = make_noise(spec, registry).draw(task, [example], rng)
    prompt, answer, wrong = (
        Rendered.of(text, joined=example.joined).text for text in (example.prompt, example.answer, label)
    )
    return Asked(spec.description.strip(), prompt, answer, wrong, example.intermediates, spec.content_hash() == content)
