"""Sweep files: which cells they make, every fault at once with its line, and what is foretold of the cells."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import rote_bench
from rote_bench.cli import main
from rote_bench.errors import UserError
from rote_bench.pipeline.settings import Settings
from rote_bench.plugins import Registry
from rote_bench.plugins import load as load_plugins
from rote_bench.report.write import load_report
from rote_bench.spec.loader import load_task
from rote_bench.sweep.board import Board, State, summary, time_left
from rote_bench.sweep.cells import Job, plan
from rote_bench.sweep.cluster import Cluster
from rote_bench.sweep.definition import is_sweep, load, schema
from rote_bench.sweep.finished import Finished, Took, predict
from rote_bench.sweep.local import Local
from rote_bench.sweep.sizes import approximate_size, built_size
from tests.models.loose import Plain

TINY = """
name: tiny
generator: addition
parameters: {digits: 1}
splits: {train: 60, selection: 10, validation: 20}
noise: {rates: [0.1]}
model: {layers: 1, width: 16, heads: 2}
training: {batch_size: 32, max_steps: 12, evaluate_every: 4, precision: float32, schedule: {warmup: 2, anneal: 4}}
diagnostics: [learning_dynamics, logit_lens]
profiles: {adam: {training: {optimizer: adamw}}}
"""


def write(folder: Path, text: str) -> Path:
    (folder / "tiny.yaml").write_text(TINY)
    path = folder / "sweep.yaml"
    path.write_text(text)
    return path


def planned(registry: Registry, path: Path, **kwargs: Any) -> list[Job]:
    return plan(load(path), registry, output=path.parent / "runs", **kwargs)


def faults(registry: Registry, path: Path) -> list[str]:
    with pytest.raises(UserError) as caught:
        planned(registry, path)
    return [line.removeprefix(f"{path}:") for line in str(caught.value).splitlines()]


def test_a_sweep_is_tasks_times_models_times_rates_times_seeds_and_its_other_blocks(
    registry: Registry, tmp_path: Path
) -> None:
    path = write(
        tmp_path,
        """name: many
tasks: [tiny.yaml, {task: tiny.yaml, profile: adam}]
models: [gpt2-nano, llama-nano]
noise_rates: [0, 0.05]
seeds: [0, 1]
include:
  - {models: [gpt2-nano], noise_rates: [0.2]}
  - {tasks: [thr], seeds: [7]}
""",
    )
    names = [job.name for job in planned(registry, path)]
    seeds, rates, models = ("seed-0", "seed-1"), ("noise-0", "noise-0.05"), ("gpt2-nano", "llama-nano")
    first = {f"{t}/{m}/{r}/{s}" for t in ("tiny", "tiny-adam") for m in models for r in rates for s in seeds}
    second = {f"{t}/gpt2-nano/noise-0.2/{s}" for t in ("tiny", "tiny-adam") for s in seeds}
    assert set(names[:16]) == first and set(names[16:20]) == second
    assert set(names[20:]) == {f"thr/{m}/{r}/seed-7" for m in models for r in rates}
    assert [name[-1] for name in names] == [*"0" * 8, *"1" * 8, "0", "0", "1", "1", *"7" * 4]


def test_without_rates_and_seeds_the_task_file_decides(registry: Registry, tmp_path: Path) -> None:
    path = write(tmp_path, "name: one\ntasks: [tiny.yaml]\nmodels: [gpt2-nano]\n")
    (job,) = planned(registry, path)
    assert job.folder == tmp_path / "runs/tiny/gpt2-nano/noise-0.1/seed-0"


def test_seeds_by_kind_are_crossed_and_the_others_follow_data(registry: Registry, tmp_path: Path) -> None:
    path = write(
        tmp_path, "name: s\ntasks: [tiny.yaml]\nmodels: [gpt2-nano]\nseeds: {data: [3, 4], init: [0, 1], order: [9]}\n"
    )
    made = [job.spec.seeds for job in planned(registry, path)]
    assert [(s.data, s.noise, s.init, s.order, s.bootstrap) for s in made] == [
        (data, data, init, 9, data) for data in (3, 4) for init in (0, 1)
    ]
    assert len({job.folder for job in planned(registry, path)}) == 4


def test_models_that_are_compiled_are_named_and_others_are_not_compiled(registry: Registry, tmp_path: Path) -> None:
    start = "name: s\ntasks: [tiny.yaml]\nmodels: [gpt2-nano, mamba-nano]\nrun:\n  compile: "
    made = {job.model: job.settings.compile for job in planned(registry, write(tmp_path, f"{start}[mamba-nano]\n"))}
    assert made == {"gpt2-nano": False, "mamba-nano": True}
    path = write(tmp_path, f"{start}[mamba-nano, gpt2-nan]\n")
    assert faults(registry, path) == [
        "5: run.compile.1: gpt2-nan is no model of this sweep (did you mean 'gpt2-nano'?)"
    ]


def test_overrides_grow_stronger_from_the_sweep_to_the_block_to_the_task(registry: Registry, tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """name: s
tasks: [tiny.yaml]
models: [gpt2-nano]
overrides: {training: {max_steps: 20, batch_size: 16}, diagnostics: [probe]}
include:
  - overrides: [training.max_steps=30]
    noise_rates: [0.2]
    tasks:
      - tiny.yaml
      - {task: tiny.yaml, profile: adam, overrides: {training: {max_steps: 40}}}
""",
    )
    specs = [job.spec for job in planned(registry, path)]
    assert [s.training.max_steps for s in specs] == [20, 30, 40]
    assert {s.training.batch_size for s in specs} == {16}
    assert [d.name for d in specs[2].diagnostics] == ["probe"]
    assert [s.training.optimizer for s in specs] == ["muon", "muon", "adamw"]


def test_every_fault_of_shape_is_reported_with_its_line(registry: Registry, tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """name: Many
tasks:
  - {task: tiny.yaml, profle: adam}
  - {profile: adam}
models: []
noise_rates: [2, 0.1]
seeds: {inits: [0], data: [-1]}
overrides: {extends: x}
include: [{}]
run: {dtype: float64, gpus_per_cell: 1.5}
model: x
""",
    )
    assert faults(registry, path) == [
        "1: name: 'Many' must be lower-case letters, digits and underscores",
        "3: tasks.0.profle: unknown key 'profle' (did you mean 'profile'?)",
        "4: tasks.1: the key 'task' is missing",
        "5: models: must not be empty",
        "6: noise_rates.0: a noise rate must be at least 0 and below 1, not 2",
        "7: seeds.inits: unknown key 'inits' (did you mean 'init'?)",
        "7: seeds.data.0: must be at least 0, not -1",
        "8: overrides.extends: extends can only stand in a task file",
        "9: include.0: must not be empty",
        "10: run.dtype: must be one of float32, bfloat16, float16, not text ('float64') (did you mean 'float16'?)",
        "11: model: unknown key 'model' (did you mean 'models'?)",
    ]


def test_every_task_profile_override_and_model_is_looked_up_before_anything_runs(
    registry: Registry, tmp_path: Path
) -> None:
    path = write(
        tmp_path,
        """name: s
tasks:
  - thrr
  - {task: tiny.yaml, profile: adm}
  - {task: tiny.yaml, overrides: {training: {max_steps: many}}}
  - missing.yaml
  - {task: fda, overrides: [nonsense=1]}
  - {task: fda, profile: unregularised, overrides: [splits.train=99999999]}
models: [gpt9-nano, gpt2-nan, 'hf:./nowhere']
""",
    )
    found = faults(registry, path)
    for line, says in (
        (3, "unknown task 'thrr' (did you mean 'thr'?)"),
        (4, "has no profile 'adm' (did you mean 'adam'?)"),
        (5, "training.max_steps: must be an integer, not text ('many')"),
        (6, "missing.yaml: no such file"),
        (7, "nonsense: unknown key 'nonsense' (did you mean 'noise'?)"),
        (8, "splits"),
        (9, "unknown model 'gpt9-nano'"),
        (9, "unknown model 'gpt2-nan' (sizes: nano"),
        (9, "no folder or file 'nowhere'"),
    ):
        assert any(fault.startswith(f"{line}: ") and says in fault for fault in found), (line, says, found)
    assert [int(fault.partition(":")[0]) for fault in found] == sorted(int(f.partition(":")[0]) for f in found)
    assert not (tmp_path / "runs").exists()


def test_what_an_override_text_lacks_is_said_with_its_line(registry: Registry, tmp_path: Path) -> None:
    path = write(tmp_path, "name: s\ntasks: [tiny.yaml]\nmodels: [gpt2-nano]\noverrides:\n  - foo\n  - profiles.x=1\n")
    first, second = faults(registry, path)
    assert first.startswith("5: cannot understand 'foo'") and second.startswith("6: profiles can only stand")


@pytest.mark.parametrize(
    ("text", "at", "sees"),
    [
        ("tasks: [tiny.yaml, tiny.yaml]\nmodels: [gpt2-nano]\n", 2, 2),
        ("tasks: [tiny.yaml]\nmodels: [gpt2-nano]\ninclude:\n  - {noise_rates: [0.1, 0.2]}\n", 2, 2),
        (
            "tasks:\n  - tiny.yaml\n  - {task: tiny.yaml, overrides: [training.max_steps=20]}\nmodels: [gpt2-nano]\n",
            4,
            3,
        ),
    ],
)
def test_two_entries_for_one_folder_are_a_mistake(
    registry: Registry, tmp_path: Path, text: str, at: int, sees: int
) -> None:
    (fault,) = faults(registry, path := write(tmp_path, f"name: s\n{text}"))
    assert fault.startswith(f"{at}: makes cells that another entry makes too, such as tiny/gpt2-nano/noise-0.1/seed-0")
    assert f"see {path}:{sees};" in fault


def test_validate_knows_sweeps_from_tasks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, "name: s\ntasks: [tiny.yaml]\nmodels: [gpt2-nano]\n")
    assert is_sweep(path) and not is_sweep(tmp_path / "tiny.yaml") and not is_sweep(tmp_path / "nowhere")
    assert main(["validate", str(path), str(tmp_path / "tiny.yaml")]) == 0
    path.write_text(path.read_text().replace("gpt2", "gpt9"))
    assert main(["validate", str(path)]) == 2
    assert f"{path}:3: unknown model 'gpt9-nano'" in capsys.readouterr().err


def test_the_schema_documents_every_key() -> None:
    whole = schema()
    assert all(part["description"] for part in whole["properties"].values())
    assert "default" in whole["properties"]["run"]["properties"]["gpus_per_cell"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--workers", "0"], "--workers: must be at least 1"),
        (["--address", "1.2.3.4:5"], "--address: only a Ray cluster has an address"),
        (["-o", "FILE/x"], "cannot be written"),
    ],
)
def test_wrong_flags_are_one_line_and_exit_two(
    arguments: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("FILE").touch()
    path = write(tmp_path, "name: s\ntasks: [tiny.yaml]\nmodels: [gpt2-nano]\n")
    assert main(["sweep", str(path), *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert says in line and not Path("runs").exists()


def test_without_ray_one_line_says_how_to_get_it(
    job: Job, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("rote_bench.sweep.cluster.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"Ray is not installed \(pip install"):
        Cluster(workers=None, address=None, jobs=[job])


@pytest.fixture
def job(registry: Registry, tmp_path: Path) -> Job:
    write(tmp_path, "")
    spec = load_task(tmp_path / "tiny.yaml", registry)
    return Job(spec, "gpt2-nano", 0.1, Settings(output_path=tmp_path / "runs", threads=1), size=1e6)


def test_finished_cells_foretell_their_likes(job: Job) -> None:
    assert predict(job, []) is None
    larger, other = Took("tiny", "gpt2-micro", 4e6, 80.0), Took("thr", "gpt2-nano", 1e6, 5.0)
    largest = Took("tiny", "gpt2-small", 8e7, 9000.0)
    assert predict(job, [other]) is None
    assert predict(job, [other, largest, larger]) == pytest.approx(20.0)
    assert predict(replace(job, size=None), [larger]) is None
    own = [Took("tiny", "gpt2-nano", 1e6, seconds) for seconds in (9.0, 10.0, 50.0)]
    assert predict(job, [larger, *own]) == 10.0


def test_time_left_is_the_work_over_the_room_and_never_less_than_the_longest_cell(job: Job) -> None:
    states = [State(replace(job, rate=rate), predicted=seconds) for rate, seconds in ((0.1, 40.0), (0.2, 10.0))]
    states += [State(replace(job, rate=0.3)), State(replace(job, rate=0.4), state="done", predicted=99.0)]
    assert time_left(states, {s.job.name: 0.5 for s in states}) == (40.0, 1)
    assert time_left(states, {s.job.name: 1.0 for s in states}) == (50.0, 1)
    text = summary(states, {s.job.name: 1.0 for s in states})
    assert text == "4 cells: 1 done, 3 waiting; about 0:50 left and 1 cells of unknown length"
    assert summary(states[2:3], {states[2].job.name: 1.0}) == "1 cells: 1 waiting; time left unknown"


def test_the_live_table_shows_what_matters_in_the_room_there_is(
    job: Job, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    states = [State(replace(job, rate=i / 100), state="done", seconds=1.0) for i in range(50)]
    states[20].state, states[20].where, states[30].state = "running", "training 5/12", "failed"
    states[30].reason, states[40].state = "it broke", "waiting"
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("LINES", "9")
    monkeypatch.setenv("COLUMNS", "120")
    with Board("Many", quiet=False) as board:
        board.show(states, {s.job.name: 1.0 for s in states})
    shown = capsys.readouterr().err
    for text in ("training 5/12", "it broke", "waiting", "unknown", "... and 45 more"):
        assert text in shown


def test_each_twin_comes_right_before_its_cells_and_each_first_seed_before_any_second(
    registry: Registry, tmp_path: Path
) -> None:
    """A sweep that is stopped leaves few twins whose cells are still to come: weights of twins do not travel."""
    text = "name: s\ntasks: [tiny.yaml]\nmodels: [gpt2-nano, llama-nano]\nnoise_rates: [0.2, 0, 0.1]\nseeds: [0, 1]\n"
    jobs = plan(load(write(tmp_path, text)), registry, output=tmp_path / "runs")
    order = [(job.spec.seeds.data, job.model, job.rate) for job in jobs]
    assert order == [(s, m, r) for s in (0, 1) for m in ("gpt2-nano", "llama-nano") for r in (0, 0.2, 0.1)]


def test_sizes_are_known_of_models_made_from_scratch_alone() -> None:
    assert approximate_size("gpt2-nano", {}) == 12 * 4 * 128**2
    assert approximate_size("gpt2-nano", {"layers": 1, "width": 16}) == 12 * 16**2
    assert approximate_size("hf:gpt2", {}) is None and approximate_size("lookup-table", {}) is None


def test_a_plugins_model_is_as_large_as_it_is_built_and_built_once(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "from torch import nn\nfrom rote_bench import hookimpl\nfrom rote_bench.models.objects import FromPython\n"
        "from tests.models.loose import Plain\n\nasked = []\n\n\n"
        "def build(vocab_size, width=32):\n    asked.append(width)\n    return Plain(vocab_size, width=width)\n\n\n"
        "def broken(vocab_size):\n    raise SystemExit(3)\n\n\n"
        "@hookimpl\ndef register_models(register):\n"
        "    register(FromPython('mine', build))\n    register(FromPython('broken', broken))\n"
    )
    registry = load_plugins([file])
    size = built_size(registry)
    assert size("gpt2-nano", {}) == approximate_size("gpt2-nano", {}) and size("hf:gpt2", {}) is None
    assert size("mine", {}) == sum(p.numel() for p in Plain(512).parameters())
    provider: Any = registry.provider("mine")
    asked = provider.model.__globals__["asked"]
    before = len(asked)
    assert size("mine", {}) and len(asked) == before
    assert size("mine", {"width": 64}) == sum(p.numel() for p in Plain(512, width=64).parameters())
    assert size("broken", {}) is None
    (tmp_path / "s.yaml").write_text("name: s\ntasks: [thr]\nmodels: [mine]\nnoise_rates: [0.05]\nseeds: [0]\n")
    planned = load(tmp_path / "s.yaml")
    (cell,) = plan(planned, registry, output=tmp_path, size_of=size)
    assert (cell.threads, cell.size) == (1, size("mine", cell.spec.model))


def test_as_many_cells_run_as_cores_and_memory_hold(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = Local(workers=None, device="cpu")
    pool.cores, pool.memory = 4, 1 << 40
    large = replace(job, settings=replace(job.settings, threads=4), size=3e9)
    assert pool.room(large)
    pool.running = {Path(str(i)): type("W", (), {"job": job})() for i in range(3)}
    assert pool.room(job) and not pool.room(large)
    pool.memory = 3 << 30
    assert not pool.room(job)
    pool.workers = 3
    assert not pool.room(job)
    pool.workers = 4
    assert pool.room(job)


def test_gpus_are_shared_out(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    pool = Local(workers=None, device="auto")
    half, two = replace(job, gpus=0.5), replace(job, gpus=2.0)
    assert pool._devices(job) == {"2": 1.0} and pool._devices(two) == {"2": 1.0, "5": 1.0}
    pool.free["2"] = 0.5
    assert pool._devices(half) == {"2": 0.5} and pool._devices(job) == {"5": 1.0} and pool._devices(two) is None
    assert pool._devices(replace(job, gpus=0.0)) == {}


@pytest.mark.parametrize("devices", ["0", "2,5", "0,1,2"])
@pytest.mark.parametrize("workers", range(1, 9))
def test_as_many_workers_as_asked_for_share_the_gpus_in_turn(
    job: Job, monkeypatch: pytest.MonkeyPatch, devices: str, workers: int
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", devices)
    pool = Local(workers=workers, device="auto")
    taken: Counter[str] = Counter()
    for number in range(workers):
        assert pool.room(job)
        ((name, share),) = (pool._devices(job) or {}).items()
        pool.free[name] -= share
        taken[name] += 1
        pool.running[Path(str(number))] = type("W", (), {"job": job})()
    assert not pool.room(job)
    counts = [taken[name] for name in devices.split(",")]
    assert max(counts) - min(counts) <= 1 and min(pool.free.values()) > -1e-9
    whole = Local(workers=workers, device="auto")
    for name in devices.split(","):  # a sweep that says what a cell gets waits for it
        whole.free[name] = 0.0
        whole.running[Path(name)] = type("W", (), {"job": job})()
    assert not whole.room(replace(job, gpus=1.0))


def test_a_report_counts_when_all_that_decides_its_numbers_agrees(
    registry: Registry, tmp_path: Path, thr_cell: Path
) -> None:
    report = load_report(thr_cell)
    spec = rote_bench.load_task(thr_cell.parents[4] / "task.yaml", registry=registry)
    job = Job(spec, "gpt2-nano", 0.05, Settings(output_path=tmp_path))
    finished = Finished(registry)
    assert finished(job, report)
    assert not finished(replace(job, settings=Settings(output_path=tmp_path, overwrite=True)), report)
    assert not finished(replace(job, settings=Settings(output_path=tmp_path, limit=50)), report)
    assert not finished(replace(job, rate=0.1), report)
    assert not finished(replace(job, spec=spec.replace(training=replace(spec.training, clip=None))), report)
    assert not finished(replace(job, spec=spec.replace(diagnostics=spec.diagnostics[:-1])), report)
    assert not finished(job, replace(report, status="failed"))
    older = replace(report, identity=replace(report.identity, request=None))
    assert finished(job, older)
    assert not finished(job, replace(older, data=replace(report.data, fingerprint="other examples")))
