"""Run options: one record, whose checks hold wherever it is made."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

import rote_bench
from rote_bench.cli import parser
from rote_bench.errors import UserError
from rote_bench.pipeline.settings import Settings
from rote_bench.sweep.definition import Run


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"limit": 1}, "--limit: must be at least 2, not 1"),
        ({"batch_size": 0}, "--batch-size: must be at least 1, not 0"),
        ({"threads": 0}, "--threads: must be at least 1, not 0"),
        ({"dtype": "float23"}, "--dtype: unknown dtype 'float23' (did you mean 'float32'?)"),
        ({"snapshots": {"mid": "x"}, "train": False}, "--snapshot: unknown snapshot 'mid' (pre, post or twin)"),
        ({"snapshots": {"pre": "x"}}, "--snapshot: a model that is trained makes its own (add --no-train)"),
        ({"track": "paper"}, "--track: cannot track with 'paper'"),
    ],
)
def test_a_wrong_option_is_named_whoever_gives_it(options: dict[str, Any], says: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as direct:
        Settings(**options)
    with pytest.raises(UserError) as through:
        rote_bench.run("thr", model="gpt2-nano", output_path=tmp_path, **options)
    assert says in str(direct.value) and str(through.value) == str(direct.value)
    assert list(tmp_path.iterdir()) == []


def test_an_option_that_there_is_not_is_an_error_of_the_caller(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"^there is no option 'batchsize' \(did you mean 'batch_size'\?\)$"):
        rote_bench.run("thr", model="gpt2-nano", output_path=tmp_path, batchsize=3)


def test_the_command_line_gives_every_option_and_a_sweep_its_own() -> None:
    given = vars(parser().parse_args(["run", "thr", "--model", "gpt2-nano"]))
    missing = {f.name for f in dataclasses.fields(Settings)} - given.keys()
    # by the size of the model, by the device, by whose process it is
    assert missing == {"threads", "stacked", "forks"}
    assert Settings.picked(given) == Settings()
    assert {f.name for f in dataclasses.fields(Run)} - {
        *("compile", "stack"),
        *("threads_per_cell", "gpus_per_cell"),
    } <= given.keys()


def test_flags_reach_the_record() -> None:
    flags = "--no-train --snapshot pre=a --snapshot post=b --batch-size 8 --limit 5 --dtype bfloat16 --overwrite"
    options = parser().parse_args(["run", "thr", "--model", "gpt2-nano", "-o", "here", *flags.split()])
    found = Settings.picked(vars(options))
    assert found == Settings(
        output_path=Path("here"),
        train=False,
        snapshots={"pre": "a", "post": "b"},
        batch_size=8,
        limit=5,
        dtype="bfloat16",
        overwrite=True,
    )
    assert set(found.snapshots) == {"pre_memorization", "post_memorization"}
