"""The command line: one short function per verb that parses, calls the API and prints."""

from __future__ import annotations

import argparse
import os
from typing import Any

from ..errors import UserError
from ..terminal import near
from .arguments import DONE, WRONG_INPUT, make_parser
from .checking import check_reports
from .streams import colored, complain, dump, say

INCOMPLETE = 1


def _run(options: argparse.Namespace) -> int:
    from .. import api
    from ..machine import keep_memory
    from ..pipeline.settings import Settings
    from ..progress import Progress
    from ..spec.loader import override

    progress = Progress(quiet=options.quiet or options.json, debug=options.debug)
    keep_memory()
    given: dict[str, Any] = {
        "model": options.model,
        "noise_rates": options.noise_rate,
        "seeds": options.seed,
        "profile": options.profile,
        "overrides": [*([override(f"model.peft.kind={options.peft}", "--peft")] if options.peft else []), *options.set],
        "plugins": options.plugin,
        "twin": options.twin,
        "settings": Settings.picked({**vars(options), "forks": True}),
    }
    if options.dry_run:
        from ..pipeline.expect import table

        cells = api.expect_cells(options.task, progress=Progress(quiet=True, debug=options.debug), **given)
        if options.json:
            dump([{"folder": str(f), "expected": None if each is None else each.plain()} for f, each in cells.items()])
        elif not options.quiet:
            say(table(cells))
        return DONE
    reports = api.run_cells(options.task, progress=progress, **given)
    if not reports:  # a process that only helped to train
        return DONE
    if options.json:
        dump([r.data for r in reports] if len(reports) > 1 else reports[0].data)
    elif not options.quiet:
        from ..plugins import load
        from ..report.view import render

        measures = load(options.plugin, warn=lambda line: None).measures()
        for number, report in enumerate(reports):
            if number:
                say("")
            say(
                render(
                    report.record,
                    measures,
                    color=colored(),
                    twin=None if (twin := report.twin) is None else twin.record,
                    brief=True,
                )
            )
            if any(finding.reason for finding in report.record.findings):
                say(f"reasons  rote-bench show {near(report.folder)}")
            say(f"report   {near(report.folder / 'report.json')}")
            figures = len(list((report.folder / "figures").glob("*.png")))
            if figures:
                say(f"figures  {near(report.folder / 'figures')} ({figures})")
    return DONE


def _validate(options: argparse.Namespace) -> int:
    from .. import api
    from ..progress import Progress

    found = api.examine(options.task_file, plugins=options.plugin, progress=Progress())
    for fault in found.faults:
        complain(str(fault))
    if not found.faults:
        say("\n".join([*(f"{file}: valid" for file in options.task_file), *found.remarks]))
    return WRONG_INPUT if found.faults else DONE


def _list(options: argparse.Namespace) -> int:
    from .. import api, terminal

    items = api.listing(options.kind, plugins=options.plugin)
    if options.json:
        dump(items)
        return DONE
    columns = terminal.width()
    if options.kind == "models":
        from ..models.names import SIZES, known_types, registered_types

        pretrained = "hf:NAME_OR_PATH[@REVISION]  pretrained weights from a folder, the local cache or the hub"
        random = f"<model_type>-<size>         random weights; sizes {', '.join(SIZES)}; types:"
        hang = " " * (28 if columns >= 70 else 2)
        say("\n".join([*terminal.fold(pretrained, columns, hang=hang), *terminal.fold(random, columns, hang=hang)]))
        say("\n".join(terminal.fold(", ".join(sorted((*known_types(), *registered_types()))), columns, "  ")))
        extra = [i for i in items if i["source"] != "built-in"]
        if extra:
            named = "from plugins: " + ", ".join(f"{i['name']} ({i['source']})" for i in extra)
            say("\n".join(terminal.fold(named, columns, hang="  ")))
        return DONE
    heads = ["name", "source", *(["status"] if options.kind == "plugins" else []), "description"]
    say(terminal.grid(heads, [[str(i[head]) for head in heads] for i in items], columns))
    return DONE


def _data(options: argparse.Namespace) -> int:
    from .. import api
    from . import examples as examples_shown

    if options.export is not None:
        folder = api.export_data(
            options.task,
            options.export,
            noise_rate=options.noise_rate,
            profile=options.profile,
            overrides=options.set,
            plugins=options.plugin,
        )
        place = near(folder)
        say(f"{place}: Parquet files, a dataset card and a task file; rote-bench run {place} --model gpt2-nano")
        return DONE
    examples = api.data(
        options.task,
        split=options.split,
        n=options.n,
        noise_rate=options.noise_rate,
        profile=options.profile,
        overrides=options.set,
        plugins=options.plugin,
        model=options.model,
        trust_remote_code=options.trust_remote_code,
    )
    if options.json:
        dump(examples)
        return DONE
    for example in examples:
        say("\n".join(examples_shown.lines(example)))
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
        dump({"models": results})
    elif options.all:
        from ..models.survey import table

        say(table(results, options.size))
    else:
        _print_check(results[0])
    good = ("proved", "partial", "refused") if options.all else ("proved", "partial")
    return DONE if all(r["status"] in good for r in results) else INCOMPLETE


def _print_check(result: dict[str, Any]) -> None:
    from .. import terminal

    def told(text: str, indent: str = "") -> None:
        say("\n".join(terminal.fold(text, terminal.width(), indent, f"{indent}       ")))

    told(f"{result['name']}: {result['status']}" + (f", {result['reason']}" if result["reason"] else ""))
    if result["parameters"] is not None:
        told(f"{result['parameters']:,} parameters")
    for name, check in result["checks"].items():
        told(f"{'holds' if check['ok'] else 'FAILS'}  {name}: {check['detail']}", "  ")


def _show(options: argparse.Namespace) -> int:
    from .. import api

    if options.html == "-":
        say(api.show_html(options.path, plugins=options.plugin))
    elif options.html is not None:
        from ..reading import save_html

        say(str(save_html(options.path, options.html or None, plugins=options.plugin)))
    elif options.json:
        dump(api.show_data(options.path))
    else:
        say(api.show(options.path, style=options.format, color=colored()))
    return DONE


def _compare(options: argparse.Namespace) -> int:
    from .. import api

    found = api.compare(options.first, options.second)
    if options.json:
        dump(found.entry())
    else:
        say(found.table(options.format))
    return DONE


def _plot(options: argparse.Namespace) -> int:
    from .. import api

    for figure in api.plot(options.path, plugins=options.plugin):
        say(str(figure))
    return DONE


def _new(options: argparse.Namespace) -> int:
    from .. import api

    folder = api.new(options.kind, options.name, folder=options.folder)
    say(f"{near(folder)}: a package with its test; its README says what to do next")
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
        submitit=options.submitit,
        plugins=options.plugin,
        overwrite=options.overwrite,
        rediagnose=options.rediagnose,
        quiet=options.quiet or options.json,
    )
    if options.json:
        dump(result)
    elif not options.quiet:
        from ..sweep.record import closing

        say(closing(result, options.output_path))
    return DONE if result["complete"] else INCOMPLETE


def _expect_sweep(options: argparse.Namespace) -> int:
    from .. import api
    from ..sweep.foresee import plain, table

    if options.rediagnose:
        hint = "leave out --rediagnose, or ask `rote-bench run ... --rediagnose --dry-run` of one cell"
        raise UserError("of a sweep, it tells what training takes", where="--dry-run", hint=hint)
    if options.executor != "local":
        hint = f"leave out --executor {options.executor}"
        raise UserError("what a cluster takes is not told from here", where="--dry-run", hint=hint)
    found, seconds = api.expect_sweep(
        options.sweep_file,
        output_path=options.output_path,
        workers=options.workers,
        plugins=options.plugin,
        overwrite=options.overwrite,
        quiet=options.quiet or options.json,
    )
    if options.json:
        dump(plain(found, seconds))
    elif not options.quiet:
        say(table(found, seconds))
    return DONE


def _schema(options: argparse.Namespace) -> int:
    from .. import api

    dump(api.schema(options.which))
    return DONE


def _leaderboard(options: argparse.Namespace) -> int:
    building = options.action == "build"
    for_building = {"-o": options.output_path, "--export": options.export, "--comparison": options.comparison}
    foreign = {"--rerun": options.rerun, "--task": options.task} if building else for_building
    for flag in (flag for flag, given in foreign.items() if given):
        raise UserError(f"does not go with `leaderboard {options.action}`", where=flag)
    if building and options.output_path is None:
        raise UserError("says where the leaderboard goes and is missing", where="-o")
    return _build_leaderboard(options) if building else check_reports(options)


def _build_leaderboard(options: argparse.Namespace) -> int:
    from .. import api
    from ..leaderboard import build, tables
    from ..progress import Progress

    progress = Progress(quiet=options.quiet or options.json, debug=options.debug)
    board = api.build_leaderboard(
        options.reports,
        options.output_path,
        comparisons=options.comparison,
        export=options.export,
        plugins=options.plugin,
        workers=build.cores(),
        progress=progress,
    )
    if options.json:
        dump(board)
    elif not options.quiet:
        say(tables.plain(board, options.format))
        say("\n".join(f"written  {os.path.join(options.output_path, name)}" for name in build.FILES))
    return DONE if board["reports"]["counted"] else INCOMPLETE


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
