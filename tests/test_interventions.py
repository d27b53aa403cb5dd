"""Runs that go on from an intact one give what plain runs with hooks of their own give, and leave nothing behind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from rote_bench.interventions import (
    BlockStates,
    Edit,
    Intact,
    Site,
    capture_with_gradient,
    replace,
    run,
    states_by_layer,
)
from rote_bench.models.anatomy import Anatomy
from tests.models.test_prefix import counted, ids, model_of, with_a_shelf

PARTS = ("block", "mixer", "mlp", "heads", "units")
_made: dict[str, Anatomy] = {}


def anatomy(model_type: str) -> Anatomy:
    if model_type not in _made:
        _made[model_type] = Anatomy.of(with_a_shelf() if model_type == "shelf" else model_of(model_type))
    return _made[model_type]


def by_hand(found: Anatomy, site: Site, edit: Edit, tokens: torch.Tensor) -> torch.Tensor:
    """Logits of a whole run with one hook."""
    module = found.module(site.layer, site.part)

    def on_output(module: Any, args: Any, output: Any) -> Any:
        return edit(output) if isinstance(output, torch.Tensor) else (edit(output[0]), *output[1:])

    def on_input(module: Any, args: Any) -> Any:
        return (edit(args[0]), *args[1:])

    if site.part in ("heads", "units"):
        handle = module.register_forward_pre_hook(on_input)
    else:
        handle = module.register_forward_hook(on_output)
    try:
        logits: torch.Tensor = found.model(input_ids=tokens).logits
    finally:
        handle.remove()
    return logits


def halved(at: int) -> Edit:
    def edit(state: torch.Tensor) -> torch.Tensor:
        changed = state.clone()
        changed[:, at] *= 0.5
        return changed

    return edit


@pytest.mark.parametrize("model_type", ["gpt2", "llama", "gpt_neox", "gemma2", "olmo2", "mamba", "shelf"])
def test_a_run_that_goes_on_from_an_intact_one_is_the_whole_run(model_type: str) -> None:
    found = anatomy(model_type)
    assert found.checks["prefix"].ok == (model_type != "shelf")
    parts = [part for part in PARTS if found.supports(part).ok]
    with torch.inference_mode():
        intact = Intact(found, ids(1))
        found.model(input_ids=ids(2))  # what modules keep to themselves is of other inputs
        for layer in (2, 0, 1):
            for part in parts:
                site = Site(layer, part)
                whole = by_hand(found, site, halved(3), ids(1))
                found.model(input_ids=ids(2))
                assert torch.equal(run(found, ids(1), {site: halved(3)}, intact), whole), site
                assert not torch.equal(whole, intact.logits)
        both = {Site(2, "block"): halved(1), Site(1, parts[-1]): halved(2)}
        assert torch.equal(run(found, ids(1), both, intact), run(found, ids(1), both))
        assert torch.equal(run(found, ids(1), {}, intact), found.model(input_ids=ids(1)).logits)


def test_an_intact_run_sees_what_a_capture_sees() -> None:
    found = anatomy("gpt2")
    sites = [Site(1, part) for part in PARTS]
    with torch.inference_mode():
        intact = Intact(found, ids(1), sites)
        for site in sites:
            seen: list[torch.Tensor] = []
            by_hand(found, site, lambda state, seen=seen: (seen.append(state.clone()), state)[1], ids(1))  # type: ignore[misc]
            assert torch.equal(intact.states[site], seen[0])


def test_blocks_before_the_first_edit_do_not_run() -> None:
    found = anatomy("gpt2")
    intact = Intact(found, ids(1))

    def blocks(site: Site) -> list[tuple[int, str]]:
        with torch.no_grad(), counted(found.model) as ran:
            run(found, ids(1), {site: halved(1), Site(2, "mlp"): halved(2)}, intact)
        places = [path.split(".") for path in ran if path.startswith("transformer.h.")]
        return sorted({(int(place[2]), place[3]) for place in places if place[3] in ("attn", "mlp")})

    assert blocks(Site(1, "block")) == [(2, "attn"), (2, "mlp")]
    assert blocks(Site(1, "mlp")) == [(2, "attn"), (2, "mlp")]
    assert blocks(Site(1, "mixer")) == [(1, "mlp"), (2, "attn"), (2, "mlp")]
    assert blocks(Site(1, "units")) == [(1, "mlp"), (2, "attn"), (2, "mlp")]
    assert blocks(Site(1, "heads")) == [(1, "attn"), (1, "mlp"), (2, "attn"), (2, "mlp")]


def test_nothing_stays_lent_or_frozen_when_an_edit_fails() -> None:
    found = anatomy("gpt2")
    model = found.model
    fixed = next(model.parameters()).requires_grad_(False)
    free = [p.requires_grad for p in model.parameters()]
    with torch.no_grad():
        intact = Intact(found, ids(1))
    edits = {Site(2, "mlp"): lambda state: state / (1 // 0)}
    try:
        with pytest.raises(ZeroDivisionError):
            run(found, ids(1), edits, intact)
        with pytest.raises(ZeroDivisionError):
            capture_with_gradient(found, ids(1), [Site(2, "mlp")], lambda logits: logits.sum(), edits, intact)
        assert [p.requires_grad for p in model.parameters()] == free and not fixed.requires_grad
        assert all(p.grad is None for p in model.parameters())
    finally:
        fixed.requires_grad_(True)
    assert not any(m._forward_hooks or m._forward_pre_hooks or "forward" in m.__dict__ for m in model.modules())
    assert torch.equal(model(input_ids=ids(1)).logits, intact.logits)


@pytest.mark.parametrize(
    ("model_type", "part"),
    [*((model_type, part) for model_type in ("gpt2", "llama") for part in PARTS), ("shelf", "block"), ("shelf", "mlp")],
)
def test_gradients_are_those_of_a_whole_run(model_type: str, part: str) -> None:
    found, site = anatomy(model_type), Site(1, part)

    def measure(logits: torch.Tensor) -> torch.Tensor:
        return logits[:, -1, 3].sum()

    def plain(value: torch.Tensor) -> torch.Tensor:
        point = value.clone().requires_grad_(True)
        (gradient,) = torch.autograd.grad(measure(by_hand(found, site, lambda _: point.clone(), ids(1))), point)
        return gradient

    with torch.no_grad():
        intact = Intact(found, ids(1), [site])
    half = 0.5 * intact.states[site]
    wanted = plain(half)
    found.model(input_ids=ids(2))
    value, pairs = capture_with_gradient(found, ids(1), [site], measure, {site: replace(half)}, intact)
    assert torch.equal(pairs[site][0], half) and torch.allclose(pairs[site][1], wanted, rtol=1e-6, atol=1e-9)
    whole = measure(by_hand(found, site, replace(half), ids(1))).detach()
    assert float(value) == pytest.approx(float(whole), rel=1e-6)


@pytest.mark.parametrize("model_type", ["gpt2", "gemma2", "opt", "gemma3n_text", "shelf"])
def test_an_intact_run_repeated_is_that_of_the_examples_repeated(model_type: str) -> None:
    """Those of an architecture that puts several streams before the examples are run again."""
    found, part = anatomy(model_type), "block" if model_type == "gemma3n_text" else "mlp"
    tokens = ids(1, rows=5)
    with torch.no_grad(), counted(found.model) as ran:
        intact = Intact(found, tokens)
        once = len(ran)
        three = intact.repeated(3)
        assert (len(ran) > once) == (model_type == "gemma3n_text")
        assert torch.allclose(three.logits, intact.logits.repeat(3, 1, 1), atol=1e-6)
        found.model(input_ids=ids(2))
        whole = run(found, tokens.repeat(3, 1), {Site(1, part): halved(2)})
        found.model(input_ids=ids(2))
        after = run(found, tokens.repeat(3, 1), {Site(1, part): halved(2)}, three)
    assert torch.allclose(after, whole, atol=1e-6) and not torch.allclose(after, three.logits, atol=1e-4)


@pytest.mark.parametrize("kept", [0, 2 * 4 * 3 * 32 * 4, 1 << 29])
def test_block_states_are_read_once_and_whatever_is_kept_are_the_same(kept: int) -> None:
    found = anatomy("llama")
    states = BlockStates(found, ids(1), batch_size=3, kept=kept)
    tables: list[Callable[[], torch.Tensor]] = [
        lambda: torch.tensor([[0, 6], [1, 5], [2, 4], [3, 3]]),
        lambda: torch.tensor([[6, 0, 6], [5, 1, 5], [4, 2, 4], [3, 3, 3]]),
        lambda: torch.tensor([[1, 6], [1, 5], [1, 4], [1, 3]]),
    ]
    runs = []
    for table in tables:
        with counted(found.model) as ran:
            read = list(states.at(table()))
        runs.append(ran.count(found.structure.blocks[0] + ".mlp.down_proj"))
        for got, wanted in zip(read, states_by_layer(found, ids(1), table(), batch_size=3), strict=True):
            assert torch.equal(got, wanted)
    assert runs == {0: [2, 2, 2], 2 * 4 * 3 * 32 * 4: [2, 0, 2], 1 << 29: [2, 0, 2]}[kept]
