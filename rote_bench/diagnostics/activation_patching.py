"""Where does memorization sit? Activations of one snapshot patched into the other.

Donor and recipient are the same network before and after memorization and see the same input. Activations from before
memorization, put into the model from after it, should leave validation accuracy alone and undo memorization wherever
memorization sits (Du et al., 2025). The last block's whole output is the donor but for norm and unembedding, by
construction, and proves nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from ..measures import SHARE, Measure
from ..statistics import Estimate, bootstrap_method, cluster_codes, from_draws, quotient, resampled_means
from . import Details, Diagnostic, NotApplicable, Records, Result, lowest, too_low

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from ..encoding import Encoded
    from ..interventions import Site
    from ..models.anatomy import Anatomy
    from ..subject import Subject

PRE, POST = "pre_memorization", "post_memorization"
DIRECTIONS = {"pre_into_post": (PRE, POST), "post_into_pre": (POST, PRE)}
POSITIONS = ("all_positions", "answer_position")
NOISY = "train_noisy"


@dataclass(frozen=True)
class ActivationPatchingOptions:
    """What is patched.

    Attributes:
        components: parts of every block: block, mixer (attention or its like) and mlp.
        examples: largest number of examples of each kind.
    """

    components: tuple[Literal["block", "mixer", "mlp"], ...] = ("block", "mixer", "mlp")
    examples: int = field(default=512, metadata={"min": 2})

    def __post_init__(self) -> None:
        if not self.components:
            raise ValueError("components must name at least one part of the blocks")


@dataclass
class _Outcome:
    """Per example: is the patched model's answer right on V, the label on D_n, the true answer on D_n?"""

    validation: list[Tensor] = field(default_factory=list)
    memorized: list[Tensor] = field(default_factory=list)
    recovered: list[Tensor] = field(default_factory=list)
    difference: list[Tensor] = field(default_factory=list)

    def arrays(self) -> dict[str, NDArray[np.float64]]:
        import torch

        pairs = {
            "validation_accuracy": self.validation,
            "memorization_rate": self.memorized,
            "noisy_true_rate": self.recovered,
            "logit_difference": self.difference,
        }
        return {key: torch.cat(parts).double().numpy() for key, parts in pairs.items()}


class ActivationPatching(Diagnostic[ActivationPatchingOptions]):
    """Pre-memorization activations into the post-memorization model, and back."""

    name = "activation_patching"
    version = 4
    description = "what pre-memorization activations undo in the post-memorization model, and the reverse"
    metrics: ClassVar[tuple[Measure, ...]] = (
        Measure(
            "patch_dissociation",
            "held-out accuracy kept minus memorization kept when MLP layers are patched",
            "validation, train_noisy",
            column=7,
        ),
        Measure(
            "patched_mlp_validation_accuracy",
            "held-out accuracy with all MLPs patched from before memorization",
            "validation",
            SHARE,
        ),
        Measure(
            "patched_mlp_memorization_rate",
            "memorization with all MLPs patched from before memorization",
            "train_noisy",
            SHARE,
        ),
    )
    Options: ClassVar[type] = ActivationPatchingOptions
    passes = (29, 23)

    def run(self, subject: Subject) -> Result:
        if PRE not in subject.anatomies:
            raise NotApplicable(subject.without_pre)
        if len(subject.noisy) == 0:
            raise NotApplicable("no noisy labels at this noise rate")
        components = [c for c in self.options.components if subject.anatomy().supports(c).ok]
        for component in set(self.options.components) - set(components):
            subject.warn(f"{self.name}: {component} left out: {subject.anatomy().supports(component).detail}")
        if not components:
            raise NotApplicable("no component of the blocks could be proved")
        details: dict[str, Any] = {"layers": list(range(1, subject.anatomy().n_layers + 1)), "intact": {}}
        outcomes = _patch(subject, self.options, components)
        for (_, recipient), outcome in zip(DIRECTIONS.values(), outcomes.values(), strict=True):
            details["intact"][recipient] = _means(outcome[("intact",)])
        details["directions"] = {
            name: {
                c: {
                    where: _by_layer([outcome[(c, where, layer)] for layer in range(len(details["layers"]))])
                    for where in POSITIONS
                }
                for c in components
            }
            for name, outcome in outcomes.items()
        }
        details["all_layers"] = {
            name: {c: _means(outcome[(c, "all_layers")]) for c in components} for name, outcome in outcomes.items()
        }
        forward = outcomes["pre_into_post"]
        details["controls"] = {
            "self_patch_changed": _self_patch(subject, self.options, components),
            "last_block_agreement": _last_block(outcomes, details),
        }
        records = _records(subject, outcomes, components, len(details["layers"]))
        metrics: dict[str, Estimate] = {}
        if "mlp" in components:
            details["least"] = _least(forward, subject)
            metrics = self._estimates(details["least"], records)
        return Result(metrics, details, records)

    def _estimates(self, least: Mapping[str, float], records: Records) -> dict[str, Estimate]:
        """``patch_dissociation`` over single layers' MLP outputs, and the two levels with all of them patched."""
        held, noisy = (_hits(records, split, asked) for split, asked in (("validation", "true"), (NOISY, "label")))
        return _metrics(held, noisy, least, self.rng(self.name))

    def implied(self, details: Details, records: Records) -> Mapping[str, Estimate | float | None]:
        together = details["all_layers"]["pre_into_post"]
        if "mlp" not in together:
            return {}
        if records:
            return self._estimates(details["least"], records)
        intact = details["intact"][POST]
        by_layer = details["directions"]["pre_into_post"]["mlp"]["all_positions"]
        dissociation = None
        if _too_little(details["least"]) is None:
            kept = [np.asarray(by_layer[name], dtype=float) / intact[name] for name in RELATIVE_TO]
            dissociation = float((kept[0] - kept[1]).mean())
        return {
            "patch_dissociation": dissociation,
            "patched_mlp_validation_accuracy": together["mlp"]["validation_accuracy"],
            "patched_mlp_memorization_rate": together["mlp"]["memorization_rate"],
        }

    @staticmethod
    def series(details: Details) -> Details:
        forward = details["directions"]["pre_into_post"]
        return {
            "layers": details["layers"],
            "components": {
                component: {key: where["all_positions"][key] for key in ("validation_accuracy", "memorization_rate")}
                for component, where in forward.items()
            },
        }

    @staticmethod
    def draw(details: Details, path: Path) -> bool:
        """What activations from before memorization undo in the model from after it, by component and layer."""
        from ..report import figures

        direction, layers = details["directions"]["pre_into_post"], details["layers"]
        lines = (
            ("validation_accuracy", "right on held-out questions", figures.HELD_OUT),
            ("memorization_rate", "wrong label still given", figures.MEMORISED),
            ("noisy_true_rate", "true answer given instead", figures.TRUE),
        )
        with figures.drawing(path, len(direction), max(8.6, 3.4 * len(direction) + 0.6), 4.4) as (figure, axes):
            for ax, (component, where) in zip(axes, direction.items(), strict=True):
                together = details["all_layers"]["pre_into_post"][component]
                at = len(layers) + 1.2
                for key, text, color in lines:
                    ax.plot(layers, where["all_positions"][key], color=color, marker="o", label=text)
                    ax.plot([at], [together[key]], color=color, marker="D", markersize=7, linestyle="none")
                    ax.axhline(details["intact"][POST][key], color=color, linewidth=0.9, linestyle=":")
                ax.axvline(len(layers) + 0.6, color="#cccccc", linewidth=0.8)
                step = max(1, len(layers) // 8)
                ax.set_xticks([*layers[::step], at], [*map(str, layers[::step]), "all"])
                figures.panel(ax, figures.COMPONENTS.get(component, component))
                ax.set_xlabel("patched layer")
                figures.shares(ax)
            axes[0].set_ylabel("share of questions")
            figures.legend(figure, axes[0], 3)
            figures.title(
                figure, "Activations from before memorization, put into the model after it (dotted: unpatched)"
            )
        return True


Key = tuple[Any, ...]


def _plans(anatomy: Anatomy, components: Sequence[str]) -> dict[Key, tuple[list[Site], str]]:
    """Every intervention: key -> the sites replaced together, and at which positions."""
    from ..interventions import Site

    plans: dict[Key, tuple[list[Site], str]] = {}
    layers = range(anatomy.n_layers)
    for component in components:
        for where in POSITIONS:
            for layer in layers:
                plans[(component, where, layer)] = ([Site(layer, component)], where)
        plans[(component, "all_layers")] = ([Site(layer, component) for layer in layers], "all_positions")
    return plans


def _patch(
    subject: Subject, options: ActivationPatchingOptions, components: Sequence[str]
) -> dict[str, dict[Key, _Outcome]]:
    """Run every intervention on every example, in both directions."""
    import torch

    from ..encoding import IGNORED, first_difference
    from ..evaluation import batches, scored
    from ..interventions import Intact, replace, run

    plans = _plans(subject.anatomy(), components)
    sites = sorted({site for chosen, _ in plans.values() for site in chosen})
    outcomes = {name: {key: _Outcome() for key in [("intact",), *plans]} for name in DIRECTIONS}
    noisy, validation = subject.noisy, subject.validation
    n_noisy, n_held = min(options.examples, len(noisy)), min(options.examples, len(validation))
    position, true_token, label_token = first_difference(
        noisy.true.rows(slice(n_noisy)), noisy.taught.rows(slice(n_noisy))
    )
    shared = torch.equal(noisy.true.input_ids, noisy.taught.input_ids)

    def under_each(part: Encoded, columns: Tensor) -> Iterator[tuple[_Outcome, Tensor]]:
        """Logits under one intervention after another: all together fill any memory where the vocabulary is large."""
        ids, answer = part.input_ids, part.targets != IGNORED
        intact = {s: Intact(subject.anatomy(s), ids, sites, columns=columns) for s in (PRE, POST)}
        for name, (donor, recipient) in DIRECTIONS.items():
            yield outcomes[name][("intact",)], intact[recipient].logits
            for key, (chosen, where) in plans.items():
                mask = answer if where == "answer_position" else None
                edits = {site: replace(intact[donor].states[site], mask) for site in chosen}
                yield outcomes[name][key], run(subject.anatomy(recipient), ids, edits, intact[recipient])

    with torch.inference_mode():
        for rows in batches(n_held, subject.batch_size):
            part = validation.true.rows(rows)
            columns = part.scored
            for outcome, logits in under_each(part, columns):
                outcome.validation.append(part.correct(logits, columns).cpu())
        for rows in batches(n_noisy, subject.batch_size):
            true, taught = noisy.true.rows(rows), noisy.taught.rows(rows)
            index = torch.arange(len(true), device=true.input_ids.device)
            columns = scored([true, taught]) if shared else true.scored
            column = torch.searchsorted(columns, position[rows])
            for outcome, logits in under_each(true, columns):
                at = logits[index, column].float()
                difference = at[index, true_token[rows]] - at[index, label_token[rows]]
                outcome.recovered.append(true.correct(logits, columns).cpu())
                outcome.difference.append(difference.cpu())
                if shared:
                    outcome.memorized.append(taught.correct(logits, columns).cpu())
            if not shared:
                columns = taught.scored
                for outcome, logits in under_each(taught, columns):
                    outcome.memorized.append(taught.correct(logits, columns).cpu())
    return outcomes


def _means(outcome: _Outcome) -> dict[str, float]:
    return {key: float(values.mean()) for key, values in outcome.arrays().items()}


def _by_layer(outcomes: Sequence[_Outcome]) -> dict[str, list[float]]:
    means = [_means(outcome) for outcome in outcomes]
    return {key: [m[key] for m in means] for key in means[0]}


def _self_patch(subject: Subject, options: ActivationPatchingOptions, components: Sequence[str]) -> float:
    """The largest change of any logit when a model's own activations are put back: must be 0."""
    import torch

    from ..interventions import Site, capture, replace, run

    anatomy = subject.anatomy()
    ids = subject.validation.true.input_ids[: min(64, options.examples, subject.batch_size)]
    sites = [Site(layer, c) for layer in range(anatomy.n_layers) for c in components]
    with torch.inference_mode():
        intact, states = capture(anatomy, ids, sites)
        patched = run(anatomy, ids, {site: replace(states[site]) for site in sites})
    return float((patched - intact).abs().max())


def _last_block(outcomes: Mapping[str, Mapping[Key, _Outcome]], details: Mapping[str, Any]) -> float | None:
    """How often the last block's whole output makes the recipient right where the donor is and wrong where it is.

    Near 1 by construction: only the final norm and the unembedding are the recipient's own.
    """
    import torch

    key: Key = ("block", "all_positions", details["layers"][-1] - 1)
    if key not in outcomes["pre_into_post"]:
        return None
    back = {"pre_into_post": "post_into_pre", "post_into_pre": "pre_into_post"}
    agreed = [
        torch.cat(outcome[key].memorized) == torch.cat(outcomes[back[name]][("intact",)].memorized)
        for name, outcome in outcomes.items()
    ]
    return float(torch.cat(agreed).double().mean())


RELATIVE_TO = {
    "validation_accuracy": "the intact model's held-out accuracy",
    "memorization_rate": "the intact model's memorization",
}


def _least(outcome: Mapping[Key, _Outcome], subject: Subject) -> dict[str, float]:
    """Lower bounds of what the intact model does."""
    intact = outcome[("intact",)].arrays()
    clusters = {"validation_accuracy": subject.validation.clusters, "memorization_rate": subject.noisy.clusters}
    return {name: lowest(intact[name], clusters[name][: len(intact[name])]) for name in RELATIVE_TO}


def _too_little(least: Mapping[str, float]) -> str | None:
    """Why nothing is said relative to the intact model, which did not learn or did not memorise."""
    return next((why for name, what in RELATIVE_TO.items() if (why := too_low(what, least[name]))), None)


def _records(
    subject: Subject, outcomes: Mapping[str, Mapping[Key, _Outcome]], components: Sequence[str], layers: int
) -> dict[str, list[Any]]:
    """A row for each direction, example and answer that was asked for: whether it is given, unpatched and patched."""
    rows: list[dict[str, Any]] = []
    questions = (
        ("validation", subject.validation, "true", "validation_accuracy"),
        (NOISY, subject.noisy, "label", "memorization_rate"),
        (NOISY, subject.noisy, "true", "noisy_true_rate"),
    )
    for direction, outcome in outcomes.items():
        found = {key: each.arrays() for key, each in outcome.items()}
        for split, view, asked, name in questions:
            columns: dict[str, NDArray[np.bool_]] = {"intact": found[("intact",)][name] > 0}
            for c in components:
                for where in POSITIONS:
                    by_layer = [found[(c, where, layer)][name] > 0 for layer in range(layers)]
                    columns[f"{c}_{where}"] = np.stack(by_layer, 1)
                columns[f"{c}_all_layers"] = found[(c, "all_layers")][name] > 0
            listed = {column: values.tolist() for column, values in columns.items()}
            for i in range(len(columns["intact"])):
                place = {"direction": direction, "split": split, "index": view.labelled.indices[i]}
                group = {"group": view.labelled.examples[i].group, "asked": asked}
                rows.append({**place, **group, **{column: values[i] for column, values in listed.items()}})
    return {column: [row[column] for row in rows] for column in rows[0]}


@dataclass(frozen=True)
class _Hits:
    """Of n examples: the answer is given by the intact model (n,), with one layer's MLP patched (n, layers), and with
    all of them (n,); and their clusters (n,)."""

    intact: NDArray[np.float64]
    by_layer: NDArray[np.float64]
    together: NDArray[np.float64]
    clusters: NDArray[np.int64]


def _hits(records: Records, split: str, asked: str) -> _Hits:
    found = zip(records["direction"], records["split"], records["asked"], strict=True)
    rows = [i for i, each in enumerate(found) if each == ("pre_into_post", split, asked)]
    intact, by_layer, together = (
        np.array([records[name][i] for i in rows], dtype=float)
        for name in ("intact", "mlp_all_positions", "mlp_all_layers")
    )
    return _Hits(intact, by_layer, together, cluster_codes([records["group"][i] for i in rows]))


def _metrics(held: _Hits, noisy: _Hits, least: Mapping[str, float], rng: np.random.Generator) -> dict[str, Estimate]:
    """From the hits of held-out examples (true answers) and of noisy ones (their labels)."""
    from ..statistics import proportion

    accuracy = np.concatenate([held.intact[:, None], held.by_layer], 1)
    memory = np.concatenate([noisy.intact[:, None], noisy.by_layer], 1)
    n = len(accuracy) + len(memory)

    def area(v: NDArray[np.float64], m: NDArray[np.float64]) -> NDArray[np.float64]:
        kept: NDArray[np.float64] = quotient(v[..., 1:], v[..., :1]) - quotient(m[..., 1:], m[..., :1])
        relative: NDArray[np.float64] = kept.mean(-1)
        return relative

    reason = _too_little(least)
    if reason is not None:
        dissociation = Estimate.missing(reason, n)
    else:
        draws = area(resampled_means(accuracy, held.clusters, rng), resampled_means(memory, noisy.clusters, rng))
        value = area(accuracy.mean(0), memory.mean(0))
        dissociation = from_draws(value, draws, bootstrap_method(held.clusters, noisy.clusters), n)
    return {
        "patch_dissociation": dissociation,
        "patched_mlp_validation_accuracy": proportion(held.together, held.clusters),
        "patched_mlp_memorization_rate": proportion(noisy.together, noisy.clusters),
    }
