"""The schema that the records imply: closed, described, and read back to what was written."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fastjsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

import rote_bench
from rote_bench.errors import UserError
from rote_bench.report import record
from rote_bench.report.schema import read, schema, write
from rote_bench.report.write import faults, load_report, save_report


def classes(cls: type, found: set[type]) -> set[type]:
    """A record and every record inside it."""
    import typing

    if cls in found:
        return found
    found.add(cls)
    for hint in typing.get_type_hints(cls).values():
        stack = [hint]
        while stack:
            one = stack.pop()
            if dataclasses.is_dataclass(one) and isinstance(one, type):
                classes(one, found)
            stack += typing.get_args(one)
    return found


def test_the_schema_is_valid_and_says_what_every_field_is() -> None:
    made = schema()
    Draft202012Validator.check_schema(made)
    assert rote_bench.schema("report") == made
    parts = [made, *made["$defs"].values()]
    assert {c.__name__ for c in classes(record.Report, set())} == {"Report", *made["$defs"]}
    for part in parts:
        assert part["additionalProperties"] is False and part["description"]
        assert all(field["description"] for field in part["properties"].values())
    lacking = {
        f"{name}.{field}"
        for name, part in {"Report": made, **made["$defs"]}.items()
        for field in part["properties"]
        if field not in part["required"]
    }
    assert lacking == {"DiagnosticEntry.cpu_seconds", "Timings.cpu_by_stage", "Training.stacked", "Model.signature"}


def test_a_report_from_before_processor_time_was_kept_is_read(thr_report: dict[str, Any]) -> None:
    del thr_report["timings"]["cpu_by_stage"]
    for entry in thr_report["diagnostics"].values():
        del entry["cpu_seconds"]
    assert faults(thr_report) == []
    report = read(thr_report)
    assert report.timings.cpu_by_stage == {}
    assert {entry.cpu_seconds for entry in report.diagnostics.values()} == {None}


def test_what_is_written_is_what_was_read(thr_report: dict[str, Any], fda_report: dict[str, Any]) -> None:
    for data in (thr_report, fda_report):
        report = read(data)
        assert write(report) == data
        assert read(write(report)) == report
        assert isinstance(report.seeds.label, str) and report.task.label == data["task"]["name"]


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from leaves(item, (*path, key))
    elif isinstance(value, list) and value:
        yield from leaves(value[0], (*path, 0))
    else:
        yield path


def test_both_validators_agree_on_every_leaf_that_is_of_another_kind(thr_report: dict[str, Any]) -> None:
    fast = fastjsonschema.compile({k: v for k, v in schema().items() if k != "$id"}, use_default=False)
    slow = Draft202012Validator(schema())
    small = copy.deepcopy(thr_report)
    small["metrics"] = dict(list(small["metrics"].items())[:1])
    small["diagnostics"] = {k: {**v, "details": {}} for k, v in list(small["diagnostics"].items())[:1]}
    small["identity"]["parts"], small["task"]["spec"], small["model"]["config"] = {}, {}, {}
    refused = 0
    for path in leaves(small):
        for other in (["x"], {"x": 1}, -1.5):
            changed = copy.deepcopy(small)
            at = changed
            for key in path[:-1]:
                at = at[key]
            at[path[-1]] = other
            try:
                fast(changed)
                accepted = True
            except fastjsonschema.JsonSchemaException:
                accepted = False
            assert accepted == slow.is_valid(changed), path
            refused += not accepted
    assert refused > 150


@pytest.mark.parametrize("section", [f.name for f in dataclasses.fields(record.Report)])
def test_a_missing_or_strange_key_is_named(section: str, thr_report: dict[str, Any]) -> None:
    changed = copy.deepcopy(thr_report)
    del changed[section]
    assert section in faults(changed)[0]
    if isinstance(thr_report[section], dict) and section not in ("metrics", "diagnostics"):
        changed = copy.deepcopy(thr_report)
        changed[section]["surprise"] = 1
        assert "surprise" in faults(changed)[0]


@given(
    value=st.none() | st.floats(-1, 1),
    low=st.none() | st.floats(-1, 1),
    null=st.none() | st.text(max_size=2),
    why=st.none() | st.text(max_size=2),
)
def test_a_metric_has_a_value_and_an_interval_or_says_why_not(
    value: float | None, low: float | None, null: str | None, why: str | None
) -> None:
    validator = Draft202012Validator({**schema()["$defs"]["Metric"], "$defs": schema()["$defs"]})
    entry = write(record.Metric(value, low, low, None, 3, None, "validation", null, why))
    allowed = bool(null) if value is None else low is not None or bool(why)
    assert validator.is_valid(entry) == allowed


def test_a_report_of_the_first_schema_is_refused_with_the_commit_that_reads_it(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text(json.dumps({"schema_version": 1, "status": "success"}))
    with pytest.raises(UserError, match="schema version 1, this rote-bench reads 2; commit 1620336 is the last"):
        load_report(tmp_path)


def test_a_report_that_does_not_fit_is_never_written(thr_report: dict[str, Any], tmp_path: Path) -> None:
    report = read(thr_report)
    file = tmp_path / "report.json"
    bad = dataclasses.replace(report, error=3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="does not fit its schema: error"):
        save_report(file, bad)
    details = {"deep": [0.5, float("inf")]}
    entry = dataclasses.replace(report.diagnostics["logit_lens"], details=details)
    with pytest.raises(ValueError, match=r"diagnostics.logit_lens.details.deep\[1\]: not a finite number"):
        save_report(file, dataclasses.replace(report, diagnostics={"logit_lens": entry}))
    assert not file.exists()
