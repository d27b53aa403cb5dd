"""Sweeps that run: killed, interrupted and broken ones, on every executor; reports equal those of single runs."""

from __future__ import annotations

import copy
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import rote_bench
from rote_bench.cli import main
from rote_bench.pipeline.settings import Settings
from rote_bench.plugins import Registry
from rote_bench.spec.loader import load_task
from rote_bench.sweep import work
from rote_bench.sweep.board import Board, State
from rote_bench.sweep.cells import Job
from rote_bench.sweep.cluster import Cluster
from rote_bench.sweep.conduct import conduct
from rote_bench.sweep.local import Local
from rote_bench.sweep.remote import Remote
from rote_bench.sweep.submitted import Queue
from tests.conftest import SMALL_THR
from tests.sweep.test_definition import write

needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is an extra")
needs_submitit = pytest.mark.skipif(find_spec("submitit") is None, reason="submitit is an extra")
ELSEWHERE = [pytest.param("ray", marks=needs_ray), pytest.param("submitit", marks=needs_submitit)]
HOW = {"local": (), "ray": ("--executor", "ray"), "submitit": ("--executor", "submitit", "--submitit", "cluster=local")}
TIMED = {"dynamics.jsonl"}  # its records hold the seconds since the start


def lasting(report: dict[str, Any]) -> dict[str, Any]:
    """A report without what differs between two runs of one cell: times, machine, hashes of files with times."""
    kept = {key: value for key, value in copy.deepcopy(report).items() if key not in ("timings", "environment")}
    for entry in kept["diagnostics"].values():
        del entry["seconds"], entry["cpu_seconds"]
    for record in kept["diagnostics"].get("learning_dynamics", {}).get("details", {}).get("curve", []):
        del record["seconds"]
    for artifact in kept["artifacts"]:
        if artifact["path"] in TIMED:
            artifact["sha256"] = artifact["bytes"] = None
    return kept


def reports(output: Path) -> dict[str, dict[str, Any]]:
    """Folder of each cell -> what lasts of its report."""
    return {
        path.parent.relative_to(output).as_posix(): lasting(json.loads(path.read_text()))
        for path in sorted(output.rglob("report.json"))
    }


def command(sweep: Path, output: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "rote_bench", "sweep", str(sweep), "-o", str(output), "--quiet", *more]


def wait(condition: Callable[[], Any], process: subprocess.Popen[Any] | None = None) -> None:
    while not condition():
        assert process is None or process.poll() is None, "it ended before it could be disturbed"
        time.sleep(0.02)


def in_the_middle(output: Path, done: int) -> bool:
    """Whether so many cells are done and another one is training."""
    finished = {path.parent for path in output.rglob("report.json")}
    begun = [p for p in output.rglob("dynamics.jsonl") if p.parent not in finished and p.read_text().count("\n") >= 3]
    return len(finished) >= done and bool(begun)


def everyone(output: Path) -> list[int]:
    """Processes whose command line or working set speaks of this output folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if str(output) in (entry / "cmdline").read_text() or any(
                str(output) in os.readlink(file) for file in (entry / "fd").iterdir()
            ):
                found.append(int(entry.name))
        except OSError:  # it has just ended
            continue
    return [pid for pid in found if pid != os.getpid()]


def test_a_sweep_killed_in_the_middle_ends_with_the_reports_of_single_runs(tmp_path: Path) -> None:
    sweep = write(
        tmp_path,
        "name: s\ntasks: [tiny.yaml]\nmodels: [gpt2-nano]\nseeds: [0, 1]\noverrides: {training: {max_steps: 150}}\n",
    )
    output = tmp_path / "runs"
    process = subprocess.Popen(command(sweep, output, "--workers", "1"), start_new_session=True)
    wait(lambda: in_the_middle(output, done=1), process)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert len(reports(output)) == 1
    first = next(output.rglob("report.json"))
    before = first.stat().st_mtime_ns
    assert main([*command(sweep, output)[3:], "--workers", "1"]) == 0
    assert first.stat().st_mtime_ns == before
    whole = tmp_path / "whole"
    rote_bench.run_cells(
        tmp_path / "tiny.yaml", model="gpt2-nano", seeds=[0, 1], overrides=["training.max_steps=150"], output_path=whole
    )
    assert reports(output) == reports(whole) and len(reports(whole)) == 2
    summary = json.loads((output / "s.sweep.json").read_text())
    assert summary["complete"] and [cell["skipped"] for cell in summary["cells"]] == [True, False]
    assert not list(output.rglob(".*"))


@pytest.fixture
def cell(registry: Registry, tmp_path: Path) -> Job:
    write(tmp_path, "")
    spec = load_task(tmp_path / "tiny.yaml", registry)
    return Job(spec, "gpt2-nano", 0.1, Settings(output_path=tmp_path / "runs", threads=1), size=1e6)


def plugin(folder: Path, name: str, body: str) -> str:
    path = folder / f"{name}.py"
    path.write_text(f"import os, signal, sys, time\n{body}\n")
    return str(path)


def broken(cell: Job, **plugins: str) -> list[Job]:
    """A cell for each plugin, which does its harm in the worker."""
    return [replace(cell, plugins=(file,), rate=(i + 1) / 100) for i, file in enumerate(plugins.values())]


def run(jobs: list[Job], pool: Any, registry: Registry) -> list[State]:
    return conduct(jobs, lambda: pool, Board("Broken", quiet=False), registry, lambda states: None)


def test_a_worker_that_dies_harms_only_its_cell(
    cell: Job,
    registry: Registry,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    jobs = broken(
        cell,
        killed=plugin(tmp_path, "killed", "print('out of words', flush=True)\nos.kill(os.getpid(), signal.SIGKILL)"),
        left=plugin(tmp_path, "left", "import ctypes\nctypes.CDLL(None)._exit(3)"),
        raised=plugin(tmp_path, "raised", "raise RuntimeError('boom')"),
        silent=plugin(tmp_path, "silent", "import ctypes\nos.close(2)\nctypes.CDLL(None)._exit(0)"),
    )
    killed, left, raised, silent = run(jobs, Local(workers=2, device="cpu"), registry)
    assert {s.state for s in (killed, left, raised, silent)} == {"failed"}
    assert killed.exit_code == -9 and "SIGKILL" in (killed.reason or "") and killed.log == ["out of words"]
    assert left.exit_code == 3 and "exit code 3" in (left.reason or "")
    assert raised.exit_code == 1 and "RuntimeError: boom" in (raised.reason or "")
    assert silent.exit_code == 0 and silent.state == "failed"
    said = capsys.readouterr().err
    assert "noise-0.01/seed-0: failed: its process was ended by SIGKILL" in said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_stops_the_workers_and_starts_no_more(
    cell: Job,
    registry: Registry,
    tmp_path: Path,
    number: signal.Signals,
) -> None:
    started = tmp_path / "started"
    body = f"open({str(started)!r}, 'a').close()\nos.kill(os.getppid(), {int(number)})\ntime.sleep(600)"
    slow = plugin(tmp_path, "slow", body)
    jobs = broken(cell, a=slow, b=slow)
    states: list[State] = []
    with pytest.raises(KeyboardInterrupt):
        conduct(jobs, lambda: Local(workers=1, device="cpu"), Board("", quiet=True), registry, states.extend)
    assert [s.state for s in states[-2:]] == ["interrupted", "waiting"]
    assert started.exists()


def test_a_second_interrupt_ends_workers_that_do_not_listen(
    cell: Job,
    registry: Registry,
    tmp_path: Path,
) -> None:
    body = (
        "signal.signal(signal.SIGTERM, lambda *_: os.kill(os.getppid(), signal.SIGINT))\n"
        "os.kill(os.getppid(), signal.SIGINT)\nwhile True: time.sleep(1)"
    )
    states: list[State] = []
    with pytest.raises(KeyboardInterrupt):
        conduct(
            broken(cell, deaf=plugin(tmp_path, "deaf", body)),
            lambda: Local(workers=1, device="cpu"),
            Board("", quiet=True),
            registry,
            states.extend,
        )
    assert states[-1].state == "interrupted" and states[-1].exit_code == -9


def test_workers_end_with_their_sweep(cell: Job, tmp_path: Path) -> None:
    mark = tmp_path / "pid"
    slow = plugin(tmp_path, "slow", f"open({str(mark)!r}, 'w').write(str(os.getpid()))\ntime.sleep(600)")
    code = (
        "import pickle, sys, time; from rote_bench.sweep.local import Local; pool = Local(workers=1, device='cpu');"
        "pool.start(pickle.load(sys.stdin.buffer)); time.sleep(600)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE)
    assert parent.stdin is not None
    pickle.dump(replace(cell, plugins=(slow,)), parent.stdin)
    parent.stdin.close()
    wait(lambda: mark.exists() and mark.read_text(), parent)
    worker = Path("/proc") / mark.read_text()
    assert worker.exists()
    parent.kill()
    parent.wait()
    wait(lambda: not worker.exists() or "Z" in (worker / "stat").read_text().rpartition(")")[2][:3])


def test_a_cell_that_another_process_runs_is_not_run_beside_it(cell: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "PATIENCE", 0.0)
    hold = (
        "import sys; from pathlib import Path; from rote_bench.pipeline.lock import alone\n"
        f"with alone(Path({str(cell.folder)!r})): print(flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        found = work.perform(cell)
        assert (found.state, "another process is running this cell" in str(found.reason)) == ("failed", True)
        assert not (cell.folder / "report.json").exists()
        other.communicate()


SMALL = SMALL_THR.replace("max_steps: 500", "max_steps: 160").replace("anneal: 200", "anneal: 50")
EIGHT = """name: eight
tasks: [small.yaml]
models: [gpt2-nano, llama-nano]
noise_rates: [0, 0.05]
seeds: [0, 1]
overrides: {diagnostics: [learning_dynamics, logit_lens, probe]}
"""


@pytest.fixture(scope="module")
def eight(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A sweep of eight small cells, and its reports when nothing disturbs it."""
    folder = tmp_path_factory.mktemp("eight")
    (folder / "small.yaml").write_text(SMALL)
    (folder / "sweep.yaml").write_text(EIGHT)
    subprocess.run(command(folder / "sweep.yaml", folder / "whole", "--workers", "2"), check=True)
    made = reports(folder / "whole")
    assert len(made) == 8 and {report["status"] for report in made.values()} == {"success"}
    return folder / "sweep.yaml", made


@pytest.mark.slow
@pytest.mark.parametrize("executor", ["local", *ELSEWHERE])
def test_eight_cells_killed_in_the_middle_end_as_if_nothing_had_happened(
    eight: tuple[Path, dict[str, Any]], tmp_path: Path, executor: str
) -> None:
    sweep, undisturbed = eight
    output, how = tmp_path / "runs", (*HOW[executor], "--workers", "2")
    process = subprocess.Popen(command(sweep, output, *how), start_new_session=True)
    wait(lambda: in_the_middle(output, done=3), process)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for pid in everyone(output):  # workers elsewhere have process groups of their own
        os.kill(pid, signal.SIGKILL)
    wait(lambda: not everyone(output))
    assert 3 <= len(reports(output)) < 8
    assert subprocess.run(command(sweep, output, *how), check=False).returncode == 0
    assert reports(output) == undisturbed


@pytest.mark.slow
@pytest.mark.parametrize("executor", ELSEWHERE)
def test_others_give_the_very_same_reports_and_go_on_after_an_interrupt(tmp_path: Path, executor: str) -> None:
    sweep = write(
        tmp_path,
        "name: s\ntasks: [tiny.yaml]\nmodels: [gpt2-nano]\nseeds: [0, 1]\noverrides: {training: {max_steps: 400}}\n",
    )
    output, how = tmp_path / "runs", (*HOW[executor], "--workers", "1")
    process = subprocess.Popen(command(sweep, output, *how), start_new_session=True)
    wait(lambda: in_the_middle(output, done=0), process)
    process.send_signal(signal.SIGINT)
    assert process.wait() == 130
    states = [cell["state"] for cell in json.loads((output / "s.sweep.json").read_text())["cells"]]
    assert states == ["interrupted", "waiting"] and list(output.rglob("training-state.pt"))
    assert subprocess.run(command(sweep, output, *how), check=False).returncode == 0
    assert subprocess.run(command(sweep, tmp_path / "local", "--workers", "1"), check=False).returncode == 0
    assert reports(output) == reports(tmp_path / "local") and len(reports(output)) == 2


@pytest.mark.slow
@pytest.mark.parametrize("executor", ELSEWHERE)
def test_a_lost_cell_is_tried_again_but_not_for_ever(
    cell: Job, registry: Registry, tmp_path: Path, executor: str
) -> None:
    once = tmp_path / "once"
    jobs = broken(
        cell,
        once=plugin(
            tmp_path,
            "once",
            f"import rote_bench\nif not os.path.exists({str(once)!r}):\n"
            f"    open({str(once)!r}, 'w').close()\n    os.kill(os.getpid(), signal.SIGKILL)\n"
            "@rote_bench.hookimpl\ndef register_tasks(register): pass",
        ),
        always=plugin(tmp_path, "always", "os.kill(os.getpid(), signal.SIGKILL)"),
    )
    pool: Remote
    if executor == "submitit":
        pool = Queue(workers=2, options={"cluster": "local"}, output=tmp_path / "runs")
    else:
        pool = cluster = Cluster(workers=2, address=None, jobs=jobs)
        nodes = {node["NodeManagerAddress"] for node in cluster.ray.nodes()}
        assert nodes == {"127.0.0.1"}  # nothing outside can reach it
    first, second = run(jobs, pool, registry)
    assert first.state == "done" and second.state == "failed" and "lost with its" in (second.reason or "")
    assert (jobs[0].folder / "run.log").read_text().count("trying again") == 1
    assert (jobs[1].folder / "run.log").read_text().count("trying again") == 2


@pytest.mark.slow
def test_a_failed_cell_is_kept_reported_and_tried_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (
        "name: s\ntasks: [{task: tiny.yaml, overrides: {training: {learning_rate: 1.0e+30,"
        " adam_learning_rate: 1.0e+30}}}, {task: tiny.yaml, profile: adam}]\nmodels: [gpt2-nano]\n"
    )
    sweep, output = write(tmp_path, text), tmp_path / "runs"
    arguments = ["sweep", str(sweep), "-o", str(output)]
    assert main(arguments) == 1
    said = capsys.readouterr()
    assert "tiny/gpt2-nano/noise-0.1/seed-0: failed: FloatingPointError" in said.out
    assert "2 cells: 1 done, 1 failed" in said.out
    kept = json.loads((output / "tiny/gpt2-nano/noise-0.1/seed-0/report.json").read_text())
    assert kept["status"] == "failed" and "not finite" in kept["error"]
    sweep.write_text(text.replace("1.0e+30", "0.01"))
    assert main([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["counts"] == {"done": 2}
