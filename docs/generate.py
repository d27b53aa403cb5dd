"""Writes the pages that are made from the code: ``python docs/generate.py``; tests compare them with what it makes."""

from __future__ import annotations

import argparse
import inspect
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import rote_bench
from rote_bench import plugins
from rote_bench.cli import parser
from rote_bench.spec.loader import shipped
from rote_bench.spec.options import describe

FOLDER = Path(__file__).parent
NOTE = "*Made by `python docs/generate.py`; change the code, not this page.*"


def cell(value: Any) -> str:
    """Text for one cell of a table."""
    return " ".join(str(value).split()).replace("|", "\\|").replace("<", "&lt;")


def table(heads: Iterable[str], rows: Iterable[Iterable[Any]]) -> list[str]:
    heads = list(heads)
    return [
        f"| {' | '.join(heads)} |",
        f"|{'---|' * len(heads)}",
        *(f"| {' | '.join(cell(value) for value in row)} |" for row in rows),
        "",
    ]


def command_line() -> str:
    """Every verb with its arguments; not argparse's own text, which differs between versions of Python."""
    lines = ["# Command line", "", NOTE, ""]
    lines += [
        "Flags may be written with underscores. Exit codes: 0 done, 1 a run failed or is incomplete, or a check found a"
    ]
    lines += ["difference, 2 the input is wrong, 3 a check found none and left something out, 130 interrupted, 143"]
    lines += ["terminated. Results go to standard output, progress and messages to standard error.", ""]
    top = parser()
    verbs = top.get_default("subparsers")
    helps = {action.dest: action.help for action in verbs._choices_actions}
    for name, verb in verbs.choices.items():
        positional = [a for a in verb._actions if not a.option_strings]
        words = [f"rote-bench {name}"]
        for action in positional:
            shown = "|".join(action.choices) if action.choices else action.metavar or action.dest
            words.append({"?": f"[{shown}]", "+": f"{shown}..."}.get(str(action.nargs), shown))
        lines += [f"## {name}", "", f"{str(helps[name]).capitalize()}.", "", f"    {' '.join(words)}", ""]
        rows = []
        for action in verb._actions:
            if not action.help or isinstance(action, argparse._HelpAction):
                continue
            flag = ", ".join(f"`{o}`" for o in action.option_strings) or f"`{action.metavar or action.dest}`"
            takes = action.metavar or ("|".join(map(str, action.choices)) if action.choices else "")
            rows.append(
                [flag, f"`{takes}`" if takes and action.option_strings and action.nargs != 0 else "", action.help]
            )
        lines += table(["flag", "value", "meaning"], rows)
    return "\n".join(lines)


def options(cls: type, title: str = "key") -> list[str]:
    """The fields of an options class."""
    found = describe(cls)
    if not found:
        return ["It has no options.", ""]
    rows = []
    for option in found:
        default = "required" if option.required else "null" if option.default is None else option.default
        if hasattr(default, "__dataclass_fields__"):
            default = "see below"
        rows.append([f"`{option.name}`", option.type, default, option.description])
    return table([title, "type", "default", "meaning"], rows)


def spec_keys() -> str:
    """Every key of a task file, from the schema and from the classes that its sections build."""
    from rote_bench.spec.model import Recipe, Schedule, Seeds

    schema = rote_bench.schema("task")
    registry = plugins.built_in()
    lines = ["# Task files", "", NOTE, "", schema["description"], ""]
    lines += [
        "A task file may extend another (`extends`) and be overridden by a profile and by `--set PATH=VALUE`, in this"
    ]
    lines += ["order; unknown and duplicate keys are errors. `rote-bench schema task` prints the JSON schema.", ""]
    required = set(schema["required"])
    lines += ["## Keys", ""]
    lines += table(
        ["key", "required", "meaning"],
        (
            [f"`{key}`", "yes" if key in required else "", part["description"]]
            for key, part in schema["properties"].items()
        ),
    )
    for key in ("splits", "noise", "model"):
        lines += [f"## {key}", ""]
        properties = schema["properties"][key]["properties"]
        lines += table(["key", "meaning"], ([f"`{name}`", part["description"]] for name, part in properties.items()))
    for title, cls in (("training", Recipe), ("training.schedule", Schedule), ("seeds", Seeds)):
        lines += [f"## {title}", "", *options(cls)]
    lines += ["## Generators and their parameters", ""]
    for name, task in sorted(registry.table("tasks").items()):
        lines += [f"### {name}", "", task.description, "", *options(task.Parameters)]
    lines += ["## Kinds of noise and their options", ""]
    for name, kind in sorted(registry.table("noise").items()):
        lines += [
            f"### {name}",
            "",
            f"{kind.description[0].upper()}{kind.description[1:]}.",
            "",
            *options(kind.Options),
        ]
    lines += ["## Diagnostics and their options", ""]
    for name, diagnostic in sorted(registry.table("diagnostics").items()):
        text = diagnostic.description
        lines += [f"### {name}", "", f"[{text[0].upper()}{text[1:]}](diagnostics/{name}.md).", ""]
        lines += options(diagnostic.Options)
    return "\n".join(lines)


def gallery() -> str:
    """Every shipped task and profile with three of its examples."""
    lines = ["# Tasks", "", NOTE, ""]
    lines += [
        "Three training questions of each shipped task and profile, wrong labels first. The intermediate results are"
    ]
    lines += ["never shown to a model. More tasks are among the [example plugins](../plugins/README.md).", ""]
    registry = plugins.built_in()
    for name, file in shipped().items():
        profiles = next(t for t in rote_bench.listing("tasks") if t["name"] == name)["profiles"]
        spec = rote_bench.load_task(file, registry=registry)
        lines += [f"## {name}", "", f"{spec.title}. {spec.description}", ""]
        for profile in (None, *profiles):
            if profile is not None:
                own = rote_bench.load_task(file, profile=profile, registry=registry)
                lines += [f"### {name} --profile {profile}", "", f"{own.title}.", ""]
            rows = []
            for e in rote_bench.data(file, n=3, profile=profile):
                inner = ", ".join(f"{k} = {v}" for k, v in e["intermediates"].items())
                rows.append([f"`{e['prompt']}`", e["answer"], e["label"] if e["noisy"] else "", inner])
            lines += table(["question", "answer", "taught instead", "on the way"], rows)
    return "\n".join(lines)


def diagnostics() -> str:
    """The table of diagnostics, each with the question that its own page opens with, and that of all metrics."""
    lines = ["# Diagnostics", "", NOTE, ""]
    rows = []
    for name, diagnostic in plugins.built_in().table("diagnostics").items():
        page = (FOLDER / "diagnostics" / f"{name}.md").read_text(encoding="utf-8")
        question = " ".join(page.split("\n\n")[1].partition("?")[0].split()) + "?"
        rows.append([f"[`{name}`]({name}.md)", question, diagnostic.description])
    lines += table(["name", "question", "what is measured"], rows)
    lines += ["Each page gives formulas, controls, cost and sources; options stand among the"]
    lines += ["[keys of a task file](../task-files.md#diagnostics-and-their-options). Adding one: see"]
    lines += ["[Writing a plugin](../plugins.md#a-diagnostic).", "", "## Metrics", ""]
    registry = plugins.built_in()
    owner = {m.name: f"[`{d.name}`]({d.name}.md)" for d in registry.table("diagnostics").values() for m in d.metrics}
    lines += table(
        ["metric", "what it says", "measured on", "least and largest", "better", "interval", "diagnostic"],
        (
            [
                f"`{m.name}`",
                m.meaning,
                m.split,
                "" if m.bounds is None else f"{m.bounds[0]:g} to {m.bounds[1]:g}",
                {True: "more", False: "less", None: ""}[m.higher_is_better],
                "none: " + m.interval if isinstance(m.interval, str) else "95 %",
                owner.get(m.name, "none needed"),
            ]
            for m in registry.measures().values()
        ),
    )
    return "\n".join(lines)


def claims() -> str:
    """Every leaf of a report with what its truth rests on."""
    from rote_bench.leaderboard.claims import CLAIMS, RECOMPUTED, REPEATED, TRUST, leaves

    lines = ["# What a check can tell of a report", "", NOTE, ""]
    lines += [
        f"- *{RECOMPUTED}*: `rote-bench leaderboard check` makes it again from the report and the files beside it; a",
        "  report in which it alone was changed, with all hashes made again, does not hold.",
        f"- *{REPEATED}*: only `--rerun`, which trains the cell anew, can tell.",
        f"- *{TRUST}*: nobody can tell but who made the report.",
        "",
        "Leaves that hang together can be changed together. Whoever makes up answers, learning curve and every record",
        "alike has a report that agrees with itself, and a check confirms that it does. The repeated run is what such",
        "a report fails.",
        "",
        "`*` stands for a name or a place in a list.",
        "",
    ]
    rows = ([f"`{leaf}`", CLAIMS[leaf].kind, CLAIMS[leaf].how] for leaf in leaves())
    return "\n".join([*lines, *table(["of a report", "is", "by what, or why not"], rows)])


FIRST_STEPS = """
```python
import rote_bench

report = rote_bench.run("thr", model="gpt2-nano", profile="quick")
report  # a notebook shows the result, the curve, the verdicts and the metrics
report.value("memorization_rate")
report.metrics_frame(), report.curve(), report.samples()  # pandas
report.records("activation_patching")  # what a diagnostic kept of each example
report.figures  # a notebook shows them
after = report.load("post")  # model, tokenizer; .noisy, .clean, .validation, encoded, with named positions
```

A notebook shows a bar below the cell instead of lines on standard error. `overrides` may be a mapping,
`{"training.max_steps": 60}`. Nothing is changed for the caller: threads, random generators, logging, warnings,
environment and the backend of matplotlib are as they were. [Two notebooks](notebooks/README.md) show a first look,
and a snapshot opened in TransformerLens and nnsight.
""".strip()
SECTIONS = ("Args", "Attributes", "Returns", "Raises")


def python() -> str:
    """Every public name with its signature and what its docstring says."""
    lines = ["# Python", "", NOTE, "", *FIRST_STEPS.splitlines(), ""]
    public = {name: getattr(rote_bench, name) for name in rote_bench.__all__}
    classes = {name: each for name, each in public.items() if inspect.isclass(each)}
    lines += ["## Functions", ""]
    for name, function in public.items():
        if name not in classes and inspect.isfunction(function):
            lines += [f"### {name}", "", *signature(name, function), *documented(function)]
    from rote_bench.opening import Snapshot
    from rote_bench.pipeline.settings import Settings

    lines += ["## Classes", ""]
    for name, cls in {**classes, "Settings": Settings, "Snapshot": Snapshot}.items():
        lines += [f"### {name}", "", *documented(cls)]
        for key, member in vars(cls).items():
            if key.startswith("_") or not (isinstance(member, property) or inspect.isfunction(member)):
                continue
            if isinstance(member, property):
                lines += [f"`{key}`: {' '.join(documented(member))}".rstrip(), ""]
            else:
                lines += [*signature(f"{name}.{key}", member), *documented(member)]
    return "\n".join(lines)


def signature(name: str, function: Any) -> list[str]:
    """As it is called, one parameter a line where it is long."""
    parts, before = [], None
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name == "self":
            continue
        star = "**" if parameter.kind is parameter.VAR_KEYWORD else ""
        if parameter.kind is parameter.KEYWORD_ONLY and before not in (
            parameter.KEYWORD_ONLY,
            parameter.VAR_POSITIONAL,
        ):
            parts.append("*")
        before = parameter.kind
        given = "..." if callable(parameter.default) else repr(parameter.default)
        default = "" if parameter.default is parameter.empty else f" = {given}"
        annotation = "" if star else f": {parameter.annotation}"
        parts.append(f"{star}{parameter.name}{annotation}{default}")
    returned = inspect.signature(function).return_annotation
    whole = f"{name}({', '.join(parts)}) -> {returned}"
    if len(whole) > 110:
        whole = "\n".join([f"{name}(", *(f"    {part}," for part in parts), f") -> {returned}"])
    return ["```python", *whole.splitlines(), "```", ""]


def documented(thing: Any) -> list[str]:
    """A docstring as Markdown: its sections as lists."""
    text = inspect.getdoc(thing) or ""
    parts = re.split(rf"^({'|'.join(SECTIONS)}):$", text, flags=re.MULTILINE)
    lines = [re.sub(r"``(.+?)``", r"`\1`", parts[0]).strip(), ""]
    for title, body in zip(parts[1::2], parts[2::2], strict=True):
        if title in ("Attributes", "Args"):
            lines += [*(f"- `{name}`: {said}" for name, said in entries(body)), ""]
        elif title == "Raises":
            lines += [f"Raises {'; '.join(f'`{name}` {said}' for name, said in entries(body))}", ""]
        else:
            lines += [f"{title}: {' '.join(body.split())}", ""]
    return [re.sub(r"``(.+?)``", r"`\1`", line) for line in lines]


def entries(body: str) -> Iterator[tuple[str, str]]:
    """``name: what it is`` of a docstring's section, each on one line; what is indented further belongs to it."""
    body = inspect.cleandoc(body)
    for entry in re.split(r"\n(?=\S)", body):
        name, _, said = entry.partition(":")
        yield name.strip(), " ".join(said.split())


PAGES = {
    "python.md": python,
    "cli.md": command_line,
    "task-files.md": spec_keys,
    "tasks.md": gallery,
    "diagnostics/README.md": diagnostics,
    "claims.md": claims,
}


def main() -> None:
    for name, make in PAGES.items():
        (FOLDER / name).write_text(make().rstrip() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
