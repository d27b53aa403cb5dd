"""The curves of training and the metrics of a cell that need nothing but its answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .measures import OF_NOISE, OOD
from .statistics import Estimate, difference, proportion
from .training.curve import Levels

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .encoding import Encoded
    from .subject import Subject, View


class Curves:
    """What the curves of training are measured on, at most ``cap`` examples of each part.

    Held-out examples are halved between what is reported and what snapshots are chosen on, as the splits say.

    Attributes:
        parts: encodings of the same prompts with the answers that are looked for: of held-out examples those with true
            answers and with phantom labels, of the clean ones and those on which snapshots are chosen the true ones,
            and of mislabelled ones, where there are any, both.
    """

    def __init__(self, subject: Subject, cap: int) -> None:
        def part(view: View) -> tuple[Encoded, Encoded]:
            rows = slice(min(cap, len(view)))
            return view.true.rows(rows), view.taught.rows(rows)

        noisy = [part(subject.noisy)] if len(subject.noisy) else []
        self.parts: Sequence[Sequence[Encoded]] = [
            part(subject.validation),
            part(subject.clean)[:1],
            part(subject.selection)[:1],
            *noisy,
        ]

    def levels(self, hits: Sequence[Sequence[Any]]) -> Levels:
        """The curves at one moment.

        Args:
            hits: for each of the parts' encodings, (n,) bool: the greedy answer is that encoding's answer.
        """
        (validation, phantom), (clean,), (selection,), *noisy = [[_mean(hit) for hit in part] for part in hits]
        true, memorized = noisy[0] if noisy else (None, None)
        return Levels(
            validation_accuracy=validation,
            train_clean_accuracy=clean,
            memorization_rate=memorized,
            noisy_true_rate=true,
            phantom_rate=phantom if noisy else None,
            selection_accuracy=selection,
        )


def curves(subject: Subject, model: Any, cap: int) -> Callable[[], Levels]:
    """A function that measures all curves of the model at this moment."""
    from .evaluation import matches

    asked = Curves(subject, cap)
    return lambda: asked.levels([matches(model, part, batch_size=subject.batch_size) for part in asked.parts])


LOOSE = 0.02  # of the same questions, asked in other batches and another arithmetic


def disagreement(last: Levels, samples: Mapping[str, Sequence[Any]], cap: int) -> str | None:
    """Where the end of the curve and the answers at the end differ on the same questions, in words; None if nowhere.

    Both ask the first ``cap`` questions of a split, each in its own way, and so each vouches for the other.

    Args:
        samples: columns, as ``evaluate`` gives them.
    """
    for name, split, column in (
        ("validation_accuracy", "validation", "is_answer"),
        ("train_clean_accuracy", "train_clean", "is_answer"),
        ("memorization_rate", "train_noisy", "is_label"),
        ("noisy_true_rate", "train_noisy", "is_answer"),
    ):
        before = getattr(last, name)
        hits = [hit for of, hit in zip(samples["split"], samples[column], strict=True) if of == split][:cap]
        if before is None or not hits:
            continue
        after = sum(hits) / len(hits)
        if abs(after - before) > LOOSE + 2 / len(hits):
            return (
                f"{name} is {before:.3f} at the end of the curve, and {after:.3f} by the answers to the same"
                f" {len(hits)} questions"
            )
    return None


def _mean(hits: Any) -> float:
    return float(hits.double().mean())


def evaluate(subject: Subject) -> tuple[dict[str, Estimate], dict[str, list[Any]]]:
    """The metrics that need nothing but answers, and each example's answer.

    Returns:
        The metrics by name, and the columns of ``samples.parquet``.
    """
    columns: dict[str, list[Any]] = {
        key: []
        for key in ("split", "index", "group", "prompt", "answer", "label", "prediction", "is_answer", "is_label")
    }
    hits: dict[str, tuple[Any, Any, Any]] = {}
    data = subject.data
    sizes = {"validation": len(data.validation), "ood": len(data.ood), "train_noisy": len(data.train.noisy)}
    for name in (*(name for name, size in sizes.items() if size), "train_clean"):
        found = subject.answers(name.removeprefix("train_"))
        view, texts, right, taught = found.view, found.texts, found.right, found.taught
        hits[name] = (right, taught, view.clusters)
        if lost := int(found.broken.sum()):
            subject.warn(f"logits are NaN for {lost} of {len(view)} questions of {name}, which count as not answered")
        columns["split"] += [name] * len(view)
        columns["index"] += list(view.labelled.indices)
        columns["group"] += [e.group for e in view.labelled.examples]
        columns["prompt"] += [e.prompt for e in view.labelled.examples]
        columns["answer"] += [e.answer for e in view.labelled.examples]
        columns["label"] += list(view.labelled.labels)
        columns["prediction"] += texts
        columns["is_answer"] += right.tolist()
        columns["is_label"] += taught.tolist()
    marked = np.array(
        [
            label != e.answer
            for e, label in zip(subject.data.validation.examples, subject.data.validation.labels, strict=True)
        ]
    )
    return score(hits, marked), columns


def score(hits: Mapping[str, tuple[Any, Any, Any]], marked: NDArray[np.bool_]) -> dict[str, Estimate]:
    """The metrics that follow from which answers are right.

    Args:
        hits: split -> per example: is the answer the true one, is it the label, and the example's cluster. Without
            ``train_noisy`` there are no wrong labels; ``ood`` only some tasks have.
        marked: per held-out example, whether it has a phantom label.
    """
    accurate, phantom, held = hits["validation"]
    metrics = {
        "validation_accuracy": proportion(accurate, held),
        "train_clean_accuracy": proportion(hits["train_clean"][0], hits["train_clean"][2]),
    }
    if "train_noisy" in hits:
        true, memorized, groups = hits["train_noisy"]
        phantom, held = phantom[marked], held[marked]
        metrics |= {
            "memorization_rate": proportion(memorized, groups),
            "noisy_true_rate": proportion(true, groups),
            "phantom_rate": proportion(phantom, held),
            "counterfactual_memorization": difference(memorized, groups, phantom, held),
        }
    else:
        metrics |= dict.fromkeys(OF_NOISE, Estimate.missing("no noisy labels at this noise rate"))
    if "ood" in hits:
        metrics[OOD.name] = proportion(hits["ood"][0], hits["ood"][2])
    return metrics
