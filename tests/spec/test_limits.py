"""What is too much is refused at once, the same in files and flags, and put where it was asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rote_bench.cli import main
from rote_bench.errors import UserError
from rote_bench.pipeline.runner import expand
from rote_bench.plugins import Registry
from rote_bench.spec.loader import load_task
from rote_bench.spec.preflight import check_drawable, examine_file
from rote_bench.sweep.comparing import validate_file
from tests.spec.test_loader import MINIMAL, faults, write

SWEEP = "name: s\ntasks: [tiny.yaml]\nmodels: [gpt2-nano]\n"


def many(count: int, indent: str = "") -> str:
    return "".join(f"{indent}key_{i}: {i}\n" for i in range(count))


@pytest.mark.parametrize(
    ("text", "lines", "says"),
    [
        (MINIMAL + many(20_000), 101, "unknown key 'key_0'"),
        (MINIMAL + "training:\n" + many(20_000, "  "), 101, "training.key_0: unknown key"),
        (
            MINIMAL
            + "parameters:\n"
            + many(9_000, "  ")
            + f"profiles:\n  p:\n    parameters:\n{many(9_000, '      ')}",
            1,
            "",
        ),
        (MINIMAL + many(60_000).replace("key_", "k"), 1, "holds more than 30,000 values"),
        (MINIMAL + "a: " + "[" * 10_000, 1, "nested more than 50"),
        (MINIMAL + "a: " + "[" * 500_000, 1, "nested more than 50"),
        (MINIMAL + "diagnostics: [" + "logit_lens, " * 20_000 + "]", 1, "has 20,000 entries, more than the 1,000"),
        (MINIMAL + "noise: {rates: [" + "0.1, [a], " * 5_000 + "]}", 1, "has 10,000 entries"),
        (MINIMAL + "profiles:\n" + "".join(f"  p{i}: {{version: 2}}\n" for i in range(5_000)), 1, "more than the 50"),
        (MINIMAL.replace("small", "a" * 900_000), 1, "name: is longer than 100 characters"),
        ("extends: " + "a" * 5_000 + "\n", 1, "which is no file"),
        ('extends: "a\\0b"\n', 1, "which is no file"),
    ],
)
def test_too_much_is_refused_for_what_it_is(
    registry: Registry, tmp_path: Path, text: str, lines: int, says: str
) -> None:
    path = write(tmp_path, text)
    found = faults(registry, path)
    assert len(found) >= lines and says in found[0] and max(map(len, found)) < 2500


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (SWEEP.replace("tiny.yaml", "9" * 400), "unknown task '999"),
        (SWEEP.replace("[tiny.yaml]", '["a\\0b"]'), "unknown task"),
        (SWEEP + f"seeds: {{data: {list(range(200))}, init: {list(range(200))}}}\n", "asks for 40,000 cells"),
        (
            SWEEP + "noise_rates: [0.05, 0.0500000001]\n",
            "noise_rates: the noise rates 0.05 and 0.0500000001 would share",
        ),
        (SWEEP + "noise_rates: [0.1, 1.0e-9]\n", "a rate of 1e-09 makes none of"),
    ],
)
def test_sweeps_that_ask_for_too_much(registry: Registry, tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "tiny.yaml").write_text(MINIMAL)
    path = write(tmp_path, text, "sweep.yaml")
    (fault,), _ = validate_file(path, registry)
    assert says in str(fault) and str(fault).startswith(f"{path}:")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"seeds": [2**32]}, "--seed: a seed must be an integer from 0 to 4294967295, not 4294967296"),
        ({"seeds": [-1]}, "--seed: "),
        ({"seeds": [True]}, "--seed: "),
        ({"rates": [0.05, 0.0500000001]}, "--noise-rate: the noise rates 0.05 and 0.0500000001 would share the folder"),
        ({"rates": [1.0]}, "--noise-rate: "),
    ],
)
def test_flags_have_the_limits_of_files(registry: Registry, tmp_path: Path, given: dict[str, Any], says: str) -> None:
    spec = load_task(write(tmp_path, MINIMAL), registry)
    with pytest.raises(UserError) as caught:
        expand(spec, given.get("rates", ()), given.get("seeds", ()), registry)
    assert str(caught.value).startswith(says)


def test_what_is_asked_for_twice_is_run_once(registry: Registry, tmp_path: Path) -> None:
    spec = load_task(write(tmp_path, MINIMAL), registry)
    cells = expand(spec, [0.05, 0.05, 0.0, -0.0], [3, 3, 4], registry)
    found = sorted((cell.seeds.data, str(rate)) for cell, rate in cells)
    assert found == [(3, "0.0"), (3, "0.05"), (4, "0.0"), (4, "0.05")]


def test_a_rate_that_makes_no_label_wrong_is_refused(registry: Registry, tmp_path: Path) -> None:
    path = write(tmp_path, MINIMAL + "noise: {rates: [1.0e-9, 0.1]}\n")
    (fault,) = examine_file(path, registry).faults
    assert str(fault).startswith(f"{path}:4: noise.rates: a rate of 1e-09 makes none of")
    spec = load_task(write(tmp_path, MINIMAL), registry)
    (fault,) = check_drawable(spec, registry, [1e-9], "--noise-rate")
    assert str(fault).startswith("--noise-rate: a rate of 1e-09 makes none of")
    assert check_drawable(spec, registry, [0.0]) == []


def test_a_default_is_not_put_at_a_flag_that_did_not_set_it(registry: Registry, tmp_path: Path) -> None:
    path = write(tmp_path, MINIMAL)
    steps, size = "training.max_steps=20", "training.batch_size=64"
    for overrides in ([steps, size], [size, steps]):
        (fault,) = faults(registry, path, overrides=overrides)
        assert fault.startswith("--set training.max_steps: 20 steps are too few")
    spec = load_task(path, registry, overrides=[size])
    assert spec.place("training.batch_size") == f"--set {size.partition('=')[0]}"
    assert spec.place("training.max_steps") == str(path)
    (fault,) = map(str, check_drawable(load_task(path, registry, overrides=["splits.train=900000"]), registry))
    assert fault.startswith("--set splits.train: splits: ")


def test_a_tilde_leads_home_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    rows = "prompt,answer\n" + "".join(f"q {i},a{i % 3}\n" for i in range(30))
    (tmp_path / "q.csv").write_text(rows)
    table = (
        "name: t\ngenerator: dataset\nparameters: {path: ~/q.csv}\nsplits: {train: 20, selection: 5, validation: 5}\n"
    )
    (tmp_path / "t.yaml").write_text(table)
    assert main(["validate", "~/t.yaml"]) == 0
    assert main(["data", "~/t.yaml", "--export", "~/ex:port"]) == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["ex:port", "q.csv", "t.yaml"]
    assert main(["validate", "ex:port"]) == 0
    assert "valid" in capsys.readouterr().out
