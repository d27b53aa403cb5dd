"""A board as text: Markdown for repositories, LaTeX for papers, plain tables for the terminal."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..report.table import fitted

Escape = Callable[[str], str]
_MARKDOWN = re.compile(r"[\\`*_\[\]<>&|~$#]")
_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    **{c: f"\\{c}" for c in "&%$#_{}"},
}


def markdown_text(text: str) -> str:
    """Text that Markdown, and HTML inside it, shows as it is."""
    return _MARKDOWN.sub(lambda m: {"<": "&lt;", ">": "&gt;", "&": "&amp;"}.get(m[0], f"\\{m[0]}"), text)


def latex_text(text: str) -> str:
    """Text that LaTeX shows as it is."""
    return "".join(_LATEX.get(c, c) for c in text)


def as_it_is(text: str) -> str:
    return text


def number(entry: Mapping[str, Any] | None) -> str:
    """A metric with its interval over seeds."""
    if entry is None or entry["value"] is None:
        return "-"
    text = f"{entry['value']:.3f}"
    return text if entry["ci_low"] is None else f"{text} [{entry['ci_low']:.2f}, {entry['ci_high']:.2f}]"


def ranks(row: Mapping[str, Any], to: str) -> str:
    """The ranks that a row may have, one where it is settled."""
    low, high = row["rank_low"], row["rank_high"]
    return "-" if low is None else f"{low}" if low == high else f"{low}{to}{high}"


def header(board: Mapping[str, Any], escape: Escape) -> list[str]:
    """The headings of a table of models."""
    headings = (escape(board["metrics"][name]["heading"]) for name in board["columns"])
    return ["rank", "model", "parameters", "noise", "seeds", *headings, "notes"]


def body(board: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], escape: Escape) -> list[list[str]]:
    """The cells of a table of models."""
    out = []
    for row in rows:
        notes = "; ".join([*([f"not ranked: {row['reason']}"] if row["reason"] else []), *row["marks"]])
        seeds = f"{row['cells']}" + (f" (+{row['failed']} failed)" if row["failed"] else "")
        out.append(
            [
                ranks(row, "-"),
                escape(row["model"]),
                f"{row['parameters'] / 1e6:.2f}M",
                f"{row['noise_rate']:g}",
                seeds,
                *(number(row["metrics"].get(name)) for name in board["columns"]),
                escape(notes),
            ]
        )
    return out


def _compared(task: Mapping[str, Any], escape: Escape) -> tuple[list[str], list[list[str]]]:
    heads = ["noise", "first", "second", "seeds", "difference", "p", "p (all pairs)", "smallest possible p"]
    rows = []
    for c in task["comparisons"]:
        difference = {"value": c["difference"], "ci_low": c["ci_low"], "ci_high": c["ci_high"]}
        p = ["-" if c[key] is None else f"{c[key]:.4f}" for key in ("p", "p_family", "p_smallest")]
        names = [escape(c["first"]), escape(c["second"])]
        seeds = f"{c['seeds_first']}, {c['seeds_second']}"
        rows.append([f"{c['noise_rate']:g}", *names, seeds, number(difference), *p])
    return heads, rows


def _decided(task: Mapping[str, Any], escape: Escape) -> list[list[str]]:
    return [
        [
            escape(f["model"]),
            "-" if f["noise"] is None else f"{f['noise']:g}",
            escape(f["id"]),
            escape(f["verdict"].replace("_", " ")),
            escape(f["reason"]),
        ]
        for f in task["findings"]
    ]


def _tabulate(rows: Sequence[Sequence[str]], header: Sequence[str], style: str) -> str:
    from tabulate import tabulate

    return str(tabulate(rows, headers=header, tablefmt=style, disable_numparse=True))


def plain(board: Mapping[str, Any], style: str = "simple", width: int | None = None) -> str:
    """The board for the terminal, in any format of tabulate.

    Args:
        width: of the lines in the format ``simple``; the terminal's when None.
    """
    escape = {"github": markdown_text, "pipe": markdown_text}.get(style, as_it_is)
    parts = []
    for task in board["tasks"]:
        parts.append(f"{escape(task['task'])}: {escape(task['title'])}, version {task['version']}")
        parts.append(fitted(header(board, escape), body(board, task["rows"], escape), style, width))
        heads, rows = _compared(task, escape)
        if rows:
            parts.append(fitted(heads, rows, style, width))
    return "\n\n".join(parts) + "\n" if parts else "No report may stand on the board.\n"


def markdown(board: Mapping[str, Any]) -> str:
    """``leaderboard.md``."""
    counts, artifacts = board["reports"], board["artifacts"]
    lines = ["# Leaderboard", "", markdown_text(board["rule"]), ""]
    lines += [
        f"{counts['counted']} of {counts['found']} reports count; {counts['refused']} were refused,"
        f" {counts['barred']} barred, {counts['duplicates']} are duplicates. Of the files beside the counted reports"
        f" {artifacts['present']} are here and {artifacts['missing']} are not.",
        "",
        "Numbers are means over seeds with 95 % t intervals over seeds in brackets. Rows stand by their mean; models"
        " whose ranks overlap are not ordered.",
        "",
    ]
    for task in board["tasks"]:
        lines += [f"## {markdown_text(task['task'])}", ""]
        lines += [f"{markdown_text(task['title'])}, version {task['version']}.", ""]
        table = body(board, task["rows"], markdown_text)
        lines += [_tabulate(table, header(board, markdown_text), "pipe"), ""]
        heads, rows = _compared(task, markdown_text)
        if rows:
            lines += ["### Differences of noise transfer", "", _tabulate(rows, heads, "pipe"), ""]
        decided = _decided(task, markdown_text)
        if decided:
            heads = ["model", "noise", "finding", "verdict", "because"]
            lines += ["### Findings over several cells", "", _tabulate(decided, heads, "pipe"), ""]
    if board["refused"]:
        lines += ["## Left out", ""]
        rows = [[markdown_text(one["path"]), one["kind"], markdown_text(one["reason"])] for one in board["refused"]]
        lines += [_tabulate(rows, ("report", "", "because"), "pipe"), ""]
    return "\n".join(lines)


def latex(board: Mapping[str, Any]) -> str:
    """``leaderboard.tex``: one table for each task, to be included in a document."""
    lines = ["% Made by rote-bench leaderboard build."]
    for task in board["tasks"]:
        rows = [row[:-1] for row in body(board, task["rows"], latex_text)]
        caption = f"{latex_text(task['title'])} ({latex_text(task['task'])}, version {task['version']})."
        ranked = [latex_text(f"{r['model']}: {r['reason']}") for r in task["rows"] if r["reason"] and r["noise_rate"]]
        if ranked:
            caption += f" Not ranked: {'; '.join(ranked)}."
        lines += [
            r"\begin{table}",
            r"\centering",
            f"\\caption{{{caption}}}",
            _tabulate(rows, header(board, latex_text)[:-1], "latex_raw"),
            r"\end{table}",
        ]
    return "\n".join(lines) + "\n"
