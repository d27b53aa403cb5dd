"""A few numbers of every room that makes numbers, from inputs that stand here: the golden test holds them to versions.

Models work in float64 with weights that are computed here or lie beside this file, so that processors which round apart
give the same numbers to more digits than are compared.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rote_bench import plugins
from rote_bench.pipeline.identity import ROOMS
from rote_bench.spec.loader import load_task
from rote_bench.spec.model import Recipe, Schedule, TaskSpec
from rote_bench.spec.options import build

HERE = Path(__file__).parent
TASK = """
name: golden
generator: two_hop
parameters: {form: symbols, entities: 16, bridges: 6, answers: 8, relations: 10}
splits: {train: 0.8, selection: 0.08, validation: 0.12}
noise: {rates: [0.1]}
model: {layers: 2, width: 32, heads: 2, activation: relu}
diagnostics:
  - learning_dynamics
  - logit_lens: {examples: 96}
  - activation_patching: {examples: 48}
  - probe: {fit_examples: 256}
  - erasure: {fit_examples: 256, examples: 48}
  - interchange: {fit_examples: 256, examples: 48}
  - ablation: {examples: 32}
  - position_importance: {examples: 32}
  - neighbourhood: {examples: 32}
  - nearest
  - circuits: {examples: 24, steps: 3}
  - neurons: {examples: 96, top: 10}
"""
Numbers = Mapping[str, Any]


def digest(*texts: str) -> str:
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16]


@lru_cache(maxsize=1)
def registry() -> plugins.Registry:
    return plugins.built_in()


@lru_cache(maxsize=1)
def spec() -> TaskSpec:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "golden.yaml"
        file.write_text(TASK)
        return dataclasses.replace(load_task(file, registry()), source=None, places={})


@lru_cache(maxsize=1)
def made() -> tuple[Any, Any]:
    from rote_bench.splits import make_data, make_noise, make_task

    task = make_task(spec(), registry())
    return task, make_data(task, spec(), make_noise(spec(), registry()), 0.1)


@lru_cache(maxsize=1)
def words() -> Any:
    from rote_bench.encoding import build_tokenizer

    return build_tokenizer(made()[0].words())


def waves(*shape: int, shift: float = 0.0) -> torch.Tensor:
    """Numbers without a pattern that no generator of random numbers has to give again."""
    n = math.prod(shape)
    return torch.sin(torch.arange(n, dtype=torch.float64) * 12.9898 + shift).mul(43.7585453).frac().reshape(shape)


def small_model(snapshot: str | None = None) -> Any:
    """GPT-2 with two layers of 32, in float64: with weights made here, or with those of a snapshot beside this file."""
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=len(words()),
        n_positions=16,
        n_embd=32,
        n_layer=2,
        n_head=2,
        activation_function="relu",
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        use_cache=False,
        attn_implementation="eager",
    )
    model = GPT2LMHeadModel(config).double().eval()
    if snapshot is not None:
        from safetensors.torch import load_file

        state = {name: value.double() for name, value in load_file(HERE / f"{snapshot}.safetensors").items()}
        missing, unexpected = model.load_state_dict(state, strict=False)
        assert set(missing) <= {"lm_head.weight"} and not unexpected
        return model
    with torch.no_grad():
        for i, (name, p) in enumerate(sorted(model.named_parameters())):
            p.copy_(waves(*p.shape, shift=i) * 0.2 + (1.0 if "ln_" in name and name.endswith("weight") else 0.0))
    return model


def encoded(n: int = 24) -> Any:
    from rote_bench.encoding import encode

    data = made()[1]
    return encode(words(), data.train.examples[:n], data.train.labels[:n])


def _splits() -> Numbers:
    _, data = made()
    return {"fingerprint": data.fingerprint(), "counts": data.counts(), "noisy": list(data.train.noisy)[:10]}


def _noise() -> Numbers:
    from rote_bench.noise import label_held_out, label_train

    task, data = made()
    train, held = (
        [dataclasses.replace(e, given=task.targets[0] if i % 9 == 0 else e.answer) for i, e in enumerate(part.examples)]
        for part in (data.train, data.validation)
    )
    out: dict[str, Any] = {}
    for name, cls in sorted(registry().table("noise").items()):
        kind = cls(build(cls.Options, {}))
        labelled = label_train(task, kind, train, data.train.indices, 0.1, 3)
        phantom = label_held_out(task, kind, held, data.validation.indices, 0.1, 3, train, "validation")
        out[name] = {"labels": digest(*labelled.labels), "phantoms": digest(*phantom.labels)}
    return out


def _encoding() -> Numbers:
    from rote_bench.encoding import first_difference

    found = encoded()
    _, data = made()
    rows = list(data.train.noisy)[:8]
    part = data.train.take(rows)
    from rote_bench.encoding import encode

    true, taught = encode(words(), part.examples), encode(words(), part.examples, part.labels)
    return {
        "ids": digest(str(found.input_ids.tolist())),
        "targets": digest(str(found.targets.tolist())),
        "positions": {name: at.tolist()[:4] for name, at in found.positions.items()},
        "part": [each.tolist() for each in first_difference(true, taught)],
    }


def _models() -> Numbers:
    from rote_bench.models.load import FromConfig, ModelRequest

    loaded = FromConfig().load(ModelRequest("gpt2-nano", vocab_size=50, max_length=16, seed=3))
    sizes = {}
    for name in ("llama-nano", "mamba-nano", "gpt2-micro"):
        model = FromConfig().load(ModelRequest(name, vocab_size=50, max_length=16)).model
        sizes[name] = sum(p.numel() for p in model.parameters())
    first = sorted(loaded.model.named_parameters())[3][1].detach()
    return {"sizes": sizes, "mean_square": float(first.double().square().mean()), "first": float(first.reshape(-1)[0])}


def _anatomy() -> Numbers:
    from rote_bench.models.anatomy import Anatomy

    anatomy = Anatomy.of(small_model())
    return {
        "checks": {name: check.ok for name, check in sorted(anatomy.checks.items())},
        "layers": anatomy.n_layers,
        "width": anatomy.width,
        "widths": {part: anatomy.input_width(0, part) for part in ("heads", "units")},
    }


def _evaluation() -> Numbers:
    from rote_bench.evaluation import decode, matches
    from rote_bench.measurement import score

    texts, (right,), _ = decode(small_model(), words(), [encoded()])
    (hits,) = matches(small_model("post"), [encoded(200)])
    clusters = np.arange(120) // 6
    flags = waves(3, 120).numpy() > -0.5
    scored = score(
        {
            "validation": (flags[0], flags[1], clusters),
            "train_noisy": (flags[1], flags[2], clusters),
            "train_clean": (flags[2], flags[0], clusters),
        },
        flags[0] | flags[2],
    )
    return {
        "texts": digest(*texts),
        "right": int(right.sum()),
        "hits": int(hits.sum()),
        "scored": {name: _estimate(e) for name, e in sorted(scored.items())},
    }


def _estimate(e: Any) -> list[float | int | str | None]:
    return [e.value, e.ci_low, e.ci_high, e.ci_method, e.n]


def _statistics() -> Numbers:
    from rote_bench import contrasts as c
    from rote_bench import statistics as s

    x, clusters = waves(90).numpy() > 0.1, np.arange(90) // 7
    y = waves(60, shift=2.0).numpy()
    seeds = [0.1, 0.4, 0.2, 0.35], [0.5, 0.3, 0.6], [0.9, 1.0, 1.2]

    def rng() -> np.random.Generator:
        return np.random.default_rng(11)

    return {
        "wilson": _estimate(s.wilson(17, 40)),
        "proportion": _estimate(s.proportion(x, clusters)),
        "all right": _estimate(s.proportion(np.ones(30), np.arange(30) // 5)),
        "difference": _estimate(s.difference(x, clusters, y > 0, np.arange(60) // 5)),
        "bootstrap": _estimate(
            s.bootstrap(lambda m: m[..., 0] / m[..., 1], np.stack([y[:30], y[30:] + 3], 1), np.arange(30) // 3, rng())
        ),
        "resampled_means": s.resampled_means(
            np.stack([x, x, np.ones(90), waves(90).numpy()], 1), clusters, rng(), 3
        ).tolist(),
        "across_seeds": _estimate(c.across_seeds(seeds[0])),
        "welch": _estimate(c.welch(*seeds[:2])),
        "permutation": [c.permutation(*seeds[:2], rng()), c.permutation([*y[:12]], [*y[12:26]], rng())],
        "family": c.family(seeds).tolist(),
        "holm": c.holm([0.01, 0.04, 0.03]),
        "power": [c.power(0.07, 10, 10), c.power(0.07, 5, 8, 3)],
        "generator": float(s.generator(7, "golden").random()),
    }


def _interventions() -> Numbers:
    from rote_bench.interventions import Site, ablate, capture, capture_with_gradient, replace, replace_units, run
    from rote_bench.models.anatomy import Anatomy

    anatomy, ids = Anatomy.of(small_model()), encoded(6).input_ids
    _, found = capture(anatomy, ids, [Site(0, "block"), Site(1, "mlp"), Site(1, "units"), Site(0, "heads")])
    units = torch.tensor([1, 5, 9])
    edits = {
        "block": {Site(0, "block"): replace(found[Site(0, "block")].roll(1, 0))},
        "units": {Site(1, "units"): replace_units(found[Site(1, "units")].roll(1, 0), units)},
        "heads": {Site(0, "heads"): ablate(found[Site(0, "heads")].mean((0, 1)), units)},
    }
    lead, pairs = capture_with_gradient(anatomy, ids, [Site(0, "mlp")], lambda logits: logits[:, -1, 3].sum())
    return {
        **{name: float(run(anatomy, ids, edit).detach().square().mean()) for name, edit in edits.items()},
        "states": {f"{s.layer} {s.part}": float(v.square().mean()) for s, v in found.items()},
        "lead": float(lead.detach()),
        "gradient": float(pairs[Site(0, "mlp")][1].square().sum()),
    }


def _linear() -> Numbers:
    from rote_bench.linear import fit_inlp, fit_leace, fit_probes, fit_random, one_hot

    classes = torch.arange(120) % 4
    x = waves(120, 12).float()
    x[torch.arange(120), classes] += 1.0
    concept = one_hot(classes, 4)
    leace = fit_leace(x, concept)
    probes = fit_probes(x[:, None], {"c": (classes, 4)})
    return {
        "leace": [leace.rank, leace.variance, float(leace(x).double().square().mean())],
        "inlp": float(fit_inlp(x, concept, 2)(x).double().square().mean()),
        "random": float(fit_random(x, leace, torch.Generator().manual_seed(2))(x).double().square().mean()),
        "probes": int((probes.predict(x[:, None], "c")[:, 0] == classes).sum()),
    }


def _optimizer() -> Numbers:
    from rote_bench.training.optimizers import make_optimizer, orthogonalize

    wide = orthogonalize(torch.randn(1, 512, 1024, generator=torch.Generator().manual_seed(0)))
    out = {"wide": {"square": float(wide.square().mean()), "corner": float(wide[0, :8, :8].abs().mean())}}
    for kind in ("muon", "adamw"):
        model = small_model()
        optimizer = make_optimizer(model, kind=kind, muon_lr=0.02, adam_lr=0.003, weight_decay=0.1, precision="float32")
        for step in range(4):
            for i, (_, p) in enumerate(sorted(model.named_parameters())):
                p.grad = waves(*p.shape, shift=100.0 * step + i)
            optimizer.step()
        state = dict(model.named_parameters())
        out[kind] = {
            name: float(state[name].detach().square().mean())
            for name in ("transformer.h.0.mlp.c_fc.weight", "transformer.wte.weight", "transformer.ln_f.bias")
        }
    return out


RECIPE = Recipe(
    optimizer="adamw",
    adam_learning_rate=0.01,
    batch_size=32,
    max_steps=24,
    schedule=Schedule(warmup=4, hold_until=0.5, anneal=8),
    precision="float32",
    evaluate_every=6,
    stop_at=None,
)


def _schedule() -> Numbers:
    from rote_bench.training.schedule import Batches, evaluation_steps, falls_from, last_step, multiplier

    return {
        "rates": [multiplier(RECIPE, step, settled) for settled in (None, 9) for step in range(1, 25)],
        "last": [last_step(RECIPE, settled) for settled in (None, 9, 20)],
        "falls": [falls_from(RECIPE, settled) for settled in (None, 9, 20)],
        "evaluations": sorted(evaluation_steps(25, 120)),
        "batches": digest(str([Batches(torch.arange(50), 16, 4)[step].tolist() for step in range(8)])),
    }


def _training() -> Numbers:
    from rote_bench.evaluation import matches
    from rote_bench.training.curve import Levels
    from rote_bench.training.loop import train

    model, rows = small_model(), encoded(128)

    def levels() -> Levels:
        (hits,) = matches(model, [rows])
        share = float(hits.double().mean())
        return Levels(
            validation_accuracy=share,
            train_clean_accuracy=share,
            memorization_rate=share**20,  # below half of the last when the accuracy is nine tenths of the last
            noisy_true_rate=share,
            phantom_rate=0.0,
            selection_accuracy=share,
        )

    trained = train(
        model,
        rows,
        torch.arange(128),
        RECIPE,
        levels,
        seed=5,
        precision="float32",
        progress=lambda *unused: None,
        record=lambda entry: None,
    )
    return {
        "losses": [point.loss for point in trained.curve],
        "steps": [trained.steps, trained.pre_step, trained.tokens_seen],
        "weights": float(sum(v.double().square().sum() for v in trained.pre_state.values() if v.is_floating_point())),
    }


@lru_cache(maxsize=1)
def subject() -> Any:
    """The model of both snapshots with a learning curve that is made up."""
    from rote_bench.models.anatomy import Anatomy
    from rote_bench.subject import Subject, Twin
    from rote_bench.training.curve import Evaluation

    task, data = made()
    curve = [
        Evaluation(
            step=10 * k,
            examples_seen=2560 * k,
            epoch=2.5 * k,
            seconds=float(k),
            loss=2.0 / k,
            lr=1.0,
            validation_accuracy=min(1.0, 0.2 * k),
            train_clean_accuracy=min(1.0, 0.25 * k),
            memorization_rate=min(1.0, 0.02 * k * k),
            noisy_true_rate=max(0.0, 0.9 - 0.08 * abs(k - 4)),
            phantom_rate=0.01,
            selection_accuracy=min(1.0, 0.2 * k),
        )
        for k in range(1, 9)
    ]
    anatomies = {name: Anatomy.of(small_model(file)) for name, file in SNAPSHOTS.items()}
    twin = Twin("", lambda: np.arange(len(data.validation)) % 7 > 0, lambda: anatomies["pre_memorization"])
    return Subject(spec(), task, data, words(), anatomies, curve, "cpu", cap=128, batch_size=64, twin=twin)


SNAPSHOTS = {"pre_memorization": "pre", "post_memorization": "post"}
OPTIONS: Mapping[str, Mapping[str, Any]] = {"memorization_reuse": {"examples": 16, "steps": 100}}


def diagnostic(name: str) -> Numbers:
    """Every metric of one diagnostic on that subject."""
    cls = registry().table("diagnostics")[name]
    options: Mapping[str, Any] = next((d.options for d in spec().diagnostics if d.name == name), OPTIONS.get(name, {}))
    result = cls(build(cls.Options, options), seed=spec().seeds.bootstrap).run(subject())
    return {metric: _estimate(e) for metric, e in sorted(result.metrics.items())}


def task_numbers(name: str) -> Numbers:
    """Some examples of a generator."""
    import tempfile

    cls = registry().table("tasks")[name]
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "questions.csv"
        table.write_text("prompt,answer\n" + "".join(f"what is {i} and 3,{i + 3}\n" for i in range(40)))
        given: Mapping[str, Any] = {"dataset": {"path": str(table)}}.get(name, {})
        task = cls(build(cls.Parameters, given), 4)
        rows = task.split({"train": 20, "selection": 5, "validation": 10}, 4)
        examples = [task.example(i) for part in ("train", "validation") for i in rows[part]]
        facts = list(task.facts())
        answers = list(task.answers(examples[0]))[:50]
    return {
        "questions": digest(*(f"{e.prompt} {e.answer} {dict(e.intermediates)} {e.group}" for e in examples)),
        "facts": digest(*(e.text for e in facts[:200])),
        "answers": digest(*answers),
    }


ROOM_NUMBERS: Mapping[str, Callable[[], Numbers]] = {
    "anatomy": _anatomy,
    "encoding": _encoding,
    "evaluation": _evaluation,
    "interventions": _interventions,
    "linear": _linear,
    "models": _models,
    "noise": _noise,
    "optimizer": _optimizer,
    "schedule": _schedule,
    "splits": _splits,
    "statistics": _statistics,
    "training": _training,
}


def all_rooms() -> dict[str, tuple[int, Callable[[], Numbers]]]:
    """Room -> its declared version, and what computes its numbers."""
    found = {name: (room.version, ROOM_NUMBERS[name]) for name, room in ROOMS.items()}
    for name, cls in registry().table("diagnostics").items():
        found[f"diagnostics.{name}"] = (cls.version, lambda name=name: diagnostic(name))  # type: ignore[misc]
    for name, cls in registry().table("tasks").items():
        found[f"tasks.{name}"] = (cls.version, lambda name=name: task_numbers(name))  # type: ignore[misc]
    return found
