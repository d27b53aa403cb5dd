"""Text and tables that keep to the width of a terminal: folded between words, turned on their side where too wide.

What is folded or put into a table here is cleaned first, so that no text of a file can steer the terminal.
"""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

PIPED = 100  # columns where there is no terminal
LEAST, MOST = 40, 160
GAP = 2
READABLE = 24  # columns that a folded text needs at least

LONGEST, LONGEST_CELL = 20_000, 1000  # characters of a paragraph and of a cell, as no honest text has them
UNSEEN = frozenset("\u00ad\u200b\u200c\u200d\u2060\ufeff")  # take no room, and only make two texts look alike

Rows = Sequence[Sequence[str]]

results: TextIO | None = None  # where tables go, when that is not what standard output is at the moment


def clean(text: str, most: int | None = None) -> str:
    """A text on one line that shows as it is: what a terminal or an editor would obey is spelled out.

    Args:
        most: characters after which it is cut.
    """
    if most is not None and len(text) > most:
        text = f"{text[:most]}..."
    if text.isascii() and text.isprintable():
        return text
    return "".join(map(_shown, text))


def _shown(character: str) -> str:
    if character.isprintable():
        return character
    if character.isspace():
        return " "
    return "" if character in UNSEEN else character.encode("unicode_escape").decode("ascii")


def width() -> int:
    """Columns of the terminal, within what can be read; the same wherever there is none."""
    named = os.environ.get("COLUMNS", "")
    found = int(named) if named.isdecimal() else 0
    if not found:
        try:
            stream = results or sys.stdout
            found = os.get_terminal_size(stream.fileno()).columns
        except (OSError, ValueError, AttributeError):  # no terminal, or no stream at all
            found = PIPED
    return min(MOST, max(LEAST, found or PIPED))


def near(path: Path) -> str:
    """A path as it is seen from here, where it lies below; else as it is."""
    try:
        return str(path.relative_to(Path.cwd()))
    except (ValueError, OSError):  # it lies elsewhere, or this folder was removed
        return str(path)


def fold(text: str, columns: int, indent: str = "", hang: str | None = None) -> list[str]:
    """Lines of at most so many columns, broken between words; a word that is longer than a line is broken itself.

    Args:
        indent: before the first line.
        hang: before the others; the indent when None.
    """
    lines: list[str] = []
    for part in text.split("\n"):
        lines += textwrap.wrap(
            clean(part, LONGEST),
            max(1, columns),  # a column of nothing has no width
            initial_indent=indent if not lines else (indent if hang is None else hang),
            subsequent_indent=indent if hang is None else hang,
            break_on_hyphens=False,
        ) or [""]
    return [line.rstrip() for line in lines]  # a space stays before a word that is broken


def grid(header: Sequence[str], body: Rows, columns: int) -> str:
    """A table as it fits: plain, its last column folded, that column below the others, or rows turned into columns.

    Args:
        columns: of the lines at most.
    """
    body = [[clean(" ".join(cell.split()), LONGEST_CELL) for cell in row] for row in body]
    widths = [max(map(len, cells)) for cells in zip(header, *body, strict=True)]
    rest = columns - sum(widths[:-1]) - GAP * (len(widths) - 1)
    if sum(widths) + GAP * (len(widths) - 1) <= columns:
        return _plain(header, body, widths)
    folds = max(len(word) for row in (header, *body) for word in (row[-1].split() or [""]))
    if rest >= max(READABLE, folds):
        return _plain(header, body, [*widths[:-1], rest])
    if sum(widths[:-1]) + GAP * (len(widths) - 2) <= columns and widths[-1] > READABLE:
        return _below(header, body, widths[:-1], columns)
    return "\n\n".join(_turned(header, body, columns))


def _below(header: Sequence[str], body: Rows, widths: Sequence[int], columns: int) -> str:
    """Each row's last cell, which is text, folded under the others."""
    rule = (" " * GAP).join("-" * width for width in widths)
    lines = [*_row(header[:-1], widths), *fold(header[-1], columns, "  "), rule]
    for *first, last in body:
        lines += _row(first, widths)
        lines += fold(last, columns, "  ") if last else []
    return "\n".join(lines)


def _plain(header: Sequence[str], body: Rows, widths: Sequence[int]) -> str:
    lines = list(_row(header, widths))
    lines.append((" " * GAP).join("-" * width for width in widths))
    for row in body:
        lines += _row(row, widths)
    return "\n".join(lines)


def _row(cells: Sequence[str], widths: Sequence[int]) -> Iterator[str]:
    """The lines of a row whose cells are folded to their widths."""
    folded = [fold(cell, width) for cell, width in zip(cells, widths, strict=True)]
    for k in range(max(map(len, folded))):
        texts = (lines[k] if k < len(lines) else "" for lines in folded)
        padded = (text.ljust(width) for text, width in zip(texts, widths, strict=True))
        yield (" " * GAP).join(padded).rstrip()


def _turned(header: Sequence[str], body: Rows, columns: int) -> Iterator[str]:
    """Panels in which each row of the table is a column, as many beside each other as fit."""
    label = max(map(len, header))
    room = columns - label - GAP
    if room < READABLE:
        for row in body:
            yield "\n".join(line for pair in zip(header, row, strict=True) for line in _pair(*pair, columns))
        return
    panel: list[Sequence[str]] = []
    widths: list[int] = []
    for row in body:
        wanted = min(room, max(map(len, row)))
        if panel and sum(widths) + wanted + GAP * len(widths) > room:
            yield _panel(header, panel, label, widths)
            panel, widths = [], []
        panel.append(row)
        widths.append(wanted)
    if panel:
        yield _panel(header, panel, label, widths)


def _panel(header: Sequence[str], rows: Rows, label: int, widths: Sequence[int]) -> str:
    lines: list[str] = []
    for head, cells in zip(header, zip(*rows, strict=True), strict=True):
        if any(cells):
            lines += _row([head, *cells], [label, *widths])
    return "\n".join(lines)


def _pair(head: str, cell: str, columns: int) -> list[str]:
    """A heading and what stands under it, on one line where that fits."""
    if not cell:
        return []
    one = f"{head}  {cell}"
    return [one] if len(one) <= columns else [*fold(head, columns), *fold(cell, columns, "  ")]
