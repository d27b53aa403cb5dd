"""The page of the leaderboard: what it escapes, that it is one closed file, and how it behaves in a browser."""

from __future__ import annotations

import copy
import html
import json
import math
import random
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import html5lib
import pytest

from rote_bench.leaderboard.page import MOST_POINTS, bars, p_value, render, thinned
from rote_bench.report.markup import number

from ..browser import all_of, asked_nobody, chromium, contrast, luminance, resize, violations, write

HOSTILE = '</script><svg onload="window.hurt=1"><script>window.hurt=1</script><!-- \' " & \u2028 {{ 7*7 }}'

MODELS = (
    ("gpt2-nano", "gpt2", 0.82, 0.010),
    ("llama-nano", "llama", 1.06, 0.018),
    ("qwen3-nano", "qwen3", 1.07, 0.022),
    ("mamba-nano", "mamba", 0.61, 0.055),
    ("rwkv-nano", "rwkv", 0.72, 0.075),
    ("gpt_neox-nano", "gpt_neox", 0.83, 0.031),
)
HEADINGS: dict[str, tuple[str, bool | None]] = {
    "noise_transfer": ("noise transfer", False),
    "early_clean_peak": ("early clean peak", True),
    "validation_accuracy": ("held-out accuracy", True),
    "counterfactual_memorization": ("memorization", None),
    "memorization_lag": ("memorization lag", None),
    "override_depth": ("override depth", None),
    "patch_dissociation": ("patch dissociation", None),
}
CLAIMS = {
    "generalize_then_memorize": "The model reaches half of its held-out questions before half of the noisy labels.",
    "clean_label_first": "Before memorising a noisy label the model gives the true answer to that very question.",
    "both_computed": "On memorised questions inner layers hold the true answer, later ones the noisy label.",
    "shared_circuits": "Memorised labels survive in the circuit of the clean task better than in a random circuit.",
}


def estimate(rng: random.Random, value: float | None, spread: float, reason: str | None = None) -> dict[str, Any]:
    if value is None:
        ends = {"ci_low": None, "ci_high": None, "ci_method": None, "n": 0, "item_half_width": None}
        return {"value": None, **ends, "higher_is_better": None, "reason_if_null": reason}
    low, high = value - spread * (0.5 + rng.random()), value + spread * (0.5 + rng.random())
    return {
        "value": value,
        "ci_low": low,
        "ci_high": high,
        "ci_method": "bootstrap_iqm",
        "n": 3,
        "item_half_width": spread / 2,
        "higher_is_better": True,
        "reason_if_null": None,
    }


def learning(rng: random.Random, seed: str, rate: float) -> dict[str, Any]:
    late = 90_000 * (1 + 0.3 * rng.random())
    points = []
    for i in range(80):
        seen = int(512 * 1.092**i)
        right = 1 / (1 + math.exp(-(seen - 40_000) / 7_000))
        rote = 1 / (1 + math.exp(-(seen - late) / 16_000))
        known = rate > 0
        points.append(
            {
                "step": i * 10,
                "examples_seen": seen,
                "validation_accuracy": min(1.0, 0.985 * right + 0.01 * rng.random()),
                "train_clean_accuracy": min(1.0, 0.99 * right + 0.01 * rng.random()),
                "memorization_rate": 0.98 * rote if known else None,
                "noisy_true_rate": right * (1 - rote) if known else None,
            }
        )
    snapshots = {"pre_memorization": 540, "post_memorization": 790}
    return {"seed": seed, "snapshots": snapshots, "points": points}


def patching(rng: random.Random, seed: str) -> dict[str, Any]:
    layers = [0, 1, 2, 3]
    components = {}
    for name, cut in (("block", 0.9), ("mixer", 0.15), ("mlp", 0.75)):
        kept = [max(0.0, 0.98 - cut * (layer / 3) - 0.05 * rng.random()) for layer in layers]
        right = [0.985 - 0.02 * rng.random() for _ in layers]
        components[name] = {"validation_accuracy": right, "memorization_rate": kept}
    return {"seed": seed, "layers": layers, "components": components}


def lens(rng: random.Random, seed: str) -> dict[str, Any]:
    true = [0.02, 0.35 + 0.1 * rng.random(), 0.7 + 0.1 * rng.random(), 0.3, 0.02]
    label = [0.0, 0.02, 0.15, 0.6 + 0.1 * rng.random(), 0.98]
    return {"seed": seed, "layers": [0, 1, 2, 3, 4], "true_top1": true, "label_top1": label}


def row(rng: random.Random, task: str, model: tuple[str, str, float, float], rate: float) -> dict[str, Any]:
    name, kind, size, cost = model
    fails = name == "rwkv-nano"
    accuracy = 0.61 if fails else 0.996 - cost * rate * 4
    noisy = rate > 0
    values = {
        "noise_transfer": (cost * 4 if noisy and not fails else None, 0.012),
        "early_clean_peak": (0.96 - cost if noisy else None, 0.012),
        "validation_accuracy": (accuracy, 0.003),
        "counterfactual_memorization": (0.985 - cost / 10 if noisy else None, 0.004),
        "memorization_lag": (1.1 - 6 * rate if noisy else None, 0.08),
        "override_depth": (0.75, 0.05),
        "patch_dissociation": (0.55 - cost, 0.06),
        "reasoning_reliance_memorization": (-0.04, 0.05),
    }
    seeds = ["0", "1", "2"]
    return {
        "model": name,
        "model_type": kind,
        "source": "scratch",
        "parameters": int(size * 1e6),
        "setup": f"{rng.getrandbits(256):064x}",
        "noise_rate": rate,
        "rank_low": None,
        "rank_high": None,
        "reason": "no wrong labels" if not noisy else "the twin reaches 0.61" if fails else None,
        "marks": ["one seed failed"] if name == "mamba-nano" else [],
        "seeds": seeds,
        "cells": 3,
        "failed": 1 if name == "mamba-nano" else 0,
        "values": [{"seed": seed, "value": rng.random()} for seed in seeds] if noisy else [],
        "metrics": {k: estimate(rng, v, s, "needs wrong labels") for k, (v, s) in values.items()},
        "findings": {
            id_: {"claim": claim, "replicated": 2, "not_replicated": 0, "inconclusive": 1, "not_applicable": 0}
            for id_, claim in CLAIMS.items()
        },
        "series": {
            "learning_dynamics": [learning(rng, seed, rate) for seed in seeds],
            **({"logit_lens": [lens(rng, seed) for seed in seeds]} if noisy else {}),
            **({"activation_patching": [patching(rng, seed) for seed in seeds]} if noisy else {}),
        },
        "environment": {
            "git_commits": ["a3c5ae6f0d"],
            "torch": ["2.13.0"],
            "transformers": ["5.23.0"],
            "cpu": ["x86-64, 2 cores, AVX-512"],
        },
        "artifacts": {"present": 9, "missing": 0},
        "checked": {"recomputed": 18, "consistent": 72, "trusted": 9},
        "reports": [
            {
                "path": f"{task}/{name}/noise-{rate:g}/seed-{seed}/report.json",
                "sha256": f"{rng.getrandbits(256):064x}",
                "identity": f"{rng.getrandbits(256):064x}",
                "seed": seed,
            }
            for seed in seeds
        ],
    }


def board(rates: tuple[float, ...] = (0.0, 0.02, 0.05, 0.1, 0.2), models: int = 6) -> dict[str, Any]:
    """A board of two tasks that looks like a measured one."""
    rng = random.Random(7)
    tasks = []
    for name, profile, title in (("thr", "compact", "Two-hop reasoning, symbols"), ("fda", "", "Four-digit addition")):
        task = f"{name}-{profile}" if profile else name
        pool = [(f"{m[0]}{i // 6 or ''}", *m[1:3], m[3] * (1 + i // 6 / 5)) for i, m in enumerate(MODELS * 9)][:models]
        rows = [row(rng, task, model, rate) for rate in rates for model in pool]
        for rate in rates:
            ranked = [r for r in rows if r["noise_rate"] == rate > 0 and r["reason"] is None]
            for rank, r in enumerate(sorted(ranked, key=lambda r: r["metrics"]["noise_transfer"]["value"]), start=1):
                r["rank_low"], r["rank_high"] = max(1, rank - 1), rank
        rows.sort(key=lambda r: (r["noise_rate"] != 0.05, r["noise_rate"], r["rank_low"] is None, r["rank_high"] or 0))
        comparisons = [
            {
                "noise_rate": 0.05,
                "first": a[0],
                "second": b[0],
                "metric": "noise_transfer",
                "seeds_first": 3,
                "seeds_second": 3,
                "difference": a[3] - b[3],
                "ci_low": a[3] - b[3] - 0.02,
                "ci_high": a[3] - b[3] + 0.02,
                "p": 0.0004 if abs(a[3] - b[3]) > 0.04 else 0.2,
                "p_family": 0.0009 if abs(a[3] - b[3]) > 0.04 else 0.6,
                "p_smallest": 0.0002,
            }
            for i, a in enumerate(pool)
            for b in pool[i + 1 :]
        ]
        tasks.append(
            {
                "task": task,
                "name": name,
                "profile": profile or None,
                "title": title,
                "recipe": None,
                "version": 1,
                "content_hash": f"{rng.getrandbits(256):064x}",
                "main_rate": 0.05,
                "noise_rates": list(rates),
                "rows": rows,
                "comparisons": comparisons,
                "findings": [
                    {
                        "task": task,
                        "model": model[0],
                        "noise": 0.05,
                        "id": "benign",
                        "verdict": "replicated" if model[3] < 0.03 else "inconclusive",
                        "reason": "noise transfer lies below 0.1",
                        "value": model[3] * 4,
                        "ci_low": model[3] * 4 - 0.02,
                        "ci_high": model[3] * 4 + 0.02,
                    }
                    for model in pool
                ],
                "comparison": None,
            }
        )
    return {
        "schema_version": 4,
        "rote_bench": "0.1.0",
        "rule": "By noise transfer at the main noise rate, lowest first; ties by early clean peak, highest first.",
        "gates": {"twin_validation_accuracy": 0.99, "counterfactual_memorization": 0.95},
        "columns": list(HEADINGS),
        "metrics": {
            name: {"heading": heading, "meaning": f"what {heading} says", "higher_is_better": better}
            for name, (heading, better) in HEADINGS.items()
        },
        "reports": {"found": 181, "counted": 180, "refused": 0, "barred": 1, "conflicts": 0, "duplicates": 0},
        "artifacts": {"present": 540, "missing": 0},
        "tasks": tasks,
        "refused": [
            {"path": "thr-compact/old/report.json", "reason": "of another version of the task", "kind": "barred"}
        ],
    }


def with_text(value: Any, text: str, keep: tuple[str, ...] = ("seed", "seeds", "columns")) -> Any:
    """The same board with every text in it replaced, apart from seeds and columns, which must stay different."""
    if isinstance(value, dict):
        return {k: v if k in keep else with_text(v, text) for k, v in value.items()}
    if isinstance(value, list):
        return [with_text(v, text) for v in value]
    return text if isinstance(value, str) else value


def with_names(given: dict[str, Any], text: str) -> dict[str, Any]:
    """The same board with a name of its own choice wherever a report chooses the name."""
    out = copy.deepcopy(given)
    out["gates"][text] = 0.5
    out["metrics"][text] = out["metrics"]["override_depth"]
    for r in (r for task in out["tasks"] for r in task["rows"]):
        r["metrics"][text] = r["metrics"]["override_depth"]
        r["findings"][text] = r["findings"]["shared_circuits"]
        r["environment"][text] = [text]
        r["seeds"] = [text + seed for seed in r["seeds"]]
        for one in r["series"]["learning_dynamics"]:
            one["seed"] = text + one["seed"]
        for one in r["series"].get("activation_patching", ()):
            one["components"][text] = one["components"]["mlp"]
    return out


def skeleton(page: str) -> list[tuple[str, list[str]]]:
    """Every element of a page in order, with the names of its attributes; anything that is not HTML 5 raises."""
    tree = html5lib.HTMLParser(strict=True, namespaceHTMLElements=False).parse(page)
    return [(str(node.tag), sorted(map(str, node.attrib))) for node in tree.iter() if isinstance(node.tag, str)]


def data(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="board-data">(.*?)</script>', page, re.DOTALL)
    assert found
    loaded: dict[str, Any] = json.loads(found[1])
    return loaded


@pytest.fixture(scope="module")
def page() -> str:
    return render(board())


def test_no_text_of_a_report_becomes_markup() -> None:
    small = board(rates=(0.0, 0.05), models=6)
    plain, hostile = (with_names(with_text(small, text), text) for text in ("0 plain", HOSTILE))
    assert skeleton(render(hostile)) == skeleton(render(plain))
    block = re.search(r'id="board-data">(.*?)</script>', render(hostile), re.DOTALL)
    assert block and not set("<>&\u2028\u2029") & set(block[1])
    assert data(render(hostile))["tasks"][0]["rows"][0]["model"] == HOSTILE
    assert "{{ 7*7 }}" in html.unescape(render(hostile))


def test_page_is_html_and_equal_boards_give_equal_bytes(page: str) -> None:
    elements = skeleton(page)
    assert render(json.loads(json.dumps(board()))) == page
    levels = [int(tag[1]) for tag, _ in elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(b <= a + 1 for a, b in pairwise(levels))
    identifiers = re.findall(r'\sid="([^"]+)"', page)
    assert len(identifiers) == len(set(identifiers))
    assert set(re.findall(r'aria-(?:controls|labelledby)="([^"]+)"', page)) <= set(identifiers)


def test_page_fetches_nothing(page: str) -> None:
    tree = html5lib.parse(page, namespaceHTMLElements=False)
    for node in tree.iter():
        for name in ("src", "srcset", "data", "action", "poster"):
            assert name not in node.attrib
        if node.tag == "a":
            continue
        assert node.attrib.get("href", "data:,") == "data:,"
    assert "url(" not in page and "@import" not in page
    outside = re.findall(r"https?://[^\s\"<]*", page)
    assert outside == ["https://arxiv.org/abs/2507.04782"]


def test_a_large_board_stays_a_small_page() -> None:
    assert len(render(board(rates=(0.0, 0.02, 0.05), models=6)).encode()) < 600_000
    assert len(render(board(models=18)).encode()) < 1_800_000


@pytest.mark.parametrize("tasks", [0, 1])
def test_board_without_tasks_or_rows(tasks: int) -> None:
    empty = board(models=1)
    empty["tasks"] = empty["tasks"][:tasks]
    for task in empty["tasks"]:
        task.update(rows=[], comparisons=[], findings=[], main_rate=None, noise_rates=[])
    assert skeleton(render(empty))


def test_a_number_that_is_no_number_is_refused() -> None:
    broken = board(rates=(0.05,), models=1)
    broken["tasks"][0]["rows"][0]["series"]["logit_lens"][0]["true_top1"][0] = math.nan
    with pytest.raises(ValueError, match="JSON"):
        render(broken)


def test_numbers_for_reading() -> None:
    assert [number(v) for v in (None, 0.12345, -0.5, -0.0001)] == ["–", "0.123", "\u22120.500", "0.000"]
    assert [p_value(v) for v in (None, 0.0, 0.0312)] == ["–", "< 0.001", "0.031"]


def test_thinning_keeps_ends_snapshots_and_corners() -> None:
    def point(i: int, value: float | None) -> dict[str, Any]:
        names = ("validation_accuracy", "train_clean_accuracy", "memorization_rate", "noisy_true_rate")
        return {"step": i, "examples_seen": 10 * i, **dict.fromkeys(names, value)}

    corner = [point(i, min(i, 50) / 50) for i in range(101)]
    assert thinned(corner, {70}) == [0, 50, 70, 100]
    assert thinned([point(i, None) for i in range(5)], set()) == [0, 4]
    assert thinned([], set()) == []
    rough = [point(i, i % 2) for i in range(200)]
    assert len(thinned(rough, set())) == MOST_POINTS
    late = [point(i, None if i < 50 else 0.5) for i in range(100)]
    assert any(late[i]["validation_accuracy"] is not None for i in thinned(late, set()))


def test_bars_share_one_line_and_leave_out_what_lies_off_it() -> None:
    def with_value(rank: int | None, value: float | None) -> dict[str, Any]:
        return {
            "rank_low": rank,
            "rank_high": rank,
            "metrics": {"noise_transfer": {"value": value, "ci_low": None, "ci_high": None}},
        }

    first, second, off, none = bars(
        [with_value(1, 0.1), with_value(2, 0.2), with_value(None, 9.0), with_value(3, None)]
    )
    assert off is None and none is None
    assert first and second and float(first["zero"]) == float(second["zero"]) == 3.0
    assert float(second["value"]) - 3 == pytest.approx(2 * (float(first["value"]) - 3))


# In a browser ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    yield from chromium(tmp_path_factory.mktemp("profile"))


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory, page: str) -> str:
    return write(tmp_path_factory.mktemp("page"), page)


@pytest.fixture
def opened(browser: Any, address: str) -> Iterator[Any]:
    """The page, freshly loaded; whatever a test does there may neither ask the network nor leave an error."""
    resize(browser, 1280)
    browser.get_log("performance")
    browser.get_log("browser")
    browser.get(address)
    yield browser
    asked_nobody(browser)


def shown(browser: Any) -> list[str]:
    """The names in the first table, from top to bottom, as they are seen."""
    rows = all_of(browser, "#table-1 tbody.entry .open")
    return [row.text for row in rows if row.is_displayed()]


def test_sorting_by_click_and_by_keyboard(opened: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    by_rank = shown(opened)
    heading = opened.find_element("xpath", "//table[@id='table-1']//th[.//button[text()='held-out accuracy']]")
    button = heading.find_element("tag name", "button")
    button.click()
    assert heading.get_attribute("aria-sort") == "descending"
    assert len(all_of(opened, "#table-1 th[aria-sort=ascending], #table-1 th[aria-sort=descending]")) == 1
    at_rate = [r for r in board()["tasks"][0]["rows"] if r["noise_rate"] == 0.05]
    by_accuracy = [r["model"] for r in sorted(at_rate, key=lambda r: -r["metrics"]["validation_accuracy"]["value"])]
    assert shown(opened) == by_accuracy
    button.send_keys(Keys.ENTER)
    assert heading.get_attribute("aria-sort") == "ascending"
    assert shown(opened) == by_accuracy[::-1] != by_rank
    transfer = opened.find_element("xpath", "//table[@id='table-1']//button[text()='noise transfer']")
    for _ in range(2):  # a row without a value stays last in either direction
        transfer.send_keys(Keys.SPACE)
        assert shown(opened)[-1] == "rwkv-nano"


def test_filtering(opened: Any) -> None:
    from selenium.webdriver.support.ui import Select

    form = opened.find_element("css selector", "form[data-table='table-1']")
    status = form.find_element("tag name", "output")
    assert len(shown(opened)) == 6 and status.text == "6 of 30 rows"
    Select(form.find_element("name", "noise")).select_by_visible_text("all")
    assert len(shown(opened)) == 30
    form.find_element("name", "ranked").click()
    assert status.text == "20 of 30 rows" and "rwkv-nano" not in shown(opened)
    form.find_element("name", "text").send_keys("LLAMA")
    assert set(shown(opened)) == {"llama-nano"} and len(shown(opened)) == 4
    form.find_element("name", "text").send_keys(" of nobody")
    assert shown(opened) == [] and "No row matches" in opened.find_element("id", "table-1").text
    assert len([r for r in all_of(opened, "#table-2 tbody.entry") if r.is_displayed()]) == 6


def test_a_row_opens_by_keyboard_to_figures_that_have_numbers(opened: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    button = all_of(opened, "#table-1 .open")[0]
    detail = opened.find_element("id", button.get_attribute("aria-controls"))
    assert not detail.is_displayed() and button.get_attribute("aria-expanded") == "false"
    button.send_keys(Keys.ENTER)
    assert detail.is_displayed() and button.get_attribute("aria-expanded") == "true"
    figures = detail.find_elements("css selector", "figure")
    assert len(figures) == 3
    for figure, charts in zip(figures, (1, 1, 3), strict=True):
        drawn = figure.find_elements("css selector", ".panels svg[role=img]")
        assert len(drawn) == charts and all(len(c.get_attribute("aria-label")) > 40 for c in drawn)
        assert figure.find_element("css selector", "figcaption strong").text
        assert figure.find_elements("css selector", ".legend li")
        assert len(figure.find_elements("css selector", "details tbody tr")) >= 4
    dashes = {p.value_of_css_property("stroke-dasharray") for p in detail.find_elements("css selector", ".legend path")}
    assert len(dashes) >= 4  # told apart without colour
    assert "2 replicated" in detail.text
    button.send_keys(Keys.SPACE)
    assert not detail.is_displayed()


def test_noise_figure_has_a_panel_for_each_model(opened: Any) -> None:
    for figure in all_of(opened, ".noise-figure figure"):
        titles = [t.text for t in figure.find_elements("css selector", ".panel-title")]
        assert sorted(titles) == sorted(m[0] for m in MODELS)
        assert figure.find_elements("css selector", ".whisker")


@pytest.mark.parametrize("width", [320, 360, 1280])
def test_page_never_scrolls_sideways(opened: Any, width: int) -> None:
    resize(opened, width)
    for node in (*all_of(opened, ".open")[:1], *all_of(opened, "details:not([open]) > summary")):
        opened.execute_script("arguments[0].click()", node)
    root = "document.documentElement"
    needed, given, whole = opened.execute_script(f"return [{root}.scrollWidth, {root}.clientWidth, innerWidth]")
    assert needed <= given <= whole == width  # a phone would widen its window to what overflows


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_both_schemes_can_be_read_and_have_no_accessibility_violations(
    opened: Any, tmp_path: Path, scheme: str
) -> None:
    feature = {"name": "prefers-color-scheme", "value": scheme}
    opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    try:
        opened.get(write(tmp_path, render(board(rates=(0.0, 0.05), models=2))))
        all_of(opened, ".open")[0].click()
        paper = opened.find_element("tag name", "body").value_of_css_property("background-color")
        assert (luminance(paper) > 0.5) == (scheme == "light")
        raised = opened.find_element("css selector", ".detail > td").value_of_css_property("background-color")
        for line in all_of(opened, "#detail-1-1 .legend .curve > path:first-child"):
            assert contrast(line.value_of_css_property("stroke"), raised) >= 3
        assert violations(opened) == []
    finally:
        opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_hostile_names_stay_text_in_the_browser(opened: Any, tmp_path: Path) -> None:
    hostile = with_names(with_text(board(rates=(0.0, 0.05), models=2), HOSTILE), HOSTILE)
    opened.get(write(tmp_path, render(hostile)))
    for button in all_of(opened, ".open"):
        opened.execute_script("arguments[0].click()", button)
    assert len(all_of(opened, ".detail figure")) == 3 * len(all_of(opened, ".open"))
    assert opened.execute_script("return window.hurt") is None
    assert all_of(opened, "[onload]") == []
    assert HOSTILE in [t.get_attribute("textContent") for t in all_of(opened, ".panel-title")]


def test_without_javascript_all_rows_are_open(opened: Any, address: str) -> None:
    opened.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        opened.get(address)
        rows = all_of(opened, "#table-1 tr.row") + all_of(opened, "#table-1 tr.detail")
        assert len(rows) == 60 and all(r.value_of_css_property("display") == "table-row" for r in rows)
    finally:
        opened.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
