"""A report in the terminal, readable when piped too."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

VERDICTS = {
    "replicated": "replicated",
    "not_replicated": "NOT replicated",
    "inconclusive": "inconclusive",
    "not_applicable": "not applicable",
}
MEANINGS = {
    "validation_accuracy": "right on held-out questions at the end",
    "train_clean_accuracy": "right on clean training questions",
    "memorization_rate": "gives the wrong label it was taught",
    "noisy_true_rate": "gives the true answer in spite of a wrong label",
    "phantom_rate": "gives a wrong label it was never taught (control)",
    "counterfactual_memorization": "memorization above that control",
    "early_clean_peak": "highest share of mislabelled questions answered right during training",
    "early_clean_peak_relative": "the same, relative to held-out accuracy at that time",
    "memorization_lag": "doublings of training between generalising and memorising",
    "clean_label_depth": "relative depth at which the true answer leads",
    "override_depth": "relative depth at which the wrong label takes over",
    "patch_dissociation": "held-out accuracy kept minus memorization kept when MLP layers are patched",
    "latent_clean_retention": "probe reads the true answer on memorised questions, relative to held-out ones",
    "bridge_retention": "probe reads intermediate results on memorised questions, relative to held-out ones",
    "probe_accuracy_noisy": "probe accuracy for intermediate results on memorised questions",
    "probe_control_noisy": "the same for a control task of random classes",
    "reasoning_reliance_memorization": "memorization lost by erasing the intermediate result, beyond a random erasure",
    "reasoning_reliance_validation": "held-out accuracy lost by the same erasure, beyond a random one",
    "interchange_accuracy": "answers that follow another example's intermediate result, swapped in",
    "interchange_control": "the same for a random subspace",
    "distributedness_k50": "smallest share of heads or units whose removal halves memorization alone",
    "position_spread_memorization": "how evenly memorised labels hang on all tokens (1: evenly, 0: on one)",
    "position_spread_validation": "the same for held-out answers",
    "neighbour_leakage": "errors beside mislabelled examples minus errors beside clean ones",
    "neighbour_same_label": "neighbours answered with the very same wrong label",
    "circuit_sharing": "overlap of both circuits between chance (0) and two halves of one task (1)",
    "cross_faithfulness_memorization": "memorization kept by the clean task's circuit",
    "cross_faithfulness_clean": "the clean task kept by memorization's circuit",
    "cross_faithfulness_random": "memorization kept by a random circuit of that size",
    "heuristic_shift": "how much more heuristic units shift on mislabelled than on clean examples",
    "heuristic_shift_concentration": "share of that shift in heuristic units over their share of all units",
    "unit_patch_dissociation": "undoing memorization by most shifted units, beyond random units",
    "patched_mlp_validation_accuracy": "held-out accuracy with all MLPs patched from before memorization",
    "patched_mlp_memorization_rate": "memorization with all MLPs patched from before memorization",
}


def number(value: float | None) -> str:
    """Three decimals, or a dash."""
    return "-" if value is None else f"{value:.3f}"


def with_interval(entry: Mapping[str, Any]) -> str:
    """``0.987 [0.981, 0.992]``."""
    if entry["value"] is None:
        return "-"
    if entry["ci_low"] is None:
        return number(entry["value"])
    return f"{number(entry['value'])} [{number(entry['ci_low'])}, {number(entry['ci_high'])}]"


def render(report: Mapping[str, Any], *, width: int | None = None, color: bool = False) -> str:
    """The report as text.

    Args:
        width: of the lines; the terminal's when None.
        color: whether verdicts and headings are coloured.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    out = io.StringIO()
    console = Console(file=out, width=width or 100, force_terminal=color, no_color=not color, highlight=False)
    task, model, training = report["task"], report["model"], report["training"]
    console.print(Text(str(task["spec"]["title"]), style="bold"))
    console.print(
        Text(
            f"{model['name']} ({model['parameters']:,} parameters), noise {report['data']['noise_rate']:g}"
            f" ({report['data']['n_noisy']} wrong labels), seed {report['seeds']['data']}"
        )
    )
    if report["status"] != "success":
        console.print(Text(f"{report['status']}: {report['error']}", style="bold red"))
    if training["steps"]:
        stop = {"memorized": "memorization was complete", "budget": "the budget was spent"}.get(
            training["stop_reason"], training["stop_reason"]
        )
        console.print(
            Text(f"{training['steps']} steps, {training['examples_seen']:,} examples seen; stopped because {stop}")
        )
    if report["data"]["limit"] is not None:
        console.print(Text(f"cut short with --limit {report['data']['limit']}: not for comparison", style="yellow"))
    metrics = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    metrics.add_column("metric")
    metrics.add_column("value [95 % interval]", no_wrap=True)
    metrics.add_column("what it says")
    measured_by = {metric: name for name, d in report["diagnostics"].items() for metric in d["metrics"]}
    for name, entry in report["metrics"].items():
        meaning = MEANINGS.get(name) or f"measured by {measured_by.get(name, 'a plugin')}"
        shown = entry["reason_if_null"] if entry["value"] is None else meaning
        metrics.add_row(Text(name), Text(with_interval(entry)), Text(shown or ""))
    console.print()
    console.print(metrics)
    findings = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    findings.add_column("finding")
    findings.add_column("verdict", no_wrap=True)
    findings.add_column("claim")
    styles = {"replicated": "green", "not_replicated": "red", "inconclusive": "yellow", "not_applicable": "dim"}
    for finding in report["findings"]:
        verdict = finding["verdict"]
        claim = f"{finding['claim']} ({finding['source']})"
        findings.add_row(Text(finding["id"]), Text(VERDICTS[verdict], style=styles[verdict]), Text(claim))
    console.print()
    console.print(findings)
    aside = [(name, d) for name, d in report["diagnostics"].items() if d["status"] != "success"]
    for name, d in aside:
        console.print(Text(f"diagnostic {name}: {d['status'].replace('_', ' ')}: {d['reason']}", style="yellow"))
    for warning in report["warnings"]:
        console.print(Text(f"warning: {warning}", style="yellow"))
    timings = report["timings"]
    stages = ", ".join(f"{k} {timings[k]:.0f}" for k in ("data", "training", "evaluation", "diagnostics", "figures"))
    console.print()
    console.print(
        Text(f"{timings['total']:.0f} s ({stages}), {timings['peak_memory_bytes'] / 2**20:.0f} MiB at the most"),
        soft_wrap=True,
    )
    return out.getvalue()
