"""A finished cell is recognised at once, and only when nothing that decides its identity has changed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM

import rote_bench
from rote_bench import plugins
from rote_bench.cli import main
from rote_bench.errors import UserError
from rote_bench.pipeline import request
from rote_bench.pipeline.identity import PACKAGE
from rote_bench.pipeline.request import asked, made_by, recall, surroundings
from rote_bench.pipeline.settings import Settings
from rote_bench.progress import Progress
from rote_bench.report.record import Report, Schedule
from rote_bench.report.write import load_report, save_report
from rote_bench.spec.loader import load_task
from rote_bench.sweep.cells import Job
from rote_bench.sweep.finished import Finished
from tests.conftest import SMALL_THR
from tests.pipeline.test_runner import tiny
from tests.pipeline.test_twins import TASK as PAIR

HEAVY = {"torch", "transformers", "tokenizers", "datasets", "scipy", "matplotlib", "pyarrow", "pandas"}
LIGHT = f"""
import sys
from rote_bench.cli import main
code = main(sys.argv[1:])
heavy = {HEAVY!r} & set(sys.modules)
assert not heavy, heavy
sys.exit(code)
"""


def again(*command: str) -> str:
    """What the command says in a process in which it may import nothing heavy."""
    done = subprocess.run([sys.executable, "-c", LIGHT, *command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stderr


CSV = "question,reply\n" + "".join(f"what is {i} and {j},{i + j}\n" for i in range(9) for j in range(9))
TABLE = """
name: table
generator: dataset
parameters: {path: rows.csv, prompt: question, answer: reply}
splits: {train: 50, selection: 10, validation: 20}
model: {layers: 1, width: 16, heads: 2}
diagnostics: [learning_dynamics]
training: {batch_size: 32, max_steps: 12, evaluate_every: 4, schedule: {warmup: 2, anneal: 4}}
"""


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The task file of a cell of a table that has been run."""
    folder = tmp_path_factory.mktemp("table")
    (folder / "rows.csv").write_text(CSV)
    (folder / "table.yaml").write_text(TABLE)
    assert main(["run", str(folder / "table.yaml"), "--model", "gpt2-nano", "-o", str(folder / "runs")]) == 0
    return folder / "table.yaml"


def test_a_finished_cell_needs_nothing_heavy(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ("run", str(table), "--model", "gpt2-nano", "-o", str(table.parent / "runs"))
    assert again(*command).splitlines() == [
        "table: gpt2-nano, noise 0.05, seed 0",
        f"already done: {table.parent}/runs/table/gpt2-nano/noise-0.05/seed-0/report.json",
    ]


def test_several_seeds_with_their_twins_are_recognised(tmp_path: Path) -> None:
    (tmp_path / "pair.yaml").write_text(PAIR)
    command = ["run", str(tmp_path / "pair.yaml"), "--model", "gpt2-nano", "-o", str(tmp_path / "runs"), "--quiet"]
    command += ["--seed", "0", "--seed", "1", "--twin"]
    assert main(command) == 0
    command.remove("--quiet")
    assert again(*command).count("already done") == 4


def test_a_cell_is_not_recognised_before_its_twin_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Alone it fell by its own event; what it is asked to be beside a twin, only the twin will tell."""
    (tmp_path / "pair.yaml").write_text(PAIR)
    command = ["run", str(tmp_path / "pair.yaml"), "--model", "gpt2-nano", "-o", str(tmp_path / "runs")]
    assert main(command) == 0
    twin = tmp_path / "runs" / "pair" / "gpt2-nano" / "noise-0" / "seed-0" / "report.json"
    capsys.readouterr()
    code = main([*command, "--twin", "--set", "training.schedule.hold_until=0.05"])
    said = capsys.readouterr().err
    assert twin.is_file()
    assert (code, "differs in schedule" in said) == (2, True) or said.index("noise 0,") < said.index("already done")


def known(
    task: Path, folder: Path, files: list[Path] | None = None, /, model: str = "gpt2-nano", **changes: Any
) -> bool:
    """Whether a cell is recognised in a folder of runs, asked for with such changes."""
    registry = plugins.load(files or ())
    overrides = changes.pop("overrides", ())
    spec = load_task(task, registry, overrides=overrides)
    settings = Settings(output_path=folder, **changes)
    found = recall(
        spec, model, spec.noise.rates[0], settings=settings, registry=registry, progress=Progress(quiet=True)
    )
    return found is not None


@pytest.mark.parametrize(
    "change",
    [
        {"limit": 40},
        {"dtype": "bfloat16"},
        {"train": False},
        {"device": "cpu"},
        {"device": "cuda:1"},
        {"overwrite": True},
        {"overrides": ["training.weight_decay=0.2"]},
        {"overrides": ["training.precision=float32"]},
        {"overrides": ["model.width=32"]},
        {"overrides": ["diagnostics=[logit_lens]"]},
        {"overrides": ["parameters.answer=question"]},
    ],
    ids=str,
)
def test_another_request_is_not_recognised(table: Path, change: dict[str, Any]) -> None:
    assert known(table, table.parent / "runs")
    assert not known(table, table.parent / "runs", **change)


def test_what_decides_no_number_is_no_part_of_a_request(table: Path) -> None:
    runs = table.parent / "runs"
    assert known(table, runs, threads=2, batch_size=8, compile=True)


def test_rows_that_changed_behind_a_path_are_noticed(table: Path, tmp_path: Path) -> None:
    copy = tmp_path / "here"
    shutil.copytree(table.parent, copy)
    assert known(copy / "table.yaml", copy / "runs")
    (copy / "rows.csv").write_text(CSV.replace("what is 3 and 4,7", "what is 3 and 4,8"))
    assert not known(copy / "table.yaml", copy / "runs")
    (copy / "rows.csv").unlink()
    assert not known(copy / "table.yaml", copy / "runs")


def _other_version(patch: pytest.MonkeyPatch, folder: Path) -> None:
    patch.setattr(request, "installed", lambda name: "0.0" if name == "numpy" else "1.0")


def _other_code(patch: pytest.MonkeyPatch, folder: Path) -> None:
    copy = folder / "rote_bench"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    with (copy / "tasks" / "words.py").open("a") as file:
        file.write("# changed\n")
    patch.setattr(request, "PACKAGE", copy)


def _hidden_gpus(patch: pytest.MonkeyPatch, folder: Path) -> None:
    patch.setenv("CUDA_VISIBLE_DEVICES", "3")


def _other_processor(patch: pytest.MonkeyPatch, folder: Path) -> None:
    patch.setattr(request, "_first_processor", lambda: ["flags: avx512_bf16"])


def _several_processes(patch: pytest.MonkeyPatch, folder: Path) -> None:
    for name, value in {"WORLD_SIZE": "2", "RANK": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}.items():
        patch.setenv(name, value)


@pytest.mark.parametrize(
    "change",
    [_other_version, _other_code, _hidden_gpus, _other_processor, _several_processes],
    ids=lambda f: f.__name__,
)
def test_other_surroundings_are_not_recognised(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[pytest.MonkeyPatch, Path], None]
) -> None:
    assert known(table, table.parent / "runs")
    change(monkeypatch, tmp_path)
    assert not known(table, table.parent / "runs")


def test_those_who_train_together_do_not_shut_each_other_out(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first process holds the folder while the others look for the report."""
    folder = next((table.parent / "runs").rglob("report.json")).parent
    hold = (
        "import sys; from pathlib import Path; from rote_bench.pipeline.lock import alone\n"
        f"with alone(Path({str(folder)!r})): print(flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as first:
        assert first.stdout is not None
        first.stdout.readline()
        with pytest.raises(UserError, match="another process is running this cell"):
            known(table, table.parent / "runs")
        _several_processes(monkeypatch, folder)
        assert not known(table, table.parent / "runs")
        first.communicate()


def test_the_same_source_in_another_place_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = surroundings()
    shutil.copytree(PACKAGE, tmp_path / "rote_bench", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(request, "PACKAGE", tmp_path / "rote_bench")
    assert surroundings() == before


@pytest.mark.parametrize("change", [{"status": "failed"}, {"request": None}, {"request": "0" * 64}], ids=str)
def test_a_report_that_is_not_complete_or_of_another_request_does_not_count(
    table: Path, tmp_path: Path, change: dict[str, Any]
) -> None:
    copy = tmp_path / "here"
    shutil.copytree(table.parent, copy)
    file = next((copy / "runs").rglob("report.json"))
    kept = load_report(file)
    if "request" in change:
        change = {"identity": replace(kept.identity, **change)}
    save_report(file, replace(kept, **change, error="it broke" if "status" in change else None))
    assert not known(copy / "table.yaml", copy / "runs")
    file.write_text("{")
    assert not known(copy / "table.yaml", copy / "runs")


@pytest.fixture
def weights(thr_cell: Path, tmp_path: Path) -> tuple[Path, Path, Path]:
    """A task, a folder of weights, and the runs in which a cell of both has been diagnosed."""
    task = tmp_path / "task.yaml"
    task.write_text(SMALL_THR.partition("diagnostics:")[0] + "diagnostics: [logit_lens]\n")
    folder = tmp_path / "model"
    shutil.copytree(thr_cell / "checkpoints" / "post_memorization", folder)
    rote_bench.run(task, model=f"hf:{folder}", train=False, output_path=tmp_path / "runs", quiet=True)
    return task, folder, tmp_path / "runs"


def _trained_further(folder: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(folder)
    model.transformer.h[0].mlp.c_fc.weight.data.mul_(1.01)
    model.save_pretrained(folder)


def _retokenized(folder: Path) -> None:
    file = folder / "tokenizer.json"
    file.write_text(file.read_text().replace('"<end>"', '"<fin>"'))


def _configured(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "layer_norm_epsilon": 1e-3}))


def _adapted(folder: Path) -> None:
    (folder / "adapter_config.json").write_text("{}")


@pytest.mark.parametrize("change", [_trained_further, _retokenized, _configured, _adapted], ids=lambda f: f.__name__)
def test_a_folder_of_weights_counts_by_all_that_is_in_it(
    weights: tuple[Path, Path, Path], change: Callable[[Path], None], registry: plugins.Registry
) -> None:
    task, folder, runs = weights
    model = f"hf:{folder}"
    spec = load_task(task, registry)
    job = Job(spec, model, spec.noise.rates[0], Settings(output_path=runs, train=False))
    report = load_report(job.folder)
    assert report.identity.request is not None
    assert known(task, runs, model=model, train=False) and Finished(registry)(job, report)
    assert not known(task, runs, model=model, train=False, trust_remote_code=True)
    change(folder)
    assert not known(task, runs, model=model, train=False) and not Finished(registry)(job, report)


def test_weights_behind_a_snapshot_count_by_content(weights: tuple[Path, Path, Path], tmp_path: Path) -> None:
    task, folder, runs = weights
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    given: dict[str, Any] = {"model": f"hf:{folder}", "train": False, "snapshots": {"pre": str(other)}}
    rote_bench.run(task, output_path=runs, overwrite=True, quiet=True, **given)
    assert known(task, runs, **given)
    _trained_further(other)
    assert not known(task, runs, **given)


OWN = """
from rote_bench.plugin import Diagnostic, NoiseKind, Result, hookimpl
from rote_bench.noise import Uniform
class Own(Diagnostic):
    name, description = "own", "nothing"
    def run(self, subject):
        return Result()
class Mine(Uniform):
    name, description = "mine", "drawn as the uniform kind draws"
@hookimpl
def register_diagnostics(register):
    register(Own)
@hookimpl
def register_noise(register):
    register(Mine)
"""


def request_of(task: Path, registry: plugins.Registry) -> str | None:
    spec = load_task(task, registry)
    found = asked(spec, "gpt2-nano", 0.1, Settings(), registry, Schedule("event", None))
    return None if found is None else found.hash()


def test_a_plugins_diagnostic_counts_with_its_file_and_its_data_cannot_be_foretold(tmp_path: Path) -> None:
    plugin = tmp_path / "own.py"
    plugin.write_text(OWN)
    task = tiny(tmp_path, "diagnostics: [own]\n")
    before = request_of(task, plugins.load([plugin]))
    assert before is not None and before == request_of(task, plugins.load([plugin]))
    plugin.write_text(OWN + "# changed\n")
    registry = plugins.load([plugin])
    assert request_of(task, registry) not in (None, before)
    task.write_text(task.read_text().replace("noise: {", "noise: {kind: mine, "))
    assert request_of(task, registry) is None


def test_equal_requests_make_equal_identities(table: Path, tmp_path: Path) -> None:
    reports: list[Report] = [load_report(next((table.parent / "runs").rglob("report.json")))]
    for options in ({}, {"seed": 1}, {"overrides": ["training.weight_decay=0.2"]}):
        made = rote_bench.run(table, model="gpt2-nano", output_path=tmp_path / str(options), quiet=True, **options)
        reports.append(made.record)
    requests, identities = ([getattr(r.identity, key) for r in reports] for key in ("request", "hash"))
    assert None not in requests and len(set(requests)) == 3
    assert [requests.index(each) for each in requests] == [identities.index(each) for each in identities]
    assert made_by(reports[0], None) is False


@pytest.mark.parametrize(
    ("options", "gpu", "said"),
    [
        ({}, False, False),
        ({}, True, None),
        ({"device": "cpu"}, True, False),
        ({"compile": True}, True, False),
        ({"stacked": True}, False, True),
        ({"stacked": True, "compile": True}, True, False),
        ({"stacked": False}, True, False),
    ],
    ids=str,
)
def test_a_stack_is_left_open_only_where_there_is_a_gpu(options: dict[str, Any], gpu: bool, said: bool | None) -> None:
    around = surroundings()
    around["machine"] = {**around["machine"], "gpus": ["nvidia0"] if gpu else []}
    registry = plugins.load()
    spec, schedule = load_task("thr", registry), Schedule(None, None)
    found = asked(spec, "gpt2-nano", 0.0, Settings(**options), registry, schedule, around=around)
    assert found is not None and found.parts["stacked"] is said
