"""A report, typed: what a run writes and everything else reads. The JSON schema is made from these classes.

``Attributes`` become the schema's descriptions, and a field's metadata its bounds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Final, Literal

from ..models.names import Source
from ..plain import JsonObject
from ..spec.model import Seeds

SCHEMA_VERSION: Final = 2
SHA256 = {"pattern": "^[0-9a-f]{64}$"}
COUNT = {"min": 0}
OPTIONAL = "optional"  # marks a field with a default, which reports made before it lack
PRE, POST = "pre_memorization", "post_memorization"
NOT_KEPT = "the snapshot saved is not the model of this report"  # of a model with state that no snapshot holds

Status = Literal["success", "failed", "interrupted"]
Way = Literal["alone", "distributed", "stacked"]
Verdict = Literal["replicated", "not_replicated", "inconclusive", "not_applicable"]


@dataclass(frozen=True)
class Identity:
    """What decides a cell's numbers.

    Attributes:
        hash: of the parts; two reports with the same hash are of the same cell.
        parts: declared versions of every room that makes numbers, the resolved recipe, data, weights and tokenizer by
            content, arithmetic and the settings that matter.
        code: room -> digest of its source; no part of the hash, as versions say when numbers change.
        request: hash of what the command asked for, as far as that is known without making examples or a model; null
            where it was not kept.
    """

    hash: str = field(metadata=SHA256)
    parts: JsonObject
    code: Mapping[str, str]
    request: str | None


@dataclass(frozen=True)
class Task:
    """The task.

    Attributes:
        name: as the task file has it.
        version: raised by its author whenever its examples change.
        content_hash: of what decides the examples.
        spec: the resolved task file.
    """

    name: str
    version: int
    content_hash: str = field(metadata=SHA256)
    spec: JsonObject

    @property
    def profile(self) -> str | None:
        """The profile of the task file, None for the file as it is."""
        found = self.spec.get("profile")
        return None if found is None else str(found)

    @property
    def title(self) -> str:
        """The title, or the name."""
        return str(self.spec.get("title") or self.name)

    @property
    def label(self) -> str:
        """The name with its profile."""
        return f"{self.name}-{self.profile}" if self.profile else self.name


@dataclass(frozen=True)
class Data:
    """The examples.

    Attributes:
        counts: split -> number of examples.
        fingerprint: SHA-256 over every prompt, answer and label in order.
        n_noisy: training questions with a wrong label.
        noise_rate: share of the training questions that was asked to be given one.
        limit: examples of each split when the run was cut short with --limit.
    """

    counts: Mapping[str, int] = field(metadata=COUNT)
    fingerprint: str = field(metadata=SHA256)
    n_noisy: int = field(metadata=COUNT)
    noise_rate: float = field(metadata={"min": 0, "below": 1})
    limit: int | None

    @property
    def share(self) -> float:
        """Share of the training questions that have one: whole questions, and of a rule those that it covers."""
        return self.n_noisy / self.counts["train"]


@dataclass(frozen=True)
class Proof:
    """One thing that was proved, or not, about a model's structure.

    Attributes:
        ok: whether it holds.
        detail: what was seen.
    """

    ok: bool
    detail: str


@dataclass(frozen=True)
class Model:
    """The model.

    Attributes:
        name: as the user gave it.
        model_type: of transformers, or the provider's own word.
        source: where its first weights come from.
        revision: commit of pretrained weights where known; for a folder or file what its weights hash to.
        parameters: how many.
        config: of its architecture.
        anatomy: what was proved about its structure.
        weights: hash of first weights that came from elsewhere; null for random ones, which config and seed decide.
        tokenizer: hash of a tokenizer of its own; null where the task's is used.
        base: hash of the weights under an adapter.
        builder: what made a model that has no name: hash of its source.
        remote_code: whether code that came with the weights was allowed to run.
        signature: how a model that is none of transformers' own answers before training, in a few numbers.
    """

    name: str
    model_type: str
    source: Source
    revision: str | None
    parameters: int = field(metadata=COUNT)
    config: JsonObject
    anatomy: Mapping[str, Proof]
    weights: str | None
    tokenizer: str | None
    base: str | None
    builder: str | None
    remote_code: bool
    signature: tuple[float, ...] | None = field(default=None, metadata={OPTIONAL: True})


@dataclass(frozen=True)
class Schedule:
    """How the learning rate's fall was timed.

    Attributes:
        settle: what it waits for: `event`, the accuracy on the selection split; `fixed`, a step; `twin`, the step at
            which the cell's twin settled; null without training.
        twin: identity of that twin.
        step: the step that was fixed or taken over, the last at the full rate; null for an event.
    """

    settle: Literal["event", "fixed", "twin"] | None
    twin: str | None
    step: int | None = None


@dataclass(frozen=True)
class Training:
    """How the model learned.

    Attributes:
        optimizer: its name, null without training.
        steps: optimizer steps done.
        examples_seen: training rows in those steps, with repeats.
        tokens_seen: tokens in those rows, padding included.
        effective_batch_size: rows of a step.
        stop_reason: why it ended.
        snapshots: name -> step.
        snapshot_rule: how the snapshots were chosen.
        schedule: how the learning rate's fall was timed.
        settled_step: the step at which the fall began; null when the budget ended first.
        final_rate: learning rate of the last step, the one called `lr` in the curves.
        steps_after_98: steps after 98 % of the wrong labels were first given; null when they never were.
        way: whether the cell was trained alone, by several processes, or in a stack of cells.
        stacked: how many cells were trained as one, this one counted; null for any other way.
    """

    optimizer: str | None
    steps: int = field(metadata=COUNT)
    examples_seen: int = field(metadata=COUNT)
    tokens_seen: int = field(metadata=COUNT)
    effective_batch_size: int | None
    stop_reason: Literal["memorized", "budget", "not_trained"]
    snapshots: Mapping[str, int] = field(metadata=COUNT)
    snapshot_rule: str | None
    schedule: Schedule
    settled_step: int | None
    final_rate: float | None
    steps_after_98: int | None
    way: Way | None
    stacked: int | None = field(default=None, metadata={"min": 1, OPTIONAL: True})


NOT_TRAINED = Training(
    optimizer=None,
    steps=0,
    examples_seen=0,
    tokens_seen=0,
    effective_batch_size=None,
    stop_reason="not_trained",
    snapshots={},
    snapshot_rule=None,
    schedule=Schedule(None, None),
    settled_step=None,
    final_rate=None,
    steps_after_98=None,
    way=None,
)


@dataclass(frozen=True)
class Metric:
    """A number with its interval.

    Attributes:
        value: null when it could not be measured.
        ci_low: lower bound of the 95 % interval.
        ci_high: upper bound.
        ci_method: how the interval was made.
        n: examples behind the number.
        higher_is_better: null when the metric only describes.
        split: the examples on which it was measured.
        reason_if_null: why there is no value.
        reason_if_no_interval: why there is a value and no interval.
    """

    value: float | None
    ci_low: float | None
    ci_high: float | None
    ci_method: str | None
    n: int = field(metadata=COUNT)
    higher_is_better: bool | None
    split: str
    reason_if_null: str | None
    reason_if_no_interval: str | None

    SCHEMA: ClassVar[JsonObject] = {
        "allOf": [
            {
                "if": {"properties": {"value": {"type": "null"}}},
                "then": {"properties": {"reason_if_null": {"type": "string", "minLength": 1}}},
            },
            {
                "if": {"properties": {"value": {"type": "number"}, "ci_low": {"type": "null"}}},
                "then": {"properties": {"reason_if_no_interval": {"type": "string", "minLength": 1}}},
            },
        ]
    }

    @property
    def low(self) -> float | None:
        """The lower bound, or the value where there is no interval."""
        return self.value if self.ci_low is None else self.ci_low

    @property
    def high(self) -> float | None:
        """The upper bound, or the value where there is no interval."""
        return self.value if self.ci_high is None else self.ci_high


@dataclass(frozen=True)
class DiagnosticEntry:
    """What became of one diagnostic.

    Attributes:
        status: whether it could be done.
        reason: why not, null on success.
        version: raised by its author whenever its numbers change.
        seconds: wall time.
        metrics: names of its metrics.
        details: plain data from which its figure is drawn and its metrics are found again.
        cpu_seconds: processor time, its threads together; null where it was not kept.
    """

    status: Literal["success", "failed", "not_applicable"]
    reason: str | None
    version: int
    seconds: float = field(metadata=COUNT)
    metrics: tuple[str, ...]
    details: JsonObject
    cpu_seconds: float | None = field(default=None, metadata={**COUNT, OPTIONAL: True})


@dataclass(frozen=True)
class Finding:
    """A claim of the paper, decided.

    Attributes:
        id: of the claim.
        claim: in one sentence.
        source: who says so.
        verdict: by a rule that was fixed before any number was seen.
        reason: of the verdict, in words, with the numbers that decided it.
        evidence: names of the metrics that decide it.
    """

    id: str
    claim: str
    source: str
    verdict: Verdict
    reason: str | None
    evidence: tuple[str, ...]


@dataclass(frozen=True)
class Environment:
    """On what the numbers were made.

    Attributes:
        rote_bench: version.
        git_commit: of the checkout, null for an installed wheel.
        git_dirty: whether it had uncommitted changes.
        python: version.
        torch: version.
        transformers: version.
        platform: operating system.
        cpu: name of the processor and the instructions that torch uses on it.
        device: where the model was.
        threads: of the processor.
        dtype: of the weights.
        processes: that trained together.
        precision: arithmetic of the training steps.
        compiled: whether torch.compile made the training steps.
        deterministic: whether the same command gives the same digits here.
        remote_code: whether code that came with the weights was allowed to run.
        batch_size: examples per forward pass of evaluations and diagnoses; null when it failed before.
    """

    rote_bench: str
    git_commit: str | None
    git_dirty: bool | None
    python: str
    torch: str
    transformers: str
    platform: str
    cpu: str
    device: str
    threads: int
    dtype: str
    processes: int = field(metadata={"min": 1})
    precision: str
    compiled: bool
    deterministic: bool
    remote_code: bool
    batch_size: int | None


@dataclass(frozen=True)
class Timings:
    """Wall seconds by stage, processor time and memory.

    Attributes:
        data: making examples and loading the model.
        training: without the evaluations made along the way.
        evaluation: those, and the one at the end.
        diagnostics: all of them.
        figures: drawing.
        total: of all calls that made the cell.
        cpu_seconds: processor time of the cell, its threads and children together, without the start of the process;
            of all calls that made the cell as far as they left a state of training to go on from.
        peak_memory_bytes: largest resident size of the process, or of it and those of its children that ran at the same
            time, what they share counted once: then an upper bound, as each counts at its largest. In a process that
            ran other cells of a sweep before, since it began with this one, and on systems other than Linux since its
            start.
        cpu_by_stage: the stages named above -> their part of the processor time; empty where it was not kept.
    """

    data: float = field(metadata=COUNT)
    training: float = field(metadata=COUNT)
    evaluation: float = field(metadata=COUNT)
    diagnostics: float = field(metadata=COUNT)
    figures: float = field(metadata=COUNT)
    total: float = field(metadata=COUNT)
    cpu_seconds: float = field(metadata=COUNT)
    peak_memory_bytes: int = field(metadata=COUNT)
    cpu_by_stage: Mapping[str, float] = field(default_factory=dict, metadata={**COUNT, OPTIONAL: True})


@dataclass(frozen=True)
class Artifact:
    """A file beside the report.

    Attributes:
        path: relative to the report's folder, with forward slashes.
        sha256: of its content.
        bytes: its size.
    """

    path: str
    sha256: str = field(metadata=SHA256)
    bytes: int = field(metadata=COUNT)


@dataclass(frozen=True)
class Report:
    """One cell: a task, a model, a noise rate and a set of seeds, trained, diagnosed and judged.

    Attributes:
        schema_version: raised whenever a reader of older reports would misread a newer one.
        status: whether the run came to its end.
        error: what went wrong, null on success.
        identity: what decides the numbers.
        task: what was learned.
        data: the examples.
        model: who learned it.
        training: how.
        seeds: of everything random.
        metrics: name -> number.
        diagnostics: name -> what became of it.
        findings: the paper's claims, decided.
        environment: on what the numbers were made.
        timings: how long it took.
        artifacts: the files beside the report.
        warnings: what a reader must know.
    """

    schema_version: Literal[2]
    status: Status
    error: str | None
    identity: Identity
    task: Task
    data: Data
    model: Model
    training: Training
    seeds: Seeds
    metrics: Mapping[str, Metric]
    diagnostics: Mapping[str, DiagnosticEntry]
    findings: tuple[Finding, ...]
    environment: Environment
    timings: Timings
    artifacts: tuple[Artifact, ...]
    warnings: tuple[str, ...]

    def value(self, metric: str) -> float | None:
        """The value of a metric; None when it has none, or was not measured."""
        found = self.metrics.get(metric)
        return None if found is None else found.value

    @property
    def kept(self) -> bool:
        """Whether its snapshot is the model that it reports on."""
        return not any(NOT_KEPT in text for text in self.warnings)

    def measured_by(self) -> dict[str, str]:
        """Metric -> the diagnostic that measured it; those that need none are not in it."""
        return {metric: name for name, entry in self.diagnostics.items() for metric in entry.metrics}
