"""Does memorization reuse what the model has learned? How fast it learns wrong labels, from where.

The wrong labels alone are trained at a constant rate from (a) random weights, (b) the weights before memorization, and
(c) the weights of a model that learned the task on another data seed, with other facts where the task has facts, and
knows none of these questions. Reuse is log2(a/b) - log2(a/c), the doublings of training that having learned *these*
facts saves beyond having learned *such* ones; as (a) cancels it is log2(c/b), and both terms are kept to be read alone.

Source: the question of Du et al. (2025); steps to a level as in the savings of relearning (Ebbinghaus, 1885).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ..contrasts import across_seeds
from ..measures import Measure
from ..statistics import Estimate
from . import Details, Diagnostic, NotApplicable, Records, Result

if TYPE_CHECKING:
    from torch import nn

    from ..encoding import Encoded
    from ..subject import Subject

LEVEL = 0.9
EVERY = 5
STARTS = {"random": "random weights", "before": "before memorization", "other": "same task, other data"}


@dataclass(frozen=True)
class MemorizationReuseOptions:
    """How much is trained.

    Attributes:
        examples: largest number of wrong labels.
        seeds: orders of the examples, each with random weights of its own.
        steps: after which a training is given up.
        other_seed: added to the data seed for the model of other data.
    """

    examples: int = field(default=1024, metadata={"min": 2})
    seeds: int = field(default=3, metadata={"min": 3})
    steps: int = field(default=2000, metadata={"min": EVERY})
    other_seed: int = field(default=1, metadata={"min": 1})


class MemorizationReuse(Diagnostic[MemorizationReuseOptions]):
    """Steps until wrong labels are memorised, from three beginnings."""

    name = "memorization_reuse"
    version = 1
    by_default = False  # it trains models
    description = "whether wrong labels are memorised faster by a model that has learned the task; trains models"
    metrics: ClassVar[tuple[Measure, ...]] = (
        Measure(
            "memorization_reuse",
            "doublings of training saved by having learned this task's own data, beyond such data",
            "train_noisy",
        ),
    )
    Options: ClassVar[type] = MemorizationReuseOptions
    passes = (1000, 0)

    def run(self, subject: Subject) -> Result:
        from ..encoding import encode
        from ..models.keeping import unlearned

        if len(subject.noisy) == 0:
            raise NotApplicable("no noisy labels at this noise rate")
        if "pre_memorization" not in subject.anatomies:
            raise NotApplicable(subject.without_pre)
        if not next(subject.anatomy().model.parameters()).is_floating_point():
            raise NotApplicable("quantised weights cannot be trained")
        wrong = subject.noisy.labelled.take(range(min(self.options.examples, len(subject.noisy))))
        taught = encode(subject.tokenizer, wrong.examples, wrong.labels, named=False).to(subject.device)
        before = subject.anatomy("pre_memorization").model
        other, accuracy = self._other(subject, before)
        starts: dict[str, Callable[[int], nn.Module]] = {
            "random": lambda seed: unlearned(subject.anatomy().model, seed),
            "before": lambda seed: copy.deepcopy(before),
            "other": lambda seed: copy.deepcopy(other),
        }
        first = subject.spec.seeds.order
        steps = {
            name: [self._steps(subject, start(first + k), taught, first + k) for k in range(self.options.seeds)]
            for name, start in starts.items()
        }
        details = {"steps": steps, "n": len(wrong), "level": LEVEL, "limit": self.options.steps, "accuracy": accuracy}
        return Result(self.implied(details, {}), details)

    def implied(self, details: Details, records: Records) -> dict[str, Estimate]:
        steps = details["steps"]
        given_up = [name for name in ("before", "other") if None in steps[name]]
        if given_up:
            why = f"from {STARTS[given_up[0]]} {LEVEL:.0%} were not memorised in {details['limit']} steps"
            return {"memorization_reuse": Estimate.missing(why)}
        saved = [math.log2(c / b) for b, c in zip(steps["before"], steps["other"], strict=True)]
        found = across_seeds(saved)
        assert found.value is not None and found.ci_low is not None and found.ci_high is not None
        # Where every order takes as many steps, these are still known to the nearest evaluation alone.
        earlier = [[max(1, n - EVERY + 1) for n in steps[name]] for name in ("before", "other")]
        least = [math.log2(c / b) for b, c in zip(steps["before"], earlier[1], strict=True)]
        most = [math.log2(c / b) for b, c in zip(earlier[0], steps["other"], strict=True)]
        low = found.value - math.hypot(found.value - found.ci_low, found.value - sum(least) / len(least))
        high = found.value + math.hypot(found.ci_high - found.value, sum(most) / len(most) - found.value)
        method = "t over orders of the examples, with the spacing of evaluations"
        return {"memorization_reuse": replace(found, ci_low=low, ci_high=high, ci_method=method)}

    def _steps(self, subject: Subject, model: nn.Module, taught: Encoded, seed: int) -> int | None:
        """Steps until so many of the wrong labels are given; None where they never are."""
        from ..evaluation import matches
        from ..training.curve import Levels

        def levels() -> Levels:
            (hits,) = matches(model, [taught], batch_size=subject.batch_size)
            return Levels(memorization_rate=float(hits.double().mean()))

        curve = self._train(subject, model, taught, list(range(len(taught))), levels, seed, self.options.steps, LEVEL)
        return next((step for step, rate in curve if rate >= LEVEL), None)

    def _other(self, subject: Subject, before: nn.Module) -> tuple[nn.Module, dict[str, float]]:
        """A model that learned the task on another data seed, as well as the one before memorization has.

        Its labels are all true, so that there is nothing to memorise; it is trained by the cell's recipe at the full
        rate, until its held-out accuracy is that of the other on its own.

        Raises:
            NotApplicable: when it does not come that far.
        """
        from ..encoding import concatenate, encode
        from ..evaluation import matches
        from ..models.keeping import unlearned
        from ..training.curve import Levels

        spec, seed = subject.spec, subject.spec.seeds.data + self.options.other_seed
        task = type(subject.task)(subject.task.parameters, subject.task.seed + self.options.other_seed)
        rows = task.split(spec.splits, seed)
        examples = {name: [task.example(i) for i in rows[name]] for name in ("train", "selection")}
        data = encode(subject.tokenizer, examples["train"][: len(subject.data.train)], named=False)
        index = list(range(len(data)))
        facts = task.facts()
        if facts:
            data = concatenate(
                [data, encode(subject.tokenizer, facts, named=False)], subject.tokenizer.pad_token_id or 0
            )
            index += list(range(len(index), len(data))) * spec.training.facts_repeat
        held = encode(subject.tokenizer, examples["selection"], named=False).to(subject.device)
        (own,) = matches(before, [subject.selection.true], batch_size=subject.batch_size)
        wanted, model = float(own.double().mean()), unlearned(subject.anatomy().model, spec.seeds.init)

        def levels() -> Levels:
            (hits,) = matches(model, [held], batch_size=subject.batch_size)
            return Levels(memorization_rate=float(hits.double().mean()))  # the level at which training stops

        budget = spec.training.max_steps
        curve = self._train(
            subject, model, data.to(subject.device), index, levels, spec.seeds.order, budget, wanted, full=True
        )
        reached = max((accuracy for _, accuracy in curve), default=0.0)
        if reached < wanted:
            raise NotApplicable(
                f"a model of other data did not come to the held-out accuracy before memorization, {wanted:.3f}, in"
                f" {budget} steps, but to {reached:.3f}"
            )
        return model, {"before": wanted, "other": reached}

    def _train(
        self,
        subject: Subject,
        model: nn.Module,
        data: Encoded,
        rows: Sequence[int],
        levels: Callable[[], Any],
        seed: int,
        steps: int,
        stop: float,
        *,
        full: bool = False,
    ) -> list[tuple[int, float]]:
        """Train at a constant rate, by the cell's recipe; steps and what stops it at each evaluation.

        Args:
            full: at the full rate, instead of that at which a cell begins to anneal.
        """
        import torch

        from ..spec.model import Schedule
        from ..training.loop import train

        recipe, found = subject.spec.training, list[tuple[int, float]]()
        part = 1.0 if full else recipe.schedule.drop
        recipe = replace(
            recipe,
            learning_rate=part * recipe.learning_rate,
            adam_learning_rate=part * recipe.adam_learning_rate,
            batch_size=min(recipe.batch_size, len(rows)),
            max_steps=steps + 1,
            evaluate_every=EVERY,
            stop_at=min(1.0, max(stop, 1e-9)),
            schedule=Schedule(
                settle=steps, warmup=recipe.schedule.warmup if full else 0, drop=1.0, anneal=1, final=1.0
            ),
        )
        train(
            model,
            data,
            torch.tensor(rows),
            recipe,
            levels,
            seed=seed,
            precision="float32",
            settle=steps,
            progress=lambda *a: None,
            record=lambda e: found.append((e.step, e.memorization_rate or 0.0)),
        )
        return found

    @staticmethod
    def draw(details: Details, path: Path) -> bool:
        """Steps until nine in ten wrong labels are memorised, from each beginning."""
        from ..report import figures

        steps: Mapping[str, Sequence[int | None]] = details["steps"]
        colors = {"random": figures.GREY, "before": figures.MEMORISED, "other": figures.HELD_OUT}
        with figures.drawing(path, 1, 6.4, 4.0) as (figure, (ax,)):
            for place, (name, found) in enumerate(steps.items()):
                known = [value for value in found if value is not None]
                ax.plot([place] * len(known), known, linestyle="none", marker="o", color=colors[name])
            ax.set_xticks(range(len(steps)), [f"from {STARTS[name]}" for name in steps], fontsize=8)
            ax.set_xlim(-0.5, len(steps) - 0.5)
            ax.set_ylim(bottom=0)
            ax.set_ylabel("steps until 90 % are memorised")
            means = {n: sum(s) / len(s) for n, found in steps.items() if (s := [v for v in found if v is not None])}
            told = ", ".join(f"{value:.0f} from {STARTS[name]}" for name, value in means.items())
            figures.title(figure, f"Steps to memorise the wrong labels alone: {told or 'never'}")
        return True
