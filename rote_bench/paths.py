"""Paths as people write them: with a tilde, too long for any file, or no path at all."""

from __future__ import annotations

from pathlib import Path

from .errors import UserError


def of_user(path: str | Path) -> Path:
    """A path with its ``~`` replaced, which a shell leaves alone after ``=`` and Python leaves alone everywhere."""
    try:
        return Path(path).expanduser()
    except RuntimeError:  # nobody has such a home
        return Path(path)


def placed(path: str | Path) -> Path:
    """Where a path leads, from here on also for a process that changes its folder: absolute, ``~`` being the home.

    Raises:
        UserError: when there is no home, or the folder that this process is in was removed.
    """
    try:
        return Path(path).expanduser().absolute()
    except RuntimeError:
        raise UserError("the home that ~ stands for is not known", where=str(path), hint="write it out") from None
    except FileNotFoundError:
        raise UserError(
            "leads from a folder that was removed", where=str(path), hint="change to one that is there"
        ) from None


def is_pointer(start: bytes) -> bool:
    """Whether a file that begins so is a pointer of git-lfs, which stands where the file itself was not fetched."""
    return start.startswith(b"version https://git-lfs.github.com/spec/")


def is_file(path: str | Path) -> bool:
    """Whether there is such a file; a name that no file can have is none."""
    try:
        return Path(path).is_file()
    except (OSError, ValueError):
        return False


def exists(path: str | Path) -> bool:
    """Whether there is such a file or folder; a name that no file can have is none."""
    try:
        return Path(path).exists()
    except (OSError, ValueError):
        return False
