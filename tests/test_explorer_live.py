"The explorer with a kernel behind it, in a real browser: in JupyterLab, in `mid explore`, and without an answer."

import json
import os
import re
import secrets
import socket
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from browser import needs_chromium
from nbclient import NotebookClient
from nbconvert import HTMLExporter
from nbformat.v4 import new_code_cell, new_notebook
from test_jupyterlab import CLOSE, OPEN, jupyterlab

from mid_nbdev.analysis.explore import FRONT_END
from mid_nbdev.data.images import demo_source

pytestmark = [pytest.mark.long, needs_chromium]
KERNEL = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
TINY = """
import timm
import torch
from mid_nbdev import Classifier, Preprocessing, explore
from mid_nbdev.data.images import demo_source

def tiny(seed=0):
    torch.manual_seed(seed)
    network = timm.create_model("test_resnet")
    network.get_classifier().weight.data *= 300
    return Classifier(network, Preprocessing(44, 32, "bilinear", (0.5,) * 3, (0.2,) * 3), f"tiny {seed}")

few = demo_source().take([5, 6, 7])
"""
IDLE = "[...document.querySelectorAll('.mid-explorer .pane')].every(pane => pane.ariaBusy === 'false')"
SHOWN = f"name => document.querySelector('.mid-explorer .photo img')?.alt === name && {IDLE}"
MOVED = """top => !/waiting/.test(document.querySelector('.mid-explorer .answer').className)
    && document.querySelector('.mid-explorer .answer').textContent.includes(`${top} from the top`)"""
SAYS = """([what, place, words]) =>
    document.querySelectorAll('.mid-explorer ' + what)[place]?.textContent.includes(words)"""


def says(page, what: str, words: str, place: int = 0, seconds: float = 200):
    "Wait until a part of the explorer says something."
    page.wait_for_function(SAYS, arg=[what, place, words], timeout=1000 * seconds, polling=5)


def notebook(*sources: str):
    "A notebook of code cells."
    return new_notebook(cells=[new_code_cell(source) for source in sources], metadata=KERNEL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("explorer") / "nbs"


@pytest.fixture(scope="module")
def lab(folder, browser):
    folder.mkdir()
    with jupyterlab(folder) as address:
        page = browser.new_page(viewport={"width": 1440, "height": 1000})
        page.goto(address)
        page.wait_for_function("window.jupyterapp !== undefined", timeout=120_000)
        yield page
        page.close()


@pytest.fixture
def opened(lab, folder, request):
    "A page of JupyterLab with an explorer that its kernel answers; the notebook's code is the test's parameter."
    name = f"{secrets.token_hex(4)}.ipynb"
    nbformat.write(notebook(request.param), folder / name)
    lab.evaluate(OPEN, name)
    lab.wait_for_function("document.querySelector('.mid-explorer .pane[aria-busy=false] h3')", timeout=200_000)
    yield lab
    lab.evaluate(CLOSE)


LITE = """
from mid_nbdev import explore
from mid_nbdev.data.images import demo_source
explore("efficientnet_lite0", demo_source().take([5, 6, 7, 10, 14]), recipe="CC+4RC")
"""


TIMED = """async () => {{
    const one = (what) => document.querySelector(".mid-explorer " + what);
    const start = performance.now();
    {act};
    await new Promise((resolve) => {{
        const look = () => {{ if ({done}) {{ watch.disconnect(); resolve(); }} }};
        const watch = new MutationObserver(look);
        watch.observe(document.body, {{subtree: true, childList: true, characterData: true, attributes: true}});
        look();
    }});
    await new Promise(requestAnimationFrame);
    return performance.now() - start;
}}"""
VIEW = """one(".photo img")?.alt === "{}" && one(".pane").ariaBusy === "false" """
PRESS = """one(".hand").dispatchEvent(new KeyboardEvent("keydown", {{key: "{}", shiftKey: {}, bubbles: true}}))"""
ENTER = """const field = one("[aria-label='first recipe']");
    field.value = "{}"; field.dispatchEvent(new Event("change"))"""
MOVED_TO = """!/waiting/.test(one(".answer").className) && one(".answer").textContent.includes("and {} from the top")"""


@pytest.mark.skipif("MID_LATENCIES" not in os.environ, reason="a measurement; set MID_LATENCIES=1 to print it")
def test_latencies(lab, folder):
    "What each kind of answer takes, printed as a table (`pytest -n0 -m long -s -k latencies`)."
    nbformat.write(notebook(LITE), folder / "latencies.ipynb")
    took: dict[str, list[float]] = {}

    def timed(what, act, done):
        took.setdefault(what, []).append(lab.evaluate(TIMED.format(act=act, done=done)))

    mapped = """one(".maphead .quiet").textContent.includes("leads")"""
    lab.evaluate(OPEN, "latencies.ipynb")
    says(lab, ".maphead .quiet", "leads")
    for _ in range(3):
        again = "one('').remove(); window.jupyterapp.commands.execute('notebook:run-all-cells')"
        timed("first view", again, VIEW.format("imagenet_05_853.jpg"))
        timed("full map", "", mapped)
        lab.wait_for_function("document.querySelectorAll('.mid-explorer .thumb .mark').length === 10", timeout=100_000)
    for number, thumb in enumerate(lab.locator(".mid-explorer .thumb").all()):
        if (name := thumb.get_attribute("title")) != "imagenet_05_853.jpg":
            timed("next image", f"document.querySelectorAll('.thumb')[{number}].click()", VIEW.format(name))
            timed("full map", "", mapped)
    for count in range(5, 10):
        for what, text in (("recipe with new crops", f"{count}MRC"), ("recipe without new crops", f"{count - 3}MRC")):
            timed(what, ENTER.format(text), f"""one(".head p").textContent.includes("{text} averages")""")
            says(lab, ".maphead .quiet", "leads")
    for key, far in [("ArrowLeft", "true")] * 20 + [("ArrowRight", "false")]:  # to places that no map holds
        lab.evaluate(TIMED.format(act=PRESS.format(key, far), done="true"))
    for top in range(15, -1, -1):
        timed("step of the dragged box", PRESS.format("ArrowUp", "false"), MOVED_TO.format(top))
    lab.evaluate(CLOSE)
    medians = {what: [sorted(ms)[len(ms) // 2], len(ms)] for what, ms in took.items()}
    table = pd.DataFrame(medians, ["median, ms", "of"]).T
    print(table.round().astype(int).to_string(), "\nload", Path("/proc/loadavg").read_text())


RIGHT = TINY + "explorer = explore([tiny(0), tiny(1)], few, recipe='CC+4RC')\nexplorer"


@pytest.mark.parametrize("opened", [RIGHT], indirect=True)
def test_two_networks_errors_in_place_and_only_the_last_wish_counts(opened):
    opened.get_by_role("button", name="Side by side").click()
    says(opened, "h3", "%", 1)
    networks = [opened.locator(f'[aria-label="{which} network"]') for which in ("first", "second")]
    assert [network.input_value() for network in networks] == ["0", "1"]
    recipe, errors = opened.locator('[aria-label="second recipe"]'), opened.locator(".mid-explorer .pane .error")
    recipe.fill("20XC")
    recipe.press("Enter")
    says(opened, ".pane .error", "20XC", 1)
    says(opened, ".pane .maphead .quiet", "leads")
    assert errors.nth(0).text_content() == ""
    recipe.fill("auto")
    recipe.press("Enter")
    says(opened, ".head p", "auto~0.2 stops", 1)
    assert errors.nth(1).text_content() == ""
    for number in [1, 2, 0] * 5 + [2]:
        opened.locator(f'.thumb[data-image="{number}"]').click()
    last = opened.locator('.thumb[data-image="2"]').get_attribute("title")
    opened.wait_for_function(SHOWN, arg=last)
    time.sleep(1)
    assert opened.evaluate(SHOWN, last)
    grip = opened.locator(".mid-explorer .hand .grip").first.bounding_box()
    x, y = grip["x"] + grip["width"] / 2, grip["y"] + grip["height"] / 2
    opened.mouse.move(x, y)
    opened.mouse.down()
    for step in range(60):
        opened.mouse.move(x + 20 * (step % 7), y - step)
    opened.mouse.move(x - 3000, y - 3000)
    opened.mouse.up()
    opened.wait_for_function(MOVED, arg=0)
    assert " 0 pixels from the left and 0 from the top" in opened.locator(".answer").nth(1).inner_text()


RUN = TINY + """
import tempfile
from mid_nbdev.evaluation.runs import evaluate_run
network = tiny()
run = evaluate_run(network, demo_source(), "CC,5FC+4RC", tempfile.mkdtemp(), keep_crops=True, device="cpu")
explorer = explore(run, demo_source(), classifier=network)
explorer
"""


@pytest.mark.parametrize("opened", [RUN], indirect=True)
def test_a_finished_run_is_filtered_at_once(opened):
    pressed = opened.locator('.mid-explorer .bar button[aria-pressed="true"]').first
    says(opened, ".bar button", "0")
    name, count = pressed.inner_text().split()
    assert name in ("corrected", "broken", "unsure") and int(count) > 0
    assert opened.locator(".mid-explorer .thumb .mark").count() == 2 * int(count)
    assert opened.locator('[aria-label="first recipe"]').input_value() == "5FC+4RC"
    opened.get_by_role("button", name="all 20").click()
    opened.wait_for_function("document.querySelectorAll('.mid-explorer .thumb .mark').length === 40")


@pytest.mark.parametrize("opened", [TINY + "explore(tiny(), few, recipe='CC+4RC')"], indirect=True)
def test_themes_an_interrupted_kernel_and_none(opened):
    style = "getComputedStyle(document.querySelector('.mid-explorer'))"
    light = lambda color: sum(map(int, re.findall(r"\d+", color)[:3]))
    for theme, dark in (("JupyterLab Dark", True), ("JupyterLab Light", False)):
        opened.evaluate("theme => window.jupyterapp.commands.execute('apputils:change-theme', {theme})", theme)
        opened.wait_for_selector(".mid-explorer.dark" if dark else ".mid-explorer:not(.dark)")
        ink, paper = (light(opened.evaluate(f"{style}.{name}")) for name in ("color", "backgroundColor"))
        assert ink - paper > 400 if dark else paper - ink > 400
    opened.evaluate("() => window.panel.sessionContext.session.kernel.interrupt()")
    opened.locator('.thumb[data-image="1"]').click()
    opened.wait_for_function(SHOWN, arg="imagenet_06_609.jpg")
    opened.evaluate("() => window.panel.sessionContext.session.kernel.shutdown()")
    opened.locator('.thumb[data-image="2"]').click()
    says(opened, ".error", "No answer from the kernel")


OURS = """
import timm
from torchvision.transforms import CenterCrop, Compose, Normalize, Resize, ToTensor

def network():
    transform = Compose([Resize(44), CenterCrop(32), ToTensor(), Normalize((0.5,) * 3, (0.2,) * 3)])
    return timm.create_model("test_resnet"), transform
"""


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def listening(port: int) -> set[str]:
    "The addresses, in hexadecimal, on which anything listens at a port."
    tables = [Path("/proc/net", table).read_text().splitlines()[1:] for table in ("tcp", "tcp6")]
    lines = [line.split() for table in tables for line in table]
    places = (local.split(":") for _, local, _, state, *_ in lines if state == "0A")
    return {address for address, number in places if int(number, 16) == port}


def test_mid_explore_serves_this_machine_with_a_token(browser, tmp_path):
    (tmp_path / "ours.py").write_text(OURS)
    (tmp_path / "photos").symlink_to(demo_source().root)
    line = ["explore", "ours:network", "--data", "photos", "--recipe", "CC+4RC", "--no-browser"]
    port = free_port()
    with open(tmp_path / "log.txt", "w") as log:
        command = [sys.executable, "-m", "mid_nbdev", *line, "--port", str(port)]
        served = subprocess.Popen(command, cwd=tmp_path, stdout=log, stderr=log)
        try:
            for _ in range(240):
                said = (tmp_path / "log.txt").read_text()
                if found := re.search(r"http://\S+token=\w+", said):
                    break
                assert served.poll() is None, said
                time.sleep(0.5)
            assert found, said
            assert listening(port) == {"0100007F"}, "on 127.0.0.1 alone"
            page = browser.new_page(viewport={"width": 900, "height": 1000})
            assert page.goto(f"http://127.0.0.1:{port}/").status in (403, 401) or "login" in page.url
            page.goto(found[0], timeout=200_000)
            says(page, ".maphead .quiet", "leads")
            assert page.evaluate("document.documentElement.scrollWidth") == 900
            name = page.locator('.thumb[aria-selected="false"]').first.get_attribute("title")
            page.locator(f'.thumb[title="{name}"]').click()
            page.wait_for_function(SHOWN, arg=name)
            page.close()
        finally:
            served.terminate()
            served.wait(30)


@pytest.fixture(scope="module")
def executed():
    "A notebook with an explorer, executed with the state of its widgets saved."
    made = notebook(TINY + "explore(tiny(), few, recipe='CC+4RC')")
    NotebookClient(made, timeout=200).execute()
    return made


def state(made) -> dict:
    "The explorer's own state among those of a notebook's widgets."
    states = made.metadata.widgets["application/vnd.jupyter.widget-state+json"]["state"].values()
    return next(one["state"] for one in states if "start" in one["state"])


def test_the_output_has_a_picture_for_viewers_without_widgets(browser, executed):
    output = executed.cells[0].outputs[-1]
    assert {"application/vnd.jupyter.widget-view+json", "image/png", "text/plain"} <= output.data.keys()
    assert output.data["text/plain"] == "explore: imagenet_05_853.jpg, CC+4RC"
    plain = nbformat.from_dict(executed)
    plain.metadata = KERNEL  # as JupyterLab saves it: without the state of widgets
    page = browser.new_context(java_script_enabled=False).new_page()
    page.set_content(HTMLExporter().from_notebook_node(plain)[0])
    assert page.locator("img").bounding_box()["width"] > 600
    page.close()


def test_the_front_end_loads_nothing_and_shows_a_picture_where_no_kernel_answers(browser, executed):
    saved = state(executed)
    assert saved["_esm"] == (FRONT_END / "explorer.js").read_text(encoding="utf-8")
    addresses = set(re.findall(r"https?://[^\"'`\s]+", saved["_esm"] + saved["_css"]))
    assert addresses <= {"http://www.w3.org/2000/svg"} and "import" not in saved["_esm"]
    model = f"{{get: () => ({json.dumps(saved['start'])}), send() {{}}, on() {{}}, off() {{}}}}"
    page = browser.new_page()
    script = f"{saved['_esm']}\nmount(here, fromKernel({model}))"
    page.set_content(f"<div id=here></div><script type=module>{script}</script>")
    page.wait_for_selector(".mid-explorer .still")
    assert page.locator(".still").evaluate("image => image.naturalWidth") > 600
    assert "No answer from the kernel" in page.locator(".mid-explorer .error").first.inner_text()
    page.close()
