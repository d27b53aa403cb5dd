"""The checks for plugin authors pass what is right and name what is broken, with how to mend it."""

from __future__ import annotations

import dataclasses
import itertools
import random
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from rote_bench import plugins
from rote_bench.diagnostics import Diagnostic, Measure, NoOptions, NotApplicable, Result
from rote_bench.encoding import PAD
from rote_bench.interventions import run
from rote_bench.models.load import FromConfig
from rote_bench.models.pretrained import BUILT_IN
from rote_bench.noise import Uniform
from rote_bench.statistics import Estimate, wilson
from rote_bench.tasks.addition import Addition
from rote_bench.tasks.example import Example
from rote_bench.tasks.two_hop import TwoHop
from rote_bench.testing import RuleBroken, check_diagnostic, check_model, check_noise, check_task

REGISTRY = plugins.built_in()
COUNT = itertools.count()


@pytest.mark.parametrize(
    ("cls", "parameters"),
    [
        (TwoHop, {}),
        (TwoHop, {"facts": "prompt"}),
        (TwoHop, {"form": "question"}),
        (Addition, {}),
        (Addition, {"digits": 2, "order": "most_first"}),
    ],
)
def test_built_in_tasks_keep_the_rules(cls: Any, parameters: dict[str, Any]) -> None:
    check_task(cls, parameters)


def add(prompt: str) -> str:
    a, b = prompt.replace(" ", "").rstrip("=").split("+")
    return " ".join(f"{int(a) + int(b):0{len(a) + 1}d}"[::-1])


def test_the_answers_can_be_checked_by_a_rule_of_ones_own() -> None:
    check_task(Addition, rule=add)
    with pytest.raises(RuleBroken, match="should end with '9'"):
        check_task(Addition, rule=lambda prompt: "9")


@pytest.mark.parametrize("name", sorted(REGISTRY.table("noise")))
def test_built_in_noise_keeps_the_rules(name: str) -> None:
    check_noise(REGISTRY.table("noise")[name])


@pytest.mark.parametrize("name", sorted(REGISTRY.table("diagnostics")))
def test_built_in_diagnostics_keep_the_rules(name: str) -> None:
    result = check_diagnostic(REGISTRY.table("diagnostics")[name])
    assert set(result.metrics) == {measure.name for measure in REGISTRY.table("diagnostics")[name].metrics}


def test_built_in_models_keep_the_rules() -> None:
    loaded = check_model(FromConfig(), "gpt2-nano")
    assert loaded.model_type == "gpt2"
    assert {type(p).__name__ for p in BUILT_IN} == {"FromConfig", "FromPretrained"}


def own(task: Any, example: Any) -> int:
    return next(i for i in range(len(task)) if task.example(i) == example)


class Broken(Addition):
    """Changes one thing at a time."""

    name = "broken"
    change: Any = None

    def example(self, index: int) -> Any:
        return dataclasses.replace(super().example(index), **self.change(super().example(index)))


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (lambda e: {"answer": random.choice(["0 0", "1 1"])}, "determinism"),
        (lambda e: {"prompt": e.prompt + " ", "joined": True}, "prompt in words"),
        (lambda e: {"answer": "x"}, "answer among the answers"),
        (lambda e: {"positions": {"a0": (5, 5)}}, "position 'a0'"),
        (lambda e: {"positions": {"a0": (0, 1)}, "features": {"a0": "12"}}, "points at what it names"),
        (lambda e: {"positions": {e.prompt[0]: (0, 1)}}, "same positions everywhere"),
        (lambda e: {"intermediates": {"sum_0": "99"}}, "values of 'sum_0'"),
        (lambda e: {"intermediates": {**e.intermediates, "sum_0": "0"}}, "answer_if('sum_0') at the true value"),
        (lambda e: {"group": "all"}, "group"),
        (lambda e: {"intermediates": {f"sum_{e.prompt[0]}": "1"}}, "same intermediates everywhere"),
        (lambda e: {"answer": e.answer + " ", "joined": True}, "answer in words"),
        (lambda e: {"prompt": "1 + 1 ="}, "unique prompts"),
        (lambda e: {"positions": {"last": (0, 1)}}, "free names of positions"),
        (lambda e: {"intermediates": {"answer": e.answer}}, "free names of intermediates"),
        (lambda e: {"features": {e.prompt[0]: "1"}}, "same features everywhere"),
    ],
)
def test_a_broken_task_is_told_what_to_mend(change: Any, rule: str) -> None:
    cls = type("Broken", (Broken,), {"change": staticmethod(change)})
    with pytest.raises(RuleBroken) as caught:
        check_task(cls, {"digits": 3})
    (line,) = (x for x in str(caught.value).splitlines() if x.startswith(rule) or rule in x.partition(": ")[0])
    assert line.count(";") >= 1, "what, where, and how to mend it"


SIZES = ("train", "selection", "validation")


def pieces(sizes: Any, start: int, less: int = 0) -> dict[str, list[int]]:
    out = {}
    for name in SIZES:
        out[name] = list(range(start, start + sizes[name] - less))
        start += sizes[name]
    return out


@pytest.mark.parametrize(
    ("split", "message"),
    [
        (lambda self, sizes, seed: {n: list(range(sizes[n])) for n in SIZES}, "disjoint splits: an example is in two"),
        (lambda self, sizes, seed: pieces(sizes, next(COUNT)), "splits by seed: .*; draw with random.Random"),
        (lambda self, sizes, seed: pieces(sizes, len(self)), "splits within the pool: .*; give indices below"),
        (lambda self, sizes, seed: pieces(sizes, 0, less=1), "split sizes: .*; give as many"),
    ],
)
def test_broken_splits_are_found(split: Any, message: str) -> None:
    with pytest.raises(RuleBroken, match=message):
        check_task(type("Splits", (Addition,), {"split": split}), {"digits": 2})


@dataclasses.dataclass
class Loose:
    digits: int = 2
    order: str = "least_first"


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        ({"name": "My Task"}, "name: it is 'My Task'; set"),
        ({"description": ""}, "description: there is none; say"),
        (
            {"answers": lambda self, example: {"1 2", example.answer}},
            "answers in order: .* a set; give a sequence",
        ),
        ({"values": lambda self, name: ["0", "1", "1"]}, "values of '.*' once: one stands twice; let `values` name"),
        ({"Parameters": dict}, "Parameters: it is .*; set `Parameters` to a frozen dataclass"),
        ({"Parameters": Loose}, "Parameters frozen: its fields can be changed; write"),
        ({"__len__": lambda self: 2}, "pool: it has 2 questions; return a larger"),
    ],
)
def test_a_class_that_lacks_something_is_told_so(methods: dict[str, Any], message: str) -> None:
    with pytest.raises(RuleBroken, match=message):
        check_task(type("Lacking", (Addition,), methods), {})


def test_parameters_that_do_not_fit_are_named() -> None:
    with pytest.raises(RuleBroken, match="Parameters: digit: unknown key 'digit'; give values"):
        check_task(Addition, {"digit": 2})


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        ({"neighbours": lambda self, example: {"far": [10**9]}}, "within the pool"),
        ({"question": lambda self, index: ("1 + 1 =", {})}, "is not that of example.*; let `question`"),
        ({"words": lambda self: [*"0123456789", "+"]}, "are missing; add them"),
        ({"answers": lambda self, example: [example.answer]}, "wrong answers exist"),
        ({"values": lambda self, name: 1 // 0}, "ZeroDivisionError"),
        ({"near_misses": lambda self, example: [example.answer]}, "near misses are wrong: .*; leave"),
        ({"near_misses": lambda self, example: ["x"]}, "near misses in words: .*; add them"),
        ({"answer_if": lambda self, example, name, value: "x"}, r"answer_if\('sum_0'\) gives answers: 'x' has words"),
        ({"answer_if": lambda self, example, name, value: example.answer}, "interventions change the answer: .*; comp"),
        ({"neighbours": lambda self, example: {"self": [own(self, example)]}}, "without the example: .*; leave"),
        (
            {"answers": lambda self, example: [example.answer, f"{example.answer} "]},
            "read otherwise: .*; let `answers`",
        ),
        ({"answers": lambda self, example: [example.answer] * 2}, "wrong labels can be drawn: .*; let `answers`"),
        ({"answers": lambda self, example: [example.answer, "x"]}, "answers in words: .*; add them"),
        ({"split": lambda self, sizes, seed: {}}, "KeyError"),
        ({"nearest": lambda self, *given: [[0, 1]] * 100}, "nearest questions: .*; give whole numbers"),
        ({"nearest": lambda self, *given: [[10**9] * 3] * 100}, "nearest questions: .* none in `train`; give -1 to 99"),
        ({"distances": lambda self, *given: np.full((2, 100, 3), np.nan)}, "distances: .* no distance, .*; give"),
        ({"least_train": lambda self: "200"}, "least_train: .* gives '200'; give a count"),
        ({"facts": lambda self: [Example("9 9", "1"), Example("9 9", "2")]}, "facts: .* '1' and '2'; keep one"),
        ({"nearest": lambda self, *given: [[7, 7, -1]] * 100}, "nearest questions once: .*; let each"),
    ],
)
def test_broken_methods_of_a_task_are_named(methods: dict[str, Any], message: str) -> None:
    with pytest.raises(RuleBroken, match=message):
        check_task(type("Broken", (Addition,), methods), {"digits": 2})


def test_words_spelled_as_a_tokenizers_own_are_words_like_others() -> None:
    class Padded(Addition):
        def example(self, index: int) -> Any:
            example = super().example(index)
            prompt = example.prompt.replace("+", PAD)
            return dataclasses.replace(example, prompt=prompt, positions={}, intermediates={}, group=prompt)

        def neighbours(self, example: Any) -> dict[str, list[int]]:
            return {}

        def foils(self, example: Any) -> list[str]:
            return []

        def words(self) -> list[str]:
            return [*super().words(), PAD]

    check_task(Padded, {"digits": 2})


@pytest.mark.parametrize(
    ("methods", "rule"),
    [
        ({"draw": lambda self, task, examples, rng: [e.answer for e in examples]}, "wrong labels are wrong"),
        ({"draw": lambda self, task, examples, rng: ["x"] * len(examples)}, "labels are answers"),
        ({"mark": lambda self, task, examples, rate, rng: list(range(len(examples)))}, "rate"),
        ({"mark": lambda self, task, examples, rate, rng: list(range(round(rate * len(examples)))),
          "draw": lambda self, task, examples, rng: Uniform.draw(self, task, examples, random.Random(0))},
         "noise by seed"),
        ({"phantom": lambda self, task, held_out, rate, rng, train: []}, "phantom labels"),
        ({"draw": lambda self, task, examples, rng: Uniform.draw(self, task, examples, random.Random(next(COUNT)))},
         "determinism: one seed gives two draws; use the `rng`"),
        ({"mark": lambda self, task, examples, rate, rng: list(range(round(max(rate, 0.1) * len(examples))))},
         "no noise at rate 0: labels are wrong; let `mark`"),
        ({"phantom": lambda self, task, held_out, rate, rng, train: held_out.pop() and [0]},
         "held-out examples untouched: they changed; never|phantom|IndexError"),
        ({"Options": dict}, "Options: it is .*; set `Options`"),
    ],
)  # fmt: skip
def test_broken_noise_is_told_what_to_mend(methods: dict[str, Any], rule: str) -> None:
    cls = type("Noise", (Uniform,), {"name": "mine", "description": "mine", **methods})
    with pytest.raises(RuleBroken, match=rule):
        check_noise(cls)


def looks(run_: Any, **more: Any) -> type:
    metrics = (Measure("mine", "mine", "validation", bounds=(0, 1)),)
    values = {"name": "mine", "description": "mine", "metrics": metrics, "Options": NoOptions, "run": run_, **more}
    return type("Look", (Diagnostic,), values)


def not_here() -> Result:
    raise NotApplicable("not here")


def metric(value: int = 1) -> dict[str, Estimate]:
    return {"mine": wilson(value, 3)}


def change_weights(self: Any, subject: Any) -> Result:
    with torch.no_grad():
        first = next(subject.anatomy().model.parameters())
        first[0, 0] += 1e-3
    return Result(metric())


def leave_a_hook(self: Any, subject: Any) -> Result:
    subject.anatomy().model.register_forward_hook(lambda *a: None)
    return Result(metric())


@pytest.mark.parametrize(
    ("run_", "rule"),
    [
        (lambda self, subject: Result(metric(random.randrange(1000))), "determinism|ValueError"),
        (lambda self, subject: Result({"other": metric()["mine"]}), "declared: the metric 'other' .*; add a Measure"),
        (lambda self, subject: Result({"phantom_rate": metric()["mine"]}), "every report has a metric phantom_rate"),
        (lambda self, subject: Result({"mine": Estimate(2.0, 1.0, 3.0, "m", 3)}), "bounds: mine is 2, outside"),
        (lambda self, subject: Result({"mine": Estimate(0.5, None, None, None, 3)}), "interval: mine has none"),
        (lambda self, subject: Result({"mine": wilson(1, 10**6)}), "n: mine has n = 1000000, but validation holds"),
        (lambda self, subject: Result(metric(), {"x": float("nan")}), "details.x is nan"),
        (lambda self, subject: Result(metric(), records={"a": [1], "b": [1, 2]}), "records"),
        (lambda self, subject: Result(metric(), {"n": 1 // len(subject.noisy)}), "without noisy labels"),
        (lambda self, subject: Result(metric(), {"w": subject.anatomy().module(0, "mlp") and 1}), "parts are unknown"),
        (lambda self, subject: None, "return a Result|result"),
        (lambda self, subject: not_here(), "applies: to nothing .*: not here; check its condition"),
    ],
)
def test_a_broken_diagnostic_is_told_what_to_mend(run_: Any, rule: str) -> None:
    if "determinism" in rule:
        values = iter(range(100))
        run_ = lambda self, subject: Result({"mine": wilson(next(values) % 3, 3)})  # noqa: E731
    with pytest.raises(RuleBroken, match=rule):
        check_diagnostic(looks(run_))


@pytest.mark.parametrize(
    ("implied", "rule"),
    [
        (lambda self, details, records: {"mine": 0.25}, "implied: mine is 0.3333.* but its details give 0.25"),
        (lambda self, details, records: {"mine": wilson(2, 6)}, "implied: mine has n = 3, but its details give 6"),
        (lambda self, details, records: {"mine": float(records["x"][0])}, "implied: KeyError"),
        (lambda self, details, records: {"mine": 1 / 3 if records else 0.5}, "implied: without records mine is 0.5"),
        (lambda self, details, records: {"mine": details["x"] if details else next(iter(()))}, "StopIteration"),
    ],
)
def test_a_formula_that_gives_something_else_is_found(implied: Any, rule: str) -> None:
    records = {"a": [1, 2, 3]} if "without" in rule else {}
    run_ = lambda self, subject: Result(metric(), {"x": 1 / 3}, records)  # noqa: E731
    with pytest.raises(RuleBroken, match=rule):
        check_diagnostic(looks(run_, implied=implied))


@pytest.mark.parametrize(
    ("more", "rule"),
    [
        ({"name": "samples"}, "called like a file"),
        ({"metrics": [Measure("mine", "mine", "validation")]}, "needs a tuple of Measures"),
        ({"metrics": (Measure("mine", "mine", "validation"),) * 2}, "declares the metric 'mine' twice"),
        ({"metrics": (Measure("memorization_rate", "mine", "validation"),)}, "which every report has"),
    ],
)
def test_a_wrong_declaration_is_found(more: dict[str, Any], rule: str) -> None:
    with pytest.raises(RuleBroken, match=rule):
        check_diagnostic(looks(lambda self, subject: Result(metric()), **more))


def test_diagnostics_that_change_the_model_are_found() -> None:
    from rote_bench.testing import small_subject

    subject = small_subject()
    first = next(subject.anatomy().model.parameters())
    before = first.detach().clone()
    try:
        with pytest.raises(RuleBroken, match="weights stay"):
            check_diagnostic(looks(change_weights))
    finally:
        first.data.copy_(before)
    try:
        with pytest.raises(RuleBroken, match="hooks"):
            check_diagnostic(looks(leave_a_hook))
    finally:
        subject.anatomy().model._forward_hooks.clear()
    run(subject.anatomy(), subject.noisy.true.input_ids[:2], {})


def test_a_figure_that_is_not_there_is_missed() -> None:
    look = looks(lambda self, subject: Result(metric()), draw=staticmethod(lambda details, path: True))
    with pytest.raises(RuleBroken, match="figure: draw says that it wrote a PNG, and there is none; write to"):
        check_diagnostic(look)


class Seesaw(torch.nn.Module):
    """Adds to the logits of one model: the sum of all tokens, or noise, or nothing; or drops a dimension."""

    def __init__(self, model: Any, fault: str) -> None:
        super().__init__()
        self.model, self.fault, self.own = model, fault, next(COUNT)

    def forward(self, input_ids: torch.Tensor) -> Any:
        logits = self.model(input_ids=input_ids).logits
        if self.fault == "causality":
            logits = logits + input_ids.sum()
        if self.fault == "determinism":
            logits = logits + self.own
        return SimpleNamespace(logits=logits[0] if self.fault == "logits" else logits)


@pytest.mark.parametrize("fault", ["causality", "determinism", "logits"])
def test_models_that_answer_wrongly_are_found(fault: str) -> None:
    class Wrong(FromConfig):
        def load(self, request: Any) -> Any:
            loaded = super().load(request)
            return dataclasses.replace(loaded, model=Seesaw(loaded.model, fault).eval())

    with pytest.raises(RuleBroken, match=f"{fault}: .*; (mask|use|its forward must)"):
        check_model(Wrong(), "gpt2-nano")


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        ({"name": ""}, "name: there is none; set"),
        ({"description": ""}, "description: there is none; say"),
        ({"matches": lambda self, name: False}, "matches: 'gpt2-nano' is not known; return True"),
        ({"names": lambda self: []}, "names: there are none; list"),
        ({"load": lambda self, request: None}, "load: it gives NoneType; return a LoadedModel"),
    ],
)
def test_a_provider_that_lacks_something_is_told_so(methods: dict[str, Any], message: str) -> None:
    with pytest.raises(RuleBroken, match=message):
        check_model(type("Lacking", (FromConfig,), methods)(), "gpt2-nano")


def test_a_broken_provider_is_told_what_to_mend() -> None:
    class Greedy(FromConfig):
        def matches(self, model_name: str) -> bool:
            return True

    with pytest.raises(RuleBroken, match="matches others"):
        check_model(Greedy(), "gpt2-nano")

    class Training(FromConfig):
        def load(self, request: Any) -> Any:
            loaded = super().load(request)
            loaded.model.train()
            return loaded

    with pytest.raises(RuleBroken, match="evaluation mode"):
        check_model(Training(), "gpt2-nano")
