"""Values of a table as the text that is asked and taught; never in Python's spelling, and refused where there is none.

Text stays as it is. An integer is written in decimal digits, so is a float in a column whose floats are all whole (6.0
is ``6``), any other float as the shortest decimal; true and false are ``true`` and ``false``; dates are written as ISO
8601 has them; a list of one text is that text; null is an empty field. All else is refused, NaN too.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from typing import Any

from ..errors import UserError

RULE = "text, whole numbers, true and false are taken; write anything else as text"


def words(text: str) -> str:
    """Text with single spaces between its words."""
    return " ".join(text.split())


def texts(
    values: Sequence[Any], what: str, place: Callable[[int], str], where: str, *, whole: bool | None = None
) -> list[str]:
    """The values of a column as text, with its line breaks and spaces; empty where there are no words.

    Args:
        what: the values are, for messages.
        place: number of a row -> where it stands.
        whole: whether all floats are, of this column and of those that it is compared with; None looks at this one.

    Raises:
        UserError: naming the first row whose value is no text, and how many more there are.
    """
    whole = are_whole(values) if whole is None else whole
    values = _as_dates(values)
    out: list[str] = []
    faults: list[tuple[int, ValueError]] = []
    for number, value in enumerate(values):
        try:
            text = value if type(value) is str else spelled(value, whole=whole)
            if not text.isascii():
                text.encode()
            out.append(text if text.split() else "")
        except ValueError as error:
            faults.append((number, error))
    if not faults:
        return out
    number, fault = faults[0]
    others = more(len(faults) - 1, "is no text either", "are no text either")
    if isinstance(fault, UnicodeEncodeError):
        what = f"the {what} of {place(number)} holds half a character, an unpaired surrogate"
        raise UserError(f"{what}{others}", where=where, hint="mend the text") from None
    raise UserError(f"the {what} of {place(number)} is {fault}{others}", where=where, hint=RULE) from None


def _as_dates(values: Sequence[Any]) -> Sequence[Any]:
    """Times that are all the first of their day as the dates that they stand for, as tables of numbers keep dates."""
    times = [value for value in values if isinstance(value, datetime.datetime)]
    if not times or any(time.time() != datetime.time() or time.tzinfo is not None for time in times):
        return values
    return [value.date() if isinstance(value, datetime.datetime) else value for value in values]


def more(count: int, one: str, several: str) -> str:
    """What a message about one row says of the others."""
    return f"; {count} more row{'' if count == 1 else 's'} {one if count == 1 else several}" if count else ""


def are_whole(values: Iterable[Any]) -> bool:
    """Whether all numbers of a column are whole, however they are stored."""
    return all(value.is_integer() for value in values if type(value) is float and math.isfinite(value))


def spelled(value: Any, *, whole: bool) -> str:
    """One value.

    Args:
        whole: whether all floats of its column are.

    Raises:
        ValueError: saying what it is instead of text.
    """
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError("NaN, which is no text" if math.isnan(value) else "infinite, which is no text")
        return str(int(value)) if whole else format(Decimal(repr(value)), "f")
    if isinstance(value, Decimal) and value.is_finite():
        return format(value, "f")
    if isinstance(value, datetime.date | datetime.time):
        return str(value)
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], str):
        return value[0]
    raise ValueError(_kind(value))


def _kind(value: Any) -> str:
    if isinstance(value, list) and value and all(isinstance(v, dict) and "role" in v for v in value):
        return "a list of chat messages"
    if isinstance(value, list):
        return f"a list of {len(value)} values" if len(value) != 1 else "a list"
    if isinstance(value, dict):
        return f"a mapping ({', '.join(map(str, value))})"[:80]
    return "bytes" if isinstance(value, bytes) else f"a value of the type {type(value).__name__}"
