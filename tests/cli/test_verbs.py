"""The command line: exit codes, one line for a mistake, nothing written, results on standard output."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rote_bench.cli import main

GOOD = ["run", "thr", "--model", "gpt2-nano"]
BOTH = [*GOOD, "--quick", "--profile", "compact"]
SMALL = "splits={train: 30, selection: 4, validation: 4, ood: 0}"


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [line for line in capsys.readouterr().err.splitlines() if line.startswith("rote-bench")]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["run", "thrr", "--model", "gpt2-nano"], "unknown task 'thrr' (did you mean 'thr'?)"),
        (["run", "thr", "--model", "gpt2-nan"], "unknown model 'gpt2-nan' (sizes: nano"),
        ([*GOOD, "--noise-rate", "1.5"], "a noise rate must be at least 0 and below 1, not 1.5"),
        ([*GOOD, "--noise-rate", "-0.1"], "a noise rate must be"),
        ([*GOOD, "--seed", "-1"], "a seed must be an integer from 0 to 4294967295"),
        ([*GOOD, "--profile", "compac"], "has no profile 'compac' (did you mean 'compact'?)"),
        ([*GOOD, "--limit", "1"], "--limit"),
        ([*GOOD, "--snapshot", "pre=FILE"], "--snapshot: a model that is trained makes its own (add --no-train)"),
        ([*GOOD, "--batch-size", "0"], "--batch-size"),
        ([*GOOD, "--device", "tpu9"], "no device 'tpu9'"),
        ([*GOOD, "-o", "FILE/x"], "cannot be written"),
        ([*GOOD, "--set", "noise.kind=unifrom"], "unknown kind of noise 'unifrom' (did you mean 'uniform'?"),
        ([*GOOD, "--set", "splits.train=99999999999"], "do not fit in memory"),
        ([*GOOD, "--set", "splits.train=40000"], "the splits ask for"),
        ([*GOOD, "--set", "parameters.entities=100000000"], "do not fit in memory"),
        (
            [*GOOD, "--set", "parameters.relations=1", "--set", "noise.kind=near_miss", "--set", SMALL],
            "near_miss noise has no wrong label",
        ),
        (["run", "FILE", "--model", "gpt2-nano"], "must hold keys and values"),
        (["run", "thr", "--model", "hf:./nowhere"], "no folder './nowhere'"),
        (["show", "nowhere"], "no report here"),
        (["plot", "FILE"], "is not a complete JSON report"),
        (["data", "thr", "--split", "trian"], "unknown split 'trian' (did you mean 'train'?)"),
        (["check-model", "gpt9-nano"], "unknown model"),
    ],
)
def test_a_mistake_is_one_line_exit_two_and_nothing_written(
    arguments: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("FILE").write_text("words\n")
    assert main(arguments) == 2
    (line,) = lines(capsys)
    assert says in line
    assert {p.name for p in tmp_path.rglob("*")} == {"FILE"}


@pytest.mark.parametrize(
    "arguments", [["run", "thr"], ["fly"], ["run", "thr", "--model", "x", "--noise-rate", "lots"], BOTH, []]
)
def test_misused_flags_exit_two(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_validate_lists_every_fault(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text("name: t\ngenerator: addition\nsplits: {train: 20, selection: 5, validation: 5}\n")
    bad.write_text(
        "name: t\ngenerator: addition\nsplits: {train: 10}\nnoise: {rates: [2]}\nprofiles: {p: {titel: x}}\n"
    )
    assert main(["validate", str(good)]) == 0
    capsys.readouterr()
    assert main(["validate", str(good), str(bad)]) == 2
    err = capsys.readouterr().err.splitlines()
    assert len(err) == 4
    assert all(line.startswith(f"{bad}:") for line in err)
    assert any(":5: titel: unknown key 'titel' (did you mean 'title'?)" in line for line in err)


@pytest.mark.parametrize("kind", ["tasks", "models", "noise", "diagnostics", "plugins"])
def test_lists_are_objects_with_name_and_source(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", kind, "--json"]) == 0
    items = json.loads(capsys.readouterr().out)
    assert items and all({"name", "source"} <= set(item) for item in items)
    assert main(["list", kind]) == 0
    assert capsys.readouterr().out


def test_data_shows_what_a_model_would_see(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "thr", "-n", "4", "--json"]) == 0
    examples = json.loads(capsys.readouterr().out)
    assert len(examples) == 4 and sum(e["noisy"] for e in examples) == 2
    for e in examples:
        assert e["noisy"] == (e["label"] != e["answer"])
        start, stop = e["positions"]["entity"]["span"]
        assert e["prompt"][start:stop] == e["positions"]["entity"]["text"]
    assert main(["data", "fda", "--split", "validation"]) == 0
    assert "carry_1" in capsys.readouterr().out


@pytest.mark.parametrize("which", ["task", "sweep", "report"])
def test_schemas_are_schemas(which: str, capsys: pytest.CaptureFixture[str]) -> None:
    from jsonschema import Draft202012Validator

    assert main(["schema", which]) == 0
    Draft202012Validator.check_schema(json.loads(capsys.readouterr().out))


def test_check_model_speaks_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check-model", "gpt2-nano", "--json"]) == 0
    (model,) = json.loads(capsys.readouterr().out)["models"]
    assert model["status"] == "proved" and model["model_type"] == "gpt2" and model["parameters"] > 700_000
    assert all(set(check) == {"ok", "detail"} for check in model["checks"].values())


def test_show_speaks_json_and_text(thr_cell: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(thr_cell), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["task"]["name"] == "small_thr"
    assert main(["show", str(thr_cell)]) == 0
    text = capsys.readouterr().out
    assert "validation_accuracy" in text and "replicated" in text and "\x1b" not in text
    assert max(map(len, text.splitlines())) <= 120


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    from rote_bench.errors import UserError

    with pytest.raises(UserError):
        main(["show", str(tmp_path), "--debug"])
