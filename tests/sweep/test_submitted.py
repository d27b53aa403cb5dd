"""Cells in a queue: what jobs ask for, whose they are, and when a cell is submitted again; no queue is needed."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from rote_bench.cli import main
from rote_bench.errors import UserError
from rote_bench.pipeline import interrupts
from rote_bench.pipeline.lessons import STATE
from rote_bench.pipeline.settings import Settings
from rote_bench.plugins import Registry
from rote_bench.spec.loader import load_task
from rote_bench.sweep import submitted
from rote_bench.sweep.cells import Job
from rote_bench.sweep.submitted import Queue
from rote_bench.sweep.work import Outcome
from tests.sweep.test_definition import write

INTERRUPTED = Outcome("interrupted", "interrupted; the same command goes on from here", 130)


class Submitted:
    """A job: it is done when it has a result, and without one when it was ended."""

    def __init__(self, folder: Path, job_id: str) -> None:
        self.job_id, self.folder, self.ended = job_id, folder, False
        self.results: list[Outcome] = []
        self.paths = SimpleNamespace(result_pickle=folder / f"{job_id}_0_result.pkl")

    def done(self) -> bool:
        return self.ended or bool(self.results)

    def result(self) -> Outcome:
        if not self.results:
            raise RuntimeError("it has not produced any output (state: NODE_FAIL)\nmore")
        return self.results[0]

    def stderr(self) -> str | None:
        return None

    def cancel(self, check: bool) -> None:
        self.ended = True


class Slurm(ModuleType):
    """submitit on a machine with SLURM, as far as it is asked."""

    def __init__(self) -> None:
        super().__init__("submitit")
        self.jobs: dict[str, Submitted] = {}
        self.asked: list[dict[str, Any]] = []
        self.environments: list[str | None] = []
        self.error: Exception | None = None
        self.AutoExecutor = self.executor
        self.SlurmJob = lambda folder, job_id: self.jobs[job_id]
        self.JobEnvironment = SimpleNamespace(USR_SIG="USR2")

    def executor(self, folder: Path, cluster: str | None) -> Any:
        if cluster not in (None, "slurm"):
            raise ValueError(f"AutoExecutor doesn't know any executor named {cluster}")
        made = SimpleNamespace(cluster="slurm", parameters={})

        def update(**given: Any) -> None:
            if "slurm_partion" in given:
                raise NameError("Unknown argument 'partion'\nKnown: ...")
            made.parameters.update(given)

        def submit(function: Any, *given: Any) -> Submitted:
            if self.error is not None:
                raise self.error
            folder.mkdir(parents=True, exist_ok=True)
            self.asked.append(dict(made.parameters))
            self.environments.append(os.environ.get("MKL_NUM_THREADS"))
            job = self.jobs[str(len(self.jobs))] = Submitted(folder, str(len(self.jobs)))
            return job

        made.update_parameters, made.submit = update, submit
        return made


@pytest.fixture
def slurm(monkeypatch: pytest.MonkeyPatch) -> Slurm:
    found = Slurm()
    monkeypatch.setitem(sys.modules, "submitit", found)
    monkeypatch.setattr(submitted, "find_spec", lambda name: found)
    monkeypatch.setattr(submitted, "LOOK", 0.0)
    return found


@pytest.fixture
def job(registry: Registry, tmp_path: Path) -> Job:
    write(tmp_path, "")
    spec = load_task(tmp_path / "tiny.yaml", registry)
    made = Job(spec, "gpt2-nano", 0.1, Settings(output_path=tmp_path / "runs", threads=2), size=1e9)
    made.folder.mkdir(parents=True)
    return made


@pytest.fixture
def queue(slurm: Slurm, tmp_path: Path) -> Callable[..., Queue]:
    def make(**options: Any) -> Queue:
        return Queue(workers=None, options=options, output=tmp_path / "runs")

    return make


def test_a_job_asks_for_what_its_cell_needs_and_the_user_says_last(
    slurm: Slurm, job: Job, queue: Callable[..., Queue], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MKL_NUM_THREADS", "7")
    pool = queue(slurm_partition="long", timeout_min=30, slurm_additional_parameters={"x": 1})
    pool.start(job)
    pool.start(replace(job, rate=0.2, gpus=0.5, size=None))
    first, second = slurm.asked
    assert (first["cpus_per_task"], first["slurm_partition"], first["timeout_min"]) == (2, "long", 30)
    assert first["mem_gb"] >= 2 * 60e9 / 2**30 and "gpus_per_node" not in first
    assert second["gpus_per_node"] == 1 and second["mem_gb"] == submitted.LEAST_MEMORY
    assert first["slurm_additional_parameters"] == {"no_requeue": True, "x": 1}
    assert slurm.environments == ["2", "2"] and os.environ["MKL_NUM_THREADS"] == "7"
    assert pool.room(job) and pool.ended(0.0) == []


def test_a_cell_that_gave_way_is_submitted_again_as_long_as_it_goes_on(
    slurm: Slurm, job: Job, queue: Callable[..., Queue]
) -> None:
    pool = queue()
    pool.start(job)
    state = job.folder / STATE
    for number in range(5):  # each of these jobs has trained for a while
        state.write_text("")
        os.utime(state, ns=(number + 1, number + 1))
        slurm.jobs[str(number)].results.append(INTERRUPTED)
        assert pool.ended(0.0) == [] and len(slurm.jobs) == number + 2
    slurm.jobs["5"].ended = True  # its machine is gone
    assert pool.ended(0.0) == []
    slurm.jobs["6"].results.append(INTERRUPTED)
    ((given, outcome),) = pool.ended(0.0)
    assert (given, outcome, len(slurm.jobs)) == (job, INTERRUPTED, 7)
    log = (job.folder / "run.log").read_text()
    assert log.count("trying again") == 6
    assert "lost with its job 5: it has not produced any output (state: NODE_FAIL); trying again" in log
    pool.close()
    assert not pool.folder.exists()


def test_the_next_sweep_takes_over_the_jobs_of_one_that_was_killed(
    slurm: Slurm, job: Job, queue: Callable[..., Queue]
) -> None:
    queue().start(job)
    pool = queue()
    pool.start(job)
    assert len(slurm.jobs) == 1
    slurm.jobs["0"].results.append(Outcome("done", exit_code=0))
    assert pool.ended(0.0) == [(job, Outcome("done", exit_code=0))]
    queue().start(job)
    assert len(slurm.jobs) == 2, "one that is over is not taken over"
    changed = replace(job, spec=replace(job.spec, training=replace(job.spec.training, max_steps=7)))
    queue().start(changed)
    assert slurm.jobs["1"].ended and len(slurm.jobs) == 3, "another cell's is ended"


def test_an_interrupt_ends_jobs_and_submits_none_again(slurm: Slurm, job: Job, queue: Callable[..., Queue]) -> None:
    pool = queue()
    pool.start(job)
    pool.stop()
    ((_, outcome),) = pool.ended(0.0)
    assert outcome.lost and slurm.jobs["0"].ended and len(slurm.jobs) == 1


def test_what_the_queue_refuses_is_told(slurm: Slurm, job: Job, queue: Callable[..., Queue]) -> None:
    pool = queue()
    slurm.error = OSError("sbatch: error: invalid account\nmore")
    with pytest.raises(UserError, match=r"--executor submitit: cannot be submitted: sbatch: error: invalid account$"):
        pool.start(job)
    slurm.error = None
    pool.start(job)
    slurm.error = OSError("too many jobs")
    other = replace(job, rate=0.2)
    pool.start(other)
    assert pool.ended(0.0) == [(other, Outcome("failed", "cannot be submitted: too many jobs"))]


def test_what_submitit_does_not_know_is_the_users_mistake(queue: Callable[..., Queue]) -> None:
    for options, said in (({"slurm_partion": "x"}, "Unknown argument 'partion'"), ({"cluster": "x"}, "named x")):
        with pytest.raises(UserError, match=f"--submitit: submitit: .*{said}") as caught:
            queue(**options)
        assert "\n" not in str(caught.value)


def test_wrong_flags_are_a_line_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = write(tmp_path, "name: s\ntasks: [tiny.yaml]\nmodels: [gpt2-nano]\n")
    arguments = ["sweep", str(sweep), "-o", str(tmp_path / "runs")]
    assert main([*arguments, "--submitit", "timeout_min=3"]) == 2
    assert "--submitit: these are submitit's (add --executor submitit)" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*arguments, "--executor", "submitit", "--submitit", "x"])
    assert "write NAME=VALUE" in capsys.readouterr().err


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(submitted, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"submitit is not installed.*\[submitit\]"):
        Queue(workers=None, options={}, output=tmp_path)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2])
def test_a_job_heeds_the_first_of_its_signals_and_survives_the_next(
    slurm: Slurm, job: Job, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    heard: list[str] = []

    def perform(*given: Any) -> Outcome:
        try:
            os.kill(os.getpid(), number)
            signal.pause()
        except KeyboardInterrupt:
            heard.append("saving")
            os.kill(os.getpid(), signal.SIGTERM)
            heard.append("saved")
            raise
        return Outcome("done")

    monkeypatch.setattr(submitted, "perform_there", perform)
    monkeypatch.setattr(interrupts, "_listening", False)
    before = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2)}
    try:
        assert submitted.perform_in_queue(job, {}, "").state == "interrupted"
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
        interrupts._heard.clear()
    assert heard == ["saving", "saved"]
