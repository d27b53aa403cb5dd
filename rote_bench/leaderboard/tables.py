"""A board as text: Markdown for repositories, LaTeX for papers, plain tables for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..report import escape
from ..report.table import fitted, text
from .sections import ranks, said, sections

CHECKED = (
    "*checked* gives, in per cent, the shares of a row's numbers that were recomputed from files beside its reports,"
    " that follow from details inside them, and that stand on their word."
)


def number(entry: Mapping[str, Any] | None) -> str:
    """A metric with its interval over seeds."""
    if entry is None or entry["value"] is None:
        return "-"
    said = f"{entry['value']:.3f}"
    return said if entry["ci_low"] is None else f"{said} [{entry['ci_low']:.2f}, {entry['ci_high']:.2f}]"


def checked(row: Mapping[str, Any]) -> str:
    """Shares of a row's numbers that were recomputed, that are consistent, and that are taken on trust."""
    counts = [row["checked"][key] for key in ("recomputed", "consistent", "trusted")]
    whole = sum(counts)
    return "-" if not whole else "/".join(f"{100 * count / whole:.0f}" for count in counts)


def _titled(task: Mapping[str, Any]) -> str:
    """The title of a task with its version, and with its recipe where that is not the shipped one."""
    recipe = f": {task['recipe']}" if task["recipe"] else ""
    return f"{task['title']}{recipe}, version {task['version']}"


def header(board: Mapping[str, Any]) -> list[str]:
    """The headings of a table of models."""
    headings = (board["metrics"][name]["heading"] for name in board["columns"])
    return ["rank", "model", "parameters", "noise", "seeds", *headings, "checked", "notes"]


def body(board: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """The cells of a table of models."""
    out = []
    for row in rows:
        notes = "; ".join([*([f"not ranked: {row['reason']}"] if row["reason"] else []), *row["marks"]])
        seeds = f"{row['cells']}" + (f" (+{row['failed']} failed)" if row["failed"] else "")
        out.append(
            [
                ranks(row, "-"),
                row["model"],
                f"{row['parameters'] / 1e6:.2f}M",
                f"{row['noise_rate']:g}",
                seeds,
                *(number(row["metrics"].get(name)) for name in board["columns"]),
                checked(row),
                notes,
            ]
        )
    return out


def _compared(task: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    heads = ["noise", "first", "second", "seeds", "difference", "p", "p (all pairs)", "smallest possible p"]
    rows = []
    for c in task["comparisons"]:
        difference = {"value": c["difference"], "ci_low": c["ci_low"], "ci_high": c["ci_high"]}
        p = ["-" if c[key] is None else f"{c[key]:.4f}" for key in ("p", "p_family", "p_smallest")]
        names = [c["first"], c["second"]]
        seeds = f"{c['seeds_first']}, {c['seeds_second']}"
        rows.append([f"{c['noise_rate']:g}", *names, seeds, number(difference), *p])
    return heads, rows


def _decided(task: Mapping[str, Any]) -> list[list[str]]:
    return [
        [
            f["model"],
            "-" if f["noise"] is None else f"{f['noise']:g}",
            f["id"],
            f["verdict"].replace("_", " "),
            f["reason"],
        ]
        for f in task["findings"]
    ]


def plain(board: Mapping[str, Any], style: str = "simple", width: int | None = None) -> str:
    """The board for the terminal, in any format of tabulate.

    Args:
        width: of the lines in the format ``simple``; the terminal's when None.
    """
    shown = escape.of_style(style)
    parts = []
    for task in board["tasks"]:
        parts.append(f"{shown(task['task'])}: {shown(_titled(task))}")
        if task["comparison"]:
            parts += map(shown, said(task["comparison"]))
            parts += [f"{one.title}\n{fitted(one.heads, one.rows, style, width)}" for one in sections(task)]
        parts.append(fitted(header(board), body(board, task["rows"]), style, width))
        heads, rows = _compared(task)
        if rows:
            parts.append(fitted(heads, rows, style, width))
    return "\n\n".join(parts) + "\n" if parts else "No report may stand on the board.\n"


def markdown(board: Mapping[str, Any]) -> str:
    """``leaderboard.md``."""
    counts, artifacts = board["reports"], board["artifacts"]
    lines = ["# Leaderboard", "", escape.markdown(board["rule"]), ""]
    lines += [
        f"{counts['counted']} of {counts['found']} reports count; {counts['refused']} were refused,"
        f" {counts['barred']} barred, {counts['conflicts']} contradict another, {counts['duplicates']} are duplicates."
        f" Of the files beside the counted reports {artifacts['present']} are here and {artifacts['missing']} are not.",
        "",
        "Numbers are means over seeds with 95 % t intervals over seeds in brackets. Rows stand by their mean; models"
        " whose ranks overlap are not ordered.",
        "",
        CHECKED,
        "",
    ]
    for task in board["tasks"]:
        lines += [f"## {escape.markdown(task['task'])}", ""]
        lines += [f"{escape.markdown(_titled(task))}.", ""]
        if task["comparison"]:
            lines += _compared_in_markdown(task)
        lines += [text(header(board), body(board, task["rows"]), "pipe"), ""]
        heads, rows = _compared(task)
        if rows:
            lines += ["### Differences of noise transfer", "", text(heads, rows, "pipe"), ""]
        decided = _decided(task)
        if decided:
            heads = ["model", "noise", "finding", "verdict", "because"]
            lines += ["### Findings over several cells", "", text(heads, decided, "pipe"), ""]
    if board["refused"]:
        lines += ["## Left out", ""]
        rows = [[one["path"], one["kind"], one["reason"]] for one in board["refused"]]
        lines += [text(("report", "", "because"), rows, "pipe"), ""]
    return "\n".join(lines)


def _compared_in_markdown(task: Mapping[str, Any]) -> list[str]:
    lines = [line for sentence in said(task["comparison"]) for line in (escape.markdown(sentence), "")]
    for one in sections(task):
        lines += [f"### {escape.markdown(one.title)}", "", escape.markdown(one.note), ""]
        lines += [text(one.heads, one.rows, "pipe"), ""]
    return [*lines, "### All metrics", ""]


def latex(board: Mapping[str, Any]) -> str:
    """``leaderboard.tex``: one table for each task, to be included in a document."""
    lines = ["% Made by rote-bench leaderboard build."]
    for task in board["tasks"]:
        rows = [row[:-1] for row in body(board, task["rows"])]
        caption = f"{escape.latex(_titled(task))} ({escape.latex(task['task'])})."
        ranked = [escape.latex(f"{r['model']}: {r['reason']}") for r in task["rows"] if r["reason"] and r["noise_rate"]]
        if ranked:
            caption += f" Not ranked: {'; '.join(ranked)}."
        lines += [
            r"\begin{table}",
            r"\centering",
            f"\\caption{{{caption}}}",
            text(header(board)[:-1], rows, "latex_raw"),
            r"\end{table}",
        ]
        if task["comparison"]:
            lines += _compared_in_latex(task)
    return "\n".join(lines) + "\n"


def _compared_in_latex(task: Mapping[str, Any]) -> list[str]:
    lines = []
    first, *others = sections(task)
    told = " ".join([task["comparison"]["title"] + ".", *said(task["comparison"]), first.note])
    for one, caption in ((first, told), *((each, f"{each.title}. {each.note}") for each in others)):
        lines += [r"\begin{table}", r"\centering", f"\\caption{{{escape.latex(caption)}}}"]
        lines += [text(one.heads, one.rows, "latex_raw"), r"\end{table}"]
    return lines
