"""The tuned lens (Belrose et al., 2023): a trained affine map for each layer in front of the final norm."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from rote_bench.plugin import SHARE, Diagnostic, Measure, NotApplicable, Result, hookimpl

if TYPE_CHECKING:
    from torch import Tensor

    from rote_bench.plugin import Anatomy, Details, Estimate, Records, Subject, View


@dataclass(frozen=True)
class Options:
    """How the maps are fitted.

    Attributes:
        examples: clean training examples to fit on.
        steps: steps of Adam.
        learning_rate: of Adam.
    """

    examples: int = field(default=1024, metadata={"min": 16})
    steps: int = field(default=150, metadata={"min": 1})
    learning_rate: float = field(default=3e-3, metadata={"above": 0})


class TunedLens(Diagnostic[Options]):
    """Which answer each layer holds, read by maps that were fitted to the model's own last layer.

    The maps see clean training examples only, never a mislabelled or a held-out one. What the plain logit lens misses
    because a layer writes in another basis, the tuned lens can read; what it reads need not be what the model uses.
    """

    name = "tuned_lens"
    version = 1
    description = "which of the true answer and the noisy label each layer holds, through fitted maps"
    metrics: ClassVar[tuple[Measure, ...]] = (
        Measure(
            "tuned_clean_peak",
            "largest share of memorised questions whose true answer a layer holds, by fitted maps",
            "train_noisy",
            SHARE,
        ),
    )
    Options: ClassVar[type] = Options

    def run(self, subject: Subject) -> Result:
        from rote_bench.plugin import proportion

        if len(subject.noisy) == 0:
            raise NotApplicable("no noisy labels at this noise rate")
        anatomy = subject.anatomy()
        for name in ("block", "lens"):
            if not anatomy.supports(name).ok:
                raise NotApplicable(f"the lens needs what is not there: {anatomy.supports(name).detail}")
        maps, losses = self._fit(subject, anatomy)
        levels: dict[str, dict[str, list[float | None]]] = {}
        metrics: dict[str, Estimate] = {}
        for view in (subject.noisy, subject.validation):
            true, label = _hits(anatomy, view, maps, subject.batch_size)
            part: dict[str, list[float | None]] = {"true": [], "label": []}
            for layer in range(anatomy.n_layers):
                part["true"].append(proportion(true[:, layer], view.clusters).value)
                part["label"].append(proportion(label[:, layer], view.clusters).value)
            levels[view.name] = part
            if view.name == "noisy":
                best = max(range(anatomy.n_layers), key=lambda k: part["true"][k] or 0.0)
                metrics["tuned_clean_peak"] = proportion(true[:, best], view.clusters)
        return Result(
            metrics,
            {"layers": list(range(1, anatomy.n_layers + 1)), "levels": levels, "divergence": losses},
        )

    def _fit(self, subject: Subject, anatomy: Anatomy) -> tuple[list[tuple[Tensor, Tensor]], list[float]]:
        """One map (matrix, bias) a layer that brings its lens near the model's own distribution in KL divergence."""
        import torch
        from torch.nn.functional import kl_div

        view = subject.more_clean(self.options.examples)
        states = _states(anatomy, view, subject.batch_size)
        with torch.no_grad():
            target = anatomy.lens(states[:, -1]).float().log_softmax(-1)
        maps, losses = [], []
        for layer in range(anatomy.n_layers):
            x = states[:, layer].clone()
            matrix = torch.zeros(x.shape[-1], x.shape[-1], device=x.device, requires_grad=True)
            bias = torch.zeros(x.shape[-1], device=x.device, requires_grad=True)
            optimizer = torch.optim.Adam([matrix, bias], lr=self.options.learning_rate)
            loss = torch.zeros(())
            with torch.enable_grad():
                for _ in range(self.options.steps if layer < anatomy.n_layers - 1 else 0):
                    read = anatomy.lens(x + x @ matrix + bias).float().log_softmax(-1)
                    loss = kl_div(read, target, reduction="batchmean", log_target=True)
                    optimizer.zero_grad()
                    gradients = torch.autograd.grad(loss, [matrix, bias])
                    matrix.grad, bias.grad = gradients
                    optimizer.step()
            maps.append((matrix.detach(), bias.detach()))
            losses.append(float(loss.detach()))
        return maps, losses

    def implied(self, details: Details, records: Records) -> Mapping[str, float]:
        return {"tuned_clean_peak": max(details["levels"]["noisy"]["true"])}

    @staticmethod
    def draw(details: Details, path: Path) -> bool:
        import matplotlib.figure

        figure = matplotlib.figure.Figure(figsize=(8, 3.4), layout="constrained")
        titles = {"noisy": "mislabelled training questions", "validation": "held-out questions"}
        for axes, (name, part) in zip(figure.subplots(1, 2, sharey=True), details["levels"].items(), strict=True):
            axes.plot(details["layers"], part["true"], marker="o", color="#0072b2", label="true answer on top")
            axes.plot(details["layers"], part["label"], marker="s", color="#d55e00", label="wrong label on top")
            axes.set(title=titles[name], xlabel="block", ylim=(-0.02, 1.02), xticks=details["layers"])
        figure.axes[0].set_ylabel("share of examples")
        figure.axes[0].legend(frameon=False)
        figure.savefig(path, dpi=150)
        return True


def _states(anatomy: Anatomy, view: View, batch_size: int) -> Tensor:
    """(n, layers, width) the state after every block, where the answer begins."""
    from rote_bench.plugin import Site, states_at

    sites = [Site(layer, "block") for layer in range(anatomy.n_layers)]
    at = view.true.positions["last"].unsqueeze(1)
    states: Tensor = states_at(anatomy, view.true.input_ids, sites, at, batch_size=batch_size)[:, :, 0]
    return states


def _hits(anatomy: Anatomy, view: View, maps: list[tuple[Tensor, Tensor]], batch_size: int) -> tuple[Any, Any]:
    """(n, layers) whether the true answer, and the label, is on top of each layer's reading."""
    import torch

    states = _states(anatomy, view, batch_size)
    with torch.no_grad():
        top = torch.stack(
            [anatomy.lens(s + s @ m + b).argmax(-1) for s, (m, b) in zip(states.unbind(1), maps, strict=True)], 1
        )
    rows = torch.arange(len(view), device=top.device)
    at = view.true.positions["last"]
    true, label = view.true.targets[rows, at], view.taught.targets[rows, at]
    if bool((true == label).all()):  # answers that differ later say nothing here
        raise NotApplicable("true answer and label begin with the same token")
    return (top == true[:, None]).cpu().numpy(), (top == label[:, None]).cpu().numpy()


@hookimpl
def register_diagnostics(register: Callable[[type[Diagnostic[Any]]], None]) -> None:
    register(TunedLens)
