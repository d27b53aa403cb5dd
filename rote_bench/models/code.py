"""What the code of a model hashes to: of functions that build one, and of the classes that it is made of.

Packages that a report names with their versions, torch and transformers, count by these; all else by its source, and
where there is none, as of what was typed into a prompt, by its bytecode.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Any

from ..hashing import digest

if TYPE_CHECKING:
    from torch import nn

NAMED = ("torch", "transformers", "builtins", "typing", "abc")  # packages whose versions a report has
DEEPEST = 4  # containers inside each other that still count


def of_model(model: nn.Module, built_by: Callable[..., Any] | None = None) -> str:
    """The hash of what computes in a model, apart from its weights.

    That is the source of its classes, with those that they inherit from, and how its modules are set: their plain
    attributes, and how torch's own describe themselves.

    Args:
        built_by: the function that made it, which counts too.
    """
    kinds = {kind for module in model.modules() for kind in type(module).__mro__ if not _named(kind)}
    sources = sorted(_source(kind) for kind in kinds)
    layout = [(path, type(module).__qualname__, _settings(module)) for path, module in model.named_modules()]
    return f"sha256:{digest([sources, layout, None if built_by is None else of_function(built_by)])}"


def of_function(function: Callable[..., Any]) -> str:
    """The hash of a function's source and of the plain values that it takes from around it."""
    if isinstance(function, functools.partial):
        return digest([of_function(function.func), _plain(function.args), _plain(function.keywords)])
    if isinstance(function, type):
        return digest([_source(kind) for kind in function.__mro__ if not _named(kind)])
    inner = inspect.unwrap(function)
    if inspect.ismethod(inner):
        inner = inner.__func__
    if not isinstance(inner, FunctionType):
        return digest([of_function(type(function)), _attributes(function)])
    return digest([_source(inner), _around(inner)])


def _around(function: FunctionType) -> Any:
    """What a function finds outside itself."""
    found = inspect.getclosurevars(function)
    return _plain([function.__defaults__, function.__kwdefaults__, found.nonlocals, found.globals])


def _named(kind: type) -> bool:
    return kind.__module__.partition(".")[0] in NAMED


def _settings(module: nn.Module) -> Any:
    """How a module is set."""
    kind = type(module)
    if _named(kind):
        return module.extra_repr() if kind.__module__.startswith("torch.") else None
    return _attributes(module)


def _attributes(thing: Any) -> Any:
    own = getattr(thing, "__dict__", {})
    return _plain({key: value for key, value in own.items() if not key.startswith("_") and key != "training"})


def _plain(value: Any, depth: int = 0) -> Any:
    """A value as far as it is plain: functions by their source, classes by their names, and nothing else."""
    if value is None or isinstance(value, bool | int | float | str):
        return repr(value)
    if depth < DEEPEST and isinstance(value, Mapping):
        return sorted((str(key), _plain(item, depth + 1)) for key, item in value.items())
    if depth < DEEPEST and isinstance(value, tuple | list):
        return [_plain(item, depth + 1) for item in value]
    if isinstance(value, FunctionType) and value.__module__.partition(".")[0] not in NAMED:
        return _source(value)
    return getattr(value, "__qualname__", None) if inspect.isroutine(value) or isinstance(value, type) else None


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
        methods = sorted((name, each) for name, each in vars(thing).items() if isinstance(each, FunctionType))
        return digest([thing.__qualname__, [(name, _source(each)) for name, each in methods]])
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
