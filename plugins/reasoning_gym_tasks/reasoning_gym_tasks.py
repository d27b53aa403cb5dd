"""Questions of Reasoning Gym's procedural data sets, of which there are a hundred, as tasks with wrong labels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar

from rote_bench.plugin import Example, Span, Task, UserError, hookimpl, word_spans

NEEDS = "pip install reasoning-gym"


@dataclass(frozen=True)
class Parameters:
    """Which questions.

    Attributes:
        dataset: of Reasoning Gym, such as ``chain_sum``.
        options: of that data set, such as ``{max_terms: 2}``.
        draws: questions that are drawn; those that come twice count once.
        features: names of metadata that are surface classes of a question.
        intermediates: names of metadata that are results on the way to the answer.
        group: the metadata by which questions hang together; without one they are independent.
    """

    dataset: str = "chain_sum"
    options: Mapping[str, Any] = field(default_factory=dict)
    draws: int = field(default=5000, metadata={"min": 3, "max": 1_000_000})
    features: tuple[str, ...] = ()
    intermediates: tuple[str, ...] = ()
    group: str | None = None


class ReasoningGym(Task):
    """``State the final answer to the following arithmetic problem: 57 + 87 =`` leads to ``144``.

    Questions and answers are texts, exactly as Reasoning Gym has them; an answer counts as right where it is that very
    text, also where the data set would take others. Question i is its entry i for the data seed, so that data set,
    options, number of draws, seed and version of Reasoning Gym decide them all. Of metadata, a text that stands once in
    every question, as words of its own, is a named position.
    """

    name = "reasoning_gym"
    version = 1
    description = "Questions of a data set of Reasoning Gym, those that come twice once."
    Parameters: ClassVar[type] = Parameters
    spec_file = Path(__file__).with_name("reasoning_gym_tasks.yaml")

    def __init__(self, parameters: Any, seed: int) -> None:
        super().__init__(parameters, seed)
        drawn = _dataset(parameters, seed)
        entries: dict[str, Mapping[str, Any]] = {}
        for i in range(parameters.draws):
            entry = drawn[i]
            entries.setdefault(str(entry["question"]).strip(), entry)
        made = [_example(prompt, entry, parameters) for prompt, entry in entries.items()]
        named = set.intersection(*({*example.positions} for example in made))
        self.examples = [replace(e, positions={n: e.positions[n] for n in e.positions if n in named}) for e in made]
        self.all_answers = sorted({example.answer for example in self.examples})
        found = ("features", "intermediates")
        self._values = {
            key: sorted({getattr(e, kind)[key] for e in self.examples})
            for kind in found
            for key in getattr(parameters, kind)
        }

    def __len__(self) -> int:
        return len(self.examples)

    def example(self, index: int) -> Example:
        return self.examples[index]

    def words(self) -> Iterable[str]:
        return dict.fromkeys(word for example in self.examples for word in example.text.split())

    def answers(self, example: Example) -> Sequence[str]:
        return self.all_answers

    def values(self, intermediate: str) -> Sequence[str]:
        return self._values.get(intermediate, ()) if intermediate in self.parameters.intermediates else ()

    def remarks(self) -> Sequence[str]:
        p = self.parameters
        made = f"{p.dataset} of Reasoning Gym {metadata.version('reasoning-gym')}, data seed {self.seed}"
        return [
            f"{made}: {len(self)} different questions of {p.draws} drawn, {len(self.all_answers)} different answers"
        ]


def _dataset(parameters: Any, seed: int) -> Any:
    """The data set, made by its seed.

    Raises:
        UserError: when Reasoning Gym is not installed, has no such data set, or does not take the options.
    """
    try:
        import reasoning_gym
        from reasoning_gym.factory import DATASETS
    except ImportError as error:
        raise UserError(f"Reasoning Gym cannot be imported ({error})", where="generator", hint=NEEDS) from error
    if parameters.dataset not in DATASETS:
        near = get_close_matches(parameters.dataset, DATASETS, n=5, cutoff=0.3) or sorted(DATASETS)[:5]
        what = f"Reasoning Gym has no data set {parameters.dataset!r}"
        raise UserError(what, where="parameters.dataset", hint=f"it has {', '.join(near)}, ...")
    options = {key: tuple(value) if isinstance(value, list) else value for key, value in parameters.options.items()}
    try:
        return reasoning_gym.create_dataset(parameters.dataset, **{**options, "size": parameters.draws, "seed": seed})
    except (AssertionError, TypeError, ValueError) as error:
        said = str(error) or "they do not go together"
        raise UserError(f"{parameters.dataset} refuses its options: {said}", where="parameters.options") from error


def _example(prompt: str, entry: Mapping[str, Any], parameters: Any) -> Example:
    """A question with its metadata.

    Raises:
        UserError: when it has no answer that is a text, or not the metadata that are asked for.
    """
    answer, known = entry["answer"], entry["metadata"]
    if not isinstance(answer, str) or not answer.strip():
        raise UserError(
            f"{parameters.dataset} has questions without one answer that is a text: {prompt[:60]!r}",
            where="parameters.dataset",
            hint="choose another data set",
        )
    for name in (*parameters.features, *parameters.intermediates, *([parameters.group] if parameters.group else ())):
        if not isinstance(known.get(name), str | int):
            usable = ", ".join(sorted(key for key, value in known.items() if isinstance(value, str | int)))
            raise UserError(
                f"{parameters.dataset} has no metadata {name!r}", where="parameters", hint=f"it has {usable}"
            )
    places: dict[str, Span] = {}
    for name, value in known.items():
        spans = word_spans(value, prompt) if name[:7] != "source_" and isinstance(value, str) else []
        if len(spans) == 1:
            places[name] = spans[0]
    return Example(
        prompt=prompt,
        answer=answer.strip(),
        positions=places,
        intermediates={name: str(known[name]) for name in parameters.intermediates},
        features={name: str(known[name]) for name in parameters.features},
        group=prompt if parameters.group is None else str(known[parameters.group]),
    )


@hookimpl
def register_tasks(register: Callable[[type[Task]], None]) -> None:
    register(ReasoningGym)
