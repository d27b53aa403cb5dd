"""How long the command line takes to answer, beside an empty Python process, and a finished cell that is run again.

python -m benchmarks.startup [--rounds 7]
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from benchmarks.timing import arguments, children, comparison, finish, take_turns

NOTHING = "python -c pass"
COMMANDS = ("--help", "schema report", "list tasks", "list models", "data thr -n 1", "validate thr")
SHORT = (
    "training.max_steps=20",
    "training.evaluate_every=10",
    "training.schedule.warmup=5",
    "training.schedule.anneal=5",
    "diagnostics=[learning_dynamics]",
)


def call(command: Sequence[str]) -> None:
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)


def main() -> None:
    options = arguments(__doc__, rounds=7).parse_args()
    ours = [sys.executable, "-m", "rote_bench"]
    calls: dict[str, Callable[[], None]] = {NOTHING: partial(call, [sys.executable, "-c", "pass"])}
    calls |= {name: partial(call, [*ours, *name.split()]) for name in COMMANDS}
    with tempfile.TemporaryDirectory() as temporary:
        output = Path(temporary)
        cell = [*ours, "run", "thr", "--model", "gpt2-nano", "-o", str(output), "--device", "cpu", "--quiet"]
        cell += ["--limit", "200", *(word for chosen in SHORT for word in ("--set", chosen))]
        subprocess.run(cell, check=True)
        report = next(output.rglob("report.json"))
        calls["show REPORT"] = partial(call, [*ours, "show", str(report)])
        calls["run of a finished cell"] = partial(call, cell)
        before = report.stat().st_mtime_ns
        seconds = take_turns(calls, options.rounds, clock=children)
        if report.stat().st_mtime_ns != before:
            raise SystemExit("the finished cell was trained again: its last line does not say what it should")
    finish(options, comparison("Commands, each in a process of its own", seconds, NOTHING))


if __name__ == "__main__":
    main()
