"""Where does memorization sit? Activations of one snapshot patched into the other.

Donor and recipient are the same network before and after memorization and see the same input. Activations from before
memorization, put into the model from after it, should leave validation accuracy alone and undo memorization wherever
memorization sits (Du et al., 2025). But memorised labels are fragile: any disturbance takes them first. So the change
that a patch makes is compared with the change of another example, added to the recipient's own activation, and MLPs
with mixers. The last block's whole output is the donor but for norm and unembedding, by construction, and proves
nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from ..dissociation import Hits, areas, levels_over_draws
from ..measures import SHARE, Measure
from ..statistics import Estimate, cluster_codes, proportion
from . import Details, Diagnostic, NotApplicable, Records, Result, levels, lowest, too_low

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..patching import Key, Others, Outcome
    from ..subject import Subject

PRE, POST = "pre_memorization", "post_memorization"
DIRECTIONS = {"pre_into_post": (PRE, POST), "post_into_pre": (POST, PRE)}
NOISY = "train_noisy"
COMPARED = ("mlp", "mixer")  # parts whose changes are compared with those of other examples
POSITIONS = ("all_positions", "answer_position")
OWN, FOREIGN = "own", "foreign"
CHANGES = {OWN: "its own\nchange", FOREIGN: "another\nexample's", "gaussian": "noise\nlike it", "mean": "mean\nchange"}
ENDS = ("value", "ci_low", "ci_high")
FIRST, LAST = slice(None, -1), slice(-1, None)


@dataclass(frozen=True)
class ActivationPatchingOptions:
    """What is patched.

    Attributes:
        components: parts of every block: block, mixer (attention or its like) and mlp.
        examples: largest number of examples of each kind.
        derangements: how often every example is given the change of another one.
    """

    components: tuple[Literal["block", "mixer", "mlp"], ...] = ("block", "mixer", "mlp")
    examples: int = field(default=512, metadata={"min": 2})
    derangements: int = field(default=5, metadata={"min": 5})

    def __post_init__(self) -> None:
        if not self.components:
            raise ValueError("components must name at least one part of the blocks")


class ActivationPatching(Diagnostic[ActivationPatchingOptions]):
    """Pre-memorization activations into the post-memorization model, and back."""

    name = "activation_patching"
    version = 5
    description = "what pre-memorization activations undo in the post-memorization model, and the reverse"
    metrics: ClassVar[tuple[Measure, ...]] = (
        Measure(
            "patch_dissociation",
            "held-out accuracy kept minus memorization kept when MLP layers are patched",
            "validation, train_noisy",
            column=7,
        ),
        Measure(
            "patch_dissociation_excess",
            "the same beyond what the change of another example does",
            "validation, train_noisy",
        ),
        Measure(
            "patch_specificity",
            "that excess of MLP layers beyond the excess of attention or its like",
            "validation, train_noisy",
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
    passes = (31, 51)

    def run(self, subject: Subject) -> Result:
        components = [c for c in self.options.components if subject.anatomy().supports(c).ok]
        if not components:
            why = subject.anatomy().supports(self.options.components[0]).detail
            raise NotApplicable(f"no component of the blocks could be proved: {why}")
        if PRE not in subject.anatomies:
            raise NotApplicable(subject.without_pre)
        if len(subject.noisy) == 0:
            raise NotApplicable("no noisy labels at this noise rate")
        for component in set(self.options.components) - set(components):
            subject.warn(f"{self.name}: {component} left out: {subject.anatomy().supports(component).detail}")
        details: dict[str, Any] = {"layers": list(range(1, subject.anatomy().n_layers + 1)), "intact": {}}
        outcomes = _patched(subject, self.options, components)
        for (_, recipient), outcome in zip(DIRECTIONS.values(), outcomes.values(), strict=True):
            details["intact"][recipient] = outcome[("intact",)].means()
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
            name: {c: outcome[(c, "all_layers")].means() for c in components} for name, outcome in outcomes.items()
        }
        details["controls"] = {
            "self_patch_changed": _self_patch(subject, self.options, components),
            "last_block_agreement": _last_block(outcomes, details),
        }
        compared = [c for c in COMPARED if c in components]
        details["foreign"], others = {}, None
        if compared and min(len(subject.noisy), len(subject.validation)) > 1:
            others = _others(subject, self.options, compared, self.rng(f"{self.name}-others"))
            details["foreign"] = others.told
        records = _records(subject, outcomes, components, len(details["layers"]), others)
        details["least"] = _least(outcomes["pre_into_post"], subject)
        details["levels"], details["areas"] = self._lines(outcomes["pre_into_post"], subject, components, others)
        return Result(self._estimates(details, records), details, records)

    def _estimates(self, details: Details, records: Records) -> dict[str, Estimate]:
        """The dissociations over single layers' MLP outputs, and the two levels with all of them patched."""
        if "mlp" not in details["all_layers"]["pre_into_post"]:
            return {}
        (held, held_all), (noisy, noisy_all) = [_recorded(records, *asked) for asked in ASKED]
        n = len(held_all) + len(noisy_all)
        metrics = {
            "patched_mlp_validation_accuracy": proportion(held_all, held.clusters),
            "patched_mlp_memorization_rate": proportion(noisy_all, noisy.clusters),
        }
        names = ("patch_dissociation", "patch_dissociation_excess", "patch_specificity")
        reason = _too_little(details["least"])
        if reason is not None:
            return {**metrics, **{name: Estimate.missing(reason, n) for name in names}}
        alone, alone_noisy = (replace(hits, changed={"mlp": hits.changed["mlp"]}) for hits in (held, noisy))
        found = areas(alone, alone_noisy, self.rng(self.name)).of("mlp")
        both = areas(held, noisy, self.rng(f"{self.name}-excess"))
        excess = specificity = Estimate.missing("there is no other example of its kind", n)
        if "mlp foreign" in held.changed:
            excess = both.excess(("mlp", "mlp foreign"))
            specificity = Estimate.missing("attention or its like was not patched beside the MLPs", n)
        if "mixer foreign" in held.changed:
            specificity = both.excess(("mlp", "mlp foreign"), ("mixer", "mixer foreign"))
        return {**metrics, **dict(zip(names, (found, excess, specificity), strict=True))}

    def implied(self, details: Details, records: Records) -> Mapping[str, Estimate | float | None]:
        together = details["all_layers"]["pre_into_post"]
        if "mlp" not in together:
            return {}
        if records:
            return self._estimates(details, records)
        said = _too_little(details["least"]) is None

        def area(levels: Mapping[str, Any]) -> float:
            kept = [np.asarray(levels[name], dtype=float) / details["intact"][POST][name] for name in RELATIVE_TO]
            return float((kept[0] - kept[1]).mean())

        patched = details["directions"]["pre_into_post"]
        own = {c: area(patched[c]["all_positions"]) for c in COMPARED if said and c in patched}
        foreign = {c: kinds[FOREIGN] for c, kinds in details["levels"].items() if FOREIGN in kinds}
        excess = {c: own[c] - area({k: v["value"] for k, v in foreign[c].items()}) for c in own if c in foreign}
        return {
            "patch_dissociation": own.get("mlp"),
            "patch_dissociation_excess": excess.get("mlp"),
            "patch_specificity": excess["mlp"] - excess["mixer"] if len(excess) == len(COMPARED) else None,
            "patched_mlp_validation_accuracy": together["mlp"]["validation_accuracy"],
            "patched_mlp_memorization_rate": together["mlp"]["memorization_rate"],
        }

    def _lines(
        self, forward: Mapping[Key, Outcome], subject: Subject, components: Sequence[str], others: Others | None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """By component and kind of change, all with intervals: levels by layer, and areas of the parts compared.

        Levels of the own change begin with the unpatched model and end with all layers patched at once.
        """
        rng, found = self.rng(f"{self.name}-levels"), {key: each.arrays() for key, each in forward.items()}
        n_layers, intact = subject.anatomy().n_layers, found[("intact",)]
        views = {"validation_accuracy": subject.validation, "memorization_rate": subject.noisy}
        lines: dict[str, Any] = {c: {OWN: {}} for c in components}
        hits: dict[str, dict[str, NDArray[np.float64]]] = {name: {} for name in views}
        for c in components:
            keys = [("intact",), *((c, "all_positions", layer) for layer in range(n_layers)), (c, "all_layers")]
            for name, view in {**views, "noisy_true_rate": subject.noisy}.items():
                table = np.stack([found[key][name] for key in keys], 1)
                lines[c][OWN][name] = levels(table, view.clusters[: len(table)])
                if name in views and c in COMPARED:
                    hits[name][f"{c} {OWN}"] = table[:, None, 1:-1]
        for name, tables in ({} if others is None else others.hits).items():
            for (c, kind), table in tables.items():
                clusters = views[name].clusters[: len(table)]
                lines[c].setdefault(kind, {})[name] = levels_over_draws(table, clusters, rng)
                hits[name][f"{c} {kind}"] = table
        spread: dict[str, dict[str, Any]] = {c: {} for c in components}
        if hits["memorization_rate"] and _too_little(_least(forward, subject)) is None:
            held, noisy = (Hits(intact[k], hits[k], view.clusters[: len(intact[k])]) for k, view in views.items())
            estimates = areas(held, noisy, rng)
            for key in estimates.values:
                c, kind = key.split()
                one = estimates.of(key)
                spread[c][kind] = {"value": [one.value], "ci_low": [one.ci_low], "ci_high": [one.ci_high]}
        return lines, spread

    @staticmethod
    def series(details: Details) -> Details:
        names = ("validation_accuracy", "memorization_rate")
        components = {}
        for component, where in details["directions"]["pre_into_post"].items():
            foreign = details["levels"].get(component, {}).get(FOREIGN, {})
            components[component] = {name: where["all_positions"][name] for name in names}
            if all(name in foreign for name in names):
                components[component][FOREIGN] = {name: foreign[name]["value"] for name in names}
        return {"layers": details["layers"], "components": components}

    @staticmethod
    def draw(details: Details, path: Path) -> bool:
        """What activations from before memorization undo in the model from after it, by component and layer."""
        from ..report import figures

        lines, areas, n = details["levels"], details["areas"], len(details["layers"])
        shown = [c for c in COMPARED if c in lines] or list(lines)
        questions = (
            ("validation_accuracy", "right on held-out questions", figures.HELD_OUT),
            ("memorization_rate", "wrong label still given", figures.MEMORISED),
            ("noisy_true_rate", "true answer given instead", figures.TRUE),
        )
        compared = [c for c in shown if areas[c]]
        columns = len(shown) + bool(compared)
        with figures.drawing(path, columns, 1.4 + 3.6 * columns, 4.6, share=False) as (figure, axes):
            for ax, component in zip(axes, shown, strict=False):
                at = n + 1.2
                for name, text, color in questions:
                    own = lines[component][OWN][name]
                    upto, together = ({key: ends[part] for key, ends in own.items()} for part in (FIRST, LAST))
                    figures.line(ax, range(n + 1), upto, color, text)
                    figures.line(ax, [at], together, color, "", "", "D")
                    if name in lines[component].get(FOREIGN, {}):
                        said = f"{text}, another example's change"
                        figures.line(ax, details["layers"], lines[component][FOREIGN][name], color, said, "--", "")
                step = max(1, n // 8)
                ticks = details["layers"][::step]
                ax.set_xticks([0, *ticks, at], ["none", *map(str, ticks), "all"])
                ax.set_xlabel("layer put back")
                figures.panel(ax, figures.COMPONENTS.get(component, component))
                figures.shares(ax, "share of questions" if ax is axes[0] else "")
            for i, component in enumerate(compared):
                kinds = [kind for kind in CHANGES if kind in areas[component]]
                x = [list(CHANGES).index(kind) + 0.24 * i - 0.12 for kind in kinds]
                ends = {key: [areas[component][kind][key][0] for kind in kinds] for key in ENDS}
                color, named = (figures.GREY, "#CC79A7")[i], figures.COMPONENTS.get(component, component)
                figures.line(axes[-1], x, ends, color, named, "", "os"[i])
            if compared:
                axes[-1].axhline(0, color="#888888", linewidth=0.8)
                axes[-1].set_xticks(range(len(CHANGES)), list(CHANGES.values()), fontsize=8.5)
                axes[-1].set_xlim(-0.5, len(CHANGES) - 0.5)
                axes[-1].set_ylabel("held-out kept minus wrong labels kept")
                figures.panel(axes[-1], "What is put in, mean over layers")
                axes[-1].legend(frameon=False, fontsize=9)
            figures.legend(figure, axes[0], 3 if columns > 2 else 2)
            figures.title(figure, _result(lines, shown[0], figures.COMPONENTS, figures.percent))
        return True


def _result(lines: Mapping[str, Any], component: str, names: Mapping[str, str], percent: Callable[[float], str]) -> str:
    """What was found, in a sentence."""

    def left(kind: str, part: slice) -> str:
        held, noisy = (percent(float(np.mean(lines[component][kind][k]["value"][part]))) for k in RELATIVE_TO)
        return f"{held} of held-out answers and {noisy} of wrong labels are left"

    text = (
        f"With the output of one layer's {names.get(component, component)} from before memorization,"
        f" {left(OWN, slice(1, -1))}"
    )
    if FOREIGN not in lines[component]:
        return text
    foreign = left(FOREIGN, slice(None)).removesuffix(" are left")
    return f"{text}; with the same change taken from another example, {foreign}"


def _patched(
    subject: Subject, options: ActivationPatchingOptions, components: Sequence[str]
) -> dict[str, dict[Key, Outcome]]:
    """Every intervention on every example, in both directions."""
    from ..patching import patched

    noisy, validation = subject.noisy, subject.validation
    some, held = slice(min(options.examples, len(noisy))), slice(min(options.examples, len(validation)))
    return patched(
        {snapshot: subject.anatomy(snapshot) for snapshot in (PRE, POST)},
        DIRECTIONS,
        components,
        validation=validation.true.rows(held),
        true=noisy.true.rows(some),
        taught=noisy.taught.rows(some),
        batch_size=subject.batch_size,
    )


def _others(
    subject: Subject, options: ActivationPatchingOptions, components: Sequence[str], rng: np.random.Generator
) -> Others:
    """What the changes of other examples do in the model after memorization, asked for answers and for labels."""
    from ..patching import Asked, under_others

    asked = {}
    noisy, held = subject.noisy, subject.validation
    for name, view, encoded in zip(RELATIVE_TO, (held, noisy), (held.true, noisy.taught), strict=True):
        some = encoded.rows(slice(min(options.examples, len(view))))
        examples, labels = view.labelled.examples[: len(some)], view.labelled.labels[: len(some)]
        answers = [[e.answer for e in examples], *([labels] if view is noisy else [])]
        asked[name] = Asked(some, answers, [e.group for e in examples])
    donor, recipient = subject.anatomy(PRE), subject.anatomy(POST)
    count, size = options.derangements, subject.batch_size
    return under_others(donor, recipient, asked, components, rng, derangements=count, batch_size=size)


def _by_layer(outcomes: Sequence[Outcome]) -> dict[str, list[float]]:
    means = [outcome.means() for outcome in outcomes]
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


def _last_block(outcomes: Mapping[str, Mapping[Key, Outcome]], details: Mapping[str, Any]) -> float | None:
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


def _least(outcome: Mapping[Key, Outcome], subject: Subject) -> dict[str, float]:
    """Lower bounds of what the intact model does."""
    intact = outcome[("intact",)].arrays()
    clusters = {"validation_accuracy": subject.validation.clusters, "memorization_rate": subject.noisy.clusters}
    return {name: lowest(intact[name], clusters[name][: len(intact[name])]) for name in RELATIVE_TO}


def _too_little(least: Mapping[str, float]) -> str | None:
    """Why nothing is said relative to the intact model, which did not learn or did not memorise."""
    return next((why for name, what in RELATIVE_TO.items() if (why := too_low(what, least[name]))), None)


ASKED = (("validation", "true"), (NOISY, "label"))


def _records(
    subject: Subject,
    outcomes: Mapping[str, Mapping[Key, Outcome]],
    components: Sequence[str],
    layers: int,
    others: Others | None,
) -> dict[str, list[Any]]:
    """A row for each direction, example and answer that was asked for: whether it is given, unpatched and patched.

    Where the changes of other examples were put in: whose, one for each derangement, and for each a value by layer.
    """
    rows: list[dict[str, Any]] = []
    questions = (
        ("validation", subject.validation, "true", "validation_accuracy"),
        (NOISY, subject.noisy, "label", "memorization_rate"),
        (NOISY, subject.noisy, "true", "noisy_true_rate"),
    )
    empty = {} if others is None else dict.fromkeys(["foreign", *(f"{c}_foreign" for c in others.components)])
    for direction, outcome in outcomes.items():
        found = {key: each.arrays() for key, each in outcome.items()}
        for split, view, asked, name in questions:
            columns: dict[str, NDArray[Any]] = {"intact": found[("intact",)][name] > 0}
            for c in components:
                for where in POSITIONS:
                    by_layer = [found[(c, where, layer)][name] > 0 for layer in range(layers)]
                    columns[f"{c}_{where}"] = np.stack(by_layer, 1)
                columns[f"{c}_all_layers"] = found[(c, "all_layers")][name] > 0
            if others is not None and direction == "pre_into_post" and (split, asked) in ASKED:
                columns["foreign"] = np.asarray(view.labelled.indices)[others.strangers[name].T]
                columns |= {f"{c}_foreign": others.hits[name][c, FOREIGN] > 0 for c in others.components}
            listed = {column: values.tolist() for column, values in columns.items()}
            for i in range(len(columns["intact"])):
                place = {"direction": direction, "split": split, "index": view.labelled.indices[i]}
                group = {"group": view.labelled.examples[i].group, "asked": asked}
                rows.append({**place, **group, **empty, **{column: values[i] for column, values in listed.items()}})
    return {column: [row[column] for row in rows] for column in rows[0]}


def _recorded(records: Records, split: str, asked: str) -> tuple[Hits, NDArray[np.float64]]:
    """What became of the answers, from before into after, by part and by part with other examples' changes; and (n,)
    with all MLPs patched."""
    found = zip(records["direction"], records["split"], records["asked"], strict=True)
    rows = [i for i, each in enumerate(found) if each == ("pre_into_post", split, asked)]

    def column(name: str) -> NDArray[np.float64]:
        return np.array([records[name][i] for i in rows], dtype=float)

    changed = {c: column(f"{c}_all_positions")[:, None] for c in COMPARED if f"{c}_all_positions" in records}
    changed |= {f"{c} foreign": column(f"{c}_foreign") for c in COMPARED if f"{c}_foreign" in records}
    clusters = cluster_codes([records["group"][i] for i in rows])
    return Hits(column("intact"), changed, clusters), column("mlp_all_layers")
