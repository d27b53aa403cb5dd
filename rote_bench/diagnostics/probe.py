"""What can be read from hidden states: intermediate results and the true answer, by layer and position.

Probes are fitted on clean training examples, the best layer and position is chosen on the selection split, and both
held-out questions and memorised ones are reported. A probe that reads a concept may also have learned it, so each is
compared with a control task of the same shape (Hewitt and Liang, 2019), drawn several times, and with a network that
never learned anything.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..concepts import ANSWER, DRAWS
from ..measures import SHARE, Measure
from ..statistics import (
    RESAMPLES,
    Estimate,
    bootstrap_method,
    from_draws,
    interval,
    mean,
    proportion,
    quotient,
    resampled_means,
    t_quantile,
    within,
)
from . import LEAST, Details, Diagnostic, NotApplicable, Records, Result

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from ..concepts import Target
    from ..linear import Probes
    from ..models.anatomy import Anatomy
    from ..subject import Subject, View


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
    """Correctness of one target's probes: (n, sites) of the concept, (draws, n, sites) of its control task."""

    concept: dict[str, NDArray[np.float64]]
    control: dict[str, NDArray[np.float64]]

    @property
    def selectivity(self) -> NDArray[np.float64]:
        """(sites,) what the concept's probe reads more than its control on the selection split."""
        found: NDArray[np.float64] = self.concept["selection"].mean(0) - self.control["selection"].mean((0, 1))
        return found


class Probe(Diagnostic[ProbeOptions]):
    """Linear probes of every intermediate result and of the true answer."""

    name = "probe"
    version = 3
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
        from ..concepts import find_targets

        if len(subject.noisy) == 0:
            raise NotApplicable("no noisy labels at this noise rate")
        support = subject.anatomy().supports("block")
        if not support.ok:
            raise NotApplicable(f"the model's blocks could not be proved: {support.detail}")
        views = {
            "fit": subject.more_clean(self.options.fit_examples),
            "selection": subject.selection,
            "validation": subject.validation,
            "noisy": subject.noisy,
        }
        names = [n for n in views["fit"].places if all(n in v.places for v in views.values())]
        targets = find_targets(subject, views, self.options.intermediates)
        anatomy = subject.anatomy()
        trained = _fit_and_read(subject.states, subject, views, names, targets)
        floor = _fit_and_read(_reading(subject.random_anatomy(), subject), subject, views, names, targets)
        layers = anatomy.n_layers
        details: dict[str, Any] = {"layers": list(range(1, layers + 1)), "positions": names, "targets": {}}
        clusters = {name: view.clusters for name, view in views.items()}
        picked: dict[str, int] = {}
        for target, read in trained.items():
            picked[target] = int(read.selectivity.argmax())
            summary = _summary(read, floor[target], picked[target], layers, targets[target].classes)
            details["targets"][target] = {
                **summary,
                "by_layer": _by_layer(read, floor[target], layers, names, clusters),
            }
        rng = subject.rng(self.name)
        metrics: dict[str, Estimate] = {}
        concepts = [t for t in trained if t != ANSWER]
        if concepts:
            metrics["bridge_retention"] = _retention(trained, picked, concepts, clusters, rng)
        metrics["latent_clean_retention"] = _retention(trained, picked, [ANSWER], clusters, rng)
        metrics["probe_accuracy_noisy"] = _level(trained, picked, concepts or [ANSWER], clusters)
        metrics["probe_control_noisy"] = _level(trained, picked, concepts or [ANSWER], clusters, control=True)
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
        """What probes read at the best position of each layer, with both floors."""
        from ..report import figures

        targets = details["targets"]
        shown = list(targets) if len(targets) <= 5 else [*list(targets)[:4], ANSWER]
        lines = (
            ("validation", "held-out questions", figures.HELD_OUT, "-", "o"),
            ("noisy", "memorised questions", figures.MEMORISED, "-", "o"),
            ("control", "random classes instead (memorised questions)", figures.GREY, ":", ""),
            ("untrained", "untrained network (memorised questions)", figures.GREY, "--", ""),
        )
        width = max(7.6, 2.6 * len(shown) + 1.4)
        with figures.drawing(path, len(shown), width, 4.6) as (figure, axes):
            for ax, name in zip(axes, shown, strict=True):
                for key, text, color, dash, marker in lines:
                    figures.line(ax, details["layers"], targets[name]["by_layer"][key], color, text, dash, marker)
                concept = "intermediate result" if len(targets) == 2 else name.replace("_", " ")
                figures.panel(ax, "true answer" if name == ANSWER else concept)
                figures.layer_ticks(ax, details["layers"])
                figures.shares(ax)
            axes[0].set_ylabel("share that a linear probe reads right")
            figures.legend(figure, axes[0], 2)
            figures.title(figure, _found(targets))
        return True


def _found(targets: Mapping[str, Any]) -> str:
    """The result in a sentence: what can be read at the place that was chosen for each target."""
    from ..report.figures import percent

    def at(name: str, key: str) -> float:
        table = np.asarray(targets[name][key], dtype=float).ravel()
        return float(table[targets[name]["chosen_site"]])

    best = {key: at(ANSWER, key) for key in ("noisy", "validation", "control")}
    sentence = (
        f"The true answer can be read on {percent(best['noisy'])} of memorised and {percent(best['validation'])} of"
        f" held-out questions ({percent(best['control'])} of random classes)"
    )
    concepts = [name for name in targets if name != ANSWER]
    if not concepts:
        return sentence
    noisy, held = (float(np.mean([at(name, key) for name in concepts])) for key in ("noisy", "validation"))
    return f"{sentence}; intermediate results on {percent(noisy)} and {percent(held)}"


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
    targets: Mapping[str, Target],
) -> dict[str, _Read]:
    """Fit probes for all targets at all sites and score them on every view."""
    import torch

    from ..concepts import answer_tokens
    from ..linear import fit_probes

    places = {
        key: torch.stack([*(view.places[n] for n in names), answer_tokens(subject, view)[0]], 1)
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
            for k, drawn in enumerate(targets[name].control["fit"].to(device)):  # no name of a task holds the character
                wanted[f"{name}\0{k}"] = (drawn, targets[name].classes)
        found = {
            key: torch.stack([layer[:, columns] for layer in states(view, places[key])], 1).flatten(1, 2)
            for key, view in views.items()
        }
        probes = fit_probes(found.pop("fit"), wanted)
        for key, x in found.items():
            _score(probes, x, {n: targets[n] for n in chosen}, key, read)
    return read


def _score(probes: Probes, x: Tensor, targets: Mapping[str, Target], key: str, read: dict[str, _Read]) -> None:
    import torch

    for name, target in targets.items():
        hits = probes.predict(x, name).cpu() == target.labels[key][:, None]
        read[name].concept[key] = hits.double().numpy()
        drawn = [
            probes.predict(x, f"{name}\0{k}").cpu() == classes[:, None] for k, classes in enumerate(target.control[key])
        ]
        read[name].control[key] = torch.stack(drawn).double().numpy()


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
        "control": grid(read.control["noisy"].mean(0)),
        "random_network": grid(floor.concept["noisy"]),
    }


def _by_layer(
    read: _Read, floor: _Read, layers: int, names: Sequence[str], clusters: Mapping[str, NDArray[np.int64]]
) -> dict[str, Any]:
    """Levels with intervals at each layer's best position by the selection split, the untrained network's its own."""

    def best(of: _Read) -> NDArray[np.int64]:
        table = of.selectivity.reshape(layers, -1)
        return np.asarray(table.argmax(1) + np.arange(layers) * table.shape[1])

    def plain(found: Sequence[Estimate]) -> dict[str, list[float | None]]:
        return {key: [getattr(each, key) for each in found] for key in ("value", "ci_low", "ci_high")}

    sites, untrained = best(read), best(floor)
    positions = len(read.selectivity) // layers
    return {
        "position": [names[site % positions] if positions > 1 else "where the answers part" for site in sites],
        "validation": plain([proportion(read.concept["validation"][:, s], clusters["validation"]) for s in sites]),
        "noisy": plain([proportion(read.concept["noisy"][:, s], clusters["noisy"]) for s in sites]),
        "control": plain([_drawn(read.control["noisy"][:, :, s], clusters["noisy"]) for s in sites]),
        "untrained": plain([proportion(floor.concept["noisy"][:, s], clusters["noisy"]) for s in untrained]),
    }


def _drawn(hits: NDArray[np.float64], clusters: NDArray[np.int64]) -> Estimate:
    """The mean of a control task over draws and examples (draws, n): its interval holds the spread of both."""
    found = mean(hits.mean(0), clusters)
    if found.value is None or found.ci_low is None or found.ci_high is None:
        return found
    count = len(hits)
    reach = math.hypot(
        found.ci_high - found.value, t_quantile(count - 1) * float(hits.mean(1).std(ddof=1)) / math.sqrt(count)
    )
    low, high = max(0.0, found.value - reach), min(1.0, found.value + reach)
    return Estimate(found.value, low, high, f"{found.ci_method}, and t over {count} draws of the control", found.n)


def _retention(
    read: Mapping[str, _Read],
    picked: Mapping[str, int],
    targets: Sequence[str],
    clusters: Mapping[str, NDArray[np.int64]],
    rng: np.random.Generator,
) -> Estimate:
    """(accuracy on D_n - control) / (accuracy on V - control), at the chosen sites, mean over targets.

    Examples are resampled, and with them the draws of the control task, so that the interval holds both.
    """
    k = len(targets)

    def columns(key: str) -> NDArray[np.float64]:
        concept = [read[t].concept[key][:, picked[t]] for t in targets]
        control = [drawn for t in targets for drawn in read[t].control[key][:, :, picked[t]]]
        return np.stack([*concept, *control], 1)

    def excess(means: NDArray[np.float64], chosen: NDArray[np.int64]) -> NDArray[np.float64]:
        """Means (..., columns), the concept's less those of the chosen (..., draws) of the control."""
        control = means[..., k:].reshape(*means.shape[:-1], k, DRAWS)
        picked = np.take_along_axis(control, np.broadcast_to(chosen[..., None, :], control.shape), -1)
        found: NDArray[np.float64] = means[..., :k].mean(-1) - picked.mean((-1, -2))
        return found

    noisy, held = columns("noisy"), columns("validation")
    every, chosen = np.arange(DRAWS), rng.integers(DRAWS, size=(RESAMPLES, DRAWS))
    held_draws = excess(resampled_means(held, clusters["validation"], rng), chosen)
    least = interval(held_draws)[0]
    if least <= LEAST:
        reason = f"on held-out questions the probe may read as little as {least:.3f} more than its control"
        return Estimate.missing(reason, len(noisy))
    draws = quotient(excess(resampled_means(noisy, clusters["noisy"], rng), chosen), held_draws)
    value = quotient(excess(noisy.mean(0), every), excess(held.mean(0), every))
    method = f"{bootstrap_method(clusters['noisy'], clusters['validation'])} and draws of the control"
    return from_draws(value, draws, method, len(noisy))


def _level(
    read: Mapping[str, _Read],
    picked: Mapping[str, int],
    targets: Sequence[str],
    clusters: Mapping[str, NDArray[np.int64]],
    control: bool = False,
) -> Estimate:
    """Mean probe accuracy on memorised questions over targets at the chosen sites."""
    if control:
        return _drawn(np.mean([read[t].control["noisy"][:, :, picked[t]] for t in targets], 0), clusters["noisy"])
    values = np.mean([read[t].concept["noisy"][:, picked[t]] for t in targets], 0)
    if len(targets) == 1:
        return proportion(values, clusters["noisy"])
    return within(mean(values, clusters["noisy"]), SHARE)
