"""The content of a task file, resolved and typed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from ..hashing import digest

LARGEST_SEED = 2**32 - 1  # what every generator in use accepts


@dataclass(frozen=True)
class NoiseSpec:
    """Which labels are made wrong.

    Attributes:
        kind: a registered kind of noise.
        rates: shares of the training questions that get a wrong label; one cell each. Empty where the data has its own.
        options: options of that kind.
    """

    kind: str = "uniform"
    rates: tuple[float, ...] = (0.05,)
    options: Mapping[str, Any] = field(default_factory=dict)


def too_close(rates: Sequence[float]) -> str | None:
    """What is wrong with noise rates that cannot be told apart in the names of folders; None when they can."""
    shown: dict[str, float] = {}
    for rate in rates:
        other = shown.setdefault(f"{rate:g}", rate)
        if other != rate:
            return f"the noise rates {other!r} and {rate!r} would share the folder noise-{rate:g}"
    return None


@dataclass(frozen=True)
class Schedule:
    """The learning rate over time, in parts of the full rate: warm up, hold until the task is learned, then anneal.

    A high rate keeps a model from memorising and a low one lets it. Tied to an event, the drop serves models that learn
    at different speeds; but wrong labels move the event, so a cell that is compared with its twin drops where that did.

    Attributes:
        settle: when the full rate ends: at a step; at the `event` that the selection split reads ``hold_until``, but
            where the cell's twin was trained beside it, when that did; or `twin`, never without one.
        warmup: steps of linear increase from 0.
        hold_until: accuracy on the selection split at which the full rate ends.
        drop: the part of the rate right after that.
        anneal: steps of linear decrease from there to ``final``, with which training ends.
        final: the part of the rate at the end.
    """

    settle: int | Literal["event", "twin"] = "event"
    warmup: int = field(default=50, metadata={"min": 0})
    hold_until: float = field(default=0.95, metadata={"above": 0, "max": 1})
    drop: float = field(default=0.4, metadata={"above": 0, "max": 1})
    anneal: int = field(default=300, metadata={"min": 1})
    final: float = field(default=0.05, metadata={"min": 0, "max": 1})


@dataclass(frozen=True)
class Recipe:
    """How a model is trained.

    Attributes:
        optimizer: ``muon`` (hidden matrices by Muon, the rest by AdamW) or ``adamw``.
        learning_rate: of the hidden matrices.
        adam_learning_rate: of everything else.
        weight_decay: decoupled, times the learning rate.
        clip: largest norm of the gradient, or null.
        batch_size: questions per step.
        max_steps: the budget; the last ``schedule.anneal`` of them anneal whether the task is learned or not.
        schedule: the learning rate over time.
        precision: arithmetic of the training steps; ``auto`` is bfloat16 where the processor has it.
        evaluate_every: steps between evaluations once past the log-spaced start.
        evaluation_examples: largest number of examples behind each curve.
        stop_at: memorization rate at which training ends before its schedule does, or null; what ends early is compared
            with nothing.
        facts_repeat: how often each fact is seen per pass over the questions.
        snapshot_share: the pre-memorization snapshot needs this share of the final accuracy on the selection split.
    """

    optimizer: Literal["muon", "adamw"] = "muon"
    learning_rate: float = field(default=0.016, metadata={"above": 0})
    adam_learning_rate: float = field(default=3e-3, metadata={"above": 0})
    weight_decay: float = field(default=0.01, metadata={"min": 0})
    clip: float | None = field(default=1.0, metadata={"above": 0})
    batch_size: int = field(default=512, metadata={"min": 1})
    max_steps: int = field(default=800, metadata={"min": 1})
    schedule: Schedule = Schedule()
    precision: Literal["auto", "bfloat16", "float32"] = "auto"
    evaluate_every: int = field(default=25, metadata={"min": 1})
    evaluation_examples: int = field(default=512, metadata={"min": 1})
    stop_at: float | None = field(default=None, metadata={"above": 0, "max": 1})
    facts_repeat: int = field(default=1, metadata={"min": 1})
    snapshot_share: float = field(default=0.9, metadata={"above": 0, "max": 1})


@dataclass(frozen=True)
class Seeds:
    """Separate seeds for everything random.

    Attributes:
        data: examples and splits.
        noise: which labels are wrong, and how.
        init: the model's first weights.
        order: the order of training examples.
        bootstrap: resampling for intervals, and probes.
    """

    data: int = field(default=0, metadata={"min": 0, "max": LARGEST_SEED})
    noise: int = field(default=0, metadata={"min": 0, "max": LARGEST_SEED})
    init: int = field(default=0, metadata={"min": 0, "max": LARGEST_SEED})
    order: int = field(default=0, metadata={"min": 0, "max": LARGEST_SEED})
    bootstrap: int = field(default=0, metadata={"min": 0, "max": LARGEST_SEED})

    @classmethod
    def all(cls, seed: int) -> Seeds:
        """The same seed everywhere."""
        return cls(seed, seed, seed, seed, seed)

    @property
    def label(self) -> str:
        """A short name for folders: the seed, or all five when they differ."""
        values = dataclasses.astuple(self)
        return str(values[0]) if len(set(values)) == 1 else "-".join(map(str, values))


@dataclass(frozen=True)
class DiagnosticSpec:
    """A diagnostic with its options."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)


WHENCE = ("source", "places", "through")  # fields of a task that say whence it was read, and are no part of it


@dataclass(frozen=True)
class TaskSpec:
    """A task file after inheritance, profile and command line.

    ``parameters``, ``noise.options`` and each diagnostic's ``options`` are validated against the classes that they
    configure, and spelled out with their defaults.

    Attributes:
        places: dotted path of each key that was given -> ``file:line`` or flag, for messages; no part of the content.
        through: dotted path of what a flag changed by setting a key below it -> the flag.
    """

    name: str
    version: int
    title: str
    description: str
    citation: str
    generator: str
    parameters: Mapping[str, Any]
    splits: Mapping[str, int | float]
    noise: NoiseSpec
    model: Mapping[str, Any]
    training: Recipe
    diagnostics: tuple[DiagnosticSpec, ...]
    seeds: Seeds
    source: str | None = None
    profile: str | None = None
    places: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)
    through: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)

    def place(self, path: str) -> str:
        """Where a dotted path, or the nearest that encloses it, was given; the task file when nowhere."""
        if path in self.through:
            return self.through[path]
        while path:
            if path in self.places:
                return self.places[path]
            path = path.rpartition(".")[0]
        return self.source or self.name

    def resolved(self) -> dict[str, Any]:
        """Plain data with everything spelled out, for the report; no paths."""
        plain = dataclasses.asdict(self.replace(source=None, places={}, through={}))
        for key in WHENCE:
            plain.pop(key)
        plain["diagnostics"] = [{d.name: dict(d.options)} for d in self.diagnostics]
        plain["noise"]["rates"] = list(self.noise.rates)
        if not self.noise.rates:
            del plain["noise"]["rates"]
        return plain

    def content_hash(self) -> str:
        """SHA-256 of what decides the examples: generator, parameters, splits and noise, and the version."""
        noise = {"kind": self.noise.kind, "options": dict(self.noise.options)}
        plain = {"parameters": dict(self.parameters), "splits": dict(self.splits), "noise": noise}
        return digest({"name": self.name, "version": self.version, "generator": self.generator, **plain})

    def replace(self, **changes: Any) -> TaskSpec:
        """A copy with some fields changed."""
        return dataclasses.replace(self, **changes)
