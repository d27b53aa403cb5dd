"""Which models give the logits of some positions alone, and that those are the logits."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from rote_bench.evaluation import forward
from rote_bench.models.anatomy import Anatomy
from rote_bench.models.columns import WORTH_FROM, selective
from rote_bench.models.load import FromConfig, ModelRequest

LARGE, SMALL = 2 * WORTH_FROM, WORTH_FROM - 1
COLUMNS = torch.tensor([1, 4, 5])


def model(model_type: str, vocabulary: int = LARGE) -> Any:
    overrides = {"layers": 2, "width": 32, "heads": 2}
    request = ModelRequest(f"{model_type}-nano", vocabulary, 16, pad_token_id=0, overrides=overrides)
    return FromConfig().load(request).model


def ids(vocabulary: int = LARGE) -> torch.Tensor:
    return torch.randint(0, vocabulary, (3, 7), generator=torch.Generator().manual_seed(5))


def unembedded(net: Any) -> list[int]:
    """Collects at how many positions of how many rows a model's unembedding is asked for logits, call by call."""
    asked: list[int] = []
    net.get_output_embeddings().register_forward_hook(lambda _, args, __: asked.append(args[0][..., 0].numel()))
    return asked


@pytest.mark.parametrize("model_type", ["gpt2", "llama", "gpt_neox", "gemma2", "mamba", "bloom", "mixtral"])
def test_only_what_is_asked_for_is_unembedded(model_type: str) -> None:
    net = Anatomy.of(model(model_type)).model
    whole = net(input_ids=ids()).logits
    asked = unembedded(net)
    found = forward(net, ids(), COLUMNS)
    assert selective(net) and asked == [3 * 3]
    assert torch.allclose(found, whole[:, COLUMNS], rtol=0, atol=1e-5 * float(whole.detach().abs().max()))


def test_the_proof_holds_for_other_weights_and_for_no_stranger() -> None:
    anatomy = Anatomy.of(model("gpt2"))
    other, stranger = copy.deepcopy(anatomy.model), model("gpt2")
    assert not selective(other)
    assert selective(anatomy.on(other).model) and not selective(stranger)
    assert forward(stranger, ids(), COLUMNS).shape == (3, 3, LARGE)


def test_a_small_vocabulary_is_unembedded_everywhere() -> None:
    net = Anatomy.of(model("gpt2", SMALL)).model
    asked = unembedded(net)
    whole = net(input_ids=ids(SMALL)).logits
    assert not selective(net)
    assert torch.equal(forward(net, ids(SMALL), COLUMNS), whole[:, COLUMNS])
    assert asked == [21, 21]


def _deaf(net: Any, positions: Any) -> Any:
    """The model, which makes what it likes of the positions it is asked for."""
    inner = net.forward

    def forward(input_ids: Any, logits_to_keep: Any = 0) -> Any:
        logits = inner(input_ids=input_ids).logits
        return SimpleNamespace(logits=logits if isinstance(logits_to_keep, int) else positions(logits, logits_to_keep))

    net.forward = forward
    return net


@pytest.mark.parametrize(
    "positions",
    [
        lambda logits, keep: logits,  # ignores them
        lambda logits, keep: logits[:, -len(keep) :],  # takes their number alone
        lambda logits, keep: logits[:, keep] * 1.01,
    ],
)
def test_a_model_that_answers_otherwise_is_not_believed(positions: Any) -> None:
    net = Anatomy.of(_deaf(model("gpt2"), positions)).model
    assert not selective(net)
    assert torch.equal(forward(net, ids(), COLUMNS), net(input_ids=ids()).logits[:, COLUMNS])


def test_a_model_that_cannot_be_asked_gives_all_of_them() -> None:
    net = model("gpt2")
    inner = net.forward
    net.forward = lambda input_ids: inner(input_ids=input_ids)
    assert not selective(Anatomy.of(net).model)
    assert forward(net, ids(), COLUMNS).shape == (3, 3, LARGE)
