"""Processes that run one cell after the other: each cell is as in a process of its own."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import rote_bench
from rote_bench.pipeline.identity import sources
from rote_bench.pipeline.settings import Settings
from rote_bench.plugins import Registry
from rote_bench.spec.loader import load_task
from rote_bench.sweep.board import Board, State
from rote_bench.sweep.cells import Job
from rote_bench.sweep.conduct import conduct
from rote_bench.sweep.local import Local
from rote_bench.sweep.work import LOG, Outcome
from tests.sweep.test_conduct import lasting, plugin, wait
from tests.sweep.test_definition import write

OVERRIDES = ["training.max_steps=40", "diagnostics=[learning_dynamics, logit_lens, probe, neurons]"]


def cells(folder: Path, registry: Registry) -> list[Job]:
    """Two cells of other noise, model and seed."""
    write(folder, "")
    settings = Settings(output_path=folder / "runs", threads=1)
    spec = load_task(folder / "tiny.yaml", registry, overrides=OVERRIDES)
    return [
        Job(spec, "mamba-nano", 0.1, settings, size=1e6),
        Job(spec.replace(seeds=type(spec.seeds).all(1)), "gpt2-nano", 0.2, settings, size=1e6),
    ]


@pytest.fixture
def jobs(registry: Registry, tmp_path: Path) -> list[Job]:
    return cells(tmp_path, registry)


class Quiet(Board):
    """A board that is not seen, and that looks at the workers' processes."""

    def __init__(self, pool: Local) -> None:
        super().__init__("", quiet=True)
        self.pool = pool
        self.seen: dict[str, set[int]] = {}

    def show(self, states: Sequence[State], share: Mapping[str, float]) -> None:
        for each in self.pool.running.values():
            self.seen.setdefault(each.job.name, set()).add(each.worker.process.pid)


def run(jobs: Sequence[Job], pool: Local, registry: Registry, board: Quiet | None = None) -> list[State]:
    return conduct(jobs, lambda: pool, board or Quiet(pool), registry, lambda states: None)


def alone(job: Job, pool: Local) -> Outcome:
    """A cell that is given to a pool by itself."""
    pool.start(job)
    while not (over := pool.ended(1.0)):
        pass
    return over[0][1]


def report(job: Job) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((job.folder / "report.json").read_text())
    return found


def test_a_cell_is_the_same_in_a_process_that_has_run_another(
    jobs: list[Job], registry: Registry, tmp_path: Path
) -> None:
    pool = Local(workers=1, device="cpu", code=sources(registry))
    board = Quiet(pool)
    assert [each.state for each in run(jobs, pool, registry, board)] == ["done", "done"]
    assert pool.started == 1
    assert len(set().union(*board.seen.values())) == 1
    first, second = ((job.folder / LOG).read_text() for job in jobs)
    assert "mamba-nano" in first and "gpt2-nano" not in first
    assert "gpt2-nano" in second and "mamba-nano" not in second
    assert all("loading" in log and "diagnosing" in log for log in (first, second))
    single = rote_bench.run_cells(
        tmp_path / "tiny.yaml",
        model=jobs[1].model,
        noise_rates=[jobs[1].rate],
        seeds=[1],
        overrides=OVERRIDES,
        output_path=tmp_path / "single",
        threads=1,
    )
    assert lasting(report(jobs[1])) == lasting(single[0].data)
    with pytest.raises(ProcessLookupError):
        os.kill(next(iter(board.seen[jobs[1].name])), 0)


class Deadly(Quiet):
    """Kills the worker of a cell in the middle of its training."""

    def __init__(self, pool: Local, victim: Job) -> None:
        super().__init__(pool)
        self.victim = victim

    def show(self, states: Sequence[State], share: Mapping[str, float]) -> None:
        super().show(states, share)
        if self.victim.folder in self.pool.running and (self.victim.folder / "dynamics.jsonl").exists():
            self.pool.running[self.victim.folder].worker.process.kill()


def test_a_worker_killed_in_its_second_cell_fails_that_one_alone(jobs: list[Job], registry: Registry) -> None:
    first, last = jobs
    endless = replace(first.spec, training=replace(first.spec.training, max_steps=1_000_000))
    victim = replace(first, spec=endless, model="llama-nano")
    pool = Local(workers=1, device="cpu")
    board = Deadly(pool, victim)
    before, killed, after = run([first, victim, last], pool, registry, board)
    assert (before.state, killed.state, after.state) == ("done", "failed", "done")
    assert killed.exit_code == -signal.SIGKILL and "SIGKILL" in (killed.reason or "")
    assert any("training" in line for line in killed.log)
    assert board.seen[first.name] == board.seen[victim.name] != board.seen[last.name]
    assert pool.started == 2


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, registry: Registry) -> Job:
    """A cell that is done, so that a worker has little to do with it."""
    made = cells(tmp_path_factory.mktemp("done"), registry)[1]
    job = replace(made, spec=replace(made.spec, diagnostics=()))
    assert run([job], Local(workers=1, device="cpu"), registry)[0].state == "done"
    return job


def test_a_worker_takes_what_fits_and_gives_way_to_a_new_one_otherwise(done: Job, tmp_path: Path) -> None:
    code = tmp_path / "code.py"
    code.write_text("")
    pool = Local(workers=1, device="cpu", code=[code])

    def started(job: Job) -> int:
        assert alone(job, pool) == Outcome("done", exit_code=0)
        assert len(pool.idle) <= 1
        return pool.started

    own = plugin(tmp_path, "own", "import rote_bench\n@rote_bench.hookimpl\ndef register_tasks(register): pass")
    try:
        assert [started(done), started(done)] == [1, 1]
        assert started(replace(done, settings=replace(done.settings, threads=2))) == 2
        assert started(done) == 3
        assert [started(replace(done, plugins=(own,))) for _ in "ab"] == [4, 4]
        assert started(done) == 5
        code.write_text("# changed")
        assert started(done) == 6
        pool.idle[0].process.kill()
        pool.idle[0].process.wait()
        assert started(done) == 7
        assert [started(replace(done, settings=replace(done.settings, compile=True))) for _ in "ab"] == [7, 8]
    finally:
        pool.close()


def test_a_worker_in_which_a_cell_failed_takes_no_more(done: Job, tmp_path: Path) -> None:
    pool = Local(workers=1, device="cpu")
    worse = replace(done, model="nothing-nano", rate=0.3)
    assert (alone(worse, pool).exit_code, pool.idle) == (1, [])
    assert alone(done, pool).state == "done"
    pool.close()
    assert pool.started == 2


def test_a_worker_told_to_stop_between_two_cells_does_not_begin_the_next(done: Job) -> None:
    pool = Local(workers=1, device="cpu")
    assert alone(done, pool).state == "done"
    pool.idle[0].process.terminate()
    found = alone(replace(done, rate=0.3), pool)
    assert (found.state, found.reason, found.exit_code) == ("interrupted", "interrupted before it began", 130)
    pool.close()


def test_what_a_plugin_does_to_its_streams_and_signals_ends_with_the_cell(done: Job, tmp_path: Path) -> None:
    body = (
        "import io, rote_bench\nprint('read', repr(sys.stdin.read()), flush=True)\nos.close(2)\n"
        "sys.stderr = io.StringIO()\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "@rote_bench.hookimpl\ndef register_tasks(register): pass"
    )
    job = replace(done, plugins=(plugin(tmp_path, "rude", body),))
    log = job.folder / LOG
    log.unlink()
    pool = Local(workers=1, device="cpu")
    assert alone(job, pool).state == "done"
    assert "read ''" in log.read_text() and "already done" not in log.read_text()
    assert alone(job, pool).state == "done"
    assert pool.started == 1 and log.read_text().count("already done") == 1
    pool.idle[0].process.terminate()
    assert alone(job, pool).state == "interrupted"
    pool.close()


def test_an_idle_worker_ends_with_its_sweep(done: Job, tmp_path: Path) -> None:
    code = (
        "import pickle, sys, time; from rote_bench.sweep.local import Local; pool = Local(workers=1, device='cpu')\n"
        "pool.start(pickle.load(sys.stdin.buffer))\n"
        "while not pool.ended(1.0): pass\n"
        "print(pool.idle[0].process.pid, flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdin is not None and parent.stdout is not None
        pickle.dump(done, parent.stdin)
        parent.stdin.flush()
        worker = Path("/proc") / parent.stdout.readline().decode().strip()
        assert worker.exists()
        parent.kill()
    wait(lambda: not worker.exists() or "Z" in (worker / "stat").read_text().rpartition(")")[2][:3])
