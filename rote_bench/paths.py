"""Paths as people write them: with a tilde, too long for any file, or no path at all."""

from __future__ import annotations

from pathlib import Path


def of_user(path: str | Path) -> Path:
    """A path with its ``~`` replaced, which a shell leaves alone after ``=`` and Python leaves alone everywhere."""
    try:
        return Path(path).expanduser()
    except RuntimeError:  # nobody has such a home
        return Path(path)


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
