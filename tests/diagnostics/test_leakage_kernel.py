"""What wrong labels cost by how near they are: known models, and an order computed by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rote_bench
from rote_bench.diagnostics import NotApplicable
from rote_bench.diagnostics.leakage_kernel import GROUPS, LeakageKernel, _groups
from rote_bench.pipeline.accept import accept
from rote_bench.spec.options import build
from rote_bench.subject import Subject, Twin

PLUGIN = Path(__file__).parents[2] / "plugins" / "reference_models" / "reference_models.py"
TASK = """
name: near
generator: addition
parameters: {digits: 2}
splits: {train: 3000, selection: 100, validation: 2000}
noise: {rates: [0.05]}
diagnostics: [neighbourhood, leakage_kernel, nearest]
"""


def known(folder: Path, model: str, **options: Any) -> Any:
    task = folder / "near.yaml"
    task.write_text(TASK)
    given = {"model": model, "output_path": folder / "runs", "plugins": [PLUGIN], "quiet": True, **options}
    return rote_bench.run(task, noise_rate=0.05, **given)


def axis(report: Any) -> dict[str, Any]:
    found: dict[str, Any] = report.data["diagnostics"]["leakage_kernel"]["details"]["axes"]["task"]
    return found


def test_a_look_up_table_leaks_nothing_and_its_kernel_is_flat(tmp_path: Path) -> None:
    report = known(tmp_path, "reference-lookup", twin=True)
    assert report.value("leakage_kernel") == report.value("neighbour_leakage_excess") == 0
    metric = report.metrics["leakage_kernel"]
    assert metric.ci_low < 0 < metric.ci_high
    assert axis(report)["observed"]["value"] == [0] * GROUPS
    assert report.value("leaked_errors") is None and "too few" in report.metrics["leaked_errors"].reason_if_null
    assert report.value("leakage_kernel_states") is None
    assert report.metrics["leakage_kernel_states"].reason_if_null == "the twin's model was not kept"


def test_a_nearest_neighbour_model_leaks_and_its_kernel_is_steep(tmp_path: Path) -> None:
    report = known(tmp_path, "reference-nearest", twin=True)
    kernel, leak = report.metrics["leakage_kernel"], report.metrics["neighbour_leakage_excess"]
    assert leak.ci_low > 0.02
    observed, permuted = axis(report)["observed"]["value"], axis(report)["permuted"]["value"]
    assert np.ptp(permuted) < 0.05
    assert kernel.value == pytest.approx(np.mean(observed[:2]) - np.mean(observed[-2:]), abs=0.05)


def test_without_a_twin_it_says_how_to_get_one(tmp_path: Path) -> None:
    report = known(tmp_path, "reference-lookup")
    entry = report.data["diagnostics"]["leakage_kernel"]
    assert entry["status"] == "not_applicable" and "run it with --twin" in entry["reason"]


def test_groups_are_equally_large_and_equals_share_their_places() -> None:
    rng = np.random.default_rng(0)
    near = rng.integers(0, 3, (101, 2)).astype(float)
    share = _groups(near)
    assert share.sum(1) == pytest.approx(np.ones(101)) and share.sum(0) == pytest.approx(101 / GROUPS, abs=1)
    keys = [tuple(row) for row in near.tolist()]
    for key in set(keys):
        same = share[[k == key for k in keys]]
        assert np.ptp(same, axis=0).max() < 1e-12
    place = share @ np.arange(GROUPS)
    assert all(place[a] <= place[b] + 1e-12 for a in range(101) for b in range(101) if keys[a] < keys[b])


def judged(subject: Subject, right: Any, twins: Any, **options: Any) -> Any:
    """The accepted result where the model and its twin are right on chosen questions."""
    twin = Twin("0" * 64, lambda: np.asarray(twins, dtype=bool), None)
    again = replace(subject, twin=twin)
    again._answers["validation"] = replace(subject.answers("validation"), right=right)
    diagnostic = LeakageKernel(build(LeakageKernel.Options, options), 0)
    result = diagnostic.run(again)
    found = accept(diagnostic, result, again)
    implied = diagnostic.implied(json.loads(json.dumps(found.details)), {})
    for name, value in implied.items():
        assert value == pytest.approx(found.metrics[name].value)
    return found


def test_costs_planted_near_wrong_labels_are_found_and_costs_elsewhere_are_not(fda: Subject) -> None:
    """The twin's answers are chosen so that the costs lie where they are wanted."""
    data = fda.data
    indices, noisy = data.validation.indices, [data.train.indices[i] for i in data.train.noisy]
    right = fda.answers("validation").right

    def digits(a: int, b: int) -> int:
        return sum(x != y for x, y in zip(f"{a:04d}", f"{b:04d}", strict=True))

    nearest = np.array([min(digits(i, j) for j in noisy) for i in indices])
    planted = (nearest <= 1) & right
    assert 20 < planted.sum() < 0.6 * len(planted)
    steep = judged(fda, right & ~planted, right).metrics["leakage_kernel"]
    assert steep.value is not None and steep.ci_low is not None and steep.ci_low > 0
    flat = judged(fda, right, right).metrics["leakage_kernel"]
    assert flat.value == 0 and flat.ci_low is not None and flat.ci_high is not None and flat.ci_low < 0 < flat.ci_high
    anywhere = np.random.default_rng(1).permutation(planted) & right
    random = judged(fda, right & ~anywhere, right).metrics["leakage_kernel"]
    assert random.ci_low is not None and random.ci_high is not None and random.ci_low < 0 < random.ci_high


def test_no_distance_and_no_states_are_reasons(fda: Subject) -> None:
    task = type("Far", (type(fda.task),), {"distances": lambda *a: None})(fda.task.parameters, fda.task.seed)
    with pytest.raises(NotApplicable, match="no distance"):
        right = fda.answers("validation").right
        judged(replace(fda, task=task), right, right)
