"""Comparisons as sweep files plan them: what they hold fixed, what they can see, and every fault with its line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rote_bench.cli import main
from rote_bench.comparison.rules import Comparison
from rote_bench.errors import UserError
from rote_bench.plugins import Registry
from rote_bench.sweep.cells import plan
from rote_bench.sweep.comparing import Planned, compare
from rote_bench.sweep.contrasts import sees
from rote_bench.sweep.definition import load
from tests.sweep.test_definition import write

HEAD = """name: s
tasks: [tiny.yaml]
models: [gpt2-nano, {model: llama-nano, overrides: {model: {mlp_width: 24}}}]
noise_rates: [0, 0.2, 0.1]
seeds: [0, 1, 2, 3]
"""
TUNING = """tuning:
  seeds: [8, 9]
  configurations:
    slow: {training: {learning_rate: 0.01}}
    fast: {training: {learning_rate: 0.02, schedule: {anneal: 6}}}
"""
CONTRASTS = """contrasts:
  - {name: one, models: [llama-nano, gpt2-nano], metric: noise_transfer, noise_rate: 0.1, sd: 0.05}
"""


def planned(registry: Registry, path: Path) -> Planned:
    definition = load(path)
    found = compare(definition, plan(definition, registry, output=path.parent / "runs"), registry)
    assert found is not None
    return found


def comparison(registry: Registry, folder: Path, text: str = HEAD + TUNING + CONTRASTS) -> Comparison:
    return planned(registry, write(folder, text)).comparison


def faults(registry: Registry, path: Path) -> list[str]:
    with pytest.raises(UserError) as caught:
        planned(registry, path)
    return [line.removeprefix(f"{path}:") for line in str(caught.value).splitlines()]


@pytest.mark.parametrize(
    ("name", "rules"),
    [
        ("two_hop", "3ec17e11"),
        ("two_hop_rates", "11a4853f"),
        ("two_hop_schedules", "a889d627"),
        ("addition", "e2670129"),
    ],
)
def test_the_rules_of_the_comparisons_under_way_stand(registry: Registry, name: str, rules: str) -> None:
    """Another default of a recipe or a diagnostic, or a raised version, makes what was trained useless to them."""
    file = Path(__file__).parents[2] / "leaderboards" / f"{name}.yaml"
    assert planned(registry, file).comparison.rules().startswith(rules)


def test_a_models_overrides_are_stronger_than_all_others(registry: Registry, tmp_path: Path) -> None:
    text = """name: s
tasks: [{task: tiny.yaml, overrides: {model: {width: 8}, training: {max_steps: 20}}}]
models:
  - gpt2-nano
  - {model: llama-nano, overrides: {model: {width: 24}}}
  - {model: mamba-nano, overrides: [model.heads=1]}
overrides: {model: {width: 4}, training: {batch_size: 16}}
"""
    definition = load(write(tmp_path, text))
    found = {job.model: job.spec for job in plan(definition, registry, output=tmp_path)}
    assert {name: (spec.model["width"], spec.model["heads"]) for name, spec in found.items()} == {
        "gpt2-nano": (8, 2),
        "llama-nano": (24, 2),
        "mamba-nano": (8, 1),
    }
    assert {(spec.training.max_steps, spec.training.batch_size) for spec in found.values()} == {(20, 16)}
    assert compare(definition, [], registry) is None


def test_a_tuning_has_defaults_and_a_recipe_for_each_configuration(registry: Registry, tmp_path: Path) -> None:
    found = comparison(registry, tmp_path)
    tuning = found.tuning
    assert tuning is not None and (tuning.noise_rate, tuning.finalists, tuning.memorised, tuning.margin) == (
        *(0.1, 2, 0.98, 1.25),
    )
    assert [(each.task, each.model, len(each.cells)) for each in found.entrants] == [
        ("tiny", "gpt2-nano", 12),
        ("tiny", "llama-nano", 12),
    ]
    for each in found.entrants:
        recipes = {name: (r.learning_rate, r.schedule.anneal, r.batch_size) for name, r in each.recipes.items()}
        assert recipes == {"slow": (0.01, 4, 32), "fast": (0.02, 6, 32)}
    assert found.seeds(found.contrasts[0]) == (4, 4)


def test_what_is_for_people_and_the_order_of_keys_models_and_seeds_are_no_rules(
    registry: Registry, tmp_path: Path
) -> None:
    rules = comparison(registry, tmp_path).rules()
    head = """title: Another title
description: another
tasks: [{task: tiny.yaml, overrides: {title: y}}]
seeds: [3, 2, 1, 0]
noise_rates: [0.1, 0, 0.2]
models: [{model: llama-nano, overrides: {model: {mlp_width: 24}}}, gpt2-nano]
run: {threads_per_cell: 1}
"""
    tuning = TUNING.replace("[8, 9]", "[9, 8]").replace("tuning:\n", "tuning:\n  margin: 1.25\n")
    assert comparison(registry, tmp_path, CONTRASTS + tuning + head + "name: t\n").rules() == rules


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("mlp_width: 24", "mlp_width: 32"),
        ("[0, 0.2, 0.1]", "[0, 0.1]"),
        ("[0, 1, 2, 3]", "[0, 1, 2, 4]"),
        ("[8, 9]", "[8, 10]"),
        ("learning_rate: 0.01", "learning_rate: 0.011"),
        ("tuning:\n", "tuning:\n  margin: 1.5\n"),
        ("tuning:\n", "tuning:\n  noise_rate: 0.2\n"),
        ("sd: 0.05", "sd: 0.06"),
        ("[llama-nano, gpt2-nano]", "[gpt2-nano, llama-nano]"),
        ("name: s\n", "name: s\noverrides: {diagnostics: [learning_dynamics]}\n"),
        ("slow:", "slowest:"),
    ],
)
def test_whatever_decides_a_number_is_a_rule(registry: Registry, tmp_path: Path, old: str, new: str) -> None:
    text = HEAD + TUNING + CONTRASTS
    assert old in text
    rules = comparison(registry, tmp_path).rules()
    assert comparison(registry, tmp_path, text.replace(old, new, 1)).rules() != rules


def test_the_order_of_configurations_is_a_rule_as_it_decides_between_equals(registry: Registry, tmp_path: Path) -> None:
    lines = TUNING.splitlines()
    turned = "\n".join([*lines[:3], lines[4], lines[3]]) + "\n"
    rules = comparison(registry, tmp_path, HEAD + TUNING).rules()
    assert comparison(registry, tmp_path, HEAD + turned).rules() != rules


def test_validate_says_what_each_contrast_can_see(
    registry: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path, HEAD + TUNING + CONTRASTS)
    (line,) = sees(planned(registry, path).comparison)
    assert line.startswith("contrast one: sees a difference of 0.1") and "with 4 and 4 seeds of sd 0.05" in line
    assert main(["validate", str(path)]) == 0
    assert f"{path}: {line}" in capsys.readouterr().out


def test_every_fault_of_shape_has_its_line(registry: Registry, tmp_path: Path) -> None:
    text = """name: s
tasks: [tiny.yaml]
models: [{model: gpt2-nano, overides: {}}, {overrides: {}}]
tuning:
  seeds: [-1]
  configurations:
    Slow: {training: {}}
  finalists: 0
  margin: 0.5
contrasts:
  - {name: one, models: [gpt2-nano], metric: noise_transfer, noise_rate: 1, sd: 0}
  - {models: [gpt2-nano, gpt2-nano]}
"""
    assert faults(registry, write(tmp_path, text)) == [
        "3: models.0.overides: unknown key 'overides' (did you mean 'overrides'?)",
        "3: models.1: the key 'model' is missing",
        "5: tuning.seeds.0: must be at least 0, not -1",
        "6: tuning.configurations: must be two or more, as of one there is nothing to choose",
        "8: tuning.finalists: must be at least 1, not 0",
        "9: tuning.margin: must be at least 1, not 0.5",
        "11: contrasts.0.models: must name two models, not 1",
        "11: contrasts.0.noise_rate: must be below 1, not 1",
        "11: contrasts.0.sd: must be above 0, not 0",
        "12: contrasts.1: the key 'name' is missing",
        "12: contrasts.1: the key 'metric' is missing",
        "12: contrasts.1: the key 'sd' is missing",
        "12: contrasts.1: the key 'noise_rate' is missing",
        "12: contrasts.1.models: names the same thing twice",
    ]


TWO_RATES = CONTRASTS.replace("models: [llama-nano, gpt2-nano]", "model: gpt2-nano").replace(
    "noise_rate: 0.1", "noise_rates: [0.2, 0.1]"
)
TWO_TASKS = CONTRASTS.replace("models: [llama-nano, gpt2-nano]", "model: gpt2-nano, tasks: [tiny-adam, tiny]")


def test_one_model_is_compared_with_itself_at_two_noise_rates_or_at_two_tasks(
    registry: Registry, tmp_path: Path
) -> None:
    rates = comparison(registry, tmp_path, HEAD + TUNING + TWO_RATES)
    (one,) = rates.contrasts
    assert one.sides() == (("tiny", "gpt2-nano", 0.2), ("tiny", "gpt2-nano", 0.1)) and rates.seeds(one) == (4, 4)
    (line,) = sees(rates)
    assert "in noise_transfer of gpt2-nano at noise 0.2 and gpt2-nano at noise 0.1 at tiny, with 4 and 4" in line
    several = HEAD.replace("[tiny.yaml]", "[tiny.yaml, {task: tiny.yaml, profile: adam}]") + TUNING + TWO_TASKS
    tasks = comparison(registry, tmp_path, several)
    (one,) = tasks.contrasts
    assert one.sides() == (("tiny-adam", "gpt2-nano", 0.1), ("tiny", "gpt2-nano", 0.1))
    (line,) = sees(tasks)
    assert "of gpt2-nano at tiny-adam and gpt2-nano at tiny, noise 0.1, with 4 and 4" in line


def test_which_side_is_the_first_is_a_rule(registry: Registry, tmp_path: Path) -> None:
    texts = [HEAD + TUNING + each for each in (TWO_RATES, TWO_RATES.replace("[0.2, 0.1]", "[0.1, 0.2]"), CONTRASTS)]
    assert len({comparison(registry, tmp_path, text).rules() for text in texts}) == 3


CASES: list[tuple[str, dict[str, str], str]] = [
    (
        "both sides alike",
        {"models: [llama-nano, gpt2-nano]": "model: gpt2-nano"},
        "12: contrasts.0: both sides are the same",
    ),
    (
        "sides that differ twice",
        {"noise_rate: 0.1": "noise_rates: [0.1, 0.2]"},
        "12: contrasts.0.noise_rates: both sides differ in models and noise_rates",
    ),
    (
        "a key beside its pair",
        {"noise_rate: 0.1": "noise_rate: 0.1, noise_rates: [0.1, 0.2]"},
        "12: contrasts.0.noise_rate: stands beside noise_rates",
    ),
    (
        "an unknown second rate",
        {"models: [llama-nano, gpt2-nano]": "model: gpt2-nano", "noise_rate: 0.1": "noise_rates: [0.1, 0.3]"},
        "12: contrasts.0.noise_rates.1: gpt2-nano has no cells with noise rate 0.3",
    ),
    (
        "an unknown second task",
        {"models: [llama-nano, gpt2-nano]": "model: gpt2-nano, tasks: [tiny, tinny]"},
        "12: contrasts.0.tasks.1: 'tinny' is no task of this sweep",
    ),
    ("tuning seeds", {"[8, 9]": "[3, 9]"}, "7: the seeds 3 are of the tuning and of cells"),
    ("no wrong labels", {"[0, 0.2, 0.1]": "[0]"}, "6: tuning: its second round needs wrong labels"),
    ("a settle step", {"anneal: 6": "settle: 6"}, "10: tuning.configurations.fast.training.schedule.settle: is what"),
    ("too many steps", {"anneal: 6": "anneal: 99"}, "10: training.schedule.anneal: 12 steps are too few"),
    ("an unknown key", {"{anneal: 6}": "{aneal: 6}"}, "10: training.schedule.aneal: unknown key 'aneal'"),
    ("a wrong type", {"0.01": "much"}, "9: training.learning_rate: must be a number"),
    ("other examples", {"model: {mlp_width: 24}": "splits: {train: 50}"}, "6: llama-nano and gpt2-nano are not given"),
    ("an unknown model", {"[llama-nano, g": "[lama-nano, g"}, "12: contrasts.0.models.0: lama-nano is no model"),
    ("an unknown rate", {"noise_rate: 0.1": "noise_rate: 0.3"}, "12: contrasts.0.noise_rate: llama-nano has no cells"),
    (
        "an unknown metric",
        {"noise_transfer": "noise_tranfer"},
        "12: contrasts.0.metric: unknown metric 'noise_tranfer'",
    ),
    ("too few seeds", {"[0, 1, 2, 3]": "[0, 1, 2]"}, "12: with 3 and 3 seeds p cannot fall below 0.1"),
    ("two tasks", {"[tiny.yaml]": "[tiny.yaml, {task: tiny.yaml, profile: adam}]"}, "12: contrasts.0.task: must say"),
    ("an unknown file", {TUNING: "tuning: other.yaml\n"}, "6: other.yaml: no such file"),
    ("itself", {TUNING: "tuning: sweep.yaml\n"}, "6: sweep.yaml has no tuning of its own"),
    (
        "an arithmetic of the processor's",
        {"seeds: [0,": "overrides: {training: {precision: auto}}\nseeds: [0,"},
        "7: tiny: training.precision is auto, which differs between processors",
    ),
    (
        "two recipes",
        {CONTRASTS: "include: [{seeds: [5], overrides: {training: {batch_size: 8}}}]\n"},
        "6: cells of gpt2-nano at tiny differ in training.batch_size",
    ),
]


@pytest.mark.parametrize(("changes", "says"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_what_does_not_fit_is_refused_before_anything_runs(
    registry: Registry, tmp_path: Path, changes: dict[str, str], says: str
) -> None:
    text = HEAD + TUNING + CONTRASTS
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    found = faults(registry, write(tmp_path, text))
    assert any(line.startswith(says) for line in found), found
    assert not (tmp_path / "runs").exists()


def test_a_name_that_stands_twice_and_a_fourth_contrast_are_refused(registry: Registry, tmp_path: Path) -> None:
    one = CONTRASTS.splitlines()[1]
    twice = write(tmp_path, f"{HEAD}contrasts:\n{one}\n{one}\n")
    assert faults(registry, twice) == ["8: contrasts.1.name: 'one' stands here twice (give each its own)"]
    four = write(tmp_path, f"{HEAD}contrasts:\n" + f"{one}\n" * 4)
    assert faults(registry, four) == ["6: contrasts: has 4 entries, more than the 3 that it may have"]


def other(folder: Path, **changes: Any) -> Path:
    (folder / "other.yaml").write_text(HEAD.replace("name: s", "name: other") + TUNING)
    text = (HEAD + "tuning: other.yaml\n").replace("[0, 1, 2, 3]", "[5]")
    for old, new in changes.items():
        text = text.replace(old, new)
    return write(folder, text)


def test_choices_of_another_file_hold_for_what_it_tuned_in_the_same_way(registry: Registry, tmp_path: Path) -> None:
    found = planned(registry, other(tmp_path)).comparison
    assert found.tuning is not None and found.tuning.seeds == (8, 9)
    wider = planned(registry, other(tmp_path, **{"mlp_width: 24": "mlp_width: 48"}))
    llama = next(each for each in wider.comparison.entrants if each.model == "llama-nano")
    assert llama.spec.model["mlp_width"] == 24 and {spec.model["mlp_width"] for spec, _ in llama.cells} == {48}
    assert faults(registry, other(tmp_path, **{"[gpt2-nano,": "[mamba-nano,"})) == [
        "6: tunes no mamba-nano at tiny (tune it there, or leave it out here)"
    ]
    none = {"[gpt2-nano,": "[mamba-nano,", "llama-nano": "mamba2-nano", "other.yaml\n": f"other.yaml\n{CONTRASTS}"}
    assert [line.split(" (")[0] for line in faults(registry, other(tmp_path, **none))] == [
        "6: tunes no mamba-nano at tiny",
        "6: tunes no mamba2-nano at tiny",
    ]
    more = {"mlp_width: 24}}": "mlp_width: 24}, training: {batch_size: 8}}"}
    assert faults(registry, other(tmp_path, **more)) == ["6: tunes llama-nano at tiny with another training.batch_size"]
    assert faults(registry, other(tmp_path, **{"[5]": "[8]"}))[0].startswith("6: the seeds 8 are of the tuning")
    path = other(tmp_path)
    (tmp_path / "other.yaml").write_text("name: other\ntasks: [tiny.yaml]\nmodels: []\n")
    with pytest.raises(UserError, match=r"other.yaml is not valid\n.*other.yaml:3: models: must not be empty"):
        planned(registry, path)
