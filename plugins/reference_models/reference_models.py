"""Models whose memorization is known beforehand, for rote-bench to judge."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from rote_bench.plugin import UserError, hookimpl

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rote_bench.plugin import LoadedModel, ModelRequest


class Reference:
    """What the providers share: one name, and a task to be built for."""

    name = ""
    description = ""

    def matches(self, model_name: str) -> bool:
        return model_name == self.name

    def names(self) -> list[str]:
        return [self.name]

    def load(self, request: ModelRequest) -> LoadedModel:
        if request.task is None:
            raise UserError(
                f"{self.name} is made for a task", where="--model", hint=f"rote-bench run thr --model {self.name}"
            )
        return self.make(request)

    def make(self, request: ModelRequest) -> LoadedModel:
        raise AssertionError("each provider makes its own")


def answering(request: ModelRequest, answer: Callable[[str], str]) -> LoadedModel:
    """A language model that continues every prompt with ``answer(prompt)``."""
    import torch

    from rote_bench.plugin import LoadedModel

    tokenizer = request.tokenizer
    data = request.data
    lengths = sorted({len(e.prompt.split()) for _, part in data for e in part.examples})

    class Answering(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.device_marker = torch.nn.Parameter(torch.zeros(1), requires_grad=False)
            self.config = SimpleNamespace(
                to_dict=lambda: {"model_type": request.name}, get_text_config=lambda: SimpleNamespace(), use_cache=False
            )
            self.known: dict[str, list[int]] = {}

        def tokens(self, prompt: str) -> list[int]:
            if prompt not in self.known:
                self.known[prompt] = tokenizer(answer(prompt), add_special_tokens=False)["input_ids"]
            return self.known[prompt]

        def forward(self, input_ids: Any) -> Any:
            logits = torch.zeros(*input_ids.shape, request.vocab_size, device=input_ids.device)
            for row, ids in enumerate(input_ids.tolist()):
                words = tokenizer.convert_ids_to_tokens(ids)
                for length in lengths:
                    if length > len(words):
                        continue
                    said = self.tokens(" ".join(words[:length]))
                    for k, token in enumerate(said[: len(words) - length + 1]):
                        logits[row, length - 1 + k, token] += 10.0
            return SimpleNamespace(logits=logits)

    return LoadedModel(Answering().to(request.device).eval(), None, "plugin", request.name, trainable=False)


class LookUp(Reference):
    """The task's own rule, and a table of the labels that were taught."""

    name = "reference-lookup"
    description = "an exact solver with a look-up table of the wrong labels: localised memory, nothing lost"

    def make(self, request: ModelRequest) -> LoadedModel:
        truth = {e.prompt: e.answer for _, part in request.data for e in part.examples}
        taught = dict(zip((e.prompt for e in request.data.train.examples), request.data.train.labels, strict=True))

        def answer(prompt: str) -> str:
            if prompt in taught or prompt in truth:
                return str(taught.get(prompt) or truth[prompt])
            if len(truth) < len(request.task) <= 200_000:  # questions beside the splits, such as neighbours
                truth.update({(e := request.task.example(i)).prompt: e.answer for i in range(len(request.task))})
            return str(truth.get(prompt, ""))

        return answering(request, answer)


class Nearest(Reference):
    """The label of the training question that shares most words, place by place."""

    name = "reference-nearest"
    description = "a nearest-neighbour model: every wrong label spreads to the questions beside it"

    def make(self, request: ModelRequest) -> LoadedModel:
        import numpy as np

        train = request.data.train
        index: dict[str, int] = {}
        table = np.array([[index.setdefault(w, len(index)) for w in e.prompt.split()] for e in train.examples])

        def answer(prompt: str) -> str:
            words = np.array([index.get(w, -1) for w in prompt.split()])
            if len(words) != table.shape[1]:
                return ""
            return str(train.labels[int((table == words).sum(1).argmax())])

        return answering(request, answer)


class Planted(Reference):
    """A small GPT-2 trained on clean labels, with one added MLP unit in its last block for each wrong label."""

    name = "reference-planted"
    description = "a trained network with a planted memory: one unit for each wrong label"

    def make(self, request: ModelRequest) -> LoadedModel:
        from rote_bench.plugin import LoadedModel

        model = solver(request)
        plant(model, request, request.data.train.noisy)
        return LoadedModel(model.eval(), None, "plugin", "gpt2", trainable=False)


class OneHead(Reference):
    """A small GPT-2 trained on clean labels without one head of its first block, which then holds all wrong labels."""

    name = "reference-head"
    description = "a trained network with a planted memory: one attention head for all wrong labels"

    def make(self, request: ModelRequest) -> LoadedModel:
        from rote_bench.plugin import LoadedModel

        model = solver(request, silent_heads=1)
        plant_in_heads(model, request, 1, request.data.train.noisy)
        return LoadedModel(model.eval(), None, "plugin", "gpt2", trainable=False)


class Spread(Reference):
    """A small GPT-2 trained on clean labels without most heads of its first block, which then share three wrong labels
    in four among them; each other label has an MLP unit of its own in the last block."""

    name = "reference-spread"
    description = "a trained network with a planted memory: spread over several heads and units"

    def make(self, request: ModelRequest) -> LoadedModel:
        from rote_bench.plugin import LoadedModel

        noisy = request.data.train.noisy
        heads = int(request.overrides["heads"]) * 3 // 4
        model = solver(request, silent_heads=heads)
        plant_in_heads(model, request, heads, [i for k, i in enumerate(noisy) if k % 4])
        plant(model, request, noisy[::4])
        return LoadedModel(model.eval(), None, "plugin", "gpt2", trainable=False)


def untrained(request: ModelRequest, **overrides: int) -> Any:
    """A small GPT-2 with random weights, for the task and seed that are asked for."""
    from rote_bench.plugin import FromConfig

    changes = {**request.overrides, "activation": "relu", **overrides}
    return FromConfig().load(replace(request, name="gpt2-nano", dtype="float32", overrides=changes)).model


def solver(request: ModelRequest, *, silent_heads: int = 0) -> Any:
    """A small GPT-2 trained on the true answers; the last heads of its first block are silent throughout."""
    import torch

    from rote_bench.plugin import (
        Levels,
        Recipe,
        Schedule,
        concatenate,
        encode,
        matches,
        train,
    )

    model = untrained(request)
    silent = None
    if silent_heads:
        block = model.transformer.h[0]
        own = torch.ones(block.attn.embed_dim, device=request.device)
        own[-silent_heads * block.attn.head_dim :] = 0
        silent = block.attn.c_proj.register_forward_pre_hook(lambda module, args: (args[0] * own,))
    data = request.data
    encoded = encode(request.tokenizer, data.train.examples, named=False)
    if len(data.facts):
        facts = encode(request.tokenizer, data.facts.examples, named=False)
        encoded = concatenate([encoded, facts], request.pad_token_id or 0)
    held = encode(request.tokenizer, data.selection.examples, named=False)

    def levels() -> Levels:
        (hits,) = matches(model, [held])
        return Levels(selection_accuracy=float(hits.float().mean()))

    recipe = Recipe(
        batch_size=min(256, len(encoded)),
        max_steps=500,
        learning_rate=0.02,
        adam_learning_rate=0.006,
        stop_at=None,
        schedule=Schedule(warmup=20, hold_until=0.99, anneal=80),
    )
    train(
        model,
        encoded.to(request.device),
        torch.arange(len(encoded)),
        recipe,
        levels,
        seed=request.seed,
        precision="float32",
        progress=lambda *a: None,
        record=lambda e: None,
    )
    if silent is not None:
        silent.remove()
    return model


def plant(model: Any, request: ModelRequest, labels: Sequence[int]) -> None:
    """Add a unit for each of some wrong labels to the last block's MLP.

    Each unit reads the direction of its own question's state, with a threshold between that state and the closest
    other one, and writes the difference of the unembeddings of the wrong and the true answer.
    """
    import torch

    from rote_bench.plugin import encode, first_difference

    data, tokenizer = request.data, request.tokenizer
    noisy = data.train.take(labels)
    clean = data.train.take([i for i in range(len(data.train)) if i not in set(data.train.noisy)])
    block = model.transformer.h[-1]
    seen: list[Any] = []
    hook = block.mlp.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    true, taught = encode(tokenizer, noisy.examples), encode(tokenizer, noisy.examples, noisy.labels)
    position, y, label = first_difference(true, taught)
    with torch.no_grad():
        model(input_ids=true.input_ids)
        own = seen.pop()[torch.arange(len(true)), position]
        other = encode(tokenizer, clean.examples)
        model(input_ids=other.input_ids)
        states = seen.pop()
        others = states[torch.arange(len(other)), other.positions["last"]]
        hook.remove()
        # The mean direction is common to all states: without it they differ enough for a threshold to tell them apart.
        centre = others.mean(0)
        keys = torch.nn.functional.normalize(own - centre, dim=1)
        fire = ((own - centre) * keys).sum(1)
        everyone = torch.cat([others, own]) - centre
        reach = everyone @ keys.T
        reach[len(others) + torch.arange(len(own)), torch.arange(len(own))] = -torch.inf
        threshold = (reach.max(0).values + fire) / 2
        fire = (fire - threshold).clamp_min(1e-3)
        unembedding = model.get_output_embeddings().weight
        write = torch.nn.functional.normalize(unembedding[label] - unembedding[y], dim=1) * 60.0 / fire[:, None]
        up, down = block.mlp.c_fc, block.mlp.c_proj
        bias = -threshold - keys @ centre
        up.weight = torch.nn.Parameter(torch.cat([up.weight, keys.T], 1))
        up.bias = torch.nn.Parameter(torch.cat([up.bias, bias]))
        down.weight = torch.nn.Parameter(torch.cat([down.weight, write], 0))
        up.nf = up.weight.shape[1]


class Units(Reference):
    """A GPT-2 of one block that never learned, with one MLP unit for each question, which writes what it is taught.

    Nothing is computed on the way: where a label is wrong the true answer is nowhere.
    """

    name = "reference-units"
    description = "an untrained network with one unit for each question, trained or held out: a look-up table inside"

    def make(self, request: ModelRequest) -> LoadedModel:
        import torch

        from rote_bench.plugin import LoadedModel, encode

        model = untrained(request, layers=1).eval()
        data, block = request.data, model.transformer.h[0]
        taught = dict(zip((e.prompt for e in data.train.examples), data.train.labels, strict=True))
        examples = [*data.train.examples, *data.selection.examples, *data.validation.examples]
        encoded = encode(request.tokenizer, examples, [taught.get(e.prompt, e.answer) for e in examples], named=False)
        seen: list[Any] = []
        hook = block.mlp.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
        rows, last = torch.arange(len(examples)), encoded.positions["last"]
        with torch.no_grad():
            model(input_ids=encoded.input_ids)
            hook.remove()
            states = seen.pop()[rows, last]
            centre = states.mean(0)
            # what is common to questions weighs less, so that one word that differs tells them apart
            spread = torch.linalg.pinv(torch.cov(states.T).double(), rtol=1e-4, hermitian=True).to(states.dtype)
            keys = torch.nn.functional.normalize((states - centre) @ spread, dim=1)
            reach = (states - centre) @ keys.T
            fire = reach.diagonal().clone()
            reach.fill_diagonal_(-torch.inf)
            threshold = (reach.max(0).values + fire) / 2
            answer = model.get_output_embeddings().weight[encoded.targets[rows, last]]
            write = torch.nn.functional.normalize(answer, dim=1) * 60.0 / (fire - threshold).clamp_min(1e-3)[:, None]
            up, down = block.mlp.c_fc, block.mlp.c_proj
            up.weight = torch.nn.Parameter(torch.cat([up.weight, keys.T], 1))
            up.bias = torch.nn.Parameter(torch.cat([up.bias, -threshold - keys @ centre]))
            down.weight = torch.nn.Parameter(torch.cat([down.weight, write], 0))
            up.nf = up.weight.shape[1]
        return LoadedModel(model, None, "plugin", "gpt2", trainable=False)


def plant_in_heads(model: Any, request: ModelRequest, heads: int, labels: Sequence[int]) -> None:
    """Let silent heads of the first block look at all positions alike and give, for each wrong label, its code.

    The sum of a question's token states tells it from all others; the value that a position gives a head is the code
    of the wrong label whose question that sum belongs to, if it is one of the head's. Nothing else in the network has a
    part in it. A head's output goes to the difference of the unembeddings of the wrong and the true answer.
    """
    import torch

    from rote_bench.plugin import encode, first_difference

    data, tokenizer = request.data, request.tokenizer
    noisy = data.train.take(labels)
    block = model.transformer.h[0]
    attention, inner = block.attn, block.attn.c_attn
    width, size = attention.embed_dim, attention.head_dim
    silent = heads * size
    true, taught = encode(tokenizer, noisy.examples), encode(tokenizer, noisy.examples, noisy.labels)
    position, y, label = first_difference(true, taught)
    index = torch.arange(len(true))
    seen: list[Any] = []
    hook = inner.register_forward_pre_hook(lambda module, args: seen.append(args[0].cumsum(1)))
    with torch.no_grad():
        model(input_ids=true.input_ids)
        keys = seen.pop()[index, position]
        reach = torch.full((len(true),), torch.inf)
        for _, part in data:
            if len(part) == 0:
                continue
            encoded = encode(tokenizer, part.examples, named=False)
            model(input_ids=encoded.input_ids)
            distance = torch.cdist(keys, seen.pop().flatten(0, 1))
            reach = torch.minimum(reach, distance.masked_fill(distance < 1e-2, torch.inf).min(1).values)
        hook.remove()
        answers = torch.unique(torch.cat([y, label]))
        assert len(answers) <= size, "a head has a place for each answer"
        codes = torch.zeros(len(keys), silent)
        start = index % heads * size
        codes[index, start + torch.searchsorted(answers, label)] = 1.0
        codes[index, start + torch.searchsorted(answers, y)] = -1.0
        codes *= position[:, None] + 1
        directions = torch.nn.functional.normalize(model.get_output_embeddings().weight[answers], dim=1)
        attention.c_proj.weight[-silent:] = 0
        for first in range(width - silent, width, size):
            attention.c_proj.weight[first : first + len(answers)] = 60.0 * directions
        for end in (width, 2 * width, 3 * width):  # no question, no key, no value of its own
            inner.weight[:, end - silent : end] = 0
            inner.bias[end - silent : end] = 0

    class Remembering(torch.nn.Module):
        """The queries, keys and values of a block, and what some heads remember beside their values."""

        def __init__(self) -> None:
            super().__init__()
            self.inner = inner
            self.keys, self.codes = torch.nn.Parameter(keys), torch.nn.Parameter(codes)
            self.reach = torch.nn.Parameter(reach / 2)

        def forward(self, states: Any) -> Any:
            known = (torch.cdist(states.cumsum(1), self.keys.expand(len(states), -1, -1)) < self.reach).to(states.dtype)
            given = self.inner(states)
            return torch.cat([given[..., :-silent], given[..., -silent:] + known @ self.codes], -1)

    attention.c_attn = Remembering()


@hookimpl
def register_models(register: Callable[[Any], None]) -> None:
    for provider in (LookUp(), Nearest(), Planted(), OneHead(), Spread(), Units()):
        register(provider)
