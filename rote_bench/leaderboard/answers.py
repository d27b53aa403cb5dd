"""The answers behind a report, as ``samples.parquet`` holds them, and the metrics that follow from them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..measures import OOD
from .untrusted import Unreadable as Unreadable
from .untrusted import read_columns

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..statistics import Estimate

SPLITS = ("validation", "ood", "train_noisy", "train_clean")
TEXTS = ("group", "prompt", "answer", "label", "prediction")
FLAGS = ("is_answer", "is_label")


def _taken(column: list[Any], rows: Sequence[int]) -> list[Any]:
    """Values in rows that ascend; where none is left out between them, as a run writes its splits, in one piece."""
    first, last = rows[0], rows[-1]
    return column[first : last + 1] if last - first + 1 == len(rows) else [column[i] for i in rows]


@dataclass(frozen=True)
class Answers:
    """Every example that was asked, split by split, in the order in which it was.

    Attributes:
        splits: split -> column -> one value per example.
    """

    splits: dict[str, dict[str, list[Any]]]

    @classmethod
    def load(cls, path: Path) -> Answers:
        """The answers of a file.

        Raises:
            Unreadable: when the file is none of that kind.
        """
        columns, declared = read_columns(path, ("split", "index", *TEXTS, *FLAGS))
        if not set(columns["split"]) <= set(SPLITS):
            raise Unreadable("names a split that there is not")
        for names, kind in ((TEXTS, str), (FLAGS, bool), (("index",), int)):
            for name in names:
                if declared[name] is not kind and not all(isinstance(value, kind) for value in columns[name]):
                    raise Unreadable(f"has a column {name} that is not {kind.__name__} throughout")
        rows: dict[str, list[int]] = {}
        for row, split in enumerate(columns["split"]):
            rows.setdefault(split, []).append(row)
        if "validation" not in rows or "train_clean" not in rows:
            raise Unreadable("lacks the held-out or the clean training examples")
        return cls(
            {split: {name: _taken(column, at) for name, column in columns.items()} for split, at in rows.items()}
        )

    def flags(self, split: str, name: str) -> NDArray[np.bool_]:
        """(n,) ``is_answer`` or ``is_label`` of a split."""
        return np.array(self.splits[split][name], dtype=bool)

    def clusters(self, split: str) -> NDArray[np.int64]:
        """(n,) the cluster of each example."""
        codes: dict[str, int] = {}
        return np.array([codes.setdefault(g, len(codes)) for g in self.splits[split]["group"]], dtype=np.int64)

    def marked(self) -> NDArray[np.bool_]:
        """(n,) whether each held-out example has a phantom label."""
        held = self.splits["validation"]
        return np.array([label != answer for label, answer in zip(held["label"], held["answer"], strict=True)])

    def values(self) -> dict[str, float]:
        """The metrics without their intervals, which take a thousand times as long."""
        out = {
            "validation_accuracy": float(self.flags("validation", "is_answer").mean()),
            "train_clean_accuracy": float(self.flags("train_clean", "is_answer").mean()),
        }
        if "ood" in self.splits:
            out[OOD.name] = float(self.flags("ood", "is_answer").mean())
        marked = self.marked()
        if "train_noisy" in self.splits and marked.any():
            out["memorization_rate"] = float(self.flags("train_noisy", "is_label").mean())
            out["noisy_true_rate"] = float(self.flags("train_noisy", "is_answer").mean())
            out["phantom_rate"] = float(self.flags("validation", "is_label")[marked].mean())
            out["counterfactual_memorization"] = out["memorization_rate"] - out["phantom_rate"]
        return out

    def score(self) -> dict[str, Estimate]:
        """The metrics with their intervals, as the run computed them."""
        from ..measurement import score

        hits = {
            split: (self.flags(split, "is_answer"), self.flags(split, "is_label"), self.clusters(split))
            for split in self.splits
        }
        return dict(score(hits, self.marked()))

    def contradictions(self) -> Iterator[str]:
        """Examples whose prediction does not go with what is said about it.

        A prediction is the longer of those answers that the model gave, and something else where it gave neither.
        """
        for split, columns in self.splits.items():
            for row in zip(
                *(columns[name] for name in ("prompt", "answer", "label", "prediction", *FLAGS)), strict=True
            ):
                answer, label, prediction = ("".join(str(text).split()) for text in row[1:4])
                given = [text for text, flag in zip((answer, label), row[4:], strict=True) if flag]
                wrong = [text for text in given if not prediction.startswith(text)]
                if wrong or (given and prediction != max(given, key=len)):
                    said = (wrong or given)[0]
                    yield f"{split}: {row[0]!r} is said to give {said!r} with {row[3]!r}"
                elif not given and prediction in (answer, label):
                    yield f"{split}: {row[0]!r} is said to give neither answer nor label with {row[3]!r}"
