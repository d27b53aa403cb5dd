"""What several models learn and are asked at the same time, each its own, as tensors over all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from ..encoding import IGNORED, Encoded

if TYPE_CHECKING:
    from ..models.stacking import Network
    from .course import Course
    from .curve import Levels

LOGITS = 1 << 28  # numbers that an evaluation computes at once


class Questions(Protocol):
    """What the curves of a model are measured on."""

    @property
    def parts(self) -> Sequence[Sequence[Encoded]]:
        """For each part of the examples, encodings of the same prompts with different answers."""

    def levels(self, hits: Sequence[Sequence[Tensor]]) -> Levels:
        """The curves, by (n,) bool for each of the parts' encodings: the greedy answer is that encoding's answer."""


class Lessons:
    """The training rows of all models on the device, of which batches are taken."""

    def __init__(self, courses: Sequence[Course], device: torch.device) -> None:
        self.size = max(course.size for course in courses)
        length = max(course.data.max_length for course in courses)
        most = max(int((course.data.targets != IGNORED).sum(1).max()) for course in courses)
        rows = max(len(course.data) for course in courses) + 1  # the last is empty: nothing to learn there
        targets = torch.full((len(courses), rows, length), IGNORED)
        self.ids = torch.zeros(len(courses), rows, length, dtype=torch.long)
        for k, course in enumerate(courses):
            n, width = course.data.input_ids.shape
            self.ids[k, :n, :width] = course.data.input_ids
            targets[k, :n, :width] = course.data.targets
        scored = targets != IGNORED
        self.columns = scored.flatten(0, 1).any(0).nonzero()[:, 0]
        column = torch.zeros(length, dtype=torch.long)
        column[self.columns] = torch.arange(len(self.columns))
        order = torch.argsort(scored.int(), dim=-1, descending=True, stable=True)[..., :most]
        self.answers = targets.gather(-1, order).to(device)
        self.at = column[order].where(self.answers.cpu() != IGNORED, 0).to(device)
        self.ids, self.columns = self.ids.to(device), self.columns.to(device)

    def batch(self, members: Sequence[int], index: Sequence[Tensor], width: int) -> tuple[Tensor, Tensor, Tensor]:
        """Ids (K, size, width) and, as ``Network.gradients`` takes them, where the answers are and what they are."""
        empty = self.ids.shape[1] - 1
        rows = torch.full((len(members), self.size), empty)
        for place, own in enumerate(index):
            rows[place, : len(own)] = own
        rows = rows.to(self.ids.device, non_blocking=True)
        of = torch.tensor(members, device=rows.device)[:, None]
        return self.ids[of, rows, :width], self.at[of, rows], self.answers[of, rows]


class Exam:
    """All questions of a model in one list, and where each encoding's are."""

    def __init__(self, questions: Questions) -> None:
        self.lists: list[list[tuple[slice, Tensor]]] = []
        ids: list[Tensor] = []
        start = 0
        for encodings in questions.parts:
            here: list[tuple[slice, Tensor]] = []
            for encoded in encodings:
                if not here or not torch.equal(encoded.input_ids, encodings[0].input_ids):
                    ids.append(encoded.input_ids)
                    start += len(encoded)
                here.append((slice(start - len(encoded), start), encoded.targets))
            self.lists.append(here)
        self.length = max(each.shape[1] for each in ids)
        self.ids = torch.cat([torch.nn.functional.pad(each, (0, self.length - each.shape[1])) for each in ids])
        self.columns = {
            c for here in self.lists for _, t in here for c in (t != IGNORED).any(0).nonzero()[:, 0].tolist()
        }

    def marked(self, said: Tensor, columns: Tensor) -> list[list[Tensor]]:
        """For each encoding, which of its answers were given.

        Args:
            said: (n, columns) the tokens said at some positions.
        """
        out = []
        for here in self.lists:
            marks = []
            for rows, targets in here:
                inside = columns < targets.shape[1]
                wanted = targets[:, columns[inside]]
                marks.append(((said[rows][:, inside] == wanted) | (wanted == IGNORED)).all(1).cpu())
            out.append(marks)
        return out


def sit(
    exams: Sequence[Exam],
    network: Network,
    numbers: Mapping[str, Tensor],
    batch_size: int,
    prime: Callable[[int, int], None],
) -> list[list[list[Tensor]]]:
    """Ask all models their questions together; returns the marks of each."""
    count, length = max(len(exam.ids) for exam in exams), max(exam.length for exam in exams)
    device = next(iter(numbers.values())).device
    columns = torch.tensor(sorted(set().union(*(exam.columns for exam in exams))), device=device)
    ids = torch.zeros(len(exams), count, length, dtype=torch.long, device=device)
    for own, exam in zip(ids, exams, strict=True):
        own[: len(exam.ids), : exam.length] = exam.ids
    said, start, size = [], 0, batch_size
    while start < count:
        part = ids[:, start : start + size]
        prime(*part.shape[1:])
        logits = network.logits(numbers, part, columns)
        said.append(logits.argmax(-1))
        start += part.shape[1]
        size = max(1, min(batch_size, LOGITS // (len(exams) * logits[0, 0].numel())))
    given = torch.cat(said, 1)
    return [exam.marked(own[: len(exam.ids)], columns) for exam, own in zip(exams, given, strict=True)]
