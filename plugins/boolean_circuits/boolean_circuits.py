"""Boolean circuits: the values of inner gates are the intermediate results."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from rote_bench.plugin import Example, Span, Task, hookimpl

GATES: dict[str, Callable[[int, int], int]] = {
    "and": lambda a, b: a & b,
    "or": lambda a, b: a | b,
    "xor": lambda a, b: a ^ b,
    "nand": lambda a, b: 1 - (a & b),
}


@dataclass(frozen=True)
class Parameters:
    """Size and form of the task.

    Attributes:
        depth: layers of gates; a circuit has 2**depth inputs and as many minus one gates.
        width: circuits that are evaluated side by side; the answer has one bit for each.
    """

    depth: int = field(default=2, metadata={"min": 1, "max": 3})
    width: int = field(default=3, metadata={"min": 1, "max": 6})


class BooleanCircuits(Task):
    """``( 0 xor 1 ) and ( 1 or 0 ) =``, several such trees in a row, leads to one bit for each tree.

    Operators and inputs vary from question to question. The intermediate results are the values of all gates but the
    roots, ``gate_<tree>_<number>``, numbered from the left in each tree's post-order.
    """

    name = "boolean_circuits"
    version = 1
    description = "Trees of gates with their inputs; the values of inner gates are never shown."
    Parameters: ClassVar[type] = Parameters
    spec_file = Path(__file__).with_name("boolean_circuits.yaml")

    def __init__(self, parameters: Any, seed: int) -> None:
        super().__init__(parameters, seed)
        self.inputs = 2**parameters.depth
        self.per_tree = 2**self.inputs * len(GATES) ** (self.inputs - 1)

    def __len__(self) -> int:
        return min(int(self.per_tree**self.parameters.width), 1_000_000)

    def _trees(self, index: int) -> list[tuple[list[int], list[str]]]:
        """The input bits and the gates of each tree; every index gives another question."""
        total = self.per_tree**self.parameters.width
        number = index if total <= len(self) else self._scattered(index, total)
        trees = []
        for _ in range(self.parameters.width):
            number, code = divmod(number, self.per_tree)
            bits, gates = [], []
            for _ in range(self.inputs):
                code, bit = divmod(code, 2)
                bits.append(bit)
            for _ in range(self.inputs - 1):
                code, gate = divmod(code, len(GATES))
                gates.append(list(GATES)[gate])
            trees.append((bits, gates))
        return trees

    def _scattered(self, index: int, total: int) -> int:
        """A question number far from those of other indices: multiplication by an odd number modulo a power of two."""
        return (index * 0x9E3779B97F4A7C15 + random.Random(f"circuits-{self.seed}").getrandbits(32)) % total

    def evaluate(
        self, bits: Sequence[int], gates: Sequence[str], replaced: Mapping[int, int] | None = None
    ) -> list[int]:
        """The values of all gates in post-order; a replaced value passes its effect on."""
        out: list[int] = []
        names = iter(gates)

        def gate(first: int, count: int) -> int:
            if count == 1:
                return bits[first]
            left, right = gate(first, count // 2), gate(first + count // 2, count // 2)
            value = GATES[next(names)](left, right)
            out.append((replaced or {}).get(len(out), value))
            return out[-1]

        gate(0, self.inputs)
        return out

    def example(self, index: int) -> Example:
        words: list[str] = []
        spans: dict[str, Span] = {}
        answer, inner, features = [], {}, {}
        for tree, (bits, gates) in enumerate(self._trees(index)):
            values = self.evaluate(bits, gates)
            names = iter(range(len(gates)))
            self._write(words, spans, bits, gates, 0, self.inputs, names, tree)
            words.append(";")
            answer.append(str(values[-1]))
            inner.update({f"gate_{tree}_{k}": str(v) for k, v in enumerate(values[:-1])})
            features[f"root_{tree}"] = gates[-1]
        words[-1] = "="
        first = self._trees(index)[0]
        return Example(
            prompt=" ".join(words),
            answer=" ".join(answer),
            positions=spans,
            intermediates=inner,
            features=features,
            group=" ".join([*map(str, first[0]), *first[1]]),
        )

    def _write(
        self,
        words: list[str],
        spans: dict[str, Span],
        bits: Sequence[int],
        gates: Sequence[str],
        first: int,
        count: int,
        names: Any,
        tree: int,
    ) -> None:
        """Append one subtree in infix, and note where its gate stands."""
        if count == 1:
            words.append(str(bits[first]))
            return
        words.append("(")
        self._write(words, spans, bits, gates, first, count // 2, names, tree)
        at = len(words)
        words.append("")
        self._write(words, spans, bits, gates, first + count // 2, count // 2, names, tree)
        number = next(names)
        words[at] = gates[number]
        words.append(")")
        start = len(" ".join(words[:at])) + 1
        spans[f"operator_{tree}_{number}"] = (start, start + len(words[at]))
        for name, (a, b) in list(spans.items()):  # an inner gate's name may have been longer or shorter than none
            if a > start:
                spans[name] = (a + len(words[at]), b + len(words[at]))

    def words(self) -> Iterable[str]:
        return ["0", "1", *GATES, "(", ")", ";", "="]

    def answers(self, example: Example) -> Sequence[str]:
        return [" ".join(bits) for bits in itertools.product("01", repeat=self.parameters.width)]

    def near_misses(self, example: Example) -> Sequence[str]:
        """One bit wrong."""
        bits = example.answer.split()
        return [" ".join([*bits[:k], str(1 - int(bits[k])), *bits[k + 1 :]]) for k in range(len(bits))]

    def values(self, intermediate: str) -> Sequence[str]:
        return ["0", "1"] if intermediate.startswith("gate_") else ()

    def answer_if(self, example: Example, intermediate: str, value: str) -> str | None:
        if intermediate not in example.intermediates or value not in ("0", "1"):
            return None
        tree, number = map(int, intermediate.removeprefix("gate_").split("_"))
        part = example.prompt.removesuffix("=").split(";")[tree].split()
        bits = [int(w) for w in part if w in "01"]
        gates: list[str] = []
        stack: list[str] = []
        for word in part:  # operators in post-order: an operator is done when its bracket closes
            if word in GATES:
                stack.append(word)
            elif word == ")":
                gates.append(stack.pop())
        answer = example.answer.split()
        answer[tree] = str(self.evaluate(bits, gates, {number: int(value)})[-1])
        return " ".join(answer)


@hookimpl
def register_tasks(register: Callable[[type[Task]], None]) -> None:
    register(BooleanCircuits)
