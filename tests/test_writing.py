"""Files that are there whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rote_bench.pipeline.lock import alone
from rote_bench.writing import sweep_out, whole

LEFT = (  # by a process that was killed while it wrote
    ".dynamics.jsonl.ab12_cde",
    ".report.json.5d8k2m9q",
    ".report.json.0123abcd.partial",
    ".samples.parquet.partial",
    ".samples.parquet.0123abcd.partial",
    ".progress.json",
    ".progress.partial",
    "training-state.partial",
    ".training-state-0a1b2c3d-40.partial",
    ".rediagnosis/samples.parquet",
    "figures/.probe.png",
    "checkpoints/post_memorization/.README.md.ab12cdef",
)
KEPT = (
    "report.json",
    "dynamics.jsonl",
    "training-state.pt",
    ".training-state-0a1b2c3d-40.pt",
    ".notes",
    "notes.partial",
    "figures/probe.png",
    "checkpoints/post_memorization/model.safetensors",
)


def plant(folder: Path) -> None:
    for name in (*LEFT, *KEPT):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")


def files(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


def test_whoever_takes_a_cells_folder_removes_what_killed_writes_left(tmp_path: Path) -> None:
    plant(tmp_path)
    with alone(tmp_path):
        assert files(tmp_path) - {".lock"} == set(KEPT)
    assert files(tmp_path) == set(KEPT)
    assert sweep_out(tmp_path) == [] and sweep_out(tmp_path / "nowhere") == []


def test_a_link_that_is_called_like_a_remnant_is_nobodys_file_to_remove(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / ".rediagnosis").symlink_to(tmp_path / "mine")
    assert sweep_out(tmp_path) == [] and (tmp_path / "mine").is_dir()


def test_a_write_that_fails_leaves_the_old_file_alone(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "file"
    with whole(file) as out:
        out.write(b"old")
    with pytest.raises(ZeroDivisionError), whole(file) as out:
        out.write(b"new")
        _ = 1 / 0
    assert file.read_bytes() == b"old" and [p.name for p in file.parent.iterdir()] == ["file"]


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX")
@pytest.mark.parametrize(("mask", "rights"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_new_files_have_the_rights_that_the_process_gives(tmp_path: Path, mask: int, rights: int) -> None:
    before = os.umask(mask)
    try:
        with whole(tmp_path / "file") as out:
            out.write(b"x")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == rights
