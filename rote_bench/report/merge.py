"""One diagnostic's details over several seeds, in the form of a single seed's: what its own figure can be drawn of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from ..contrasts import FEWEST, across_seeds

LEVELS = ("value", "ci_low", "ci_high")  # the form in which details keep whatever has an interval
STEP = "step"  # what a list of evaluations is read by
OVER_SEEDS = "over_seeds"  # where a merged evaluation keeps the levels of its numbers
DIGITS = 2  # of the mean of counts


@dataclass(frozen=True)
class Merged:
    """What several seeds say together.

    Attributes:
        details: of the form of each seed's own.
        gaps: what the seeds do not share, a clause each, and so is null or missing in ``details``.
        intervals: whether any interval over seeds is in them.
    """

    details: Mapping[str, Any]
    gaps: tuple[str, ...]
    intervals: bool


def merge(several: Sequence[Mapping[str, Any]]) -> Merged:
    """Bring the details of seeds together leaf by leaf.

    Numbers become their mean. What holds ``value``, ``ci_low`` and ``ci_high`` gets the mean of its values with
    Student's t interval over seeds, whose bounds are null where there are fewer than 3 seeds. Of lists of evaluations
    only the steps that all seeds have are kept, so that they end with the shortest, and what is no count in them has
    its levels under ``over_seeds`` too; other lists are merged element by element.
    A key that one seed lacks is left out, and what is null in one of them, or no number and not the same in all, is
    null: a single seed's details may look like that too.

    Args:
        several: of at least one seed, plain data.

    Raises:
        ArithmeticError, RecursionError: of numbers too large, or of data nested too deeply.
    """
    merging = _Merging(len(several))
    details = merging.mappings(several, "")
    return Merged(details, tuple(dict.fromkeys(merging.gaps)), merging.intervals)


class _Merging:
    def __init__(self, seeds: int) -> None:
        self.seeds = seeds
        self.gaps: list[str] = []
        self.intervals = False

    def leaf(self, values: Sequence[Any], path: str) -> Any:
        first = values[0]
        if all(isinstance(value, Mapping) for value in values):
            return self.mappings(values, path)
        if all(isinstance(value, list | tuple) for value in values):
            return self.lists(values, path)
        if all(type(value) is type(first) and value == first for value in values):
            return first
        if all(map(_is_number, values)):
            mean = fmean(values)
            return round(mean, DIGITS) if all(isinstance(value, int) for value in values) else mean
        self.differs(values, path)
        return None

    def mappings(self, several: Sequence[Mapping[str, Any]], path: str) -> dict[str, Any]:
        found = {}
        keys = dict.fromkeys(key for each in several for key in each)
        shared = [key for key in keys if all(key in each for each in several)]
        for key in keys:
            if key not in shared:
                self.gap(_at(path, key), f"is missing in {sum(key not in each for each in several)}")
        with_interval = all(key in shared for key in LEVELS)
        for key in shared:
            if not (with_interval and key in LEVELS):
                found[key] = self.leaf([each[key] for each in several], _at(path, key))
        if with_interval:
            levels = self.levels([each["value"] for each in several], _at(path, "value"))
            found |= dict(zip(LEVELS, levels, strict=True))
        return found

    def levels(self, values: Sequence[Any], path: str) -> tuple[Any, Any, Any]:
        """Mean and both bounds of numbers, or of nested lists of them."""
        if all(isinstance(value, list | tuple) for value in values) and len({len(value) for value in values}) == 1:
            found = [self.levels(column, f"{path}[]") for column in zip(*values, strict=True)]
            return [f[0] for f in found], [f[1] for f in found], [f[2] for f in found]
        if all(map(_is_number, values)):
            estimate = across_seeds([float(value) for value in values])
            self.intervals = self.intervals or estimate.ci_low is not None
            return estimate.value, estimate.ci_low, estimate.ci_high
        return self.leaf(values, path), None, None

    def lists(self, several: Sequence[Sequence[Any]], path: str) -> list[Any] | None:
        by_step = [_by_step(each) for each in several]
        if all(by_step):
            steps = [step for step in by_step[0] if all(step in each for each in by_step)]
            if steps:
                return [self.evaluation([each[step] for each in by_step], f"{path}[]") for step in steps]
            self.gaps.append(f"{path} has no step in common")
            return None
        if len({len(each) for each in several}) == 1:
            return [self.leaf(column, f"{path}[]") for column in zip(*several, strict=True)]
        self.differs(several, path)
        return None

    def evaluation(self, several: Sequence[Mapping[str, Any]], path: str) -> dict[str, Any]:
        """One step of all seeds, with the intervals of its shares under a key of their own."""
        found = self.mappings(several, path)
        shares = [key for key, value in found.items() if isinstance(value, float)]
        columns = {key: [each[key] for each in several] for key in shares}
        kept = LEVELS if self.seeds >= FEWEST else LEVELS[:1]
        if shares:
            found[OVER_SEEDS] = {
                key: dict(zip(kept, self.levels(column, path), strict=False)) for key, column in columns.items()
            }
        return found

    def differs(self, values: Sequence[Any], path: str) -> None:
        missing = sum(value is None for value in values)
        if missing:
            self.gap(path, f"is null in {missing}")
        else:
            self.gaps.append(f"{path} differs over seeds")

    def gap(self, path: str, what: str) -> None:
        self.gaps.append(f"{path} {what} of {self.seeds} seeds")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _at(path: str, key: str) -> str:
    return f"{path}.{key}" if path else str(key)


def _by_step(several: Sequence[Any]) -> dict[int, Mapping[str, Any]]:
    """The evaluations of a list by their step; empty where it is no such list."""
    if not all(isinstance(each, Mapping) and type(each.get(STEP)) is int for each in several):
        return {}
    return {each[STEP]: each for each in several}
