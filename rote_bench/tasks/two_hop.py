"""Two-hop reasoning (THR): who is the mentor of the teacher of Ada?

Entities stand in three layers. Every relation leads from each entity to one of the next layer, so a
two-hop question passes through exactly one bridge entity. Facts are either learned into the weights, as
training examples of their own, or stated in the prompt.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from .example import Example, Span, Task
from .words import names, relations

LARGEST = 5_000_000


@dataclass(frozen=True)
class TwoHopParameters:
    """Size and form of the two-hop task.

    Attributes:
        facts: ``weights`` teaches the facts as training examples, ``prompt`` states them in each prompt.
        form: ``words`` asks in words (``Ada 's teacher 's mentor is``), ``question`` in a whole question (``Who is the
            mentor of the teacher of Ada ?``), ``symbols`` with nothing but entity and relations.
        entities: entities asked about (layer 0).
        bridges: bridge entities (layer 1); keep well below the model's width, or erasing them erases everything.
        answers: answer entities (layer 2).
        relations: number of relations.
        chains: with facts in the prompt, the number of chains that each prompt states.
        pool: with facts in the prompt, the number of different prompts.
    """

    facts: Literal["weights", "prompt"] = "weights"
    form: Literal["words", "question", "symbols"] = "words"
    entities: int = field(default=40, metadata={"min": 1})
    bridges: int = field(default=12, metadata={"min": 2})
    answers: int = field(default=20, metadata={"min": 2})
    relations: int = field(default=24, metadata={"min": 1})
    chains: int = field(default=2, metadata={"min": 1})
    pool: int = field(default=200_000, metadata={"min": 3})

    def __post_init__(self) -> None:
        facts = (self.entities + self.bridges) * self.relations
        if self.facts == "weights" and facts > LARGEST:
            raise ValueError(f"{facts:,} facts do not fit in memory; the most is {LARGEST:,}")


FORMS = {
    "words": "{entity} 's {relation_1} 's {relation_2} is",
    "question": "Who is the {relation_2} of the {relation_1} of {entity} ?",
    "symbols": "{entity} {relation_1} {relation_2}",
}
FACT_FORMS = {
    "words": "{entity} 's {relation_1} is",
    "question": "Who is the {relation_1} of {entity} ?",
    "symbols": "{entity} {relation_1}",
}


class _Text:
    """Builds a prompt word by word and remembers the span of the words that carry meaning."""

    def __init__(self) -> None:
        self.words: list[str] = []
        self.spans: dict[str, Span] = {}
        self.length = 0

    def add(self, text: str, **named: str) -> None:
        """Append a template of words; ``{name}`` fields become named positions."""
        for word in text.split():
            field = word[1:-1] if word.startswith("{") else None
            shown = named[field] if field else word
            start = self.length + bool(self.words)
            self.words.append(shown)
            self.length = start + len(shown)
            if field:
                self.spans[field] = (start, self.length)

    def __str__(self) -> str:
        return " ".join(self.words)


class TwoHop(Task):
    """Questions over two facts; the bridge entity between them is the intermediate result."""

    name = "two_hop"
    version = 1
    description = "Two-hop reasoning over facts in the weights or in the prompt; the bridge entity is never shown."
    Parameters: ClassVar[type] = TwoHopParameters

    def __init__(self, parameters: TwoHopParameters, seed: int) -> None:
        super().__init__(parameters, seed)
        p = parameters
        people = p.entities + p.bridges + p.answers
        if p.form == "symbols":
            pool = [f"e{i}" for i in range(people)]
            self.relations = [f"r{i}" for i in range(p.relations)]
        else:
            pool = names(people)
            self.relations = relations(p.relations)
        self.entities = pool[: p.entities]
        self.bridges = pool[p.entities : p.entities + p.bridges]
        self.targets = pool[p.entities + p.bridges :]
        rng = random.Random(f"facts-{seed}")
        self.first_hop = {(e, r): rng.choice(self.bridges) for e in self.entities for r in self.relations}
        self.second_hop = {(b, r): rng.choice(self.targets) for b in self.bridges for r in self.relations}

    def __len__(self) -> int:
        if self.parameters.facts == "prompt":
            return int(self.parameters.pool)
        return len(self.entities) * len(self.relations) ** 2

    def example(self, index: int) -> Example:
        n = len(self.relations)
        e, r1, r2 = self.entities[index // n**2], self.relations[index // n % n], self.relations[index % n]
        bridge = self.first_hop[e, r1]
        return self._question(_Text(), e, r1, r2, bridge, self.second_hop[bridge, r2])

    def _question(self, text: _Text, e: str, r1: str, r2: str, bridge: str, answer: str) -> Example:
        text.add(FORMS[self.parameters.form], entity=e, relation_1=r1, relation_2=r2)
        return Example(
            prompt=str(text),
            answer=answer,
            positions=text.spans,
            intermediates={"bridge": bridge},
            features={"entity": e, "relation_1": r1, "relation_2": r2, "first_hop": f"{e} {r1}"},
            group=bridge,
        )

    def facts(self) -> Sequence[Example]:
        """Every single fact as a one-hop question; none when the prompts state them."""
        if self.parameters.facts == "prompt":
            return ()
        out = []
        for (e, r), answer in [*self.first_hop.items(), *self.second_hop.items()]:
            text = _Text()
            text.add(FACT_FORMS[self.parameters.form], entity=e, relation_1=r)
            out.append(Example(str(text), answer, text.spans, features={"entity": e, "relation_1": r}, group=e))
        return out

    def words(self) -> Iterable[str]:
        return [*self.entities, *self.bridges, *self.targets, *self.relations, "Who", "is", "the", "of", "?", "'s"]

    def answers(self, example: Example) -> Sequence[str]:
        return self.targets

    def near_misses(self, example: Example) -> Sequence[str]:
        """Where the other relations of the same bridge lead."""
        bridge = example.intermediates["bridge"]
        return sorted({self.second_hop[bridge, r] for r in self.relations} - {example.answer})

    def values(self, intermediate: str) -> Sequence[str]:
        return self.bridges if intermediate == "bridge" else ()

    def answer_if(self, example: Example, intermediate: str, value: str) -> str | None:
        if intermediate != "bridge" or value not in self.bridges:
            return None
        return self.second_hop[value, example.features["relation_2"]]

    def neighbours(self, example: Example) -> Mapping[str, Sequence[int]]:
        """Questions with the same first hop and another second relation, or the same relations of another entity."""
        n = len(self.relations)
        e = self.entities.index(example.features["entity"])
        r1 = self.relations.index(example.features["relation_1"])
        r2 = self.relations.index(example.features["relation_2"])
        return {
            "same_first_hop": [(e * n + r1) * n + other for other in range(n) if other != r2],
            "same_relations": [(other * n + r1) * n + r2 for other in range(len(self.entities)) if other != e],
        }
