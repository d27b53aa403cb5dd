"""A bar below a cell of a notebook: lines that stay, and how far it is."""

from __future__ import annotations

import html
import sys
from typing import Any

from .terminal import clean

LAST = 30  # lines that are shown


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook; nothing is imported to find out."""
    asked = getattr(sys.modules.get("IPython"), "get_ipython", None)
    shell = None if asked is None else asked()
    return getattr(shell, "kernel", None) is not None


class Bar:
    """One output of a notebook, which is shown anew whenever something is said."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._now: tuple[str, int | None, int | None] | None = None
        self._handle: Any = None
        self._shown = ""

    def say(self, text: str) -> None:
        """A line that stays; what was going on before it is over."""
        self._lines.append(clean(text))
        self._now = None
        self._show()

    def show(self, text: str, done: int | None = None, total: int | None = None) -> None:
        """What is going on, until something else is; with a bar where it is known how far."""
        self._now = (clean(text), done, total) if text else None
        self._show()

    def _show(self) -> None:
        from IPython.display import display

        bundle = {"text/plain": self.text(), "text/html": self.html()}
        if bundle["text/html"] == self._shown:
            return
        self._shown = bundle["text/html"]
        if self._handle is None:
            self._handle = display(bundle, raw=True, display_id=True)
        else:
            self._handle.update(bundle, raw=True)

    def text(self) -> str:
        """All that is shown, as text."""
        return "\n".join([*self._lines[-LAST:], *([self._now[0]] if self._now else [])])

    def html(self) -> str:
        """All that is shown, as HTML."""
        parts = [f"<div>{html.escape(line)}</div>" for line in self._lines[-LAST:]]
        if self._now is not None:
            text, done, total = self._now
            known = done is not None and total
            bar = f'<progress style="width: 12em" value="{done}" max="{total}"></progress> ' if known else ""
            parts.append(f"<div>{bar}{html.escape(text)}</div>")
        return f'<div style="font-family: monospace; white-space: pre-wrap">{"".join(parts)}</div>'
