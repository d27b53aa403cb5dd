"""Examples to token ids with named positions, by the task's own tokenizer or by a model's."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from .errors import UserError
from .rendering import Rendered, end_asked, how_ended, texts
from .tasks.example import WORD, Example, Span

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from transformers import PreTrainedTokenizerBase

IGNORED = -100
PAD, UNKNOWN, END = "<pad>", "<unk>", "<end>"


def build_tokenizer(words: Iterable[str]) -> PreTrainedTokenizerBase:
    """A word-level tokenizer over ``words``, one token a word, splitting at whitespace.

    It is an ordinary fast tokenizer: ``save_pretrained`` writes a folder that ``AutoTokenizer`` loads. Its own tokens
    are spelled so that no word holds one of them.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    known = sorted(words) if isinstance(words, (set, frozenset)) else list(words)  # sets: the same in each process
    pad, unknown, end = (_unlike(known, name) for name in (PAD, UNKNOWN, END))
    vocabulary: dict[str, int] = {}
    for word in (pad, unknown, end, *known):
        vocabulary.setdefault(word, len(vocabulary))
    core = Tokenizer(models.WordLevel(vocabulary, unk_token=unknown))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=pad,
        unk_token=unknown,
        eos_token=end,
        padding_side="right",
        clean_up_tokenization_spaces=False,
    )


def _unlike(words: Sequence[str], name: str) -> str:
    """A token's name that no word holds, such as ``<end_>`` where a text has ``<end>``."""
    while any(name in word for word in words):
        name = f"{name[:-1]}_>"
    return name


@dataclass(frozen=True)
class Encoded:
    """n teacher-forced examples, padded on the right.

    Models are causal (``models.anatomy`` proves it), so that padding on the right changes nothing at any position
    that counts, and no attention mask is needed.

    Attributes:
        input_ids: (n, length) prompt and answer tokens without the answer's last token.
        targets: (n, length) the token to predict at each position that predicts the answer, -100 elsewhere.
        positions: name -> (n,) index of the last token of each named span; ``last`` is the last prompt token,
            which predicts the first answer token.
        free: a token that ends answers and need not be given.
    """

    input_ids: Tensor
    targets: Tensor
    positions: Mapping[str, Tensor]
    free: int | None = None

    def __len__(self) -> int:
        return int(self.input_ids.shape[0])

    @property
    def max_length(self) -> int:
        return int(self.input_ids.shape[1])

    @property
    def used(self) -> Tensor:
        """(n, length) bool: the positions that the answer can depend on, which are all but the padding."""
        return (self.targets != IGNORED).flip(1).cummax(1).values.flip(1)

    @property
    def scored(self) -> Tensor:
        """(columns,) the token indices, in order, at which some example predicts a token of its answer."""
        return (self.targets != IGNORED).any(0).nonzero().squeeze(1)

    def rows(self, index: Tensor | slice) -> Encoded:
        """The chosen rows, as views where the index is a slice."""
        return Encoded(
            self.input_ids[index],
            self.targets[index],
            {name: value[index] for name, value in self.positions.items()},
            self.free,
        )

    def to(self, device: str | torch.device) -> Encoded:
        return Encoded(
            self.input_ids.to(device),
            self.targets.to(device),
            {name: value.to(device) for name, value in self.positions.items()},
            self.free,
        )

    @property
    def needed(self) -> Tensor:
        """(n, length) the targets that an answer must have: all but an end that need not be given."""
        return self.targets if self.free is None else self.targets.masked_fill(self.targets == self.free, IGNORED)

    def correct(self, logits: Tensor, columns: Tensor | None = None) -> Tensor:
        """(n,) bool: the greedy answer equals the target answer.

        Teacher forcing decides this exactly: greedy decoding yields the target if and only if, after each correct
        prefix, the largest logit is the next target token.

        Args:
            logits: (n, length, vocabulary), or (n, columns, vocabulary) with ``columns``.
            columns: the token indices of the logits, which ``scored`` is among; all when None.
        """
        targets = self.needed if columns is None else self.needed[:, columns]
        hit = (logits.argmax(-1) == targets) | (targets == IGNORED)
        return hit.all(1)


def word_level(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether a tokenizer is one of ``build_tokenizer``'s kind, also when it was saved and loaded again."""
    core = getattr(tokenizer, "backend_tokenizer", None)
    return core is not None and type(core.model).__name__ == "WordLevel"


def leading_tokens(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The tokens that a tokenizer puts in front of every text, such as a beginning-of-text token."""
    marked: Any = tokenizer("a", return_special_tokens_mask=True)
    own = marked["special_tokens_mask"]
    ids: list[int] = marked["input_ids"]
    return ids[: own.index(0)] if 0 in own else []


def encode(
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    answers: Sequence[str] | None = None,
    *,
    named: bool = True,
    max_length: int | None = None,
) -> Encoded:
    """Tokenise prompts with the given answers (the true ones by default) for teacher forcing.

    A text is the prompt as it is written, one space unless there is white space already, and the answer as it is
    written; of tasks whose words are to be joined, any but a word-level tokenizer gets ordinary text, ``Ada's`` for
    ``Ada 's``. In front stands whatever token the tokenizer begins every text with; behind an answer its end of text,
    where that is asked for (see ``endings``).

    Args:
        named: also locate the named positions (slower).
        max_length: refuse longer sequences, such as a model's number of positions.

    Raises:
        UserError: when a prompt or answer has a word that the tokenizer does not know, or is too long.
    """
    answers = [e.answer for e in examples] if answers is None else answers
    plain = word_level(tokenizer)
    rendered, written = texts(examples, answers, plain=plain)
    names = list(examples[0].positions) if named and examples else []
    vocabulary = _plain_vocabulary(tokenizer, written) if plain else None
    if vocabulary is not None:
        tokens = _look_up(vocabulary, examples, answers, leading_tokens(tokenizer))
    else:
        tokens = _tokenize(tokenizer, examples, rendered, written)
    bare = np.flatnonzero((tokens.starts == 0) | (tokens.starts >= tokens.lengths))
    if len(bare):
        raise UserError(f"the tokenizer leaves no token of its own to prompt or answer of {written[bare[0]]!r}")
    end = end_asked(tokenizer)
    tokens = tokens if end is None else tokens.ended(end)
    width = int(tokens.lengths.max()) - 1
    if max_length is not None and width > max_length:
        raise UserError(f"examples take {width} tokens but the model has {max_length} positions")
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
    return tokens.padded(width, pad, names, end if how_ended(tokenizer) == "free" else None)


def seen(tokenizer: PreTrainedTokenizerBase, example: Example, answer: str) -> dict[str, Any]:
    """Exactly what a model gets of an example: the text, its tokens, their ids, and how many of the last are scored."""
    encoded = encode(tokenizer, [example], [answer], named=False)
    asked = encoded.targets[0][encoded.targets[0] != IGNORED].tolist()
    ids = [*encoded.input_ids[0].tolist(), asked[-1]]
    (text,) = texts([example], [answer], plain=word_level(tokenizer))[1]
    return {"text": text, "tokens": tokenizer.convert_ids_to_tokens(ids), "ids": ids, "scored": len(asked)}


@dataclass(frozen=True)
class _Tokens:
    """The tokens of n texts.

    Attributes:
        ids: of all texts, one after the other.
        lengths: (n,) tokens of each text.
        starts: (n,) the first token of each answer.
        locate: name -> the last token of each text's span of that name.
    """

    ids: NDArray[np.int64]
    lengths: NDArray[np.int64]
    starts: NDArray[np.int64]
    locate: Callable[[str], list[int]]

    @classmethod
    def of(
        cls, ids: Iterable[int], lengths: Sequence[int], starts: Sequence[int], locate: Callable[[str], list[int]]
    ) -> _Tokens:
        flat = np.fromiter(ids, dtype=np.int64, count=sum(lengths))
        return cls(flat, np.array(lengths, dtype=np.int64), np.array(starts, dtype=np.int64), locate)

    def ended(self, end: int) -> _Tokens:
        """The same with one more token behind each answer."""
        ids = np.insert(self.ids, np.cumsum(self.lengths), end)
        return _Tokens(ids, self.lengths + 1, self.starts, self.locate)

    def padded(self, width: int, pad: int, names: Iterable[str], free: int | None) -> Encoded:
        """In rows of one width: inputs up to the last token, and each answer's tokens as targets one place earlier."""
        count = len(self.lengths)
        row = np.repeat(np.arange(count), self.lengths)
        at = np.arange(len(self.ids)) - np.repeat(np.cumsum(self.lengths) - self.lengths, self.lengths)
        given, asked = at < self.lengths[row] - 1, at >= self.starts[row]
        input_ids = np.full((count, width), pad, dtype=np.int64)
        targets = np.full((count, width), IGNORED, dtype=np.int64)
        input_ids[row[given], at[given]] = self.ids[given]
        targets[row[asked], at[asked] - 1] = self.ids[asked]
        positions = {"last": torch.from_numpy(self.starts - 1)}
        positions |= {name: torch.tensor(self.locate(name)) for name in names}
        return Encoded(torch.from_numpy(input_ids), torch.from_numpy(targets), positions, free)


def _tokenize(
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    rendered: Sequence[Rendered],
    texts: Sequence[str],
) -> _Tokens:
    """What a tokenizer makes of texts."""
    if not tokenizer.is_fast:
        raise UserError(
            f"{type(tokenizer).__name__} cannot say which characters its tokens stand for",
            where="--model",
            hint="save a fast tokenizer (tokenizer.json) beside the weights",
        )
    full: Any = tokenizer(list(texts), add_special_tokens=False, return_offsets_mapping=True)
    lead = leading_tokens(tokenizer)
    ids: list[list[int]] = [[*lead, *row] for row in full["input_ids"]]
    offsets: list[list[tuple[int, int]]] = [[*[(0, 0)] * len(lead), *row] for row in full["offset_mapping"]]
    if tokenizer.unk_token_id is not None:
        for text, tokens, spans in zip(texts, full["input_ids"], full["offset_mapping"], strict=True):
            if tokenizer.unk_token_id in tokens:
                raise _unknown(text, text[slice(*spans[tokens.index(tokenizer.unk_token_id)])], tokenizer)
    starts = [
        next((i for i, (_, stop) in enumerate(row) if stop > r.end), len(row))
        for row, r in zip(offsets, rendered, strict=True)
    ]

    def locate(name: str) -> list[int]:
        texts = zip(offsets, rendered, examples, starts, strict=True)
        return [_last_token(row, r.span(e.positions[name]), start) for row, r, e, start in texts]

    return _Tokens.of(chain.from_iterable(ids), [len(row) for row in ids], starts, locate)


def _plain_vocabulary(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> dict[str, int] | None:
    """Word -> token, where looking words up is all that a word-level tokenizer does with these texts; None elsewhere.

    So it is with those of ``build_tokenizer`` unless a text holds one of the special tokens, which are found within
    words too.
    """
    core: Any = tokenizer.backend_tokenizer
    looks_up = (
        core.normalizer is None
        and type(core.post_processor).__name__ in ("NoneType", "TemplateProcessing")  # which adds special tokens alone
        and type(core.pre_tokenizer).__name__ == "WhitespaceSplit"
        and tokenizer.unk_token is not None
        and tokenizer.unk_token == core.model.unk_token
    )
    everything = "\n".join(texts)
    if not looks_up or any(token.content in everything for token in core.get_added_tokens_decoder().values()):
        return None
    vocabulary: dict[str, int] = core.get_vocab(with_added_tokens=False)
    vocabulary.pop(tokenizer.unk_token, None)
    return vocabulary


def _look_up(
    vocabulary: Mapping[str, int], examples: Sequence[Example], answers: Sequence[str], lead: Sequence[int]
) -> _Tokens:
    """What a word-level tokenizer makes of texts, ten times as fast as it would."""
    ids: list[int] = []
    lengths, starts = [], []
    words, token, before = WORD.findall, vocabulary.__getitem__, len(lead)
    for example, answer in zip(examples, answers, strict=True):
        prompt, rest = words(example.prompt), words(answer)
        ids.extend(lead)
        try:
            ids.extend(map(token, prompt))
            ids.extend(map(token, rest))
        except KeyError as error:
            raise _unknown(f"{example.prompt} {answer}", str(error.args[0])) from None
        starts.append(before + len(prompt))
        lengths.append(before + len(prompt) + len(rest))
    return _Tokens.of(
        ids, lengths, starts, lambda name: [before + _last_word(e.prompt, e.positions[name]) for e in examples]
    )


def _unknown(text: str, word: str, tokenizer: PreTrainedTokenizerBase | None = None) -> UserError:
    """A word that a tokenizer has no token for, or that it reserves for such words."""
    if tokenizer is not None and word == tokenizer.unk_token:
        return UserError(
            f"the tokenizer reserves {word!r}, which is in {text!r}, for what it does not know",
            where="--model",
            hint="spell it otherwise in the text",
        )
    where = None if tokenizer is None else "--model"
    hint = "add it to the task's words()" if tokenizer is None else "choose a model whose tokenizer knows it"
    return UserError(f"the tokenizer does not know {word!r} of {text!r}", where=where, hint=hint)


def _last_word(prompt: str, span: Span) -> int:
    """The index of the last word of a prompt that overlaps a character span."""
    begun = list(WORD.finditer(prompt, 0, span[1]))  # the last of them may be cut
    last = WORD.match(prompt, begun[-1].start()) if begun else None
    if last is None or last.end() <= span[0]:
        raise ValueError(f"no token overlaps the characters {span}")
    return len(begun) - 1


def _last_token(offsets: Sequence[tuple[int, int]], span: tuple[int, int], end: int) -> int:
    """The index of the last prompt token that overlaps a character span."""
    for i in range(end - 1, -1, -1):
        start, stop = offsets[i]
        if start < span[1] and stop > span[0]:
            return i
    raise ValueError(f"no token overlaps the characters {span}")


def first_difference(true: Encoded, other: Encoded) -> tuple[Tensor, Tensor, Tensor]:
    """Where two answers of the same prompts part: (n,) position, (n,) true token, (n,) other token.

    Both encodings share their inputs up to that position, so one forward pass gives the logits of both.

    Raises:
        ValueError: when a pair of answers is the same.
    """
    width = min(true.max_length, other.max_length)
    a, b = true.targets[:, :width], other.targets[:, :width]
    differs = (a != b) & (a != IGNORED) & (b != IGNORED)
    if not bool(differs.any(1).all()):
        raise ValueError("in a pair of answers, one is the other or begins with it")
    position = differs.int().argmax(1)
    rows = torch.arange(len(true), device=a.device)
    return position, a[rows, position], b[rows, position]


def concatenate(parts: Sequence[Encoded], pad: int) -> Encoded:
    """Rows of several encodings in one, padded to the longest; keeps only the position ``last``."""
    width = max(part.max_length for part in parts)

    def widen(value: Tensor, fill: int) -> Tensor:
        return torch.nn.functional.pad(value, (0, width - value.shape[1]), value=fill)

    return Encoded(
        torch.cat([widen(p.input_ids, pad) for p in parts]),
        torch.cat([widen(p.targets, IGNORED) for p in parts]),
        {"last": torch.cat([p.positions["last"] for p in parts])},
        parts[0].free,
    )
