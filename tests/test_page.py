"A run's page is one file that asks nobody for anything; classes that are not balanced are measured."

import json
import re
from html.parser import HTMLParser
from importlib.resources import files

import numpy as np
import pandas as pd
import pytest
from browser import needs_chromium
from PIL import Image
from test_right_reports import make_rows, make_run, mid

from mid_nbdev import InputError
from mid_nbdev.analysis.balance import balance, read_class_weights
from mid_nbdev.analysis.report_page import page_bytes
from mid_nbdev.evaluation.verify import make_origin

VOID = {"meta", "link", "img", "br", "circle", "line"}


class Checked(HTMLParser):
    "Elements in order, each with its attributes; every one that opens has to close."

    def __init__(self, text):
        super().__init__()
        self.found, self.open = [], []
        self.feed(text)
        assert not self.open, self.open

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))
        if tag not in VOID: self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, tag

    def every(self, tag):
        "The attributes of all elements of a kind."
        return [attributes for name, attributes in self.found if name == tag]


def test_the_page_is_whole_accessible_and_asks_nobody(tmp_path):
    make_run(tmp_path / "run", recipes="CC,5FC,20RC")
    _, told = mid("report", "run", "--html", "report_page.html", cwd=tmp_path)
    text = (tmp_path / "report_page.html").read_text(encoding="utf-8")
    page = Checked(text)
    assert "page.html:" in told and len(text) < 100_000 and str(tmp_path) not in text
    assert [attributes.get("lang") for attributes in page.every("html")] == ["en"]
    assert [len(page.every(tag)) for tag in ("h1", "main", "header", "footer", "nav", "title")][:5] == [1] * 5
    assert len(page.every("caption")) == len(page.every("table")) and len(page.every("svg")) == 3
    assert all(svg["role"] == "img" and svg["aria-labelledby"] for svg in page.every("svg"))
    assert not re.findall(r'(?:src|href)=(?!"(?:data:|#))|url\(|@import|<script src', text)
    ids = [attributes["id"] for _, attributes in page.found if "id" in attributes]
    assert len(set(ids)) == len(ids) and {a["href"][1:] for a in page.every("a")} <= set(ids)
    assert "20RC" in text and "p = " in text and "mid evaluate torchvision/mobilenet_v2" in text
    mid("report", "run", "--html", "report_page.html", "--recipe", "5FC", cwd=tmp_path)  # a page of ours is replaced
    assert "<title>5FC on val" in (tmp_path / "report_page.html").read_text(encoding="utf-8")


@pytest.mark.long
def test_pictures_are_filtered_by_the_rows_of_the_table(tmp_path):
    rows = make_rows("CC,5FC,20RC", 8)
    for number in range(8): Image.new("RGB", (500, 300), (30 * number, 90, 60)).save(tmp_path / f"{number}.png")
    (tmp_path / "labels.csv").write_text("file,label\n" + "".join(f"{number}.png,1\n" for number in range(8)))
    run = make_run(tmp_path / "run", recipes="CC,5FC,20RC", rows=rows)
    text = page_bytes(run, pictures=5).decode()
    assert "the run has no record of where its images are" in text and not Checked(text).every("img")
    origin = make_origin("torchvision/mobilenet_v2", tmp_path, tmp_path / "labels.csv")
    (run.folder / "origin.json").write_text(json.dumps(origin))
    page = Checked(page_bytes(run, pictures=5).decode())
    pictures = page.every("img")
    assert 0 < len(pictures) <= 5 and all(img["alt"] and img["src"].startswith("data:") for img in pictures)
    links = [(a["data-recipe"], a["data-what"]) for a in page.every("a") if "data-recipe" in a]
    changes = [json.loads(li["data-changes"]) for li in page.every("li") if "data-changes" in li]
    kinds = {tuple(pair) for some in changes for pair in some}
    assert kinds <= set(links) and {recipe for recipe, _ in links} <= {"5FC", "20RC"}


@needs_chromium
@pytest.mark.long
def test_a_browser_shows_filters_and_prints_it(browser, tmp_path):
    for number in range(8): Image.new("RGB", (50, 30), (30 * number, 90, 60)).save(tmp_path / f"{number}.png")
    (tmp_path / "labels.csv").write_text("file,label\n" + "".join(f"{number}.png,1\n" for number in range(8)))
    run = make_run(tmp_path / "run", recipes="CC,5FC,20RC", rows=make_rows("CC,5FC,20RC", 8))
    origin = make_origin("torchvision/mobilenet_v2", tmp_path, tmp_path / "labels.csv")
    (run.folder / "origin.json").write_text(json.dumps(origin))
    (tmp_path / "page.html").write_bytes(page_bytes(run, pictures=8))
    context = browser.new_context(viewport={"width": 390, "height": 844})
    opened, asked, wrong = context.new_page(), [], []
    opened.on("request", lambda request: asked.append(request.url))
    opened.on("console", lambda message: wrong.append(message.text))
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    opened.goto((tmp_path / "page.html").as_uri())
    assert opened.evaluate("document.documentElement.scrollWidth") <= 390
    shown = lambda: opened.locator(".pictures > li:visible").count()
    everything, link = shown(), opened.locator("a[data-recipe]").first
    link.click()
    assert shown() == int(link.inner_text()) <= everything
    assert f"{shown()} shown: " in opened.inner_text("#filter")
    opened.click("#filter button")
    assert shown() == everything
    assert len(opened.pdf(format="A4")) > 10_000
    assert not wrong and [url for url in asked if not url.startswith(("file:", "data:"))] == []
    context.close()


def test_names_cannot_write_into_the_page(tmp_path):
    bad = "<script>alert(1)</script>\u202e"
    run = make_run(tmp_path / "run", recipes="CC,5FC", data=bad, network=f"timm/{bad}")
    text = page_bytes(run).decode()
    assert text.count("<script") == 0 and "\u202e" not in text and "&lt;script&gt;" in text


def test_a_large_run_stays_small(tmp_path):
    generator, recipes = np.random.default_rng(0), "table_1"
    rows = make_rows(recipes, 600, 300)
    label = generator.integers(0, 300, 600)
    rows["label"] = np.tile(label, len(rows) // 600)
    rows["prediction"] = np.where(rows["rank"] == 0, rows["label"], (rows["label"] + rows["rank"]) % 300)
    content = page_bytes(make_run(tmp_path / "run", recipes=recipes, images=600, rows=rows))
    assert len(content) < 300_000
    Checked(content.decode())


def test_class_weights_decide_the_headline(tmp_path):
    rows = make_rows("CC,5FC", 60, 2)
    rows["label"] = np.where(rows["image"].str.len() > 5, 0, 1)
    rows["prediction"] = np.where(rows["rank"] == 0, rows["label"], 1 - rows["label"])
    run = make_run(tmp_path / "run", recipes="CC,5FC", images=60, rows=rows)
    weights = np.array([9.0, 1.0])
    line = balance(rows, "CC", weights).set_index("recipe").loc["5FC"]
    page = page_bytes(run, weights=weights).decode()
    assert f"{line['weighted_gain']:+.1f} points" in page
    assert f"of weighted accuracy, 95 % interval [{line['weighted_gain_low']:+.1f}" in page
    assert f"its weighted accuracy is {line['weighted']:.1f} %" in page
    assert "of balanced accuracy, 95 % interval" in page_bytes(run, weights=np.ones(2)).decode()
    assert "of weighted accuracy" not in page_bytes(run).decode()
    found = json.loads(mid("report", "run", "--class-weights", "balanced", "--format", "json", cwd=tmp_path)[0])
    assert [len(found[name]) for name in ("recipes", "balance")] == [2, 2]


def luminance(color):
    "The relative luminance of a hexadecimal color, by the WCAG."
    parts = [int(color[place:place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return np.dot(linear, [0.2126, 0.7152, 0.0722])


@pytest.mark.parametrize("scheme", [0, 1, 2], ids=["light", "dark", "print"])
def test_text_has_contrast(scheme):
    style = files("mid_nbdev.analysis").joinpath("report_page.html").read_text(encoding="utf-8")
    colors = [dict(re.findall(r"--(\w+): (#\w+);", block)) for block in re.findall(r":root \{([^}]*)\}", style)][scheme]
    full = {name: color if len(color) == 7 else "#" + "".join(2 * sign for sign in color[1:]) for name, color in
            colors.items()}
    for ground in ("paper", "card", "mark"):
        for text in ("ink", "soft", "good", "bad", "link"):
            dark, light = sorted(luminance(full[name]) for name in (ground, text))
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (ground, text)


@pytest.mark.parametrize("words, said", [
    (["--html", "page.txt"], "expected a file ending in .html"),
    (["--html", "other.html"], "was not written by this command"),
    (["--pictures", 3], "--pictures needs a page: give --html FILE, too"),
    (["--html", "a.html", "--recipe", "7RC"], "--recipe '7RC' is not in this run; it has CC, 5FC"),
    (["--html", "a.html", "--pictures", -1], "--pictures -1: expected 0 or more"),
    (["--class-weights", "none.csv"], "no such file; expected balanced, or a CSV of class,weight"),
    (["--confusion", "new", "--pictures", 3], "--pictures needs a page: give --html FILE, too"),
    (["--recipe", "CC"], "--recipe chooses the subject of a page or a confusion matrix"),
    (["--class-weights", "balanced", "--format", "csv"], "--class-weights with --format csv would be two tables"),
    (["other", "--html", "a.html"], "applies to one run, but 2 are given"),
    (["other", "--changed", "new"], "--changed applies to one run, but 2 are given"),
])
def test_what_cannot_be_written_is_refused(words, said, tmp_path):
    for name in ("run", "other"): make_run(tmp_path / name, recipes="CC,5FC")
    (tmp_path / "other.html").write_text("<p>mine</p>")
    assert said in mid("report", "run", *words, cwd=tmp_path, status=2)[1]
    assert (tmp_path / "other.html").read_text() == "<p>mine</p>"


@pytest.mark.long
def test_classes_are_weighted_and_confusions_written(tmp_path):
    rows = make_rows("CC,5FC", 60, 2)
    rows["label"] = np.where(rows["image"].str.len() > 5, 0, 1)
    rows["prediction"] = np.where(rows["rank"] == 0, rows["label"], 1 - rows["label"])
    make_run(tmp_path / "run", recipes="CC,5FC", images=60, rows=rows)
    (tmp_path / "weights.csv").write_text("class,weight\n0,9\n1,1\n")
    output, told = mid("report", "run", "--class-weights", "weights.csv", "--confusion", "seen", cwd=tmp_path)
    names = ("balanced accuracy", "weighted accuracy", "macro F1", "ROC AUC", "average precision")
    assert all(name in output for name in names)
    matrix = pd.read_csv(tmp_path / "seen" / "confusion.csv").set_index("true class").to_numpy()
    wrong = rows[(rows["recipe"] == "5FC") & (rows["rank"] > 0)]
    assert matrix.sum() == 60 and matrix.sum() - np.trace(matrix) == len(wrong)
    assert (tmp_path / "seen" / "confusion.png").stat().st_size > 1000


@pytest.mark.parametrize("text", ["class,weight\n0,-1\n", "class,weight\n0,nan\n", "class,weight\n0,1\n0,2\n",
                                  "class,weight\n9,1\n", "name,w\n0,1\n", "class,weight\n0,1,2\n", ""])
def test_bad_weights_are_refused(text, tmp_path):
    (tmp_path / "weights.csv").write_text(text)
    with pytest.raises(InputError, match="class weights"): read_class_weights(tmp_path / "weights.csv", 2)
