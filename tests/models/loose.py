"""Small modules that are none of transformers, as people who try an architecture write them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

WIDTH = 32


class Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.num_heads = heads
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (part.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for part in self.qkv(x).chunk(3, -1))
        mixed = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        out: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return out


class Recurrent(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.gru, self.out = nn.GRU(width, width, batch_first=True), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.out(self.gru(x)[0])
        return out


class Block(nn.Module):
    def __init__(self, width: int, mixer: nn.Module) -> None:
        super().__init__()
        self.mixer, self.before, self.between = mixer, nn.LayerNorm(width), nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.mixer(self.before(x))
        out: Tensor = x + self.mlp(self.between(x))
        return out


class Plain(nn.Module):
    """GRU blocks, and logits as a tensor."""

    def __init__(self, vocab_size: int, width: int = WIDTH, layers: int = 2) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocab_size, width)
        self.blocks = nn.ModuleList(Block(width, self.mixer(width)) for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, vocab_size, bias=False)

    def mixer(self, width: int) -> nn.Module:
        return Recurrent(width)

    def states(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x

    def forward(self, tokens: Tensor) -> Any:
        return self.head(self.norm(self.states(self.embed(tokens))))


class Attending(Plain):
    """Attention whose heads are counted by the module alone."""

    def mixer(self, width: int) -> nn.Module:
        return Attention(width, 4)


class Looped(Attending):
    """One block, applied several times; logits in a tuple."""

    def __init__(self, vocab_size: int, width: int = WIDTH, turns: int = 3) -> None:
        super().__init__(vocab_size, width, 1)
        self.turns = turns

    def states(self, x: Tensor) -> Tensor:
        for _ in range(self.turns):
            x = super().states(x)
        return x

    def forward(self, tokens: Tensor) -> Any:
        return super().forward(tokens), None


class Halting(Looped):
    """As often as the first token of each row says."""

    def forward(self, tokens: Tensor) -> Any:
        self.asked = 2 + tokens[:, :1, None] % 3
        self.turns = int(self.asked.max())
        return super().forward(tokens)

    def states(self, x: Tensor) -> Tensor:
        for turn in range(self.turns):
            x = torch.where(self.asked > turn, Attending.states(self, x), x)
        return x


class Skipping(Plain):
    """What was read goes past all blocks; logits in a mapping."""

    def forward(self, tokens: Tensor) -> Any:
        read = self.embed(tokens)
        return {"logits": self.head(self.norm(self.states(read) + read))}


class Streams(Plain):
    """Two blocks side by side."""

    def states(self, x: Tensor) -> Tensor:
        out: Tensor = self.blocks[0](x) + self.blocks[1](x)
        return out


class Unknown(nn.Module):
    """Nothing that could be a stack of blocks, no embedding either, and a configuration of its own kind."""

    def __init__(self, vocab_size: int, width: int = WIDTH) -> None:
        super().__init__()
        self.config = Settings(width)
        self.table = nn.Parameter(0.1 * torch.randn(vocab_size, width))
        self.lstm = nn.LSTM(width, width, 2, batch_first=True)

    def forward(self, input_ids: Tensor) -> Any:
        return self.lstm(self.table[input_ids])[0] @ self.table.T


class Normed(nn.Module):
    """Two modules of one class that hand on the stream, and are no blocks."""

    def __init__(self, vocab_size: int, width: int = WIDTH) -> None:
        super().__init__()
        self.embed, self.lstm = nn.Embedding(vocab_size, width), nn.LSTM(width, width, 2, batch_first=True)
        self.before, self.after = nn.LayerNorm(width), nn.LayerNorm(width)
        self.head = nn.Linear(width, vocab_size)

    def forward(self, input_ids: Tensor) -> Any:
        return self.head(self.after(self.lstm(self.before(self.embed(input_ids)))[0]))


class LastOnly(Plain):
    """Logits of the last position alone, as when only the next token is wanted."""

    def forward(self, tokens: Tensor) -> Any:
        return super().forward(tokens)[:, [-1]]


class Ahead(Plain):
    """What comes later is seen."""

    def states(self, x: Tensor) -> Tensor:
        return super().states(x).cumsum(1).flip(1)


class Listed(nn.Sequential):
    """A stack without a list of its own."""

    def __init__(self, vocab_size: int, width: int = WIDTH) -> None:
        blocks = (Block(width, Attention(width, 2)) for _ in range(2))
        super().__init__(nn.Embedding(vocab_size, width), *blocks, nn.LayerNorm(width), nn.Linear(width, vocab_size))


@dataclass
class Settings:
    width: int
    act: Callable[[Tensor], Tensor] = torch.relu


class _Macaron(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.mixer = Attention(width, 4)
        self.before, self.between, self.behind = (nn.LayerNorm(width) for _ in range(3))
        self.first, self.second = (
            nn.Sequential(nn.Linear(width, size), nn.GELU(), nn.Linear(size, width)) for size in (hidden, 4 * width)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + 0.5 * self.first(self.before(x))
        x = x + self.mixer(self.between(x))
        out: Tensor = x + 0.5 * self.second(self.behind(x))
        return out


class Macaron(Plain):
    """Attention between two MLPs.

    Args:
        hidden: units of the first; with a few it is an adapter.
    """

    def __init__(self, vocab_size: int, hidden: int) -> None:
        super().__init__(vocab_size)
        self.blocks = nn.ModuleList(_Macaron(WIDTH, hidden) for _ in range(2))
