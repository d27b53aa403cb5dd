"""What stands first where no published comparison says it."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from rote_bench.leaderboard.page.headline import headline, names

from ..boards import board

GIVEN = board(rates=(0.0, 0.05), comparisons=False)["tasks"][0]


def task(change: dict[str, tuple[int, int] | None]) -> dict[str, Any]:
    """The task with other ranks; models that are not named have none."""
    made: dict[str, Any] = copy.deepcopy(GIVEN)
    for row in made["rows"]:
        row["rank_low"], row["rank_high"] = change.get(row["model"]) or (None, None)
    return made


def test_a_published_comparison_speaks_for_itself() -> None:
    published = board(rates=(0.0, 0.05), seeds=3)["tasks"][0]
    assert headline(published) == published["comparison"]["sentences"]


def test_one_that_is_first_is_named_with_its_interval() -> None:
    said = str(headline(task({"mamba-nano": (1, 1), "mamba2-nano": (2, 3), "gpt2-nano": (2, 3)}))["result"])
    assert said.startswith("mamba-nano loses least: 0.06, 95 % interval 0.04 to 0.07 of a held-out answer")
    assert said.endswith("costing less than 0.1 of an answer per wrong label, for mamba-nano.")


def test_several_that_may_be_first_are_not_ordered() -> None:
    said = str(headline(task({"mamba-nano": (1, 2), "mamba2-nano": (1, 2), "gpt2-nano": (3, 3)}))["result"])
    assert said.startswith("mamba-nano and mamba2-nano lose least, 0.06 to 0.08") and "not ordered" in said


def test_where_none_is_told_apart_that_is_the_result() -> None:
    said = headline(task({"gpt2-nano": (1, 2), "qwen3-nano": (1, 2)}))
    assert str(said["result"]).startswith("No model can be told from every other: the 2 ranked lose")
    assert "For none is memorising known to be benign" in str(said["result"])


def test_one_ranked_model_none_and_none_with_wrong_labels() -> None:
    assert str(headline(task({"gpt2-nano": (1, 1)}))["result"]).startswith("One model alone can be ranked: gpt2-nano")
    assert headline(task({}))["result"] == "No model can be ranked: 8 were tried, and each has a reason below."
    assert headline({**GIVEN, "rows": [], "main_rate": None})["certainty"] == "Nothing can be said."


def test_how_sure_counts_pairs_seeds_and_who_is_missing() -> None:
    apart = sum(c["p_family"] < 0.05 for c in GIVEN["comparisons"])
    said = str(headline(GIVEN)["certainty"])
    assert said.startswith(
        f"{apart} of 21 pairs of models are told apart at 5 % over all pairs; two that are not could"
    )
    assert said.endswith("10 seeds a model; 1 model is not ranked.") and 0 < apart < 21


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (["a"], "a"),
        (["a", "b"], "a and b"),
        (["a", "b", "c"], "a, b and c"),
        (["a", "b", "c", "d", "e"], "a, b, c and 2 others"),
    ],
)
def test_lists_of_names(found: list[str], said: str) -> None:
    assert names(found) == said
