"""Task files: precedence, and every fault at once with its line."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rote_bench.errors import Faults, UserError
from rote_bench.plugins import Registry
from rote_bench.spec.loader import load_task, retrained, schema, shipped
from rote_bench.spec.options import OptionFaults, build, describe
from rote_bench.spec.source import merge, parse, scalar

MINIMAL = """name: small
generator: two_hop
splits: {train: 0.8, selection: 0.1, validation: 0.1}
"""
# each line nine times the one above
LAUGHS = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 9))


def write(folder: Path, text: str, name: str = "task.yaml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def faults(registry: Registry, path: Path, **kwargs: Any) -> list[str]:
    with pytest.raises(UserError) as caught:
        load_task(path, registry, **kwargs)
    return str(caught.value).splitlines()


@pytest.mark.parametrize("name", ["thr", "fda"])
def test_shipped_tasks_and_all_their_profiles_are_valid(registry: Registry, name: str) -> None:
    spec = load_task(name, registry)
    assert spec.name == name and spec.noise.rates == (0.05,)
    profiles = parse(shipped()[name].read_text(), name).data["profiles"]
    assert profiles
    for profile in profiles:
        assert load_task(name, registry, profile=profile).profile == profile


def test_every_fault_is_reported_with_its_line(registry: Registry, tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """name: Bad Name
generater: two_hop
generator: two_hops
splits: {train: 0, selection: 1.5, validation: yes}
noise:
  kind: unform
  rates: [1.5, 0.05]
training:
  learning_rate: fast
  batch_size: 12.5
  schedule: {warmup: -1, hold_untill: 3}
model: {layers: 0}
diagnostics: [logit_lense]
""",
    )
    found = faults(registry, path)
    expected = {
        1: "name:",
        2: "unknown key 'generater' (did you mean 'generator'?)",
        3: "unknown generator 'two_hops' (did you mean 'two_hop'?",
        4: "splits.train: must be a count of at least 1",
        6: "unknown kind of noise 'unform' (did you mean 'uniform'?",
        7: "noise.rates.0: a noise rate must be at least 0 and below 1, not 1.5",
        9: "training.learning_rate: must be a number, not text",
        10: "training.batch_size: must be an integer",
        11: "training.schedule.warmup: -1 is less than 0",
        12: "model.layers:",
        13: "unknown diagnostic 'logit_lense' (did you mean 'logit_lens'?",
    }
    for line, text in expected.items():
        assert any(f.startswith(f"{path}:{line}: ") and text in f for f in found), (line, text, found)
    assert len(found) == len(expected) + 3  # both other splits and the misspelt schedule key


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name: a\nname: b\n", "the key 'name' stands here twice"),
        ("a: [1, 2\n", "is not YAML"),
        ("", "is empty"),
        ("- a\n", "must hold keys and values"),
        ("just words", "must hold keys and values"),
        ("a: !!python/object:os.system x\n", "python/object:os.system' is not allowed"),
        ("a: &a [*a]\n", "levels deep"),
        ("a: " + "[" * 3000 + "]" * 3000, "levels deep"),
        (LAUGHS, "holds more than 30,000 values"),
        ("a: {<<: {b: 1}}\n", "a.<<: merge keys are not supported"),
        ("? [a]\n: b\n", "a key must be plain text"),
        (MINIMAL + "---\n" + MINIMAL, "another document"),
        ("a: \0", "is not YAML"),
        ("a: " + "x" * (1 << 20), "is larger than 1 MiB"),
    ],
)
def test_files_that_are_no_task(registry: Registry, tmp_path: Path, text: str, says: str) -> None:
    found = faults(registry, write(tmp_path, text))
    assert len(found) == 1 and says in found[0]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("training: 5", "training: must be a mapping, not 5"),
        ("seeds: [1]", "seeds: must be a mapping, not a list"),
        ("parameters:", "parameters: must be a mapping, not null"),
        ("seeds: {init: 4294967296}", "seeds.init: 4294967296 is more than"),
        ("profiles: [a]", "profiles: must be a mapping, not a list"),
        ("profiles: {a: 5}", "profiles.a: must be a mapping, not 5"),
        ("profiles: {a: {extends: x.yaml}}", "profiles.a.extends: a profile has no key 'extends'"),
        ("diagnostics: [logit_lens, logit_lens: {}]", "diagnostics.1: 'logit_lens' stands here twice"),
        ("diagnostics: [5]", "diagnostics.0: must be a diagnostic's name or {name: options}, not 5"),
        ("diagnostics: [{logit_lens: 3}]", "diagnostics.0: must be a diagnostic's name"),
        ("diagnostics: [{logit_lens: {no: 3}}]", "diagnostics.0.logit_lens.no: unknown key 'no'"),
        ("noise: {rates: 0.05}", "noise.rates: must be a list, not 0.05"),
        ("noise: {rates: []}", "noise.rates: needs at least one noise rate"),
        ("noise: {rates: [0.1, 0.10]}", "noise.rates: names a noise rate twice"),
        ("noise: {kind: bridge_swap, options: {intermediat: x}}", "noise.options.intermediat: unknown key"),
        ("parameters: {entitys: 4}", "parameters.entitys: unknown key 'entitys' (did you mean 'entities'?)"),
        ("version: 2.0", "version: must be an integer, not 2.0"),
        ("version: " + "9" * 5000, "version: must be an integer, not text ('999"),
        ("training: {learning_rate: 1e999}", "training.learning_rate: must be a number, not text ('1e999')"),
        (
            "training: {evaluate_every: 2000}",
            "training.evaluate_every: 800 steps are too few for an evaluation every 2000",
        ),
        ("training: {optimizer: moun}", "must be one of muon, adamw, not text ('moun') (did you mean 'muon'?)"),
        ("model: {attention: flash}", "model.attention: must be one of eager, sdpa"),
        ("model: {dropout: 1}", "model.dropout: must be below 1, not 1"),
    ],
)
def test_each_fault_has_one_clear_line(registry: Registry, tmp_path: Path, text: str, says: str) -> None:
    path = write(tmp_path, f"{MINIMAL}{text}\n")
    found = faults(registry, path)
    assert len(found) == 1 and says in found[0] and found[0].startswith(f"{path}:4: ")


@pytest.mark.parametrize(
    ("train", "says"), [("5.0", "not 5.0"), ("1.0", "not 1.0"), ("0.95", "add up to 1.15"), ("-1", "not -1")]
)
def test_sizes_of_splits(registry: Registry, tmp_path: Path, train: str, says: str) -> None:
    (fault,) = faults(registry, write(tmp_path, MINIMAL.replace("0.8", train)))
    assert says in fault and ":3: splits" in fault


def test_a_byte_order_mark_is_no_fault(registry: Registry, tmp_path: Path) -> None:
    path = tmp_path / "task.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + MINIMAL.encode())
    assert load_task(path, registry).name == "small"


def test_a_folder_called_like_a_shipped_task_does_not_hide_it(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "thr").mkdir()
    assert load_task("thr", registry).name == "thr"
    with pytest.raises(UserError, match="unknown task 'aaa"):
        load_task("a" * 5000, registry)


def test_paths_that_are_no_task(registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "folder.yaml").mkdir()
    assert "not UTF-8" in faults(registry, tmp_path / "binary.yaml")[0]
    assert "is a folder" in faults(registry, tmp_path / "folder.yaml")[0]
    assert "no such file" in faults(registry, tmp_path / "missing.yaml")[0]
    with pytest.raises(UserError, match=r"unknown task 'thrr'.*did you mean 'thr'"):
        load_task("thrr", registry)


def test_precedence_is_set_then_profile_then_file_then_base(registry: Registry, tmp_path: Path) -> None:
    write(
        tmp_path,
        MINIMAL + "training: {batch_size: 1, max_steps: 1000, weight_decay: 0.1}\nnoise: {rates: [0.1]}\n",
        "base.yaml",
    )
    path = write(
        tmp_path,
        "extends: base.yaml\ntraining: {batch_size: 2, max_steps: 2000}\n"
        "profiles: {fast: {training: {batch_size: 3}, noise: {rates: [0.2, 0.3]}}}\n",
    )
    plain = load_task(path, registry)
    assert (plain.training.batch_size, plain.training.max_steps, plain.training.weight_decay) == (2, 2000, 0.1)
    assert plain.noise.rates == (0.1,)
    fast = load_task(path, registry, profile="fast", overrides=["training.batch_size=4", "seeds.init=7"])
    assert (fast.training.batch_size, fast.noise.rates, fast.seeds.init) == (4, (0.2, 0.3), 7)


def test_faults_of_flags_and_bases_name_their_place(registry: Registry, tmp_path: Path) -> None:
    write(tmp_path, MINIMAL + "training:\n  batch_size: none\n", "base.yaml")
    path = write(tmp_path, "extends: base.yaml\n")
    assert faults(registry, path)[0].startswith(f"{tmp_path / 'base.yaml'}:5: training.batch_size")
    found = faults(registry, path, overrides=["training.batch_size=0", "noise.rates=2"])
    assert any(f.startswith("--set training.batch_size: ") for f in found)
    assert any(f.startswith("--set noise.rates: ") for f in found)
    assert len(faults(registry, path, overrides=["nonsense", "a..b=1", "extends=x", "noise=[1"])) == 4
    profiled = write(tmp_path, MINIMAL + "profiles:\n  fast:\n    training: {batch_size: 0}\n", "profiled.yaml")
    assert faults(registry, profiled, profile="fast")[0].startswith(f"{profiled}:6: training.batch_size")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("nonsense", "--set: cannot understand 'nonsense'"),
        ("a..b=1", "--set: cannot understand"),
        ("=1", "--set: cannot understand"),
        ("extends=x.yaml", "--set extends: extends can only stand in a task file"),
        ("profiles.a.b=1", "--set profiles.a.b: profiles can only stand"),
        ("noise.rates=[1", "--set noise.rates: is not YAML"),
        ("title=x\nversion: 7", "--set title: is not YAML"),
        ("title=a: b", "--set title: must be text, not a mapping"),
        ("title=", "--set title: must be text, not null"),
        ("training.max_steps=60", "--set training.max_steps: 60 steps are too few for warmup 50 and anneal 300"),
        (
            "training.max_steps=20",
            "--set training.max_steps: 20 steps are too few for warmup 50 and anneal 300, together",
        ),
        ("training.schedule.anneal=2000", "--set training.schedule.anneal: "),
        ("training.schedule.warmup=2000", "--set training.schedule.warmup: "),
        ("training.evaluate_every=5000", "--set training.evaluate_every: "),
        ("training.schedule.settle=5", "--set training.schedule.settle: the rate cannot fall after step 5"),
        ("seeds=3", "--set seeds: must be a mapping, not 3"),
        ("seeds={a: 1, a: 2}", "--set seeds: a: the key 'a' stands here twice"),
    ],
)
def test_flags_that_cannot_be_understood(registry: Registry, tmp_path: Path, text: str, says: str) -> None:
    (fault,) = faults(registry, write(tmp_path, MINIMAL), overrides=[text])
    assert fault.startswith(says)


def test_a_circle_of_extends_is_refused(registry: Registry, tmp_path: Path) -> None:
    path = write(tmp_path, "extends: task.yaml\n")
    assert "circle" in faults(registry, path)[0]
    path = write(tmp_path, "extends: gone.yaml\n")
    assert "is no file" in faults(registry, path)[0]


def test_the_hash_follows_the_content_alone(registry: Registry, tmp_path: Path) -> None:
    one = load_task(write(tmp_path, MINIMAL + "title: one\n"), registry)
    two = load_task(write(tmp_path, MINIMAL + "title: two\ntraining: {batch_size: 7}\n"), registry)
    other = load_task(write(tmp_path, MINIMAL + "parameters: {relations: 7}\n"), registry)
    assert one.content_hash() == two.content_hash() != other.content_hash()


def test_options_are_spelled_out_however_they_were_given(registry: Registry, tmp_path: Path) -> None:
    short = MINIMAL + "noise: {kind: bridge_swap}\ndiagnostics: [activation_patching]\n"
    spelled = MINIMAL + (
        "noise: {kind: bridge_swap, options: {intermediate: ''}}\ndiagnostics: [{activation_patching: {}}]\n"
    )
    one, two = (load_task(write(tmp_path, text), registry) for text in (short, spelled))
    assert one.noise.options == {"intermediate": ""}
    assert one.diagnostics[0].options
    assert one.content_hash() == two.content_hash() and one.resolved() == two.resolved()
    assert str(tmp_path) not in json.dumps(one.resolved(), allow_nan=False)


def test_a_spec_knows_where_its_keys_were_given(registry: Registry, tmp_path: Path) -> None:
    path = write(tmp_path, MINIMAL + "noise:\n  kind: uniform\n")
    spec = load_task(path, registry, overrides=["seeds.init=3"])
    assert spec.place("noise.kind") == f"{path}:5"
    assert spec.place("noise.options.matrix") == f"{path}:4"  # the nearest that was given
    assert spec.place("seeds.init") == "--set seeds.init"
    assert spec.place("parameters.entities") == str(path)


def test_the_schema_describes_every_key() -> None:
    from jsonschema import Draft202012Validator

    Draft202012Validator.check_schema(schema())
    for key, part in schema()["properties"].items():
        assert "description" in part or "properties" in part or key in ("name",), key
    assert set(schema()["properties"]["training"]["properties"]) >= {"learning_rate", "schedule", "stop_at"}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("yes", "yes"),
        ("1e-3", 0.001),
        ("010", 10),
        ("0.5", 0.5),
        ("~", None),
        ("true", True),
        ("-3", -3),
        (".5", 0.5),
        ("1_000", "1_000"),
        ("1e999", "1e999"),
        (".inf", ".inf"),
    ],
)
def test_scalars_mean_what_people_think(text: str, value: Any) -> None:
    assert scalar(text) == value and type(scalar(text)) is type(value)


@given(
    st.recursive(
        st.integers() | st.booleans() | st.none() | st.floats(allow_nan=False, allow_infinity=False),
        lambda c: st.dictionaries(st.sampled_from("abcde"), c, min_size=1) | st.lists(c),
    )
)
def test_plain_data_survives_yaml(value: Any) -> None:
    import yaml

    assert parse(yaml.safe_dump({"key": value}), "x").data["key"] == value


@given(st.dictionaries(st.sampled_from("abc"), st.integers()), st.dictionaries(st.sampled_from("abc"), st.integers()))
def test_merging_prefers_the_second(a: dict[str, int], b: dict[str, int]) -> None:
    merged = merge(parse(f"x: {a}".replace("'", ""), "a"), parse(f"x: {b}".replace("'", ""), "b"))
    assert merged.data["x"] == {**a, **b}


@dataclass(frozen=True)
class Inner:
    """Inside.

    Attributes:
        depth: how deep.
    """

    depth: int = field(default=1, metadata={"min": 1})


@dataclass(frozen=True)
class Outer:
    """Outside.

    Attributes:
        ratio: a share
            of things.
        kind, other: two names.
    """

    ratio: float = field(metadata={"min": 0, "max": 1})
    kind: Literal["a", "b"] = "a"
    other: str | None = None
    inner: Inner = Inner()
    pair: tuple[int, float] = (1, 2.0)
    many: tuple[str, ...] = ()


def test_options_are_built_and_typed() -> None:
    built = build(Outer, {"ratio": 1, "inner": {"depth": 3}, "pair": [2, 3], "many": ["x"]})
    assert built == Outer(1.0, inner=Inner(3), pair=(2, 3.0), many=("x",))
    assert isinstance(built.ratio, float)


@pytest.mark.parametrize(
    ("data", "paths"),
    [
        ({}, [()]),
        ({"ratio": True}, [("ratio",)]),
        ({"ratio": 2, "kind": "c", "inner": {"depth": 0}}, [("ratio",), ("kind",), ("inner", "depth")]),
        ({"ratio": 0, "pair": [1], "many": [1, "x", 2]}, [("pair",), ("many", 0), ("many", 2)]),
        ({"ratio": 0, "inner": {"dept": 1}, "other": 3}, [("inner", "dept"), ("other",)]),
        ({"ratio": float("nan")}, [("ratio",)]),
        ({"ratio": 10**400}, [("ratio",)]),
    ],
)
def test_options_report_every_fault(data: dict[str, Any], paths: list[tuple[Any, ...]]) -> None:
    with pytest.raises(OptionFaults) as caught:
        build(Outer, data)
    assert [f.path for f in caught.value.faults] == paths


def test_options_describe_themselves() -> None:
    described = {o.name: o for o in describe(Outer)}
    assert described["ratio"].required and described["ratio"].description == "a share of things."
    assert described["kind"].description == described["other"].description == "two names."
    assert described["kind"].type == "`a` or `b`"


def test_faults_print_one_line_each() -> None:
    both = Faults([UserError("a", where="x:1"), UserError("b", hint="c")])
    assert str(both) == "x:1: a\nb (c)"


def test_a_training_with_other_values_is_checked_as_the_files_own(registry: Registry) -> None:
    spec = load_task("thr", registry, profile="compact")
    over = parse("training: {learning_rate: 0.008, schedule: {anneal: 300}}", "over.yaml")
    found = retrained(spec, over).training
    whole = load_task("thr", registry, profile="compact", overrides=[over]).training
    assert found == whole != spec.training and found.schedule.hold_until == spec.training.schedule.hold_until
    with pytest.raises(Faults) as caught:
        retrained(spec, parse("training:\n  learning_rate: x\n  batch_sizes: 3", "over.yaml"))
    assert [fault.where for fault in caught.value.faults] == ["over.yaml:2", "over.yaml:3"]
    with pytest.raises(Faults, match=r"over.yaml:2: training.schedule.anneal: 1100 steps are too few"):
        retrained(spec, parse("training:\n  schedule: {anneal: 2000}", "over.yaml"))


def test_a_task_that_names_no_diagnostics_has_all_but_those_that_must_be_asked_for(
    tmp_path: Path, registry: Registry
) -> None:
    file = tmp_path / "task.yaml"
    file.write_text("name: small\ngenerator: addition\nsplits: {train: 80, selection: 10, validation: 10}\n")
    named = {each.name for each in load_task(file, registry).diagnostics}
    assert set(registry.table("diagnostics")) - named == {"memorization_reuse"}
    asked = load_task(file, registry, overrides=["diagnostics=[memorization_reuse]"])
    assert [each.name for each in asked.diagnostics] == ["memorization_reuse"]
