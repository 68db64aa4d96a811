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
    picture = page.locator("main figure > svg").first
    assert picture.bounding_box()["width"] > 450 and picture.locator("image").bounding_box()["width"] > 150
    assert "beach wagon" in picture.get_attribute("aria-label")
    doors = ("Guides", "API", "Command line", "Results", "Paper", "Development")
    for door, title in zip(doors, ("Guides", "API reference", *doors[2:]), strict=True):
        page.goto("index.html")
        page.locator("nav.navbar").get_by_role("link", name=door).click()
        assert title == page.locator("h1").inner_text()


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
    name = page.locator("main td", has_text="Average of SM of 20 RCs").first
    box = page.locator("main .cell-output-display", has=page.locator("td", has_text="Average of SM of 20 RCs")).first
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
    ink = "getComputedStyle(document.querySelector('main figure > svg')).fill.match(/\\d+/g).slice(0, 3).map(Number)"
    page.goto("crops/geometry.html")
    assert min(page.evaluate(ground)) > 200 and max(page.evaluate(ink)) < 80
    page.locator(".quarto-color-scheme-toggle").first.click()
    assert max(page.evaluate(ground)) < 80 and min(page.evaluate(ink)) > 200
    page.goto("analysis/stats.html")
    assert max(page.evaluate(ground)) < 80


@pytest.mark.parametrize("width", [390, 320])
def test_every_page_fits_a_phone(page, site, width):
    page.set_viewport_size({"width": width, "height": 800})
    for path in sorted(set(site.rglob("*.html")) - {site / "404.html"}):
        page.goto(path.relative_to(site).as_posix())
        assert page.evaluate("document.documentElement.scrollWidth") <= width, (path.name, page.evaluate(WIDE))


def test_the_keyboard_gets_past_the_menus_and_shows_where_it_is(page):
    page.goto("commands/evaluate.html")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.innerText") == "Skip to the text"
    assert page.evaluate("document.activeElement.getBoundingClientRect().left") >= 0
    page.keyboard.press("Tab")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("!!document.activeElement.closest('main')")


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
        assert (site / address).parent.joinpath(around.get_attribute("src")).stat().st_size < 300_000
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


def test_a_page_can_be_read_at_1024_pixels(page):
    page.set_viewport_size({"width": 1024, "height": 800})
    for name in ("averaging/wrapper.html", "api.html", "paper/gains.html"):
        page.goto(name)
        assert page.locator("main > p").first.evaluate("text => text.clientWidth") > 600, name
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), name
        assert page.locator("#TOC-body, main > #TOC").is_visible(), name
        assert page.get_by_placeholder("Search").is_visible() and page.get_by_label("Repository on GitHub").is_visible()


def test_the_menu_shows_the_page_that_is_open(page):
    page.set_viewport_size({"width": 1280, "height": 500})
    page.goto("cli/main.html")
    active = page.locator("#quarto-sidebar .sidebar-link.active")
    assert 0 < active.bounding_box()["y"] < 500
    closed = page.locator("#quarto-sidebar").get_by_role("link", name="Five minutes")
    assert not closed.is_visible()


def test_links_and_search_have_contrast_in_both_themes(page):
    channels = "colour => colour.match(/[\\d.]+/g).slice(0, 3).map(Number)"

    def luminance(colour):
        parts = [c / 255 for c in page.evaluate(channels, colour)]
        parts = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), parts, strict=True))

    def contrast(selector, ground):
        text = page.locator(selector).first.evaluate("tag => getComputedStyle(tag).color")
        behind = page.locator(ground).first.evaluate("tag => getComputedStyle(tag).backgroundColor")
        dark, light = sorted(map(luminance, (text, behind)))
        return (light + 0.05) / (dark + 0.05)

    page.goto("guides.html")
    for _ in range(2):
        assert contrast("main dt a", "body") > 4.5
        assert contrast(".smalldocs-search .bi-search", ".smalldocs-search input") > 4.5
        page.locator(".quarto-color-scheme-toggle").first.click()
        page.wait_for_timeout(200)


def test_what_scrolls_can_be_reached_with_the_keyboard(page):
    page.set_viewport_size({"width": 1000, "height": 900})
    page.goto("paper/table_3.html")
    wide = page.locator("main .cell-output-display.scrolls")
    assert wide.count() and wide.first.get_attribute("tabindex") == "0"


def test_an_address_that_is_none_gets_the_page_with_its_styles(page, site, tmp_path):
    (tmp_path / "mid_nbdev").symlink_to(site)
    with served(tmp_path) as address:
        missing = f"{address}mid_nbdev/no/such/page.html"
        page.context.route(missing, lambda route: route.fulfill(path=site / "404.html"))
        opened, failed = page.context.new_page(), []
        opened.on("response", lambda response: failed.append(response.url) if response.status >= 400 else None)
        opened.goto(missing)
        opened.locator("main").get_by_role("link", name="guides").click()
        assert opened.locator("h1").inner_text() == "Guides" and failed == []
