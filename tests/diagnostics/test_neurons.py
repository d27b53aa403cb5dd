"""The units that shift most carry memorization."""

from __future__ import annotations

from typing import Any

from tests.diagnostics.reports import details, value


def test_units_that_shift_most_carry_memorization(fda_report: dict[str, Any]) -> None:
    assert value(fda_report, "unit_patch_dissociation") > 0
    found = details(fda_report, "neurons")
    assert 0 < found["classified"] <= found["units"] == 2 * 256
    assert sum(found["families"].values()) == found["classified"]
    curve = found["patching"]["by_shift"]["memorized"]
    assert curve[0] > 0.9 > 0.5 > min(curve)
