"""What all pages share: their style, how they say numbers, and that nothing in them runs or is fetched."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from ..measures import words
from . import escape

if TYPE_CHECKING:
    import jinja2

TEMPLATES = Path(__file__).parent / "templates"
STYLE = "base.css"
DIGITS = 3


def environment(*folders: Path) -> jinja2.Environment:
    """Templates of some folders and the shared ones; whatever is put into them is cleaned and escaped."""
    import jinja2
    from markupsafe import Markup

    def shown(value: object) -> object:
        return escape.page(value) if isinstance(value, str) and not isinstance(value, Markup) else value

    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader([*folders, TEMPLATES]),
        autoescape=True,
        finalize=shown,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters.update(number=number, share=share, parameters=parameters, words=words)
    return made


def policy(styles: Iterable[str], scripts: Iterable[str] = ()) -> str:
    """A content security policy under which nothing runs and nothing is styled but these very texts."""

    def allowed(texts: Iterable[str]) -> str:
        digests = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in texts)
        return " ".join(f"'sha256-{digest}'" for digest in digests) or "'none'"

    return (
        f"default-src 'none'; style-src {allowed(styles)}; script-src {allowed(scripts)}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def number(value: float | None, digits: int = DIGITS) -> str:
    """A number for reading, with a true minus sign; a dash for what is not known."""
    if value is None:
        return "–"
    text = f"{value:.{digits}f}"
    return text.lstrip("-") if float(text) == 0 else text.replace("-", "\u2212")


def share(value: float) -> str:
    """A rate in per cent, with a no-break space."""
    return f"{100 * value:.4g}\u00a0%"


def parameters(count: int | None) -> str:
    """A number of parameters in millions or billions."""
    if count is None:
        return "–"
    return f"{count / 1e9:.2f}B" if count >= 1e9 else f"{count / 1e6:.2f}M"
