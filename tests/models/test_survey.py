"""Architectures that differ in structure are all proved; what cannot be is partial or refused, with its reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from rote_bench.errors import UserError
from rote_bench.interventions import Site, capture, capture_with_gradient, replace, run
from rote_bench.models.anatomy import Anatomy
from rote_bench.models.load import FromConfig, ModelRequest
from rote_bench.models.names import SIZES, known_types
from rote_bench.models.pretrained import BUILT_IN
from rote_bench.models.sizing import NOT_FOR_TEXT, SPECIAL
from rote_bench.models.survey import check, survey, table

from ..releases import new_transformers

# type -> the parts that its blocks do not have
TYPES = {
    "gpt2": set(),
    "openai-gpt": set(),  # norms after each addition
    "gptj": set(),  # attention and MLP in parallel
    "gpt_neox": set(),
    "falcon": set(),  # in parallel, added in place
    "opt": set(),  # the MLP works on (batch * length, width)
    "bert": set(),  # an encoder run as a decoder
    "llama": set(),
    "qwen3": set(),
    "gemma2": set(),  # norms before and after, soft caps
    "olmo2": set(),  # norms after the parts
    "minicpm3": set(),  # scaled additions, low-rank attention
    "mixtral": {"units"},  # experts
    "llama4": {"units"},
    "mamba": {"mlp", "units"},  # one part a block
    "mamba2": {"mlp", "units"},
    "rwkv": {"units"},  # two parts look back
    "recurrent_gemma": set(),
    "falcon_h1": {"parts_sum", "heads"},  # attention and state space side by side
    "deepseek_v4": {"parts_sum", "mlp", "heads", "units"},  # several residual streams, after the positions
    "gemma3n_text": {"parts_sum", "mlp", "heads", "units"},  # several residual streams, before the examples
    "granitemoeshared": {"mlp", "units"},  # experts beside an MLP that all share: two MLPs
    "zaya": {"units"},  # a scale and a bias for each channel
    "hrm_text": {"prefix"},  # two stacks that run several times in turns
}


Results = dict[str, dict[str, Any]]
LATER = {"minicpm3", "deepseek_v4", "zaya", "hrm_text"}


def known(model_type: str, *values: object) -> Any:
    """A type and what is expected of it, left out where transformers is too old for it."""
    lacks = f"does not know {model_type}" if model_type in LATER else f"cannot build {model_type}"
    late = model_type in LATER or model_type == "llama4"
    return pytest.param(model_type, *values, marks=new_transformers(lacks) if late else ())


@pytest.fixture(scope="module")
def results() -> Results:
    return {r["model_type"]: r for r in survey("nano", BUILT_IN, types=[*TYPES, "inkling2_text", "musicgen", "xlnet"])}


@pytest.mark.parametrize("model_type", [known(name) for name in TYPES])
def test_every_needed_proof_holds(results: Results, model_type: str) -> None:
    result = results[model_type]
    assert (result["status"], result["reason"]) == ("proved", None)
    assert {name for name, c in result["checks"].items() if not c["ok"]} == TYPES[model_type]


@pytest.mark.parametrize("model_type", [known(name) for name in TYPES])
def test_sizes_are_comparable(results: Results, model_type: str) -> None:
    assert 0.5 <= results[model_type]["parameters"] / results["gpt2"]["parameters"] <= 2


@pytest.mark.parametrize(
    ("model_type", "reason"),
    [("musicgen", "audio codes"), ("xlnet", "sees later tokens")],
)
def test_what_cannot_be_used_is_refused_with_its_reason(results: Results, model_type: str, reason: str) -> None:
    assert results[model_type]["status"] == "refused"
    assert reason in results[model_type]["reason"]


@new_transformers("does not know inkling2_text")
def test_what_cannot_be_looked_into_is_partial_with_its_reason(results: Results) -> None:
    found = results["inkling2_text"]
    assert found["status"] == "partial" and "more than the last block's output" in found["reason"]
    assert [name for name, check in found["checks"].items() if check["ok"]] == ["causal", "right_padding", "trains"]


@new_transformers("does not know hrm_text")
def test_turns_of_blocks_are_told(results: Results) -> None:
    assert "4 turns of 2 modules" in results["hrm_text"]["checks"]["last_block"]["detail"]


def test_asking_for_a_model_that_writes_no_text_is_the_users_mistake() -> None:
    with pytest.raises(UserError, match="audio codes"):
        check("musicgen-nano", BUILT_IN)


@pytest.mark.parametrize("model_type", ["falcon", "opt", "openai-gpt", "rwkv"])
def test_patching_works_where_blocks_are_unusual(model_type: str) -> None:
    request = ModelRequest(
        f"{model_type}-nano", 40, 16, pad_token_id=0, overrides={"layers": 2, "width": 32, "heads": 2}
    )
    found = Anatomy.of(FromConfig().load(request).model)
    a, b = torch.randint(1, 40, (2, 3, 7), generator=torch.Generator().manual_seed(0))
    sites = [Site(layer, part) for layer in range(2) for part in ("mixer", "mlp")]
    with torch.no_grad():
        logits, own = capture(found, a, sites)
        assert all(state.shape == (3, 7, 32) for state in own.values())
        kept = {site: state.clone() for site, state in own.items()}
        assert torch.equal(run(found, a, {site: replace(own[site]) for site in sites}), logits)
        assert all(torch.equal(own[site], kept[site]) for site in sites)
        where = torch.zeros(3, 7, dtype=torch.bool)
        where[:, 4] = True
        _, other = capture(found, b, sites)
        patched = run(found, a, {sites[1]: replace(other[sites[1]], where)})
        assert torch.allclose(patched[:, :4], logits[:, :4], atol=1e-6)
        assert not torch.allclose(patched[:, 4], logits[:, 4], atol=1e-5)
    _, pairs = capture_with_gradient(found, a, [sites[1]], lambda out: out[:, -1, 3].sum())
    assert torch.allclose(pairs[sites[1]][0], own[sites[1]], atol=1e-6)
    assert float(pairs[sites[1]][1].abs().max()) > 0


def test_windows_shorter_than_the_text_are_no_obstacle() -> None:
    """Two layers that look two tokens back carry a token four tokens ahead, and every part is found all the same."""
    overrides = {"layers": 2, "width": 32, "heads": 2, "config": {"sliding_window": 3}}
    found = Anatomy.of(
        FromConfig().load(ModelRequest("mistral-nano", 40, 16, pad_token_id=0, overrides=overrides)).model
    )
    assert [name for name, c in found.checks.items() if not c.ok] == []
    a = torch.randint(1, 39, (2, 10), generator=torch.Generator().manual_seed(0))
    b = a.clone()
    b[:, 0] += 1
    with torch.no_grad():
        _, donor = capture(found, b, [Site(0, "block")])
        logits, _ = capture(found, a, [])
        changed = (run(found, b, {}) - logits).abs().amax((0, 2)) > 1e-6
        patched = run(found, a, {Site(0, "block"): replace(donor[Site(0, "block")])})
    assert changed.tolist() == [True] * 5 + [False] * 5
    assert torch.allclose(patched, run(found, b, {}), atol=1e-6)


@pytest.mark.parametrize("model_type", [known("deepseek_v4"), "gemma3n_text"])
def test_several_residual_streams_are_one_state(model_type: str) -> None:
    found = Anatomy.of(FromConfig().load(ModelRequest(f"{model_type}-nano", 40, 16, pad_token_id=0)).model)
    a, b = torch.randint(1, 40, (2, 3, 7), generator=torch.Generator().manual_seed(0))
    site = Site(1, "block")
    with torch.no_grad():
        logits, own = capture(found, a, [site])
        donor, other = capture(found, b, [site])
        assert own[site].shape == (3, 7, found.width) and found.width > found.model.config.hidden_size
        assert torch.allclose(run(found, a, {site: replace(own[site])}), logits, atol=1e-6)
        where = torch.zeros(3, 7, dtype=torch.bool)
        where[:, 4] = True
        patched = run(found, a, {site: replace(other[site], where)})
        assert torch.allclose(patched[:, :4], logits[:, :4], atol=1e-5)
        assert not torch.allclose(patched[:, 4], logits[:, 4], atol=1e-4)
        last = Site(found.n_layers - 1, "block")
        _, states = capture(found, b, [last])
        assert torch.allclose(found.lens(states[last]), donor, atol=1e-4)


def test_weights_of_zero_do_not_make_proofs_trivial() -> None:
    request = ModelRequest("gpt2-nano", 40, 16, pad_token_id=0, overrides={"layers": 2, "width": 32, "heads": 2})
    model = FromConfig().load(request).model
    with torch.no_grad():
        for block in model.transformer.h:
            block.mlp.c_proj.weight.zero_()
            block.attn.c_proj.weight.zero_()
    found = Anatomy.of(model)
    assert found.module(1, "mlp") is model.transformer.h[1].mlp
    assert not model.transformer.h[0].mlp.c_proj.weight.any()


def test_exceptions_name_types_that_exist() -> None:
    import transformers

    assert set(SIZES) >= {"nano", "small"}
    page = (Path(__file__).parents[2] / "docs" / "model-types.md").read_text()
    if f"transformers {transformers.__version__}," not in page:
        pytest.skip("they are for the version that was surveyed; another may lack a type")
    assert {*SPECIAL, *NOT_FOR_TEXT} <= set(known_types())


def test_the_page_of_all_types_is_of_the_installed_version_or_says_which() -> None:
    import transformers

    page = (Path(__file__).parents[2] / "docs" / "model-types.md").read_text()
    assert "of transformers 5." in page
    if f"transformers {transformers.__version__}," in page:
        assert all(f"| `{model_type}` |" in page for model_type in known_types())
        rows = [[c.strip() for c in line.split("|")] for line in page.splitlines() if " | proved | " in line]
        sizes = {row[1].strip("`"): float(row[3].removesuffix("M")) for row in rows}
        assert len(sizes) >= 175
        assert all(0.5 <= size / sizes["gpt2"] <= 2 for size in sizes.values()), "sizes are comparable"


@pytest.mark.slow
def test_the_page_says_what_the_installed_types_give() -> None:
    """Every type is proved or refused with its reason; most have a lens, a mixer and heads."""
    found = survey("nano", BUILT_IN)
    assert [r["name"] for r in found if r["status"] == "failed" or (r["status"] == "refused" and not r["reason"])] == []
    proved = [r for r in found if r["status"] == "proved"]
    held = {part: sum(r["checks"][part]["ok"] for r in proved) for part in ("lens", "parts_sum", "mlp", "heads")}
    assert len(proved) >= 175 and held["lens"] >= 175, held
    assert min(held["parts_sum"], held["heads"]) >= 165 and held["mlp"] >= 160, held
    page = (Path(__file__).parents[2] / "docs" / "model-types.md").read_text()
    if page.splitlines()[2] == table(found).splitlines()[2]:  # the same version of transformers
        assert [line.split("|")[1:4] for line in page.splitlines()[7:]] == [
            line.split("|")[1:4] for line in table(found).splitlines()[7:]
        ]


def test_the_page_says_what_was_not_found(results: Results) -> None:
    page = table([results["gpt2"], results["mamba"], results["musicgen"], results["inkling2_text"]])
    assert "2 of 4 proved" in page and "Partial: 1" in page
    assert "| `gpt2` | proved | 0.81M | yes | yes | yes | yes | yes |  |" in page
    assert "| `musicgen` | refused |" in page and "audio codes" in page
