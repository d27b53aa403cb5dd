"""What models and diagnostics may be called on a board, and which names a reader would take for each other."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from ..models.names import SIZES, known_types

DIAGNOSTIC = re.compile(r"[A-Za-z0-9_][\w.:/@+-]{0,99}", re.ASCII)
# Letters of other scripts that are drawn as Latin ones, after NFKC and case folding.
_OTHER = str.maketrans("асеһіјӏорԛѕԝухѵԁɡαιοκνρτυχγ", "acehijlopqswyxvdgaiokvptuxy")
_ALIKE = str.maketrans("01i|_. ", "oll|---")


def skeleton(name: str) -> str:
    """A text that is the same for all names that look the same."""
    plain = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    seen = "".join(c for c in unicodedata.normalize("NFD", plain) if unicodedata.category(c) not in ("Cf", "Mn", "Cc"))
    return seen.translate(_OTHER).translate(_ALIKE).replace("rn", "m").replace("vv", "w")


def is_sized(name: str) -> bool:
    """Whether a name has the form of random weights, a type and a size, whatever types are known."""
    return not name.startswith("hf:") and "-" in name and name.rpartition("-")[2] in SIZES


@lru_cache(maxsize=1)
def _registered() -> dict[str, str]:
    """Skeleton -> name of every architecture in every size."""
    return {skeleton(f"{kind}-{size}"): f"{kind}-{size}" for kind in known_types() for size in SIZES}


def canonical(name: str) -> str:
    """A model's name with the hyphens and underscores of its type as transformers writes them."""
    if not is_sized(name):
        return name
    kind, _, size = name.rpartition("-")
    spellings = (kind, kind.replace("-", "_"), kind.replace("_", "-"))
    return next((f"{each}-{size}" for each in spellings if each in known_types()), name)


def imitated(name: str) -> str | None:
    """The registered name that another name looks like; None for a name that looks like none, or is one."""
    found = _registered().get(skeleton(name))
    return None if found is None or found == canonical(name) else found
