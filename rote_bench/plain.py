"""Plain data: what JSON can hold, and how a stranger's values become it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np

JsonObject: TypeAlias = Mapping[str, object]  # whoever looks inside must first find out what is there


def plain(value: object, path: str = "value") -> object:
    """The same in what JSON knows: numpy's numbers and arrays as Python's, tuples as lists.

    Args:
        path: what the value is called in a message.

    Raises:
        ValueError: for a number without end or that is none, naming where it stands.
        TypeError: for anything that JSON cannot hold, naming where it stands.
    """
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, np.generic | np.ndarray):
        return plain(value.tolist(), path)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{path} is {value}, which JSON cannot hold; give None")
        return float(value)
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str | int):
                raise TypeError(f"{path} has the key {key!r}, which is no text")
        return {str(key): plain(item, f"{path}.{key}") for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        return [plain(item, f"{path}[{i}]") for i, item in enumerate(value)]
    raise TypeError(f"{path} is a {type(value).__name__}, which JSON cannot hold")
