"""Where a command begins and ends: its arguments, its exit code, and the one line that says what went wrong."""

from __future__ import annotations

import argparse
import errno
import os
import re
import signal
import sys
from collections.abc import Sequence

from ..errors import UserError
from ..strangers import contained, leave, reason_of
from . import streams
from .arguments import WRONG_INPUT
from .verbs import ACTIONS, INCOMPLETE, parser

# What the system says of a place that a user has named, or has to make room in.
OF_PLACES = {
    getattr(errno, name)
    for name in (
        *("ENOENT", "ENOTDIR", "EISDIR", "EEXIST", "ELOOP", "ENAMETOOLONG", "EACCES", "EPERM", "EROFS", "ENOSPC"),
        *("EDQUOT", "EFBIG", "ENXIO", "ENODEV", "ESTALE"),
    )
    if hasattr(errno, name)
}
FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a verb; returns the exit code."""
    from ..pipeline.interrupts import listening

    given = _hyphens(sys.argv[1:] if arguments is None else arguments)
    debug, me = "--debug" in given, os.getpid()
    with streams.lasting():
        with listening() as heard:
            try:
                code = _perform(given)
            except KeyboardInterrupt as error:
                number = heard[0] if heard else signal.SIGINT
                how = "terminated" if number == signal.SIGTERM else "interrupted"
                streams.complain(f"rote-bench: {how}; {error if error.args else _kept(given)}")
                code = 128 + int(number)
            except UserError as error:
                if debug:
                    raise
                streams.complain("\n".join(f"rote-bench: {line}" for line in str(error).splitlines()))
                code = WRONG_INPUT
            except Exception as error:  # the last resort: a failed run is one line unless --debug asks for more
                if debug:
                    raise
                of_system = _of_system(error)
                streams.complain(f"rote-bench: {of_system or f'failed: {reason_of(error)} (--debug shows where)'}")
                code = WRONG_INPUT if of_system else INCOMPLETE
        if os.getpid() != me:  # a copy, which a plugin has made by forking, has nothing to say
            leave(INCOMPLETE)
    return code


def _perform(given: Sequence[str]) -> int:
    with streams.apart():
        top = parser()
        _add_plugin_verbs(top, given)
    options = top.parse_args(given)
    if options.verb not in ACTIONS.values():  # a plugin's verb prints where it likes, and ends as it likes
        code: int = options.verb(options)
        return code
    me = os.getpid()
    with streams.apart():
        with contained():
            code = options.verb(options)
        if os.getpid() == me:
            streams.flush()
    return code


def _hyphens(arguments: Sequence[str]) -> list[str]:
    """``--noise_rate=0.1`` is ``--noise-rate=0.1``; values keep their underscores."""
    out = []
    for argument in arguments:
        flag, equals, value = argument.partition("=")
        out.append(flag.replace("_", "-") + equals + value if flag.startswith("--") and len(flag) > 2 else argument)
    return out


def _add_plugin_verbs(top: argparse.ArgumentParser, given: Sequence[str]) -> None:
    """Let plugins add verbs, unless the verb is built in, which then starts without loading any."""
    verbs = top.get_default("subparsers")
    first = next((a for a in given if not a.startswith("-")), None)
    if first is None or first in verbs.choices:
        return
    from ..plugins import load

    load().add_verbs(verbs)


def _kept(given: Sequence[str]) -> str:
    """What a command keeps that is interrupted before it can say so itself."""
    verb = next((a for a in given if not a.startswith("-")), None)
    if verb in ("run", "sweep"):
        return "cells that are done are kept, and the same command goes on from here"
    return "nothing is kept of this command, and the same one begins it again"


def _of_system(error: Exception) -> str | None:
    """What the system says of a place, in a line; None for all other errors."""
    number = error.errno if isinstance(error, OSError) else None
    if number is None and (found := re.search(r"\(os error (\d+)\)", str(error))):  # as Rust libraries say it
        number = int(found.group(1))
    if number not in OF_PLACES:
        return None
    place = getattr(error, "filename", None)
    where = f"{place}: " if place else ""
    hint = "make room, and the same command goes on" if number in FULL else "name another place"
    return f"{where}{os.strerror(number or 0)} ({hint})"
