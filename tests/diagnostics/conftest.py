"""The subjects that the diagnostics of the small cells saw, made again from their checkpoints."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, AutoTokenizer

from rote_bench import plugins
from rote_bench.encoding import IGNORED, Encoded
from rote_bench.models.anatomy import Anatomy
from rote_bench.spec.loader import load_task
from rote_bench.spec.options import build
from rote_bench.splits import make_data
from rote_bench.subject import Subject
from tests.conftest import SMALL_FDA, SMALL_THR


def subject_of(cell: Path, text: str, folder: Path) -> Subject:
    """The subject that the cell's diagnostics saw, made again from its checkpoints."""
    task_file = folder / "task.yaml"
    task_file.write_text(text)
    registry = plugins.load()
    spec = load_task(task_file, registry)
    cls = registry.table("tasks")[spec.generator]
    task = cls(build(cls.Parameters, spec.parameters), spec.seeds.data)
    kind = registry.table("noise")[spec.noise.kind]
    data = make_data(task, spec, kind(build(kind.Options, spec.noise.options)), spec.noise.rates[0])
    folders = {name: cell / "checkpoints" / name for name in ("pre_memorization", "post_memorization")}
    models = {
        n: AutoModelForCausalLM.from_pretrained(f, attn_implementation="eager").eval() for n, f in folders.items()
    }
    after = Anatomy.of(models["post_memorization"])
    tokenizer = AutoTokenizer.from_pretrained(folders["post_memorization"])
    both = {"pre_memorization": after.on(models["pre_memorization"]), "post_memorization": after}
    return Subject(spec, task, data, tokenizer, both, [], "cpu")


@pytest.fixture(scope="package")
def thr(thr_cell: Path, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    return subject_of(thr_cell, SMALL_THR, tmp_path_factory.mktemp("subject"))


@pytest.fixture(scope="package")
def fda(fda_cell: Path, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    return subject_of(fda_cell, SMALL_FDA, tmp_path_factory.mktemp("subject"))


def padded(subject: Subject, by: int, **changes: Any) -> Subject:
    """The same subject with its questions padded further, as beside a longer one."""

    def longer(encoded: Encoded) -> Encoded:
        ids, targets = encoded.input_ids, encoded.targets
        pad = subject.tokenizer.pad_token_id
        return Encoded(F.pad(ids, (0, by), value=pad), F.pad(targets, (0, by), value=IGNORED), encoded.positions)

    other = replace(subject, **changes)
    for name in ("noisy", "clean", "validation", "selection"):
        view = getattr(subject, name)
        other.__dict__[name] = replace(view, true=longer(view.true), taught=longer(view.taught))
    return other
