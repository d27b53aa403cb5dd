"""Model cards: the results that the hub reads equal the report's, and no name breaks their metadata."""

from __future__ import annotations

import copy
import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from rote_bench.report import card
from rote_bench.report.schema import read
from rote_bench.training.curve import Levels

CURVES = [f.name for f in fields(Levels)]
HOSTILE = 'a"b: [x]\n---\n{{ y }} | <img> `z` \\ #1 \u202e\ud800 %TAG !!python/object:os.system'


def load(cell: Path, snapshot: str) -> ModelCard:
    return ModelCard.load(cell / "checkpoints" / snapshot / "README.md")


def test_the_last_snapshots_card_holds_the_reports_metrics(thr_cell: Path, thr_report: dict[str, Any]) -> None:
    data = load(thr_cell, "post_memorization").data
    found = {r.metric_type: r for r in data.eval_results}
    assert {name: r.metric_value for name, r in found.items()} == {
        name: entry["value"] for name, entry in thr_report["metrics"].items() if entry["value"] is not None
    }
    for name, result in found.items():
        entry = thr_report["metrics"][name]
        assert result.dataset_split == entry["split"]
        assert result.dataset_revision == thr_report["task"]["content_hash"]
        if entry["ci_low"] is not None:
            assert result.metric_args == {key: entry[key] for key in ("ci_low", "ci_high", "n")}
    assert (data.library_name, data.pipeline_tag, data.base_model) == ("transformers", "text-generation", None)


def test_the_first_snapshots_card_holds_the_curves_at_its_step(thr_cell: Path, thr_report: dict[str, Any]) -> None:
    step = thr_report["training"]["snapshots"]["pre_memorization"]
    records = [json.loads(line) for line in (thr_cell / "dynamics.jsonl").read_text().splitlines()]
    (record,) = (r for r in records if r["step"] == step)
    found = {r.metric_type: r.metric_value for r in load(thr_cell, "pre_memorization").data.eval_results}
    assert found == {name: record[name] for name in CURVES}
    assert f"after step {step} of" in load(thr_cell, "pre_memorization").text


def test_cards_are_among_the_hashed_artifacts(thr_report: dict[str, Any]) -> None:
    listed = {a["path"] for a in thr_report["artifacts"]}
    assert {f"checkpoints/{name}/README.md" for name in thr_report["training"]["snapshots"]} <= listed


@pytest.mark.parametrize("snapshot", ["pre_memorization", "post_memorization"])
def test_no_name_breaks_a_card(thr_report: dict[str, Any], snapshot: str, tmp_path: Path) -> None:
    changed = copy.deepcopy(thr_report)
    changed["model"]["name"] = changed["task"]["spec"]["title"] = changed["task"]["spec"]["profile"] = HOSTILE
    report = read(changed)
    text = card.render(report, snapshot, report.metrics)
    (tmp_path / "README.md").write_text(text, encoding="utf-8")
    parsed = ModelCard.load(tmp_path / "README.md")
    assert parsed.data.tags == ["rote-bench", "memorization", "label-noise"]
    (title,) = {r.dataset_name for r in parsed.data.eval_results}
    assert title == card.plain(HOSTILE) and "\n" not in title
    assert parsed.text.count("\n# ") == 1 and "<img>" not in parsed.text


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ({"source": "scratch", "name": "gpt2-nano"}, None),
        ({"source": "pretrained", "name": "hf:EleutherAI/pythia-70m@step3000"}, "EleutherAI/pythia-70m"),
        ({"source": "pretrained", "name": "hf:gpt2"}, "gpt2"),
        ({"source": "pretrained", "name": f"hf:{Path(__file__).parent}"}, None),
        ({"source": "pretrained", "name": "hf:../gone/model"}, None),
    ],
)
def test_the_base_model_is_named_where_it_has_a_name(
    model: dict[str, Any], expected: str | None, thr_report: dict[str, Any]
) -> None:
    assert card.base(replace(read(thr_report).model, **model)) == expected


def test_what_was_not_measured_is_left_out(thr_report: dict[str, Any], tmp_path: Path) -> None:
    report = read(thr_report)
    name = "memorization_rate"
    unknown = {name: replace(report.metrics[name], value=None, ci_low=None, ci_high=None)}
    (tmp_path / "README.md").write_text(card.render(report, "post_memorization", unknown))
    assert ModelCard.load(tmp_path / "README.md").data.eval_results is None
