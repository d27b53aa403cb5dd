"""Held-out questions of which training never shows a word, so that no right answer can be expected."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from .example import WORD

ASKED = ("selection", "validation")  # out of distribution is what is never taught


def untaught(
    texts: Mapping[str, Mapping[str, Sequence[str]]],
    facts: Mapping[str, Iterable[str]],
    place: Callable[[str, int], str],
) -> list[str]:
    """What is to be known of held-out questions and answers with words that training does not have.

    Args:
        texts: ``question`` and ``answer`` -> split -> that of each of its examples.
        facts: the same of those that are taught with the training questions.
        place: split and number of an example in it -> where it stands.
    """
    known = {what: _words([*parts["train"], *facts[what]]) for what, parts in texts.items()}
    said = []
    for split in ASKED:
        for what, parts in texts.items():
            part = parts.get(split, ())
            new = _words(part) - known[what]
            if not new:
                continue
            rows = [(i, word) for i, text in enumerate(part) for word in WORD.findall(text) if word in new]
            first, word = rows[0]
            said.append(
                f"{len({i for i, _ in rows})} of {len(part)} {split} {what}s hold a word that no training {what} has:"
                f" {word!r} in {place(split, first)} is the first"
            )
    return said


def _words(texts: Iterable[str]) -> set[str]:
    return set(WORD.findall("\n".join(texts)))
