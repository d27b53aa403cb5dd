"""Four-digit addition (FDA), or addition of any number of digits, one token a digit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, overload

from .example import Example, Span, Task

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LEARNABLE = 1000  # training questions for each digit of the operands


@dataclass(frozen=True)
class AdditionParameters:
    """Size and form of the addition task.

    Attributes:
        digits: digits of each operand, leading zeros written; the answer has one more.
        order: order of the answer's digits: ``least_first`` or ``most_first``.
    """

    digits: int = field(default=4, metadata={"min": 1, "max": 9})
    order: Literal["least_first", "most_first"] = "least_first"


class _Sums(Sequence[str]):
    """All answers, 0 to twice the largest operand, rendered only when asked for."""

    def __init__(self, task: Addition) -> None:
        self.task = task

    def __len__(self) -> int:
        return int(2 * self.task.base - 1)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...
    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        if isinstance(index, slice):
            return [self.task.render(i) for i in range(*index.indices(len(self)))]
        return self.task.render(range(len(self))[index])

    def __iter__(self) -> Iterator[str]:
        return (self.task.render(i) for i in range(len(self)))

    def index(self, value: Any, start: int = 0, stop: int | None = None) -> int:
        return self.task.parse(value)


class Addition(Task):
    """``1 2 3 4 + 5 6 7 8 =`` leads to ``2 1 9 6 0`` (least significant digit first by default).

    Column 0 is the units. Intermediate results: ``sum_k``, the sum of the two digits of column k without carry,
    and ``carry_k``, the carry that enters column k.
    """

    name = "addition"
    version = 1
    description = "Addition of two numbers, digit by digit, with carries."
    arithmetic = True
    Parameters: ClassVar[type] = AdditionParameters

    def __init__(self, parameters: AdditionParameters, seed: int) -> None:
        super().__init__(parameters, seed)
        self.digits = parameters.digits
        self.base = 10**parameters.digits

    def __len__(self) -> int:
        return int(self.base**2)

    def render(self, total: int) -> str:
        """The sum as an answer: ``digits + 1`` digits in the task's order, separated by spaces."""
        text = f"{total:0{self.digits + 1}d}"
        return " ".join(text[::-1] if self.parameters.order == "least_first" else text)

    def parse(self, answer: str) -> int:
        """The number that an answer spells."""
        text = answer.replace(" ", "")
        return int(text[::-1] if self.parameters.order == "least_first" else text)

    def example(self, index: int) -> Example:
        a, b = divmod(index, self.base)
        prompt = " ".join([*f"{a:0{self.digits}d}", "+", *f"{b:0{self.digits}d}", "="])
        columns = range(self.digits)
        spans: dict[str, Span] = {}
        for k in columns:
            start_a = 2 * (self.digits - 1 - k)
            start_b = 2 * (2 * self.digits - k)
            spans[f"a{k}"] = (start_a, start_a + 1)
            spans[f"b{k}"] = (start_b, start_b + 1)
        plus = 2 * self.digits
        spans["plus"] = (plus, plus + 1)
        spans["equals"] = (len(prompt) - 1, len(prompt))
        a_digits, b_digits = self._columns(a), self._columns(b)
        intermediates = {f"sum_{k}": str(a_digits[k] + b_digits[k]) for k in columns}
        for k, carry in enumerate(self._carries([a_digits[k] + b_digits[k] for k in columns], {}), start=1):
            intermediates[f"carry_{k}"] = str(carry)
        return Example(
            prompt=prompt,
            answer=self.render(a + b),
            positions=spans,
            intermediates=intermediates,
            features={f"units_{k}": f"{a_digits[k]}{b_digits[k]}" for k in columns},
            group=str(a),
            joined=True,
        )

    def _columns(self, number: int) -> list[int]:
        return [number // 10**k % 10 for k in range(self.digits)]

    def _carries(self, sums: Sequence[int], replaced: Mapping[str, int]) -> list[int]:
        """Carries into columns 1 to ``digits``; a replaced carry passes its effect on to the columns above."""
        carries: list[int] = []
        carry = 0
        for k, column_sum in enumerate(sums):
            carry = replaced.get(f"carry_{k + 1}", int(column_sum + carry >= 10))
            carries.append(carry)
        return carries

    def operands(self, example: Example) -> tuple[int, int]:
        """The two numbers that a prompt adds."""
        left, right = example.prompt.rstrip("= ").split("+")
        return int(left.replace(" ", "")), int(right.replace(" ", ""))

    def answer_if(self, example: Example, intermediate: str, value: str) -> str | None:
        if value not in self.values(intermediate):
            return None
        a, b = self.operands(example)
        sums = [x + y for x, y in zip(self._columns(a), self._columns(b), strict=True)]
        kind, _, column = intermediate.partition("_")
        replaced: dict[str, int] = {}
        if kind == "sum":
            sums[int(column)] = int(value)
        else:
            replaced[intermediate] = int(value)
        return self._added(sums, replaced)

    def _added(self, sums: Sequence[int], replaced: Mapping[str, int]) -> str:
        """The answer from the sums of columns and the carries."""
        carries = [0, *self._carries(sums, replaced)]
        total = carries[self.digits] * self.base
        total += sum((s + carries[k]) % 10 * 10**k for k, s in enumerate(sums))
        return self.render(total)

    def values(self, intermediate: str) -> Sequence[str]:
        kind, _, column = intermediate.partition("_")
        if kind == "sum" and column.isdecimal() and int(column) < self.digits:
            return [str(v) for v in range(19)]
        if kind == "carry" and column.isdecimal() and 1 <= int(column) <= self.digits:
            return ["0", "1"]
        return ()

    def foils(self, example: Example) -> Sequence[str]:
        """Sums under the other carry into one of the columns; and with another sum of the units, which no carry enters.

        The first are hard to tell from the true answer, as every digit of theirs follows from the question but for one
        carry.
        """
        a, b = self.operands(example)
        sums = [x + y for x, y in zip(self._columns(a), self._columns(b), strict=True)]
        found: dict[str, None] = {}
        for k, carry in enumerate(self._carries(sums, {}), start=1):
            found[self._added(sums, {f"carry_{k}": 1 - carry})] = None
        for units in range(19):
            if units != sums[0]:
                found[self._added([units, *sums[1:]], {})] = None
        found.pop(example.answer, None)
        return list(found)

    def words(self) -> Iterable[str]:
        return [*"0123456789", "+", "="]

    def answers(self, example: Example) -> Sequence[str]:
        return _Sums(self)

    def near_misses(self, example: Example) -> Sequence[str]:
        """The possible sums that differ from the true one in exactly one digit."""
        total = self.parse(example.answer)
        out = []
        for k in range(self.digits + 1):
            digit = total // 10**k % 10
            for other in range(10):
                changed = total + (other - digit) * 10**k
                if other != digit and changed <= 2 * (self.base - 1):
                    out.append(self.render(changed))
        return out

    def heuristics(self, example: Example) -> Sequence[str]:
        """The families of Nikankin et al. (2025): ranges, modulo, digit patterns, identical digits."""
        a, b = self.operands(example)
        numbers = {"a": a, "b": b, "result": a + b}
        found = [f"range: {name} from {n * 10 // self.base * self.base // 10}" for name, n in numbers.items()]
        found += [f"modulo: {name} = {n % m} mod {m}" for name, n in numbers.items() for m in (2, 5, 10)]
        for k, (x, y) in enumerate(zip(self._columns(a), self._columns(b), strict=True)):
            found += [f"digit: a{k} = {x}", f"digit: b{k} = {y}", f"sum: column {k} = {x + y}"]
            found += [
                f"digit: result{k} = {(a + b) // 10**k % 10}",
                f"carry: column {k} {'has' if x + y >= 10 else 'no'}",
            ]
            if x == y:
                found.append(f"identical: column {k}")
        return found

    def neighbours(self, example: Example) -> Mapping[str, Sequence[int]]:
        """Additions with one digit of one operand changed, by the column of that digit, or with operands swapped."""
        a, b = self.operands(example)
        out: dict[str, list[int]] = {}
        for k in range(self.digits):
            scale = 10**k
            changed = []
            for other in range(10):
                if other != a // scale % 10:
                    changed.append((a + (other - a // scale % 10) * scale) * self.base + b)
                if other != b // scale % 10:
                    changed.append(a * self.base + b + (other - b // scale % 10) * scale)
            out[f"digit_{k}"] = changed
        return {**out, "swapped": [b * self.base + a] if a != b else []}

    def least_train(self) -> int:
        return min(LEARNABLE * self.digits, len(self) // 2)

    def nearest(
        self, train: Sequence[int], labels: Sequence[str], asked: Sequence[int], k: int
    ) -> NDArray[np.int64] | None:
        """Those that differ in the fewest digits, of these the nearest in both numbers, of equals the earlier."""
        import numpy as np

        out, k = np.full((len(asked), k), -1), min(k, len(train))
        for i, distance in enumerate(self._apart(train, asked)):
            distance = distance * len(train) + np.arange(len(train))
            nearest = np.argpartition(distance, k - 1)[:k]
            out[i, :k] = nearest[np.argsort(distance[nearest])]
        return out

    def distances(
        self, train: Sequence[int], labels: Sequence[str], asked: Sequence[int], among: Sequence[Sequence[int]], k: int
    ) -> NDArray[np.float64] | None:
        """The number of digits that differ, and below 1 how far apart the numbers are."""
        import numpy as np

        out = np.full((len(among), len(asked), k), np.inf)
        sets = [np.asarray(each, dtype=np.int64) for each in among]
        for i, distance in enumerate(self._apart(train, asked)):
            for found, each in zip(out, sets, strict=True):
                count = min(k, len(each))
                if count:
                    near = np.partition(distance[each], count - 1)[:count]
                    found[i, :count] = np.sort(near) / (2 * self.base)
        return out

    def _apart(self, train: Sequence[int], asked: Sequence[int]) -> Iterator[NDArray[np.int64]]:
        """For each question asked (train,): 2 x 10^digits times the digits that differ, plus how far numbers are."""
        import numpy as np

        scale = 10 ** np.arange(self.digits)
        numbers = np.stack(np.divmod(np.asarray(train), self.base))
        digits = (numbers[:, None] // scale[:, None] % 10).astype(np.int8)
        for index in asked:
            own = np.array(divmod(index, self.base))
            theirs = (own[:, None] // scale % 10).astype(np.int8)
            other = (digits != theirs[:, :, None]).sum((0, 1))
            yield other * 2 * self.base + np.abs(numbers - own[:, None]).sum(0)
