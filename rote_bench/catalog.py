"""What there is and what it looks like: listings, examples, schemas, models, and packages to start from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from .errors import UserError
from .paths import placed
from .planning import Overrides, load_task
from .plugins import KINDS, SLOW
from .plugins import load as load_plugins


def listing(kind: str, *, plugins: Sequence[str | Path] = ()) -> list[dict[str, Any]]:
    """What there is of a kind: tasks, models, noise, diagnostics or plugins.

    Returns:
        Objects with at least ``name`` and ``source``.
    """
    from .spec.loader import shipped
    from .spec.source import read

    registry = load_plugins(plugins, clashes=kind == "plugins")
    if kind == "plugins":
        return [
            {
                "name": p.name,
                "source": p.source,
                "version": p.version,
                "status": "failed" if p.error else "slow" if p.seconds > SLOW else "loaded",
                "description": p.error or (f"loads in {p.seconds:.1f} s" if p.seconds > SLOW else ""),
            }
            for p in registry.plugins
        ]
    if kind == "tasks":
        files = {**registry.task_files(), **shipped()}
        brought_by = {
            Path(cls.spec_file): registry.source_of("tasks", name)
            for name, cls in registry.table("tasks").items()
            if getattr(cls, "spec_file", None)
        }
        return [
            {
                "name": name,
                "source": brought_by.get(file, "built-in"),
                "file": str(file),
                "generator": (data := read(file).data).get("generator"),
                "profiles": sorted(data.get("profiles") or {}),
                "description": data.get("title", ""),
            }
            for name, file in sorted(files.items())
        ] + [
            {
                "name": name,
                "source": registry.source_of("tasks", name),
                "generator": name,
                "profiles": [],
                "description": f"generator: {cls.description}",
            }
            for name, cls in sorted(registry.table("tasks").items())
        ]
    if kind == "models":
        return [
            {"name": name, "source": registry.source_of("models", provider.name), "description": provider.description}
            for provider in registry.table("models").values()
            for name in provider.names()
        ]
    if kind not in KINDS:
        raise UserError(f"cannot list {kind!r}", where="list", hint=f"one of {', '.join((*KINDS, 'plugins'))}")
    return [
        {"name": name, "source": registry.source_of(kind, name), "description": thing.description}
        for name, thing in sorted(registry.table(kind).items())
    ]


def _labelled(
    task: str | Path,
    noise_rate: float | None,
    profile: str | None,
    overrides: Overrides,
    plugins: Sequence[str | Path],
) -> tuple[Any, Any, Any, float]:
    """A spec, its task and labelled splits, and the noise rate; see ``data``."""
    from .spec.preflight import locate_fault
    from .splits import check_memory, make_data, make_noise, make_task, rates_of

    registry = load_plugins(plugins)
    spec = load_task(task, profile=profile, overrides=overrides, registry=registry)
    if noise_rate is not None and not 0 <= noise_rate < 1:
        raise UserError(f"a noise rate must be at least 0 and below 1, not {noise_rate:g}", where="--noise-rate")
    try:
        rate = rates_of(spec, registry, () if noise_rate is None else (noise_rate,))[0]
        generator = make_task(spec, registry)
        check_memory(generator, spec)
        return spec, generator, make_data(generator, spec, make_noise(spec, registry), rate), rate
    except UserError as error:
        raise locate_fault(error, spec) from None


def data(
    task: str | Path,
    *,
    split: str = "train",
    n: int = 5,
    noise_rate: float | None = None,
    profile: str | None = None,
    overrides: Overrides = (),
    plugins: Sequence[str | Path] = (),
    model: Any = None,
    trust_remote_code: bool = False,
) -> list[dict[str, Any]]:
    """Examples of a task, noisy ones first.

    Args:
        model: a model, as ``run`` takes it; each example then says under ``seen`` exactly what that model gets of it,
            with the label taught, or of held-out ones the true answer: ``text``, ``tokens``, ``ids``, and how many of
            the last tokens are ``scored``; and under ``end`` why an end is asked for behind answers, where it is.

    Raises:
        UserError: for an unknown split, and where the model could not be asked such questions.
    """
    from .errors import did_you_mean
    from .splits import HELD_OUT, SPLIT_NAMES

    if split not in SPLIT_NAMES:
        raise UserError(f"unknown split {split!r}", where="--split", hint=did_you_mean(split, SPLIT_NAMES))
    if n < 1:
        raise UserError(f"must be at least 1, not {n}", where="-n")
    spec, generator, made, _ = _labelled(task, noise_rate, profile, overrides, plugins)
    part = getattr(made, split)
    see = None if model is None else _seen_by(model, spec, generator, made, plugins, trust_remote_code)
    noisy = set(part.noisy) if split == "train" else set()
    rows = [*sorted(noisy)[: (n + 1) // 2], *(i for i in range(len(part)) if i not in noisy)][:n]
    return [
        {
            "index": part.indices[i],
            "prompt": (e := part.examples[i]).prompt,
            "answer": e.answer,
            "label": part.labels[i] if split == "train" else e.answer,
            "noisy": i in noisy,
            "phantom_label": part.labels[i] if split in HELD_OUT and part.labels[i] != e.answer else None,
            "positions": {
                name: {"span": list(span), "text": e.prompt[slice(*span)]} for name, span in e.positions.items()
            },
            "intermediates": dict(e.intermediates),
            "group": e.group,
            **({} if see is None else see(e, part.labels[i] if split == "train" else e.answer)),
        }
        for i in rows
    ]


def _seen_by(
    model: Any, spec: Any, task: Any, made: Any, plugins: Sequence[str | Path], trust_remote_code: bool
) -> Callable[[Any, str], dict[str, Any]]:
    """A function that says what a model gets of an example with an answer."""
    from .encoding import build_tokenizer, encode, seen
    from .endings import settle
    from .models.load import ModelRequest
    from .models.pretrained import BUILT_IN, own_tokenizer
    from .planning import name_of

    registry = load_plugins(plugins)
    model = name_of(model, registry)
    provider = registry.provider(model)
    own = build_tokenizer(task.words())
    longest = max(encode(own, part.examples, part.labels, named=False).max_length for _, part in made if len(part))
    request = ModelRequest(
        model,
        vocab_size=len(own),
        max_length=longest + 1,
        pad_token_id=own.pad_token_id,
        eos_token_id=own.eos_token_id,
        overrides=spec.model,
        trust_remote_code=trust_remote_code,
        task=task,
        data=made,
        tokenizer=own,
    )
    if provider not in BUILT_IN:
        tokenizer = provider.load(request).tokenizer
    else:
        tokenizer = own_tokenizer(request) if model.startswith("hf:") else None
    ending = settle(tokenizer or own, task, made, where="parameters" if tokenizer is None else "--model")
    return lambda example, answer: {
        "seen": seen(tokenizer or own, example, answer),
        "end": None if ending is None else str(ending),
    }


def dataset(
    task: str | Path,
    *,
    noise_rate: float | None = None,
    profile: str | None = None,
    overrides: Overrides = (),
    plugins: Sequence[str | Path] = (),
) -> Any:
    """All labelled splits of a task as a ``datasets.DatasetDict``, one row an example."""
    from .export import to_datasets

    _, _, made, _ = _labelled(task, noise_rate, profile, overrides, plugins)
    return to_datasets(made)


def export_data(
    task: str | Path,
    folder: str | Path,
    *,
    noise_rate: float | None = None,
    profile: str | None = None,
    overrides: Overrides = (),
    plugins: Sequence[str | Path] = (),
) -> Path:
    """Write a task's splits as Parquet with a dataset card and a task file, so that the folder can be run as a task.

    Returns:
        The folder.

    Raises:
        UserError: when the folder holds something else, or cannot be written.
    """
    from .export import export

    spec, _, made, rate = _labelled(task, noise_rate, profile, overrides, plugins)
    return export(spec, made, rate, placed(folder))


def new(kind: str, name: str, *, folder: str | Path = ".") -> Path:
    """A plugin package of its own, with a test: a ``task``, a ``diagnostic`` or a ``model`` to start from.

    Returns:
        The package's folder.

    Raises:
        UserError: when the name is no identifier, or the folder is there already.
    """
    from .scaffold import create

    return create(kind, name, placed(folder))


def schema(which: str) -> dict[str, Any]:
    """The JSON schema of a ``task`` file, a ``sweep`` file, its ``protocol``, a ``report`` or a ``leaderboard``."""
    if which == "task":
        from .spec.loader import schema as task_schema

        return task_schema()
    if which == "report":
        from .report.schema import schema as report_schema

        return report_schema()
    if which == "sweep":
        from .sweep.definition import schema as sweep_schema

        return sweep_schema()
    if which == "protocol":
        from .comparison.protocol import schema as protocol_schema

        return protocol_schema()
    if which == "leaderboard":
        from .leaderboard.schema import schema as leaderboard_schema

        return leaderboard_schema()
    raise UserError(f"no schema of {which!r}", where="schema", hint="task, sweep, protocol, report or leaderboard")


def check_model(
    model: Any, *, plugins: Sequence[str | Path] = (), device: str = "cpu", trust_remote_code: bool = False
) -> dict[str, Any]:
    """What the anatomy finds in a model and whether every proof holds.

    Args:
        model: a name, or as ``run`` takes it a module, which is copied, or a function that builds one.

    Returns:
        ``model_type``, ``name``, ``status`` (proved, partial, refused or failed), ``reason``, ``parameters``,
        ``checks``.
    """
    from .models.survey import check
    from .pipeline.process import undisturbed
    from .planning import name_of
    from .strangers import contained

    registry = load_plugins(plugins)
    with undisturbed(), contained():
        name = name_of(model, registry)
        return check(name, registry.table("models").values(), device=device, trust_remote_code=trust_remote_code)


def check_models(
    size: str = "nano", *, plugins: Sequence[str | Path] = (), progress: Callable[[str], None] = lambda name: None
) -> list[dict[str, Any]]:
    """``check_model`` of every causal model type of the installed transformers, made from scratch at one size.

    Raises:
        UserError: for an unknown size.
    """
    from .models.names import SIZES
    from .models.survey import survey
    from .pipeline.process import undisturbed

    if size not in SIZES:
        raise UserError(f"unknown size {size!r}", where="--size", hint=f"sizes: {', '.join(SIZES)}")
    with undisturbed():
        return survey(size, list(load_plugins(plugins).table("models").values()), progress=progress)
