"The explorer on a page, in a real browser: clicked, dragged, and worked by keys; what is shown is what was computed."

import json
import re

import pytest
import timm
import torch
from browser import needs_chromium

from mid_nbdev import Classifier, Preprocessing, explore
from mid_nbdev.analysis.page import explorer_page
from mid_nbdev.data.images import demo_source

pytestmark = needs_chromium
READY = "document.querySelector('.mid-explorer .maphead .quiet')?.textContent.includes('leads')"
SMALLEST_TEXT = """() => {
    const walk = document.createTreeWalker(document.querySelector(".mid-explorer"), NodeFilter.SHOW_TEXT);
    const sizes = [];
    while (walk.nextNode()) {
        const {textContent, parentElement} = walk.currentNode;
        const shown = textContent.trim() && parentElement.tagName !== "title";
        if (shown) sizes.push(parseFloat(getComputedStyle(parentElement).fontSize));
    }
    return Math.min(...sizes);
}"""


@pytest.fixture(scope="module")
def html():
    torch.manual_seed(0)
    small = Preprocessing(44, 32, "bilinear", (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))
    network = timm.create_model("test_resnet")
    network.get_classifier().weight.data *= 300  # answers that differ from place to place
    network = Classifier(network, small, "tiny")
    return explorer_page(explore(network, demo_source().take([5, 6, 7]), recipe="CC+4RC"), ["auto~9", "CC"], 2)


@pytest.fixture(scope="module")
def numbers(html):
    return json.loads(re.search(r'id="numbers">(.*?)</script>', html, re.DOTALL)[1])


@pytest.fixture
def page(browser, html):
    opened = browser.new_page(viewport={"width": 900, "height": 1000}, color_scheme="light")
    wrong: list[str] = []
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    opened.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    opened.on("request", lambda asked: None if asked.url.startswith(("data:", "about:")) else wrong.append(asked.url))
    opened.set_content(html)
    opened.wait_for_function(READY)
    yield opened
    opened.close()
    assert wrong == [], "an error, or something that the page loads"


def test_it_shows_the_numbers_and_works_by_keys(page, numbers):
    image = numbers["start"]["image"]
    scene = numbers["scenes"][f"{image}|CC+4RC|0"]
    title = page.locator("h3").inner_text()
    assert title.startswith(numbers["names"][str(scene["answer"][0])])
    assert f"{round(scene['answer'][1] / 10)} %" in title and "✗" in title
    assert page.locator(".crops li").count() == page.locator(".photo .box").count() == 5
    chosen = page.locator('.thumb[aria-selected="true"]')
    assert chosen.get_attribute("data-image") == str(image)
    chosen.focus()
    order = [(item["image"], item["name"]) for item in numbers["items"]["CC+4RC"]]
    for key, place in (("ArrowRight", 1), ("ArrowRight", 2), ("Home", 0), ("n", 1), ("p", 0), ("End", 2)):
        page.keyboard.press(key)
        page.wait_for_function(f"document.querySelector('.photo img').alt === {json.dumps(order[place][1])}")
        assert page.evaluate("document.activeElement.dataset.image") == str(order[place][0])
    assert page.locator('[aria-label="next image"]').is_disabled()


@pytest.mark.long
def test_a_crop_lights_up_in_the_list_and_in_the_photo(page):
    width = lambda number: float(page.locator(f'.box[data-crop="{number}"]').get_attribute("stroke-width"))
    page.locator(".crops li").nth(2).hover()
    assert width(2) > 4 > width(1) and page.locator(".crops li.lit").count() == 1
    shown = page.locator(".three").inner_text()
    assert shown.startswith("random 2") and shown.count("%") == 3
    photo = page.locator(".photo").bounding_box()
    left, top, size = (float(page.locator('.box[data-crop="4"]').get_attribute(name)) for name in ("x", "y", "width"))
    scale = photo["width"] / float(page.locator(".photo svg").get_attribute("viewBox").split()[2])
    page.mouse.move(photo["x"] + (left - 0.5) * scale, photo["y"] + (top + size / 2) * scale)
    page.wait_for_function("document.querySelectorAll('.crops li')[4].classList.contains('lit')")
    page.locator(".crops").focus()
    page.mouse.move(0, 0)
    page.keyboard.press("Home")
    page.keyboard.press("ArrowDown")
    assert page.locator('.crops li[aria-selected="true"]').inner_text().startswith("random 1")


def test_the_count_goes_from_one_crop_to_all_and_plays(page, numbers):
    slider = page.locator('input[type="range"]')
    slider.focus()
    page.keyboard.press("Home")
    scene = numbers["scenes"][f"{numbers['start']['image']}|CC+4RC|0"]
    assert page.locator("output").inner_text() == "1 of 5"
    rows = page.locator(".pane table tr")
    assert [rows.nth(number).locator("th").inner_text() for number in range(3)] == ["softmax", "logit", "feature"]
    first, value, second, after = scene["levels"]["logit"]["first"][0]
    assert f"{(value - after) / 1000:.2f} ahead of {numbers['names'][str(second)]}" in rows.nth(1).inner_text()
    assert page.locator(".crops li.later").count() == 4
    page.locator('[aria-label^="play"]').click()
    page.wait_for_function("document.querySelector('output').textContent === '5 of 5'")
    page.wait_for_selector('[aria-label="play the running average"]')
    assert f"auto would stop: {scene['stop']}" in page.locator(".chart").text_content()


def test_a_box_is_dragged_and_moved_by_keys(page):
    hand = page.locator(".hand .over")
    before, area = hand.bounding_box(), page.locator(".photo").bounding_box()
    grip = page.locator(".hand .grip").bounding_box()
    x, y = grip["x"] + grip["width"] / 2, grip["y"] + grip["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x - 30, y - 20, steps=4)
    page.mouse.move(x - 3000, y - 3000, steps=4)
    page.mouse.up()
    after = hand.bounding_box()
    assert after["x"] < before["x"] and abs(after["x"] - area["x"]) < area["width"] / 44 + 3
    answer = page.locator(".answer")
    page.wait_for_function("!document.querySelector('.answer').classList.contains('waiting')")
    assert answer.inner_text().startswith("A crop 0 pixels from the left and 0 from the top sees ")
    for _ in range(4):
        page.keyboard.press("Shift+ArrowRight")
    page.wait_for_function("!/ 0 pixels from the left/.test(document.querySelector('.answer').textContent)")
    assert "from the left and 0 from the top sees" in answer.inner_text() and answer.inner_text().count("%") == 3
    assert "Arrow keys" in page.locator(".hand").get_attribute("aria-label")


@pytest.mark.long
def test_the_map_is_painted_for_the_chosen_class(page):
    pixels = "document.querySelector('.map canvas').toDataURL()"
    label = page.locator(".map canvas").get_attribute("aria-label")
    assert re.fullmatch(r".+ leads at \d+ % of the places", label)
    before = page.evaluate(pixels)
    chooser = page.locator(".maphead select")
    other = chooser.locator("option").last.get_attribute("value")
    chooser.select_option(other)
    assert page.evaluate(pixels) != before != "data:,"
    assert page.locator(".mid-explorer .photo canvas").is_visible()
    page.get_by_role("button", name="Map on photo").click()
    assert not page.locator(".mid-explorer .photo canvas").is_visible()


@pytest.mark.long
def test_another_draw_another_recipe_and_two_side_by_side_fit(page):
    boxes = "[...document.querySelectorAll('.box')].map(box => box.getAttribute('x') + box.getAttribute('y')).join()"
    before = page.evaluate(boxes)
    page.get_by_role("button", name="Another seed").click()
    page.wait_for_function(f"({boxes}) !== {json.dumps(before)}")
    assert "seed 1" in page.locator(".head .quiet").inner_text()
    page.locator('[aria-label="first recipe"]').select_option("auto~9")
    told = "auto~9 stops after 10 of 10 crops"
    page.wait_for_function(f"document.querySelector('.head .quiet').textContent.includes('{told}')")
    page.get_by_role("button", name="Side by side").click()
    page.wait_for_function("document.querySelectorAll('.pane h3:not(:empty)').length === 2")
    assert page.locator('[aria-label="second recipe"]').input_value() == "CC"
    assert page.evaluate("document.documentElement.scrollWidth") == 900
    assert page.evaluate(SMALLEST_TEXT) >= 12
    page.get_by_role("button", name="Side by side").click()
    assert page.locator(".pane").count() == 1


@pytest.mark.long
def test_filters_have_counts_and_hold_what_they_say(page, numbers):
    items = numbers["items"]["CC+4RC"]
    for name in numbers["start"]["filters"]:
        shown = [item for item in items if name in item["filters"]]
        page.get_by_role("button", name=f"{name} {len(shown)}").click()
        page.wait_for_function(f"document.querySelectorAll('.thumb').length === {len(shown)}")
    assert page.locator('button[aria-pressed="true"]').first.inner_text() == f"all {len(items)}"


def test_dark_and_without_javascript(browser, html):
    dark = browser.new_page(color_scheme="dark", viewport={"width": 900, "height": 900})
    dark.set_content(html)
    dark.wait_for_function(READY)
    styles = "getComputedStyle(document.querySelector('.mid-explorer'))"
    ink, paper = (dark.evaluate(f"{styles}.{name}") for name in ("color", "backgroundColor"))
    light = lambda color: sum(map(int, re.findall(r"\d+", color)[:3]))
    assert light(ink) > 600 and light(paper) < 150
    dark.close()
    plain = browser.new_context(java_script_enabled=False).new_page()
    plain.set_content(html)
    assert plain.locator("#explorer img").bounding_box()["width"] > 400
    assert "boxes of the crops, map, and average" in plain.locator("#explorer img").get_attribute("alt")
