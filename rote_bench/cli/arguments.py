"""What each verb of the command line takes."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

DONE, WRONG_INPUT = 0, 2
Action = Callable[[argparse.Namespace], int]


class _Parser(argparse.ArgumentParser):
    """Flags with hyphens, underscores as aliases; a mistake is one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(WRONG_INPUT, f"{self.prog}: {message} (see {self.prog} --help)\n")


class _Version(argparse.Action):
    """Look the version up only when asked: the look-up takes longer than everything else that ``--help`` needs."""

    def __call__(self, parser: argparse.ArgumentParser, *unused: Any) -> NoReturn:
        from ..report.provenance import DISTRIBUTION, installed

        parser.exit(DONE, f"rote-bench {installed(DISTRIBUTION)}\n")


def _batch_size(text: str) -> int | None:
    return None if text == "auto" else int(text)


def _stack(text: str) -> int | str:
    if text != "auto" and not text.removeprefix("-").isdecimal():
        raise argparse.ArgumentTypeError(f"write a number or auto, not {text!r}")
    return text if text == "auto" else int(text)


def _snapshot(text: str) -> tuple[str, str]:
    name, equals, folder = text.partition("=")
    if not equals or name not in ("pre", "post", "twin") or not folder:
        raise argparse.ArgumentTypeError("write pre=FOLDER, post=FOLDER or twin=FOLDER")
    return name, folder


def _option(text: str) -> tuple[str, Any]:
    import yaml

    name, equals, value = text.partition("=")
    if not equals or not name:
        raise argparse.ArgumentTypeError("write NAME=VALUE")
    try:
        return name, yaml.safe_load(value)
    except yaml.YAMLError:
        return name, value


class _Pairs(argparse.Action):
    """Gather pairs of name and value; a name given again counts once, with its last value."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, pair: Any, *unused: Any) -> None:
        setattr(namespace, self.dest, {**getattr(namespace, self.dest), pair[0]: pair[1]})


def make_parser(actions: Mapping[str, Action]) -> argparse.ArgumentParser:
    """The parser of all built-in verbs.

    Args:
        actions: verb -> the function that does it.
    """
    from ..training.tracking import MODULES

    top = _Parser(
        prog="rote-bench",
        description="How language models memorise wrong labels and still reason well.",
        allow_abbrev=False,
    )
    top.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    verbs = top.add_subparsers(dest="verb_name", metavar="VERB", required=True, parser_class=_Parser)

    def verb(name: str, text: str) -> argparse.ArgumentParser:
        made = verbs.add_parser(name, help=text, description=text, allow_abbrev=False)
        made.set_defaults(verb=actions[name])
        made.add_argument(
            "--plugin", action="append", default=[], metavar="FILE", help="load a plugin from a Python file"
        )
        made.add_argument("--debug", action="store_true", help="show tracebacks")
        return made

    def task_options(made: argparse.ArgumentParser) -> None:
        made.add_argument("task", metavar="TASK", help="a task file, or the name of a shipped task such as thr")
        profile = made.add_mutually_exclusive_group()
        profile.add_argument("--profile", metavar="NAME", help="a profile of the task file")
        profile.add_argument(
            "--quick", dest="profile", action="store_const", const="quick", help="short for --profile quick"
        )
        made.add_argument(
            "--set", action="append", default=[], metavar="PATH=VALUE", help="override any key of the task file"
        )

    run = verb("run", "train or load a model on a noisy task, diagnose it and write a report")
    task_options(run)
    run.add_argument(
        "--model", required=True, metavar="MODEL", help="<model_type>-<size> or hf:NAME_OR_PATH[@REVISION]"
    )
    run.add_argument(
        "--peft",
        choices=("lora",),
        help="train an adapter of hf: weights in place of them; --set model.peft.rank=8 and such say which",
    )
    run.add_argument(
        "--noise-rate",
        action="append",
        default=[],
        type=float,
        metavar="R",
        help="share of wrong labels; may be given again",
    )
    run.add_argument(
        "--seed", action="append", default=[], type=int, metavar="N", help="sets every seed; may be given again"
    )
    run.add_argument(
        "--twin",
        action="store_true",
        help="train the same cell without wrong labels first, and say what those cost against it",
    )
    run.add_argument("-o", "--output-path", default="runs", metavar="DIR", help="folder of all runs (default: runs)")
    run.add_argument("--device", default="auto", metavar="D", help="auto, cpu, cuda, ... (default: auto)")
    run.add_argument(
        "--dtype",
        default="float32",
        choices=("float32", "bfloat16", "float16", "8bit", "4bit"),
        help="of the weights (default: float32); 8bit and 4bit need bitsandbytes and --no-train",
    )
    run.add_argument(
        "--batch-size",
        default=None,
        type=_batch_size,
        metavar="N|auto",
        help="of evaluation and diagnostics; training's stands in the task file",
    )
    run.add_argument(
        "--limit",
        type=int,
        metavar="N",
        help="at most N examples of each split, of train as many as the task takes; for a quick look",
    )
    run.add_argument("--overwrite", action="store_true", help="run again even when a report is there")
    run.add_argument(
        "--rediagnose",
        action="store_true",
        help="keep a finished cell's training, and measure and diagnose its snapshots again",
    )
    run.add_argument("--no-train", dest="train", action="store_false", help="diagnose the model as it is")
    run.add_argument(
        "--snapshot",
        dest="snapshots",
        action=_Pairs,
        default={},
        type=_snapshot,
        metavar="pre|post|twin=DIR",
        help="with --no-train: weights of a snapshot, or of the same cell trained without wrong labels (twin)",
    )
    run.add_argument(
        "--compile",
        action="store_true",
        help="torch.compile training steps: up to minutes before the first one; refused where they are slower then",
    )
    run.add_argument(
        "--track",
        choices=tuple(MODULES),
        help="write the curves there while they are made; needs the package of that name",
    )
    run.add_argument("--trust-remote-code", action="store_true", help="let code that comes with the weights run")
    run.add_argument(
        "--dry-run",
        action="store_true",
        help="say what time and memory each cell is expected to take, from a few timed steps; train and write nothing",
    )
    run.add_argument("--quiet", action="store_true", help="print nothing but warnings")
    run.add_argument("--json", action="store_true", help="print the report as JSON")

    validate = verb("validate", "list every fault of task or sweep files")
    validate.add_argument("task_file", nargs="+", metavar="FILE")

    listing = verb("list", "what there is")
    listing.add_argument("kind", choices=("tasks", "models", "noise", "diagnostics", "plugins"))
    listing.add_argument("--json", action="store_true", help="as JSON")

    data = verb("data", "look at the examples of a task")
    task_options(data)
    data.add_argument(
        "--split", default="train", metavar="S", help="train, selection, validation, ood or facts (default: train)"
    )
    data.add_argument("-n", type=int, default=5, metavar="N", help="how many (default: 5)")
    data.add_argument("--noise-rate", type=float, metavar="R", help="default: the task file's first")
    data.add_argument("--model", metavar="MODEL", help="show exactly which text and tokens this model gets")
    data.add_argument("--trust-remote-code", action="store_true", help="let code that comes with a tokenizer run")
    data.add_argument("--export", metavar="DIR", help="write all splits as Parquet, with a card and a task file")
    data.add_argument("--json", action="store_true", help="as JSON")

    check = verb("check-model", "find a model's parts and prove them")
    check.add_argument("model", metavar="MODEL", nargs="?")
    check.add_argument("--all", action="store_true", help="every model type of the installed transformers, as a table")
    check.add_argument("--size", default="nano", metavar="SIZE", help="with --all (default: nano)")
    check.add_argument("--trust-remote-code", action="store_true", help="let code that comes with the weights run")
    check.add_argument("--json", action="store_true", help="as JSON")

    show = verb("show", "a report in the terminal, or a folder of reports as a table")
    show.add_argument("path", metavar="PATH")
    show.add_argument(
        "--format",
        default="simple",
        metavar="F",
        help="of a table: simple (the default), which is turned where it is wider than the line, github, latex, ...",
    )
    form = show.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="as JSON")
    form.add_argument(
        "--html",
        nargs="?",
        const="",
        metavar="FILE",
        help="one report as a page of its own, written to FILE; report.html beside it without one, - prints it",
    )

    compare = verb("compare", "two cells, or two folders of cells: every metric, the difference and its interval")
    compare.add_argument("first", metavar="A", help="a report, its folder, or a folder of cells of one kind")
    compare.add_argument("second", metavar="B", help="the same for the other side")
    compare.add_argument("--format", default="simple", metavar="F", help="of the table: simple, github, latex, ...")
    compare.add_argument("--json", action="store_true", help="as JSON")

    plot = verb("plot", "draw the figures of a report again, or those of a folder's cells over their seeds")
    plot.add_argument("path", metavar="PATH")

    schema = verb("schema", "print a JSON schema")
    schema.add_argument("which", choices=("task", "sweep", "protocol", "report", "leaderboard"))

    sweep = verb("sweep", "run all cells of a sweep file, several at a time")
    sweep.add_argument("sweep_file", metavar="SWEEP_FILE")
    sweep.add_argument("-o", "--output-path", default="runs", metavar="DIR", help="folder of all runs (default: runs)")
    sweep.add_argument(
        "--executor", default="local", choices=("local", "ray", "submitit"), help="who runs cells (default: local)"
    )
    sweep.add_argument("--workers", type=int, metavar="N", help="cells at a time (default: as many as fit)")
    sweep.add_argument(
        "--stack",
        type=_stack,
        metavar="N|auto",
        help="train up to N cells of one architecture as one (default: as many as fit on a GPU, none on a processor)",
    )
    sweep.add_argument("--address", metavar="A", help="with --executor ray: of a cluster that runs already")
    sweep.add_argument(
        "--submitit",
        type=_option,
        action=_Pairs,
        default={},
        metavar="NAME=VALUE",
        help="with --executor submitit: what jobs ask SLURM for, as slurm_partition=gpu or timeout_min=240",
    )
    sweep.add_argument("--overwrite", action="store_true", help="run again what is done")
    sweep.add_argument(
        "--rediagnose", action="store_true", help="measure and diagnose finished cells again, without their training"
    )
    sweep.add_argument(
        "--dry-run",
        action="store_true",
        help="say what the cells are expected to take, from a few timed steps of each kind",
    )
    sweep.add_argument("--quiet", action="store_true", help="print nothing but failures")
    sweep.add_argument("--json", action="store_true", help="print what became of each cell as JSON")

    board = verb("leaderboard", "build a leaderboard from reports, or check a report by computing it again")
    board.add_argument("action", choices=("build", "check"))
    board.add_argument("reports", nargs="+", metavar="REPORT", help="a report.json, or a folder that holds some")
    board.add_argument("-o", "--output-path", metavar="DIR", help="build: folder of the leaderboard's files")
    board.add_argument("--format", default="simple", metavar="F", help="of printed tables: simple, github, latex, ...")
    board.add_argument("--export", metavar="SCHEMA", help="build: also write each report as every-eval-ever has it")
    board.add_argument(
        "--comparison",
        action="append",
        default=[],
        metavar="FILE",
        help="build: a published comparison, the sweep file that planned it; its models are one table",
    )
    board.add_argument("--rerun", action="store_true", help="check: train and diagnose the cell again and compare")
    board.add_argument(
        "--task", metavar="FILE", help="check: your own file of the task, where questions stand in files beside it"
    )
    board.add_argument("--quiet", action="store_true", help="print nothing but warnings")
    board.add_argument("--json", action="store_true", help="print as JSON")

    new = verb("new", "start a plugin package of your own, with its test")
    new.add_argument("kind", choices=("task", "noise", "diagnostic", "model"))
    new.add_argument("name", metavar="NAME", help="lower-case letters, digits and underscores")
    new.add_argument("--folder", default=".", metavar="DIR", help="where to put it (default: here)")
    top.set_defaults(subparsers=verbs)
    return top
