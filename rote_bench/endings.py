"""Whether answers can be told apart by their tokens, and when an end is taught and asked for behind each of them.

A model says an answer when the tokens that it gives first are that answer's. So of two answers of which one begins with
the other, both would be said at once, unless the shorter one ends there. Where a task has such a pair under a
tokenizer, every answer is followed by the tokenizer's end of text: it is taught, and it is asked for. Where it has
none, as tasks whose answers all take the same number of tokens, nothing is added. A model that is not trained and was
not before goes on after its answers: the end need not be given, and of two answers that it says the longer counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any
from unicodedata import normalize

from .encoding import IGNORED, Encoded, encode, leading_tokens, word_level
from .errors import UserError
from .rendering import End, ask_for_end, end_asked, how_ended

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from .noise import Labelled
    from .splits import Data
    from .tasks.example import Example, Task

ASKED = 4096  # of a task's answers, beside those that are drawn
QUESTIONS = ("train", "selection", "validation", "ood")


@dataclass(frozen=True)
class Ending:
    """The end that is asked for behind each answer.

    Attributes:
        token: as the tokenizer spells it.
        shorter, longer: two answers of which the second begins with the first.
        how: ``free`` where the model need not give it.
    """

    token: str
    shorter: str
    longer: str
    how: End

    def __str__(self) -> str:
        why = f"since {self.longer!r} begins with {self.shorter!r}"
        if self.how == "free":
            return f"nothing taught the model to end its answers with {self.token!r}: the longer counts, {why}"
        return f"answers end with {self.token!r}, {why}"


def settle(
    tokenizer: PreTrainedTokenizerBase, task: Task, data: Data, *, where: str, taught: bool = True
) -> Ending | None:
    """Let an end be asked for behind answers, or not, as the task's answers need it under a tokenizer.

    Args:
        taught: the model is trained now; one that was before, here, has it in its tokenizer's settings.
        where: what the user changes when answers cannot be told apart.

    Raises:
        UserError: naming two answers that have the same tokens, or of which one begins with the other where the
            tokenizer has no end.
    """
    how: End = "taught" if taught or how_ended(tokenizer) == "taught" else "free"
    ask_for_end(tokenizer, None)
    first = data.train.examples[0]
    answers = sorted(_answers(task, data))
    encoded = encode(tokenizer, [first] * len(answers), answers, named=False)
    tokens = sorted(
        zip((tuple(t for t in row if t != IGNORED) for row in encoded.targets.tolist()), answers, strict=True)
    )
    found: Ending | None = None
    for (one, shorter), (other, longer) in pairwise(tokens):
        if one == other:
            raise UserError(
                f"the tokenizer reads the answers {_told_apart(shorter, longer)} as the same tokens",
                where=where,
                hint="rename one of them, or choose a model whose tokenizer tells them apart",
            )
        if found is None and other[: len(one)] == one:
            found = Ending(_end(tokenizer, shorter, longer, where), shorter, longer, how)
    end = tokenizer.eos_token_id
    if found is not None and (within := next((answer for ids, answer in tokens if end in ids), None)) is not None:
        raise UserError(
            f"the answer {within!r} holds {found.token!r}, which has to end answers",
            where=where,
            hint=f"write it otherwise: {found.longer!r} begins with {found.shorter!r}",
        )
    ask_for_end(tokenizer, None if found is None else how)
    return found


def _end(tokenizer: PreTrainedTokenizerBase, shorter: str, longer: str, where: str) -> str:
    if tokenizer.eos_token_id is None:
        raise UserError(
            f"the answer {longer!r} begins with the answer {shorter!r}, and the tokenizer has no end of text to tell"
            " them apart",
            where=where,
            hint="rename one of them, or choose a model whose tokenizer has an eos_token",
        )
    return str(tokenizer.eos_token)


def _told_apart(one: str, other: str) -> str:
    """Two texts, in code points where they look the same."""
    alike = normalize("NFKC", one) == normalize("NFKC", other)
    return f"{one!a} and {other!a}" if alike else f"{one!r} and {other!r}"


def _answers(task: Task, data: Data) -> set[str]:
    """All answers and labels that are drawn, and those that the task could have asked for."""
    found: set[str] = set()
    for name in QUESTIONS:
        part = getattr(data, name)
        found.update(e.answer for e in part.examples)
        found.update(part.labels)
    more = task.answers(data.train.examples[0])
    found.update(more[i] for i in range(0, len(more), max(1, len(more) // ASKED)))
    return found


def check_fits(
    encodings: Iterable[tuple[Sequence[Example], Encoded]], tokenizer: Any, model: Any, *, where: str
) -> None:
    """Whether a model can read what a tokenizer makes of the questions, and no two of them are the same to it.

    Raises:
        UserError: naming the token, the length, or the two questions.
    """
    embedding = model.get_input_embeddings() if hasattr(model, "get_input_embeddings") else None
    rows = getattr(getattr(embedding, "weight", None), "shape", (None,))[0]
    seen: dict[bytes, str] = {}
    for examples, encoded in encodings:
        asked = encoded.targets.clamp(min=0)
        largest = int(max(encoded.input_ids.max(), asked.max()))
        if rows is not None and largest >= rows:
            raise UserError(
                f"the tokenizer gives {tokenizer.convert_ids_to_tokens(largest)!r} the id {largest}, and the model has"
                f" embeddings for {rows} tokens",
                where=where,
                hint="resize them with model.resize_token_embeddings(len(tokenizer)) and train the new ones",
            )
        positions = _positions(model)
        if positions is not None and encoded.max_length > positions:
            raise UserError(
                f"examples take {encoded.max_length} tokens and the model has {positions} positions", where=where
            )
        ids = encoded.input_ids.numpy()
        for example, row, last in zip(examples, ids, encoded.positions["last"].tolist(), strict=True):
            other = seen.setdefault(row[: last + 1].tobytes(), example.prompt)
            if other != example.prompt:
                raise UserError(
                    f"the tokenizer reads the questions {_told_apart(other, example.prompt)} as the same tokens",
                    where=where,
                    hint="keep one of them, or choose a model whose tokenizer tells them apart",
                )


def check_prompts(tokenizer: PreTrainedTokenizerBase, part: Labelled, *, where: str) -> None:
    """Whether a question has the same tokens before its wrong label as before its answer, which are compared there.

    Raises:
        UserError: naming the question, where a token joins the end of it with what follows.
    """
    rows = [i for i, (e, label) in enumerate(zip(part.examples, part.labels, strict=True)) if label != e.answer]
    if not rows:
        return
    examples, labels = [part.examples[i] for i in rows], [part.labels[i] for i in rows]
    both = [encode(tokenizer, examples, answers, named=False) for answers in (None, labels)]
    for i, example in enumerate(examples):
        one, other = (e.input_ids[i, : int(e.positions["last"][i]) + 1].tolist() for e in both)
        if one != other:
            raise UserError(
                f"the tokenizer reads the question {example.prompt!r} differently before {example.answer!r} and before"
                f" {labels[i]!r}",
                where=where,
                hint="let the question end with a word or a sign, without white space behind it",
            )


def _positions(model: Any) -> int | None:
    """How many positions a model has learned; None where it reckons them, and can go on."""
    config = getattr(model, "config", None)
    count = getattr(config, "max_position_embeddings", None)
    if not isinstance(count, int) or not hasattr(model, "named_parameters"):
        return None
    learned = any(0 <= p.shape[0] - count <= 2 for name, p in model.named_parameters() if _is_of_positions(name))
    return count if learned else None


def _is_of_positions(name: str) -> bool:
    return name.endswith(("wpe.weight", "embed_positions.weight", "position_embeddings.weight"))


def reading(tokenizer: PreTrainedTokenizerBase, data: Data, *, own: bool) -> dict[str, Any]:
    """What an identity says of how text is read, where that is not as of the tasks and models that are built in.

    Args:
        own: the tokenizer is the model's own.
    """
    found: dict[str, Any] = {}
    if end_asked(tokenizer) is not None:
        found["end"] = f"{how_ended(tokenizer)} {tokenizer.eos_token}"
    if own and not all(e.joined for e in (*data.train.examples[:1], *data.facts.examples[:1])):
        found["text"] = "as written"
    if own and word_level(tokenizer) and (lead := leading_tokens(tokenizer)):
        found["begins"] = tokenizer.convert_ids_to_tokens(lead)
    return found
