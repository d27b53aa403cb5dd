"""The question that stands as an example."""

from __future__ import annotations

from typing import Any

import pytest

from rote_bench.leaderboard.page.asked import asked, question
from rote_bench.plugins import Registry, built_in
from rote_bench.spec.loader import load_task, shipped


@pytest.fixture(scope="module")
def registry() -> Registry:
    return built_in()


def task(name: str, profile: str | None, content: str = "0" * 64) -> dict[str, Any]:
    return {"task": f"{name} {profile}", "name": name, "profile": profile, "content_hash": content}


def test_a_question_of_each_shipped_task_is_right_but_for_its_label_and_the_same_every_time(registry: Registry) -> None:
    found = asked([task("thr", None), task("fda", None), task("nobody's", None), task("thr", "no such")], registry)
    assert sorted(found) == ["fda None", "thr None"]
    assert found == asked([task("thr", None), task("fda", None)], registry)
    for one in found.values():
        assert one.label != one.answer and one.about and one.steps and not one.own
    digits = [part.split() for part in found["fda None"].prompt.removesuffix(" =").split(" + ")]
    a, b = (int("".join(part)) for part in digits)
    assert int("".join(reversed(found["fda None"].answer.split()))) == a + b
    assert " 's" not in found["thr None"].prompt and "'s " in found["thr None"].prompt  # as ordinary text


def test_it_says_whether_the_examples_are_those_of_the_shipped_file(registry: Registry) -> None:
    file = shipped()["thr"]
    own = load_task(file, registry, profile="compact").content_hash()
    assert question(file, "compact", own, registry).own
    assert not question(file, "compact", "0" * 64, registry).own
