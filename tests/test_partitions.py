"""Random partitions share carriers and sizes with what they stand in for, and nothing else."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from rote_bench import plugins
from rote_bench.partitions import carriers_of
from rote_bench.spec.options import build
from rote_bench.tasks.example import Example, Task


def made(name: str, **parameters: object) -> Task:
    cls = plugins.built_in().table("tasks")[name]
    task: Task = cls(build(cls.Parameters, parameters), 3)
    return task


def asked(task: Task, n: int) -> list[Example]:
    return [task.example(i) for i in np.random.default_rng(0).choice(len(task), n, replace=False).tolist()]


@pytest.mark.parametrize(
    ("name", "parameters", "intermediate", "features"),
    [
        ("two_hop", {"form": "symbols", "entities": 16, "bridges": 6, "answers": 8}, "bridge", ("first_hop",)),
        ("addition", {"digits": 2}, "carry_1", ("units_0",)),
        ("addition", {"digits": 2}, "carry_2", ("units_1",)),  # nearly: the carry below decides where digits add to 9
        ("addition", {"digits": 3}, "sum_1", ("units_1",)),
    ],
)
def test_the_coarsest_features_that_decide_carry_an_intermediate_result(
    name: str, parameters: dict[str, object], intermediate: str, features: tuple[str, ...]
) -> None:
    task = made(name, **parameters)
    examples = asked(task, 2000)
    found = carriers_of(examples, intermediate, task.values(intermediate))
    assert found is not None and found.features == features and found.decide
    values = task.values(intermediate)
    told = [found.classes[tuple(e.features[f] for f in features)] for e in examples]
    right = np.mean([values[k] == e.intermediates[intermediate] for k, e in zip(told, examples, strict=True)])
    assert right > 0.9


def test_two_features_carry_what_neither_decides() -> None:
    rng = np.random.default_rng(1)
    pairs = rng.integers(6, size=(800, 2)).tolist()
    examples = [
        Example(
            f"{a} {b}", "", intermediates={"sum": str((a + b) % 6)}, features={"a": str(a), "b": str(b), "id": str(i)}
        )
        for i, (a, b) in enumerate(pairs)
    ]
    found = carriers_of(examples, "sum", [str(k) for k in range(6)])
    assert found is not None and found.features == ("a", "b") and found.decide
    noise = [Example(e.prompt, "", intermediates={"sum": str(rng.integers(6))}, features=e.features) for e in examples]
    none = carriers_of(noise, "sum", [str(k) for k in range(6)])
    assert none is not None and not none.decide
    assert carriers_of([Example("x", "", intermediates={"sum": "0"})], "sum", ["0"]) is None


def test_a_partition_keeps_carriers_together_and_sizes_alike_and_means_nothing() -> None:
    task = made("two_hop", form="symbols", entities=16, bridges=6, answers=8)
    examples, values = asked(task, 2000), task.values("bridge")
    carriers = carriers_of(examples, "bridge", values)
    assert carriers is not None
    own = np.array([values.index(e.intermediates["bridge"]) for e in examples])
    rng = np.random.default_rng(5)
    agree = []
    for _ in range(20):
        dealt = carriers.dealt(examples, rng)
        of: dict[str, int] = {}
        for e, k in zip(examples, dealt.tolist(), strict=True):
            assert of.setdefault(e.features["first_hop"], k) == k
        true = {e.features["first_hop"]: e.intermediates["bridge"] for e in examples}
        assert sorted(Counter(of.values()).values()) == sorted(Counter(true.values()).values())
        agree.append((dealt == own).mean())
    sizes = np.bincount(own) / len(own)
    assert abs(np.mean(agree) - (sizes**2).sum()) < 0.04
