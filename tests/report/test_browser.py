"""Pages in a real headless Chromium: they work, fit, and can be used without a mouse or eyes."""

from pathlib import Path

import pytest
from pages import analysis, filled, hostile

from ns_bench.report import blocks, compare, html, scorecard
from ns_bench.report.page import write
from ns_bench.verdicts.sources import Source

pytestmark = [pytest.mark.slow, pytest.mark.browser]

PAGES = [
    "scorecard.html",
    "teacher_size-digits/report.html",
    "hostile-digits/report.html",
    "compare.html",
]
WIDTHS, SCHEMES = (390, 1440), ("light", "dark")


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    """A scorecard of three studies, one of them hostile, one incomplete and in two profiles."""
    store = filled(tmp_path_factory.mktemp("store"), "teacher_size", hostile())
    filled(store.root, "confidence_threshold", profile="smoke", seeds=2)
    filled(store.root, "confidence_threshold", seeds=6)
    out = tmp_path_factory.mktemp("out")
    analyses = [
        analysis(store, "teacher_size"),
        analysis(store, "confidence_threshold"),
        analysis(store, "confidence_threshold", "smoke", 2),
        analysis(store, hostile()),
    ]
    for one in analyses:
        write(one, out / f"{one.study.name}-{one.profile.name}")
    scorecard.write(analyses, out)
    source, pairs = Source(store.root), [("digits", "digits"), ("digits", "smoke")]
    names = ["teacher_size", "confidence_threshold"]
    compare.write(compare.compare(source, source, names, pairs), out)
    return out


def watched(page) -> list[str]:
    """Return what will have gone wrong on a page, or been asked for outside, by then."""
    troubles: list[str] = []

    def dismissed(dialog) -> None:
        troubles.append(dialog.message)
        dialog.dismiss()

    def asked(request) -> None:
        if not request.url.startswith(("file:", "data:")):
            troubles.append(f"request: {request.url}")

    page.on("console", lambda message: troubles.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("dialog", dismissed)
    page.on("requestfailed", lambda request: troubles.append(f"failed: {request.url}"))
    page.on("request", asked)
    return troubles


@pytest.fixture
def visit(browser, reports):
    """Open a page at a width; at the end nothing may have gone wrong or been asked for outside."""
    contexts, troubles = [], []

    def visit(name: str, width: int = 1440, scheme: str = "light"):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        troubles.append(watched(page))
        page.goto((reports / name).as_uri())
        return page

    yield visit
    for context in contexts:
        context.close()
    assert not any(troubles), troubles


@pytest.fixture(scope="module")
def unfolded(browser, reports):
    """Show a page at a width with all unfolded that folds; each is opened once, on a phone."""
    pages = {}

    def unfolded(name: str, width: int, scheme: str = "light"):
        if name not in pages:
            page = browser.new_context(viewport={"width": 390, "height": 900}).new_page()
            pages[name] = page, watched(page)
            page.goto((reports / name).as_uri())
            for details in page.query_selector_all("details"):
                details.query_selector("summary").click()
        page, _ = pages[name]
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=scheme)
        return page

    yield unfolded
    for page, troubles in pages.values():
        page.context.close()
        assert troubles == []


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_is_no_wider_than_the_screen(unfolded, name, width):
    page = unfolded(name, width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    right = "Math.max(...[...document.querySelectorAll('h1, h2, h3, p, li, svg.plot')].map("
    assert page.evaluate(right + "e => e.getBoundingClientRect().right))") <= width


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_axe_finds_no_serious_fault(unfolded, name, scheme, width):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    found = axe.Axe().run(unfolded(name, width, scheme)).response["violations"]
    serious = [
        (v["id"], [node["html"] for node in v["nodes"]][:3])
        for v in found
        if v["impact"] in ("serious", "critical")
    ]
    assert serious == []


@pytest.mark.parametrize("name", PAGES[:3])
def test_links_lead_to_files(visit, reports, name):
    page = visit(name)
    links = page.eval_on_selector_all("a", "links => links.map(link => link.href)")
    assert links
    for link in links:
        assert link.startswith("file://")
        assert Path(page.evaluate("decodeURIComponent", link.removeprefix("file://"))).is_file()


@pytest.mark.parametrize("width", WIDTHS)
def test_figures_are_to_be_seen(visit, width):
    page = visit(PAGES[1], width)
    boxes = [plot.bounding_box() for plot in page.query_selector_all("svg.plot")]
    arms_and_claims, curves = boxes[:2], boxes[2:]
    assert all(box["width"] > 300 and box["height"] > 150 for box in arms_and_claims)
    assert len(curves) == 5 and all(box["width"] > 150 and box["height"] > 150 for box in curves)
    # A letter that is drawn at 8 points in a panel is not smaller than 8 pixels on a phone.
    scale = page.evaluate(
        "[...document.querySelectorAll('svg.plot')].map("
        "s => s.getBoundingClientRect().width / s.viewBox.baseVal.width)"
    )
    assert min(scale) * 8 > 8
    forest = visit(PAGES[0], width).query_selector_all("tbody svg.forest")
    assert len(forest) == 9 and all(plot.bounding_box()["width"] > 200 for plot in forest)


def test_a_dark_page_is_dark_and_so_are_its_figures(visit):
    colours = []
    for scheme in SCHEMES:
        page = visit(PAGES[1], scheme=scheme)
        paper = page.eval_on_selector("body", "e => getComputedStyle(e).backgroundColor")
        text = page.eval_on_selector("body", "e => getComputedStyle(e).color")
        letter = page.eval_on_selector("#arms-text_1 use", "e => getComputedStyle(e).fill")
        assert letter == text
        colours.append((paper, text))
    assert colours[0] == ("rgb(255, 255, 255)", "rgb(51, 51, 51)")
    assert colours[1] == ("rgb(20, 23, 27)", "rgb(220, 223, 228)")


FINDINGS = "table:has(svg.forest)"
"""The scorecard's table of all claims: the ten findings and the sizes that matter are others."""


def column(page, number: int) -> list[str]:
    rows = f"{FINDINGS} tbody tr:not([hidden])"
    cells = page.query_selector_all(f"{rows} > :nth-child({number})")
    return [cell.inner_text().strip() for cell in cells]


def test_the_scorecard_sorts_by_key_and_by_click(visit):
    page = visit(PAGES[0])
    head = page.query_selector(f"{FINDINGS} thead th:nth-child(4)")
    assert head.inner_text().startswith("forest plot")
    button = head.query_selector("button")
    button.focus()
    page.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "ascending"
    sorts = f"{FINDINGS} tbody tr > :nth-child(4)"
    keys = page.eval_on_selector_all(sorts, "cells => cells.map(cell => cell.dataset.sort)")
    numbers = [float(key) for key in keys if key]
    assert numbers == sorted(numbers) and len(set(numbers)) > 3
    assert keys[-1] == ""
    button.click()
    assert head.get_attribute("aria-sort") == "descending"
    again = page.eval_on_selector_all(sorts, "cells => cells.map(cell => cell.dataset.sort)")
    assert [float(key) for key in again[:-1]] == numbers[::-1]
    assert again[-1] == ""  # what is missing stays last
    page.click(f"{FINDINGS} thead th:nth-child(1) button")
    assert head.get_attribute("aria-sort") is None
    assert column(page, 1) == sorted(column(page, 1))


def test_the_papers_effect_is_seen_without_scrolling_and_a_phone_has_cards(visit):
    page = visit(PAGES[0], 1440)
    papers = f"{FINDINGS} thead th:nth-child(3)"
    assert page.inner_text(papers).startswith("the paper")
    assert page.locator(papers).bounding_box()["x"] < 700
    key = page.locator(".key").bounding_box()
    assert key["y"] < page.locator(FINDINGS).bounding_box()["y"]
    phone = visit(PAGES[0], 390)
    for chip in phone.query_selector_all(".chip"):
        box = chip.bounding_box()
        assert box["x"] + box["width"] <= 390 and box["height"] < 35
    cells = [
        cell.bounding_box() for cell in phone.query_selector_all(f"{FINDINGS} tr:first-child > *")
    ]
    assert len({round(box["x"]) for box in cells[-5:]}) == 1, "one under the other"
    boxes = "[...document.querySelectorAll('.scroll')]"
    wide = phone.evaluate(f"{boxes}.filter(box => box.scrollWidth > box.clientWidth).length")
    assert wide == 0, "no table of the scorecard is wider than a phone"


def test_a_table_of_trials_fits_the_screen(browser, tmp_path):
    noises = ("randaugment_n", "randaugment_m", "dropout", "stochastic_depth")
    fields = ["train.lr", "train.ema", "train.weight_decay", "train.label_smoothing"]
    fields += [f"noise.*.{name}" for name in noises]
    rows: list[list[blocks.Text]] = [["1", "complete", "90.00", "2/2", *["1.29e-06"] * len(fields)]]
    header = ["trial", "state", "top-1 (%)", "seeds", *fields]
    table = blocks.Table("Trials", header, rows, sortable=True)
    path = tmp_path / "page.html"
    path.write_text(html.render(blocks.Page("Search", [table]), {}))
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    page.goto(path.as_uri())
    assert page.evaluate(
        "(box => box.scrollWidth <= box.clientWidth)(document.querySelector('.scroll'))"
    )
    assert page.get_attribute("td:last-child", "class") == "short number"
    page.close()


def test_the_scorecard_filters(visit):
    page = visit(PAGES[0])
    assert len(column(page, 1)) == 9
    page.fill("input[type=search]", "larger TEACHER")
    assert column(page, 1) == ["teacher_size"]
    assert page.inner_text("output") == "1 of 9"
    page.fill("input[type=search]", "")
    page.select_option("select >> nth=1", label="not testable")
    assert column(page, 2) == ["Never."]
    page.select_option("select >> nth=0", label="teacher_size")
    assert column(page, 2) == []
    page.select_option("select >> nth=1", label="all")
    assert len(column(page, 1)) == 4


def test_everything_can_be_reached_by_key(visit):
    page = visit(PAGES[1], 390)
    reached = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.outerHTML.slice(0, 120)"))
    text = " ".join(reached)
    for part in ('aria-label="Arms"', 'aria-label="Verdicts"', "<summary>", "<pre", "runs.csv"):
        assert part in text


def test_without_script_the_table_is_there(browser, reports):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((reports / PAGES[0]).as_uri())
    assert (
        page.locator(f"{FINDINGS} tbody tr").count() == 9 and not page.locator("form").is_visible()
    )
    context.close()
