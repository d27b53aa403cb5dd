"""The page of the leaderboard: what it escapes, that it is one closed file, and how it behaves in a browser."""

from __future__ import annotations

import html
import json
import math
import re
from collections.abc import Iterator
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import html5lib
import pytest

from rote_bench.leaderboard.page import link, p_value, render, sizes
from rote_bench.leaderboard.page.asked import Asked
from rote_bench.report import escape
from rote_bench.report.markup import number

from ...browser import all_of, asked_nobody, chromium, contrast, luminance, resize, violations, write
from ..boards import CAUTION, LEFT_OUT, MODELS, OUTLIER, UNSOLVED, board, with_names, with_text

HOSTILE = '</script><svg onload="window.hurt=1"><script>window.hurt=1</script><!-- \' " & \u2028 {{ 7*7 }}'
ASKED = Asked("Sums.", "8 + 9 =", "17", "18", {"carry": "10"}, True)  # axe passes over the colour of a single character


def skeleton(page: str) -> list[tuple[str, list[str]]]:
    """Every element of a page in order, with the names of its attributes; anything that is not HTML 5 raises."""
    tree = html5lib.HTMLParser(strict=True, namespaceHTMLElements=False).parse(page)
    nodes = (
        node for node in tree.iter() if isinstance(node.tag, str) and not node.tag.endswith("tspan")
    )  # lines of text
    return [(str(node.tag), sorted(map(str, node.attrib))) for node in nodes]


def given() -> dict[str, Any]:
    return board(rates=(0.0, 0.05, 0.1), seeds=5)


@pytest.fixture(scope="module")
def page() -> str:
    return render(given(), {"thr-compact [comparison thr]": ASKED}, "reports")


@pytest.mark.parametrize("comparisons", [True, False])
def test_no_text_of_a_report_becomes_markup(comparisons: bool) -> None:
    small = board(rates=(0.0, 0.05), seeds=3, comparisons=comparisons)
    plain, hostile = (with_names(with_text(small, text), text) for text in ("0 plain", HOSTILE))
    asked = {text: Asked(text, text, text, text, {text: text}, True) for text in ("0 plain", HOSTILE)}
    assert skeleton(render(hostile, asked, "r")) == skeleton(render(plain, asked, "r"))
    assert "{{ 7*7 }}" in html.unescape(render(hostile, asked, "r"))


def test_page_is_html_and_equal_boards_give_equal_bytes(page: str) -> None:
    elements = skeleton(page)
    assert render(json.loads(json.dumps(given())), {"thr-compact [comparison thr]": ASKED}, "reports") == page
    levels = [int(tag[1]) for tag, _ in elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(b <= a + 1 for a, b in pairwise(levels))
    identifiers = re.findall(r'\sid="([^"]+)"', page)
    assert len(identifiers) == len(set(identifiers))
    assert set(re.findall(r'(?:aria-(?:controls|labelledby)|popovertarget)="([^"]+)"', page)) <= set(identifiers)
    assert set(re.findall(r'href="#([^"]+)"', page)) <= set(identifiers)


def test_page_fetches_nothing(page: str) -> None:
    tree = html5lib.parse(page, namespaceHTMLElements=False)
    for node in tree.iter():
        for name in ("src", "srcset", "data", "action", "poster"):
            assert name not in node.attrib
        if node.tag == "a":
            continue
        assert node.attrib.get("href", "data:,") == "data:," or node.attrib["href"].startswith("#")
    assert "url(" not in page and "@import" not in page
    outside = re.findall(r"https?://[^\s\"<]*", page)
    assert outside == ["https://arxiv.org/abs/2507.04782"]


def test_a_large_board_stays_a_small_page() -> None:
    assert len(render(board(rates=(0.0, 0.02, 0.05), seeds=3)).encode()) < 1_500_000
    assert len(render(board(models=18)).encode()) < 5_000_000


@pytest.mark.parametrize("tasks", [0, 1])
def test_board_without_tasks_or_rows(tasks: int) -> None:
    empty = board(models=1)
    empty["tasks"] = empty["tasks"][:tasks]
    for task in empty["tasks"]:
        task.update(rows=[], comparisons=[], findings=[], main_rate=None, noise_rates=[])
    assert skeleton(render(empty))


def test_a_number_that_is_no_number_is_refused() -> None:
    broken = board(rates=(0.05,), models=1, seeds=3)
    broken["tasks"][0]["rows"][0]["series"]["logit_lens"][0]["true_top1"][0] = math.nan
    with pytest.raises(ValueError, match="no number"):
        render(broken)


def test_numbers_for_reading() -> None:
    assert [number(v) for v in (None, 0.12345, -0.5, -0.0001)] == ["–", "0.123", "\u22120.500", "0.000"]
    assert [p_value(v) for v in (None, 0.0, 0.0312)] == ["–", "< 0.001", "0.031"]


def words(page: str) -> str:
    """The text of a page, its white space as single spaces."""
    tree = html5lib.parse(re.sub("<(script|style)>.*?</", "<b></", page, flags=re.DOTALL), namespaceHTMLElements=False)
    return re.sub(r" ([:;.,\]])", r"\1", " ".join(" ".join(tree.itertext()).split()))


def test_a_published_comparison_is_headed_by_its_sentences_the_caution_first() -> None:
    made = board(rates=(0.0, 0.05), seeds=3)
    said = made["tasks"][0]["comparison"]["sentences"]
    said["caution"] = CAUTION
    text = words(render(made))
    places = [text.index(sentence) for sentence in (made["tasks"][0]["title"], CAUTION, said["result"])]
    assert places == sorted(places) and f"{said['result']} How sure: {said['certainty']}" in text
    assert f"{LEFT_OUT[0]} has no runs: {LEFT_OUT[1]}" in text
    assert f"{UNSOLVED} is not ranked: the task is not solved" in text
    assert f"{said['planned']} {said['benign']}" in text
    said["caution"] = None
    assert "Caution" not in words(render(made))


def test_everything_of_a_comparison_is_there() -> None:
    made = board(rates=(0.0, 0.05), seeds=3)
    comparison = made["tasks"][0]["comparison"]
    text = words(render(made))
    for one in comparison["contrasts"]:
        assert f"{one['name']} {one['models'][0]} {one['models'][1]} 5 % 3, 3" in text
    for one in comparison["causes"]:
        assert one["cause"].replace("_", " ") in text
    assert text.count("never, 700") == 2 * 3 and text.count(" chosen 720, 740") == 2 * len(MODELS)
    assert comparison["rules"] in text and all(trial["path"] in text for trial in comparison["tuning"]["trials"])
    assert "training.learning_rate: 0.016" in text and "model.mlp_width: 344" in text


def test_an_outlier_is_named_at_the_edge_and_a_note_said_of_many_rows_stands_once() -> None:
    text = words(render(board(rates=(0.0, 0.05))))
    assert f"{OUTLIER[2]} \u25b8" in text
    assert text.count("all rows: from code with uncommitted changes: 3 of 3 cells") == 2  # once for each task
    assert text.count("all rows at 0\u00a0%: Not ranked: no wrong labels.".replace("\u00a0", " ")) == 2


def test_an_example_and_what_sizes_mean_stand_by_each_task(page: str) -> None:
    text = words(page)
    assert "Sums. asked 8 + 9 = right 17 taught instead 18 on the way carry 10" in text
    assert "no question of it can be made here" in text  # of the other task
    assert "nano: 4 layers of width 128 with 4 heads, from random weights; 0.76M to 0.88M parameters." in text


def test_sizes_are_those_of_random_weights_alone() -> None:
    rows = [
        {"model": "gpt2-nano", "source": "scratch", "parameters": 2_000_000},
        {"model": "llama-nano", "source": "scratch", "parameters": 1_000_000},
        {"model": "hf:some-mini", "source": "pretrained", "parameters": 9},
        {"model": "stranger", "source": "plugin", "parameters": 9},
    ]
    (found,) = sizes({"rows": rows})
    assert (found["name"], found["parameters"], found["of"].layers) == ("nano", ["1.00M", "2.00M"], 4)


def test_reports_below_the_page_are_linked(page: str) -> None:
    assert link("reports", "thr/a b:c/report.json") == "./reports/thr/a%20b%3Ac/report.json"
    assert link(".", "javascript:alert(1)") == "././javascript%3Aalert%281%29"
    assert link(None, "thr/report.json") is None
    assert 'href="./reports/thr-compact/gpt2-nano/noise-0.05/seed-0/report.json"' in page
    assert 'href="./' not in render(board(rates=(0.05,), models=2, seeds=3))


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
    at_rate = [r for r in given()["tasks"][0]["rows"] if r["noise_rate"] == 0.05]
    by_accuracy = [r["model"] for r in sorted(at_rate, key=lambda r: -r["metrics"]["validation_accuracy"]["value"])]
    assert shown(opened) == by_accuracy
    button.send_keys(Keys.ENTER)
    assert heading.get_attribute("aria-sort") == "ascending"
    assert shown(opened) == by_accuracy[::-1] != by_rank
    depth = opened.find_element("xpath", "//table[@id='table-1']//button[text()='patch dissociation']")
    for _ in range(2):  # a row without a value stays last in either direction
        depth.send_keys(Keys.SPACE)
        assert shown(opened)[-1] == UNSOLVED


def test_filtering(opened: Any) -> None:
    from selenium.webdriver.support.ui import Select

    form = opened.find_element("css selector", "form[data-table='table-1']")
    status = form.find_element("tag name", "output")
    assert len(shown(opened)) == 8 and status.text == "8 of 24 rows"
    Select(form.find_element("name", "noise")).select_by_visible_text("all")
    assert len(shown(opened)) == 24
    form.find_element("name", "ranked").click()
    assert status.text == "14 of 24 rows" and UNSOLVED not in shown(opened)
    form.find_element("name", "text").send_keys("LLAMA")
    assert set(shown(opened)) == {"llama-nano"} and len(shown(opened)) == 2
    form.find_element("name", "text").send_keys(" of nobody")
    assert shown(opened) == [] and "No row matches" in opened.find_element("id", "table-1").text
    assert len(all_of(opened, "#table-2 tbody.entry:not([hidden])")) == 8


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
        assert all(stroke.size["width"] > 50 for stroke in figure.find_elements("css selector", "polyline"))
        assert figure.find_element("css selector", "figcaption strong").text
        assert figure.find_elements("css selector", ".legend li")
        assert len(figure.find_elements("css selector", "details tbody tr")) >= 4
    dashes = {p.value_of_css_property("stroke-dasharray") for p in detail.find_elements("css selector", ".legend path")}
    assert len(dashes) >= 4  # told apart without colour
    assert "4 replicated" in detail.text
    detail.find_element("css selector", ".claims summary").click()
    assert "seed 0: the interval [-0.1, 0.3] covers 0" in detail.text
    button.send_keys(Keys.SPACE)
    assert not detail.is_displayed()


def test_the_first_screen_says_what_came_out_and_how_sure(browser: Any, address: str, tmp_path: Path) -> None:
    made = board(rates=(0.0, 0.05))
    made["tasks"][0]["comparison"]["sentences"]["caution"] = CAUTION
    cautioned = write(tmp_path, render(made))
    for (width, height), at in product(((1280, 800), (390, 844)), (address, cautioned)):
        resize(browser, width)
        browser.get("about:blank")
        browser.get(at)
        for selector in ("#task-1 .result", "#task-1 .certainty", "#forest-1 tbody tr:last-child"):
            box = browser.execute_script(f"return document.querySelector('{selector}').getBoundingClientRect().bottom")
            assert box <= height, f"{selector} ends at {box} of {height} at a width of {width}"


def test_every_heading_is_explained_by_keyboard(opened: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    for button in all_of(opened, "#table-1 .what"):
        said = opened.find_element("id", button.get_attribute("popovertarget"))
        assert not said.is_displayed()
        button.send_keys(Keys.ENTER)
        assert said.is_displayed() and len(said.text.split()) > 3
        opened.switch_to.active_element.send_keys(Keys.ESCAPE)
        assert not said.is_displayed()


def test_a_link_reproduces_what_is_seen(opened: Any, address: str) -> None:
    from selenium.webdriver.support.ui import Select, WebDriverWait

    opened.find_element("css selector", "a[href='#task-2']").click()
    form = opened.find_element("css selector", "form[data-table='table-2']")
    Select(form.find_element("name", "noise")).select_by_visible_text("10\u00a0%")
    form.find_element("name", "text").send_keys("mamba")
    opened.find_element("xpath", "//table[@id='table-2']//button[text()='held-out accuracy']").click()
    button = next(b for b in all_of(opened, "#table-2 .open") if b.is_displayed())
    button.click()
    opened.find_element("css selector", "#tuning-2 summary").click()
    for _ in range(2):
        opened.find_element("css selector", "button.theme").click()

    def seen() -> list[Any]:
        return [
            [section.get_attribute("id") for section in all_of(opened, "section.task") if section.is_displayed()],
            [row.text for row in all_of(opened, "#table-2 tbody.entry .open") if row.is_displayed()],
            [detail.get_attribute("id") for detail in all_of(opened, "tr.detail") if detail.is_displayed()],
            [details.get_attribute("id") for details in all_of(opened, "details[id][open]")],
            opened.find_element("tag name", "body").value_of_css_property("background-color"),
            form_values(opened),
        ]

    WebDriverWait(opened, 20).until(lambda browser: "theme=dark" in browser.current_url)
    before, link_ = seen(), opened.current_url
    assert before[0] == ["task-2"] and len(before[1]) == 2 and len(before[2]) == 1 and luminance(before[4]) < 0.1
    opened.get("about:blank")
    opened.get(link_)
    assert seen() == before and opened.current_url == link_
    opened.execute_script("location.hash = ''")  # of the same document: all is as it was first
    WebDriverWait(opened, 20).until(lambda browser: browser.find_element("id", "task-1").is_displayed())
    assert all(a != b for a, b in zip(seen(), before, strict=True))


def form_values(browser: Any) -> list[str]:
    return [field.get_attribute("value") for field in all_of(browser, "form.filters input, form.filters select")]


def test_a_name_in_the_first_figure_leads_to_its_part(opened: Any) -> None:
    first = opened.find_element("css selector", "#forest-1 tbody a")
    first.click()
    (detail,) = [one for one in all_of(opened, "tr.detail") if one.is_displayed()]
    name = detail.find_element("xpath", "preceding-sibling::tr//button[contains(@class, 'open')]").text
    assert name == first.get_attribute("textContent")


@pytest.mark.parametrize("text", ["#task=nobody&sort=table-1.99.up&open=nothing&find=x&theme=pink", "#nowhere", "#%"])
def test_an_address_that_means_nothing_does_no_harm(opened: Any, address: str, text: str) -> None:
    opened.get("about:blank")
    opened.get(address + text)
    assert len(shown(opened)) == 8 and not any(d.is_displayed() for d in all_of(opened, "tr.detail"))


@pytest.mark.parametrize("width", [320, 360, 768, 1280])
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
        made = board(rates=(0.0, 0.05), seeds=3)
        made["tasks"][0]["comparison"]["sentences"]["caution"] = CAUTION
        opened.get(write(tmp_path, render(made, {"thr-compact [comparison thr]": ASKED}, "reports")))
        all_of(opened, ".open")[0].click()
        for node in all_of(opened, "#task-1 details:not([open]) > summary"):
            opened.execute_script("arguments[0].click()", node)
        paper = opened.find_element("tag name", "body").value_of_css_property("background-color")
        assert (luminance(paper) > 0.5) == (scheme == "light")
        raised = opened.find_element("css selector", ".detail > td").value_of_css_property("background-color")
        for line in all_of(opened, "#detail-1-1 .legend .curve > path:first-child"):
            assert contrast(line.value_of_css_property("stroke"), raised) >= 3
        for mark in all_of(opened, ".of-task .legend .curve"):
            assert contrast(mark.value_of_css_property("fill"), paper) >= 3
        assert violations(opened) == []
    finally:
        opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_hostile_names_stay_text_in_the_browser(opened: Any, tmp_path: Path) -> None:
    hostile = with_names(with_text(board(rates=(0.0, 0.05), models=2, seeds=3), HOSTILE), HOSTILE)
    opened.get(
        write(tmp_path, render(hostile, {HOSTILE: Asked(HOSTILE, HOSTILE, HOSTILE, HOSTILE, {}, True)}, HOSTILE))
    )
    for button in all_of(opened, ".open"):
        opened.execute_script("arguments[0].click()", button)
    assert opened.execute_script("return window.hurt") is None
    assert all_of(opened, "[onload]") == []
    assert escape.page(HOSTILE) in [t.get_attribute("textContent") for t in all_of(opened, ".panel-title")]


def test_without_javascript_everything_can_be_read(opened: Any, address: str) -> None:
    opened.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        opened.get(address)
        rows = all_of(opened, "#table-1 tr.row") + all_of(opened, "#table-1 tr.detail")
        assert len(rows) == 48 and all(r.value_of_css_property("display") == "table-row" for r in rows)
        assert all(section.is_displayed() for section in all_of(opened, "section.task"))
        assert all(svg.size["width"] > 100 for svg in all_of(opened, "#forest-1 .lane, #task-1 .of-task .plot"))
        assert not opened.find_element("css selector", "button.theme").is_displayed()
    finally:
        opened.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
