"""Where the rows of a table come from: a file, a folder, a dataset of the hub; and what their splits are for."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

from ..errors import UserError, clipped, did_you_mean
from ..paths import exists, of_user
from .example import SPLITS
from .files import ENDINGS, Rows, Wanted, kind_of, read_rows, stem_of, why_not

TRAIN, SELECTION, DEV, TEST, OOD = "train", "selection", "dev", "test", "ood"
ROLES: Mapping[str, str] = {
    **dict.fromkeys(("train", "training", "trainset"), TRAIN),
    "selection": SELECTION,
    **dict.fromkeys(("validation", "valid", "val", "dev", "development", "devset"), DEV),
    **dict.fromkeys(("test", "testing", "testset", "eval", "evaluation"), TEST),
    "ood": OOD,
}
# What tells of a dataset and is no part of it.
BESIDE = frozenset({"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"})


MOST_FILES = 5000


@dataclass(frozen=True)
class Part:
    """Rows that belong together.

    Attributes:
        name: of the split.
        files: whose rows they are, in order; a dataset of the hub counts as one.
        role: what official splits of that name are for; None where the name says nothing.
    """

    name: str
    files: tuple[Rows, ...]
    role: str | None = None
    column_cache: dict[str, list[Any]] = field(default_factory=dict, repr=False, compare=False)

    def __len__(self) -> int:
        return sum(rows.count for rows in self.files)

    def column(self, name: str) -> Sequence[Any]:
        """The values of a column; None where a file lacks it."""
        if name not in self.column_cache:
            self.column_cache[name] = [v for f in self.files for v in f.columns.get(name) or [None] * f.count]
        return self.column_cache[name]

    def place(self, number: int) -> str:
        """A row in words by which the user finds it, counted from 1."""
        for rows in self.files:
            if number < rows.count:
                return f"row {number + 1} of {rows.name}"
            number -= rows.count
        return f"row {number + 1} of {self.name}"


def role_of(name: str) -> str | None:
    """What a split or file of this name is for, None where it says nothing, or several things."""
    said = {ROLES[w.lower()] for w in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name) if w.lower() in ROLES}
    return said.pop() if len(said) == 1 else None


def homes_of(parts: Mapping[str, Part], path: str) -> dict[str, tuple[str, ...]] | None:
    """Split -> the parts from which it is drawn, where their names say so; None when all are drawn from all.

    Rows of an official development or test split are never trained on. This project's own three names come first.

    Raises:
        UserError: when some names are those of official splits and the others do not fit to them.
    """
    if set(SPLITS) <= set(parts):
        return {name: (name,) for name in (*SPLITS, OOD) if name in parts}
    by_role: dict[str | None, tuple[str, ...]] = {}
    for name, part in parts.items():
        by_role[part.role] = (*by_role.get(part.role, ()), name)
    held_out = [role for role in (DEV, TEST) if role in by_role]
    unclear = by_role.get(None, ())
    if not {DEV, TEST, SELECTION, OOD} & {*by_role} and not (unclear and TRAIN in by_role):
        return None
    pool = "parameters.pool: true draws all splits from all rows"
    if TRAIN not in by_role or unclear:
        what = f"cannot tell whether {unclear[0]} may be trained on" if unclear else "has no split to train on"
        official = [n for role in (TRAIN, SELECTION, *held_out, OOD) for n in by_role.get(role, ())]
        raise UserError(
            f"{path} holds the official split{'' if len(official) == 1 else 's'} {', '.join(official)}, but {what}",
            hint=f"name one in parameters.split, or all in parameters of its own; {pool}",
        )
    last = by_role[held_out[-1] if held_out else TRAIN]
    first = by_role.get(SELECTION, by_role[DEV] if len(held_out) == 2 else by_role[TRAIN])
    found = {"train": by_role[TRAIN], "selection": first, "validation": last}
    return {**found, **({OOD: by_role[OOD]} if OOD in by_role else {})}


@contextmanager
def without_bars() -> Iterator[None]:
    """Let datasets show no progress."""
    import datasets

    shown = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            datasets.enable_progress_bars()


def read_parts(path: str, config: str | None, wanted: Wanted, key: str) -> dict[str, Part]:
    """Split -> rows, of a file, of a folder's files (a split each, named as they are), or of a dataset's name.

    Raises:
        UserError: when there is nothing to read.
    """
    place = of_user(path)
    try:
        if exists(place):
            return _of_files(place, wanted, path)
        if path.startswith((".", "/", "~")) or kind_of(place) or why_not(place) or path.count("/") > 1:
            raise UserError(f"there is no file or folder {path[:200]!r}", hint="mend the path")
        return _of_hub(path, config, wanted)
    except UserError as error:
        raise UserError(error.what, where=key, hint=error.hint) from error.__cause__
    except ConnectionError as error:
        raise UserError(
            f"{path!r} is no file here, and the hub cannot be reached for a dataset of that name",
            where=key,
            hint="mend the path; or load the dataset once where there is a network, after which its copy is used",
        ) from error
    except Exception as error:  # files, formats, networks: whatever the library meets is the reason for the user
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"cannot read {path[:200]!r}: {reason}", where=key, hint="is the path right?") from error


def _of_files(place: Path, wanted: Wanted, path: str) -> dict[str, Part]:
    inside_it = _files_of(place, path) if place.is_dir() else []
    files = [f for f in inside_it if kind_of(f) is not None and f.name not in BESIDE] if place.is_dir() else [place]
    if not files or (files == [place] and kind_of(place) is None):
        other = why_not(place) or next(filter(None, map(why_not, inside_it)), None)
        raise other or UserError(f"{path!r} holds no rows", hint=f"files end with {ENDINGS}, packed with .gz or not")
    if len({kind_of(f) for f in files}) > 1:
        raise UserError(f"cannot tell which of {', '.join(f.name for f in files[:4])} to read", hint="name one file")
    by_name: dict[str, list[tuple[Rows, str | None]]] = {}
    for file in files:
        inside = PurePath(file.name) if file == place else file.relative_to(place)
        name, role = _named(inside, alone=len(files) == 1, asked=file == place)
        by_name.setdefault(name, []).append((read_rows(file, wanted, str(inside)), role))
    return {
        name: Part(name, tuple(rows for rows, _ in read), read[0][1] if len({r for _, r in read}) == 1 else None)
        for name, read in by_name.items()
    }


def _files_of(folder: Path, path: str) -> list[Path]:
    """The files in and below a folder that are not hidden, sorted.

    Raises:
        UserError: when there are so many that it can be no folder of tables.
    """
    found: list[Path] = []
    for folders, (above, below, names) in enumerate(os.walk(folder)):
        below[:] = sorted(name for name in below if not name.startswith("."))
        found += (Path(above) / name for name in names if not name.startswith("."))
        if len(found) + folders > MOST_FILES:
            raise UserError(f"{path!r} holds more than {MOST_FILES:,} files", hint="name the folder of the tables")
    return sorted(file for file in found if file.is_file())


def _named(file: PurePath, *, alone: bool, asked: bool) -> tuple[str, str | None]:
    """The name of a file's split, and what it is for; a file that was asked for by name is for everything.

    Args:
        file: below the folder that was asked for.
    """
    stem = stem_of(file)
    start = stem.partition("-")[0]
    if asked:
        return (start if start in SPLITS else "train"), None
    role = role_of(" ".join((*file.parts[:-1], stem)))
    if start in SPLITS or (start in ROLES and role is not None):
        return start, role
    if role is not None and role_of(stem) is None:  # its folder says it
        return next(part for part in file.parts if role_of(part) == role), role
    return ("train" if alone and role is None else stem), role


def _of_hub(path: str, config: str | None, wanted: Wanted) -> dict[str, Part]:
    import datasets

    with without_bars():
        loaded = datasets.load_dataset(path, config)
    found = {}
    for name, rows in loaded.items():
        names = tuple(rows.column_names)
        columns = {n: list(rows[n]) for n in names if n in wanted.used}
        found[str(name)] = Part(str(name), (Rows(str(name), names, columns, len(rows)),), role_of(str(name)))
    return found


def check_columns(part: Part, wanted: Iterable[tuple[str, str]], key_of_path: str) -> None:
    """Whether every file of a part has the columns that are asked for, once.

    Args:
        wanted: key of the task file and the column that it names.

    Raises:
        UserError: naming the key, and what there is.
    """
    for rows in part.files:
        if not rows.count or not rows.names:
            raise UserError(f"{rows.name} holds no rows", where=key_of_path)
        for key, column in wanted:
            if column in rows.twice:
                raise UserError(
                    f"two columns of {rows.name} are called {column!r}",
                    where=f"parameters.{key}",
                    hint="give one of them another name",
                )
            if column not in rows.names:
                shown = ", ".join(rows.names[:12]) + (", ..." if len(rows.names) > 12 else "")
                raise UserError(
                    f"the rows of {rows.name} have no column {clipped(column)!r}; they have {shown[:400]}",
                    where=f"parameters.{key}",
                    hint=did_you_mean(column, rows.names[:200]),
                )
