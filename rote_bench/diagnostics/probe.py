"""What can be read from hidden states: intermediate results and the true answer, by layer and position.

Probes are fitted on clean training examples, the best layer and position is chosen on the selection split, and both
held-out questions and memorised ones are reported. A probe that reads a concept may also have learned it, so each is
compared with a control task of the same shape (Hewitt and Liang, 2019) and with a network that never learned anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..measures import SHARE, Measure
from ..statistics import Estimate, bootstrap_method, from_draws, mean, quotient, resampled_means
from . import LEAST, Details, Diagnostic, NotApplicable, Records, Result

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from ..linear import Probes
    from ..models.anatomy import Anatomy
    from ..subject import Subject, View

ANSWER = "answer"


@dataclass(frozen=True)
class ProbeOptions:
    """How much is fitted.

    Attributes:
        fit_examples: clean training examples to fit on.
        intermediates: names of intermediate results; all when empty.
    """

    fit_examples: int = field(default=4096, metadata={"min": 10})
    intermediates: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Read:
    """Correctness of one target's probes, (n, sites) each, of the concept and of its control task."""

    concept: dict[str, NDArray[np.float64]]
    control: dict[str, NDArray[np.float64]]


class Probe(Diagnostic[ProbeOptions]):
    """Linear probes of every intermediate result and of the true answer."""

    name = "probe"
    version = 2
    description = "where intermediate results and the true answer can be read on memorised examples"
    metrics: ClassVar[tuple[Measure, ...]] = (
        Measure(
            "bridge_retention",
            "probe reads intermediate results on memorised questions, relative to held-out ones",
            "train_noisy",
            higher_is_better=True,
        ),
        Measure(
            "latent_clean_retention",
            "probe reads the true answer on memorised questions, relative to held-out ones",
            "train_noisy",
            higher_is_better=True,
        ),
        Measure(
            "probe_accuracy_noisy",
            "probe accuracy for intermediate results on memorised questions",
            "train_noisy",
            SHARE,
        ),
        Measure("probe_control_noisy", "the same for a control task of random classes", "train_noisy", SHARE),
    )
    Options: ClassVar[type] = ProbeOptions
    passes = (24, 5)

    def run(self, subject: Subject) -> Result:
        if len(subject.noisy) == 0:
            raise NotApplicable("no noisy labels at this noise rate")
        if not subject.anatomy().supports("block").ok:
            raise NotApplicable("the model's blocks could not be proved")
        views = {
            "fit": subject.more_clean(self.options.fit_examples),
            "selection": subject.selection,
            "validation": subject.validation,
            "noisy": subject.noisy,
        }
        names = [n for n in views["fit"].places if all(n in v.places for v in views.values())]
        targets = _targets(subject, views, self.options.intermediates)
        anatomy = subject.anatomy()
        trained = _fit_and_read(subject.states, subject, views, names, targets)
        floor = _fit_and_read(_reading(subject.random_anatomy(), subject), subject, views, names, targets)
        layers = anatomy.n_layers
        details: dict[str, Any] = {"layers": list(range(1, layers + 1)), "positions": names, "targets": {}}
        picked: dict[str, int] = {}
        for target, read in trained.items():
            selectivity = read.concept["selection"].mean(0) - read.control["selection"].mean(0)
            picked[target] = int(selectivity.argmax())
            details["targets"][target] = _summary(read, floor[target], picked[target], layers, targets[target].classes)
        clusters = {name: view.clusters for name, view in views.items()}
        rng = subject.rng(self.name)
        metrics = {}
        concepts = [t for t in trained if t != ANSWER]
        if concepts:
            metrics["bridge_retention"] = _retention(trained, picked, concepts, clusters, rng)
        metrics["latent_clean_retention"] = _retention(trained, picked, [ANSWER], clusters, rng)
        metrics["probe_accuracy_noisy"] = _level(trained, picked, concepts or [ANSWER], clusters, "noisy")
        metrics["probe_control_noisy"] = _level(trained, picked, concepts or [ANSWER], clusters, "noisy", True)
        return Result(metrics, details)

    def implied(self, details: Details, records: Records) -> Mapping[str, float]:
        targets = details["targets"]
        chosen = [name for name in targets if name != ANSWER] or [ANSWER]

        def mean(table: str) -> float:
            read = [np.asarray(targets[n][table], dtype=float).ravel()[targets[n]["chosen_site"]] for n in chosen]
            return float(np.mean(read))

        return {"probe_accuracy_noisy": mean("noisy"), "probe_control_noisy": mean("control")}

    @staticmethod
    def draw(details: Details, path: Path) -> bool:
        """Best probe accuracy over positions, by layer, on memorised and held-out questions, with both floors."""
        from ..report import figures

        targets = details["targets"]
        shown = list(targets) if len(targets) <= 5 else [*list(targets)[:4], ANSWER]
        lines = (
            ("validation", "held-out questions", figures.HELD_OUT, "-"),
            ("noisy", "memorised questions", figures.MEMORISED, "-"),
            ("control", "control task", figures.GREY, ":"),
            ("random_network", "untrained network", figures.GREY, "--"),
        )
        with figures.drawing(path, len(shown), 2.6 * len(shown) + 1.4, 4.0) as (figure, axes):
            for ax, name in zip(axes, shown, strict=True):
                for key, text, color, dash in lines:
                    best = [max(row) for row in targets[name][key]]
                    ax.plot(details["layers"], best, dash, color=color, marker=".", label=text)
                figures.panel(ax, "true answer" if name == ANSWER else name.replace("_", " "))
                figures.layer_ticks(ax, details["layers"])
                figures.shares(ax)
            axes[0].set_ylabel("probe accuracy, best position")
            figures.legend(figure, axes[0])
            figures.title(figure, "What can be read from the hidden states")
        return True


@dataclass(frozen=True)
class _Target:
    """Classes of one concept and of its control task in every view."""

    classes: int
    labels: dict[str, Tensor]
    control: dict[str, Tensor]


def _targets(subject: Subject, views: Mapping[str, View], wanted: Sequence[str]) -> dict[str, _Target]:
    import torch

    examples = views["fit"].labelled.examples
    names = [n for n in examples[0].intermediates if not wanted or n in wanted]
    rng = subject.rng("probe-control")
    out = {}
    for name in names:
        values = subject.task.values(name)
        labels = {key: torch.tensor(view.intermediate(name, values)) for key, view in views.items()}
        feature = _deciding_feature(examples, name)
        control: dict[str, Tensor] = {}
        random_class: dict[str, int] = {}
        for key, view in views.items():
            inputs = [e.features[feature] if feature else e.prompt for e in view.labelled.examples]
            control[key] = torch.tensor([random_class.setdefault(i, int(rng.integers(len(values)))) for i in inputs])
        out[name] = _Target(len(values), labels, control)
    tokens = {key: _answer_tokens(subject, view) for key, view in views.items()}
    known = sorted({int(t) for column in tokens.values() for t in column[1]})
    index = {token: i for i, token in enumerate(known)}
    labels = {key: torch.tensor([index[int(t)] for t in column[1]]) for key, column in tokens.items()}
    shuffled = {key: torch.tensor(rng.permutation(value.numpy())) for key, value in labels.items()}
    out[ANSWER] = _Target(len(known), labels, shuffled)
    return out


def _deciding_feature(examples: Sequence[Any], intermediate: str) -> str | None:
    """The coarsest surface feature whose value decides an intermediate result, for the control task."""
    found: list[tuple[int, str]] = []
    for feature in examples[0].features:
        implied: dict[str, set[str]] = {}
        for e in examples:
            implied.setdefault(e.features[feature], set()).add(e.intermediates[intermediate])
        if all(len(values) == 1 for values in implied.values()):
            found.append((len(implied), feature))
    return min(found)[1] if found else None


def _answer_tokens(subject: Subject, view: View) -> tuple[Tensor, Tensor]:
    """Position and true token at which the true answer parts from the label.

    Clean training examples have no second label; they take the offsets at which the noisy ones part, in turn.
    """
    import torch

    from ..encoding import first_difference

    if view.name != "clean":
        marked = [x != e.answer for e, x in zip(view.labelled.examples, view.labelled.labels, strict=True)]
        if all(marked):
            position, token, _ = first_difference(view.true, view.taught)
            return position, token
    noisy = subject.noisy
    offset = first_difference(noisy.true, noisy.taught)[0] - noisy.true.positions["last"]
    rows = torch.arange(len(view), device=offset.device)
    position = view.true.positions["last"] + offset[rows % len(offset)]
    return position, view.true.targets[rows, position]


def _reading(anatomy: Anatomy, subject: Subject) -> Callable[[View, Tensor], Iterator[Tensor]]:
    """As ``Subject.states``, of another model."""
    from ..interventions import BlockStates

    @cache
    def of(ids: Tensor) -> BlockStates:
        return BlockStates(anatomy, ids, batch_size=subject.batch_size)

    return lambda view, positions: of(view.true.input_ids).at(positions)


def _fit_and_read(
    states: Callable[[View, Tensor], Iterator[Tensor]],
    subject: Subject,
    views: Mapping[str, View],
    names: Sequence[str],
    targets: Mapping[str, _Target],
) -> dict[str, _Read]:
    """Fit probes for all targets at all sites and score them on every view."""
    import torch

    from ..linear import fit_probes

    places = {
        key: torch.stack([*(view.places[n] for n in names), _answer_tokens(subject, view)[0]], 1)
        for key, view in views.items()
    }
    read: dict[str, _Read] = {name: _Read({}, {}) for name in targets}
    # read together, as one run of the model gives all; answers have a place of their own
    for chosen, columns in (([t for t in targets if t != ANSWER], slice(-1)), ([ANSWER], slice(-1, None))):
        if not chosen:
            continue
        wanted: dict[str, tuple[Tensor, int]] = {}
        for name in chosen:
            device = views["fit"].true.input_ids.device
            wanted[name] = (targets[name].labels["fit"].to(device), targets[name].classes)
            wanted[f"{name} control"] = (targets[name].control["fit"].to(device), targets[name].classes)
        found = {
            key: torch.stack([layer[:, columns] for layer in states(view, places[key])], 1).flatten(1, 2)
            for key, view in views.items()
        }
        probes = fit_probes(found.pop("fit"), wanted)
        for key, x in found.items():
            _score(probes, x, {n: targets[n] for n in chosen}, key, read)
    return read


def _score(probes: Probes, x: Tensor, targets: Mapping[str, _Target], key: str, read: dict[str, _Read]) -> None:
    for name, target in targets.items():
        for suffix, labels, into in (
            ("", target.labels, read[name].concept),
            (" control", target.control, read[name].control),
        ):
            hits = probes.predict(x, f"{name}{suffix}").cpu() == labels[key][:, None]
            into[key] = hits.double().numpy()


def _summary(read: _Read, floor: _Read, site: int, layers: int, classes: int) -> dict[str, Any]:
    """Accuracies as tables of layers by positions."""

    def grid(values: NDArray[np.float64]) -> list[list[float]]:
        table: list[list[float]] = values.mean(0).reshape(layers, -1).tolist()
        return table

    return {
        "classes": classes,
        "chosen_site": site,
        "validation": grid(read.concept["validation"]),
        "noisy": grid(read.concept["noisy"]),
        "control": grid(read.control["noisy"]),
        "random_network": grid(floor.concept["noisy"]),
    }


def _retention(
    read: Mapping[str, _Read],
    picked: Mapping[str, int],
    targets: Sequence[str],
    clusters: Mapping[str, NDArray[np.int64]],
    rng: np.random.Generator,
) -> Estimate:
    """(accuracy on D_n - control) / (accuracy on V - control), at the chosen sites, mean over targets."""

    def columns(key: str) -> NDArray[np.float64]:
        parts = [read[t].concept[key][:, picked[t]] for t in targets] + [
            read[t].control[key][:, picked[t]] for t in targets
        ]
        return np.stack(parts, 1)

    k = len(targets)

    def ratio(noisy: NDArray[np.float64], held: NDArray[np.float64]) -> NDArray[np.float64]:
        above_noisy = noisy[..., :k] - noisy[..., k:]
        above_held = held[..., :k] - held[..., k:]
        return quotient(above_noisy.mean(-1), above_held.mean(-1))

    noisy, held = columns("noisy"), columns("validation")
    least = mean((held[:, :k] - held[:, k:]).mean(1), clusters["validation"]).ci_low
    if least is None or least <= LEAST:
        reason = f"on held-out questions the probe may read as little as {least or 0:.3f} more than its control"
        return Estimate.missing(reason, len(noisy))
    draws = ratio(resampled_means(noisy, clusters["noisy"], rng), resampled_means(held, clusters["validation"], rng))
    value = ratio(noisy.mean(0), held.mean(0))
    return from_draws(value, draws, bootstrap_method(clusters["noisy"], clusters["validation"]), len(noisy))


def _level(
    read: Mapping[str, _Read],
    picked: Mapping[str, int],
    targets: Sequence[str],
    clusters: Mapping[str, NDArray[np.int64]],
    key: str,
    control: bool = False,
) -> Estimate:
    """Mean probe accuracy over targets at the chosen sites."""
    tables = [read[t].control if control else read[t].concept for t in targets]
    values = np.stack([table[key][:, picked[t]] for table, t in zip(tables, targets, strict=True)], 1).mean(1)
    return mean(values, clusters[key])
