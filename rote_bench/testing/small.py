"""A small task, and a small model trained on it, to try plugins on."""

from __future__ import annotations

import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..tasks.example import Task

SMALL_TASK = """
name: small
generator: two_hop
parameters: {form: symbols, entities: 20, bridges: 6, answers: 8, relations: 16}
splits: {train: 0.8, selection: 0.08, validation: 0.12}
noise: {rates: [0.05]}
model: {layers: 2, width: 64, heads: 2, activation: relu}
training:
  batch_size: 256
  max_steps: 500
  evaluate_every: 25
  precision: float32
  learning_rate: 0.02
  adam_learning_rate: 0.006
  schedule: {warmup: 20, hold_until: 0.95, anneal: 200}
diagnostics: [learning_dynamics]
"""


def _small_spec(folder: Path) -> Any:
    from .. import plugins
    from ..spec.loader import load_task

    file = folder / "small.yaml"
    file.write_text(SMALL_TASK, encoding="utf-8")
    registry = plugins.built_in()
    return load_task(file, registry), registry


def small_task() -> Task:
    from ..splits import make_task

    with tempfile.TemporaryDirectory() as folder:
        spec, registry = _small_spec(Path(folder))
        return make_task(spec, registry)


def data_without_noise() -> Any:
    from ..splits import make_data, make_noise, make_task

    with tempfile.TemporaryDirectory() as folder:
        spec, registry = _small_spec(Path(folder))
        return make_data(make_task(spec, registry), spec, make_noise(spec, registry), 0.0)


@lru_cache(maxsize=1)
def small_subject() -> Any:
    """A two-layer GPT-2 trained for some seconds on a small two-hop task with 5 % wrong labels, at both snapshots.

    Itself before memorization stands for its twin.
    The same one for every check of a session; nothing may change it.
    """
    from transformers.utils import logging as transformers_logging

    from ..evaluation import matches
    from ..models.anatomy import Anatomy
    from ..pipeline import lessons, loading, snapshots
    from ..pipeline.cell import Cell
    from ..pipeline.settings import Settings
    from ..progress import Progress
    from ..report.record import POST, PRE
    from ..subject import Subject, Twin

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as folder:
        spec, registry = _small_spec(Path(folder))
        cell = Cell(spec, "gpt2-nano", 0.05, Settings(), registry, Progress(quiet=True), Path(folder))
        task, data = loading.make_examples(cell)
        loaded, tokenizer = loading.load_model(cell, registry.provider("gpt2-nano"), task, data, "cpu")
        anatomy = Anatomy.of(loaded.model)
        subject = Subject(spec, task, data, tokenizer, {POST: anatomy}, [], "cpu", cap=256)
        trained = lessons.learn(cell, subject, loaded, "float32", "testing")
        subject.curve = trained.curve
        subject.snapshots = trained.snapshots
        subject.anatomies = snapshots.snapshots(cell, anatomy, trained, tokenizer)
        before = subject.anatomies.get(PRE, anatomy)  # knows no wrong labels, as a twin
        held = subject.all_of("validation").true
        subject.twin = Twin("", lambda: matches(before.model, [held])[0].numpy(), lambda: before)
    return subject
