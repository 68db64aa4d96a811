"""Every notebook runs from top to bottom: its examples are the library's tests.

Cells marked `#| long` and the notebooks in `LONG` run with `pytest -m long` only.
"""

import re
from pathlib import Path

import nbformat
import pytest
from nbdev.config import get_config
from nbdev.test import test_nb as run_notebook
from reference import notebook_files

NOTEBOOKS = Path(__file__).resolve().parent.parent / "nbs"
PATHS = notebook_files(NOTEBOOKS.parent)
LONG = {  # each of them reproduces results and exports no module
    "beyond/draws.ipynb",
    "beyond/few_crops.ipynb",
    "beyond/one_forward.ipynb",
    "evaluation/05_faults.ipynb",
    "paper/what_a_crop_covers.ipynb",
    "paper/figure_1.ipynb",
    "paper/table_4.ipynb",
    "tutorials/deploying.ipynb",
    "tutorials/how_many_crops.ipynb",
    "tutorials/on_your_cluster.ipynb",
}


def name_of(path: Path) -> str:
    return path.relative_to(NOTEBOOKS).as_posix()


def code_of(path: Path) -> list[str]:
    "Sources of the code cells."
    return [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def is_long(source: str) -> bool:
    "Does a cell run with `pytest -m long` only?"
    return bool(re.search(r"^#\|\s*long\b", source, re.MULTILINE))


def run(path, skipped):
    passed, _ = run_notebook(path, skip_flags=skipped)
    assert passed, "a cell failed; its traceback stands above"


NEVER = [flag for flag in get_config(path=NOTEBOOKS.parent).tst_flags.split() if flag != "long"]
SHORT = [path for path in PATHS if name_of(path) not in LONG]
WHOLE = [path for path in PATHS if name_of(path) in LONG or any(map(is_long, code_of(path)))]


@pytest.mark.parametrize("path", SHORT, ids=name_of)
def test_notebook(path, monkeypatch):
    monkeypatch.setenv("IN_TEST", "1")
    run(path, [*NEVER, "long"])


@pytest.mark.long
@pytest.mark.parametrize("path", WHOLE, ids=name_of)
def test_whole_notebook(path, monkeypatch):
    monkeypatch.setenv("IN_TEST", "1")
    run(path, NEVER)
