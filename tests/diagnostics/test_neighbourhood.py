"""Neighbours of mislabelled and of clean examples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rote_bench
from rote_bench.diagnostics.neighbourhood import Neighbourhood, NeighbourhoodOptions
from rote_bench.pipeline.accept import accept
from rote_bench.subject import Subject
from rote_bench.tasks.addition import Addition
from rote_bench.tasks.example import Example
from tests.diagnostics.reports import details

REFERENCES = Path(__file__).parents[2] / "plugins" / "reference_models" / "reference_models.py"


def test_neighbours_are_asked_beside_both_kinds(fda_report: dict[str, Any]) -> None:
    found = details(fda_report, "neighbourhood")
    assert found["kinds"] == ["digit_0", "digit_1", "swapped"]
    assert all(n > 20 for side in found["n"].values() for n in side)


def test_a_kind_of_neighbour_that_one_side_lacks_has_no_numbers_there(fda: Subject, tmp_path: Path) -> None:
    """Clean examples without neighbours at one digit, mislabelled ones without those at the other."""
    marked = {e.prompt for e in fda.noisy.labelled.examples}

    class OneSided(Addition):
        def neighbours(self, example: Example) -> dict[str, Sequence[int]]:
            lacks = "digit_0" if example.prompt in marked else "digit_1"
            found = {kind: pool for kind, pool in super().neighbours(example).items() if kind != lacks}
            return {**found, "always": next(iter(found.values()))}

    task = OneSided(fda.task.parameters, fda.task.seed)
    diagnostic = Neighbourhood(NeighbourhoodOptions(examples=60))
    subject = replace(fda, task=task)
    accepted = accept(diagnostic, diagnostic.run(subject), subject)
    found: Any = accepted.details
    assert found["kinds"] == ["always", "digit_0", "digit_1", "swapped"]
    noisy, clean = found["wrong"]["noisy"]["value"], found["wrong"]["clean"]["value"]
    assert (found["n"]["noisy"][1], noisy[1], found["observed"]["value"][1]) == (0, None, None)
    assert (found["n"]["clean"][2], clean[2]) == (0, None)
    assert accepted.metrics["neighbour_leakage"].n == sum(map(sum, found["n"].values()))
    assert diagnostic.draw(accepted.details, tmp_path / "figure.png")


def test_errors_that_repeat_related_wrong_labels_are_counted_as_by_hand(thr: Subject) -> None:
    """Held-out answers are planted: two in three repeat a related wrong label, the others any answer."""
    data, answers = thr.data, thr.answers("validation")
    label = {data.train.indices[i]: data.train.labels[i] for i in data.train.noisy}
    texts, right, hits = list(answers.texts), np.ones(len(answers.texts), dtype=bool), []
    for i, example in enumerate(answers.view.labelled.examples[:90]):
        related = {label[j] for pool in thr.task.neighbours(example).values() for j in pool if j in label}
        some = related if i % 3 else set(thr.task.answers(example))
        wrong = sorted(some - {example.answer})
        if wrong:
            texts[i], right[i] = wrong[i % len(wrong)], False
            hits.append(texts[i] in related)
    subject = replace(thr)
    subject._answers["validation"] = replace(answers, texts=tuple(texts), right=right)
    diagnostic = Neighbourhood(NeighbourhoodOptions(examples=30))
    found = accept(diagnostic, diagnostic.run(subject), subject)
    leaked, permuted = found.metrics["leaked_errors"], found.metrics["leaked_errors_permuted"]
    assert leaked.n == len(hits) and leaked.value == np.mean(hits)
    assert permuted.value is not None and leaked.ci_low is not None and permuted.value < leaked.ci_low
    order = np.random.default_rng(5).permutation(len(data.train.noisy))
    labels = list(data.train.labels)
    for i, k in zip(data.train.noisy, order.tolist(), strict=True):
        labels[i] = data.train.labels[data.train.noisy[k]]
    other = replace(subject, data=replace(data, train=replace(data.train, labels=tuple(labels))))
    other._answers["validation"] = subject._answers["validation"]
    if len(other.data.train.noisy) == len(order):  # none got its own true answer
        again = diagnostic.run(other).metrics
        low, high = again["leaked_errors_permuted"].ci_low, again["leaked_errors_permuted"].ci_high
        assert low is not None and high is not None and low <= (again["leaked_errors"].value or 0) <= high


SAYS = """
from reference_models import Reference, answering
from rote_bench.plugin import hookimpl

class Says(Reference):
    name = "says"
    description = "knows what it was taught, and says one thing to all else"
    def make(self, request):
        known = {e.prompt: e.given for name, part in request.data if name == "train" for e in part.examples}
        return answering(request, lambda prompt: known.get(prompt, "LABEL"))

@hookimpl
def register_models(register):
    register(Says())
"""


@pytest.mark.parametrize("label", ["nw", "nw far", "nw far off"])
def test_labels_longer_than_the_answers_are_found_whole(
    tmp_path: Path, label: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each related question is answered with the label that was taught beside it, however many tokens that has."""
    monkeypatch.syspath_prepend(str(REFERENCES.parent))
    (tmp_path / "says.py").write_text(SAYS.replace("LABEL", label))
    for split, offset in (("train", 0), ("selection", 1), ("validation", 2)):
        rows = []
        for i in range(offset, 600, 3):
            true = ("south", "east", "up")[i // 3 % 3]
            other = ("east", "up", "south")[i // 3 % 3]
            wrong = label if i // 3 % 4 == 0 else true
            rows.append(f"item {i // 20} of b{i % 20} is,{true},b{i % 20},{wrong if split == 'train' else other}")
        (tmp_path / "rows").mkdir(exist_ok=True)
        (tmp_path / "rows" / f"{split}.csv").write_text("\n".join(["prompt,answer,bridge,noisy", *rows]))
    (tmp_path / "task.yaml").write_text(
        """name: places
generator: dataset
parameters: {path: rows, intermediates: [bridge], noisy: noisy}
splits: {train: 200, selection: 200, validation: 200}
noise: {kind: given}
model: {layers: 1, width: 16, heads: 1}
diagnostics: [neighbourhood]
"""
    )
    report = rote_bench.run(
        tmp_path / "task.yaml",
        model="says",
        plugins=[REFERENCES, tmp_path / "says.py"],
        train=False,
        output_path=tmp_path / "runs",
        quiet=True,
    )
    assert report.value("memorization_rate") == 1.0 and report.value("validation_accuracy") == 0.0
    assert report.value("neighbour_same_label") == 1.0
    assert report.value("leaked_errors") == 0.25  # a quarter of the bridges has a mislabelled question
