"""Notebooks opened in JupyterLab by Chromium and run from top to bottom.

Every code cell must run without an error, and what is saved must be of the kinds that are committed (text, table,
picture). Three chapters by default; with `MID_BROWSER=all` in the environment, every notebook.
"""

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import nbformat
import pytest
from browser import chromium, needs_chromium
from nbformat.v4 import new_code_cell, new_notebook
from reference import notebook_files

pytestmark = [pytest.mark.long, needs_chromium]
NOTEBOOKS = Path(__file__).resolve().parent.parent / "nbs"
EVERY = [path.relative_to(NOTEBOOKS).as_posix() for path in notebook_files(NOTEBOOKS.parent)]
SHORTENED = [  # cells silent under test
    "evaluation/06_corpus.ipynb",
    "paper/figure_3.ipynb",
    "paper/figure_7.ipynb",
    "paper/table_9.ipynb",
]
SOME = ["crops/01_boxes.ipynb", "analysis/00_stats.ipynb"]
OPEN = """async name => {
    await window.jupyterapp.restored;
    const {commands} = window.jupyterapp;
    const panel = window.panel = await commands.execute("docmanager:open", {path: name, factory: "Notebook"});
    await panel.context.ready; await panel.sessionContext.ready; await panel.sessionContext.session.kernel.info;
    commands.execute("notebook:run-all-cells");
}"""
STATE = """() => {
    const every = [...window.panel.content.model.cells].map(cell => cell.toJSON());
    const cells = every.filter(cell => cell.cell_type === "code");
    const failed = cells.flatMap(cell => cell.outputs).find(output => output.output_type === "error");
    const left = cells.filter(cell => [].concat(cell.source).join("").trim() && cell.execution_count === null).length;
    const kernel = window.panel.sessionContext.session.kernel.status;
    return {failed: failed ? failed.ename + ": " + failed.evalue : "", left: left, kernel: kernel};
}"""
CLOSE = """async () => {
    await window.panel.context.save(); await window.panel.sessionContext.shutdown(); window.panel.dispose();
}"""


def kinds(path: Path) -> list[tuple[str, list[str]]]:
    "What each code cell of a notebook puts out: text, tables, pictures; progress bars aside."
    found = []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            outputs = [out.get("data", {"text/plain": ""}) for out in cell["outputs"] if out.get("name") != "stderr"]
            mimes = {
                mime
                for data in outputs
                for mime in data
                if "image/png" in data or not any("widget" in kind for kind in data)
            }
            pictures = {"image/svg+xml": "image", "image/png": "image"}  # JupyterLab draws pixels, saved figures lines
            found.append((cell["id"], sorted({pictures.get(mime, mime) for mime in mimes if "widget" not in mime})))
    return found


@contextmanager
def jupyterlab(folder: Path):
    "The address of a JupyterLab on a folder, stopped at the end."
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token = secrets.token_hex(16)
    options = [
        "--no-browser",
        "--allow-root",
        "--expose-app-in-browser",
        f"--ServerApp.root_dir={folder}",
        f"--ServerApp.port={port}",
        f"--IdentityProvider.token={token}",
        "--LabApp.news_url=None",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    ]
    environment = {
        **os.environ,
        "IN_TEST": "1",
        "OMP_NUM_THREADS": "1",
        "JUPYTER_CONFIG_DIR": str(folder.parent / "settings"),
    }
    with open(folder.parent / "jupyterlab.txt", "w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", *options], env=environment, stdout=log, stderr=log
        )
    try:
        for _ in range(120):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/api?token={token}", timeout=5).close()
                break
            except OSError:
                assert server.poll() is None, (folder.parent / "jupyterlab.txt").read_text()
                time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/lab?token={token}"
    finally:
        server.terminate()
        server.wait(30)


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lab") / "nbs"
    for beside in ("tests", "examples"):
        shutil.copytree(NOTEBOOKS.parent / beside, folder.parent / beside, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(NOTEBOOKS, folder, ignore=shutil.ignore_patterns("_quarto.yml", ".ipynb_checkpoints", "runs"))
    return folder


@pytest.fixture(scope="module")
def lab(copy):
    with jupyterlab(copy) as address, chromium() as browser:
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto(address)
        page.wait_for_function("window.jupyterapp !== undefined", timeout=120_000)
        yield page


def run(lab, name: str, minutes: float = 20) -> str:
    "Open a notebook, run it and save it; gives the first error. Its kernel ends in any case."
    lab.evaluate(OPEN, name)
    until, calm = time.time() + 60 * minutes, 0
    while True:
        state, late = lab.evaluate(STATE), time.time() > until
        calm = calm + 1 if not state["left"] and state["kernel"] == "idle" else 0
        if late or state["failed"] or calm == 4:  # an answer may come before the output that it belongs to: look again
            lab.evaluate(CLOSE)
            return f"not done after {minutes} minutes: {state}" if late else state["failed"]
        time.sleep(0.3)


@pytest.mark.parametrize("name", EVERY if os.environ.get("MID_BROWSER") == "all" else SOME)
def test_notebook_runs_in_jupyterlab(lab, copy, name):
    assert run(lab, name) == ""
    made, saved = dict(kinds(copy / name)), dict(kinds(NOTEBOOKS / name))
    silent = {cell for cell in made if name in SHORTENED and not made[cell]}
    assert {cell: made[cell] for cell in made if cell not in silent} == {
        cell: saved[cell] for cell in saved if cell not in silent
    }
    assert made and len(silent) < len(made)


def test_an_error_in_a_notebook_is_found(lab, copy):
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    cells = [new_code_cell(source) for source in ("1", "1 / 0", "2")]
    nbformat.write(new_notebook(cells=cells, metadata=kernel), copy / "wrong.ipynb")
    assert run(lab, "wrong.ipynb") == "ZeroDivisionError: division by zero"
