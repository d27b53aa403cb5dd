"""What the harness asks of a task beyond its questions, held to what was asked for: the answers of a plugin's code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ..errors import UserError
from .example import Example, Task
from .repeats import composed

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def answers(task: Task, example: Example) -> Sequence[str]:
    """``Task.answers``.

    Raises:
        UserError: when they have no order, in which a seed would draw other labels in each process.
    """
    return _sequence(task, "answers", task.answers(example))


def check_ordered(task: Task, example: Example) -> None:
    """Whether all that wrong labels, foils and probes draw from for a question is in order.

    Raises:
        UserError: naming what is not.
    """
    answers(task, example)
    _sequence(task, "near_misses", task.near_misses(example))
    _sequence(task, "foils", task.foils(example))
    for name in example.intermediates:
        _sequence(task, "values", task.values(name))


def check_facts(task: Task, facts: Sequence[Example]) -> None:
    """Whether no two facts answer one question differently.

    Raises:
        UserError: naming the two.
    """
    taught: dict[str, int] = {}
    for number, fact in enumerate(facts):
        other = taught.setdefault(composed(fact.prompt), number)
        if facts[other].answer != fact.answer:
            raise UserError(
                f"{task.fact_place(other)} and {task.fact_place(number)} answer {fact.prompt!r} with"
                f" {facts[other].answer!r} and {fact.answer!r}",
                where="parameters.facts",
                hint="keep one of them: facts are taught as true",
            )


def least_train(task: Task) -> int:
    """``Task.least_train``.

    Raises:
        UserError: when that is no count.
    """
    least = task.least_train()
    if not isinstance(least, int) or least < 0:
        raise _broken(task, "least_train", f"gives {least!r}", "give a count of questions, 0 where it is not known")
    return least


def nearest(
    task: Task, train: Sequence[int], labels: Sequence[str], asked: Sequence[int], k: int
) -> NDArray[np.int64] | None:
    """``Task.nearest``.

    Raises:
        UserError: when those are no places of training questions, or not as many as were asked for.
    """
    import numpy as np

    given = task.nearest(train, labels, asked, k)
    if given is None:
        return None
    found = np.asarray(given)
    if found.shape != (len(asked), k) or found.dtype.kind not in "iu":
        what = f"gives {found.dtype} in the shape {found.shape}"
        raise _broken(task, "nearest", what, f"give whole numbers in the shape {(len(asked), k)}")
    if found.size and not (found.min() >= -1 and found.max() < len(train)):
        raise _broken(task, "nearest", "names places that are none in `train`", f"give -1 to {len(train) - 1}")
    return found


def distances(
    task: Task,
    train: Sequence[int],
    labels: Sequence[str],
    asked: Sequence[int],
    among: Sequence[Sequence[int]],
    k: int,
) -> NDArray[np.float64] | None:
    """``Task.distances``.

    Raises:
        UserError: when those are no distances in order, or not as many as were asked for.
    """
    import numpy as np

    given = task.distances(train, labels, asked, among, k)
    if given is None:
        return None
    found, shape = np.asarray(given), (len(among), len(asked), k)
    if found.shape != shape or found.dtype.kind not in "fiu":
        what = f"gives {found.dtype} in the shape {found.shape}"
        raise _broken(task, "distances", what, f"give numbers in the shape {shape}")
    ordered = (found[..., 1:] >= found[..., :-1]).all()  # False beside NaN too
    if not ordered or not (found >= 0).all():
        what = "gives what is no distance, or no order of distances"
        raise _broken(task, "distances", what, "give numbers from 0 on, nearest first, inf where there are no more")
    return found


def _sequence(task: Task, hook: str, found: Sequence[str]) -> Sequence[str]:
    if not (hasattr(found, "__getitem__") and hasattr(found, "__len__")) or isinstance(found, Mapping):
        raise _broken(task, hook, f"gives a {type(found).__name__}", "give a sequence: sorted(...)")
    return found


def _broken(task: Task, hook: str, what: str, hint: str) -> UserError:
    return UserError(f"{type(task).__name__}.{hook} {what}", where="task", hint=hint)
