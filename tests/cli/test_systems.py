"""Systems without the calls of POSIX."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from rote_bench.report.schema import write as to_json
from rote_bench.report.write import write_json
from tests.reports import report

BLOCKED = """
import os, sys
for name in ("fcntl", "resource", "grp", "pwd", "termios"):
    sys.modules[name] = None
for name in ("sched_getaffinity", "getuid", "fork", "killpg", "sysconf"):
    if hasattr(os, name):
        delattr(os, name)
import rote_bench.sweep.work
from rote_bench.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    "arguments",
    [
        ["--version"],
        ["list", "tasks"],
        ["list", "models"],
        ["validate", "thr"],
        ["show", "REPORT"],
        ["validate", "SWEEP"],
    ],
    ids=" ".join,
)
def test_light_verbs_need_nothing_of_posix(arguments: list[str], tmp_path: Path) -> None:
    (tmp_path / "report").mkdir()
    write_json(tmp_path / "report" / "report.json", to_json(report({"validation_accuracy": 0.5})))
    (tmp_path / "t.yaml").write_text("name: t\ngenerator: addition\nsplits: {train: 20, selection: 5, validation: 5}\n")
    (tmp_path / "s.yaml").write_text("name: s\ntasks: [t.yaml]\nmodels: [gpt2-nano]\n")
    given = [{"REPORT": str(tmp_path / "report"), "SWEEP": str(tmp_path / "s.yaml")}.get(a, a) for a in arguments]
    done = subprocess.run([sys.executable, "-c", BLOCKED, *given], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_peak_memory_is_zero_where_the_system_does_not_say(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from rote_bench.report.provenance import peak_memory_bytes

    unknown = tmp_path / "status"
    assert peak_memory_bytes() > 1 << 20 and peak_memory_bytes(unknown) > 1 << 20
    unknown.write_text("Name: python\nVmHWM:      70 kB\n")
    assert peak_memory_bytes(unknown) == 70 * 1024
    unknown.unlink()
    monkeypatch.setitem(sys.modules, "resource", None)
    assert peak_memory_bytes(unknown) == 0
