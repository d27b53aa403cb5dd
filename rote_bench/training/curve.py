"""The evaluations made during training: light, so that whoever only reads them needs no torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Literal, TypeAlias

CurveName: TypeAlias = Literal[
    "validation_accuracy",
    "train_clean_accuracy",
    "memorization_rate",
    "noisy_true_rate",
    "phantom_rate",
    "selection_accuracy",
]


@dataclass(frozen=True, kw_only=True)
class Levels:
    """How often a model is right at one moment; None is what was not measured.

    Attributes:
        validation_accuracy: true answers on held-out questions.
        train_clean_accuracy: true answers on clean training questions.
        memorization_rate: wrong labels given on mislabelled training questions; None where there are none.
        noisy_true_rate: true answers on those; None where there are none.
        phantom_rate: on held-out questions, wrong labels that were never taught; None without noise.
        selection_accuracy: true answers on the held-out questions on which snapshots are chosen.
    """

    validation_accuracy: float | None = None
    train_clean_accuracy: float | None = None
    memorization_rate: float | None = None
    noisy_true_rate: float | None = None
    phantom_rate: float | None = None
    selection_accuracy: float | None = None

    def level(self, name: CurveName) -> float | None:
        """One of the curves."""
        value: float | None = getattr(self, name)
        return value


@dataclass(frozen=True, kw_only=True)
class Evaluation(Levels):
    """A point of all learning curves, a line of ``dynamics.jsonl``.

    Attributes:
        step: optimizer steps done.
        examples_seen: training rows in those steps, with repeats.
        epoch: passes over the training rows.
        seconds: wall time of the loop up to here, evaluations included.
        loss: mean over the steps since the evaluation before, nats per answer token.
        lr: the learning rate of the last step: Muon's, or AdamW's where that trains all parameters.
    """

    step: int
    examples_seen: int
    epoch: float
    seconds: float
    loss: float
    lr: float

    def plain(self) -> dict[str, float | None]:
        """As JSON holds it, progress first."""
        values = asdict(self)
        return {key: values[key] for key in (*_PROGRESS, *_CURVES)}

    @classmethod
    def read(cls, values: object) -> Evaluation:
        """From what JSON held.

        Raises:
            ValueError: when it is no evaluation.
        """
        if not isinstance(values, dict) or set(values) != {*_PROGRESS, *_CURVES}:
            raise ValueError("no evaluation of a training")
        for key, value in values.items():
            ok = isinstance(value, int | float) and not isinstance(value, bool)
            if not ok and (value is not None or key in _PROGRESS):
                raise ValueError(f"{key} is no number")
        return cls(**values)


_CURVES = tuple(f.name for f in fields(Levels))
_PROGRESS = tuple(f.name for f in fields(Evaluation) if f.name not in _CURVES)
