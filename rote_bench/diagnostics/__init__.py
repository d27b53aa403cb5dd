"""What a diagnostic is. Each file beside this one holds one; none imports another."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeAlias, TypeVar

import numpy as np

from ..measures import Measure
from ..statistics import Estimate, generator, proportion

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from ..subject import Subject

OptionsT = TypeVar("OptionsT")
Details: TypeAlias = Mapping[str, Any]  # plain data, of a shape that its own diagnostic knows
Records: TypeAlias = Mapping[str, Sequence[Any]]
LEAST = 0.1  # a share whose interval reaches down to it is nothing to divide by, nor a sign of learning
MALFORMED = (KeyError, IndexError, TypeError, ValueError, AttributeError, ArithmeticError)
__all__ = [
    "LEAST",
    "MALFORMED",
    "Details",
    "Diagnostic",
    "Estimate",
    "Measure",
    "NoOptions",
    "NotApplicable",
    "Records",
    "Result",
    "levels",
    "lowest",
    "too_low",
]


def lowest(hits: ArrayLike, clusters: ArrayLike) -> float:
    """The lower bound of the share of hits, 0 where there are no examples."""
    return proportion(hits, clusters).ci_low or 0.0


def levels(hits: ArrayLike, clusters: ArrayLike) -> dict[str, list[float | None]]:
    """The share of hits in each column with its interval, in the form in which details keep lines of figures.

    Args:
        hits: (n, k) true or false.
        clusters: (n,) the cluster of each example.

    Returns:
        ``value``, ``ci_low`` and ``ci_high``, k numbers each.
    """
    found = [proportion(column, clusters) for column in np.asarray(hits).T]
    return {key: [getattr(each, key) for each in found] for key in ("value", "ci_low", "ci_high")}


def too_low(what: str, least: float) -> str | None:
    """Why nothing is said relative to a share, from its lower bound; None when it is well above 0."""
    return None if least > LEAST else f"{what} may be as low as {least:.3f}: nothing is said relative to it"


@dataclass(frozen=True)
class NoOptions:
    """A diagnostic without options."""


class NotApplicable(Exception):
    """The diagnostic cannot say anything about this subject; the message is the reason for the report."""


@dataclass(frozen=True)
class Result:
    """What a diagnostic returns.

    Attributes:
        metrics: name -> estimate, for some or all of the measures that the diagnostic declares.
        details: plain data for the report, enough to draw the figure again and to find the metrics again.
        records: column -> one value per example, saved beside the report, from which metrics can be recomputed.
    """

    metrics: Mapping[str, Estimate] = field(default_factory=dict)
    details: Details = field(default_factory=dict)
    records: Records = field(default_factory=dict)


class Diagnostic(ABC, Generic[OptionsT]):
    """One way to look at how a model memorises.

    Subclasses set ``name``, ``version`` (raise it whenever numbers change), ``description``, ``metrics``, what they
    measure, and ``Options``, a frozen dataclass whose fields are the keys that a task file may set.

    ``compares_twin`` says that it reads ``Subject.twin``, so that a sweep runs a cell's twin before the cell itself.

    ``by_default`` says that it runs where a task file names no diagnostics.

    ``passes`` says about how often it sends its examples through the model, so often and so often again for each layer,
    other work counted alike; ``needs_noise`` whether it declines without wrong labels. What a run is expected to take
    follows from them, no number does.

    Args:
        seed: of everything random in it, the ``bootstrap`` seed of the cell.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    description: ClassVar[str] = ""
    metrics: ClassVar[tuple[Measure, ...]] = ()
    Options: ClassVar[type] = NoOptions
    passes: ClassVar[tuple[float, float]] = (10, 10)
    needs_noise: ClassVar[bool] = True
    compares_twin: ClassVar[bool] = False
    by_default: ClassVar[bool] = True

    def __init__(self, options: OptionsT, seed: int = 0) -> None:
        self.options = options
        self.seed = seed

    def rng(self, purpose: str) -> np.random.Generator:
        """The generator that ``Subject.rng`` gives for a purpose."""
        return generator(self.seed, purpose)

    @abstractmethod
    def run(self, subject: Subject) -> Result:
        """Measure the subject.

        Raises:
            NotApplicable: with the reason, when the model or the task lacks what is measured.
        """

    def implied(self, details: Details, records: Records) -> Mapping[str, Estimate | float | None]:
        """The metrics again, from nothing but what the report keeps of them.

        Whoever checks a report compares these with what it claims: an estimate whole, a number with the value alone.
        A metric that is left out cannot be found again and is taken on trust.

        Args:
            details: as JSON gives them back.
            records: those of the result; empty where their file is not there.

        Raises:
            MALFORMED: only these, when the details are not those of this diagnostic.
        """
        return {}

    @staticmethod
    def draw(details: Details, path: Path) -> bool:
        """Write the figure of ``details`` to ``path`` (PNG). Returns False when there is nothing to draw."""
        return False

    @staticmethod
    def series(details: Details) -> Details | None:
        """The few numbers of ``details`` that a page about many cells draws; None when it draws nothing of them."""
        return None
