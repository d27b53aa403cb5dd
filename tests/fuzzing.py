"""Task and sweep files with faults of every kind: the shipped ones, changed at random but from a fixed seed."""

from __future__ import annotations

import copy
import random
import resource
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import yaml

VALUES: tuple[Any, ...] = (
    None,
    True,
    "",
    " ",
    0,
    -1,
    1,
    2,
    3.5,
    0.1,
    1e-9,
    -0.0,
    10**6,
    10**12,
    10**30,
    10**400,
    1e300,
    float("inf"),
    float("nan"),
    "x",
    "x" * 5000,
    "\u202e\u0645\u0631\u062d\u0628\u0627 \U0001f600",
    "Jose\u0301",
    "../..",
    "/",
    "~",
    "~nobody/x.yaml",
    "a/b\\c:d",
    "thr",
    "addition",
    "dataset",
    "given",
    [],
    {},
    [[]],
    [1, "a", None],
    {"a": {"b": {"c": 1}}},
    list(range(300)),
    {f"k{i}": i for i in range(300)},
)
KEYS = ("name", "path", "extends", "profiles", "train", "rates", "x", "\u00e9", "a.b", "1", "on", "records", "pool")
TEXTS = (
    "&a ",
    "*a",
    "!!python/object:os.system ",
    "<<: {a: 1}\n",
    "\t",
    "- ",
    "---\n",
    "{",
    "[",
    "'",
    '"',
    "|\n",
    "? ",
)


def spots(data: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every value."""
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return [path, *(spot for key, value in items for spot in spots(value, (*path, key)))]


def changed(data: Any, rng: random.Random) -> Any:
    """A copy with one to four faults: values of other kinds, keys that are missing, new or moved."""
    data = copy.deepcopy(data)
    for _ in range(rng.randint(1, 4)):
        *to, last = rng.choice([spot for spot in spots(data) if spot] or [("name",)])
        place = data
        for key in to:
            place = place[key]
        match rng.randrange(6):
            case 0:
                del place[last]
            case 1 if isinstance(place, dict):
                place[rng.choice(KEYS)] = place.pop(last)
            case 2 if isinstance(place, dict):
                place[rng.choice(KEYS)] = copy.deepcopy(rng.choice(VALUES))
            case 3 if isinstance(place[last], int | float) and not isinstance(place[last], bool):
                place[last] = place[last] * rng.choice((0, -1, 2, 10, 1000, 10**9))
            case _:
                place[last] = copy.deepcopy(rng.choice(VALUES))
        if not data:
            return data
    return data


def written(data: Any, rng: random.Random) -> bytes:
    """The data as a file, now and then broken as text."""
    text = yaml.safe_dump(data, sort_keys=False, allow_unicode=True)
    if rng.random() < 0.2:
        at = rng.randrange(len(text) + 1)
        piece = rng.choice((*TEXTS, text[: rng.randrange(200)], "[" * 2000, "\0", "\u2028"))
        text = text[:at] + piece + text[at + rng.randrange(3) :]
    content = text.encode()
    if rng.random() < 0.03:
        content = rng.choice(
            (content[: len(content) // 2], b"\xef\xbb\xbf" + content, content.replace(b"e", b"\xff", 1))
        )
    return content


def trial(contents: Iterable[bytes], path: Path, accepted: Callable[[Path], bool]) -> tuple[int, float]:
    """How many of some files are accepted, and the processor seconds of the slowest; none takes much memory.

    Args:
        path: where each stands in its turn.
        accepted: whether a file is; fails where it is refused in another way than it should be.
    """
    good, slowest, most = 0, 0.0, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number, content in enumerate(contents):
        path.write_bytes(content)
        before = time.process_time()
        try:
            good += accepted(path)
        except Exception as error:
            raise AssertionError(f"file {number}: {content[:3000]!r}") from error
        slowest = max(slowest, time.process_time() - before)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - most < 1 << 20  # KiB
    return good, slowest
