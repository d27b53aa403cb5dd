"""Objects and functions as providers: what is copied, what is asked anew, and what they hash to."""

from __future__ import annotations

import copy
import dataclasses
import enum
import functools
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

from rote_bench.errors import UserError
from rote_bench.models.code import of_function, of_model
from rote_bench.models.content import of_state
from rote_bench.models.keeping import opened, save, saved_state, unlearned
from rote_bench.models.load import ModelRequest
from rote_bench.models.objects import FromPython
from rote_bench.models.wrapped import Wrapped
from tests.models.loose import Looped, Plain

WORDS = 40


def request(**changes: Any) -> ModelRequest:
    return ModelRequest(**{"name": "m", "vocab_size": WORDS, "max_length": 16, "pad_token_id": 0, **changes})


def build(vocab_size: int, max_length: int, width: int = 32) -> nn.Module:
    return Plain(vocab_size, width)


def test_an_object_is_copied_and_its_weights_are_the_start_of_every_seed() -> None:
    module = Plain(WORDS).train()
    before = of_state(module)
    first, second = (FromPython("m", module).load(request(seed=seed)) for seed in (0, 1))
    assert first.model.inner is not module and not first.model.training and module.training
    assert first.source == "plugin" and first.weights == second.weights == before
    assert first.builder == second.builder and first.builder == of_model(module)
    with torch.no_grad():
        first.model.inner.head.weight.zero_()
    assert of_state(module) == before == of_state(second.model.inner)


def test_a_function_is_asked_anew_and_draws_by_the_seed() -> None:
    provider = FromPython(None, build, source="object")
    first, again, other = (provider.load(request(seed=seed)) for seed in (0, 0, 1))
    assert of_state(first.model) == of_state(again.model) != of_state(other.model)
    assert first.weights == other.weights, "random weights are decided by builder and seed"
    assert first.builder == other.builder is not None
    assert provider.name.startswith("build-") and provider.matches(provider.name)


def test_weights_that_a_function_reads_count_by_content(tmp_path: Path) -> None:
    def reading(vocab_size: int) -> nn.Module:
        model = Plain(vocab_size)
        model.load_state_dict(torch.load(tmp_path / "w.pt"))
        return model

    hashes = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        torch.save(Plain(WORDS).state_dict(), tmp_path / "w.pt")
        hashes.append(FromPython("m", reading).load(request()).weights)
    assert hashes[0] != hashes[1]


@pytest.mark.parametrize(
    "give",
    [
        build,
        Plain,
        functools.partial(build, width=16),
        lambda v: Plain(v),
        lambda vocab_size, *, seed, eos_token_id: Plain(vocab_size),
        lambda: Plain(WORDS),
    ],
)
def test_a_function_gets_what_it_has_parameters_for(give: Any) -> None:
    assert FromPython("m", give).load(request()).model.config.vocab_size == WORDS


def test_a_function_gets_the_sizes_of_the_task_that_it_has_parameters_for() -> None:
    asked = request(overrides={"width": 16, "layers": 3, "activation": "relu", "attention": "eager"})
    provider = FromPython("m", build)
    assert provider.load(asked).model.get_input_embeddings().weight.shape[1] == 16
    assert provider.reads("width") and not provider.reads("layers") and not provider.reads("activation")
    module = FromPython("m", Plain(WORDS))
    assert module.load(asked).model.get_input_embeddings().weight.shape[1] == 32 and not module.reads("width")


@pytest.mark.parametrize(
    ("give", "message"),
    [
        (3, "int is no model"),
        (lambda vocab_size, depth: Plain(vocab_size), "the function asks for 'depth'"),
        (lambda vocab_size: vocab_size, "the function gives int and no torch module"),
        (lambda vocab_size: 1 / 0, "the function that builds the model fails: ZeroDivisionError"),
    ],
)
def test_what_is_no_model_is_refused(give: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        FromPython("m", give).load(request())


def test_an_object_that_cannot_be_copied_is_refused() -> None:
    module = Plain(WORDS)
    module.seen = module.head.weight * 2
    with pytest.raises(UserError, match=r"Plain cannot be copied: .*give a function"):
        FromPython("m", module).load(request())


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
def test_norms_of_weights_that_cannot_be_copied_are_told_what_can() -> None:
    module = Plain(WORDS)
    nn.utils.weight_norm(module.head)
    with pytest.raises(UserError, match=r"Plain cannot be copied: .*use torch\.nn\.utils\.parametrizations"):
        FromPython("m", module).load(request())


def test_code_and_settings_count_apart_from_weights() -> None:
    class Shouting(Plain):
        def states(self, x: torch.Tensor) -> torch.Tensor:
            return 2 * super().states(x)

    found = [of_model(kind) for kind in (Plain(9), Plain(9), Shouting(9), Looped(9), Looped(9, turns=4))]
    assert found[0] == found[1] and len(set(found)) == 4
    assert of_function(lambda v: Plain(v)) != of_function(lambda v: Plain(v, 16))
    functions = [_at(width) for width in (16, 16, 32)]
    assert of_function(functions[0]) == of_function(functions[1]) != of_function(functions[2])
    assert of_function(functools.partial(build, width=8)) != of_function(functools.partial(build, width=9))


def _at(width: int) -> Any:
    return lambda vocab_size: Plain(vocab_size, width)


def test_what_was_typed_into_a_prompt_counts_by_its_bytecode() -> None:
    def typed(text: str) -> Any:
        space: dict[str, Any] = {"Plain": Plain, "__name__": "__main__"}
        exec(text, space)
        return space

    one, same, other = (typed(f"def f(v): return Plain(v, {width})") for width in (16, 16, 8))
    assert of_function(one["f"]) == of_function(same["f"]) != of_function(other["f"])
    text = "class Own(Plain):\n  def states(self, x): return {} * x\n"
    one, same, other = (typed(text.format(number)) for number in (2, 2, 3))
    assert of_model(one["Own"](9)) == of_model(same["Own"](9)) != of_model(other["Own"](9))


def test_a_model_of_transformers_stays_one() -> None:
    model = GPT2LMHeadModel(GPT2Config(vocab_size=WORDS, n_positions=16, n_embd=16, n_layer=1, n_head=2))
    loaded = FromPython("m", model).load(request(dtype="bfloat16"))
    assert type(loaded.model) is GPT2LMHeadModel and loaded.model_type == "gpt2"
    assert loaded.model.dtype == torch.bfloat16 and model.dtype == torch.float32
    assert loaded.model.config._attn_implementation == "eager"


def test_frozen_weights_stay_frozen() -> None:
    module = Plain(WORDS)
    module.embed.requires_grad_(False)
    loaded = FromPython("m", module).load(request())
    assert loaded.trainable and not loaded.model.inner.embed.weight.requires_grad
    assert not FromPython("m", module.requires_grad_(False)).load(request()).trainable


def test_snapshots_are_safetensors_under_the_modules_own_names(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    class Tied(Plain):
        def __init__(self, vocab_size: int) -> None:
            super().__init__(vocab_size)
            self.head.weight = self.embed.weight

    model = FromPython("m", Tied).load(request()).model
    save(model, tmp_path / "s", "sha256:0")
    assert {p.name for p in (tmp_path / "s").iterdir()} == {"model.safetensors", "config.json"}
    assert "blocks.0.mlp.0.weight" in load_file(tmp_path / "s" / "model.safetensors")
    text = (tmp_path / "s" / "config.json").read_text()
    assert '"builder": "sha256:0"' in text and "Tied" in text
    other = FromPython("m", Tied).load(request(seed=1)).model
    read = opened(tmp_path / "s", other, name="s", where="--snapshot")
    assert isinstance(read, Wrapped) and of_state(read) == of_state(model) != of_state(other)
    other.load_state_dict(saved_state(tmp_path / "s", other))
    assert of_state(other) == of_state(model)
    with pytest.raises(UserError, match="cannot be loaded"):
        saved_state(tmp_path / "s", FromPython("m", Plain(WORDS, 16)).load(request()).model)


def test_weights_that_learned_nothing_are_drawn_anew_or_shuffled() -> None:
    built, given = FromPython("m", Plain).load(request()), FromPython("m", Plain(WORDS)).load(request())
    assert of_state(unlearned(built.model, 5).inner) == of_state(
        FromPython("m", Plain).load(request(seed=5)).model.inner
    )
    before = of_state(given.model)
    shuffled = unlearned(given.model, 5)
    assert of_state(given.model) == before != of_state(shuffled) == of_state(unlearned(given.model, 5))
    own, theirs = given.model.inner.head.weight, shuffled.inner.head.weight
    assert torch.equal(own.flatten().sort().values, theirs.flatten().sort().values) and not torch.equal(own, theirs)


class Size(enum.Enum):
    SMALL, LARGE = 1, 2


@dataclasses.dataclass
class Shape:
    heads: int = 2
    first: bool = True


SLOPE = 1.0


def sloped(x: torch.Tensor) -> torch.Tensor:
    return SLOPE * x


class Encoded(nn.Module):
    """What torch's own modules are set to, and what is kept apart from weights."""

    def __init__(self, vocab_size: int, shape: Shape | None = None, scale: Any = 1.0, base: float = 2.0) -> None:
        super().__init__()
        shape = shape or Shape()
        self.embed, self.head = nn.Embedding(vocab_size, 8), nn.Linear(8, vocab_size)
        self.block = nn.TransformerEncoderLayer(8, shape.heads, 8, dropout=0, norm_first=shape.first, batch_first=True)
        self._scale = scale
        self.register_buffer("inverse", base ** torch.linspace(0, 1, 8), persistent=False)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(sloped(self.block(self.embed(ids) * self.inverse)))
        return out


def _same(**settings: Any) -> Encoded:
    torch.manual_seed(0)
    return Encoded(WORDS, **settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"shape": Shape(4)},
        {"shape": Shape(first=False)},
        {"base": 3.0},
        *({"scale": scale} for scale in (2.0, "a", Size.SMALL, Size.LARGE, np.ones(2), np.zeros(2), torch.ones(2))),
        *({"scale": scale} for scale in ({1, 2}, {1, 3}, range(3), np.float64(1), torch.float16, Shape(3), Shape(5))),
        *({"scale": scale} for scale in (functools.partial(max, 1), functools.partial(max, 2), b"a", 1j)),
    ],
    ids=str,
)
def test_models_that_compute_otherwise_are_told_apart(settings: dict[str, Any]) -> None:
    plain, other, again = of_model(_same()), of_model(_same(**settings)), of_model(_same(**settings))
    assert plain != other == again
    first, second, third = (of_function(functools.partial(Encoded, **each)) for each in ({}, settings, settings))
    assert first != second == third


def test_where_a_configuration_was_read_from_is_no_code(tmp_path: Path) -> None:
    class Own(GPT2LMHeadModel):  # type: ignore[misc]
        pass

    model = Own(GPT2Config(vocab_size=WORDS, n_positions=16, n_embd=16, n_layer=1, n_head=2))
    for name in ("a", "b"):
        model.save_pretrained(tmp_path / name)
    first, second = (Own.from_pretrained(tmp_path / name) for name in ("a", "b"))
    assert of_model(model) == of_model(first) == of_model(second)


def test_constants_and_functions_that_a_class_uses_count(monkeypatch: pytest.MonkeyPatch) -> None:
    before, built = of_model(_same()), of_function(lambda v: sloped(torch.ones(v)))
    monkeypatch.setattr(sys.modules[__name__], "SLOPE", -5.0)
    assert of_model(_same()) != before
    assert of_function(lambda v: sloped(torch.ones(v))) != built


def test_what_a_function_draws_anew_for_each_seed_is_not_its_code() -> None:
    class Drawn(Plain):
        def __init__(self, vocab_size: int) -> None:
            super().__init__(vocab_size)
            self.register_buffer("mask", torch.randn(4), persistent=False)

    for build in (Drawn, Plain, Encoded):
        found = [FromPython("m", build).load(request(seed=seed)) for seed in (0, 1)]
        assert found[0].builder == found[1].builder and found[0].weights == found[1].weights


@pytest.mark.parametrize("give", [functools.cache(Plain), lambda vocab_size, kept=Plain(WORDS): kept])  # noqa: B008
def test_a_function_that_gives_the_same_module_each_time_is_refused(give: Any) -> None:
    with pytest.raises(UserError, match=r"gives the same module each time.*build a new one"):
        FromPython("m", give).load(request())


def test_complex_numbers_are_refused_and_not_cut() -> None:
    class Turned(Plain):
        def __init__(self, vocab_size: int) -> None:
            super().__init__(vocab_size)
            self.register_buffer("turn", torch.polar(torch.ones(4), torch.ones(4)), persistent=False)

    for give in (Turned, Turned(WORDS)):
        with pytest.raises(UserError, match=r"Turned holds complex numbers: turn .*view_as_real"):
            FromPython("m", give).load(request())


def scattered() -> Any:
    at = torch.tensor([[0], [1]])
    return torch.sparse_coo_tensor(at, torch.ones(1), (3, 3), check_invariants=True)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda m: setattr(m, "norm", nn.LazyBatchNorm1d()), "has no norm.weight before it is called"),
        (
            lambda m: setattr(m, "extra", nn.Parameter(m.embed.weight.data[:5])),
            "has extra and embed.weight in one piece of memory",
        ),
        (lambda m: setattr(m, "embed", Keeping(WORDS, 32)), "keeps embed._extra_state among its weights"),
        (lambda m: m.register_buffer("links", scattered()), "holds links in the layout sparse_coo"),
    ],
)
def test_weights_that_no_snapshot_can_hold_are_refused_before_training(change: Any, says: str) -> None:
    def build(vocab_size: int) -> nn.Module:
        module = Plain(vocab_size)
        change(module)
        return module

    with pytest.raises(UserError, match=re.escape(f"build {says}")):
        FromPython("m", build).load(request())
    module = Plain(WORDS)
    change(module)
    with pytest.raises(UserError, match=re.escape(f"Plain {says}")):
        FromPython(None, module)
    tied = Plain(WORDS)
    tied.head.weight = tied.embed.weight
    assert FromPython("m", tied).load(request()).weights


class Bound(Plain):
    """Holds a function that keeps the module that made it."""

    def __init__(self, vocab_size: int) -> None:
        super().__init__(vocab_size)
        self.out: Any = lambda x: self.head(self.norm(x))

    def forward(self, ids: Any) -> Any:
        x = self.embed(ids)
        for block in self.blocks:
            x = block(x)
        return self.out(x)


@pytest.mark.parametrize("give", [Bound, Bound(WORDS)])
def test_a_copy_that_answers_by_the_weights_of_another_is_refused(give: Any) -> None:
    said = r"a copy of Bound answers by (head|norm)\.weight of the module that it was copied from .*make it a method"
    with pytest.raises(UserError, match=said):
        FromPython("m", give).load(request())
    if isinstance(give, nn.Module):
        assert all(p.grad is None for p in give.parameters())


class Shared(Plain):
    def __deepcopy__(self, memo: Any) -> Any:
        return self


class PartlyShared(Plain):
    def __deepcopy__(self, memo: Any) -> Any:
        new = copy.copy(self)
        new._modules = {**self._modules, "head": copy.deepcopy(self.head, memo)}
        return new


@pytest.mark.parametrize("kind", [Shared, PartlyShared])
def test_a_copy_that_shares_weights_is_refused(kind: type[nn.Module]) -> None:
    module = kind(WORDS)
    before = of_state(module)
    with pytest.raises(UserError, match=rf"{kind.__name__} shares embed.weight with its copy"):
        FromPython("m", module).load(request())
    assert of_state(module) == before


def test_what_is_frozen_counts_and_nothing_else_does_where_all_is_trained() -> None:
    module = Plain(WORDS)
    whole = of_model(module)
    module.embed.requires_grad_(False)
    frozen = of_model(module)
    module.embed.requires_grad_(True)
    assert whole == of_model(module) != frozen
    module.head.requires_grad_(False)
    assert of_model(module) not in (whole, frozen)


@pytest.mark.parametrize("name", ["a/../b", "a//b", "a/./b", "../b", "a/.. /b"])
def test_names_that_are_no_folders_below_are_refused(name: str) -> None:
    with pytest.raises(UserError, match="no model can be called"):
        FromPython(name, Plain)


def test_forms_of_forward_and_train_that_work_elsewhere_work() -> None:
    class Positional(Plain):
        def forward(self, input_ids: Any, /) -> Any:
            return super().forward(input_ids)

        def train(self, mode: bool = True) -> Any:  # gives nothing back
            super().train(mode)

    for give in (Positional, Positional(WORDS)):
        model = FromPython("m", give).load(request()).model
        assert model(input_ids=torch.zeros(1, 3, dtype=torch.long)).logits.shape == (1, 3, WORDS)


def test_a_snapshot_that_was_opened_is_the_module_that_it_holds() -> None:
    module = Plain(WORDS)
    opened_before = FromPython("m", module).load(request()).model
    assert FromPython(None, opened_before).name == FromPython(None, module).name


class Keeping(nn.Embedding):
    def get_extra_state(self) -> dict[str, int]:
        return {"steps": 3}

    def set_extra_state(self, state: Any) -> None:
        pass


def test_what_a_function_passes_on_is_its_own() -> None:
    """Names that it has are given; with nothing but ``**sizes``, all are; what it passes on beside them is not."""
    given: list[dict[str, Any]] = []

    def open_ended(vocab_size: int, **more: Any) -> Plain:
        given.append(more)
        return Plain(vocab_size, **more)

    def taking(**sizes: Any) -> Plain:
        given.append(sizes)
        return Plain(sizes["vocab_size"])

    for build in (open_ended, taking):
        FromPython("m", build).load(ModelRequest("m", vocab_size=20, max_length=16, pad_token_id=0))
    assert given[0] == {} and {"vocab_size", "max_length", "seed"} <= given[-1].keys()


SCALES = {"by": 1.0}


class Reading(Plain):
    def states(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = super().states(x) * SCALES["by"]
        return found


class Acting(Plain):
    def __init__(self, vocab_size: int, act: Any) -> None:
        super().__init__(vocab_size)
        self.act = act


class Builder:
    def __init__(self, width: int) -> None:
        self.width = width

    def build(self, vocab_size: int) -> nn.Module:
        return Plain(vocab_size, self.width)


def times(by: float) -> Any:
    return lambda x: x * by


def closing(by: float) -> type[Plain]:
    class Closing(Plain):
        def states(self, x: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = super().states(x) * by
            return found

    return Closing


def typed(by: float, source: str) -> type[Plain]:
    """A class as a notebook's cell makes it, without a file."""
    space: dict[str, Any] = {"Plain": Plain, "by": by, "__name__": "__main__"}
    exec(source, space)  # the test's own text
    kind: type[Plain] = space["Typed"]
    return kind


ATTRIBUTE = "class Typed(Plain):\n    SCALE = {by}\n    def states(self, x): return super().states(x) * self.SCALE\n"
STATIC = "class Typed(Plain):\n    @staticmethod\n    def act(x): return x * {by}\n"
PROPERTY = "class Typed(Plain):\n    @property\n    def scale(self): return {by}\n"


def hooked(by: float) -> nn.Module:
    model = Plain(20)
    model.head.register_forward_hook(lambda module, given, output: output * by)
    return model


def holding(inverse: bool) -> nn.Module:
    config = GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=20, scale_attn_by_inverse_layer_idx=inverse)
    return Acting(20, GPT2LMHeadModel(config))


@pytest.mark.parametrize(
    "make",
    [
        lambda by: of_model(hooked(by)),
        lambda by: of_model(holding(by > 1)),
        lambda by: of_model(Acting(20, times(by))),
        lambda by: of_model(closing(by)(20)),
        lambda by: of_function(Builder(int(by)).build),
        *(lambda by, text=text: of_model(typed(by, text.format(by=by))(20)) for text in (ATTRIBUTE, STATIC, PROPERTY)),
    ],
    ids=["hook", "config", "closure", "class in a function", "method", "attribute", "static method", "property"],
)
def test_what_decides_what_is_computed_counts_wherever_it_stands(make: Any) -> None:
    assert make(2.0) == make(2.0) != make(1.0)


def test_containers_that_are_named_as_constants_count(monkeypatch: pytest.MonkeyPatch) -> None:
    before = of_model(Reading(20))
    monkeypatch.setitem(SCALES, "by", 9.0)
    assert of_model(Reading(20)) != before
