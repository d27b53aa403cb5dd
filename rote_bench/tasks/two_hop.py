"""Two-hop reasoning (THR): who is the mentor of the teacher of Ada?

Entities stand in three layers. Every relation leads from each entity to one of the next layer, so a
two-hop question passes through exactly one bridge entity. Facts are either learned into the weights, as
training examples of their own, or stated in the prompt.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar, Literal

from ..errors import UserError
from .example import Example, Span, Task
from .words import names, relations

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LARGEST = 5_000_000
COMPARED = 2_000_000_000  # answers of pairs of rows, which takes some seconds
LEARNABLE = 12  # two-hop questions for each fact; with fewer, generalising and memorising come together


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
        chains: with facts in the prompt, the number of chains of two facts that each prompt states, in random order.
        pool: with facts in the prompt, the number of different prompts to draw from.
        reading: with facts in the prompt, the number of prompts whose facts are asked for one by one, always clean.
    """

    facts: Literal["weights", "prompt"] = "weights"
    form: Literal["words", "question", "symbols"] = "words"
    entities: int = field(default=40, metadata={"min": 1})
    bridges: int = field(default=12, metadata={"min": 2})
    answers: int = field(default=20, metadata={"min": 2})
    relations: int = field(default=24, metadata={"min": 1})
    chains: int = field(default=2, metadata={"min": 1})
    pool: int = field(default=1_000_000, metadata={"min": 3})
    reading: int = field(default=10_000, metadata={"min": 0})

    def __post_init__(self) -> None:
        facts = (self.entities + self.bridges) * self.relations
        if self.facts == "weights" and facts > LARGEST:
            raise ValueError(f"{facts:,} facts do not fit in memory; the most is {LARGEST:,}")
        fewest = min(self.entities, self.bridges, self.answers)
        if self.facts == "prompt" and self.chains > fewest:
            raise ValueError(f"{self.chains} chains need as many entities, bridges and answers, but there are {fewest}")


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

STATED_FORMS = {
    "words": "{subject} 's {relation} is {thing} ;",
    "question": "{subject} 's {relation} is {thing} ;",
    "symbols": "{subject} {relation} {thing} ;",
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
    version = 2
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
        if p.facts == "prompt":
            return
        rng = random.Random(f"facts-{seed}")
        self.first_hop = {(e, r): rng.choice(self.bridges) for e in self.entities for r in self.relations}
        self.second_hop = {(b, r): rng.choice(self.targets) for b in self.bridges for r in self.relations}

    def __len__(self) -> int:
        if self.parameters.facts == "prompt":
            return int(self.parameters.pool)
        return len(self.entities) * len(self.relations) ** 2

    def example(self, index: int) -> Example:
        if self.parameters.facts == "prompt":
            chains, text, rng = self._context("query", index)
            e, r1, bridge, r2, answer = rng.choice(chains)
            return self._question(text, e, r1, r2, bridge, answer)
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
            joined=True,
        )

    def _context(self, kind: str, index: int) -> tuple[list[tuple[str, str, str, str, str]], _Text, random.Random]:
        """The chains that a prompt states, its text so far, and the generator of what follows."""
        rng = random.Random(f"{kind}-{self.seed}-{index}")
        n = self.parameters.chains
        people = zip(
            rng.sample(self.entities, n), rng.sample(self.bridges, n), rng.sample(self.targets, n), strict=True
        )
        chains = [(e, rng.choice(self.relations), b, rng.choice(self.relations), a) for e, b, a in people]
        stated = [fact for e, r1, b, r2, a in chains for fact in ((e, r1, b), (b, r2, a))]
        rng.shuffle(stated)
        text = _Text()
        for subject, relation, thing in stated:
            text.add(STATED_FORMS[self.parameters.form].format(subject=subject, relation=relation, thing=thing))
        return chains, text, rng

    def _reading(self) -> list[Example]:
        """Questions that are answered by reciting all facts of their prompts in a random order.

        One-hop questions in a row: a single answer per prompt teaches reading too slowly.
        """
        out = []
        stated = STATED_FORMS[self.parameters.form]
        asked = FACT_FORMS[self.parameters.form]
        for index in range(self.parameters.reading):
            chains, text, rng = self._context("reading", index)
            facts = [fact for e, r1, b, r2, a in chains for fact in ((e, r1, b), (b, r2, a))]
            rng.shuffle(facts)
            (subject, relation, thing), *others = facts
            text.add(asked, entity=subject, relation_1=relation)
            rest = (stated.format(subject=s, relation=r, thing=t) for s, r, t in others)
            out.append(Example(str(text), " ".join([thing, ";", *rest]), text.spans, group=subject, joined=True))
        return out

    def facts(self) -> Sequence[Example]:
        """Every single fact as a one-hop question, or one-hop questions about the facts that prompts state."""
        if self.parameters.facts == "prompt":
            return self._reading()
        out = []
        for (e, r), answer in [*self.first_hop.items(), *self.second_hop.items()]:
            text = _Text()
            text.add(FACT_FORMS[self.parameters.form], entity=e, relation_1=r)
            features = {"entity": e, "relation_1": r}
            out.append(Example(str(text), answer, text.spans, features=features, group=e, joined=True))
        return out

    def words(self) -> Iterable[str]:
        return [*self.entities, *self.bridges, *self.targets, *self.relations, "Who", "is", "the", "of", "?", "'s", ";"]

    def answers(self, example: Example) -> Sequence[str]:
        return self.targets

    def near_misses(self, example: Example) -> Sequence[str]:
        """Where the other relations of the same bridge lead, or the other answers that the prompt states."""
        if self.parameters.facts == "prompt":
            return sorted(set(self.targets).intersection(example.prompt.split()) - {example.answer})
        bridge = example.intermediates["bridge"]
        return sorted({self.second_hop[bridge, r] for r in self.relations} - {example.answer})

    def values(self, intermediate: str) -> Sequence[str]:
        return self.bridges if intermediate == "bridge" else ()

    def answer_if(self, example: Example, intermediate: str, value: str) -> str | None:
        if intermediate != "bridge" or value not in self.bridges:
            return None
        if self.parameters.facts == "prompt":
            return self._stated_answer(example, value)
        return self.second_hop[value, example.features["relation_2"]]

    def _stated_answer(self, example: Example, bridge: str) -> str | None:
        """Where the prompt's own fact about another bridge leads."""
        words = example.prompt[: min(start for start, _ in example.positions.values())].split()
        size = len(STATED_FORMS[self.parameters.form].split())
        stated = (words[i : i + size] for i in range(0, len(words) - size + 1, size))
        return next((fact[-2] for fact in stated if fact[0] == bridge), None)

    def neighbours(self, example: Example) -> Mapping[str, Sequence[int]]:
        """Questions that share two things with this one: entity and first relation, both relations, bridge and second
        relation, or entity and second relation."""
        if self.parameters.facts == "prompt":
            return {}
        n = len(self.relations)
        e = self.entities.index(example.features["entity"])
        r1 = self.relations.index(example.features["relation_1"])
        r2 = self.relations.index(example.features["relation_2"])
        row = e * n + r1
        return {
            "same_first_hop": [row * n + other for other in range(n) if other != r2],
            "same_relations": [(other * n + r1) * n + r2 for other in range(len(self.entities)) if other != e],
            "same_bridge_and_relation": [
                other * n + r2 for other in self._rows_to[example.intermediates["bridge"]] if other != row
            ],
            "same_entity_and_relation": [(e * n + other) * n + r2 for other in range(n) if other != r1],
        }

    @cached_property
    def _rows_to(self) -> dict[str, list[int]]:
        """Bridge -> the rows (entity, first relation) that lead there."""
        rows: dict[str, list[int]] = {bridge: [] for bridge in self.bridges}
        for row, bridge in enumerate(self.first_hop.values()):
            rows[bridge].append(row)
        return rows

    def least_train(self) -> int:
        facts = (len(self.entities) + len(self.bridges)) * len(self.relations)
        return 0 if self.parameters.facts == "prompt" else LEARNABLE * facts

    def set_apart(self, count: int, seed: int) -> Sequence[int]:
        """All questions of as many rows (entity, first relation) as it takes; training sees these as facts alone."""
        if self.parameters.facts == "prompt":
            return super().set_apart(count, seed)
        n, rows = len(self.relations), len(self.first_hop)
        needed = -(-count // n)
        if needed >= rows:
            raise UserError(
                f"{count} questions are {needed} of {rows} rows of an entity and a first relation",
                where="splits.ood",
                hint="lower it: the other splits need rows too",
            )
        chosen = random.Random(f"rows-{seed}").sample(range(rows), needed)
        return [row * n + column for row in chosen for column in range(n)]

    def nearest(
        self, train: Sequence[int], labels: Sequence[str], asked: Sequence[int], k: int
    ) -> NDArray[np.int64] | None:
        """The same second relation in the rows (entity, first relation) whose trained answers agree most with its own.

        Rows are compared over the second relations that both were trained on, by the share of equal answers. Of equals
        the earlier row comes first.
        """
        import numpy as np

        apart = self._apart(train, labels)
        if apart is None:
            return None
        n = len(self.relations)
        place = np.full((len(apart), n), -1)
        place[np.divmod(np.asarray(train), n)] = np.arange(len(train))
        order = np.argsort(apart, axis=1, kind="stable")
        out = np.full((len(asked), k), -1)
        for i, (row, column) in enumerate(zip(*np.divmod(np.asarray(asked), n), strict=True)):
            found = place[order[row], column]
            found = found[found >= 0][:k]
            out[i, : len(found)] = found
        return out

    def distances(
        self, train: Sequence[int], labels: Sequence[str], asked: Sequence[int], among: Sequence[Sequence[int]], k: int
    ) -> NDArray[np.float64] | None:
        """The share of trained answers in which the rows differ, of questions with the same second relation."""
        import numpy as np

        apart = self._apart(train, labels)
        if apart is None:
            return None
        n, places = len(self.relations), np.asarray(train)
        out = np.full((len(among), len(asked), k), np.inf)
        rows, columns = np.divmod(np.asarray(asked), n)
        sets = [np.divmod(places[np.asarray(each, dtype=np.int64)], n) for each in among]
        for column in range(n):
            here = np.flatnonzero(columns == column)
            own = apart[rows[here]]
            for found, (others, theirs) in zip(out, sets, strict=True):
                near = own[:, others[theirs == column]]
                count = min(k, near.shape[1])
                if count:
                    found[here, :count] = np.sort(np.partition(near, count - 1, 1)[:, :count], 1)
        return out

    def _apart(self, train: Sequence[int], labels: Sequence[str]) -> NDArray[np.float64] | None:
        """(rows, rows) the share of labels in which rows differ, over the second relations that both were trained on;
        1 where there are none. None where there are no rows, or too many."""
        import numpy as np

        n = len(self.relations)
        rows = len(self) // n
        if self.parameters.facts == "prompt" or rows * rows * n > COMPARED:
            return None
        codes = {label: code for code, label in enumerate(dict.fromkeys(labels))}
        table = np.full((rows, n), -1)
        table[np.divmod(np.asarray(train), n)] = [codes[label] for label in labels]
        equal, shared = np.zeros((rows, rows)), np.zeros((rows, rows))
        for column in table.T:
            known = column >= 0
            equal += (column[:, None] == column) & known
            shared += known[:, None] & known
        out: NDArray[np.float64] = 1 - equal / np.maximum(shared, 0.5)
        return out
