"""Texts from reports as each medium shows them: what a reader sees is the text, and nothing in it is obeyed."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Mapping

from .. import terminal

Escape = Callable[[str], str]
LONGEST = 2000  # characters of a text
_MARKDOWN = re.compile(r"[\\`*_\[\]<>&|~$#]")
_ENTITIES = {"<": "&lt;", ">": "&gt;", "&": "&amp;"}
_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    **{c: f"\\{c}" for c in "&%$#_{}"},
}


def plain(text: str) -> str:
    """Text for a terminal, a log or a message: one line without control characters."""
    return terminal.clean(text, LONGEST)


def markdown(text: str) -> str:
    """Text that Markdown, and HTML inside it, shows as it is."""
    return _MARKDOWN.sub(lambda m: _ENTITIES.get(m[0], f"\\{m[0]}"), plain(text))


def latex(text: str) -> str:
    """Text that LaTeX shows as it is."""
    return "".join(_LATEX.get(c, c) for c in plain(text))


def page(text: str) -> str:
    """Text for an HTML page, whose templates escape markup themselves; lines and no-break spaces stay."""
    if text.isprintable():
        return text
    return "".join(c if c in "\n\t\u00a0" else terminal.clean(c) for c in text)


def wiki(text: str) -> str:
    """Text for the markup of wikis that understand HTML's entities."""
    return re.sub(r"[|\[\]{}*_'=!]", lambda m: f"&#{ord(m[0])};", html.escape(plain(text), quote=False))


# tabulate escapes by itself for ``html`` and ``latex``; what stands in no list here is no markup.
_STYLES: Mapping[Escape, tuple[str, ...]] = {
    markdown: ("github", "pipe", "asciidoc", "jira", "orgtbl", "rst"),
    latex: ("latex_raw",),
    wiki: ("mediawiki", "moinmoin", "textile", "unsafehtml", "youtrack"),
}


def of_style(style: str) -> Escape:
    """What makes a text safe in a table of one of tabulate's formats."""
    return next((escape for escape, styles in _STYLES.items() if style in styles), plain)
