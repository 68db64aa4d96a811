"The site as a reader meets it, in Chromium: front page, table, reference, search, dark, and at a phone's width."

import os
import subprocess
import sys
from pathlib import Path

import pytest
from browser import needs_chromium, served
from filelock import FileLock

pytestmark = [pytest.mark.long, needs_chromium]
ROOT = Path(__file__).resolve().parent.parent
WIDE = """() => [...document.querySelectorAll("body *")]
    .filter(e => e.getBoundingClientRect().right > innerWidth + 1)
    .filter(e => !e.closest("pre, .cell-output, .cell-output-display, .offcanvas, math"))
    .map(e => e.outerHTML.slice(0, 80)).slice(0, 3)"""
CUT = """() => [...document.querySelectorAll("main pre:not(.columns)")]
    .filter(e => e.scrollWidth > e.clientWidth + 1).length"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    "The site, built once for all the processes of a run."
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "site"
    with FileLock(f"{folder}.lock"):
        if not (folder / "index.html").exists():
            line = [sys.executable, ROOT / "tools" / "docs.py", folder, "--engine", "smalldocs"]
            subprocess.run(line, check=True, stdout=subprocess.DEVNULL)
    return folder


@pytest.fixture
def page(site, browser):
    "A page on a screen, which tells at the end whether anything failed or was asked of another site."
    with served(site) as address:
        context = browser.new_context(viewport={"width": 1280, "height": 900}, base_url=address, color_scheme="light")
        opened, wrong = context.new_page(), []
        opened.on(
            "request", lambda request: None if request.url.startswith((address, "data:")) else wrong.append(request.url)
        )
        opened.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
        opened.on("pageerror", lambda error: wrong.append(str(error)))
        yield opened
        context.close()
        assert wrong == []


def test_front_page(page):
    page.goto("index.html")
    assert page.locator("h1").inner_text() == "mid_nbdev"
    picture = page.locator("main img").first
    assert picture.evaluate("image => image.complete && image.naturalWidth > 600")
    assert "beach wagon" in picture.get_attribute("alt")
    for door, title in (("Use it", "five minutes"), ("Understand it", "Geometry"), ("Reproduce the paper", "claims")):
        page.goto("index.html")
        page.locator("nav.navbar").get_by_role("link", name=door).click()
        assert title.lower() in page.locator("h1").inner_text().lower()


def test_table_page(page):
    page.goto("paper/table_9.html")
    table = page.locator("main table").first
    assert table.locator("tr").count() > 20 and "efficientnet_lite0" in table.inner_text()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert table.evaluate("table => getComputedStyle(table.closest('.cell-output-display')).overflowX") == "auto"


def test_no_line_of_code_is_cut(page):
    for width in (1280, 390):
        page.set_viewport_size({"width": width, "height": 900})
        for name in ("averaging/wrapper.html", "paper/table_9.html", "tutorials/five_minutes.html"):
            page.goto(name)
            assert page.evaluate(CUT) == 0, name


def test_the_names_of_rows_stay_in_sight(page):
    page.set_viewport_size({"width": 1000, "height": 900})
    page.goto("paper/table_3.html")
    box, name = (
        page.locator("main .cell-output-display").nth(1),
        page.locator("main td", has_text="Average of SM of 20 RCs").first,
    )
    before = name.bounding_box()["x"]
    assert box.evaluate("box => box.scrollWidth > box.clientWidth && (box.scrollLeft = 300) && box.scrollLeft") == 300
    assert abs(name.bounding_box()["x"] - before) < 2
    assert name.evaluate("cell => getComputedStyle(cell).textAlign") == "left"


def test_reference_page(page):
    page.goto("averaging/wrapper.html#mid.forward")
    entry = page.locator("[id='mid.forward']")
    box = entry.bounding_box()
    assert 0 <= box["y"] < 900
    assert "probabilities (images, classes), float32" in entry.inner_text()
    entry.get_by_role("link", name="named_pictures").click()
    assert page.url.endswith("averaging/wrapper.html#named_pictures")


def test_search_typed_and_clicked(page):
    page.goto("index.html")
    page.get_by_placeholder("Search").fill("offset_count")
    found = page.locator("a[href*='crops/geometry.html#offset_count']").filter(visible=True).first
    found.click()
    page.wait_for_url("**/geometry.html#offset_count*")
    assert page.locator("#offset_count h3").is_visible()


def test_dark_and_back(page):
    ground = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3).map(Number)"
    page.goto("crops/geometry.html")
    assert min(page.evaluate(ground)) > 200
    page.locator(".quarto-color-scheme-toggle").first.click()
    assert max(page.evaluate(ground)) < 80
    page.goto("analysis/stats.html")
    assert max(page.evaluate(ground)) < 80


@pytest.mark.parametrize("width", [390, 320])
def test_every_page_fits_a_phone(page, site, width):
    page.set_viewport_size({"width": width, "height": 800})
    for path in sorted(site.rglob("*.html")):
        page.goto(path.relative_to(site).as_posix())
        assert page.evaluate("document.documentElement.scrollWidth") <= width, (path.name, page.evaluate(WIDE))


def test_the_menu_opens_on_a_phone(page):
    page.set_viewport_size({"width": 390, "height": 800})
    page.goto("crops/boxes.html")
    assert not page.locator("#quarto-sidebar").get_by_role("link", name="Recipes").is_visible()
    page.locator(".quarto-btn-toggle").first.click()
    page.locator("#quarto-sidebar").get_by_role("link", name="Recipes").click()
    assert page.locator("h1").inner_text() == "Recipes"


def test_the_explorer_on_two_pages(page, site, browser):
    for address in ("index.html", "analysis/explore.html"):
        page.goto(address)
        around = page.locator("iframe[title='What a network sees']")
        assert len(around.get_attribute("srcdoc")) < 300_000
        around.scroll_into_view_if_needed()
        inside = page.frame_locator("iframe[title='What a network sees']")
        inside.locator(".maphead .quiet", has_text="leads").wait_for()
        inside.locator('input[type="range"]').press("Home")
        assert inside.locator("output").inner_text() == "1 of 10"
        first = inside.locator(".photo img").get_attribute("alt")
        inside.get_by_role("button", name="next image").click()
        inside.locator(f".photo img:not([alt='{first}'])").wait_for()
        inside.get_by_role("button", name="Another seed").click()
        inside.locator(".head p", has_text="seed 1").wait_for()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    with served(site) as address:
        plain = browser.new_context(java_script_enabled=False).new_page()
        plain.goto(f"{address}analysis/explore.html")
        plain.locator("iframe").scroll_into_view_if_needed()
        assert plain.frame_locator("iframe").locator("#explorer img").bounding_box()["width"] > 400
        plain.context.close()
