"""Submissions that lie with care, or that are made to break whoever checks them: each is told by name."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

import rote_bench
from rote_bench.cli import main
from rote_bench.diagnostics.learning_dynamics import LearningDynamics
from rote_bench.leaderboard import intervals, regenerate, verify
from rote_bench.leaderboard.check import check
from rote_bench.leaderboard.collect import Refusal, admit
from rote_bench.leaderboard.course import BEFORE
from rote_bench.leaderboard.outcome import CONFIRMED, DIFFERS, TRUST, UNKNOWN, WIDE, Check
from rote_bench.leaderboard.repeat import judged
from rote_bench.leaderboard.untrusted import Unreadable, lines, loads, read_table
from rote_bench.measures import Measure
from rote_bench.plugins import Registry
from rote_bench.report.record import Metric, Report
from rote_bench.report.schema import read
from rote_bench.statistics import wilson

from .cells import put
from .cheating import bare, copied, rehash, sign, write_table

Lie = Callable[[dict[str, Any], Path], None]


def verdicts(found: Check) -> dict[str, str]:
    return {outcome.claim: outcome.verdict for outcome in found.outcomes}


def noise_of_another_rate(report: dict[str, Any], folder: Path) -> None:
    report["data"]["noise_rate"] = 0.05


def seed_of_another_run(report: dict[str, Any], folder: Path) -> None:
    report["seeds"] = dict.fromkeys(report["seeds"], 5)


def extends_a_file(report: dict[str, Any], folder: Path) -> None:
    noise_of_another_rate(report, folder)
    report["task"]["spec"]["extends"] = "/etc/passwd"


def extends_beside(report: dict[str, Any], folder: Path) -> None:
    (folder / "secret.yaml").write_text("title: read\n")
    report["task"]["spec"]["extends"] = str(folder / "secret.yaml")


def extends_at_length(report: dict[str, Any], folder: Path) -> None:
    report["task"]["spec"]["extends"] = "x" * 5000


def profiles(report: dict[str, Any], folder: Path) -> None:
    report["task"]["spec"]["profiles"] = {"a": {}}


def unknown_key(report: dict[str, Any], folder: Path) -> None:
    report["task"]["spec"]["plugins"] = ["evil.py"]


def too_large_a_seed(report: dict[str, Any], folder: Path) -> None:
    report["seeds"]["data"] = 2**32


def many_parameters(report: dict[str, Any], folder: Path) -> None:
    report["model"]["parameters"] = 70_000_000_000


def another_architecture(report: dict[str, Any], folder: Path) -> None:
    report["model"]["config"]["n_embd"] = 4096


def wide_interval(report: dict[str, Any], folder: Path) -> None:
    bare(report, folder)
    report["metrics"]["validation_accuracy"].update(value=1.0, ci_low=0.0, ci_high=1.0, ci_method="Wilson score")


def interval_beside_its_value(report: dict[str, Any], folder: Path) -> None:
    report["metrics"]["probe_control_noisy"].update(ci_low=0.9, ci_high=0.95)


def interval_beyond_all(report: dict[str, Any], folder: Path) -> None:
    report["metrics"]["probe_accuracy_noisy"].update(ci_low=-1e6, ci_high=1e6)


def narrow_interval(report: dict[str, Any], folder: Path) -> None:
    bare(report, folder)
    metric = report["metrics"]["validation_accuracy"]
    metric.update(ci_low=metric["value"] - 1e-4, ci_high=metric["value"] + 1e-4)


def half_an_interval(report: dict[str, Any], folder: Path) -> None:
    report["metrics"]["probe_control_noisy"]["ci_high"] = None


def difference_of_its_own(report: dict[str, Any], folder: Path) -> None:
    bare(report, folder)
    report["metrics"]["counterfactual_memorization"].update(ci_low=-1.0, ci_high=1.0)


def many_steps(report: dict[str, Any], folder: Path) -> None:
    report["training"]["steps"] = 10


def version_of_nobody(report: dict[str, Any], folder: Path) -> None:
    report["diagnostics"]["nearest"].update(version=99, details={})
    report["metrics"]["nearest_neighbour_1"]["value"] = 1.0


def answers_that_cannot_be_read(report: dict[str, Any], folder: Path) -> None:
    (folder / "samples.parquet").write_bytes(b"PAR1 nothing PAR1")


def records_that_cannot_be_read(report: dict[str, Any], folder: Path) -> None:
    (folder / "nearest.parquet").write_bytes(b"PAR1 nothing PAR1")


def nested_curve(report: dict[str, Any], folder: Path) -> None:
    (folder / "dynamics.jsonl").write_text("[" * 100_000)


def endless_curve(report: dict[str, Any], folder: Path) -> None:
    (folder / "dynamics.jsonl").write_text('{"noisy_true_rate": 1e999}')


def huge_count(report: dict[str, Any], folder: Path) -> None:
    report["metrics"]["validation_accuracy"]["n"] = 10**200


def less_by_guessing(report: dict[str, Any], folder: Path) -> None:
    """What the commonest answer gets right, by which a verdict is decided."""
    report["diagnostics"]["learning_dynamics"]["details"]["early_clean_peak"]["commonest_answer"]["ci_high"] /= 2


def more_questions_on_the_way(report: dict[str, Any], folder: Path) -> None:
    """The intervals of what the curve gives are narrower, and metrics and details agree."""
    entry = report["diagnostics"]["learning_dynamics"]
    entry["details"]["design_effects"]["noisy"] /= 2
    curve = LearningDynamics(LearningDynamics.Options()).implied(entry["details"], {})
    for name, found in curve.items():
        report["metrics"][name].update(value=found.value, ci_low=found.ci_low, ci_high=found.ci_high, n=found.n)


LIES: list[tuple[Lie, str]] = [
    (noise_of_another_rate, "data"),
    (seed_of_another_run, "data"),
    (extends_a_file, "task"),
    (extends_beside, "task"),
    (extends_at_length, "task"),
    (profiles, "task"),
    (unknown_key, "task"),
    (many_parameters, "model"),
    (another_architecture, "model"),
    (wide_interval, "consistency"),
    (interval_beside_its_value, "consistency"),
    (interval_beyond_all, "consistency"),
    (narrow_interval, "consistency"),
    (half_an_interval, "consistency"),
    (difference_of_its_own, "consistency"),
    (many_steps, "training"),
    (version_of_nobody, "nearest_neighbour_1"),
    (answers_that_cannot_be_read, "samples"),
    (records_that_cannot_be_read, "nearest_neighbour_1"),
    (nested_curve, "curve"),
    (endless_curve, "curve"),
    (huge_count, "numbers"),
    (less_by_guessing, "samples"),
    (more_questions_on_the_way, "samples"),
]
# What only the files and the examples tell, which a board does not make again; the rest it refuses too.
ONLY_CHECKED: set[Lie] = {noise_of_another_rate, seed_of_another_run, many_parameters, another_architecture}
ONLY_CHECKED |= {records_that_cannot_be_read, nested_curve, endless_curve}


def named(value: object) -> str | None:
    return getattr(value, "__name__", None)


def test_the_honest_report_is_confirmed(tiny_cell: Path, registry: Registry) -> None:
    found = check(tiny_cell, registry)
    assert found.holds and found.complete and set(verdicts(found).values()) == {CONFIRMED, TRUST}


@pytest.mark.parametrize(("lie", "claim"), LIES, ids=named)
def test_a_lie_differs_and_stands_on_no_board(
    lie: Lie, claim: str, tiny_cell: Path, tmp_path: Path, registry: Registry
) -> None:
    report, folder = copied(tiny_cell, tmp_path / "cell")
    lie(report, folder)
    sign(rehash(report), folder)
    found = verdicts(check(folder, registry))
    assert found[claim] == DIFFERS, found
    if lie not in ONLY_CHECKED:
        assert isinstance(admit(folder, "report.json", registry), Refusal)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[" * 100_000, "nested too deeply"),
        ("[" * 500 + "]" * 500, "nested too deeply"),
        ('{"schema_version": 1e999}', "infinite"),
        ('{"schema_version": NaN}', "NaN is not allowed"),
        (f'{{"schema_version": {"9" * 400}}}', "400 digits"),
        (f'{{"schema_version": {"9" * 5000}}}', "5000 digits"),
        ('{"a": "\\ud800"}', "half of a character"),
        ('{"schema_version": "\\u202e\\u001b[2J"}', "schema version"),
        ("nothing", "no complete JSON report"),
    ],
)
def test_a_file_that_is_no_report_is_one_line_and_the_others_are_checked(
    text: str, says: str, tiny_cell: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "report.json").write_text(text)
    places = [str(tmp_path / "bad"), str(tiny_cell), str(tmp_path / "nowhere")]
    assert main(["leaderboard", "check", *places, "--json"]) == 2
    out, err = capsys.readouterr()
    (found,) = json.loads(out)
    assert found["path"] == str(tiny_cell) and found["holds"] and found["complete"]
    first, second = err.splitlines()
    assert says.removeprefix("no ").removeprefix("is not a ") in first and first.isprintable()
    assert "no report here" in second


def test_the_exit_code_says_what_was_left_out(
    tiny_cell: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report, folder = copied(tiny_cell, tmp_path / "bare")
    bare(report, folder)
    sign(report, folder)
    lying, other = copied(tiny_cell, tmp_path / "lying")
    many_parameters(lying, other)
    sign(rehash(lying), other)
    code = {name: main(["leaderboard", "check", str(tmp_path / name), "--quiet"]) for name in ("bare", "lying")}
    assert code == {"bare": 3, "lying": 1}
    assert main(["leaderboard", "check", str(tmp_path), str(tiny_cell), "nowhere", "--quiet"]) == 1
    assert main(["leaderboard", "check", str(folder), "nowhere", "--quiet"]) == 2
    assert main(["leaderboard", "check", str(folder), str(tiny_cell)]) == 3
    assert "not recomputed" in capsys.readouterr().out


@pytest.mark.parametrize("path", ["/etc/passwd", "../../secret.csv", "owner/name", "questions.csv"])
def test_no_file_of_the_reader_is_read(
    path: str, tiny_cell: Path, tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "questions.csv").write_text("question,answer\na,b\nc,d\n")
    report, folder = copied(tiny_cell, tmp_path / "cell")
    spec = report["task"]["spec"]
    spec["generator"] = "dataset"
    spec["parameters"] = {"path": path, "prompt": "{question}", "answer": "{answer}"}
    sign(rehash(report), folder)
    monkeypatch.setattr("rote_bench.spec.loader.load_task", None)  # refused before anything is loaded
    found = check(folder, registry)
    (data,) = (outcome for outcome in found.outcomes if outcome.claim == "data")
    assert data.verdict == UNKNOWN and "files that do not come with a report" in data.note and not found.complete


def test_a_report_causes_no_import(tiny_cell: Path, tmp_path: Path, registry: Registry) -> None:
    report, folder = copied(tiny_cell, tmp_path / "cell")
    (tmp_path / "evil.py").write_text("raise SystemExit('imported')")
    report["model"]["config"]["auto_map"] = {"AutoConfig": "evil.Config"}
    report["task"]["spec"]["model"]["config"] = {"auto_map": {"AutoConfig": "evil.Config"}}
    report["task"]["spec"]["generator"] = "evil.Task"
    sign(rehash(report), folder)
    before = set(sys.modules)
    assert not check(folder, registry).complete
    assert not {name for name in set(sys.modules) - before if "evil" in name}


def test_weights_in_a_folder_of_the_reader_are_not_loaded(
    tiny_cell: Path, tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owner").mkdir()
    for name in ("hf:/etc", "hf:./owner", "hf:a/b/c", "hf:owner"):
        report, folder = copied(tiny_cell, tmp_path / str(abs(hash(name))))
        report["model"].update(name=name, source="pretrained")
        sign(rehash(report), folder)

        def never(*run: object) -> Report:
            raise AssertionError("it was repeated")

        found = check(folder, registry, never)
        (again,) = (o for o in found.outcomes if o.claim == "rerun")
        assert again.verdict == UNKNOWN and "folder that does not come with a report" in again.note


def lies_about_its_machine(report: dict[str, Any], folder: Path) -> None:
    """Another processor, so that numbers need not be equal; no files, so that nothing is recomputed; wide intervals."""
    bare(report, folder)
    report["environment"]["cpu"] = "AMD EPYC 9654, AVX512"
    n = {name: report["metrics"][name]["n"] for name in ("validation_accuracy", "memorization_rate", "phantom_rate")}
    for name, hits in (
        ("validation_accuracy", n["validation_accuracy"]),
        ("memorization_rate", n["memorization_rate"]),
    ):
        found = wilson(hits, n[name])
        entry = report["metrics"][name]
        entry.update(value=found.value, ci_low=found.ci_low, ci_high=found.ci_high, ci_method=found.ci_method)


def test_a_repeated_run_is_not_taken_in(tiny_cell: Path, tmp_path: Path) -> None:
    report, folder = copied(tiny_cell, tmp_path / "cell")
    lies_about_its_machine(report, folder)
    sign(rehash(report), folder)
    import rote_bench

    found = verdicts(rote_bench.check_report(folder, rerun=True))
    assert found["rerun: validation_accuracy"] == found["rerun: memorization_rate"] == DIFFERS
    assert found["rerun: noisy_true_rate"] == CONFIRMED


@pytest.fixture
def honest(tiny_cell: Path) -> Report:
    return read(json.loads((tiny_cell / "report.json").read_text()))


def another_machine(report: dict[str, Any]) -> None:
    report["environment"]["cpu"] = "another"


@pytest.mark.parametrize(
    ("claim", "change"),
    [
        ("rerun: model", lambda r: r["model"].update(parameters=7)),
        ("rerun: model", lambda r: r["model"]["anatomy"]["causal"].update(ok=False)),
        ("rerun: model", lambda r: r["model"].update(model_type="mamba")),
        ("rerun: model", lambda r: r["model"]["config"].update(n_layer=90)),
        ("rerun: builder", lambda r: r["model"].update(builder="0" * 64)),
        ("rerun: data", lambda r: r["data"].update(n_noisy=1)),
        ("rerun: data", lambda r: r["data"].update(fingerprint="0" * 64)),
        ("rerun: identity", lambda r: r["task"]["spec"]["training"].update(learning_rate=1.0)),
        ("rerun: identity", lambda r: r["environment"].update(dtype="bfloat16")),
        ("rerun: identity", lambda r: r["seeds"].update(init=3)),
        ("rerun: recipe", lambda r: r["training"].update(optimizer="adamw")),
        ("rerun: diagnostics", lambda r: r["diagnostics"]["probe"].update(status="not_applicable", metrics=[])),
    ],
)
def test_what_is_no_metric_is_compared_wherever_it_was_made(
    claim: str,
    change: Callable[[dict[str, Any]], None],
    tiny_cell: Path,
    honest: Report,
    tmp_path: Path,
    registry: Registry,
) -> None:
    report, folder = copied(tiny_cell, tmp_path / "cell")
    another_machine(report)
    change(report)
    sign(rehash(report), folder)
    assert verdicts(check(folder, registry, lambda *run: honest))[claim] == DIFFERS


def test_the_course_of_training_is_compared_on_the_same_machine(
    tiny_cell: Path, honest: Report, tmp_path: Path, registry: Registry
) -> None:
    for machine, expected in ((None, DIFFERS), (another_machine, TRUST)):
        report, folder = copied(tiny_cell, tmp_path / expected)
        report["training"]["tokens_seen"] *= 2
        if machine is not None:
            machine(report)
        sign(rehash(report), folder)
        found = verdicts(check(folder, registry, lambda *run: honest))
        assert found["rerun: course of training"] == expected
    report, folder = copied(tiny_cell, tmp_path / "curve")
    report["diagnostics"]["learning_dynamics"]["details"]["curve"][0]["loss"] += 1
    sign(rehash(report), folder)
    assert verdicts(check(folder, registry, lambda *run: honest))["rerun: course of training"] == DIFFERS


def test_a_repeated_run_that_cannot_be_made_is_no_confirmation(
    tiny_cell: Path, honest: Report, registry: Registry
) -> None:
    def out_of_memory(*run: object) -> Report:
        raise MemoryError

    for rerun in (out_of_memory, lambda *run: 1 / 0):
        found = check(tiny_cell, registry, rerun)  # type: ignore[arg-type]
        assert found.holds and not found.complete
    failed = replace(honest, status="failed", error="by hand")
    assert not check(tiny_cell, registry, lambda *run: failed).holds


SHARE = Measure("x", "is", "validation", (0.0, 1.0))
FREE = Measure("x", "is", "validation")


def metric(value: float | None, low: float | None, high: float | None, n: int = 100) -> Metric:
    method = None if low is None else "by hand"
    return Metric(value, low, high, method, n, None, "validation", None if value is not None else "none", None)


@pytest.mark.parametrize(
    ("claimed", "new", "measure", "verdict"),
    [
        (metric(0.9, 0.0, 1.0), metric(0.5, 0.4, 0.6), SHARE, DIFFERS),  # however wide its own interval
        (metric(0.55, 0.54, 0.56), metric(0.5, 0.4, 0.6), SHARE, CONFIRMED),
        (metric(0.39, 0.3, 0.5), metric(0.5, 0.4, 0.6), SHARE, DIFFERS),
        (metric(0.7, 0.0, 1.0), metric(0.5, 0.1, 0.9), SHARE, WIDE),
        (metric(0.95, 0.0, 1.0), metric(0.5, 0.1, 0.9), SHARE, DIFFERS),
        (metric(0.55, None, None), metric(0.5, None, None, n=400), SHARE, DIFFERS),  # 1.96 * 0.5 / 20 = 0.049
        (metric(0.54, None, None), metric(0.5, None, None, n=400), SHARE, CONFIRMED),
        (metric(0.9, None, None), metric(0.5, None, None, n=3), SHARE, WIDE),
        (metric(0.9, None, None), metric(0.5, None, None, n=0), SHARE, WIDE),
        (metric(3.0, None, None), metric(0.5, None, None), FREE, WIDE),
        (metric(5.0, 0.0, 9.0), metric(0.5, 0.4, 0.6), FREE, DIFFERS),
        (metric(None, None, None), metric(0.5, 0.4, 0.6), SHARE, DIFFERS),
        (metric(0.5, 0.4, 0.6), metric(None, None, None), SHARE, DIFFERS),
        (metric(None, None, None), metric(None, None, None), SHARE, CONFIRMED),
    ],
)
def test_a_claim_is_judged_by_the_repeated_interval(
    claimed: Metric, new: Metric, measure: Measure, verdict: str
) -> None:
    assert judged("x", claimed, new, measure, "", exact=False).verdict == verdict


def test_on_the_same_machine_numbers_are_equal() -> None:
    claimed, new = metric(0.5001, 0.4, 0.6), metric(0.5, 0.4, 0.6)
    assert judged("x", claimed, new, SHARE, "", exact=True).verdict == DIFFERS
    assert judged("x", new, new, SHARE, "", exact=True).verdict == CONFIRMED
    wide = metric(0.5, 0.0, 1.0)
    assert judged("x", wide, wide, SHARE, "", exact=False).verdict == CONFIRMED  # equal to the last digit


def test_intervals_that_are_honest_are_let_through(tiny_cell: Path, registry: Registry) -> None:
    measures = registry.measures()
    for name, entry in read(json.loads((tiny_cell / "report.json").read_text())).metrics.items():
        assert intervals.fault(entry, measures[name]) is None and intervals.boundless(entry, measures[name]) is None


def test_rules_of_training_are_those_of_training() -> None:
    from rote_bench.training import candidates

    assert BEFORE == candidates.BEFORE


@pytest.mark.parametrize("seed", range(30))
def test_the_snapshot_is_the_one_that_training_chooses(seed: int) -> None:
    from rote_bench.leaderboard.course import _before
    from rote_bench.training.candidates import Candidates
    from rote_bench.training.curve import Evaluation

    rng, share = np.random.default_rng(seed), 0.9
    progress = {"epoch": 1.0, "seconds": 1.0, "loss": 1.0, "lr": 1.0}
    curve, offered = [], Candidates()
    for step in range(1, 12):
        true, memorized, accuracy = (float(x) for x in rng.integers(0, 6, 3) / 5)  # so few values that they tie
        levels = {"noisy_true_rate": true, "memorization_rate": memorized, "selection_accuracy": accuracy}
        curve.append(Evaluation(step=step, examples_seen=step, **progress, **levels))
        offered.offer(true, memorized, accuracy, step, dict)
    chosen = offered.choose(curve[-1], share)
    assert _before(curve, share) == (None if chosen is None else chosen[0])


def test_a_table_is_no_larger_than_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def words(count: int, word: str) -> pyarrow.DictionaryArray:
        return pyarrow.DictionaryArray.from_arrays(pyarrow.array(np.zeros(count, dtype=np.int8)), [word])

    write_table(tmp_path / "rows.parquet", {"split": words(3_000_000, "validation")})
    with pytest.raises(Unreadable, match="holds 3000000 rows; at most 2000000 are read"):
        read_table(tmp_path / "rows.parquet")
    write_table(tmp_path / "words.parquet", {"split": words(5_000, "x" * 500_000)})
    assert (tmp_path / "words.parquet").stat().st_size < 100_000
    with pytest.raises(Unreadable, match="holds more than 1073741824 bytes"):
        read_table(tmp_path / "words.parquet")
    monkeypatch.setattr("rote_bench.leaderboard.untrusted.MOST_VALUES", 10)
    write_table(tmp_path / "lists.parquet", {"ranks": [[1] * 20]})
    with pytest.raises(Unreadable, match="holds 20 values"):
        read_table(tmp_path / "lists.parquet")


def test_a_table_is_read_as_it_was_written(tmp_path: Path) -> None:
    columns = {"a": ["x", "y", None], "b": [1, 2, 3], "c": [[1], [], [2, 3]], "d": [True, None, False]}
    write_table(tmp_path / "t.parquet", columns)
    assert read_table(tmp_path / "t.parquet") == columns
    assert read_table(tmp_path / "t.parquet", ["b"]) == {"b": [1, 2, 3]}
    with pytest.raises(Unreadable, match="no column z"):
        read_table(tmp_path / "t.parquet", ["z"])


def test_lines_are_read_within_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "l").write_text('{"a": 1}\n[2]\n')
    assert lines(tmp_path / "l") == [{"a": 1}, [2]]
    monkeypatch.setattr("rote_bench.leaderboard.untrusted.LARGEST_TEXT", 4)
    with pytest.raises(Unreadable, match="larger"):
        lines(tmp_path / "l")
    assert loads('"\\ud83d\\ude00"') == "\N{GRINNING FACE}"  # both halves of a character


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    import os

    if not hasattr(os, "mkfifo"):
        pytest.skip("there are no pipes with names here")
    os.mkfifo(tmp_path / "report.json")
    with pytest.raises(verify.Refused, match="is no file"):
        verify.read(tmp_path / "report.json")


def test_a_task_that_asks_for_a_giant_is_not_made(tiny_cell: Path, tmp_path: Path, registry: Registry) -> None:
    report, folder = copied(tiny_cell, tmp_path / "cell")
    report["task"]["spec"]["model"]["layers"] = 10**6
    sign(rehash(report), folder)
    found = check(folder, registry)
    (model,) = (outcome for outcome in found.outcomes if outcome.claim == "model")
    assert model.verdict == UNKNOWN and "so many layers" in model.note


def test_a_spec_is_read_from_nowhere_else(honest: Report, registry: Registry) -> None:
    assert regenerate.spec_of(honest, registry).name == "tiny"
    with pytest.raises(Exception, match="extends no file and has no profiles"):
        regenerate.spec_of(
            replace(honest, task=replace(honest.task, spec={**honest.task.spec, "extends": "x.yaml"})), registry
        )


def test_whatever_fails_in_a_check_is_that_reports(
    tiny_cell: Path, tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: object) -> None:
        raise RuntimeError("\x1b[2J broken")

    monkeypatch.setattr("rote_bench.leaderboard.regenerate.data_of", broken)
    found = check(tiny_cell, registry)
    assert found.holds and not found.complete
    (examples,) = (outcome for outcome in found.outcomes if outcome.claim == "examples")
    assert "RuntimeError" in examples.note and examples.note.isprintable()
    put(tmp_path / "r", {"schema_version": 2})
    with pytest.raises(verify.Refused):
        verify.read(tmp_path / "r" / "report.json")


TABLE = """
name: table
generator: dataset
parameters: {path: rows.csv, prompt: question, answer: answer}
splits: {train: 200, selection: 40, validation: 60}
noise: {rates: [0.1]}
model: {layers: 1, width: 16, heads: 2}
training: {batch_size: 32, max_steps: 20, evaluate_every: 10, precision: float32, schedule: {warmup: 1, anneal: 5}}
diagnostics: [learning_dynamics]
"""


@pytest.fixture(scope="module")
def table_cell(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cell whose questions stand in a file, which does not come with its report."""
    folder = tmp_path_factory.mktemp("table")
    rows = [f"a{i % 20} b{i // 20},{'xyz'[(i + i // 20) % 3]}" for i in range(300)]
    (folder / "rows.csv").write_text("\n".join(["question,answer", *rows]))
    (folder / "task.yaml").write_text(TABLE)
    report = rote_bench.run(folder / "task.yaml", model="gpt2-nano", output_path=folder / "runs", quiet=True)
    assert report.folder is not None
    return Path(report.folder)


def other_rate(report: dict[str, Any], folder: Path) -> None:
    report["data"]["noise_rate"] = 0.9


def no_noise(report: dict[str, Any], folder: Path) -> None:
    report["data"]["noise_rate"] = 0.0


def more_questions(report: dict[str, Any], folder: Path) -> None:
    report["data"]["counts"]["train"] = 400
    report["data"]["noise_rate"] = 0.05
    report["task"]["spec"]["splits"]["train"] = 400


def questions_unlike_the_task(report: dict[str, Any], folder: Path) -> None:
    report["data"]["counts"]["selection"] = 50


def parameters(report: dict[str, Any], folder: Path) -> None:
    report["model"]["parameters"] = 12


def sizes(report: dict[str, Any], folder: Path) -> None:
    report["task"]["spec"]["model"]["layers"] = 2


def no_sizes(report: dict[str, Any], folder: Path) -> None:
    report["task"]["spec"]["model"] = 1.5


@pytest.mark.parametrize(
    ("lie", "claim", "said"),
    [
        (other_rate, "counts", "20 labels are wrong, but noise rate 0.9 makes 180 of 200"),
        (no_noise, "counts", "20 labels are wrong at noise rate 0"),
        (more_questions, "training", "pass at step 1 is 0.16, but recipe and curve give 0.08"),
        (questions_unlike_the_task, "counts", "selection holds 50 examples, but the task has 40"),
        (parameters, "model", "another number of parameters"),
        (sizes, "model", "another configuration: "),
        (no_sizes, "model", "its task no sizes"),
    ],
)
def test_a_cell_of_questions_in_a_file_is_held_against_what_came_with_it(
    lie: Lie, claim: str, said: str, table_cell: Path, registry: Registry, tmp_path: Path
) -> None:
    report, _ = copied(table_cell, tmp_path / "it")
    lie(report, tmp_path / "it")
    put(tmp_path / "it", rehash(report))
    (found,) = [o for o in check(tmp_path / "it", registry).outcomes if o.claim == claim]
    assert found.verdict == (UNKNOWN if lie is no_sizes else DIFFERS) and said in found.note
    if claim != "model":
        with pytest.raises(verify.Refused):
            verify.verify(read(json.loads((tmp_path / "it" / "report.json").read_text())), tmp_path / "it", registry)


def test_an_honest_cell_of_questions_in_a_file_holds(table_cell: Path, registry: Registry) -> None:
    found = check(table_cell, registry)
    assert found.holds and verdicts(found)["model"] == CONFIRMED and verdicts(found)["counts"] == CONFIRMED
