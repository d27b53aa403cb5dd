"""The command line: what each verb takes, calls and prints."""

from .verbs import main, parser

__all__ = ["main", "parser"]
