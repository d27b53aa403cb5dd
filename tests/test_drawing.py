"""Figures over seeds: which cells are drawn as one, what their own figure is given, and what is said of the rest."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rote_bench import drawing
from rote_bench.cli import main
from rote_bench.diagnostics.learning_dynamics import LearningDynamics
from rote_bench.report import figures
from rote_bench.report.record import Report
from rote_bench.report.schema import read
from rote_bench.report.write import save_report
from rote_bench.spec.model import Seeds

from .reports import report

PLUGIN = '''
import json
from rote_bench.plugin import Diagnostic, Measure, Result, hookimpl


class Traced(Diagnostic):
    """Keeps beside its figure what it was drawn of."""

    name = "traced"
    metrics = (Measure("traced_share", "a share", "validation"),)

    def run(self, subject):
        return Result({}, {})

    @staticmethod
    def draw(details, path):
        from rote_bench.report import figures

        with figures.drawing(path, 1, 4, 3) as (figure, (ax,)):
            figures.line(ax, [1, 2], details["line"], "black", "a line")
            figures.title(figure, f"Half of {details['n'] + 0} questions, at best {max(details['line']['value']):.2f}")
        with open(path.parent / "seen.json", "w") as file:
            json.dump(details, file)
        return True


@hookimpl
def register_diagnostics(register):
    register(Traced)
'''


def details(share: float, n: int | None = 10) -> dict[str, Any]:
    return {"n": n, "line": {"value": [share, share / 2], "ci_low": [0.0, 0.0], "ci_high": [1.0, 1.0]}}


def put(folder: Path, made: Report) -> Path:
    place = folder / made.task.label / made.model.name / f"noise-{made.data.noise_rate:g}" / f"seed-{made.seeds.label}"
    place.mkdir(parents=True, exist_ok=True)
    save_report(place / "report.json", made)
    return place


def cells(folder: Path, shares: Mapping[int, float], **given: Any) -> list[Path]:
    return [put(folder, report(seed=s, details={"traced": details(v)}, **given)) for s, v in shares.items()]


def written(file: str | Path) -> dict[Any, Any]:
    with Image.open(file) as image:
        return dict(image.info)


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    file = tmp_path / "traced_plugin.py"
    file.write_text(PLUGIN)
    return str(file)


def draw(folder: Path, plugin: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, list[str], str]:
    code = main(["plot", str(folder), "--plugin", plugin])
    out, err = capsys.readouterr()
    return code, out.splitlines(), err


def test_cells_that_differ_in_seeds_alone_are_one_figure(
    tmp_path: Path, plugin: str, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = tmp_path / "runs"
    shares = {0: 0.2, 1: 0.4, 2: 0.9, 10: 0.5}
    folders = cells(runs, shares)
    code, drawn, _ = draw(runs, plugin, capsys)
    file = runs / "figures" / "thr-m-noise-0.05" / "traced.png"
    assert code == 0 and drawn == [str(file)]
    assert all([p.name for p in folder.iterdir()] == ["report.json"] for folder in folders)
    seen = json.loads((file.parent / "seen.json").read_text())
    assert seen["line"]["value"][0] == pytest.approx(np.mean(list(shares.values())))
    assert seen["line"]["ci_low"][0] < seen["line"]["value"][0] < seen["line"]["ci_high"][0] != 1.0
    said = written(file)
    assert said["Title"] == "Half of 10 questions, at best 0.50"
    assert said["Description"] == "thr, m, 5 % wrong labels, seeds 0, 1, 2, 10: means, 95 % intervals over seeds"


def test_conditions_that_differ_are_drawn_apart(
    tmp_path: Path, plugin: str, capsys: pytest.CaptureFixture[str]
) -> None:
    cells(tmp_path, {0: 0.2, 1: 0.4, 2: 0.3})
    cells(tmp_path / "short", {0: 0.6, 1: 0.8}, limit=50)
    cells(tmp_path, {0: 0.1, 1: 0.1}, rate=0.1)
    code, drawn, _ = draw(tmp_path, plugin, capsys)
    assert code == 0
    names = [Path(file).parent.name for file in drawn]
    assert names == ["thr-m-noise-0.05", "thr-m-noise-0.05-2", "thr-m-noise-0.1"]
    said = [written(file)["Description"] for file in drawn]
    assert "seeds 0, 1, 2 (limit=null): means, 95 % intervals" in said[0]
    assert said[1].endswith("seeds 0, 1 (limit=50): means over seeds")  # two seeds have no interval


def test_every_built_in_figure_is_drawn_of_two_seeds(
    thr_cell: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = read(json.loads((thr_cell / "report.json").read_text()))
    for seed in (0, 1):
        put(tmp_path, replace(made, seeds=Seeds.all(seed)))
    code = main(["plot", str(tmp_path)])
    out, err = capsys.readouterr()
    assert code == 0 and "warning" not in err, err
    drawn = {Path(file).stem for file in out.splitlines()}
    assert drawn == {Path(a.path).stem for a in made.artifacts if a.path.startswith("figures/")}
    assert {"logit_lens", "circuits", "neurons", "activation_patching"} <= drawn


def test_a_single_seed_is_drawn_as_it_is_and_repeats_are_left_out(
    tmp_path: Path, plugin: str, capsys: pytest.CaptureFixture[str]
) -> None:
    cells(tmp_path / "a", {0: 0.2})
    cells(tmp_path / "b", {0: 0.2})
    put(tmp_path, report(seed=1, status="failed"))
    code, drawn, err = draw(tmp_path, plugin, capsys)
    assert code == 0 and len(drawn) == 1
    assert "the only seed, drawn as it is" in err and "stands in" in err
    assert written(drawn[0])["Description"].endswith("seed 0")
    assert json.loads((Path(drawn[0]).parent / "seen.json").read_text()) == details(0.2)


def test_what_cannot_be_drawn_over_seeds_is_left_out_with_its_reason(
    tmp_path: Path, plugin: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed, n in ((0, 10), (1, None), (2, 10)):
        put(tmp_path, report(seed=seed, details={"traced": details(0.2, n)}))
    code, drawn, err = draw(tmp_path, plugin, capsys)
    assert code == 2 and drawn == []
    (line,) = [line for line in err.splitlines() if line.startswith("warning")]
    assert "traced" in line and "n is null in 1 of 3 seeds" in line
    assert "nothing to draw" in err.splitlines()[-1]


def test_a_diagnostic_that_some_seeds_lack_is_left_out(
    tmp_path: Path, plugin: str, capsys: pytest.CaptureFixture[str]
) -> None:
    cells(tmp_path, {0: 0.2, 1: 0.3})
    whole = report(seed=2, details={"traced": details(0.4)})
    entry = replace(whole.diagnostics["traced"], status="not_applicable", reason="by hand", details={})
    put(tmp_path, replace(whole, diagnostics={"traced": entry}))
    code, _, err = draw(tmp_path, plugin, capsys)
    assert code == 2 and "it was measured in 2 of 3 seeds" in err


@pytest.mark.parametrize("there", [False, True])
def test_a_folder_without_anything_to_draw_is_one_line(
    there: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if there:
        put(tmp_path, report(status="failed"))
    assert main(["plot", str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert ("nothing to draw" if there else "holds no reports") in line
    assert not (tmp_path / "figures").exists()


def test_curves_of_seeds_that_end_apart_are_drawn_to_the_end_of_the_shortest(tmp_path: Path) -> None:
    for seed, end in ((0, 60), (1, 80), (2, 100)):
        curve = [
            {
                "step": step,
                "examples_seen": 10 * step,
                "validation_accuracy": step / 100,
                "train_clean_accuracy": step / 100,
                "memorization_rate": seed / 10,
                "noisy_true_rate": 0.5 + seed / 10,
            }
            for step in (1, 5, *range(20, end + 1, 20))
        ]
        cell = report(seed=seed, details={"learning_dynamics": {"curve": curve, "snapshots": {"post": end}}})
        (entry,) = cell.diagnostics.values()
        put(
            tmp_path, replace(cell, diagnostics={"learning_dynamics": replace(entry, version=LearningDynamics.version)})
        )
    (file,) = drawing.plot(tmp_path)
    said = written(file)
    assert said["Title"].startswith("60 % of mislabelled questions are answered right at the peak")  # of 50, 60 and 70
    assert "10 % of wrong labels" in said["Title"]  # of 0, 10 and 20
    assert said["Description"].endswith("means, 95 % intervals over seeds")


@pytest.mark.parametrize("name", ["price ($) $x^{", "$a$"])
def test_names_with_dollar_signs_are_text(name: str, tmp_path: Path) -> None:
    """As titles, ticks and labels; what matplotlib would read as a formula shows every sign."""
    with figures.drawing(tmp_path / "f.png", 1, 4, 3) as (figure, (axes,)):
        figures.title(figure, f"at {name}, and at {name}")
        axes.set_xlabel(name)
        axes.set_xticks([0], [name])
        texts = [figure._suptitle, axes.xaxis.label, *axes.get_xticklabels()]  # type: ignore[attr-defined]
        assert not any(text.get_parse_math() for text in texts)
    assert written(tmp_path / "f.png")["Title"] == f"at {name}, and at {name}"
