"""The page of a run: whole without network or scripts, deaf to what a report wants of it, and readable by anyone."""

from __future__ import annotations

import base64
import json
import re
import shlex
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import html5lib
import pytest
import yaml
from PIL import Image

from rote_bench.cli import main
from rote_bench.cli.verbs import parser
from rote_bench.pipeline import lessons
from rote_bench.plugins import Registry
from rote_bench.reading import load_report, show_html
from rote_bench.report import again, figures
from rote_bench.report.page import MOST, Asked, Picture, examples, picture, render
from rote_bench.report.record import DiagnosticEntry, Finding, Report
from rote_bench.report.schema import read
from rote_bench.report.schema import write as to_json
from rote_bench.spec.loader import load_task

from ..browser import all_of, asked_nobody, chromium, resize, violations, write
from ..reports import metric, report

if TYPE_CHECKING:
    from rote_bench.pipeline.cell import Cell

HOSTILE = '</style></code><svg onload="window.hurt=1"><script>window.hurt=1</script><!-- \' " & \u2028 {{ 7*7 }}'
KEPT = ("status", "verdict", "sha256", "hash", "content_hash", "fingerprint", "request", "source", "settle", "way")


def with_text(value: Any, text: str, key: str = "") -> Any:
    """The same with every text replaced but those that the schema knows all of, and names of a report's own choice."""
    if isinstance(value, dict):
        return {k: with_text(v, text, k) for k, v in value.items()}
    if isinstance(value, list):
        return [with_text(v, text, key) for v in value]
    return text if isinstance(value, str) and key not in (*KEPT, "stop_reason", "weights") else value


def full(**given: Any) -> Report:
    """A report with something in every part."""
    made = report(
        {"validation_accuracy": metric(0.9, 0.8, 0.95), "phantom_rate": metric(0.01), "override_depth": None},
        details={"learning_dynamics": {"curve": []}},
        **given,
    )
    failed = DiagnosticEntry("failed", "RuntimeError: by hand", 1, 2.0, (), {})
    finding = Finding("both_computed", "A claim.", "Somebody, 2025", "inconclusive", "by hand", ("override_depth",))
    return replace(
        made,
        diagnostics={**made.diagnostics, "probe": failed},
        findings=(finding,),
        warnings=("mind this",),
    )


@pytest.fixture
def drawn(tmp_path: Path) -> Picture:
    return draw(tmp_path / "figure.png", "Half of the “questions” – 50 % – are right")


def draw(file: Path, sentence: str) -> Picture:
    with figures.about("thr, m"), figures.drawing(file, 1, 4, 3) as (figure, _):
        figures.title(figure, sentence)
    found = picture(file)
    assert found is not None
    return found


def page(drawn: Picture, registry: Registry, made: Report | None = None) -> str:
    asked = [Asked("train_noisy", "e1 r1 r2", "e5", "e6", "e6", "wrong label")]
    return render(made or full(), registry, pictures={"learning_dynamics": drawn}, asked=asked)


def elements(text: str) -> list[tuple[str, Mapping[str, str]]]:
    tree = html5lib.HTMLParser(strict=True, namespaceHTMLElements=False).parse(text)
    return [(str(node.tag), node.attrib) for node in tree.iter() if isinstance(node.tag, str)]


def test_figures_carry_their_sentence_unfolded_in_any_script(tmp_path: Path) -> None:
    for sentence in ("Right on 97 % of questions, " * 6 + "in all", "weiß – “ja” – ρ ≤ .1"):
        found = draw(tmp_path / "x.png", sentence)
        with Image.open(tmp_path / "x.png") as image:
            assert found.sentence == sentence == image.info["Title"]
            assert (found.width, found.height) == image.size


def test_the_page_is_html_in_order_and_fetches_nothing(drawn: Picture, registry: Registry) -> None:
    text = page(drawn, registry)
    found = elements(text)
    levels = [int(tag[1]) for tag, _ in found if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1 and all(b <= a + 1 for a, b in pairwise(levels))
    identifiers = re.findall(r'\sid="([^"]+)"', text)
    assert len(identifiers) == len(set(identifiers))
    assert set(re.findall(r'(?:href="#|aria-labelledby=")([^"]+)"', text)) <= set(identifiers)
    assert "script" not in {tag for tag, _ in found}
    assert re.findall(r"https?://", text) == [] and "url(" not in text and "@import" not in text
    for tag, attributes in found:
        assert all(value.startswith("data:image/png;base64,") for key, value in attributes.items() if key == "src"), tag
    (image,) = [attributes for tag, attributes in found if tag == "img"]
    assert image["alt"] == drawn.sentence
    assert base64.b64decode(image["src"].partition(",")[2]) == drawn.data


def test_the_page_says_what_the_report_says(drawn: Picture, registry: Registry) -> None:
    text = " ".join(html5lib.parse(page(drawn, registry), namespaceHTMLElements=False).itertext())
    text = " ".join(text.split())
    said = (
        "0.900 [0.800, 0.950]",  # a value with its interval
        "not measured",  # why there is no value
        "made by hand",  # why there is no interval
        "A claim. by hand The claims are those of Somebody, 2025",
        "mind this",
        "probe failed: RuntimeError: by hand",
        "gives a wrong label it was never taught (control)",
        "e6 , the wrong label",
        "5 % wrong labels, seed 0",
    )
    assert [each for each in said if each not in text] == []


@pytest.mark.parametrize("status", ["failed", "interrupted"])
def test_a_run_that_did_not_end_says_so_first(status: Any, registry: Registry) -> None:
    text = render(report(status=status), registry)
    elements(text)
    assert f"This run is {status}" in text and "RuntimeError: by hand" in text


def test_texts_of_a_report_stay_text(registry: Registry, drawn: Picture) -> None:
    plain = [(tag, sorted(attributes)) for tag, attributes in elements(page(drawn, registry))]
    data = to_json(full())
    data["metrics"][HOSTILE] = data["metrics"]["phantom_rate"]
    data["metrics"] = with_text(data["metrics"], HOSTILE)
    for part in ("task", "model", "findings", "environment", "error", "warnings", "diagnostics"):
        data[part] = with_text(data[part], HOSTILE)
    data["model"]["source"], data["warnings"] = "scratch", [HOSTILE, "half of a character: \ud800"]
    data["diagnostics"]["probe"]["reason"] = HOSTILE
    made = replace(read(data), diagnostics={**read(data).diagnostics, HOSTILE: full().diagnostics["probe"]})
    asked = [Asked("train_noisy", HOSTILE, HOSTILE, HOSTILE, HOSTILE, "neither")]
    hostile = replace(drawn, sentence=HOSTILE)
    text = render(made, registry, pictures={"learning_dynamics": hostile}, asked=asked)
    assert text.encode()
    found = [(tag, sorted(attributes)) for tag, attributes in elements(text)]
    assert {tag for tag, _ in found} <= {tag for tag, _ in plain}
    assert not any(name.startswith("on") for _, names in found for name in names)
    assert "{{ 7*7 }}" in text and "<svg" not in text and "<script" not in text


def test_a_page_has_an_end(registry: Registry, drawn: Picture) -> None:
    many = {f"metric_{i}": metric(0.5) for i in range(5000)}
    made = replace(
        report(many), warnings=("w" * 100_000,) * 5000, error="e" * 10**6, task=replace(report().task, name="n" * 10**6)
    )
    big = replace(drawn, data=drawn.data + bytes(3 << 20))
    text = render(made, registry, pictures={f"p{i}": big for i in range(50)})
    assert len(text) < 40 << 20
    assert text.count("<tr>") < 2 * MOST + 50 and "and 4700 more" in text


def test_what_is_no_picture_is_none(tmp_path: Path, drawn: Picture) -> None:
    for name, data in (("a", b"GIF89a"), ("b", b""), ("c", drawn.data[:20]), ("d", drawn.data + bytes(4 << 20))):
        (tmp_path / name).write_bytes(data)
        assert picture(tmp_path / name) is None
    (tmp_path / "link").symlink_to(tmp_path / "figure.png")
    assert picture(tmp_path / "link") is None and picture(tmp_path / "nowhere") is None
    (tmp_path / "not.parquet").write_bytes(b"PAR1")
    assert examples(tmp_path / "not.parquet") == []


def test_a_page_does_not_outlive_its_report(tmp_path: Path) -> None:
    for name in ("report.json", "report.html", "notes.html"):
        (tmp_path / name).write_text("x")
    lessons.clear(cast("Cell", SimpleNamespace(folder=tmp_path)))
    assert [file.name for file in tmp_path.iterdir()] == ["notes.html"]


# A cell that was really run ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def copied(thr_cell: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("copied") / "cell"
    shutil.copytree(thr_cell, folder, ignore=shutil.ignore_patterns("checkpoints"))
    return folder


def test_show_html_writes_beside_the_report_and_prints_where(
    copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["show", str(copied), "--html"]) == 0
    out, err = capsys.readouterr()
    text = (copied / "report.html").read_text()
    assert out.strip() == str(copied / "report.html") and err == ""  # every figure is there: none is drawn anew
    assert main(["show", str(copied / "report.json"), "--html", str(tmp_path / "x.html")]) == 0
    assert (tmp_path / "x.html").read_text() == text
    capsys.readouterr()
    assert main(["show", str(copied), "--html", "-"]) == 0
    assert capsys.readouterr().out == text
    images = [attributes for tag, attributes in elements(text) if tag == "img"]
    assert len(images) == len(list((copied / "figures").glob("*.png")))
    assert all(len(image["alt"]) > 20 for image in images)
    first = picture(copied / "figures" / "learning_dynamics.png")
    assert first is not None and images[0]["alt"] == first.sentence
    (copied / "report.html").unlink()


def test_figures_that_are_not_those_of_the_report_are_drawn_anew(
    copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "cell"
    shutil.copytree(copied, folder)
    whole = show_html(folder)
    capsys.readouterr()
    other = draw(tmp_path / "other.png", "Another sentence")
    (folder / "figures" / "learning_dynamics.png").write_bytes(other.data)
    (folder / "figures" / "erasure.png").unlink()
    (folder / "samples.parquet").unlink()
    text = show_html(folder)
    assert capsys.readouterr().err == "drawing learning_dynamics, erasure\n"
    assert "Another sentence" not in text and text.count("<img") == whole.count("<img")
    assert 'id="questions"' in whole and 'id="questions"' not in text
    assert not (folder / "figures" / "erasure.png").exists()  # nothing but the page is written


def test_the_questions_are_those_of_the_file(copied: Path) -> None:
    import pyarrow.parquet

    rows = pyarrow.parquet.read_table(copied / "samples.parquet").to_pylist()
    for one in examples(copied / "samples.parquet"):
        first = next(row for row in rows if row["split"] == one.kind)
        assert (one.prompt, one.answer, one.label) == (first["prompt"], first["answer"], first["label"])
        assert one.given == ("true answer" if first["is_answer"] else "wrong label" if first["is_label"] else "neither")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--html", "report.json"], "ends in .html"),
        (["--html", "nowhere/report.txt"], "ends in .html"),
        (["--html", "/proc/nowhere/x.html"], "cannot be written"),
    ],
)
def test_a_page_goes_in_the_place_of_no_other_file(
    arguments: list[str], says: str, copied: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(copied)
    before = (copied / "report.json").read_bytes()
    assert main(["show", ".", *arguments]) == 2
    assert says in capsys.readouterr().err and (copied / "report.json").read_bytes() == before


def test_a_folder_of_reports_has_no_page(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(copied.parent), "--html"]) == 2
    assert "a page shows one" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["show", str(copied), "--html", "--json"])


# The command that makes it again ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("profile", "overrides"),
    [
        (None, []),
        ("quick", ["training.max_steps=400", "training.schedule.settle=twin", "seeds.order=7"]),
        ("compact", ["diagnostics=[logit_lens, {erasure: {examples: 20}}]", 'title="it\'s # so"', "seeds.noise=3"]),
    ],
)
def test_the_command_asks_for_the_same_task_again(
    profile: str | None, overrides: list[str], registry: Registry
) -> None:
    spec = load_task("thr", registry, profile=profile, overrides=overrides)
    made = report(rate=0.1)
    resolved = json.loads(json.dumps(spec.resolved()))
    made = replace(made, task=replace(made.task, name="thr", spec=resolved), seeds=spec.seeds)
    said = again.command(made, registry)
    assert said is not None
    options = parser().parse_args(shlex.split(said)[1:])
    seeds = [f"seeds={{data: {s}, noise: {s}, init: {s}, order: {s}, bootstrap: {s}}}" for s in options.seed]
    found = load_task(options.task, registry, profile=options.profile, overrides=[*options.set, *seeds])
    assert found.resolved() == spec.resolved() and (options.task, options.noise_rate) == ("thr", [0.1])
    assert "it's" in said or len(said) < 700


def test_a_task_that_is_not_at_hand_comes_as_its_file(copied: Path, registry: Registry, tmp_path: Path) -> None:
    made = load_report(copied).record
    said = again.command(made, registry)
    assert said is not None and said.startswith("rote-bench run task.yaml --model gpt2-nano --noise-rate 0.05 --seed 0")
    (tmp_path / "task.yaml").write_text(again.task_file(made))
    found = load_task(tmp_path / "task.yaml", registry)
    assert found.content_hash() == made.task.content_hash
    resolved = json.loads(json.dumps(found.resolved()))
    assert {**resolved, "seeds": None, "profile": None} == {**made.task.spec, "seeds": None, "profile": None}
    assert yaml.safe_load(again.task_file(made))["name"] == made.task.name


def test_a_report_names_no_file_of_its_readers_machine(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text("name: mine\ngenerator: addition\nsplits: {train: 9, validation: 5}\n")
    made = replace(report(), task=replace(report().task, name="mine.yaml", spec={"name": "mine.yaml"}))
    monkeypatch.setattr("rote_bench.spec.loader.load_task", lambda *args, **kwargs: pytest.fail("read a file"))
    assert (again.command(made, registry) or "").split()[2] == "task.yaml"


# In a browser -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    yield from chromium(tmp_path_factory.mktemp("profile"))


def test_in_a_browser_nothing_is_asked_or_amiss(browser: Any, copied: Path, tmp_path: Path, registry: Registry) -> None:
    address = write(tmp_path, show_html(copied))
    browser.get_log("performance")
    browser.get_log("browser")
    for width in (320, 400, 1280):
        resize(browser, width)
        browser.get(address)
        for node in all_of(browser, "details:not([open]) > summary"):
            node.click()
        root = "document.documentElement"
        needed, given, whole = browser.execute_script(f"return [{root}.scrollWidth, {root}.clientWidth, innerWidth]")
        assert needed <= given <= whole == width
        assert all(
            browser.execute_script("return arguments[0].naturalWidth", image) for image in all_of(browser, "img")
        )
    asked_nobody(browser)
    for scheme in ("light", "dark"):
        feature = {"name": "prefers-color-scheme", "value": scheme}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
        browser.get(address)
        assert violations(browser) == []
