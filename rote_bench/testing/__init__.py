"""What authors of plugins call in their own tests: every rule that the harness relies on, with what to mend.

Each check gathers everything that is wrong and raises one ``RuleBroken``, an ``AssertionError`` with a line for each
broken rule.
"""

from .parts import check_diagnostic, check_model, check_noise
from .rules import RuleBroken
from .small import small_subject
from .task import check_task

__all__ = ["RuleBroken", "check_diagnostic", "check_model", "check_noise", "check_task", "small_subject"]
