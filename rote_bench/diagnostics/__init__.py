"""What a diagnostic is. Each file beside this one holds one; none imports another."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from ..statistics import Estimate, Metric

if TYPE_CHECKING:
    from ..subject import Subject

OptionsT = TypeVar("OptionsT")
__all__ = ["Diagnostic", "Estimate", "Metric", "NoOptions", "NotApplicable", "Result"]


@dataclass(frozen=True)
class NoOptions:
    """A diagnostic without options."""


class NotApplicable(Exception):
    """The diagnostic cannot say anything about this subject; the message is the reason for the report."""


@dataclass(frozen=True)
class Result:
    """What a diagnostic returns.

    Attributes:
        metrics: name -> metric.
        details: plain data for the report, enough to draw the figure again.
        records: column -> one value per example, saved beside the report, from which metrics can be recomputed.
    """

    metrics: Mapping[str, Metric] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)
    records: Mapping[str, Sequence[Any]] = field(default_factory=dict)


class Diagnostic(ABC, Generic[OptionsT]):
    """One way to look at how a model memorises.

    Subclasses set ``name``, ``version`` (raise it whenever numbers change), ``description`` and ``Options``, a frozen
    dataclass whose fields are the keys that a task file may set.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    description: ClassVar[str] = ""
    Options: ClassVar[type] = NoOptions

    def __init__(self, options: OptionsT) -> None:
        self.options = options

    @abstractmethod
    def run(self, subject: Subject) -> Result:
        """Measure the subject.

        Raises:
            NotApplicable: with the reason, when the model or the task lacks what is measured.
        """

    @staticmethod
    def draw(details: Mapping[str, Any], path: Path) -> bool:
        """Write the figure of ``details`` to ``path`` (PNG). Returns False when there is nothing to draw."""
        return False
