"""The claim that both answers are computed."""

from __future__ import annotations

from ..report.record import Report
from .rules import REPLICATED, Ruling, above, all_of, bounds, shown, untested


def both_computed(report: Report) -> Ruling:
    """The lens compares the true answer with the wrong label alone, which favours it before anything is computed."""
    m = report.metrics
    depths = [bounds(name, m[name]) for name in ("clean_label_depth", "override_depth")]
    lens = [found for found in depths if isinstance(found, Ruling)]
    read = above("latent_clean_retention", m["latent_clean_retention"], 0.0)
    said = (
        f"true answer ahead from depth {shown(m['clean_label_depth'])}, wrong label from {shown(m['override_depth'])}"
    )
    return untested(
        all_of(read, *(lens or [Ruling(REPLICATED, said)])), "how the true answer stands to other possible answers"
    )
