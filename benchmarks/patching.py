"""Patching and logit lens beside plain hooks, TransformerLens and nnsight, on the same weights and questions.

    python -m benchmarks.patching [--rounds 5] [--layers 4]

Every part of every block, one after the other, replaced by what it gave in another model. Each tool is asked in its own
words; the largest difference of any logit from the product's is printed.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.timing import Table, arguments, comparison, finish, quiet, take_turns
from rote_bench import plugins
from rote_bench.encoding import build_tokenizer, encode
from rote_bench.interventions import OUTPUTS, Intact, Site, capture, replace, run
from rote_bench.machine import keep_memory
from rote_bench.models.anatomy import Anatomy
from rote_bench.models.load import FromConfig, LoadedModel, ModelRequest
from rote_bench.models.pretrained import FromPretrained
from rote_bench.spec.loader import load_task
from rote_bench.splits import make_task

PRODUCT = "product"
INNER = {"block": "", "mixer": ".attn", "mlp": ".mlp"}  # where GPT-2 keeps each part
POINTS = {"block": "hook_resid_post", "mixer": "hook_attn_out", "mlp": "hook_mlp_out"}  # TransformerLens's names
Logits = dict[Site, Tensor]
Call = Callable[[], Logits]


def state_of(output: Any) -> Any:
    """The state in what a module gives: the first of several, or all there is."""
    return output[0] if isinstance(output, tuple) else output


class Product:
    """This package, whose patches share an intact run, which counts."""

    def __init__(self, loaded: LoadedModel, ids: Tensor, sites: list[Site]) -> None:
        self.anatomy, self.ids, self.sites = Anatomy.of(loaded.model), ids, sites

    def patches(self, donor: dict[Site, Tensor]) -> Logits:
        intact = Intact(self.anatomy, self.ids)
        return {site: run(self.anatomy, self.ids, {site: replace(donor[site])}, intact) for site in self.sites}

    def lens(self) -> Logits:
        blocks = [site for site in self.sites if site.part == "block"]
        _, states = capture(self.anatomy, self.ids, blocks)
        return {site: self.anatomy.lens(states[site]) for site in blocks}


class Hooks:
    """Forward hooks of PyTorch and nothing else."""

    def __init__(self, loaded: LoadedModel, ids: Tensor, sites: list[Site]) -> None:
        self.model, self.ids, self.sites = loaded.model, ids, sites

    def module(self, site: Site) -> Any:
        return self.model.get_submodule(f"transformer.h.{site.layer}{INNER[site.part]}")

    def patches(self, donor: dict[Site, Tensor]) -> Logits:
        out = {}
        for site in self.sites:

            def put(module: Any, args: Any, output: Any, state: Tensor = donor[site]) -> Any:
                return (state, *output[1:]) if isinstance(output, tuple) else state

            handle = self.module(site).register_forward_hook(put)
            out[site] = self.model(input_ids=self.ids).logits
            handle.remove()
        return out

    def lens(self) -> Logits:
        blocks, kept = [site for site in self.sites if site.part == "block"], {}
        handles = []
        for site in blocks:

            def keep(module: Any, args: Any, output: Any, site: Site = site) -> None:
                kept[site] = state_of(output)

            handles.append(self.module(site).register_forward_hook(keep))
        self.model(input_ids=self.ids)
        for handle in handles:
            handle.remove()
        inner = self.model.transformer
        return {site: self.model.lm_head(inner.ln_f(kept[site])) for site in blocks}


class TransformerLens:
    """TransformerBridge, one ``run_with_hooks`` a patch."""

    def __init__(self, loaded: LoadedModel, ids: Tensor, sites: list[Site], folder: Path) -> None:
        from transformer_lens.model_bridge import TransformerBridge

        self.bridge = TransformerBridge.boot_transformers(
            str(folder), hf_model=loaded.model, tokenizer=loaded.tokenizer, device="cpu"
        )
        self.ids, self.sites = ids, sites

    def patches(self, donor: dict[Site, Tensor]) -> Logits:
        out = {}
        for site in self.sites:
            name = f"blocks.{site.layer}.{POINTS[site.part]}"
            hooks = [(name, lambda _, hook, state=donor[site]: state)]
            out[site] = self.bridge.run_with_hooks(self.ids, fwd_hooks=hooks)
        return out

    def lens(self) -> Logits:
        names = {s: f"blocks.{s.layer}.{POINTS['block']}" for s in self.sites if s.part == "block"}
        _, cache = self.bridge.run_with_cache(self.ids, names_filter=list(names.values()))
        return {site: self.bridge.unembed(self.bridge.ln_final(cache[name])) for site, name in names.items()}


class Nnsight:
    """One trace a patch."""

    def __init__(self, loaded: LoadedModel, ids: Tensor, sites: list[Site]) -> None:
        import nnsight

        self.wrapped = nnsight.TransformersModel(loaded.model, tokenizer=loaded.tokenizer, task="text-generation")
        self.model, self.ids, self.sites = loaded.model, ids, sites

    def at(self, site: Site) -> Any:
        found = self.wrapped.transformer.h[site.layer]
        return getattr(found, INNER[site.part].removeprefix(".")) if INNER[site.part] else found

    def patches(self, donor: dict[Site, Tensor]) -> Logits:
        out = {}
        for site in self.sites:
            state = donor[site]
            with self.wrapped.trace(self.ids):
                state_of(self.at(site).output)[:] = state
                logits = self.wrapped.lm_head.output.save()
            out[site] = logits
        return out

    def lens(self) -> Logits:
        blocks = [site for site in self.sites if site.part == "block"]
        kept: list[Tensor] = []
        with self.wrapped.trace(self.ids):
            for site in blocks:
                kept.append(state_of(self.at(site).output).save())
        inner = self.model.transformer
        return {site: self.model.lm_head(inner.ln_f(state)) for site, state in zip(blocks, kept, strict=True)}


def tools(folder: Path, ids: Tensor, sites: list[Site]) -> dict[str, Any]:
    """Each tool that is installed, on weights that it has for itself."""

    def loaded() -> LoadedModel:
        return FromPretrained().load(ModelRequest(f"hf:{folder}", 0, 0))

    found: dict[str, Any] = {PRODUCT: Product(loaded(), ids, sites), "plain hooks": Hooks(loaded(), ids, sites)}
    peers: dict[str, Callable[[], Any]] = {
        "TransformerLens": lambda: TransformerLens(loaded(), ids, sites, folder),
        "nnsight": lambda: Nnsight(loaded(), ids, sites),
    }
    for name, make in peers.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                found[name] = make()
            except ModuleNotFoundError as error:
                print(f"{name} is left out: {error}; pip install '.[peers]'")
    return found


def furthest(ours: Logits, theirs: Logits) -> float:
    """The largest difference of any logit."""
    return max(float((ours[site] - theirs[site]).abs().max()) for site in ours)


def compared(title: str, calls: dict[str, Call], rounds: int) -> Table:
    """Tools that take turns, and how far the numbers of each lie from the product's."""
    given = {name: call() for name, call in calls.items()}
    distance = {name: f"{furthest(given[PRODUCT], logits):.1e}" for name, logits in given.items()}
    del given
    return comparison(title, take_turns(calls, rounds), PRODUCT, more={"largest difference": distance})


@torch.no_grad()
def main() -> None:
    parser = arguments(__doc__, rounds=5)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--questions", type=int, default=512)
    options = parser.parse_args()
    keep_memory()
    quiet()
    torch.set_num_threads(1)
    registry = plugins.built_in()
    task = make_task(load_task("thr", registry), registry)
    tokenizer = build_tokenizer(task.words())
    ids = encode(tokenizer, [task.example(i) for i in range(options.questions)], named=False).input_ids
    sites = [Site(layer, part) for layer in range(options.layers) for part in OUTPUTS]
    sizes = {"layers": options.layers}
    with tempfile.TemporaryDirectory() as temporary:
        model = FromConfig().load(ModelRequest("gpt2-nano", len(tokenizer), 16, 0, 2, overrides=sizes)).model
        for parameter in model.parameters():  # norms that are not one, biases that are not zero
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
        model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
        asked = tools(Path(temporary), ids, sites)
        for parameter in model.parameters():  # the model that the states come from
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2)))
        _, donor = capture(Anatomy.of(model), ids, sites)
        shape = " x ".join(map(str, ids.shape))
        where = f"gpt2-nano of {options.layers} layers, {shape} tokens, one thread"
        patches: dict[str, Call] = {name: partial(tool.patches, donor) for name, tool in asked.items()}
        lenses: dict[str, Call] = {name: tool.lens for name, tool in asked.items()}
        finish(
            options,
            compared(f"{len(sites)} patches, {where}", patches, options.rounds),
            compared(f"The logit lens at every block, {where}", lenses, options.rounds),
        )


if __name__ == "__main__":
    main()
