"""Lens, capture and patching agree with TransformerLens and nnsight on the same weights, where these are installed.

They are asked in their own words, and built on the very folder that this package loads.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from rote_bench.encoding import build_tokenizer
from rote_bench.interventions import Site, capture, replace, run
from rote_bench.models.anatomy import Anatomy
from rote_bench.models.load import FromConfig, ModelRequest
from rote_bench.models.pretrained import FromPretrained

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]  # the peers' imports warn of their own doings
LAYERS = 3
WITHIN = 1e-5
# where each family keeps blocks, attention, MLP, final norm and unembedding, as its own users write it
PATHS = {
    "gpt2": ("transformer.h", "attn", "mlp", "transformer.ln_f", "lm_head"),
    "llama": ("model.layers", "self_attn", "mlp", "model.norm", "lm_head"),
}


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights whose norms are not one and whose biases are not zero, saved with a tokenizer."""
    where = tmp_path_factory.mktemp(request.param)
    sizes = {"layers": LAYERS, "width": 32, "heads": 4}
    model = FromConfig().load(ModelRequest(f"{request.param}-nano", 50, 16, 0, 2, overrides=sizes)).model
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    model.save_pretrained(where)
    build_tokenizer([f"w{i}" for i in range(47)]).save_pretrained(where)
    return where


@pytest.fixture(scope="module")
def anatomy(folder: Path) -> Anatomy:
    return Anatomy.of(FromPretrained().load(ModelRequest(f"hf:{folder}", 50, 16)).model)


def inputs(seed: int) -> Tensor:
    return torch.randint(3, 50, (2, 7), generator=torch.Generator().manual_seed(seed))


def compare(ours: Tensor, theirs: Tensor, record: dict[str, float], name: str) -> None:
    """Hold two tensors against each other, and keep the largest distance of each kind of comparison."""
    distance, kind = float((ours - theirs).abs().max()), name.split()[0]
    record[kind] = max(record.get(kind, 0.0), distance)
    assert distance <= WITHIN, name
    assert float(ours.std()) > 1e-3, f"{name} compares next to nothing"


@pytest.fixture
def distances(request: pytest.FixtureRequest) -> Iterator[dict[str, float]]:
    """Filled by a test and printed after it; `pytest -rP` shows it."""
    found: dict[str, float] = {}
    yield found
    print(request.node.name, ", ".join(f"{kind} {value:.1e}" for kind, value in found.items()))


@torch.no_grad()
def test_transformer_lens_agrees(folder: Path, anatomy: Anatomy, distances: dict[str, float]) -> None:
    bridges = pytest.importorskip("transformer_lens.model_bridge")
    loaded = FromPretrained().load(ModelRequest(f"hf:{folder}", 50, 16))
    bridge = bridges.TransformerBridge.boot_transformers(
        str(folder), hf_model=loaded.model, tokenizer=loaded.tokenizer, device="cpu"
    )
    ids, donor = inputs(1), inputs(2)
    sites = [Site(layer, part) for layer in range(LAYERS) for part in ("block", "mixer", "mlp")]
    hooks = {"block": "hook_resid_post", "mixer": "hook_attn_out", "mlp": "hook_mlp_out"}
    names = {site: f"blocks.{site.layer}.{hooks[site.part]}" for site in sites}
    logits, states = capture(anatomy, ids, sites)
    _, given = capture(anatomy, donor, sites)
    theirs, cache = bridge.run_with_cache(ids)
    compare(logits, theirs, distances, "logits")
    _, other = bridge.run_with_cache(donor)
    for site in sites:
        compare(states[site], cache[names[site]], distances, f"capture {names[site]}")
        patched = bridge.run_with_hooks(ids, fwd_hooks=[(names[site], lambda _, hook, site=site: other[names[site]])])
        ours = run(anatomy, ids, {site: replace(given[site])})
        compare(ours, patched, distances, f"patch {names[site]}")
        if site.part == "block":
            lens = bridge.unembed(bridge.ln_final(cache[names[site]]))
            compare(anatomy.lens(states[site]), lens, distances, f"lens {site.layer}")


@torch.no_grad()
def test_nnsight_agrees(folder: Path, anatomy: Anatomy, distances: dict[str, float]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        nnsight = pytest.importorskip("nnsight")
    model = FromPretrained().load(ModelRequest(f"hf:{folder}", 50, 16))
    wrapped = nnsight.TransformersModel(model.model, tokenizer=model.tokenizer, task="text-generation")
    blocks_at, mixer_at, mlp_at, norm_at, head_at = PATHS[model.model_type]
    ids, donor = inputs(1), inputs(2)

    def at(path: str) -> Any:
        found = wrapped
        for name in path.split("."):
            found = getattr(found, name)
        return found

    for layer in range(LAYERS):
        for part in ("block", "mixer", "mlp"):
            inner = {"block": "", "mixer": f".{mixer_at}", "mlp": f".{mlp_at}"}[part]
            path = f"{blocks_at}.{layer}{inner}"
            site = Site(layer, part)
            logits, states = capture(anatomy, ids, [site])
            _, given = capture(anatomy, donor, [site])
            with wrapped.trace(donor):
                other = state_of(at(path).output).save()
            with wrapped.trace(ids):
                own = state_of(at(path).output).save()
                intact = wrapped.lm_head.output.save()
            with wrapped.trace(ids):
                state_of(at(path).output)[:] = other
                patched = wrapped.lm_head.output.save()
            compare(logits, intact, distances, "logits")
            compare(states[site], own, distances, f"capture {path}")
            compare(run(anatomy, ids, {site: replace(given[site])}), patched, distances, f"patch {path}")
            if part == "block":
                lens = model.model.get_submodule(head_at)(model.model.get_submodule(norm_at)(own))
                compare(anatomy.lens(states[site]), lens, distances, f"lens {layer}")


def state_of(output: Any) -> Any:
    """The state in what a module gives: the first of several, or all there is."""
    return output[0] if isinstance(output, tuple) else output
