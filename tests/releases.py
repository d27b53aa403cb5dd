"""What older releases of transformers, which pyproject.toml allows too, do otherwise than those tested with."""

from __future__ import annotations

from importlib.metadata import version

import pytest

OLD_TRANSFORMERS = tuple(map(int, version("transformers").split(".")[:2])) < (5, 20)


def new_transformers(reason: str) -> pytest.MarkDecorator:
    """Skip a test with the older releases.

    Args:
        reason: what those do otherwise.
    """
    return pytest.mark.skipif(OLD_TRANSFORMERS, reason=f"transformers before 5.20 {reason}")
