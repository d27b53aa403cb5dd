"""The one exception type for mistakes that a user can mend."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

LONGEST = 2000  # letters of a message; what it names may be of any length
MOST = 100  # faults that are told, and letters of a name to which a near one is looked for


def clipped(text: str, most: int = 80) -> str:
    """A text that may be of any length, as a message shows it."""
    return text if len(text) <= most else f"{text[: most - 3]}..."


class UserError(Exception):
    """A mistake in the user's input: what is wrong, where, and how to mend it, in one line.

    The command line prints it without a traceback and exits with code 2.

    Args:
        what: what is wrong, a clause without a full stop.
        where: a place the user can open, such as ``thr.yaml:12`` or ``--noise-rate``.
        hint: how to mend it.
    """

    def __init__(self, what: str, *, where: str | None = None, hint: str | None = None) -> None:
        self.what = what
        self.where = where
        self.hint = hint
        super().__init__(str(self))

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        advice = f" ({self.hint})" if self.hint else ""
        return clipped(" ".join(f"{place}{self.what}{advice}".split()), LONGEST)


class Faults(UserError):
    """Every fault found in one go, one line each."""

    def __init__(self, faults: Sequence[UserError]) -> None:
        more = len(faults) - MOST
        self.faults = (*faults[:MOST], UserError(f"{more:,} more faults are not shown")) if more > 1 else tuple(faults)
        super().__init__("; ".join(fault.what for fault in faults))

    def __reduce__(self) -> tuple[type[Faults], tuple[Sequence[UserError]]]:
        return Faults, (self.faults,)  # exceptions cross processes by their arguments

    def __str__(self) -> str:
        return "\n".join(str(fault) for fault in self.faults)


def nearest(name: str, known: Iterable[str], cutoff: float = 0.5) -> str | None:
    """The known name closest to a mistyped one, or None when nothing is close."""
    import difflib  # not needed until something is wrong

    near = [each for each in known if 0.5 * len(name) <= len(each) <= 2 * len(name)]
    if len(name) > MOST or len(near) > 20 * MOST:
        return None
    found = difflib.get_close_matches(name, near, n=1, cutoff=cutoff)
    return found[0] if found else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint for an unknown name: the nearest valid one, else the list of all."""
    names = sorted(known)
    close = nearest(name, names)
    if close:
        return f"did you mean {close!r}?"
    shown = ", ".join(clipped(name) for name in names[:12]) + (", ..." if len(names) > 12 else "")
    return f"known: {shown}" if names else "none is known"
