"""The command line: what each verb takes, calls and prints."""

from .entry import main
from .verbs import parser

__all__ = ["main", "parser"]
