"""What a run says of its examples before it trains."""

from __future__ import annotations

from pathlib import Path

import pytest

from rote_bench.cli import main


def task(folder: Path, rate: float, rows: int = 200) -> str:
    """A table of which one value of a feature stands in three of five rows, the other in the rest."""
    lines = [f"q{i},{'xyz'[i % 3]},{'ab'[i % 5 > 2]}" for i in range(rows)]
    (folder / "rows.csv").write_text("\n".join(["prompt,answer,kind", *lines]))
    (folder / "task.yaml").write_text(
        f"""name: table
generator: dataset
parameters: {{path: rows.csv, features: [kind]}}
splits: {{train: 120, selection: 40, validation: 40}}
noise: {{kind: structured, rates: [{rate}]}}
model: {{layers: 1, width: 16, heads: 2}}
training: {{max_steps: 20, evaluate_every: 10, schedule: {{warmup: 1, anneal: 2}}}}
diagnostics: [learning_dynamics]
"""
    )
    return str(folder / "task.yaml")


@pytest.mark.parametrize(("rate", "said"), [(0.5, True), (0.4, False)])
def test_a_rule_that_covers_another_share_than_was_asked_for_says_so(
    rate: float, said: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seeds = ["--seed", "1"]
    assert main(["run", task(tmp_path, rate), "--model", "gpt2-nano", "--dry-run", *seeds]) == 0
    assert (f"where {rate:g} was asked for" in capsys.readouterr().err) is said
