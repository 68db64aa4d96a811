"`pytest` and `pytest -m long` together run every test, and `pytest` alone reaches every module and every command."

import re

import pytest
import typer
from test_notebooks import LONG, NOTEBOOKS, PATHS, SHORT, WHOLE, code_of, is_long, name_of

import mid_nbdev.__main__
from mid_nbdev.cli.app import app

ROOT = NOTEBOOKS.parent
CALL = re.compile(r'(?:[(\[]|"mid_nbdev",)\s*"(\w+)"')  # mid("report", app(["report", [..., "mid_nbdev", "report"


class Selection:
    "What a run of pytest would run, and what it would leave out."

    def __init__(self, *options: str):
        self.taken, self.left_out = set(), set()
        quiet = ("--collect-only", "-qq", "-n", "0", "-p", "no:cacheprovider")
        assert pytest.main([*quiet, *options], plugins=[self]) == 0

    def pytest_collection_finish(self, session):
        self.taken |= {item.nodeid for item in session.items}

    def pytest_deselected(self, items):
        self.left_out |= {item.nodeid for item in items}


@pytest.fixture(scope="module")
def short():
    return Selection(str(ROOT / "tests"))


@pytest.fixture(scope="module")
def long():
    return Selection(str(ROOT / "tests"), "-m", "long")


def test_every_test_is_in_one_of_the_two_runs(short, long):
    assert short.taken and long.taken and not short.taken & long.taken
    assert short.left_out == long.taken and long.left_out == short.taken


def test_every_notebook_runs(short, long):
    for path in PATHS:
        runs = [run for run, paths in (("short", SHORT), ("long", WHOLE)) if path in paths]
        assert runs, path
        test = {"short": "test_notebook", "long": "test_whole_notebook"}
        for run, selection in (("short", short), ("long", long)):
            there = f"tests/test_notebooks.py::{test[run]}[{name_of(path)}]" in selection.taken
            assert there == (run in runs), (run, path)
    assert {path for path in PATHS if name_of(path) in LONG} == set(WHOLE) - set(SHORT) and len(LONG) < len(PATHS) / 4


def test_every_module_is_tested_in_the_short_run():
    for path in PATHS:
        sources = code_of(path)
        if not any(re.search(r"^#\|\s*default_exp\b", source, re.MULTILINE) for source in sources):
            continue
        assert path in SHORT, f"{name_of(path)} exports a module and is left out"
        skipped = re.compile(r"^#\|\s*(export|long|slow|gpu|notest)\b", re.MULTILINE)
        checks = [source for source in sources if not skipped.search(source)]
        assert any(re.search(r"^\s*(test_\w+\(|assert )", source, re.MULTILINE) for source in checks), name_of(path)


def test_every_command_is_run_in_the_short_run():
    run = [path for path in SHORT if name_of(path).startswith("cli/")]
    sources = [source for path in run for source in code_of(path) if not is_long(source)]
    sources.append((ROOT / "tests" / "test_command.py").read_text(encoding="utf-8"))
    called = set(CALL.findall("\n".join(sources)))
    assert set(typer.main.get_command(app).commands) <= called, "a command that no short test calls"
    assert mid_nbdev.__main__.main
