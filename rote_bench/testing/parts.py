"""The rules of kinds of noise, diagnostics and model providers."""

from __future__ import annotations

import copy
import dataclasses
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..strangers import reason_of
from ..tasks.example import Example, Task
from .rules import NOISE_RATE, Findings, built, class_rules
from .small import data_without_noise, small_subject, small_task


def check_noise(cls: Any, options: Mapping[str, Any] | None = None, *, task: Task | None = None) -> None:
    """Check everything that the harness relies on in a kind of noise.

    Args:
        options: as under ``noise.options`` in a task file.
        task: the task to draw labels for; a small two-hop task when None.

    Raises:
        RuleBroken: with a line for each broken rule.
    """
    from ..noise import label_held_out, label_train

    found = Findings(f"noise kind {getattr(cls, 'name', cls.__name__)!r}")
    class_rules(found, cls, "Options")
    given = built(found, cls, "Options", options)
    task = task or small_task()
    parts = task.split({"train": 400, "selection": 50, "validation": 100}, 0)
    train = [task.example(i) for i in parts["train"]]
    held = [task.example(i) for i in parts["validation"]]
    if not cls.rated:  # the data has labels of its own
        train, held = _with_labels(task, train), _with_labels(task, held)

    def draw(seed: int, rate: float = NOISE_RATE) -> Any:
        return label_train(task, cls(given), train, parts["train"], rate, seed)

    try:
        first, again, other = draw(1), draw(1), draw(2)
    except ValueError as error:
        found.rule(False, "wrong labels are wrong", str(error), "never draw the true answer")
        found.raise_all()
    found.rule(
        first.labels == again.labels, "determinism", "one seed gives two draws", "use the `rng` that is given, only"
    )
    found.rule(
        (first.labels != other.labels) == cls.rated,
        "noise by seed",
        f"two seeds give {'one draw' if cls.rated else 'two draws'}",
        "use the `rng` that is given" if cls.rated else "use no `rng`: the data has its labels",
    )
    share = len(first.noisy) / len(train)
    found.rule(
        abs(share - NOISE_RATE) <= 0.5 * NOISE_RATE,
        "rate",
        f"{share:.3f} of the labels are wrong at rate {NOISE_RATE}",
        "let `mark` give about rate * n indices",
    )
    found.rule(not draw(1, 0.0).noisy, "no noise at rate 0", "labels are wrong", "let `mark` give nothing at rate 0")
    known = set(task.answers(train[0]))
    strange = next((first.labels[i] for i in first.noisy if first.labels[i] not in known), None)
    found.rule(strange is None, "labels are answers", f"{strange!r} is none", "draw from task.answers(example)")
    before = copy.deepcopy(held)
    phantom = label_held_out(task, cls(given), held, parts["validation"], NOISE_RATE, 1, train, "validation")
    found.rule(held == before, "held-out examples untouched", "they changed", "never change an example")
    found.rule(
        len(phantom.noisy) > 0,
        "phantom labels",
        "no held-out example would be marked",
        "let `phantom` give the held-out examples that could equally have been marked",
    )
    found.raise_all()


def _with_labels(task: Task, examples: Sequence[Example]) -> list[Example]:
    """The same with a label that the data would bring along, wrong for a share ``NOISE_RATE`` of them."""
    every = round(1 / NOISE_RATE)
    wrong = [next(a for a in task.answers(e) if a != e.answer) for e in examples]
    return [
        dataclasses.replace(e, given=e.answer if i % every else label)
        for i, (e, label) in enumerate(zip(examples, wrong, strict=True))
    ]


def check_diagnostic(cls: Any, options: Mapping[str, Any] | None = None) -> Any:
    """Run a diagnostic on a small trained model, on one without noise, and on one that cannot be looked into.

    Args:
        options: as in a task file's list of diagnostics.

    Returns:
        Its ``Result`` on the trained model.

    Raises:
        RuleBroken: with a line for each broken rule.
    """
    from ..diagnostics import NotApplicable, Result
    from ..models.anatomy import Anatomy
    from ..pipeline.accept import Rejected, accept
    from ..plugins import lacking

    found = Findings(f"diagnostic {getattr(cls, 'name', cls.__name__)!r}")
    class_rules(found, cls, "Options")
    lacks = lacking("diagnostics", cls)
    if not found.rule(lacks is None, "declaration", f"it {lacks}", "mend the class"):
        found.raise_all()
    given = built(found, cls, "Options", options)
    subject = small_subject()
    states = {name: _state(a.model) for name, a in subject.anatomies.items()}
    try:
        diagnostic = cls(given, subject.spec.seeds.bootstrap)
        result = diagnostic.run(subject)
        again = cls(given, subject.spec.seeds.bootstrap).run(dataclasses.replace(subject))
    except NotApplicable as error:
        found.rule(
            False, "applies", f"to nothing in a small GPT-2 on two-hop reasoning: {error}", "check its condition"
        )
        found.raise_all()
    if not found.rule(isinstance(result, Result), "result", f"run gives {type(result).__name__}", "return a Result"):
        found.raise_all()
    for name, anatomy in subject.anatomies.items():
        after = _state(anatomy.model)
        found.rule(
            all(bool((after[k] == v).all()) for k, v in states[name].items()),
            "weights stay",
            f"those of {name} changed",
            "work on a copy of the model",
        )
        left = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in anatomy.model.modules())
        found.rule(not left, "hooks", f"{left} are left", "use rote_bench.interventions, which removes its own")
    found.rule(
        dict(result.metrics) == dict(again.metrics),
        "determinism",
        "a second run gives other metrics",
        "draw with subject.rng(purpose)",
    )
    try:
        accepted = accept(diagnostic, result, subject)
    except Rejected as error:
        found.rule(False, error.rule, error.detail, error.mend)
    else:
        _implied_rules(found, diagnostic, accepted)
        _draw_rules(found, cls, accepted.details)
    opaque = {name: Anatomy.opaque(a.model, "it cannot be looked into") for name, a in subject.anatomies.items()}
    for what, changed in (
        ("without noisy labels", dataclasses.replace(subject, data=data_without_noise())),
        ("whose parts are unknown", dataclasses.replace(subject, anatomies=opaque)),
    ):
        try:
            cls(given, subject.spec.seeds.bootstrap).run(changed)
        except NotApplicable:
            pass
        except Exception as error:  # any other is what this rule is about
            found.rule(
                False,
                f"a model {what}",
                reason_of(error),
                "raise NotApplicable with the reason before anything else",
            )
    found.raise_all()
    return result


def _implied_rules(found: Findings, diagnostic: Any, accepted: Any) -> None:
    """Metrics follow from the details alone too, and details of another kind are told by the usual errors."""
    from ..diagnostics import MALFORMED
    from ..pipeline.accept import agree

    for details in (accepted.details, {}, dict.fromkeys(accepted.details)):
        try:
            implied = diagnostic.implied(details, {})
        except MALFORMED:
            continue
        except Exception as error:  # any other is what this rule is about
            text = f"{type(error).__name__} for details of another kind"
            found.rule(False, "implied", text, "read them with [] and let KeyError and its like through")
            continue
        for name, again in implied.items() if details is accepted.details else ():
            value = getattr(again, "value", again)
            found.rule(
                name not in accepted.metrics or agree(accepted.metrics[name].value, value),
                "implied",
                f"without records {name} is {value}",
                "leave a metric out that cannot be found again",
            )


def _draw_rules(found: Findings, cls: Any, details: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "figure.png"
        drawn = cls.draw(details, path)
        found.rule(
            not drawn or (path.is_file() and path.read_bytes()[:4] == b"\x89PNG"),
            "figure",
            "draw says that it wrote a PNG, and there is none",
            "write to `path`, or return False",
        )


def check_model(provider: Any, name: str) -> Any:
    """Check everything that the harness relies on in a model provider.

    Args:
        name: a ``--model`` that the provider knows.

    Returns:
        The ``LoadedModel``.

    Raises:
        RuleBroken: with a line for each broken rule.
    """
    import torch

    from ..encoding import encode
    from ..errors import UserError
    from ..models.load import LoadedModel, ModelRequest
    from ..models.outside import check_kept
    from ..models.wrapped import causal, check_asked

    found = Findings(f"model provider {getattr(provider, 'name', type(provider).__name__)!r}")
    found.rule(bool(getattr(provider, "name", "")), "name", "there is none", "set `name`")
    found.rule(bool(getattr(provider, "description", "")), "description", "there is none", "say what it provides")
    found.rule(provider.matches(name) is True, "matches", f"{name!r} is not known", "return True for its own names")
    found.rule(
        provider.matches("no such model") is False, "matches others", "'no such model' too", "return False for others"
    )
    found.rule(bool(provider.names()), "names", "there are none", "list what `list models` should show")
    found.raise_all()
    subject = small_subject()
    tokenizer = subject.tokenizer
    request = ModelRequest(
        name,
        vocab_size=len(tokenizer),
        max_length=16,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        task=subject.task,
        data=subject.data,
        tokenizer=tokenizer,
    )
    loaded, again = provider.load(request), provider.load(request)
    if not found.rule(
        isinstance(loaded, LoadedModel), "load", f"it gives {type(loaded).__name__}", "return a LoadedModel"
    ):
        found.raise_all()
    ids = encode(loaded.tokenizer or tokenizer, subject.data.validation.examples[:4]).input_ids
    try:
        model, other = causal(loaded.model, name), causal(again.model, name)
        check_asked(model, ids, int(ids.max()) + 1)
    except UserError as error:
        found.rule(False, "logits", error.what, error.hint or "give logits of every position")
        found.raise_all()
    try:
        if loaded.trainable:
            check_kept(model, ids)
    except UserError as error:
        found.rule(False, "state", error.what, error.hint or "keep to modules of torch")
    with torch.inference_mode():
        logits, twin = model(input_ids=ids).logits, other(input_ids=ids).logits
        shorter = model(input_ids=ids[:, :-1]).logits
    if not found.rule(
        logits.ndim == 3 and tuple(logits.shape[:2]) == tuple(ids.shape),
        "logits",
        f"of shape {tuple(logits.shape)} for ids of shape {tuple(ids.shape)}",
        "return an object whose logits are (batch, length, vocabulary)",
    ):
        found.raise_all()
    found.rule(bool(torch.equal(logits, twin)), "determinism", "one seed gives two models", "use request.seed")
    found.rule(
        bool(torch.allclose(logits[:, :-1], shorter, atol=1e-4)),
        "causality",
        "a later token changes earlier logits",
        "mask what comes later",
    )
    found.rule(not loaded.model.training, "evaluation mode", "it is in training mode", "call .eval()")
    found.raise_all()
    return loaded


def _state(model: Any) -> dict[str, Any]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}
