"""The pipeline: a task spec becomes examples, examples get noise, a model learns them, snapshots are diagnosed, a
report is written."""

from __future__ import annotations

import re
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import UserError
from .progress import Progress
from .report import build, write
from .report.provenance import code_version, differing, environment, identity, peak_memory_bytes

if TYPE_CHECKING:
    from .data import Data
    from .models.load import LoadedModel
    from .plugins import Registry
    from .spec.model import TaskSpec
    from .subject import Subject
    from .training import Trained

PRE, POST = "pre_memorization", "post_memorization"
PROBE_LENGTH = 16  # positions that proofs of the anatomy need, however short the task


@dataclass(frozen=True)
class Settings:
    """How to run a cell, apart from what it is.

    Attributes:
        output: folder of all cells.
        device: ``auto``, ``cpu``, ``cuda``, ...
        dtype: of the weights.
        batch_size: examples per forward pass of evaluations and diagnostics; None chooses by the model's size.
        limit: examples per split, for a quick look; such reports are barred from leaderboards.
        overwrite: run again even when a complete report is there.
        train: False diagnoses the model as it is.
        snapshots: name -> folder of weights to diagnose instead of those from training.
        threads: of the processor; None chooses by the model's size.
    """

    output: Path = Path("runs")
    device: str = "auto"
    dtype: str = "float32"
    batch_size: int | None = None
    limit: int | None = None
    overwrite: bool = False
    train: bool = True
    snapshots: Mapping[str, str] = field(default_factory=dict)
    threads: int | None = None
    trust_remote_code: bool = False


@dataclass
class Timings:
    """Wall seconds by stage."""

    seconds: dict[str, float] = field(
        default_factory=lambda: dict.fromkeys(("data", "training", "evaluation", "diagnostics", "figures"), 0.0)
    )
    start: float = field(default_factory=time.monotonic)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        before = time.monotonic()
        yield
        self.seconds[name] += time.monotonic() - before

    def entry(self) -> dict[str, Any]:
        total = time.monotonic() - self.start
        return {**self.seconds, "total": total, "peak_memory_bytes": peak_memory_bytes()}


def folder_name(text: str) -> str:
    """A model's or task's name as one folder, readable and safe."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.") or "unnamed"


def cell_folder(output: Path, spec: TaskSpec, model: str, rate: float) -> Path:
    """The folder of a cell, the same whenever it is run."""
    task = f"{spec.name}-{spec.profile}" if spec.profile else spec.name
    return output / folder_name(task) / folder_name(model) / f"noise-{rate:g}" / f"seed-{spec.seeds.label}"


@dataclass
class Cell:
    """One cell while it runs."""

    spec: TaskSpec
    model_name: str
    rate: float
    settings: Settings
    registry: Registry
    progress: Progress
    folder: Path
    timings: Timings = field(default_factory=Timings)
    warnings: list[str] = field(default_factory=list)

    def warn(self, text: str) -> None:
        self.warnings.append(text)
        self.progress.warn(text)


def run_cell(
    spec: TaskSpec, model_name: str, rate: float, *, settings: Settings, registry: Registry, progress: Progress
) -> dict[str, Any]:
    """Run one cell from spec to report, or find that it is done already.

    Returns:
        The report.

    Raises:
        UserError: when the input cannot be run, or another cell's report stands in the folder.
        KeyboardInterrupt: after saving the state from which the next run goes on.
    """
    cell = Cell(spec, model_name, rate, settings, registry, progress, cell_folder(settings.output, spec, model_name, rate))
    progress.say(f"{spec.title}: {model_name}, noise {rate:g}, seed {spec.seeds.label}")
    with cell.timings.stage("data"):
        provider = find_provider(model_name, registry)
        task, data = make_examples(cell)
        from transformers.utils import logging as transformers_logging

        transformers_logging.set_verbosity_error()
        device = choose_device(settings.device)
        loaded, tokenizer = load_model(cell, provider, task, data, device)
        precision = choose_precision(spec.training.precision, device)
        identified = identity(identity_parts(cell, loaded, precision))
        done = finished(cell, identified)
        if done is not None:
            progress.say(f"already done: {cell.folder / write.FILE}")
            return done
        threads = choose_threads(settings.threads, loaded.model)
        make_folder(cell.folder)
    facts = build.Facts(
        identity=identified,
        task={"name": spec.name, "version": spec.version, "content_hash": spec.content_hash(), "spec": spec.resolved()},
        data={
            "counts": data.counts(),
            "fingerprint": data.fingerprint(),
            "n_noisy": len(data.train.noisy),
            "noise_rate": rate,
            "limit": settings.limit,
        },
        model=build.model_entry(model_name, loaded),
        seeds=spec.resolved()["seeds"],
        environment=environment(
            device=device, threads=threads, dtype=settings.dtype, precision=precision, deterministic=device == "cpu",
            remote_code=settings.trust_remote_code,
        ),
    )
    try:
        report = _learn_and_diagnose(cell, facts, task, data, loaded, tokenizer, device, precision)
    except (KeyboardInterrupt, UserError):
        raise
    except Exception as error:  # whatever breaks a run belongs into its report, and is raised again
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        failed = build.assemble(facts, status="failed", error=reason, timings=cell.timings.entry(), warnings=cell.warnings)
        write.write_json(cell.folder / write.FILE, failed)
        raise
    return report


def _learn_and_diagnose(
    cell: Cell, facts: build.Facts, task: Any, data: Data, loaded: LoadedModel, tokenizer: Any, device: str, precision: str
) -> dict[str, Any]:
    from .measurement import evaluate
    from .models.anatomy import Anatomy
    from .subject import Subject

    anatomy = Anatomy.of(loaded.model)
    facts.model["anatomy"] = build.anatomy_entry(anatomy)
    batch_size = cell.settings.batch_size or choose_batch_size(loaded.model)
    subject = Subject(
        cell.spec, task, data, tokenizer, {POST: anatomy}, [], device, batch_size=batch_size, warn=cell.warn
    )
    trained = None
    if cell.settings.train and loaded.trainable:
        trained = learn(cell, subject, loaded, precision, facts.identity["hash"])
        subject.curve = trained.curve
        subject.anatomies = snapshots(cell, anatomy, trained, tokenizer)
    elif cell.settings.snapshots:
        subject.anatomies = given_snapshots(cell, anatomy, loaded)
    with cell.timings.stage("evaluation"):
        cell.progress.stage("evaluating")
        measured, samples = evaluate(subject)
        write.write_table(cell.folder / "samples.parquet", samples)
    with cell.timings.stage("diagnostics"):
        diagnostics, more = diagnose(cell, subject)
        metrics = {name: build.metric_entry(metric) for name, metric in {**measured, **more}.items()}
    if trained is not None and "learning_dynamics" in diagnostics:
        diagnostics["learning_dynamics"]["details"]["snapshots"] = {PRE: trained.pre_step, POST: trained.steps}
    with cell.timings.stage("figures"):
        cell.progress.stage("drawing")
        draw_figures(diagnostics, cell.registry, cell.folder / "figures")
    report = build.assemble(
        facts,
        status="success",
        training=build.training_entry(trained, cell.spec.training, subject),
        metrics=metrics,
        diagnostics=diagnostics,
        timings=cell.timings.entry(),
        artifacts=build.artifacts(cell.folder),
        warnings=cell.warnings,
    )
    found = write.faults(report)
    if found:
        raise ValueError(f"the report does not fit its schema: {found[0]}")
    write.write_json(cell.folder / write.FILE, report)
    (cell.folder / "training-state.pt").unlink(missing_ok=True)
    return report


def find_provider(name: str, registry: Registry) -> Any:
    """The registered provider that knows a model's name.

    Raises:
        UserError: when none does, with the nearest valid name.
    """
    for provider in registry.table("models").values():
        if provider.matches(name):
            return provider
    from .models.names import parse

    parse(name)
    raise UserError(f"no provider knows the model {name!r}", where="--model", hint="see `rote-bench list models`")


def make_examples(cell: Cell) -> tuple[Any, Data]:
    """The task and its labelled splits, checked against the memory at hand before they are made."""
    from .data import check_memory, make_data

    spec = cell.spec
    task_class = cell.registry.table("tasks")[spec.generator]
    kind_class = cell.registry.table("noise")[spec.noise.kind]
    from .spec.options import build as build_options

    task = task_class(build_options(task_class.Parameters, spec.parameters), spec.seeds.data)
    check_memory(task, spec)
    kind = kind_class(build_options(kind_class.Options, spec.noise.options))
    cell.progress.stage("making examples")
    return task, make_data(task, spec, kind, cell.rate, limit=cell.settings.limit)


def load_model(cell: Cell, provider: Any, task: Any, data: Data, device: str) -> tuple[LoadedModel, Any]:
    """The model and the tokenizer of its inputs: its own, or the task's."""
    from .encoding import build_tokenizer, encode
    from .models.load import ModelRequest

    cell.progress.stage(f"loading {cell.model_name}")
    tokenizer = build_tokenizer(task.words())
    longest = max(
        encode(tokenizer, part.examples, part.labels, named=False).max_length for _, part in data if len(part)
    )
    request = ModelRequest(
        name=cell.model_name,
        vocab_size=len(tokenizer),
        max_length=max(longest + 1, PROBE_LENGTH),
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        seed=cell.spec.seeds.init,
        device=device,
        dtype=cell.settings.dtype,
        overrides=cell.spec.model,
        trust_remote_code=cell.settings.trust_remote_code,
    )
    loaded: LoadedModel = provider.load(request)
    return loaded, loaded.tokenizer or tokenizer


def identity_parts(cell: Cell, loaded: LoadedModel, precision: str) -> dict[str, Any]:
    """Everything that decides a cell's numbers."""
    spec, registry = cell.spec, cell.registry
    config = build.plain_config(loaded.model.config)
    return {
        "task": {
            "content": spec.content_hash(),
            "code": code_version(registry.table("tasks")[spec.generator]),
            "noise_code": code_version(registry.table("noise")[spec.noise.kind]),
        },
        "noise_rate": cell.rate,
        "model": {
            "name": cell.model_name,
            "revision": loaded.revision,
            "config": {k: v for k, v in config.items() if k not in ("transformers_version", "_name_or_path")},
        },
        "snapshots": dict(cell.settings.snapshots),
        "recipe": spec.resolved()["training"] if cell.settings.train else None,
        "precision": precision,
        "dtype": cell.settings.dtype,
        "seeds": spec.resolved()["seeds"],
        "limit": cell.settings.limit,
        "diagnostics": {
            d.name: {"code": code_version(registry.table("diagnostics")[d.name]), "options": dict(d.options)}
            for d in spec.diagnostics
        },
    }


def finished(cell: Cell, identified: Mapping[str, Any]) -> dict[str, Any] | None:
    """The complete report of this very cell when it is there; a report of another cell is an error.

    Raises:
        UserError: naming the fields in which the report there differs.
    """
    path = cell.folder / write.FILE
    if not path.is_file() or cell.settings.overwrite:
        return None
    try:
        report = write.load_report(path)
    except UserError as error:
        cell.warn(f"replacing an unusable report: {error}")
        return None
    if report["status"] != "success":
        return None
    if report["identity"]["hash"] == identified["hash"]:
        return report
    fields = differing(identified["parts"], report["identity"]["parts"])
    raise UserError(
        f"another run's report is there; it differs in {', '.join(fields[:6])}",
        where=str(path),
        hint="choose another folder with -o, or replace it with --overwrite",
    )


def make_folder(folder: Path) -> None:
    """Make a cell's folder.

    Raises:
        UserError: when it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserError(f"cannot be written: {error.strerror}", where=str(folder), hint="choose another -o") from None


def choose_device(wanted: str) -> str:
    """``auto`` is a GPU when there is one.

    Raises:
        UserError: when the named device is not there.
    """
    import torch

    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(1, device=wanted)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"no device {wanted!r} here: {reason}", where="--device", hint="auto or cpu") from None
    return wanted


def choose_precision(wanted: str, device: str) -> str:
    """``auto`` is bfloat16 where the hardware multiplies it fast."""
    import torch

    if wanted != "auto":
        return wanted
    if device.startswith("cuda"):
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    fast = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)() or getattr(
        torch.cpu, "_is_amx_tile_supported", lambda: False
    )()
    return "bfloat16" if fast else "float32"


def choose_threads(wanted: int | None, model: Any) -> int:
    """One thread for a small model, which more only slow down beside other work; all cores for a large one."""
    import os

    import torch

    parameters = sum(p.numel() for p in model.parameters())
    named = os.environ.get("OMP_NUM_THREADS")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    count = wanted or (int(named) if named and named.isdecimal() else 1 if parameters < 20_000_000 else cores)
    torch.set_num_threads(max(1, count))
    return torch.get_num_threads()


def choose_batch_size(model: Any) -> int:
    """Examples per forward pass that keep all captured activations of a model well under a GiB."""
    config = model.config.get_text_config()
    per_example = getattr(config, "num_hidden_layers", 12) * getattr(config, "hidden_size", 768)
    return max(16, min(512, 2_000_000 // per_example // 16 * 16))


def learn(cell: Cell, subject: Subject, loaded: LoadedModel, precision: str, identity_hash: str) -> Trained:
    """Train on noisy labels and facts, with the four curves."""
    import torch

    from .encoding import concatenate, encode
    from .measurement import curves
    from .training import train

    data, recipe = subject.data, cell.spec.training
    cell.progress.stage("training")
    encoded = encode(subject.tokenizer, data.train.examples, data.train.labels, named=False)
    rows = torch.arange(len(encoded))
    if len(data.facts):
        facts = encode(subject.tokenizer, data.facts.examples, named=False)
        encoded = concatenate([encoded, facts], subject.tokenizer.pad_token_id or 0)
        every_fact = torch.arange(len(rows), len(encoded))
        rows = torch.cat([rows, *[every_fact] * recipe.facts_repeat])
    records: list[Mapping[str, Any]] = []

    def record(entry: Mapping[str, Any]) -> None:
        records.append(entry)
        write.write_lines(cell.folder / "dynamics.jsonl", records)

    with _interruptible() as stop_requested:
        trained = train(
            loaded.model,
            encoded.to(subject.device),
            rows,
            recipe,
            curves(subject, loaded.model, recipe.evaluation_examples),
            seed=cell.spec.seeds.order,
            precision=precision,
            progress=cell.progress.step,
            record=record,
            checkpoint=cell.folder / "training-state.pt",
            identity=identity_hash,
            stop_requested=stop_requested,
        )
    cell.timings.seconds["training"] += trained.seconds - trained.evaluation_seconds
    cell.timings.seconds["evaluation"] += trained.evaluation_seconds
    return trained


@contextmanager
def _interruptible() -> Iterator[Callable[[], bool]]:
    """Turn the first interrupt into a request to stop at the next step; the second one stops at once."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return

    def ask(number: int, frame: Any) -> None:
        asked.set()
        signal.signal(signal.SIGINT, previous_int)

    previous_int = signal.signal(signal.SIGINT, ask)
    previous_term = signal.signal(signal.SIGTERM, ask)
    try:
        yield asked.is_set
    finally:
        signal.signal(signal.SIGINT, previous_int)
        signal.signal(signal.SIGTERM, previous_term)


def snapshots(cell: Cell, anatomy: Any, trained: Trained, tokenizer: Any) -> dict[str, Any]:
    """Both snapshots as models, saved as ordinary folders."""
    import copy

    model = anatomy.model
    before = copy.deepcopy(model)
    before.load_state_dict(trained.pre_state)
    found = {PRE: anatomy.on(before.eval()), POST: anatomy}
    for name, snapshot in found.items():
        folder = cell.folder / "checkpoints" / name
        if folder.exists():
            shutil.rmtree(folder)
        snapshot.model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return found


def given_snapshots(cell: Cell, anatomy: Any, loaded: LoadedModel) -> dict[str, Any]:
    """Snapshots from folders that the user names."""
    from transformers import AutoModelForCausalLM

    found = {}
    for name, folder in cell.settings.snapshots.items():
        if name not in (PRE, POST):
            raise UserError(f"unknown snapshot {name!r}", where="--snapshot", hint="pre or post")
        try:
            model = AutoModelForCausalLM.from_pretrained(folder, use_safetensors=True)
        except (OSError, ValueError) as error:
            raise UserError(f"cannot load {folder!r}: {str(error).splitlines()[0]}", where="--snapshot") from error
        model.config.use_cache = False
        found[name] = anatomy.on(model.eval())
    found.setdefault(POST, anatomy)
    return found


def diagnose(cell: Cell, subject: Subject) -> tuple[dict[str, Any], dict[str, Any]]:
    """Every diagnostic of the spec; one that fails or does not apply leaves the others alone."""
    from .diagnostics import NotApplicable, Result

    from .spec.options import build as build_options

    entries: dict[str, Any] = {}
    metrics: dict[str, Any] = {}
    for number, chosen in enumerate(cell.spec.diagnostics, 1):
        cell.progress.stage(f"diagnosing {number}/{len(cell.spec.diagnostics)}: {chosen.name}")
        cls = cell.registry.table("diagnostics")[chosen.name]
        before = time.monotonic()
        result, status, reason = Result(), "success", None
        try:
            result = cls(build_options(cls.Options, chosen.options)).run(subject)
        except NotApplicable as error:
            status, reason = "not_applicable", str(error)
        except Exception as error:  # a plugin's failure belongs into the report and must not harm the rest of it
            status, reason = "failed", " ".join(f"{type(error).__name__}: {error}".split())
            cell.warn(f"diagnostic {chosen.name} failed: {reason}")
            if cell.progress.debug:
                raise
        entries[chosen.name] = {
            "status": status,
            "reason": reason,
            "version": cls.version,
            "seconds": time.monotonic() - before,
            "metrics": sorted(result.metrics),
            "details": dict(result.details),
        }
        metrics.update(result.metrics)
        if result.records:
            write.write_table(cell.folder / f"{chosen.name}.parquet", result.records)
    return entries, metrics


def draw_figures(diagnostics: Mapping[str, Any], registry: Registry, folder: Path) -> list[Path]:
    """One figure for each diagnostic that has one."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = []
    for name, entry in diagnostics.items():
        cls = registry.table("diagnostics").get(name)
        path = folder / f"{name}.png"
        if cls is not None and entry["status"] == "success" and cls.draw(entry["details"], path):
            drawn.append(path)
    return drawn


def expand(spec: TaskSpec, rates: Sequence[float], seeds: Sequence[int]) -> list[tuple[TaskSpec, float]]:
    """The cells that a command names: noise rates times seeds."""
    from .spec.model import Seeds

    for rate in rates:
        if not 0 <= rate < 1:
            raise UserError(f"a noise rate must be at least 0 and below 1, not {rate:g}", where="--noise-rate")
    for seed in seeds:
        if seed < 0:
            raise UserError(f"a seed must be 0 or more, not {seed}", where="--seed")
    specs = [spec.replace(seeds=Seeds.all(seed)) for seed in seeds] or [spec]
    return [(s, rate) for rate in (rates or spec.noise.rates) for s in specs]
