"""What the code of a model hashes to: of functions that build one, and of the classes that it is made of.

Packages that a report names with their versions, torch and transformers, count by these; all else by its source, and
where there is none, as of what was typed into a prompt, by its bytecode.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import re
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from types import CodeType, FunctionType, SimpleNamespace
from typing import TYPE_CHECKING, Any

from ..hashing import digest
from .content import of_tensors

if TYPE_CHECKING:
    from torch import nn

NAMED = ("torch", "transformers", "builtins", "typing", "abc")  # packages whose versions a report has
DEEPEST = 4  # containers inside each other that still count


def of_model(model: nn.Module, built_by: Callable[..., Any] | None = None, *, arrays: bool = True) -> str:
    """The hash of what computes in a model, apart from its weights.

    That is the source of its classes, with those that they inherit from and with the functions and constants of their
    own files that they use; how its modules are set: their plain attributes, and how torch's own describe themselves;
    buffers that are not kept with the weights; and which parameters are not to be trained.

    Args:
        built_by: the function that made it, which counts too.
        arrays: whether tensors and arrays count that its modules hold apart from their weights; those that a function
            draws anew for each seed do not.
    """
    kinds = {kind for module in model.modules() for kind in type(module).__mro__ if not _named(kind)}
    seen: set[int] = set()
    in_order = sorted(kinds, key=lambda kind: (kind.__module__, kind.__qualname__))
    sources = sorted(digest([_source(kind), _used(kind, seen)]) for kind in in_order)
    layout = [(path, type(module).__qualname__, _settings(module, arrays)) for path, module in model.named_modules()]
    kept = model.state_dict().keys()
    apart = [(name, _plain(buffer) if arrays else None) for name, buffer in model.named_buffers() if name not in kept]
    parts = [sources, layout, apart, None if built_by is None else of_function(built_by)]
    frozen = [name for name, value in model.named_parameters() if not value.requires_grad]
    return f"sha256:{digest([*parts, frozen] if frozen else parts)}"


def of_function(function: Callable[..., Any]) -> str:
    """The hash of a function's source, of the plain values that it takes from around it, and of functions there."""
    if isinstance(function, functools.partial):
        return digest([of_function(function.func), _plain(function.args), _plain(function.keywords)])
    if isinstance(function, type):
        return digest([_source(kind) for kind in function.__mro__ if not _named(kind)])
    inner = inspect.unwrap(function)
    if inspect.ismethod(inner):
        return digest([of_function(inner.__func__), _attributes(inner.__self__)])
    if not isinstance(inner, FunctionType):
        return digest([of_function(type(function)), _attributes(function)])
    return digest([_source(inner), _around(inner), _constants(inner, {id(inner)})])


def _used(kind: type, seen: set[int]) -> list[Any]:
    """What the methods of a class find outside it."""
    return [(name, _constants(each, seen)) for name, each in _methods(kind)]


def _methods(kind: type) -> list[tuple[str, FunctionType]]:
    """The functions of a class by name, those of static and class methods and of properties among them."""
    found = ((name, getattr(each, "__func__", getattr(each, "fget", each))) for name, each in vars(kind).items())
    return sorted((name, each) for name, each in found if isinstance(each, FunctionType))


def _constants(function: FunctionType, seen: set[int]) -> list[Any]:
    """The numbers and texts of its file and of what encloses it that a function uses, containers that are named as
    constants, and the functions, with what these use.

    Args:
        seen: functions that count already.
    """
    found: list[Any] = []
    outside = inspect.getclosurevars(function)
    for name, value in sorted({**outside.globals, **outside.nonlocals}.items()):
        constant = name.isupper() or name in outside.nonlocals
        if isinstance(value, bool | int | float | complex | str | bytes | Enum) or (constant and _holds(value)):
            found.append((name, _plain(value)))
        elif isinstance(value, FunctionType) and _outside(value) and id(value) not in seen:
            seen.add(id(value))
            found.append((name, _source(value), _constants(value, seen)))
    return found


def _holds(value: Any) -> bool:
    """Whether a value holds others that can be plain."""
    return isinstance(value, Mapping | tuple | list | set | frozenset) or is_dataclass(value)


def _outside(thing: FunctionType | type) -> bool:
    return (thing.__module__ or "").partition(".")[0] not in NAMED


def _around(function: FunctionType) -> Any:
    """What a function finds outside itself."""
    found = inspect.getclosurevars(function)
    return _plain([function.__defaults__, function.__kwdefaults__, found.nonlocals, found.globals])


def _named(kind: type) -> bool:
    return kind.__module__.partition(".")[0] in NAMED


def _settings(module: nn.Module, arrays: bool) -> Any:
    """How a module is set."""
    kind = type(module)
    if _named(kind) and not kind.__module__.startswith("torch."):
        config = getattr(module, "config", None)
        return [_plain(config), _hooks(module)]
    own = [_attributes(module, arrays), _hooks(module)]
    return [module.extra_repr(), *own] if _named(kind) else own


def _hooks(module: nn.Module) -> list[Any]:
    """What was hung on a module, as far as it is a stranger's."""
    hung = (*module._forward_pre_hooks.values(), *module._forward_hooks.values())
    return [_plain(each) for each in hung]


def _attributes(thing: Any, arrays: bool = True) -> Any:
    own, known = getattr(thing, "__dict__", {}), _of_every_module()
    if hasattr(thing, "from_pretrained"):  # what transformers notes on a model, as from where it was read
        own = {key: value for key, value in own.items() if not hasattr(_pretrained(), key) and key not in NOTED}
    return _plain({key: value for key, value in own.items() if key not in known}, arrays=arrays)


# what a configuration says of where it was read and how it is run
READ = {"_name_or_path", "transformers_version", "dtype", "torch_dtype", "use_cache", "_attn_implementation"}
NOTED = {
    *("name_or_path", "all_tied_weights_keys", "generation_config", "kernel_config", "loss_type", "warnings_issued"),
    *("_is_hf_initialized", "_use_kernels", "_weight_conversions"),
}


def _pretrained() -> type:
    from transformers import PreTrainedModel

    found: type = PreTrainedModel
    return found


@functools.cache
def _of_every_module() -> frozenset[str]:
    from torch import nn

    return frozenset((*vars(nn.Module()), "training"))


def _plain(value: Any, depth: int = 0, *, arrays: bool = True) -> Any:
    """A value as far as it is plain: functions by their source, classes by their names, arrays by what they hold."""
    import numpy as np
    import torch

    def inner(item: Any) -> Any:
        return _plain(item, depth + 1, arrays=arrays)

    if value is None or isinstance(value, bool | int | float | complex | str | bytes | range | np.generic):
        return repr(value)
    if isinstance(value, torch.dtype | torch.device):
        return str(value)
    if isinstance(value, Enum):
        return [type(value).__qualname__, value.name]
    if isinstance(value, torch.Tensor):
        counts = arrays and not value.is_meta and not isinstance(value, torch.nn.Parameter)
        return of_tensors({"": value.detach()}) if counts else None
    if isinstance(value, np.ndarray):
        return [str(value.dtype), list(value.shape), hashlib.sha256(value.tobytes()).hexdigest()] if arrays else None
    if isinstance(value, FunctionType) and _outside(value):
        return [_source(value), inner(inspect.getclosurevars(value).nonlocals)]
    if inspect.ismethod(value) and isinstance(value.__func__, FunctionType) and _outside(value.__func__):
        return _source(value.__func__)
    if inspect.isroutine(value) or isinstance(value, type):
        return getattr(value, "__qualname__", None)
    if depth >= DEEPEST:
        return None
    if hasattr(value, "model_type") and hasattr(value, "to_diff_dict"):
        return sorted((key, repr(one)) for key, one in value.to_diff_dict().items() if key not in READ)
    if isinstance(value, Mapping):
        return sorted((str(key), inner(item)) for key, item in value.items())
    if isinstance(value, tuple | list):
        return [inner(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted(digest(inner(item)) for item in value)
    if isinstance(value, functools.partial):
        return [inner(each) for each in (value.func, value.args, value.keywords)]
    if is_dataclass(value):
        return [type(value).__qualname__, *((f.name, inner(getattr(value, f.name, None))) for f in fields(value))]
    if isinstance(value, SimpleNamespace | Namespace):
        return [type(value).__qualname__, inner(vars(value))]
    return None


def _source(thing: type | FunctionType) -> str:
    """The source of a class or function, or its bytecode; of a lambda, which shares its lines with others, both."""
    try:
        found = inspect.getsource(thing)
        if not isinstance(thing, type):
            return found if thing.__name__ != "<lambda>" else found + _typed(thing)
        if re.search(rf"^\s*class\s+{thing.__name__}\b", found, re.MULTILINE):
            return found  # Python 3.13 gives lines of __main__ for what was typed there
    except (OSError, TypeError):  # typed into a prompt or a notebook
        pass
    if isinstance(thing, type):
        methods = [(name, _source(each)) for name, each in _methods(thing)]
        values = {name: each for name, each in vars(thing).items() if not name.startswith("__")}
        plain = [(name, _plain(each)) for name, each in sorted(values.items()) if not callable(each)]
        return digest([thing.__qualname__, methods, plain])
    return _typed(thing)


def _typed(function: FunctionType) -> str:
    return digest([*_bytecode(function.__code__)])


def _bytecode(code: CodeType) -> Iterator[Any]:
    yield [code.co_code.hex(), list(code.co_names), list(code.co_varnames)]
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _bytecode(constant)
        else:
            yield repr(constant) if not isinstance(constant, frozenset) else sorted(map(repr, constant))
