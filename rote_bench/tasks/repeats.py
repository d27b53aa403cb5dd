"""Questions and answers that stand in a table several times, as they are or in another Unicode form."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from unicodedata import normalize

from ..errors import UserError


def alike(text: str) -> tuple[str, ...]:
    """A text in the forms in which it looks the same, its own first."""
    return (text,) if text.isascii() else tuple(dict.fromkeys((text, normalize("NFC", text), normalize("NFD", text))))


# Zero-width space and no-break space, word joiner, marks of direction, soft hyphen: nothing is to be seen of them.
UNSEEN = dict.fromkeys((0x200B, 0xFEFF, 0x2060, 0x200E, 0x200F, 0x00AD))


def composed(text: str) -> str:
    """What texts have in common that look the same, spaces and line breaks apart."""
    return " ".join((text if text.isascii() else normalize("NFC", text.translate(UNSEEN))).split())


def keep(
    order: Iterable[int], questions: Sequence[str], answers: Sequence[str], how: str, place: Callable[[int], str]
) -> Collection[int]:
    """The rows that do not count, as their question stands in another row too.

    Args:
        order: of rows; the first of those that ask the same may stay.
        questions, answers: of all rows.
        how: ``refuse``, ``first`` or ``agreeing``.
        place: number of a row -> where it stands.

    Raises:
        UserError: when none may stand twice, naming the two places.
    """
    rows: dict[str, list[int]] = {}
    order = list(order)
    if len({composed(questions[row]) for row in order}) == len(order):
        return ()
    for row in order:
        rows.setdefault(composed(questions[row]), []).append(row)
    several = [same for same in rows.values() if len(same) > 1]
    if several and how == "refuse":
        first, second = several[0][:2]
        one, other = answers[first], answers[second]
        but = "" if one == other else f" but answer {one!r} and {other!r}"
        more = sum(len(same) - 1 for same in several) - 1
        raise UserError(
            f"{place(first)} and {place(second)} ask the same{but}: {_short(questions[first])}"
            + (f"; {more} more rows repeat a question" if more else ""),
            where="parameters.path",
            hint="keep one of them, or say parameters.duplicates: first, or agreeing to leave out what is disputed",
        )
    lost: set[int] = set()
    for same in several:
        disputed = how == "agreeing" and len({composed(answers[row]) for row in same}) > 1
        lost.update(same if disputed else same[1:])
    return lost


def _short(text: str) -> str:
    return repr(text if len(text) <= 100 else f"{text[:97]}...")


def check_alike(
    answers: Sequence[str], given: Sequence[str] | None, rows: Iterable[int], place: Callable[[int], str]
) -> None:
    """Whether no two answers look the same and are not: one would be taught as the wrong label of the other.

    Raises:
        UserError: naming two rows.
    """
    rows = list(rows)
    distinct = {text for row in rows for text in (answers[row], given[row] if given is not None else "")}
    if len({composed(text) for text in distinct}) == len(distinct):
        return
    forms: dict[str, tuple[str, int]] = {}
    for row in rows:
        for text in (answers[row], given[row] if given is not None else ""):
            seen, where = forms.setdefault(composed(text), (text, row))
            if seen == text:
                continue
            formed = " ".join(seen.split()) != " ".join(text.split())
            what = (
                f"the answer {text!r} stands in two Unicode forms that look the same"
                if formed
                else f"the answers {seen!r} and {text!r} differ in white space alone"
            )
            raise UserError(
                f"{what}, in {place(where)} and {place(row)}",
                where="parameters.path",
                hint="write all of the file in one form, such as NFC" if formed else "write them alike",
            )
