"""Modules of any kind as causal language models: what is found in them, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from rote_bench.errors import UserError
from rote_bench.interventions import Site, ablate, capture, capture_with_gradient, replace, run
from rote_bench.models.anatomy import INSIDE, Anatomy
from rote_bench.models.wrapped import Wrapped, causal, check_asked, words_of
from tests.models.loose import (
    Ahead,
    Attending,
    Halting,
    LastOnly,
    Listed,
    Looped,
    Normed,
    Plain,
    Skipping,
    Streams,
    Unknown,
)

WORDS = 40


def made(kind: type[nn.Module], **options: Any) -> Any:
    torch.manual_seed(0)
    return causal(kind(WORDS, **options), kind.__name__)


def ids(seed: int) -> torch.Tensor:
    return torch.randint(0, WORDS, (3, 7), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kind", [Plain, Looped, Skipping, Unknown, Listed])
def test_logits_are_those_of_the_module(kind: type[nn.Module]) -> None:
    torch.manual_seed(0)
    module = kind(WORDS)
    wanted = module.eval()(ids(1))
    wanted = wanted["logits"] if isinstance(wanted, dict) else wanted[0] if isinstance(wanted, tuple) else wanted
    assert torch.equal(causal(module, "m")(input_ids=ids(1)).logits, wanted)


def test_what_reads_and_what_writes_is_found() -> None:
    model = made(Plain)
    assert model.get_input_embeddings() is model.inner.embed and model.get_output_embeddings() is model.inner.head
    unknown = made(Unknown)
    assert unknown.get_input_embeddings() is None and unknown.get_output_embeddings() is None
    assert words_of(model) == words_of(unknown) == WORDS
    assert unknown.config.to_dict()["width"] == 32 and "act" not in unknown.config.to_dict()


def test_the_parts_of_a_plain_module_are_proved_as_those_of_transformers() -> None:
    plain, attending = Anatomy.of(made(Plain)), Anatomy.of(made(Attending))
    for found in (plain, attending):
        assert [name for name, check in found.checks.items() if not check.ok] == []
        assert found.n_layers == 2 and found.width == 32
        assert found.module(1, "mlp") is found.model.inner.blocks[1].mlp
        assert found.module(0, "mixer") is found.model.inner.blocks[0].mixer
        assert found.module(0, "units") is found.model.inner.blocks[0].mlp[2]
    assert attending.structure.n_heads == 4 and plain.structure.n_heads is None


def test_blocks_beside_other_modules_of_a_sequence_are_found() -> None:
    found = Anatomy.of(made(Listed))
    assert found.structure.blocks == ("inner.1", "inner.2") and found.checks["lens"].ok


def test_a_block_that_runs_several_times_is_looked_into_at_each_turn() -> None:
    found = Anatomy.of(made(Looped))
    assert found.n_layers == 3 and [found.turn(layer) for layer in range(3)] == [0, 1, 2]
    assert [name for name, check in found.checks.items() if not check.ok] == ["prefix"]
    assert "several times" in found.checks["prefix"].detail
    block = found.model.inner.blocks[0]
    seen: list[torch.Tensor] = []
    with torch.no_grad():
        handle = block.register_forward_hook(lambda module, args, output: seen.append(output.clone()))
        found.model(input_ids=ids(1))
        handle.remove()
        sites = [Site(layer, "block") for layer in range(3)]
        logits, states = capture(found, ids(1), [*sites, Site(1, "units"), Site(2, "mixer")])
        assert all(torch.equal(states[site], own) for site, own in zip(sites, seen, strict=True))
        assert torch.allclose(found.lens(states[sites[2]]), logits, atol=1e-5)
        other_logits, other = capture(found, ids(2), sites)
        assert torch.allclose(run(found, ids(1), {sites[2]: replace(other[sites[2]])}), other_logits, atol=1e-5)
        assert torch.allclose(run(found, ids(1), {sites[0]: replace(other[sites[0]])}), other_logits, atol=1e-5)
        where = torch.zeros(3, 7, dtype=torch.bool)
        where[:, 4] = True
        one = [run(found, ids(1), {site: replace(other[site], where)}) for site in sites]
        assert not torch.allclose(one[0], one[1], atol=1e-4) and torch.allclose(one[1][:, :4], logits[:, :4], atol=1e-5)
        mean = states[Site(1, "units")].mean((0, 1))
        spared = [run(found, ids(1), {Site(t, "units"): ablate(mean, torch.arange(64))}) for t in range(3)]
        assert not torch.allclose(spared[0], spared[1], atol=1e-4) and not torch.allclose(spared[0], logits, atol=1e-4)
    _, pairs = capture_with_gradient(found, ids(1), sites, lambda out: out[:, -1, 3].sum())
    assert len({float(gradient.abs().sum()) for _, gradient in pairs.values()}) == 3
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in found.model.modules())


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (Halting, "depends on the input"),
        (Skipping, "depend on more than the last block's output"),
        (Streams, "depend on more than the last block's output"),
        (Unknown, "no list of its modules"),
        (Normed, "no list of its modules"),
    ],
)
def test_what_cannot_be_proved_is_switched_off_with_its_reason(kind: type[nn.Module], reason: str) -> None:
    found = Anatomy.of(made(kind))
    assert found.n_layers == 0 and found.checks["right_padding"].ok
    assert all(not found.checks[name].ok and reason in found.checks[name].detail for name in INSIDE)


def test_code_that_fails_when_it_is_looked_into_is_no_obstacle() -> None:
    class Fragile(Plain):
        def states(self, x: torch.Tensor) -> torch.Tensor:
            if len(x) > 2:  # single tokens, as the replay of a state takes them
                raise RuntimeError("two at most")
            return super().states(x)

        def forward(self, tokens: torch.Tensor) -> Any:
            return 2 * torch.tanh(super().forward(tokens))

    found = Anatomy.of(made(Fragile))
    assert found.n_layers == 0 and "looked into: RuntimeError: two at most" in found.checks["lens"].detail


def test_a_model_that_sees_later_tokens_is_refused() -> None:
    with pytest.raises(UserError, match="sees later tokens"):
        Anatomy.of(made(Ahead))


def test_a_model_that_mixes_the_rows_of_a_batch_is_refused() -> None:
    class Mixed(Plain):
        def states(self, x: torch.Tensor) -> torch.Tensor:
            return super().states(x) - x.mean(0, keepdim=True)

    with pytest.raises(UserError, match="depends on the other rows of its batch"):
        Anatomy.of(made(Mixed))

    class Batched(Plain):
        def __init__(self, vocab_size: int) -> None:
            super().__init__(vocab_size)
            self.batched = nn.BatchNorm1d(32)

        def states(self, x: torch.Tensor) -> torch.Tensor:
            return super().states(self.batched(x.transpose(1, 2)).transpose(1, 2))

    with pytest.raises(UserError, match="Batched has BatchNorm1d, which mixes the rows"):
        check_asked(made(Batched), ids(1), WORDS)


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_a_model_whose_logits_are_no_numbers_is_refused_as_that(wrong: float) -> None:
    class Broken(Plain):
        def states(self, x: torch.Tensor) -> torch.Tensor:
            return super().states(x) * wrong

    with pytest.raises(UserError, match="logits that are NaN or infinite"):
        Anatomy.of(made(Broken))


def test_a_model_that_sees_how_long_the_text_is_is_refused() -> None:
    class Measured(Plain):
        def states(self, x: torch.Tensor) -> torch.Tensor:
            return super().states(x) * x.shape[1]

        def forward(self, tokens: torch.Tensor) -> Any:
            return self.head(self.states(self.embed(tokens)))

    with pytest.raises(UserError, match="tokens appended on the right change logits"):
        Anatomy.of(made(Measured))


def test_what_gives_no_logits_of_every_position_is_refused() -> None:
    with pytest.raises(UserError, match="every position, not of the last alone"):
        made(LastOnly)
    for axes, says in (((1, 2), "the last two are the wrong way round"), ((0, 1), "the first two .* batch_first=True")):
        with pytest.raises(UserError, match=says):
            causal(Turned(*axes), "turned")
    with pytest.raises(UserError, match=r"fails for ids of shape \(2, 5\): TypeError: it gives no logits"):
        causal(nn.Sequential(nn.Embedding(9, 4), nn.GRU(4, 9), Nothing()), "nothing")
    with pytest.raises(UserError, match="has no parameters"):
        causal(nn.Identity(), "nothing")


class Turned(nn.Module):
    """Logits with two axes exchanged."""

    def __init__(self, *axes: int) -> None:
        super().__init__()
        self.axes, self.inner = axes, Plain(WORDS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.inner(x)
        return logits.transpose(*self.axes)


class Nothing(nn.Module):
    def forward(self, x: Any) -> Any:
        return None


class Scaled(Plain):
    """Multiplies its logits by a weight."""

    def __init__(self, vocab_size: int) -> None:
        super().__init__(vocab_size)
        self.scale = nn.Parameter(torch.tensor(0.5))

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = super().forward(ids) * self.scale.exp()
        return out


def test_the_lens_follows_a_scale_that_is_learned() -> None:
    model = made(Scaled)
    anatomy = Anatomy.of(model)
    assert anatomy.supports("lens").ok
    other = made(Scaled)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1.3)
        site = Site(1, "block")
        logits, states = capture(anatomy.on(other), ids(2), [site])
        torch.testing.assert_close(anatomy.on(other).lens(states[site]), logits)


class ByName(nn.Module):
    """A block's MLP whose projections are called by keyword."""

    def __init__(self, mlp: Any) -> None:
        super().__init__()
        self.up, self.down = mlp[0], mlp[2]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.down(input=torch.relu(self.up(input=x)))
        return out


def test_units_are_edited_where_a_projection_is_called_by_keyword() -> None:
    torch.manual_seed(0)
    plain, named = Plain(WORDS), Plain(WORDS)
    named.load_state_dict(plain.state_dict())
    for block in named.blocks:
        block.mlp = ByName(block.mlp)
    first, second = (Anatomy.of(causal(each, "m")) for each in (plain, named))
    assert second.supports("units").ok
    site = Site(0, "units")
    edits = {site: lambda units: torch.where(torch.arange(units.shape[-1]) < 9, 0.0, units)}
    with torch.no_grad():
        edited = run(first, ids(1), edits)
        assert torch.equal(run(second, ids(1), edits), edited)
        assert not torch.equal(run(first, ids(1), {}), edited)
        assert torch.equal(capture(second, ids(1), [site])[1][site], capture(first, ids(1), [site])[1][site])


@pytest.mark.parametrize("dtype", [torch.complex64, torch.int64])
def test_logits_that_are_no_real_numbers_are_refused(dtype: torch.dtype) -> None:
    class Other(Plain):
        def forward(self, ids: torch.Tensor) -> Any:
            return {"logits": super().forward(ids).to(dtype)}

    with pytest.raises(UserError, match=f"Other gives logits of {dtype}, which are no real numbers"):
        causal(Other(40), "other")


def test_a_small_vocabulary_or_a_short_reach_is_told_before_anything_is_trained() -> None:
    with pytest.raises(UserError, match="Plain has a vocabulary of 40 tokens where 41 are asked for"):
        check_asked(made(Plain), ids(1), 41)
    check_asked(made(Plain), ids(1), WORDS)

    class Short(Plain):
        def __init__(self, vocab_size: int) -> None:
            super().__init__(vocab_size)
            self.place = nn.Embedding(6, 32)

        def states(self, x: torch.Tensor) -> torch.Tensor:
            return super().states(x + self.place(torch.arange(x.shape[1])))

    with pytest.raises(UserError, match=r"Short fails for ids of shape \(3, 7\): IndexError"):
        check_asked(made(Short), ids(1), WORDS)


def test_models_of_transformers_are_left_as_they_are() -> None:
    from transformers import GPT2Config, GPT2LMHeadModel, GPT2Model

    config = GPT2Config(vocab_size=WORDS, n_positions=16, n_embd=16, n_layer=1, n_head=2)
    model = GPT2LMHeadModel(config).eval()
    assert causal(model, "gpt2") is model
    with pytest.raises(UserError, match=r"GPT2Model fails .* no logits"):
        causal(GPT2Model(config).eval(), "gpt2")
    assert isinstance(made(Plain), Wrapped)


def test_how_bfloat16_rounds_with_another_size_of_the_batch_is_no_mixing() -> None:
    found = Anatomy.of(made(Attending).to(torch.bfloat16))
    assert found.checks["causal"].ok
