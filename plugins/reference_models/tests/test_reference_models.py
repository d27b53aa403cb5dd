"""rote-bench judges the reference models as theory says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import rote_bench
from rote_bench.findings import decide_across, noise_transfer

PLUGIN = Path(__file__).parent.parent / "reference_models.py"
THR = """
name: small
generator: two_hop
parameters: {form: symbols, entities: 16, bridges: 6, answers: 8, relations: 10}
splits: {train: 0.8, selection: 0.08, validation: 0.12}
noise: {rates: [0.05]}
model: {layers: 2, width: 64, heads: 2}
diagnostics: [learning_dynamics, logit_lens, neighbourhood, {ablation: {examples: 64}}, probe]
"""
PROTOTYPES = '''
from dataclasses import dataclass
from typing import ClassVar
from rote_bench.plugin import Example, Task, hookimpl

@dataclass(frozen=True)
class Parameters:
    """Nothing to set."""

class Prototypes(Task):
    """Ten classes; the first four words name the class, the last two are arbitrary."""
    name = "prototypes"
    Parameters: ClassVar[type] = Parameters
    def __len__(self): return 4000
    def example(self, index):
        kind, a, b = index % 10, index // 10 % 20, index // 200
        words = [f"k{kind}"] * 4 + [f"a{a}", f"b{b}"]
        return Example(" ".join(words), f"c{kind}", group=f"{a}")
    def words(self): return [*(f"{p}{i}" for p in "abkc" for i in range(40))]
    def answers(self, example): return [f"c{i}" for i in range(10)]

@hookimpl
def register_tasks(register): register(Prototypes)
'''


def run(folder: Path, model: str, text: str, rate: float, *plugins: Path, seed: int = 0) -> Any:
    task = folder / "task.yaml"
    task.write_text(text)
    return rote_bench.run(
        task,
        model=model,
        noise_rate=rate,
        seed=seed,
        output_path=folder / "runs",
        plugins=[PLUGIN, *plugins],
        quiet=True,
    )


def test_a_solver_with_a_look_up_table_memorises_everything_and_loses_nothing(tmp_path: Path) -> None:
    noisy, clean = (run(tmp_path, "reference-lookup", THR, rate) for rate in (0.05, 0.0))
    assert noisy.value("validation_accuracy") == noisy.value("memorization_rate") == 1.0
    assert noisy.value("counterfactual_memorization") == 1.0
    assert noisy.value("neighbour_leakage") == 0.0
    assert noise_transfer([noisy.record], [clean.record]).value == 0.0
    assert noisy.data["diagnostics"]["logit_lens"]["status"] == "not_applicable"


def test_a_nearest_neighbour_model_pays_for_every_wrong_label(tmp_path: Path) -> None:
    plugin = tmp_path / "prototypes.py"
    plugin.write_text(PROTOTYPES)
    text = (
        "name: proto\ngenerator: prototypes\nsplits: {train: 2500, selection: 100, validation: 1000}\n"
        "diagnostics: [learning_dynamics]\n"
    )
    runs = {
        rate: [run(tmp_path, "reference-nearest", text, rate, plugin, seed=s).record for s in (0, 1, 2)]
        for rate in (0.2, 0.0)
    }
    assert all(r.value("memorization_rate") == 1.0 for r in runs[0.2])
    transfer = noise_transfer(runs[0.2], runs[0.0])
    assert transfer.value == pytest.approx(1.0, abs=0.3)
    (finding,) = decide_across([*runs[0.2], *runs[0.0]])
    assert finding.verdict == "not_replicated" and "tempered" in finding.reason


def test_a_planted_memory_is_found_where_it_was_put(tmp_path: Path) -> None:
    text = THR[: THR.index("diagnostics:")] + "diagnostics: [{ablation: {examples: 64}}, probe]\n"
    report = run(tmp_path, "reference-planted", text, 0.05)
    assert report.value("validation_accuracy") > 0.8
    assert report.value("memorization_rate") > 0.7
    planted = report.data["data"]["n_noisy"]
    units = report.data["diagnostics"]["ablation"]["details"]["kinds"]["units"]
    assert units["count"] == 2 * 256 + planted
    assert 0 < report.value("k50_units") <= 1.5 * planted
    assert min(units["by_importance"]["memorization_rate"]["value"]) < 0.3
    noise = report.data["diagnostics"]["probe"]["status"]
    assert noise == "success"
