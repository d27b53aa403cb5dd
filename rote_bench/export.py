"""A task's labelled splits as datasets, and as a folder that others can load, read and run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import UserError
from .noise import Given
from .splits import HELD_OUT, Data
from .tasks.sources import without_bars

if TYPE_CHECKING:
    import datasets

    from .noise import Labelled
    from .spec.model import TaskSpec

COLUMNS = {
    "index": "number of the question in the task's pool",
    "prompt": "the question",
    "answer": "the true answer",
    "label": "what a model is taught: the answer, or a wrong label; in held-out splits the answer",
    "noisy": "whether the label is wrong",
    "phantom": "in held-out splits the wrong label that the noise would have drawn there, if any, never taught",
    "positions": "name of each meaningful span of the prompt -> its first character and the one after its last",
    "intermediates": "name -> value of each intermediate result on the way to the answer",
    "features": "name -> surface class of the question",
    "group": "the cluster to which the row belongs when intervals are computed",
}

GIVEN = "given"  # column of the labels that the data brought along, where it did


def to_dataset(part: Labelled, *, held_out: bool = False) -> datasets.Dataset:
    """One split as a ``datasets.Dataset`` with the columns of ``COLUMNS``."""
    import datasets

    rows: dict[str, list[Any]] = {column: [] for column in COLUMNS}
    for example, label, index in zip(part.examples, part.labels, part.indices, strict=True):
        rows["index"].append(index)
        rows["prompt"].append(example.prompt)
        rows["answer"].append(example.answer)
        rows["label"].append(example.answer if held_out else label)
        rows["noisy"].append(not held_out and label != example.answer)
        rows["phantom"].append(label if held_out and label != example.answer else None)
        rows["positions"].append({name: list(span) for name, span in example.positions.items()} or None)
        rows["intermediates"].append(dict(example.intermediates) or None)
        rows["features"].append(dict(example.features) or None)
        rows["group"].append(example.group)
    with without_bars():
        return datasets.Dataset.from_dict(rows).cast_column("phantom", datasets.Value("string"))


def to_datasets(data: Data) -> datasets.DatasetDict:
    """All splits that have rows."""
    import datasets

    return datasets.DatasetDict({name: to_dataset(part, held_out=name in HELD_OUT) for name, part in data if len(part)})


def export(spec: TaskSpec, data: Data, rate: float, folder: Path) -> Path:
    """Write Parquet files, a dataset card and a task file.

    Raises:
        UserError: when the folder is not empty or cannot be written.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError("is there already and is not empty", where=str(folder), hint="name a new folder")
    made = to_datasets(data)
    try:
        for name, rows in made.items():
            if _given(spec, rate) and name != "facts":
                labels = [phantom or label for phantom, label in zip(rows["phantom"], rows["label"], strict=True)]
                rows = rows.add_column(GIVEN, labels)
            file = folder / ("facts" if name == "facts" else "data") / f"{name}.parquet"
            file.parent.mkdir(parents=True, exist_ok=True)
            with without_bars(), file.open("wb") as out:  # a path of its own, pyarrow would read as an address
                rows.to_parquet(out)
        (folder / "task.yaml").write_text(_task_file(spec, data, rate), encoding="utf-8")
        (folder / "README.md").write_text(_card(spec, data, rate), encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot be written: {error.strerror}", where=str(folder)) from None
    return folder


def _given(spec: TaskSpec, rate: float) -> bool:
    """Whether the data brought its own labels along."""
    return spec.noise.kind == Given.name and rate > 0


def _task_file(spec: TaskSpec, data: Data, rate: float) -> str:
    import yaml

    plain = spec.resolved()
    content: dict[str, Any] = {key: plain[key] for key in ("name", "version", "title", "description", "citation")}
    content["name"] = f"{spec.name}_exported"
    content["generator"] = "dataset"
    given = _given(spec, rate)
    noisy = {"noisy": GIVEN} if given else {}
    content["parameters"] = {"path": "data", **noisy, **({"facts": "facts"} if len(data.facts) else {})}
    content["splits"] = {name: count for name, count in data.counts().items() if name != "facts"}
    content["noise"] = {"kind": Given.name} if given else {"kind": "uniform", "rates": [rate]}
    content["model"] = plain["model"]
    content["training"] = plain["training"]
    content["diagnostics"] = plain["diagnostics"]
    content["seeds"] = plain["seeds"]
    return (
        "# The rows of this folder as a task: `rote-bench run FOLDER --model gpt2-nano`.\n"
        + (
            f"# Wrong labels are those of the column `{GIVEN}`.\n"
            if given
            else "# Wrong labels are drawn anew, uniformly among all answers; the column `label` holds those of the"
            " export.\n"
        )
        + str(yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=100))
    )


def _card(spec: TaskSpec, data: Data, rate: float) -> str:
    """A dataset card: metadata that the hub reads, then what a person wants to know."""
    import yaml

    main = [n for n, count in data.counts().items() if count and n != "facts"]
    configs: list[Mapping[str, Any]] = [
        {
            "config_name": "default",
            "default": True,
            "data_files": [{"split": name, "path": f"data/{name}.parquet"} for name in main],
        }
    ]
    if len(data.facts):
        configs.append(
            {"config_name": "facts", "data_files": [{"split": "facts", "path": "facts/facts.parquet"}]},
        )
    total = sum(data.counts().values())
    sizes = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
    head = {
        "pretty_name": spec.title,
        "tags": ["rote-bench", "label-noise", "memorization", *([] if spec.generator == "dataset" else ["synthetic"])],
        "size_categories": [next((name for most, name in sizes if total < most), "1M<n<10M")],
        "configs": configs,
    }
    noisy, verb = len(data.train.noisy), "Exported" if spec.generator == "dataset" else "Generated"
    lines = [
        "---",
        str(yaml.safe_dump(head, sort_keys=False)).rstrip(),
        "---",
        "",
        f"# {spec.title}",
        "",
        spec.description or "A reasoning task with wrong labels.",
        "",
        f"{verb} by rote-bench: generator `{spec.generator}`, version {spec.version}, data seed {spec.seeds.data},",
        f"noise seed {spec.seeds.noise}. {noisy} of {len(data.train)} training labels are wrong: noise kind",
        f"`{spec.noise.kind}`, rate {rate:g}.",
        "",
        "| split | rows |",
        "|---|---:|",
        *(f"| {name} | {count} |" for name, count in data.counts().items() if count),
        "",
        "| column | meaning |",
        "|---|---|",
        *(f"| `{name}` | {meaning} |" for name, meaning in COLUMNS.items()),
        "",
        "The folder can be run as a task: `rote-bench run FOLDER --model gpt2-nano`.",
    ]
    if spec.citation:
        lines += ["", f"Please cite: {spec.citation}"]
    return "\n".join(lines) + "\n"
