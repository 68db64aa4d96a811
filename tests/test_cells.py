"Notebooks and modules keep within the bounds that `tools/cells.py` measures, and what lies outside them is found."

import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))

from cells import measure, measure_notebook, out_of_order, read_chapters  # noqa: E402


def test_everything_is_within_the_bounds():
    assert measure(ROOT) == []


def code(source: str, outputs=()) -> dict:
    return {"cell_type": "code", "id": "made", "metadata": {}, "execution_count": None, "outputs": list(outputs), "source": source}


@pytest.mark.parametrize("cell, found", [
    (code("#| export\n" + "a = 1\n" * 41), "exports 41 lines, more than 40"),
    (code("import os\nos.getcwd()"), "imports beside other code"),
    (code("a = 1\na"), "no output is saved"),
    (code("print(1)"), "no output is saved"),
    (code("a", [{"output_type": "error", "ename": "NameError", "evalue": "a", "traceback": []}]), "its output is an error"),
    (code("a = '/home/someone/photos'"), "names a place on a machine: /home/someone"),
    (code("#| export\n" + "a = 1\n" * 40), ""),
    (code("#| slow\na = 1\na"), ""),
    (code("test_eq(1, 1)"), ""),
    (code("a = 'https://example.org/home/page'"), ""),
])
def test_a_cell_outside_the_bounds_is_found(tmp_path, cell, found):
    title = {"cell_type": "markdown", "id": "title", "metadata": {}, "source": "# Title\n\n> What the reader gains."}
    (tmp_path / "made.ipynb").write_text(json.dumps({"cells": [title, cell]}))
    assert measure_notebook(tmp_path / "made.ipynb") == ([f"cell made: {found}"] if found else [])


@pytest.mark.parametrize("first", ["Title", "# Title", "# Title\n\nNo promise.", "# Title\n\n> A promise\n> on two lines."])
def test_a_notebook_without_title_and_promise_is_found(tmp_path, first):
    (tmp_path / "made.ipynb").write_text(json.dumps({"cells": [{"cell_type": "markdown", "id": "title", "metadata": {}, "source": first}]}))
    assert "the first cell" in measure_notebook(tmp_path / "made.ipynb")[0]


def test_an_import_from_the_right_and_a_number_given_twice_are_found():
    assert out_of_order({"a": ("00_a.ipynb", set()), "b": ("01_b.ipynb", {"a"})}) == []
    assert out_of_order({"a": ("00_a.ipynb", {"b"}), "b": ("01_b.ipynb", set())}) == [
        "nbs/00_a.ipynb: imports 01_b.ipynb, which comes after it"]
    assert out_of_order({"a": ("00_a.ipynb", set()), "b": ("00_b.ipynb", set())}) == [
        f"nbs/00_{name}.ipynb: its number is another's too" for name in "ab"]
    chapters = read_chapters(sorted((ROOT / "mid_nbdev").glob("*.py")))
    assert chapters["crops"] == ("01_crops.ipynb", {"geometry"}) and len(chapters) > 35
    assert {"export", "sources"} <= chapters["cli_export"][1]  # imported within the command
