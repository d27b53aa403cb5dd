"""The paper's claims: what each needs before it is decided, and by which intervals.

Every rule was fixed before any number was seen. A claim is replicated when a whole interval lies on the side that the
paper says, not replicated when the whole interval lies on the other, inconclusive between the two or where the control
that could refute it is not measured, and not applicable when a precondition is not met. "Not replicated" is a normal
outcome, and every verdict has its reason in words.
"""

from ..report.schedules import equal_schedules
from .one import CLAIMS, Claim, decide, unmet
from .rules import VERDICTS, Ruling, above
from .several import (
    ACROSS,
    AcrossFinding,
    decide_across,
    noise_transfer,
    transfer,
    with_twins,
)

__all__ = [
    "ACROSS",
    "CLAIMS",
    "VERDICTS",
    "AcrossFinding",
    "Claim",
    "Ruling",
    "above",
    "decide",
    "decide_across",
    "equal_schedules",
    "noise_transfer",
    "transfer",
    "unmet",
    "with_twins",
]
