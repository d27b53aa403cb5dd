"""The command line: one short function per verb that parses, calls the API and prints."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any

from ..errors import UserError
from .arguments import DONE, WRONG_INPUT, make_parser

INCOMPLETE, INTERRUPTED = 1, 130


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
    from .. import api
    from ..machine import keep_memory
    from ..pipeline.settings import Settings
    from ..progress import Progress

    progress = Progress(quiet=options.quiet or options.json, debug=options.debug)
    keep_memory()
    given: dict[str, Any] = {
        "model": options.model,
        "noise_rates": options.noise_rate,
        "seeds": options.seed,
        "profile": options.profile,
        "overrides": options.set,
        "plugins": options.plugin,
        "twin": options.twin,
        "settings": Settings.picked({**vars(options), "forks": True}),
    }
    if options.dry_run:
        from ..pipeline.expect import table

        cells = api.expect_cells(options.task, progress=Progress(quiet=True, debug=options.debug), **given)
        if options.json:
            _dump([{"folder": str(f), "expected": None if each is None else each.plain()} for f, each in cells.items()])
        elif not options.quiet:
            _say(table(cells))
        return DONE
    reports = api.run_cells(options.task, progress=progress, **given)
    if not reports:  # a process that only helped to train
        return DONE
    if options.json:
        _dump([r.data for r in reports] if len(reports) > 1 else reports[0].data)
    elif not options.quiet:
        from ..plugins import load
        from ..report.view import render

        measures = load(options.plugin, warn=lambda line: None).measures()
        for number, report in enumerate(reports):
            if number:
                _say("")
            _say(render(report.record, measures, color=sys.stdout.isatty(), twin=report.twin, brief=True))
            if any(finding.reason for finding in report.record.findings):
                _say(f"reasons  rote-bench show {report.folder}")
            _say(f"report   {report.folder / 'report.json'}")
            figures = len(list((report.folder / "figures").glob("*.png")))
            if figures:
                _say(f"figures  {report.folder / 'figures'} ({figures})")
    return DONE


def _validate(options: argparse.Namespace) -> int:
    from .. import api

    faults = api.validate(options.task_file, plugins=options.plugin)
    for fault in faults:
        print(fault, file=sys.stderr)
    if not faults:
        _say("\n".join(f"{file}: valid" for file in options.task_file))
        for remark in api.remarks(options.task_file, plugins=options.plugin):
            _say(remark)
    return WRONG_INPUT if faults else DONE


def _list(options: argparse.Namespace) -> int:
    from .. import api, terminal

    items = api.listing(options.kind, plugins=options.plugin)
    if options.json:
        _dump(items)
        return DONE
    columns = terminal.width()
    if options.kind == "models":
        from ..models.names import SIZES, known_types

        pretrained = "hf:NAME_OR_PATH[@REVISION]  pretrained weights from a folder, the local cache or the hub"
        random = f"<model_type>-<size>         random weights; sizes {', '.join(SIZES)}; types:"
        hang = " " * (28 if columns >= 70 else 2)
        _say("\n".join([*terminal.fold(pretrained, columns, hang=hang), *terminal.fold(random, columns, hang=hang)]))
        _say("\n".join(terminal.fold(", ".join(sorted(known_types())), columns, "  ")))
        extra = [i for i in items if i["source"] != "built-in"]
        if extra:
            named = "from plugins: " + ", ".join(f"{i['name']} ({i['source']})" for i in extra)
            _say("\n".join(terminal.fold(named, columns, hang="  ")))
        return DONE
    heads = ["name", "source", *(["status"] if options.kind == "plugins" else []), "description"]
    _say(terminal.grid(heads, [[str(i[head]) for head in heads] for i in items], columns))
    return DONE


def _data(options: argparse.Namespace) -> int:
    from .. import api

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
    from .. import api
    from ..progress import Progress

    if (options.model is None) != options.all:
        raise UserError("name a model, or give --all", where="check-model")
    if options.all:
        results = api.check_models(options.size, plugins=options.plugin, progress=Progress().stage)
    else:
        results = [api.check_model(options.model, plugins=options.plugin, trust_remote_code=options.trust_remote_code)]
    if options.json:
        _dump({"models": results})
    elif options.all:
        from ..models.survey import table

        _say(table(results, options.size))
    else:
        _print_check(results[0])
    good = ("proved", "refused") if options.all else ("proved",)
    return DONE if all(r["status"] in good for r in results) else INCOMPLETE


def _print_check(result: dict[str, Any]) -> None:
    from .. import terminal

    def say(text: str, indent: str = "") -> None:
        _say("\n".join(terminal.fold(text, terminal.width(), indent, f"{indent}       ")))

    say(f"{result['name']}: {result['status']}" + (f", {result['reason']}" if result["reason"] else ""))
    if result["parameters"] is not None:
        say(f"{result['parameters']:,} parameters")
    for name, check in result["checks"].items():
        say(f"{'holds' if check['ok'] else 'FAILS'}  {name}: {check['detail']}", "  ")


def _show(options: argparse.Namespace) -> int:
    from .. import api

    if options.html == "-":
        _say(api.show_html(options.path, plugins=options.plugin))
    elif options.html is not None:
        from ..reading import save_html

        _say(str(save_html(options.path, options.html or None, plugins=options.plugin)))
    elif options.json:
        _dump(api.show_data(options.path))
    else:
        _say(api.show(options.path, style=options.format, color=sys.stdout.isatty()))
    return DONE


def _compare(options: argparse.Namespace) -> int:
    from .. import api

    found = api.compare(options.first, options.second)
    if options.json:
        _dump(found.entry())
    else:
        _say(found.table(options.format))
    return DONE


def _plot(options: argparse.Namespace) -> int:
    from .. import api

    for figure in api.plot(options.path, plugins=options.plugin):
        _say(str(figure))
    return DONE


def _new(options: argparse.Namespace) -> int:
    from .. import api

    folder = api.new(options.kind, options.name, folder=options.folder)
    _say(f"{folder}: a package with its test; its README says what to do next")
    return DONE


def _sweep(options: argparse.Namespace) -> int:
    from .. import api

    if options.dry_run:
        return _expect_sweep(options)
    result = api.sweep_cells(
        options.sweep_file,
        output_path=options.output_path,
        executor=options.executor,
        workers=options.workers,
        stack=options.stack,
        address=options.address,
        plugins=options.plugin,
        overwrite=options.overwrite,
        rediagnose=options.rediagnose,
        quiet=options.quiet or options.json,
    )
    if options.json:
        _dump(result)
    elif not options.quiet:
        from ..sweep.record import closing

        _say(closing(result, options.output_path))
    return DONE if result["complete"] else INCOMPLETE


def _expect_sweep(options: argparse.Namespace) -> int:
    from .. import api
    from ..sweep.foresee import plain, table

    if options.rediagnose:
        raise UserError("tells what training takes", where="--dry-run", hint="leave out --rediagnose")
    if options.executor != "local":
        raise UserError(
            "what a cluster takes is not told from here", where="--dry-run", hint="leave out --executor ray"
        )
    found, seconds = api.expect_sweep(
        options.sweep_file,
        output_path=options.output_path,
        workers=options.workers,
        plugins=options.plugin,
        overwrite=options.overwrite,
        quiet=options.quiet or options.json,
    )
    if options.json:
        _dump(plain(found, seconds))
    elif not options.quiet:
        _say(table(found, seconds))
    return DONE


def _schema(options: argparse.Namespace) -> int:
    from .. import api

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
    from .. import api
    from ..leaderboard import build, tables
    from ..progress import Progress

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
    from .. import api
    from ..leaderboard.check import reports_of
    from ..progress import Progress

    given = {"plugins": options.plugin, "progress": Progress(quiet=options.quiet or options.json, debug=options.debug)}
    reports = [report for place in options.reports for report in reports_of(place)]
    checks = [api.check_report(report, rerun=options.rerun, **given) for report in reports]
    if options.json:
        _dump([check.entry() for check in checks])
    elif not options.quiet:
        _say("\n\n".join(check.table(options.format) for check in checks))
    return DONE if all(check.holds for check in checks) else INCOMPLETE


ACTIONS = {
    "run": _run,
    "validate": _validate,
    "list": _list,
    "data": _data,
    "check-model": _check_model,
    "show": _show,
    "compare": _compare,
    "plot": _plot,
    "schema": _schema,
    "sweep": _sweep,
    "leaderboard": _leaderboard,
    "new": _new,
}


def parser() -> argparse.ArgumentParser:
    """The parser of all built-in verbs."""
    return make_parser(ACTIONS)


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
    from ..plugins import load

    load().add_verbs(verbs)
