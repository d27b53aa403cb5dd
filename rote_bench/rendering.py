"""Prompts and answers as the text that a tokenizer gets, as written or joined; and whether an end follows them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from .tasks.example import WORD, Example, Span

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ENDED = "rote_bench_answers_end"  # in a tokenizer's settings, which are saved with it: an end is asked for
End = Literal["taught", "free"]

# Words that ordinary text writes without a space in front.
GLUED = frozenset(["'s", ",", ".", ";", ":", "?", "!", ")", "]"])


@dataclass(frozen=True)
class Rendered:
    """A text as a tokenizer sees it, and where each character of the words went."""

    text: str
    moved: tuple[int, ...] | None = None

    @property
    def end(self) -> int:
        """Where the answer's part begins: spaces at the end go with it, as one that is put between them does."""
        return len(self.text.rstrip(" "))

    def then(self, answer: Rendered) -> str:
        """An answer behind a prompt: one space apart, unless white space is there already."""
        beside = (self.text[-1:], answer.text[:1])
        apart = "" if any(character and not WORD.match(character) for character in beside) else " "
        return f"{self.text}{apart}{answer.text}"

    @classmethod
    def of(cls, words: str, *, joined: bool) -> Rendered:
        """A text as it is written; or words separated by spaces as ordinary text."""
        if not joined:
            return cls(words)
        out: list[str] = []
        moved: list[int] = []
        for word in words.split(" "):
            if out and word not in GLUED:
                out.append(" ")
            start = sum(map(len, out))
            if len(moved):
                moved.append(start)  # the space in front
            out.append(word)
            moved += range(start, start + len(word))
        return cls("".join(out), tuple(moved))

    def span(self, span: Span) -> Span:
        """Where a span of the words is now."""
        if self.moved is None:
            return span
        return self.moved[span[0]], self.moved[span[1] - 1] + 1


def texts(examples: Sequence[Example], answers: Sequence[str], *, plain: bool) -> tuple[list[Rendered], list[str]]:
    """Prompts, and prompts with answers, as a tokenizer gets them.

    Args:
        plain: words of the task's own are not joined.
    """
    rendered = [Rendered.of(e.prompt, joined=e.joined and not plain) for e in examples]
    given = (Rendered.of(a, joined=e.joined and not plain) for e, a in zip(examples, answers, strict=True))
    return rendered, [prompt.then(answer) for prompt, answer in zip(rendered, given, strict=True)]


def ask_for_end(tokenizer: PreTrainedTokenizerBase, how: End | None) -> None:
    """Let the tokenizer's end of text be the last token of every answer that is encoded with it, or no longer.

    Args:
        how: ``free`` where nothing taught the model to end its answers: it then need not.
    """
    if how is None:
        tokenizer.init_kwargs.pop(ENDED, None)
    else:
        tokenizer.init_kwargs[ENDED] = how


def how_ended(tokenizer: PreTrainedTokenizerBase) -> End | None:
    """How an end is asked for behind answers; None where it is not."""
    found: End | None = getattr(tokenizer, "init_kwargs", {}).get(ENDED)
    return found


def end_asked(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The token that every answer ends with; None where no end is asked for."""
    return None if how_ended(tokenizer) is None else tokenizer.eos_token_id
