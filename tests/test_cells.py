"Notebooks and modules keep within the bounds that `tools/cells.py` measures, and what lies outside them is found."

import json
import re
import subprocess
from pathlib import Path

import pytest
from cells import against_layers, circles, measure, measure_notebook, numbered_twice, read_imports
from docs import Book
from generate import contents
from reference import entries, notebook_files
from setuptools import find_packages

ROOT = Path(__file__).resolve().parent.parent


def test_everything_is_within_the_bounds():
    assert measure(ROOT) == []


def code(source: str, outputs=()) -> dict:
    return {
        "cell_type": "code",
        "id": "made",
        "metadata": {},
        "execution_count": None,
        "outputs": list(outputs),
        "source": source,
    }


@pytest.mark.parametrize(
    "cell, found",
    [
        (code("#| export\n" + "a = 1\n" * 41), "exports 41 lines, more than 40"),
        (code("import os\nos.getcwd()"), "imports beside other code"),
        (code("a = 1\na"), "no output is saved"),
        (code("print(1)"), "no output is saved"),
        (
            code("a", [{"output_type": "error", "ename": "NameError", "evalue": "a", "traceback": []}]),
            "its output is an error",
        ),
        (code("a = '/home/someone/photos'"), "names a place on a machine: /home/someone"),
        (code("#| export\n" + "a = 1\n" * 40), ""),
        (code("#| slow\na = 1\na"), ""),
        (code("test_eq(1, 1)"), ""),
        (code("a = 'https://example.org/home/page'"), ""),
    ],
)
def test_a_cell_outside_the_bounds_is_found(tmp_path, cell, found):
    title = {"cell_type": "markdown", "id": "title", "metadata": {}, "source": "# Title\n\n> What the reader gains."}
    (tmp_path / "made.ipynb").write_text(json.dumps({"cells": [title, cell]}))
    assert measure_notebook(tmp_path / "made.ipynb") == ([f"cell made: {found}"] if found else [])


@pytest.mark.parametrize(
    "first", ["Title", "# Title", "# Title\n\nNo promise.", "# Title\n\n> A promise\n> on two lines."]
)
def test_a_notebook_without_title_and_promise_is_found(tmp_path, first):
    (tmp_path / "made.ipynb").write_text(
        json.dumps({"cells": [{"cell_type": "markdown", "id": "title", "metadata": {}, "source": first}]})
    )
    assert "the first cell" in measure_notebook(tmp_path / "made.ipynb")[0]


def test_a_folder_that_imports_from_its_right_is_found():
    assert against_layers({"crops.a": {"errors"}, "errors": set(), "data.b": {"crops.a", "errors"}}) == []
    assert against_layers({"crops.a": {"data.b"}, "data.b": set()}) == ["crops.a: imports data.b, which lies above it"]
    assert against_layers({"cellar.a": set()})[0].startswith("cellar.a: its folder is none of errors, crops")


def test_modules_that_import_each_other_are_found():
    assert circles({"crops.a": {"crops.b"}, "crops.b": set()}) == []
    assert circles({"crops.a": {"crops.b"}, "crops.b": {"crops.a"}})[0].endswith(": a circle")


def test_a_number_given_twice_in_a_folder_is_found():
    assert (
        numbered_twice(
            ["crops/00_a.ipynb", "crops/01_b.ipynb", "data/00_a.ipynb", "paper/table_1.ipynb", "paper/table_2.ipynb"]
        )
        == []
    )
    assert numbered_twice(["crops/00_a.ipynb", "crops/00_b.ipynb"]) == [
        f"nbs/crops/00_{name}.ipynb: its number is another's too" for name in "ab"
    ]


def files(folder: str, ending: str) -> set[str]:
    "Every file of an ending that git would keep, found without the tools."
    shown = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", folder],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return {name for name in shown.stdout.split() if name.endswith(ending) and (ROOT / name).exists()}


def test_the_tools_see_every_module_and_notebook():
    modules = {name for name in files("mid_nbdev", ".py") if not name.endswith(("/__init__.py", "/_modidx.py"))}
    dotted = {name.removeprefix("mid_nbdev/").removesuffix(".py").replace("/", ".") for name in modules}
    assert len(modules) > 40 and {name.count("/") for name in modules} == {1, 2}
    assert set(read_imports(ROOT / "mid_nbdev")) == set(entries(ROOT / "mid_nbdev")) == dotted
    notebooks = files("nbs", ".ipynb")
    assert {path.relative_to(ROOT).as_posix() for path in notebook_files(ROOT)} == notebooks
    assert modules | notebooks | {"README.md"} <= contents(ROOT).keys()
    packed = {name.replace(".", "/") for name in find_packages(str(ROOT), include=["mid_nbdev", "mid_nbdev.*"])}
    assert {name.rpartition("/")[0] for name in modules} == packed, "a folder without __init__.py"
    book = Book(ROOT)
    assert {f"nbs/{path}" for path in book.pages} == notebooks and len(notebooks) > 60
    assert set(book.modules) == dotted


def test_a_fault_two_folders_down_is_found(tmp_path):
    for folder in ("mid_nbdev/crops", "nbs/crops"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "mid_nbdev/crops/long.py").write_text("a = 1\n" * 300 + "from ..cli import app\n")
    (tmp_path / "nbs/crops/00_long.ipynb").write_text(json.dumps({"cells": []}))
    assert [text.split(":")[0] for text in measure(tmp_path)] == ["nbs/crops/00_long.ipynb", "mid_nbdev/crops/long.py"]


def test_imports_are_read_as_python_reads_them():
    imports = read_imports(ROOT / "mid_nbdev")
    assert imports["crops.boxes"] == {"crops.geometry", "errors"}
    assert {"deployment.export", "data.sources"} <= imports["cli.export"]  # imported within the command


def test_the_changelog_names_modules_and_notebooks_that_there_are():
    rows = [line.split(" | ") for line in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").splitlines()]
    rows = [row for row in rows if len(row) == 3 and "→" in row[2]]
    modules = {name for row in rows for name in re.findall(r"`([a-z_]+\.[a-z_]+|errors|__main__)`", row[1])}
    notebooks = {name for row in rows for name in re.findall(r"→ `([^`]+)`", row[2])}
    assert len(rows) > 35 and modules <= set(read_imports(ROOT / "mid_nbdev"))
    assert {f"nbs/{name}.ipynb" for name in notebooks} <= files("nbs", ".ipynb")
