"""Every leaf of a report, and on what its truth rests: one declaration, from which the page of it is made.

What is recomputed, ``leaderboard check`` makes again from the report and the files beside it, and a report in which it
was changed alone does not hold. What is repeated, ``--rerun`` compares with the cell trained anew. The rest is the word
of whoever made the report.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from ..report.record import Report
from ..spec.model import WHENCE, TaskSpec

RECOMPUTED: Final = "recomputed"
REPEATED: Final = "repeated"
TRUST: Final = "on trust"


@dataclass(frozen=True)
class Ground:
    """On what the truth of a leaf rests.

    Attributes:
        kind: recomputed, repeated or on trust.
        how: from what, or why not.
    """

    kind: str
    how: str


def _all(kind: str, how: str, *leaves: str) -> dict[str, Ground]:
    return dict.fromkeys(leaves, Ground(kind, how))


METRIC = "from the answers, the details or the records; where none determines it, only a repeated run does"
CLAIMS: Mapping[str, Ground] = {
    **_all(RECOMPUTED, "reports of another version are not read", "schema_version"),
    **_all(RECOMPUTED, "a run that did not succeed claims nothing, and one that did names no error", "status", "error"),
    **_all(RECOMPUTED, "the digest of the parts", "identity.hash"),
    **_all(RECOMPUTED, "what the report says elsewhere; versions of rooms by the repeated run", "identity.parts"),
    **_all(TRUST, "a digest of source that is not here", "identity.code.*"),
    **_all(TRUST, "a digest of what the command asked for", "identity.request"),
    **_all(REPEATED, "numbers of the model before training", "model.signature"),
    **_all(TRUST, "names are free; a board takes those of shipped tasks from their files", "task.name", "task.version"),
    **_all(RECOMPUTED, "the digest of the specification", "task.content_hash"),
    **_all(TRUST, "as the name and the version above, with which they must agree", "task.spec.name"),
    **_all(TRUST, "the same", "task.spec.version"),
    **_all(TRUST, "words", "task.spec.title", "task.spec.description", "task.spec.citation", "task.spec.profile"),
    **_all(
        RECOMPUTED,
        "the examples are made again from it",
        *("task.spec.generator", "task.spec.parameters", "task.spec.splits", "task.spec.noise"),
    ),
    **_all(RECOMPUTED, "the configuration of a model of random weights is made again from it", "task.spec.model"),
    **_all(REPEATED, "steps and rates follow from it; the rest by the repeated run", "task.spec.training"),
    **_all(RECOMPUTED, "each is known here, in its version and with its options", "task.spec.diagnostics"),
    **_all(RECOMPUTED, "those of the report", "task.spec.seeds"),
    **_all(RECOMPUTED, "the examples made again", "data.counts.*", "data.fingerprint", "data.n_noisy"),
    **_all(RECOMPUTED, "the examples made again with it", "data.noise_rate", "data.limit"),
    **_all(
        RECOMPUTED,
        "of random weights: the model is made again from its name; of others, by the repeated run",
        *("model.name", "model.model_type", "model.parameters", "model.config"),
    ),
    **_all(RECOMPUTED, "of random weights: what the name says; of others, by the repeated run", "model.source"),
    **_all(
        RECOMPUTED,
        "null for random weights; for others by the repeated run",
        *("model.revision", "model.weights", "model.tokenizer", "model.base", "model.builder"),
    ),
    **_all(REPEATED, "whether each proof holds", "model.anatomy.*.ok"),
    **_all(TRUST, "the digits in which a proof was seen", "model.anatomy.*.detail"),
    **_all(TRUST, "a run that says so is not repeated", "model.remote_code", "environment.remote_code"),
    **_all(
        RECOMPUTED,
        "recipe and examples",
        *("training.optimizer", "training.examples_seen", "training.effective_batch_size"),
    ),
    **_all(
        RECOMPUTED,
        "recipe and learning curve",
        *("training.steps", "training.stop_reason", "training.snapshots.*", "training.settled_step"),
        *("training.final_rate", "training.steps_after_98"),
    ),
    **_all(REPEATED, "by the repeated run", "training.tokens_seen", "training.snapshot_rule"),
    **_all(RECOMPUTED, "what the recipe says", "training.schedule.settle"),
    **_all(RECOMPUTED, "the recipe and the learning curve", "training.schedule.step"),
    **_all(TRUST, "the identity of a twin that is not here", "training.schedule.twin"),
    **_all(TRUST, "a repeated run that differs in it is judged by its intervals", "training.way", "training.stacked"),
    **_all(RECOMPUTED, "the examples made again with them", "seeds.data", "seeds.noise"),
    **_all(REPEATED, "by the repeated run", "seeds.init", "seeds.order", "seeds.bootstrap"),
    **_all(
        RECOMPUTED,
        METRIC,
        *("metrics.*.value", "metrics.*.ci_low", "metrics.*.ci_high", "metrics.*.ci_method", "metrics.*.n"),
    ),
    **_all(
        RECOMPUTED,
        "whether there must be one; the words themselves are on trust",
        *("metrics.*.reason_if_null", "metrics.*.reason_if_no_interval"),
    ),
    **_all(RECOMPUTED, "as the metric is declared", "metrics.*.higher_is_better", "metrics.*.split"),
    **_all(REPEATED, "by the repeated run", "diagnostics.*.status"),
    **_all(TRUST, "words", "diagnostics.*.reason"),
    **_all(RECOMPUTED, "one that is not known here is refused", "diagnostics.*.version"),
    **_all(RECOMPUTED, "each is declared, and there", "diagnostics.*.metrics"),
    **_all(REPEATED, "metrics follow from them; themselves on the same machine", "diagnostics.*.details"),
    **_all(TRUST, "a clock", "diagnostics.*.seconds", "diagnostics.*.cpu_seconds"),
    **_all(
        RECOMPUTED,
        "decided again from the metrics",
        *("findings.*.id", "findings.*.claim", "findings.*.source", "findings.*.verdict", "findings.*.reason"),
        "findings.*.evidence",
    ),
    **_all(TRUST, "no file determines it", "environment.rote_bench", "environment.git_commit", "environment.git_dirty"),
    **_all(
        TRUST,
        "decides only how strictly a repeated run judges: equality, or the interval of the repeated run",
        *("environment.python", "environment.torch", "environment.transformers", "environment.platform"),
        *("environment.cpu", "environment.device", "environment.threads", "environment.processes"),
        *("environment.compiled", "environment.deterministic"),
    ),
    **_all(TRUST, "of evaluations; decides no number", "environment.batch_size"),
    **_all(REPEATED, "by the repeated run", "environment.dtype"),
    **_all(RECOMPUTED, "the recipe, where it names one; else by the repeated run", "environment.precision"),
    **_all(TRUST, "clocks and counters", *(f"timings.{f}" for f in ("data", "training", "evaluation", "diagnostics"))),
    **_all(TRUST, "the same", *(f"timings.{f}" for f in ("figures", "total", "cpu_seconds", "peak_memory_bytes"))),
    **_all(TRUST, "the same", "timings.cpu_by_stage.*"),
    **_all(RECOMPUTED, "the files beside the report", "artifacts.*.path", "artifacts.*.sha256", "artifacts.*.bytes"),
    **_all(TRUST, "words", "warnings.*"),
}


def leaves() -> Iterator[str]:
    """Every leaf of the report's schema, as a dotted path with ``*`` for names and places in lists."""
    yield from _leaves(Report, "")


def _leaves(kind: Any, path: str) -> Iterator[str]:
    if path == "task.spec":  # plain data in the schema, of a form that its own class has
        yield from (f"{path}.{f.name}" for f in dataclasses.fields(TaskSpec) if f.name not in WHENCE)
        return
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        for f in dataclasses.fields(kind):
            yield from _leaves(hints[f.name], f"{path}.{f.name}" if path else f.name)
    elif origin is tuple and arguments[0] is not str:
        yield from _leaves(arguments[0], f"{path}.*")
    elif path == "warnings":
        yield f"{path}.*"
    elif isinstance(origin, type) and issubclass(origin, Mapping) and arguments[1] is not object:
        yield from _leaves(arguments[1], f"{path}.*")
    else:
        yield path
