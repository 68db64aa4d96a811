"Every notebook runs from top to bottom: its examples are the library's tests."

from pathlib import Path

import pytest
from nbdev.config import get_config
from nbdev.test import test_nb as run_notebook

NOTEBOOKS = Path(__file__).resolve().parent.parent / "nbs"
PATHS = [path for path in sorted(NOTEBOOKS.rglob("*.ipynb")) if ".ipynb_checkpoints" not in path.parts]


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.relative_to(NOTEBOOKS).as_posix())
def test_notebook(path, monkeypatch):
    monkeypatch.setenv("IN_TEST", "1")
    passed, _ = run_notebook(path, skip_flags=get_config(path=NOTEBOOKS.parent).tst_flags.split())
    assert passed, "a cell failed; its traceback stands above"
