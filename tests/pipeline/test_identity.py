"""What counts as the same cell, and what is said when it is not quite."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

import rote_bench
from rote_bench import plugins
from rote_bench.cli import main
from rote_bench.models.content import of_state, of_tokenizer
from rote_bench.pipeline.identity import NOT_PLANNED, ROOMS, code_of, differing, planned_parts
from rote_bench.pipeline.settings import Settings
from rote_bench.report.record import Schedule
from rote_bench.spec.loader import load_task
from tests.conftest import SMALL_THR
from tests.pipeline.test_runner import tiny

PACKAGE = Path(rote_bench.__file__).parent
TREES = st.recursive(
    st.none() | st.integers() | st.text(max_size=3),
    lambda inner: st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=3), TREES, max_size=3), st.dictionaries(st.text(max_size=3), TREES, max_size=3))
def test_differences_are_named_when_and_only_when_there_are_some(a: dict[str, object], b: dict[str, object]) -> None:
    assert differing(a, a) == []
    assert differing(a, b) == differing(b, a)
    missing = {k: v for k, v in b.items() if v is not None and k not in a}
    if missing:
        assert differing(a, b)


def test_differences_of_identity_are_named() -> None:
    assert differing({"a": 1, "b": {"c": 2, "d": 3}}, {"a": 1, "b": {"c": 4}, "e": 5}) == ["b.c", "b.d", "e"]


def test_what_is_planned_and_what_is_known_later_make_up_all_parts(tmp_path: Path) -> None:
    registry = plugins.built_in()
    task = tiny(tmp_path, "")  # every diagnostic
    report = rote_bench.run(task, model="gpt2-nano", output_path=tmp_path / "runs", quiet=True)
    planned = planned_parts(load_task(task, registry), "gpt2-nano", 0.1, Settings(), registry, Schedule("event", None))
    parts = report.data["identity"]["parts"]
    assert set(differing(planned, parts)) <= NOT_PLANNED
    assert parts["versions"] == {name: room.version for name, room in ROOMS.items()}
    later = {path for path in NOT_PLANNED if path.partition(".")[2] not in parts.get(path.partition(".")[0], {path: 0})}
    assert {path for path in later if "." in path} == {"model.code", "model.reads"}  # there where there is such a thing


def identity(folder: Path, **options: Any) -> str:
    """What a small cell hashes to."""
    report = rote_bench.run(tiny(folder), model="gpt2-nano", output_path=folder / "runs", quiet=True, **options)
    found: str = report.record.identity.hash
    return found


@pytest.fixture(scope="module")
def unchanged(tmp_path_factory: pytest.TempPathFactory) -> str:
    return identity(tmp_path_factory.mktemp("unchanged"))


@pytest.mark.parametrize(
    "change",
    [
        {"limit": 40},
        {"dtype": "bfloat16"},
        {"overrides": ["training.weight_decay=0.2"]},
        {"overrides": ["diagnostics=[learning_dynamics]"]},
        {"overrides": ["model.width=32"]},
    ],
    ids=str,
)
def test_whatever_decides_numbers_makes_another_cell(change: dict[str, Any], unchanged: str, tmp_path: Path) -> None:
    assert identity(tmp_path, **change) != unchanged


def test_the_same_cell_in_another_folder_is_the_same(unchanged: str, tmp_path: Path) -> None:
    assert identity(tmp_path) == unchanged


def test_replaced_weights_behind_a_snapshot_are_another_cell(
    thr_cell: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = tmp_path / "task.yaml"
    task.write_text(SMALL_THR.partition("diagnostics:")[0] + "diagnostics: [logit_lens]\n")
    weights = tmp_path / "weights"
    shutil.copytree(thr_cell / "checkpoints" / "pre_memorization", weights)
    model = f"hf:{thr_cell / 'checkpoints' / 'post_memorization'}"
    command = [
        "run",
        str(task),
        "--model",
        model,
        "--no-train",
        "--snapshot",
        f"pre={weights}",
        "-o",
        str(tmp_path / "r"),
    ]
    assert main(command) == 0
    capsys.readouterr()
    assert main(command) == 0
    assert "already done" in capsys.readouterr().err
    changed = AutoModelForCausalLM.from_pretrained(weights)
    changed.transformer.h[0].mlp.c_fc.weight.data.mul_(1.01)
    changed.save_pretrained(weights)
    assert main(command) == 2
    assert "differs in snapshots.pre_memorization" in capsys.readouterr().err


def test_weights_and_tokenizer_of_a_folder_count_by_content(thr_cell: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(thr_cell / "checkpoints" / "post_memorization", folder)
    task = tmp_path / "task.yaml"
    task.write_text(SMALL_THR.partition("diagnostics:")[0] + "diagnostics: [logit_lens]\n")

    def parts() -> dict[str, object]:
        report = rote_bench.run(
            task, model=f"hf:{folder}", train=False, output_path=tmp_path / "runs", overwrite=True, quiet=True
        )
        found: dict[str, object] = report.data["identity"]["parts"]["model"]
        return found

    first = parts()
    rules = folder / "tokenizer.json"
    rules.write_text(rules.read_text().replace('"<end>"', '"<fin>"'))
    config = folder / "tokenizer_config.json"
    config.write_text(config.read_text().replace("<end>", "<fin>"))
    second = parts()
    assert differing(first, second) == ["tokenizer"] or set(differing(first, second)) == {"tokenizer", "config"}


def test_content_of_models_and_tokenizers_is_what_they_hold(thr_cell: Path) -> None:
    from transformers import AutoTokenizer

    folder = thr_cell / "checkpoints" / "post_memorization"
    one, other = (AutoModelForCausalLM.from_pretrained(folder) for _ in range(2))
    assert of_state(one) == of_state(other)
    next(other.parameters()).data.view(-1)[0].add_(1e-3)
    assert of_state(one) != of_state(other)
    tokenizers = [AutoTokenizer.from_pretrained(folder) for _ in range(2)]
    assert of_tokenizer(tokenizers[0]) == of_tokenizer(tokenizers[1])
    tokenizers[1].add_tokens(["new"])
    assert of_tokenizer(tokenizers[0]) != of_tokenizer(tokenizers[1])


def test_a_report_of_other_code_with_the_same_versions_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """This package makes the report and finds it done; so does a copy with another optimizer, which says so."""
    copy = tmp_path / "copy" / "rote_bench"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(PACKAGE.parent / "tasks", tmp_path / "copy" / "tasks")
    arguments = ["run", str(tiny(tmp_path)), "--model", "gpt2-nano", "-o", str(tmp_path / "runs")]
    assert main(arguments) == 0
    capsys.readouterr()
    assert main(arguments) == 0
    again = capsys.readouterr().err
    assert "already done" in again and "other code" not in again
    file = copy / "training" / "optimizers.py"
    text = file.read_text()
    assert '"momentum": 0.95' in text
    file.write_text(text.replace('"momentum": 0.95', '"momentum": 0.5'))
    environment = {**os.environ, "PYTHONPATH": str(copy.parent), "ROTE_BENCH_PLUGINS": ""}
    command = [sys.executable, "-m", "rote_bench", *arguments]
    changed = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=copy.parent, check=False)
    assert changed.returncode == 0
    said = " ".join(changed.stderr.split())
    assert "already done" in said
    assert "made by other code of the same versions, in optimizer;" in said


def test_a_plugins_file_counts_with_its_content(tmp_path: Path) -> None:
    plugin = tmp_path / "own.py"
    text = (
        "from rote_bench.plugin import Diagnostic, Result, hookimpl\n"
        "class Own(Diagnostic):\n    name, description = 'own', 'nothing'\n"
        "    def run(self, subject):\n        return Result()\n"
        "@hookimpl\ndef register_diagnostics(register):\n    register(Own)\n"
    )
    task = tiny(tmp_path, "diagnostics: [own, learning_dynamics]\n")
    found = []
    for more in ("", "# changed\n"):
        plugin.write_text(text + more)
        registry = plugins.load([plugin])
        spec = load_task(task, registry)
        parts = planned_parts(spec, "gpt2-nano", 0.1, Settings(), registry, Schedule("event", None))
        found.append((parts["diagnostics"], code_of(spec, registry)))
    (first, code), (second, other) = found
    assert differing(first, second) == ["own.version"]
    assert {room for room in code if code[room] != other[room]} == {"diagnostics.own"}
