"""What the anatomy finds, proved on structurally different models."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from rote_bench import interventions
from rote_bench.errors import UserError
from rote_bench.interventions import (
    Site,
    ablate,
    capture,
    capture_with_gradient,
    replace,
    replace_units,
    run,
    states_by_layer,
)
from rote_bench.models.anatomy import Anatomy
from rote_bench.models.load import FromConfig, ModelRequest
from rote_bench.models.wrapped import causal
from tests.models import loose

TYPES = ["gpt2", "llama", "gpt_neox", "gemma2", "olmo2", "qwen3", "mixtral", "bloom"]
OVERRIDES = {"layers": 3, "width": 32, "heads": 2}
_made: dict[str, Anatomy] = {}


def anatomy(model_type: str) -> Anatomy:
    if model_type not in _made:
        request = ModelRequest(f"{model_type}-nano", vocab_size=40, max_length=16, pad_token_id=0, overrides=OVERRIDES)
        _made[model_type] = Anatomy.of(FromConfig().load(request).model)
    return _made[model_type]


def ids(seed: int) -> torch.Tensor:
    return torch.randint(0, 40, (4, 7), generator=torch.Generator().manual_seed(seed))


each_type = pytest.mark.parametrize("model_type", TYPES)


@each_type
def test_every_proof_holds(model_type: str) -> None:
    found = anatomy(model_type)
    assert found.n_layers == 3
    failed = [name for name, check in found.checks.items() if not check.ok]
    assert failed == (["units"] if model_type == "mixtral" else [])


@each_type
def test_the_lens_at_the_last_layer_is_the_model(model_type: str) -> None:
    found = anatomy(model_type)
    with torch.no_grad():
        logits, states = capture(found, ids(1), [Site(2, "block")])
        assert torch.allclose(found.lens(states[Site(2, "block")]), logits, atol=1e-5)


def test_the_lens_reads_a_residual_stream_of_another_precision_than_the_head() -> None:
    """Mamba keeps its stream in float32 beside weights in bfloat16."""
    small = {"layers": 3, "width": 32}
    request = ModelRequest(
        "mamba-nano", vocab_size=40, max_length=16, pad_token_id=0, dtype="bfloat16", overrides=small
    )
    found = Anatomy.of(FromConfig().load(request).model)
    assert found.checks["lens"].ok
    with torch.no_grad():
        logits, states = capture(found, ids(1), [Site(2, "block")])
        assert states[Site(2, "block")].dtype != found.model.get_output_embeddings().weight.dtype
        assert torch.allclose(found.lens(states[Site(2, "block")]).to(logits.dtype), logits, atol=1e-5)


@each_type
def test_putting_a_models_own_activations_back_changes_nothing(model_type: str) -> None:
    found = anatomy(model_type)
    sites = [Site(layer, part) for layer in range(3) for part in ("block", "mixer", "mlp")]
    with torch.no_grad():
        logits, states = capture(found, ids(1), sites)
        patched = run(found, ids(1), {site: replace(states[site]) for site in sites})
    assert torch.equal(patched, logits)


@each_type
def test_patching_any_whole_block_from_another_input_gives_that_inputs_later_computation(model_type: str) -> None:
    found = anatomy(model_type)
    with torch.no_grad():
        donor, states = capture(found, ids(2), [Site(layer, "block") for layer in range(3)])
        for layer in range(3):
            site = Site(layer, "block")
            assert torch.allclose(run(found, ids(1), {site: replace(states[site])}), donor, atol=1e-5)


@each_type
def test_the_parts_of_a_block_sum_to_its_update(model_type: str) -> None:
    found = anatomy(model_type)
    sites = [Site(0, "block"), *(Site(1, part) for part in ("block", "mixer", "mlp"))]
    with torch.no_grad():
        _, s = capture(found, ids(3), sites)
    update = s[Site(1, "block")] - s[Site(0, "block")]
    assert torch.allclose(s[Site(1, "mixer")] + s[Site(1, "mlp")], update, atol=1e-5)


@each_type
def test_only_the_mixer_moves_information_between_positions(model_type: str) -> None:
    found = anatomy(model_type)
    changed = ids(1).clone()
    changed[:, 0] = (changed[:, 0] + 1) % 40
    mlps = [Site(layer, "mlp") for layer in range(3)]
    mixers = [Site(layer, "mixer") for layer in range(3)]
    with torch.no_grad():
        _, intact = capture(found, ids(1), mixers)
        held = {site: replace(intact[site]) for site in mixers}
        before = run(found, ids(1), held)
        after = run(found, changed, held)
        _, moved = capture(found, changed, mlps, held)
        _, still = capture(found, ids(1), mlps, held)
    assert torch.allclose(before[:, 1:], after[:, 1:], atol=1e-5)
    assert any(not torch.allclose(moved[s][:, 0], still[s][:, 0], atol=1e-4) for s in mlps)


@pytest.mark.parametrize("at_once", [1, 2 * 4 * 2 * 32 * 4, 1 << 29])
def test_states_come_layer_by_layer_however_many_are_read_at_once(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interventions, "STATES_AT_ONCE", at_once)
    found, positions = anatomy("llama"), torch.tensor([[0, 6], [1, 5], [2, 4], [3, 3]])
    _, whole = capture(found, ids(1), [Site(layer, "block") for layer in range(3)])
    read = list(states_by_layer(found, ids(1), positions, batch_size=3))
    assert len(read) == 3
    for layer, states in enumerate(read):
        expected = whole[Site(layer, "block")][torch.arange(4)[:, None], positions]
        assert torch.allclose(states, expected, atol=1e-5)


def test_units_and_heads_are_what_the_projections_read() -> None:
    found = anatomy("gpt2")
    mlp = found.model.transformer.h[1].mlp
    seen: dict[str, torch.Tensor] = {}
    hook = mlp.act.register_forward_hook(lambda m, a, out: seen.update(units=out))
    with torch.no_grad():
        _, states = capture(found, ids(1), [Site(1, "units"), Site(1, "heads")])
    hook.remove()
    assert torch.equal(states[Site(1, "units")], seen["units"])
    assert states[Site(1, "heads")].shape == (4, 7, 32)


def test_edits_change_what_they_name_and_nothing_else() -> None:
    found = anatomy("gpt2")
    site = Site(1, "units")
    with torch.no_grad():
        logits, states = capture(found, ids(1), [site])
        _, other = capture(found, ids(2), [site])
        units = torch.tensor([3, 5])
        _, after = capture(found, ids(1), [site], {site: replace_units(other[site], units)})
        assert torch.equal(after[site][..., units], other[site][..., units])
        rest = [u for u in range(states[site].shape[-1]) if u not in (3, 5)]
        assert torch.equal(after[site][..., rest], states[site][..., rest])
        mean = states[site].mean((0, 1))
        _, gone = capture(found, ids(1), [site], {site: ablate(mean, units)})
        assert torch.equal(gone[site][..., units], mean[units].expand(4, 7, 2))
        where = torch.zeros(4, 7, 1, dtype=torch.bool)
        where[:, 3] = True
        erased = run(found, ids(1), {Site(0, "block"): lambda state: state.masked_fill(where, 0.0)})
        assert torch.allclose(erased[:, :3], logits[:, :3], atol=1e-6)
        assert not torch.allclose(erased[:, 3], logits[:, 3], atol=1e-3)


def test_hooks_go_even_when_an_edit_fails() -> None:
    found = anatomy("gpt2")
    with torch.no_grad():
        before = run(found, ids(1), {})
        with pytest.raises(ZeroDivisionError):
            run(found, ids(1), {Site(0, "mlp"): lambda x: x / (1 // 0)})
        assert torch.equal(run(found, ids(1), {}), before)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in found.model.modules())


@pytest.mark.parametrize("model_type", ["gpt2", "llama"])
def test_gradients_agree_with_finite_differences(model_type: str) -> None:
    found = anatomy(model_type)
    site = Site(1, "mlp")

    def measure(logits: torch.Tensor) -> torch.Tensor:
        return logits[:, -1, 3].sum()

    value, pairs = capture_with_gradient(found, ids(1), [site], measure)
    activation, gradient = pairs[site]
    direction = torch.randn(activation.shape, generator=torch.Generator().manual_seed(0))
    step = 1e-4
    with torch.no_grad():
        up, down = (measure(run(found, ids(1), {site: replace(activation + s * direction)})) for s in (step, -step))
        intact = measure(run(found, ids(1), {}))
    assert float((up - down) / (2 * step)) == pytest.approx(float((gradient * direction).sum()), rel=2e-2, abs=1e-3)
    assert float(value) == pytest.approx(float(intact), rel=1e-4)


def test_a_model_that_sees_later_tokens_is_refused() -> None:
    from transformers import BertConfig, BertLMHeadModel

    config = BertConfig(vocab_size=40, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64)
    config.is_decoder = False
    with pytest.raises(UserError, match="sees later tokens"):
        Anatomy.of(BertLMHeadModel(config).eval())


class Gated(nn.Module):
    """Attention that sees ahead, as far as a gate lets it, or up to a position."""

    def __init__(self, gate: float, upto: int = 99) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(40, 16), nn.Linear(16, 40)
        self.attention, self.gate = nn.MultiheadAttention(16, 2, batch_first=True), nn.Parameter(torch.tensor(gate))
        self.upto = upto

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x, n = self.embed(ids), ids.shape[1]
        ahead = torch.ones(n, n, dtype=torch.bool).triu(1)
        ahead[: self.upto, : self.upto] = False
        out: torch.Tensor = self.head(x + self.gate * self.attention(x, x, x, attn_mask=ahead)[0])
        return out


@pytest.mark.parametrize(("gate", "upto"), [(1.0, 99), (0.0, 99), (1e-6, 99), (1.0, 3), (0.0, 2)])
def test_what_is_seen_through_a_closed_gate_or_at_the_beginning_is_found(gate: float, upto: int) -> None:
    torch.manual_seed(0)
    with torch.no_grad(), pytest.raises(UserError, match="sees later tokens"):
        Anatomy.of(causal(Gated(gate, upto), "Gated"))
    with torch.no_grad():
        assert Anatomy.of(causal(Gated(gate, 0), "Gated")).checks["causal"].ok


def test_proofs_leave_the_model_as_it_was() -> None:
    request = ModelRequest("gpt2-nano", vocab_size=40, max_length=16, pad_token_id=0, overrides=OVERRIDES)
    model = FromConfig().load(request).model
    before = {k: v.clone() for k, v in model.state_dict().items()}
    model.train()
    Anatomy.of(model)
    assert model.training
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_the_same_structure_serves_other_weights() -> None:
    first = anatomy("gpt2")
    request = ModelRequest("gpt2-nano", vocab_size=40, max_length=16, pad_token_id=0, seed=9, overrides=OVERRIDES)
    other = first.on(FromConfig().load(request).model)
    with torch.no_grad():
        logits, states = capture(other, ids(1), [Site(2, "block")])
        assert torch.allclose(other.lens(states[Site(2, "block")]), logits, atol=1e-5)
        assert not torch.allclose(logits, run(first, ids(1), {}), atol=1e-2)


@pytest.mark.parametrize(("hidden", "one"), [(4 * loose.WIDTH, False), (4, True)])
def test_of_two_mlps_neither_stands_for_both(hidden: int, one: bool) -> None:
    torch.manual_seed(0)
    anatomy = Anatomy.of(causal(loose.Macaron(60, hidden).eval(), "macaron"))
    assert anatomy.supports("mixer").ok and anatomy.supports("heads").ok, anatomy.checks
    for part in ("mlp", "units"):
        check = anatomy.supports(part)
        assert check.ok is one
        assert one or check.detail == "a block has several MLPs (first and second), and none of them is the MLP"
    if one:
        assert anatomy.module(0, "mlp") is anatomy.model.inner.blocks[0].second
