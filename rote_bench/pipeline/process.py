"""The process in which cells run, which is often somebody else's: a notebook's, or a script's."""

from __future__ import annotations

import contextlib
import os
import random
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any


@contextmanager
def undisturbed() -> Iterator[None]:
    """Leave the process as it was, whatever happens inside.

    An ``autocast`` and a default device around it do not reach inside. Put back are the threads of torch, the random
    generators of torch, numpy and Python, verbosity and progress bars of transformers, the functions that
    ``models.statespace.quicken`` replaces, filters of warnings, the environment, the working folder, and the backend of
    matplotlib where that is imported already. What ``machine.keep_memory`` does lasts; it is for processes that are
    rote-bench's own.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "IProgress not found")  # by tqdm in a notebook, whose bars are not used
        import numpy
        import torch
        from transformers.utils import logging

        from ..models.statespace import as_before

    with ExitStack() as stack:
        put_back = stack.callback
        stack.enter_context(warnings.catch_warnings())
        stack.enter_context(as_before())
        stack.enter_context(torch.inference_mode(False))  # training needs gradients, wherever it is asked for
        stack.enter_context(torch.enable_grad())
        for kind in ("cpu", "cuda"):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        if torch.get_default_device().type != "cpu":  # what is drawn here is drawn on the processor
            stack.enter_context(torch.device("cpu"))
        put_back(_go_back, _here())
        put_back(_replace_environment, dict(os.environ))
        put_back(torch.set_num_threads, torch.get_num_threads())
        put_back(torch.set_rng_state, torch.get_rng_state())
        put_back(random.setstate, random.getstate())
        put_back(numpy.random.set_state, numpy.random.get_state())
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            put_back(torch.cuda.set_rng_state_all, torch.cuda.get_rng_state_all())
        bars = logging.enable_progress_bar if logging.is_progress_bar_enabled() else logging.disable_progress_bar
        put_back(bars)
        put_back(logging.set_verbosity, logging.get_verbosity())
        put_back(_backend())
        yield


def _here() -> str | None:
    try:
        return os.getcwd()
    except OSError:  # somebody removed it
        return None


def _go_back(folder: str | None) -> None:
    if folder is not None and _here() != folder:
        with contextlib.suppress(OSError):
            os.chdir(folder)


def _replace_environment(before: dict[str, str]) -> None:
    for name in {*os.environ} - {*before}:
        del os.environ[name]
    os.environ.update(before)


def _backend() -> Callable[[], Any]:
    """What puts matplotlib's backend back, also when none was chosen yet."""
    matplotlib = sys.modules.get("matplotlib")
    if matplotlib is None or not hasattr(matplotlib, "rcParams"):
        return lambda: None
    settings = matplotlib.rcParams
    before = dict.__getitem__(settings, "backend")  # as it is: asking the settings for it would choose one

    def put_back() -> None:
        if dict.__getitem__(settings, "backend") is before:
            return
        if isinstance(before, str) and "matplotlib.pyplot" in sys.modules:
            matplotlib.use(before)
        else:
            dict.__setitem__(settings, "backend", before)

    return put_back
