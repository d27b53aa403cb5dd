"""An example of a task in the terminal: what is asked and taught, and what a model gets of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def lines(example: Mapping[str, Any]) -> Iterator[str]:
    """The lines that show one of ``api.data``'s examples."""
    yield f"{example['prompt']} -> {example['answer']}"
    if example["noisy"]:
        yield f"    taught      {example['label']}  (noisy label)"
    if example["phantom_label"] not in (None, example["answer"]):
        yield f"    phantom     {example['phantom_label']}  (never taught)"
    if example["intermediates"]:
        yield "    on the way  " + ", ".join(f"{k} = {v}" for k, v in example["intermediates"].items())
    if example["positions"]:
        yield "    positions   " + ", ".join(f"{k} = {v['text']!r}" for k, v in example["positions"].items())
    if "seen" in example:
        yield from _seen(example["seen"], example["end"])


def _seen(seen: Mapping[str, Any], end: str | None) -> Iterator[str]:
    """The text that a model gets, its tokens, and those of them that it is scored on."""
    pieces = [token if token.isprintable() else ascii(token)[1:-1] for token in seen["tokens"]]
    asked = len(pieces) - seen["scored"]
    yield f"    text        {seen['text']!r}"
    yield f"    tokens      {' | '.join(pieces[:asked])}"
    yield f"    scored      {' | '.join(pieces[asked:])}"
    yield f"    ids         {' '.join(map(str, seen['ids']))}"
    if end is not None:
        yield f"    end         {end}"
