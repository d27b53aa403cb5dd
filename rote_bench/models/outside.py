"""Whether all that a model answers by is in its parameters and buffers, which are what a snapshot of it holds."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UserError
from ..strangers import reason_of

WHERE = "model"
STEPS = 3  # of training that are tried
RATE = 1e-3  # of them
NEAR = 1e-5  # of the largest logit: the same arithmetic on the same numbers, but for the order of a device's sums
KEEP = "register_buffer() it, so that state_dict() holds it, or let forward do without it"
AGAIN = (
    "answers the same tokens otherwise when it is asked again",
    "in evaluation mode it may neither draw at random nor keep state from call to call",
)
PLAIN = (bool, int, float, str, list, dict, tuple, type(None))


@contextmanager
def drawing(seed: int) -> Iterator[None]:
    """Begin the generators that code of the process shares with a seed, and put them back as they were."""
    import random

    import numpy as np

    plain, array = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            random.seed(seed)
            np.random.seed(seed % 2**32)
            yield
    finally:
        random.setstate(plain)
        np.random.set_state(array)


def copied(model: Any, hint: str | None = None) -> Any:
    """A copy of a model, which shares no weight with it.

    Raises:
        UserError: when its code holds what cannot be copied, as snapshots must be, or copies itself in a way of its own
            that shares some.
    """
    try:
        made = copy.deepcopy(model)
    except Exception as error:  # open files, locks, generators: whatever a module holds
        if any("weight_g" in module._parameters for module in model.modules()):
            hint = "use torch.nn.utils.parametrizations.weight_norm"
        raise UserError(f"{_name(model)} cannot be copied: {reason_of(error, 200)}", where=WHERE, hint=hint) from error
    own = {value.untyped_storage().data_ptr() for _, value in _held(model) if value.numel() and not value.is_meta}
    for name, value in _held(made):
        if value.numel() and not value.is_meta and value.untyped_storage().data_ptr() in own:
            what = f"{_name(model)} shares {_plainly(name)} with its copy, which is trained in its place"
            raise UserError(what, where=WHERE, hint="let its __deepcopy__ copy all of it, or leave that out")
    return made


def _held(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Parameters and buffers that are there."""
    from torch.nn.parameter import is_lazy

    for name, value in (*model.named_parameters(), *model.named_buffers()):
        if not is_lazy(value) and value.layout == torch.strided:
            yield name, value


def borrowed(model: Any, ids: Tensor) -> list[Tensor]:
    """The weights that a model answers by and that are none of its own, as far as gradients reach them."""
    with torch.enable_grad():
        try:
            last = model(input_ids=ids).logits.grad_fn
        except Exception:  # what fails there fails elsewhere too, where it is told
            return []
    own, seen, todo = {id(p) for p in model.parameters()}, set(), [last]
    found: dict[int, Tensor] = {}
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        leaf = getattr(node, "variable", None)
        if leaf is not None and id(leaf) not in own:
            found[id(leaf)] = leaf
        todo += [each for each, _ in node.next_functions]
    return list(found.values())


def check_kept(model: Any, ids: Tensor) -> list[str]:
    """Whether a few steps of training leave a model that its state, in a fresh copy of it, gives again.

    The model is left as it was.

    Args:
        ids: (batch, length) of its kind.

    Returns:
        The parameters that could be trained and on which no logit depends.

    Raises:
        UserError: when it cannot be copied, fails in such a step, or keeps something else that its answers follow.
    """
    trained, fresh = copied(model), copied(model)
    if not alike(model, model, ids):
        raise UserError(f"{_name(model)} {AGAIN[0]}", where=WHERE, hint=AGAIN[1])
    with drawing(0):
        try:
            for loss in descent(trained.train(), ids, torch.optim.SGD(_learning(trained), lr=RATE), STEPS):
                if not bool(loss.isfinite()):
                    return []  # training says so by itself
        except Exception as error:  # whatever a stranger's code raises
            reason = reason_of(error, 200)
            raise UserError(f"{_name(model)} fails in a step of training: {reason}", where=WHERE) from error
    sparse = next((n for n, p in trained.named_parameters() if p.grad is not None and p.grad.is_sparse), None)
    if sparse is not None:
        hint = "nn.Embedding(..., sparse=False)"
        raise UserError(f"{_name(model)} has sparse gradients: {_plainly(sparse)}", where=WHERE, hint=hint)
    fault = left_out(trained, fresh, ids)
    if fault is not None:
        raise UserError(fault, where=WHERE, hint=KEEP)
    return [_plainly(n) for n, p in trained.named_parameters() if p.requires_grad and p.grad is None]


def descent(model: Any, ids: Tensor, optimizer: torch.optim.Optimizer, steps: int) -> Iterator[Tensor]:
    """Steps on one batch that lower the loss of its next tokens, and the loss before each."""
    for _ in range(steps):
        loss = loss_of(model, ids)
        yield loss.detach()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def loss_of(model: Any, ids: Tensor) -> Tensor:
    """The mean cross-entropy of the next tokens of a batch."""
    logits = model(input_ids=ids).logits[:, :-1]
    return nn.functional.cross_entropy(logits.flatten(0, 1).float(), ids[:, 1:].flatten())


def left_out(model: Any, fresh: Any, ids: Tensor) -> str | None:
    """What a model answers by that its state does not hold, in words; None where its state makes a fresh copy answer
    alike.

    Args:
        model: after training.
        fresh: a copy from before, which is given the state.
        ids: (batch, length) of the questions asked of both.
    """
    changed = list(_changed(model, fresh))
    try:
        fresh.load_state_dict(model.state_dict())
    except RuntimeError as error:  # a buffer that grows with the longest question
        return f"{_name(model)} has another state than before, which no snapshot of it takes: {reason_of(error, 200)}"
    if alike(model.eval(), fresh.eval(), ids):
        return None
    kept = f" ({', '.join(changed[:3])}{', ...' if len(changed) > 3 else ''})" if changed else ""
    return f"{_name(model)} answers by something{kept} that training changes and its weights and buffers do not hold"


def alike(model: Any, other: Any, ids: Tensor) -> bool:
    """Whether two models give the same logits; a model that gives none that are finite is told elsewhere."""
    with torch.no_grad():
        ours, theirs = (each(input_ids=ids).logits.float() for each in (model, other))
    finite = ours.isfinite()
    if not bool(finite.any()) or torch.equal(ours, theirs):
        return True
    near = max(NEAR, 4 * torch.finfo(next(model.parameters()).dtype).eps) * float(ours[finite].abs().max())
    return torch.equal(finite, theirs.isfinite()) and bool(((ours - theirs)[finite].abs() <= near).all())


def _learning(model: nn.Module) -> list[nn.Parameter]:
    return [p for p in model.parameters() if p.requires_grad]


def _plainly(name: str) -> str:
    """A name without what wraps its model."""
    return name.removeprefix("inner.")


def _name(model: Any) -> str:
    return type(getattr(model, "inner", model)).__name__


def _changed(model: nn.Module, before: nn.Module) -> Iterator[str]:
    """The plain attributes and the tensors outside of its state that are others than they were, by name."""
    earlier = dict(before.named_modules())
    for path, module in model.named_modules():
        old = vars(earlier[path])
        own = {k: v for k, v in vars(module).items() if not k.startswith("_") and k != "training"}
        own |= {k: v for k, v in vars(module).items() if k.startswith("_") and k not in vars(nn.Module())}
        outside = {k: module._buffers[k] for k in module._non_persistent_buffers_set if k in module._buffers}
        for name, value in {**own, **outside}.items():
            if _differs(value, old["_buffers"].get(name) if name in outside else old.get(name)):
                yield _plainly(f"{path}.{name}").lstrip(".")


def _differs(value: object, other: object) -> bool:
    if isinstance(value, Tensor) and isinstance(other, Tensor):
        return not torch.equal(value.detach(), other.detach())
    if isinstance(value, Tensor) or isinstance(other, Tensor):
        return True
    try:
        return isinstance(value, PLAIN) and bool(value != other)
    except Exception:  # of a list of tensors, or whatever else compares in its own way
        return False
