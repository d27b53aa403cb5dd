"""The command line: one short function per verb that parses, calls the API and prints."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from .errors import UserError

DONE, INCOMPLETE, WRONG_INPUT, INTERRUPTED = 0, 1, 2, 130


class _Parser(argparse.ArgumentParser):
    """Flags with hyphens, underscores as aliases; a mistake is one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(WRONG_INPUT, f"{self.prog}: {message} (see {self.prog} --help)\n")


class _Version(argparse.Action):
    """Look the version up only when asked: the look-up takes longer than everything else that ``--help`` needs."""

    def __call__(self, parser: argparse.ArgumentParser, *unused: Any) -> NoReturn:
        from .report.provenance import DISTRIBUTION, installed

        parser.exit(DONE, f"rote-bench {installed(DISTRIBUTION)}\n")


def _hyphens(arguments: Sequence[str]) -> list[str]:
    """``--noise_rate=0.1`` is ``--noise-rate=0.1``; values keep their underscores."""
    out = []
    for argument in arguments:
        flag, equals, value = argument.partition("=")
        out.append(flag.replace("_", "-") + equals + value if flag.startswith("--") and len(flag) > 2 else argument)
    return out


def _say(text: str) -> None:
    sys.stdout.write(text if text.endswith("\n") else f"{text}\n")


def _dump(value: Any) -> None:
    import json

    _say(json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False))


def _run(options: argparse.Namespace) -> int:
    from . import api
    from .progress import Progress

    progress = Progress(quiet=options.quiet or options.json, debug=options.debug)
    reports = api.run_cells(
        options.task,
        model=options.model,
        noise_rates=options.noise_rate,
        seeds=options.seed,
        profile=options.profile,
        overrides=options.set,
        output_path=options.output_path,
        device=options.device,
        dtype=options.dtype,
        batch_size=options.batch_size,
        limit=options.limit,
        plugins=options.plugin,
        overwrite=options.overwrite,
        train=not options.no_train,
        snapshots=dict(options.snapshot),
        trust_remote_code=options.trust_remote_code,
        track=options.track,
        progress=progress,
    )
    if not reports:  # a process that only helped to train
        return DONE
    if options.json:
        _dump([dict(r.data) for r in reports] if len(reports) > 1 else dict(reports[0].data))
    elif not options.quiet:
        from .report.view import render

        for report in reports:
            _say(render(report.data, color=sys.stdout.isatty()))
            _say(f"report  {report.folder / 'report.json'}")
            for figure in sorted((report.folder / "figures").glob("*.png")):
                _say(f"figure  {figure}")
    return DONE


def _validate(options: argparse.Namespace) -> int:
    from . import api

    faults = api.validate(options.task_file, plugins=options.plugin)
    for fault in faults:
        print(fault, file=sys.stderr)
    if not faults:
        _say("\n".join(f"{file}: valid" for file in options.task_file))
    return WRONG_INPUT if faults else DONE


def _list(options: argparse.Namespace) -> int:
    from . import api

    items = api.listing(options.kind, plugins=options.plugin)
    if options.json:
        _dump(items)
        return DONE
    if options.kind == "models":
        from .models.names import SIZES, known_types

        _say("hf:NAME_OR_PATH[@REVISION]  pretrained weights from a folder, the local cache or the hub")
        _say(f"<model_type>-<size>         random weights; sizes {', '.join(SIZES)}; types:")
        import textwrap

        _say(
            textwrap.fill(
                ", ".join(sorted(known_types())),
                100,
                initial_indent="  ",
                subsequent_indent="  ",
                break_on_hyphens=False,
            )
        )
        extra = [i for i in items if i["source"] != "built-in"]
        if extra:
            _say("from plugins: " + ", ".join(f"{i['name']} ({i['source']})" for i in extra))
        return DONE
    from tabulate import tabulate

    heads = ["name", "source", *(["status"] if options.kind == "plugins" else []), "description"]
    _say(tabulate([[i[head] for head in heads] for i in items], headers=heads))
    return DONE


def _data(options: argparse.Namespace) -> int:
    from . import api

    if options.export is not None:
        folder = api.export_data(
            options.task,
            options.export,
            noise_rate=options.noise_rate,
            profile=options.profile,
            overrides=options.set,
            plugins=options.plugin,
        )
        _say(f"{folder}: Parquet files, a dataset card and a task file; rote-bench run {folder} --model gpt2-nano")
        return DONE
    examples = api.data(
        options.task,
        split=options.split,
        n=options.n,
        noise_rate=options.noise_rate,
        profile=options.profile,
        overrides=options.set,
        plugins=options.plugin,
    )
    if options.json:
        _dump(examples)
        return DONE
    for example in examples:
        _say(f"{example['prompt']} -> {example['answer']}")
        if example["noisy"]:
            _say(f"    taught      {example['label']}  (noisy label)")
        if example["phantom_label"] not in (None, example["answer"]):
            _say(f"    phantom     {example['phantom_label']}  (never taught)")
        if example["intermediates"]:
            _say("    on the way  " + ", ".join(f"{k} = {v}" for k, v in example["intermediates"].items()))
        if example["positions"]:
            _say("    positions   " + ", ".join(f"{k} = {v['text']!r}" for k, v in example["positions"].items()))
    return DONE


def _check_model(options: argparse.Namespace) -> int:
    from . import api
    from .progress import Progress

    if (options.model is None) != options.all:
        raise UserError("name a model, or give --all", where="check-model")
    if options.all:
        results = api.check_models(options.size, plugins=options.plugin, progress=Progress().stage)
    else:
        results = [api.check_model(options.model, plugins=options.plugin, trust_remote_code=options.trust_remote_code)]
    if options.json:
        _dump({"models": results})
    elif options.all:
        from .models.survey import table

        _say(table(results, options.size))
    else:
        _print_check(results[0])
    good = ("proved", "refused") if options.all else ("proved",)
    return DONE if all(r["status"] in good for r in results) else INCOMPLETE


def _print_check(result: dict[str, Any]) -> None:
    _say(f"{result['name']}: {result['status']}" + (f", {result['reason']}" if result["reason"] else ""))
    if result["parameters"] is not None:
        _say(f"{result['parameters']:,} parameters")
    for name, check in result["checks"].items():
        _say(f"  {'holds' if check['ok'] else 'FAILS'}  {name}: {check['detail']}")


def _show(options: argparse.Namespace) -> int:
    from . import api

    if options.json:
        _dump(dict(api.load_report(options.path).data))
    else:
        _say(api.show(options.path, style=options.format, color=sys.stdout.isatty()))
    return DONE


def _plot(options: argparse.Namespace) -> int:
    from . import api

    for figure in api.plot(options.path, plugins=options.plugin):
        _say(str(figure))
    return DONE


def _new(options: argparse.Namespace) -> int:
    from . import api

    folder = api.new(options.kind, options.name, folder=options.folder)
    _say(f"{folder}: a package with its test; its README says what to do next")
    return DONE


def _sweep(options: argparse.Namespace) -> int:
    from . import api

    result = api.sweep_cells(
        options.sweep_file,
        output_path=options.output_path,
        executor=options.executor,
        workers=options.workers,
        address=options.address,
        plugins=options.plugin,
        overwrite=options.overwrite,
        quiet=options.quiet or options.json,
    )
    if options.json:
        _dump(result)
    elif not options.quiet:
        from .sweep.record import closing

        _say(closing(result, options.output_path))
    return DONE if result["complete"] else INCOMPLETE


def _schema(options: argparse.Namespace) -> int:
    from . import api

    _dump(api.schema(options.which))
    return DONE


def _leaderboard(options: argparse.Namespace) -> int:
    building = options.action == "build"
    foreign = {"--rerun": options.rerun} if building else {"-o": options.output_path, "--export": options.export}
    for flag in (flag for flag, given in foreign.items() if given):
        raise UserError(f"does not go with `leaderboard {options.action}`", where=flag)
    if building and options.output_path is None:
        raise UserError("says where the leaderboard goes and is missing", where="-o")
    return _build_leaderboard(options) if building else _check_reports(options)


def _build_leaderboard(options: argparse.Namespace) -> int:
    from . import api
    from .leaderboard import build, tables
    from .progress import Progress

    progress = Progress(quiet=options.quiet or options.json, debug=options.debug)
    given = {"export": options.export, "plugins": options.plugin, "workers": build.cores(), "progress": progress}
    board = api.build_leaderboard(options.reports, options.output_path, **given)
    if options.json:
        _dump(board)
    elif not options.quiet:
        _say(tables.plain(board, options.format))
        _say("\n".join(f"written  {os.path.join(options.output_path, name)}" for name in build.FILES))
    return DONE if board["reports"]["counted"] else INCOMPLETE


def _check_reports(options: argparse.Namespace) -> int:
    from . import api
    from .leaderboard.check import reports_of
    from .progress import Progress

    given = {"plugins": options.plugin, "progress": Progress(quiet=options.quiet or options.json, debug=options.debug)}
    reports = [report for place in options.reports for report in reports_of(place)]
    checks = [api.check_report(report, rerun=options.rerun, **given) for report in reports]
    if options.json:
        _dump([check.entry() for check in checks])
    elif not options.quiet:
        _say("\n\n".join(check.table(options.format) for check in checks))
    return DONE if all(check.holds for check in checks) else INCOMPLETE


def _batch_size(text: str) -> int | None:
    return None if text == "auto" else int(text)


def _snapshot(text: str) -> tuple[str, str]:
    name, equals, folder = text.partition("=")
    if not equals or name not in ("pre", "post") or not folder:
        raise argparse.ArgumentTypeError("write pre=FOLDER or post=FOLDER")
    return name, folder


def parser() -> argparse.ArgumentParser:
    """The parser of all built-in verbs."""
    from .tracking import MODULES

    top = _Parser(
        prog="rote-bench",
        description="How language models memorise wrong labels and still reason well.",
        allow_abbrev=False,
    )
    top.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    verbs = top.add_subparsers(dest="verb_name", metavar="VERB", required=True, parser_class=_Parser)

    def verb(name: str, function: Any, text: str) -> argparse.ArgumentParser:
        made = verbs.add_parser(name, help=text, description=text, allow_abbrev=False)
        made.set_defaults(verb=function)
        made.add_argument(
            "--plugin", action="append", default=[], metavar="FILE", help="load a plugin from a Python file"
        )
        made.add_argument("--debug", action="store_true", help="show tracebacks")
        return made

    def task_options(made: argparse.ArgumentParser) -> None:
        made.add_argument("task", metavar="TASK", help="a task file, or the name of a shipped task such as thr")
        made.add_argument("--profile", metavar="NAME", help="a profile of the task file")
        made.add_argument(
            "--set", action="append", default=[], metavar="PATH=VALUE", help="override any key of the task file"
        )

    run = verb("run", _run, "train or load a model on a noisy task, diagnose it and write a report")
    task_options(run)
    run.add_argument(
        "--model", required=True, metavar="MODEL", help="<model_type>-<size> or hf:NAME_OR_PATH[@REVISION]"
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
    run.add_argument("--limit", type=int, metavar="N", help="use at most N examples of each split, for a quick look")
    run.add_argument("--overwrite", action="store_true", help="run again even when a report is there")
    run.add_argument("--no-train", action="store_true", help="diagnose the model as it is")
    run.add_argument(
        "--snapshot",
        action="append",
        default=[],
        type=_snapshot,
        metavar="pre|post=DIR",
        help="with --no-train: weights of a snapshot",
    )
    run.add_argument(
        "--track",
        choices=tuple(MODULES),
        help="write the curves there while they are made; needs the package of that name",
    )
    run.add_argument("--trust-remote-code", action="store_true", help="let code that comes with the weights run")
    run.add_argument("--quiet", action="store_true", help="print nothing but warnings")
    run.add_argument("--json", action="store_true", help="print the report as JSON")

    validate = verb("validate", _validate, "list every fault of task or sweep files")
    validate.add_argument("task_file", nargs="+", metavar="FILE")

    listing = verb("list", _list, "what there is")
    listing.add_argument("kind", choices=("tasks", "models", "noise", "diagnostics", "plugins"))
    listing.add_argument("--json", action="store_true", help="as JSON")

    data = verb("data", _data, "look at the examples of a task")
    task_options(data)
    data.add_argument(
        "--split", default="train", metavar="S", help="train, selection, validation or facts (default: train)"
    )
    data.add_argument("-n", type=int, default=5, metavar="N", help="how many (default: 5)")
    data.add_argument("--noise-rate", type=float, metavar="R", help="default: the task file's first")
    data.add_argument("--export", metavar="DIR", help="write all splits as Parquet, with a card and a task file")
    data.add_argument("--json", action="store_true", help="as JSON")

    check = verb("check-model", _check_model, "find a model's parts and prove them")
    check.add_argument("model", metavar="MODEL", nargs="?")
    check.add_argument("--all", action="store_true", help="every model type of the installed transformers, as a table")
    check.add_argument("--size", default="nano", metavar="SIZE", help="with --all (default: nano)")
    check.add_argument("--trust-remote-code", action="store_true", help="let code that comes with the weights run")
    check.add_argument("--json", action="store_true", help="as JSON")

    show = verb("show", _show, "a report in the terminal, or a folder of reports as a table")
    show.add_argument("path", metavar="PATH")
    show.add_argument(
        "--format", default="simple", metavar="F", help="of a table: simple, github, latex, ... (default: simple)"
    )
    show.add_argument("--json", action="store_true", help="as JSON")

    plot = verb("plot", _plot, "draw the figures of a report again")
    plot.add_argument("path", metavar="PATH")

    schema = verb("schema", _schema, "print a JSON schema")
    schema.add_argument("which", choices=("task", "sweep", "report", "leaderboard"))

    sweep = verb("sweep", _sweep, "run all cells of a sweep file, several at a time")
    sweep.add_argument("sweep_file", metavar="SWEEP_FILE")
    sweep.add_argument("-o", "--output-path", default="runs", metavar="DIR", help="folder of all runs (default: runs)")
    sweep.add_argument("--executor", default="local", choices=("local", "ray"), help="who runs cells (default: local)")
    sweep.add_argument("--workers", type=int, metavar="N", help="cells at a time (default: as many as fit)")
    sweep.add_argument("--address", metavar="A", help="with --executor ray: of a cluster that runs already")
    sweep.add_argument("--overwrite", action="store_true", help="run again what is done")
    sweep.add_argument("--quiet", action="store_true", help="print nothing but failures")
    sweep.add_argument("--json", action="store_true", help="print what became of each cell as JSON")

    board = verb(
        "leaderboard", _leaderboard, "build a leaderboard from reports, or check a report by computing it again"
    )
    board.add_argument("action", choices=("build", "check"))
    board.add_argument("reports", nargs="+", metavar="REPORT", help="a report.json, or a folder that holds some")
    board.add_argument("-o", "--output-path", metavar="DIR", help="build: folder of the leaderboard's files")
    board.add_argument("--format", default="simple", metavar="F", help="of printed tables: simple, github, latex, ...")
    board.add_argument("--export", metavar="SCHEMA", help="build: also write each report as every-eval-ever has it")
    board.add_argument("--rerun", action="store_true", help="check: train and diagnose the cell again and compare")
    board.add_argument("--quiet", action="store_true", help="print nothing but warnings")
    board.add_argument("--json", action="store_true", help="print as JSON")

    new = verb("new", _new, "start a plugin package of your own, with its test")
    new.add_argument("kind", choices=("task", "diagnostic"))
    new.add_argument("name", metavar="NAME", help="lower-case letters, digits and underscores")
    new.add_argument("--folder", default=".", metavar="DIR", help="where to put it (default: here)")
    top.set_defaults(subparsers=verbs)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a verb; returns the exit code."""
    given = _hyphens(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    try:
        top = parser()
        _add_plugin_verbs(top, given)
        options = top.parse_args(given)
        code: int = options.verb(options)
        return code
    except UserError as error:
        if debug:
            raise
        lines = str(error).splitlines()
        print("\n".join(f"rote-bench: {line}" for line in lines), file=sys.stderr)
        return WRONG_INPUT
    except KeyboardInterrupt:
        print("rote-bench: interrupted; the same command goes on from here", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output went away, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except Exception as error:  # the last resort: a failed run is one line unless --debug asks for more
        if debug:
            raise
        print(f"rote-bench: failed: {type(error).__name__}: {error} (--debug shows where)", file=sys.stderr)
        return INCOMPLETE


def _add_plugin_verbs(top: argparse.ArgumentParser, given: Sequence[str]) -> None:
    """Let plugins add verbs, unless the verb is built in, which then starts without loading any."""
    verbs = top.get_default("subparsers")
    first = next((a for a in given if not a.startswith("-")), None)
    if first is None or first in verbs.choices:
        return
    from .plugins import load

    load().add_verbs(verbs)
