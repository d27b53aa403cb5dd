"""``leaderboard check``: each report gets its verdict, whatever the others are."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..errors import UserError
from .arguments import DONE, WRONG_INPUT
from .streams import complain, dump, say

DIFFERS, INCOMPLETE = 1, 3


def check_reports(options: argparse.Namespace) -> int:
    """Check every report; returns the exit code: that something differs outweighs that something is no report, which
    outweighs that something could not be recomputed."""
    from .. import api
    from ..leaderboard.untrusted import printable
    from ..progress import Progress

    progress = Progress(quiet=options.quiet or options.json, debug=options.debug)
    if options.task is not None:
        api.load_task(options.task, plugins=options.plugin)
    codes, checks = {DONE}, []
    for found in _reports(options.reports):
        try:
            if isinstance(found, UserError):
                raise found
            checked = api.check_report(
                found, rerun=options.rerun, task=options.task, plugins=options.plugin, progress=progress
            )
        except UserError as error:
            if options.debug:
                raise
            complain(f"rote-bench: {printable(str(error))}")
            codes.add(WRONG_INPUT)
            continue
        codes.add(DIFFERS if not checked.holds else DONE if checked.complete else INCOMPLETE)
        if options.json:
            checks.append(checked.entry())
        elif not options.quiet:
            say(f"{checked.table(options.format)}\n\n")
    if options.json:
        dump(checks)
    return next(code for code in (DIFFERS, WRONG_INPUT, INCOMPLETE, DONE) if code in codes)


def _reports(places: Sequence[str]) -> Iterator[Path | UserError]:
    """The reports that the places mean, and what is wrong with those that mean none."""
    from ..leaderboard.check import reports_of

    for place in places:
        try:
            yield from reports_of(place)
        except UserError as error:
            yield error
