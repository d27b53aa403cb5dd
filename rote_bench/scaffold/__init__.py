"""A plugin package to start from, for ``rote-bench new``."""

from __future__ import annotations

import importlib.util
import keyword
import re
from pathlib import Path
from string import Template

from ..errors import UserError
from ..models.names import is_sized

TEMPLATES = Path(__file__).parent / "templates"
KINDS = ("task", "noise", "diagnostic", "model")


def create(kind: str, name: str, folder: Path) -> Path:
    """Write the package ``name`` into a folder of its own below ``folder``.

    Returns:
        The package's folder.

    Raises:
        UserError: when the kind or the name is wrong, or the folder is there already.
    """
    if kind not in KINDS:
        raise UserError(f"cannot make a new {kind!r}", where="new", hint=", ".join(KINDS))
    if name == "rote_bench" or (kind == "model" and is_sized(name.replace("_", "-"))):
        hint = "choose another name: the models of transformers and this package have theirs"
        raise UserError(f"{name!r} is taken", where="NAME", hint=hint)
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name):
        raise UserError(
            f"{name!r} cannot name a package", where="NAME", hint="use lower-case letters, digits and underscores"
        )
    known = importlib.util.find_spec(name)
    if known is not None and known.origin is not None:
        raise UserError(
            f"Python knows {name!r} already", where="NAME", hint="choose another name: one would hide the other"
        )
    place = folder / name
    if place.exists():
        raise UserError("is there already", where=str(place), hint="choose another name or --folder")
    words = {
        "name": name,
        "dashed": name.replace("_", "-"),
        "title": name.replace("_", " ").capitalize(),
        "cls": "".join(part.capitalize() for part in name.split("_")),
    }
    try:
        for source in sorted((TEMPLATES / kind).iterdir()):
            target = place / Template(source.name.removesuffix(".txt").replace("__name__", "$name")).substitute(words)
            if target.name.startswith("test_"):
                target = place / "tests" / target.name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(Template(source.read_text(encoding="utf-8")).substitute(words), encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot be written: {error.strerror}", where=str(place)) from None
    return place
