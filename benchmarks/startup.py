"""How long the command line takes to answer, as multiples of an empty Python process.

python benchmarks/startup.py [--rounds 11]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "--help": [sys.executable, "-m", "rote_bench", "--help"],
    "list tasks": [sys.executable, "-m", "rote_bench", "list", "tasks"],
    "list models": [sys.executable, "-m", "rote_bench", "list", "models"],
    "validate thr": [sys.executable, "-m", "rote_bench", "validate", "thr"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=11)
    rounds = parser.parse_args().rounds
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(rounds + 1):
        for name, command in COMMANDS.items():
            before = time.perf_counter()
            subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
            seconds[name].append(time.perf_counter() - before)
    base = statistics.median(seconds["python -c pass"][1:])
    for name, values in seconds.items():
        median = statistics.median(values[1:])
        print(f"{name:16s} {1000 * median:6.0f} ms   {median / base:5.1f} x")


if __name__ == "__main__":
    main()
