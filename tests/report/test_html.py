"""HTML pages as text: one file, nothing from outside, names escaped, both colour schemes."""

import re
from html.parser import HTMLParser

import pytest
from builders import present
from pages import SCRIPT, analysis, filled, hostile

from ns_bench.files import folder
from ns_bench.report import html, scorecard
from ns_bench.report.blocks import Page, Paragraph, Span, Table
from ns_bench.report.page import content, markdown, write
from ns_bench.report.style import VARIABLES

pytestmark = pytest.mark.slow


class Tags(HTMLParser):
    """Every tag with its attributes, and the text outside of style and script."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text, self._inside = "", ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._inside = tag

    def handle_endtag(self, tag):
        self._inside = ""

    def handle_data(self, data):
        if self._inside not in ("style", "script"):
            self.text += data


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    """The folder of a scorecard and its two study pages, one of a hostile study."""
    store = filled(tmp_path_factory.mktemp("store"), "teacher_size", hostile())
    out = tmp_path_factory.mktemp("out")
    analyses = [analysis(store, "teacher_size"), analysis(store, hostile())]
    for one in analyses:
        write(one, out / f"{one.study.name}-digits")
    scorecard.write(analyses, out)
    return out


PAGES = ["scorecard.html", "teacher_size-digits/report.html", "hostile-digits/report.html"]


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_one_small_file_that_needs_nothing_from_outside(reports, name):
    page = (reports / name).read_text()
    assert len(page.encode()) < 2_000_000
    inside = r"#|data:,$|[\w%.-]+(/[\w%.-]+)?\.(html|csv|tex|png|svg|pdf)$"
    outside = [
        (tag, value)
        for tag, attributes in Tags(page).tags
        for key, value in attributes.items()
        if key in ("src", "href", "xlink:href", "action", "data")
        and not re.match(inside, present(value))
    ]
    assert outside == []
    assert "@import" not in page and not re.search(r"url\((?!#)", page)


@pytest.mark.parametrize("name", PAGES)
def test_names_stay_text(reports, name):
    found = Tags((reports / name).read_text())
    assert [tag for tag, _ in found.tags].count("script") == 1  # our own
    assert not {"img", "b"} & {tag for tag, _ in found.tags}
    if name != PAGES[1]:
        assert f"Is {SCRIPT} <b>better</b>?" in found.text


def test_the_page_says_what_the_markdown_says(tmp_path):
    one = analysis(filled(tmp_path, "teacher_size"), "teacher_size")
    text = " ".join(Tags(html.render(content(one), {})).text.split())
    for line in markdown(one).splitlines():
        for cell in line.strip("| ").split("|") if line.startswith("| ") else []:
            said = re.sub(r"\*\*|`", "", cell).strip()
            assert said == "---" or said in text
    for claim in one.claims:
        assert claim.verdict.reason in text


def test_every_colour_of_a_figure_has_a_light_and_a_dark_value():
    style = (folder("reports") / "templates/style.css").read_text()
    light, dark = style.split("prefers-color-scheme: dark")
    for color, variable in VARIABLES.items():
        assert f"{variable}: {color};" in light and f"{variable}: #" in dark


def test_drawings_have_words_for_those_who_do_not_see_them(reports):
    page = Tags((reports / PAGES[1]).read_text())
    drawings = [a for tag, a in page.tags if tag == "svg"]
    assert len(drawings) == 7  # arms, claims, four learning curves, the teachers' calibration
    assert all(a["role"] == "img" and len(present(a["aria-label"])) > 40 for a in drawings)
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))
    card = Tags((reports / PAGES[0]).read_text())
    labels = [a.get("aria-label") or "" for tag, a in card.tags if tag == "svg" and "role" in a]
    assert len(labels) == 6 and "digits +3.00 [+2.90, +3.10]" not in labels
    assert any(re.match(r"digits \+\d\.\d\d \[.*\]; the paper \+0.70", label) for label in labels)


def test_it_loads_itself_again_only_where_it_is_asked_to():
    page = Page("t", [Paragraph("p")])
    assert "refresh" not in html.render(page, {})
    assert '<meta http-equiv="refresh" content="5">' in html.render(page, {}, refresh=5)


def test_links_are_paths_even_if_their_name_is_an_address():
    spans = [Span("a", page="javascript:alert(1)"), Span("b", file='x" onclick="y.csv')]
    tags = Tags(html.render(Page("t", [Paragraph(spans)]), {})).tags
    links = [a for tag, a in tags if tag == "a"]
    assert links == [
        {"href": "javascript%3Aalert%281%29.html"},
        {"href": "x%22%20onclick%3D%22y.csv"},
    ]


def test_a_table_without_rows_can_be_shown():
    table = Table("Findings", ["study", "claim"], [], sortable=True, filters={"study": []})
    assert "<table" in html.render(Page("t", [table]), {})
