"""Reasoning over any number of hops: the same facts serve questions of every length."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from rote_bench.plugin import Example, Span, Task, hookimpl


@dataclass(frozen=True)
class Parameters:
    """Size and form of the task.

    Attributes:
        hops: facts that a question runs through.
        entities: entities; every relation leads from each of them to another.
        relations: number of relations.
    """

    hops: int = field(default=3, metadata={"min": 2, "max": 8})
    entities: int = field(default=12, metadata={"min": 3})
    relations: int = field(default=8, metadata={"min": 2})


class MultiHop(Task):
    """``e4 r1 r0 r7`` leads to ``e9``: three relations followed from e4.

    One graph of facts serves all hops, so that an entity can start a question, lie on its way or answer it. The
    entities on the way are the intermediate results ``after_1``, ``after_2``, ...
    """

    name = "multi_hop"
    version = 1
    description = "Questions over several facts of one graph; the entities on the way are never shown."
    Parameters: ClassVar[type] = Parameters
    spec_file = Path(__file__).with_name("multi_hop.yaml")

    def __init__(self, parameters: Any, seed: int) -> None:
        super().__init__(parameters, seed)
        self.entities = [f"e{i}" for i in range(parameters.entities)]
        self.relations = [f"r{i}" for i in range(parameters.relations)]
        rng = random.Random(f"multi-hop-{seed}")
        self.fact: dict[tuple[str, str], str] = {}
        for relation in self.relations:  # a permutation: no answer is more frequent than another
            shuffled = rng.sample(self.entities, len(self.entities))
            self.fact.update({(e, relation): to for e, to in zip(self.entities, shuffled, strict=True)})

    def __len__(self) -> int:
        return len(self.entities) * int(len(self.relations) ** self.parameters.hops)

    def _parts(self, index: int) -> tuple[str, list[str]]:
        path = []
        for _ in range(self.parameters.hops):
            index, r = divmod(index, len(self.relations))
            path.append(self.relations[r])
        return self.entities[index], path[::-1]

    def follow(self, entity: str, path: Iterable[str]) -> list[str]:
        """The entities reached, one for each relation."""
        reached = []
        for relation in path:
            entity = self.fact[entity, relation]
            reached.append(entity)
        return reached

    def example(self, index: int) -> Example:
        entity, path = self._parts(index)
        reached = self.follow(entity, path)
        words, start = [entity, *path], 0
        spans: dict[str, Span] = {}
        for name, word in zip(["entity", *(f"relation_{k}" for k in range(1, len(words)))], words, strict=True):
            spans[name] = (start, start + len(word))
            start += len(word) + 1
        return Example(
            prompt=" ".join(words),
            answer=reached[-1],
            positions=spans,
            intermediates={f"after_{k}": e for k, e in enumerate(reached[:-1], 1)},
            features={"entity": entity, **{f"relation_{k}": r for k, r in enumerate(path, 1)}},
            group=f"{entity} {path[0]}",
        )

    def facts(self) -> Sequence[Example]:
        """Every fact as a question of one hop, always with its true answer."""
        return [
            Example(f"{e} {r}", to, {"entity": (0, len(e)), "relation_1": (len(e) + 1, len(e) + 1 + len(r))}, group=e)
            for (e, r), to in self.fact.items()
        ]

    def words(self) -> Iterable[str]:
        return [*self.entities, *self.relations]

    def answers(self, example: Example) -> Sequence[str]:
        return self.entities

    def near_misses(self, example: Example) -> Sequence[str]:
        """Entities on the way: the answer to a part of the question."""
        return sorted(set(example.intermediates.values()) - {example.answer})

    def values(self, intermediate: str) -> Sequence[str]:
        return self.entities if intermediate.startswith("after_") else ()

    def answer_if(self, example: Example, intermediate: str, value: str) -> str | None:
        if value not in self.entities or intermediate not in example.intermediates:
            return None
        hop = int(intermediate.removeprefix("after_"))
        rest = [example.features[f"relation_{k}"] for k in range(hop + 1, int(self.parameters.hops) + 1)]
        return self.follow(value, rest)[-1]

    def neighbours(self, example: Example) -> Mapping[str, Sequence[int]]:
        """Questions that differ in the last relation, and in the entity."""
        n, hops = len(self.relations), int(self.parameters.hops)
        index = self.entities.index(example.features["entity"])
        for k in range(1, hops + 1):
            index = index * n + self.relations.index(example.features[f"relation_{k}"])
        block = n**hops
        return {
            "last_relation": [index - index % n + r for r in range(n) if r != index % n],
            "entity": [e * block + index % block for e in range(len(self.entities)) if e != index // block],
        }


@hookimpl
def register_tasks(register: Callable[[type[Task]], None]) -> None:
    register(MultiHop)
