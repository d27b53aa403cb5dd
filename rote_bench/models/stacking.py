"""Several models of one architecture as one: the same modules, called once with the weights of all side by side."""

from __future__ import annotations

import copy
import inspect
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import wraps
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call, grad_and_value, vmap
from torch.nn import functional as F

from .columns import PARAMETER
from .probe import Check
from .statespace import everywhere, namespaces

IGNORED = -100  # a token that is not scored, as in torch's cross-entropy
TOLERANCE = 1e-5  # of a parameter's gradient: how far those of stacked models may be from those of single ones
NOISE = 1e-4  # of the largest gradient: below it, one is nothing but rounding errors


class Network:
    """K models of one architecture as functions of the weights of all.

    Args:
        models: whose modules, settings and fixed weights are taken; they stay as they are.
        learning: names of the parameters that are handed over at each call.
    """

    def __init__(self, models: Sequence[Any], learning: Collection[str]) -> None:
        self.model = models[0]
        self.chooses = PARAMETER in inspect.signature(self.model.forward).parameters
        rest = [
            {name: p.detach() for name, p in model.named_parameters() if name not in learning}
            | dict(model.named_buffers())
            for model in models
        ]
        shared = {name for name, value in rest[0].items() if all(torch.equal(value, each[name]) for each in rest[1:])}
        self.fixed = {k: v if k in shared else torch.stack([each[k] for each in rest]) for k, v in rest[0].items()}
        self.dims = {name: None if name in shared else 0 for name in self.fixed}

    def keep(self, members: Sequence[int]) -> Network:
        """The same for some of the models."""
        other = copy.copy(self)
        other.fixed = {k: v if self.dims[k] is None else v[list(members)] for k, v in self.fixed.items()}
        return other

    def logits(self, weights: Mapping[str, Tensor], ids: Tensor, columns: Tensor) -> Tensor:
        """(K, n, columns, vocabulary) logits at some positions.

        Args:
            weights: name -> (K, ...).
            ids: (K, n, length).
            columns: positions, the same for all.
        """
        found: Tensor = vmap(self._logits, (0, self.dims, 0, None))(dict(weights), self.fixed, ids, columns)
        return found

    def gradients(
        self, weights: Mapping[str, Tensor], ids: Tensor, columns: Tensor, at: Tensor, answers: Tensor
    ) -> tuple[dict[str, Tensor], Tensor]:
        """The gradient of each model's mean cross-entropy over its own answer tokens, and that mean in nats, (K,).

        Args:
            weights, ids, columns: as for ``logits``.
            at: (K, n, m) which of the columns predict the answer tokens.
            answers: (K, n, m) these tokens, ``IGNORED`` where there are fewer than m.
        """
        dims = (0, self.dims, 0, None, 0, 0)
        found: tuple[dict[str, Tensor], Tensor] = vmap(grad_and_value(self._loss), dims)(
            dict(weights), self.fixed, ids, columns, at, answers
        )
        return found

    def _logits(self, weights: Any, fixed: Any, ids: Tensor, columns: Tensor) -> Tensor:
        given = {"input_ids": ids, **({PARAMETER: columns} if self.chooses else {})}
        logits: Tensor = functional_call(self.model, (weights, fixed), kwargs=given).logits
        return logits if self.chooses else logits[:, columns]

    def _loss(self, weights: Any, fixed: Any, ids: Tensor, columns: Tensor, at: Tensor, answers: Tensor) -> Tensor:
        logits = self._logits(weights, fixed, ids, columns)
        scored = logits.gather(1, at[..., None].expand(-1, -1, logits.shape[-1]))
        return F.cross_entropy(scored.float().flatten(0, 1), answers.flatten(), ignore_index=IGNORED)


@contextmanager
def as_one(model: Any) -> Iterator[Callable[[int, int], None]]:
    """Meanwhile the modules of a model do nothing that cannot be done for several models at once.

    No warning of padding looks at the tokens (a model that needs no mask is the only kind there is here), state-space
    parts go through ``statespace``, and masks, which depend on nothing but shapes, are made once for each shape: a
    CUDA graph cannot hold how they are made.

    Yields:
        A function that has to be told of each number of rows and positions before a transformation of torch.func
        meets it, as what is made inside of one ends with it.
    """
    configs = [model.config, model.config.get_text_config()]
    before = [config.pad_token_id for config in configs]
    try:
        for config in configs:
            config.pad_token_id = None
        with everywhere(), _masks_kept(model) as prime, warnings.catch_warnings():
            warnings.filterwarnings("ignore", "There is a performance drop")  # one operation goes model by model
            yield prime
    finally:
        for config, pad in zip(configs, before, strict=True):
            config.pad_token_id = pad


@contextmanager
def _masks_kept(model: Any) -> Iterator[Callable[[int, int], None]]:
    kept: dict[Any, Any] = {}
    seen: set[tuple[int, int]] = set()
    replaced = [
        (namespace, name, function)
        for namespace in namespaces(model)
        for name, function in namespace.items()
        if name.startswith("create_") and getattr(function, "__module__", "") == "transformers.masking_utils"
    ]

    def prime(rows: int, length: int) -> None:
        if replaced and (rows, length) not in seen:
            seen.add((rows, length))
            with torch.no_grad():
                model(input_ids=torch.zeros(rows, length, dtype=torch.long, device=next(model.parameters()).device))

    try:
        for namespace, name, function in replaced:
            namespace[name] = _kept(name, function, kept)
        yield prime
    finally:
        for namespace, name, function in replaced:
            namespace[name] = function


def _kept(name: str, make: Callable[..., Any], kept: dict[Any, Any]) -> Callable[..., Any]:
    """A function that makes masks, which remembers those that depend on nothing but shapes."""
    signature = inspect.signature(make)

    @wraps(make)
    def call(*args: Any, **kwargs: Any) -> Any:
        given = signature.bind(*args, **kwargs).arguments
        state = given.get("inputs_embeds")
        special = {k for k, v in given.items() if v is not None} - {"config", "inputs_embeds", "position_ids"}
        if special or state is None:
            return make(*args, **kwargs)
        key = (name, id(given["config"]), tuple(state.shape[:2]), state.dtype, state.device)
        if key not in kept:
            made = make(*args, **kwargs)
            if torch._C._functorch.peek_interpreter_stack() is not None:
                return made
            kept[key] = made
        return kept[key]

    return call


def idle(model: Any) -> frozenset[str]:
    """The parameters that no answer depends on, which training leaves as they are."""
    ids = torch.zeros(1, 2, dtype=torch.long, device=next(model.parameters()).device)
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    with torch.enable_grad():
        out = model(input_ids=ids).logits.float().logsumexp(-1).sum()
        gradients = torch.autograd.grad(out, list(named.values()), allow_unused=True)
    return frozenset(name for name, gradient in zip(named, gradients, strict=True) if gradient is None)


def stackable(model: Any) -> Check:
    """Whether models of this architecture can be trained as one: the gradients of two are those of each by itself.

    The two are copies of the model in float32 with other weights, on short random inputs; where rounding alone may
    hold them apart, in float64.
    """
    if not hasattr(model, "get_input_embeddings"):
        return Check(False, "it is no transformer")
    if any(not p.is_floating_point() for p in model.parameters()):
        return Check(False, "its weights are quantised")
    try:
        worst = _compare([_other(model, seed, torch.float32) for seed in (0, 1)])
        if not worst <= TOLERANCE:  # of rounding, perhaps; some models cannot be in float64
            with suppress(Exception):
                worst = _compare([_other(model, seed, torch.float64) for seed in (0, 1)])
    except Exception as error:  # whatever torch.func cannot do, each architecture in its own way
        return Check(False, f"{type(error).__name__}: {_first_sentence(error)}")
    if not worst <= TOLERANCE:
        return Check(False, f"stacked gradients are {worst:.1e} from single ones")
    return Check(True, f"stacked gradients are single ones within {worst:.0e}")


def _other(model: Any, seed: int, kind: torch.dtype) -> Any:
    """A copy with other weights, none of them zero: through a zero, everything would hold."""
    generator = torch.Generator().manual_seed(seed)
    other = copy.deepcopy(model).to(kind).train()
    with torch.no_grad():
        for p in other.parameters():
            p.add_(0.02 * torch.randn(p.shape, generator=generator).to(p.device))
    return other


def _compare(models: Sequence[Any]) -> float:
    """How far stacked gradients are from single ones: the largest distance, relative to the gradient of a parameter."""
    device = next(models[0].parameters()).device
    generator = torch.Generator().manual_seed(0)
    words = min(10_000, int(models[0].get_input_embeddings().weight.shape[0]))
    ids, answers = torch.randint(0, words, (2, len(models), 3, 6), generator=generator).to(device)
    columns = torch.tensor([2, 4], device=device)
    at = torch.tensor([[0, 1], [1, 0], [1, 0]], device=device).expand(len(models), 3, 2)
    answers = answers[..., :2].clone()
    answers[:, 1, 1] = IGNORED
    idle_ones = idle(models[0])
    learning = [n for n, p in models[0].named_parameters() if p.requires_grad and n not in idle_ones]
    with as_one(models[0]) as prime:
        prime(3, 6)
        weights = {n: torch.stack([dict(m.named_parameters())[n].detach() for m in models]) for n in learning}
        stacked, losses = Network(models, learning).gradients(weights, ids, columns, at, answers)
    worst = 0.0
    for k, model in enumerate(models):
        logits = model(input_ids=ids[k]).logits[torch.arange(3)[:, None], columns[at[k]]]
        loss = F.cross_entropy(logits.flatten(0, 1), answers[k].flatten(), ignore_index=IGNORED)
        single = torch.autograd.grad(loss, [dict(model.named_parameters())[n] for n in learning])
        largest = max(float(own.norm()) for own in single)
        worst = max(worst, float((losses[k] - loss.detach()).abs() / loss.detach().abs()))
        for name, own in zip(learning, single, strict=True):
            distance = float((stacked[name][k] - own).norm())
            worst = max(worst, distance / max(float(own.norm()), NOISE * largest))
    return worst


def _first_sentence(error: Exception) -> str:
    return str(error).strip().splitlines()[0].split(". ")[0][:200] if str(error).strip() else "no reason given"
