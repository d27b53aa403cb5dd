"""A run as one page to read: nothing in it is fetched or runs, and everything that comes from its report is escaped."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..findings import unmet
from ..measures import words
from . import again, markup
from .record import DiagnosticEntry, Metric, Report
from .sentences import STOPS, about, sentences

if TYPE_CHECKING:
    from ..plugins import Registry

STYLES = (markup.STYLE, "run.css")
FIRST = "learning_dynamics"
STAGES = ("data", "training", "evaluation", "diagnostics", "figures", "total")
ASKED = {"train_noisy": "a training question with a wrong label", "validation": "a held-out question"}
# A control is told by what its diagnostic says of it.
CONTROL = re.compile(r"control|random|phantom|chance|foreign|irrelevant|untrained|shuffled|permuted|nearest neighbour")
# What a stranger's report may fill a page with.
LONGEST, LONGEST_NAME, LONGEST_FILE = 2000, 200, 20_000  # characters of a text, of a name, of the task file
MOST = 300  # rows of a table
MOST_BYTES, MOST_PICTURES = 3 << 20, 24 << 20  # of a picture, and of all together
MOST_SAMPLES, BATCH, MOST_ROWS = (
    256 << 20,
    4096,
    1 << 20,
)  # bytes of the file of answers, rows read at a time and in all
SIGNATURE = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Picture:
    """A figure as the page holds it.

    Attributes:
        sentence: what it shows, in words; empty where the file does not say.
        width, height: in pixels.
        data: the PNG file.
    """

    sentence: str
    width: int
    height: int
    data: bytes

    @property
    def address(self) -> str:
        """The file itself, as an address."""
        return f"data:image/png;base64,{base64.b64encode(self.data).decode()}"


@dataclass(frozen=True)
class Asked:
    """A question with what it was taught and what the model says.

    Attributes:
        kind: the split.
        given: ``wrong label``, ``true answer`` or ``neither``.
    """

    kind: str
    prompt: str
    answer: str
    label: str
    prediction: str
    given: str


@dataclass(frozen=True)
class Row:
    """A metric with its name in words and what it says."""

    name: str
    heading: str
    meaning: str
    entry: Metric
    control: bool


def picture(file: Path) -> Picture | None:
    """A PNG file with the sentence that ``figures.drawing`` wrote into it; None when it is none, or a large one."""
    try:
        if file.is_symlink() or file.stat().st_size > MOST_BYTES:
            return None
        data = file.read_bytes()
    except OSError:
        return None
    if not data.startswith(SIGNATURE):
        return None
    width = height = 0
    sentence = ""
    for kind, content in _chunks(data):
        if kind == b"IHDR" and len(content) == 13:
            width, height = int.from_bytes(content[:4], "big"), int.from_bytes(content[4:8], "big")
        elif kind == b"tEXt" and content.startswith(b"Title\0"):
            sentence = content[6:].decode("latin-1")
        elif kind == b"iTXt" and content.startswith(b"Title\0\0\0"):
            sentence = content[8:].split(b"\0", 2)[-1].decode("utf-8", "replace")
    return Picture(" ".join(sentence.split()), width, height, data) if width and height else None


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(kind, content) of what comes before a PNG file's pixels."""
    at = len(SIGNATURE)
    while at + 8 <= len(data):
        length, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        if kind == b"IDAT":
            return
        yield kind, data[at + 8 : at + 8 + length]
        at += 12 + length


def examples(file: Path) -> list[Asked]:
    """The first question of each kind in a file of answers, not chosen; empty when it is none, or a large one."""
    import pyarrow
    import pyarrow.parquet

    columns = ("split", "prompt", "answer", "label", "prediction", "is_answer", "is_label")
    found: dict[str, Asked] = {}
    rows = 0
    try:
        if file.stat().st_size > MOST_SAMPLES:
            return []
        for batch in pyarrow.parquet.ParquetFile(file).iter_batches(BATCH, columns=list(columns)):
            splits = batch.column("split").to_pylist()
            for split in ASKED:
                if split in splits and split not in found:
                    one = {name: batch.column(name)[splits.index(split)].as_py() for name in columns}
                    given = "wrong label" if one["is_label"] and one["label"] != one["answer"] else "neither"
                    given = "true answer" if one["is_answer"] else given
                    texts = {name: str(one[name]) for name in ("prompt", "answer", "label", "prediction")}
                    found[split] = Asked(split, **texts, given=given)
            rows += len(splits)
            if len(found) == len(ASKED) or rows > MOST_ROWS:
                break
    except (pyarrow.ArrowException, KeyError, ValueError, OSError):
        return []
    return [found[split] for split in ASKED if split in found]


def render(
    report: Report,
    registry: Registry,
    *,
    twin: Report | None = None,
    pictures: Mapping[str, Picture] | None = None,
    asked: Sequence[Asked] = (),
) -> str:
    """The page, as HTML.

    Args:
        twin: the report of the same cell without wrong labels.
        pictures: of diagnostics, by name.
        asked: some questions with their answers.
    """
    from markupsafe import Markup

    made = markup.environment()
    made.filters.update(cut=cut, seconds=_seconds)
    sources = {name: (markup.TEMPLATES / name).read_text(encoding="utf-8") for name in STYLES}
    rows = list(_rows(report, registry))
    known = registry.table("diagnostics")
    text = made.get_template("run.html").render(
        report=report,
        about=about(report.task.label, report.model.name, report.data.noise_rate, report.seeds.label),
        sentences=sentences(report, twin),
        faults=unmet(report),
        rows=rows[:MOST],
        more=max(0, len(rows) - MOST),
        controls=[row for row in rows if row.control][:MOST],
        pictures=list(_in_order(pictures or {})),
        description=str(report.task.spec.get("description") or ""),
        sources=list(dict.fromkeys(finding.source for finding in report.findings)),
        descriptions={name: known[name].description for name in report.diagnostics if name in known},
        without=[(n, e) for n, e in report.diagnostics.items() if e.status != "success"][:MOST],
        diagnostics=list(report.diagnostics.items())[:MOST],
        asked=asked,
        kinds=ASKED,
        most=MOST,
        facts=list(_facts(report)),
        command=again.command(report, registry),
        task_file=again.task_file(report),
        file_name=again.TASK_FILE,
        stages=[(name, getattr(report.timings, name), report.timings.cpu_by_stage.get(name)) for name in STAGES],
        policy=markup.policy(sources.values()),
        styles=[Markup(text) for text in sources.values()],
        longest_file=LONGEST_FILE,
        longest_name=LONGEST_NAME,
    )
    return text.encode("utf-8", "replace").decode("utf-8")  # JSON can hold halves of characters, a file cannot


def cut(text: object, most: int = LONGEST) -> str:
    """A text, ended by dots where it is too long for a page."""
    said = str(text)
    return said if len(said) <= most else f"{said[:most]} …"


def _seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"


def _rows(report: Report, registry: Registry) -> Iterator[Row]:
    measures, measured_by = registry.measures(), report.measured_by()
    for name, entry in report.metrics.items():
        known = measures.get(name)
        meaning = known.meaning if known else f"measured by {measured_by.get(name, 'a plugin')}"
        heading = known.heading if known else words(name)
        yield Row(name, heading, meaning, entry, bool(CONTROL.search(f"{words(name)} {meaning}")))


def _in_order(pictures: Mapping[str, Picture]) -> Iterator[tuple[str, Picture]]:
    """The learning curve first, as long as there is room."""
    room = MOST_PICTURES
    for name in sorted(pictures, key=lambda name: name != FIRST):
        room -= len(pictures[name].data)
        if room >= 0:
            yield name, pictures[name]


def _facts(report: Report) -> Iterator[tuple[str, str]]:
    """Where the numbers come from, each with what it is called."""
    e, model, data = report.environment, report.model, report.data
    commit = "" if e.git_commit is None else f", commit {e.git_commit}" + (" with changes" if e.git_dirty else "")
    yield "identity", report.identity.hash
    yield "rote-bench", f"{e.rote_bench}{commit}"
    yield "Python, torch, transformers", f"{e.python}, {e.torch}, {e.transformers}"
    yield "machine", f"{e.platform}, {e.cpu}"
    processes = f", {e.processes} processes" if e.processes > 1 else ""
    yield "arithmetic", f"{e.dtype} weights, {e.precision} training on {e.device}, threads {e.threads}{processes}"
    yield "same digits again", "yes, on such a machine" if e.deterministic else "not promised here"
    yield "seeds", ", ".join(f"{name} {value}" for name, value in asdict(report.seeds).items())
    revision = f", {model.revision}" if model.revision else ""
    yield "model", f"{model.name}: {model.model_type}, {model.source}{revision}, {model.parameters:,} parameters"
    yield "task", f"{report.task.label}, version {report.task.version}, content {report.task.content_hash}"
    yield "questions", ", ".join(f"{name} {count:,}" for name, count in list(data.counts.items())[:MOST])
    yield "fingerprint of the questions", data.fingerprint
    trained = report.training
    if trained.steps:
        fell = "never" if trained.settled_step is None else f"from step {trained.settled_step}"
        yield (
            "training",
            f"{trained.optimizer}, {trained.steps:,} steps of {trained.effective_batch_size}, {trained.examples_seen:,}"
            f" examples seen; stopped because {STOPS.get(trained.stop_reason, trained.stop_reason)}; rate timed by"
            f" {trained.schedule.settle}, falling {fell}",
        )
        yield "snapshots", ", ".join(f"{words(name)}: step {step}" for name, step in trained.snapshots.items())
    yield "memory", f"{report.timings.peak_memory_bytes / 2**20:,.0f} MiB at most"


def figure_names(diagnostics: Mapping[str, DiagnosticEntry]) -> list[str]:
    """The diagnostics that may have a figure, by names that can be a file's."""
    return [name for name, e in diagnostics.items() if e.status == "success" and re.fullmatch(r"[A-Za-z0-9_-]+", name)]
