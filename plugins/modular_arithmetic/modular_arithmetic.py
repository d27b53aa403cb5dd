"""Arithmetic modulo a prime, the task on which small transformers were first seen to grok (Power et al., 2022)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from rote_bench.plugin import Example, Task, hookimpl

OPERATIONS: dict[str, Callable[[int, int], int]] = {
    "add": lambda a, b: a + b,
    "subtract": lambda a, b: a - b,
    "multiply": lambda a, b: a * b,
    "squares": lambda a, b: a * a + b * b,
}
SIGNS = {"add": "+", "subtract": "-", "multiply": "*", "squares": "sq"}


@dataclass(frozen=True)
class Parameters:
    """Size and form of the task.

    Attributes:
        modulus: the numbers run from 0 to this minus 1.
        operation: ``add``, ``subtract``, ``multiply``, or ``squares``, a a + b b.
    """

    modulus: int = field(default=97, metadata={"min": 3, "max": 1000})
    operation: Literal["add", "subtract", "multiply", "squares"] = "add"

    def __post_init__(self) -> None:
        if any(self.modulus % d == 0 for d in range(2, int(self.modulus**0.5) + 1)):
            raise ValueError(f"the modulus must be a prime, and {self.modulus} is none")


class ModularArithmetic(Task):
    """``12 + 90 =`` leads to ``5`` modulo 97.

    The intermediate result ``wraps`` says how often the modulus was taken off the plain result.
    """

    name = "modular_arithmetic"
    version = 1
    description = "One operation modulo a prime, one token a number."
    Parameters: ClassVar[type] = Parameters
    spec_file = Path(__file__).with_name("modular_arithmetic.yaml")

    def __init__(self, parameters: Any, seed: int) -> None:
        super().__init__(parameters, seed)
        self.modulus: int = parameters.modulus
        self.operation = OPERATIONS[parameters.operation]

    def __len__(self) -> int:
        return self.modulus**2

    def example(self, index: int) -> Example:
        a, b = divmod(index, self.modulus)
        whole = self.operation(a, b)
        prompt = f"{a} {SIGNS[self.parameters.operation]} {b} ="
        return Example(
            prompt=prompt,
            answer=str(whole % self.modulus),
            positions={"a": (0, len(str(a))), "b": (len(prompt) - 2 - len(str(b)), len(prompt) - 2)},
            intermediates={"wraps": str(whole // self.modulus)},
            features={"a": str(a), "b": str(b)},
            group=str(a),
        )

    def words(self) -> Iterable[str]:
        return [*map(str, range(self.modulus)), *SIGNS.values(), "="]

    def answers(self, example: Example) -> Sequence[str]:
        return [str(n) for n in range(self.modulus)]

    def near_misses(self, example: Example) -> Sequence[str]:
        """One more or one less."""
        n = int(example.answer)
        return [str((n + 1) % self.modulus), str((n - 1) % self.modulus)]

    def values(self, intermediate: str) -> Sequence[str]:
        if intermediate != "wraps" or self.parameters.operation in ("multiply", "squares"):
            return ()  # too many to tell apart
        return ["0", "1"] if self.parameters.operation == "add" else ["-1", "0"]

    def neighbours(self, example: Example) -> Mapping[str, Sequence[int]]:
        """The same question with one operand one higher or one lower."""
        a, b, m = int(example.features["a"]), int(example.features["b"]), self.modulus
        return {
            "a_by_one": [(a + 1) % m * m + b, (a - 1) % m * m + b],
            "b_by_one": [a * m + (b + 1) % m, a * m + (b - 1) % m],
        }

    def heuristics(self, example: Example) -> Sequence[str]:
        """Residues by small numbers and ranges, of operands and result."""
        numbers = {"a": int(example.features["a"]), "b": int(example.features["b"]), "result": int(example.answer)}
        found = [f"modulo: {name} = {n % k} mod {k}" for name, n in numbers.items() for k in (2, 3, 5)]
        return found + [f"range: {name} from {n * 10 // self.modulus}" for name, n in numbers.items()]


@hookimpl
def register_tasks(register: Callable[[type[Task]], None]) -> None:
    register(ModularArithmetic)
