"The top level offers thirteen names, loads nothing before one is used, and says what each takes."

import ast
import doctest
import functools
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest
from docstring_parser import DocstringStyle, parse
from reference import entries

import mid_nbdev

ROOT = Path(__file__).resolve().parent.parent


def test_importing_the_package_loads_nothing_heavy():
    heavy = ("torch", "numpy", "timm", "pandas", "matplotlib")
    code = f"import sys, mid_nbdev; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_name_is_there_and_is_the_modules_own():
    assert len(mid_nbdev.__all__) == 13 and set(mid_nbdev.__all__) <= set(dir(mid_nbdev))
    for name in mid_nbdev.__all__:
        value = getattr(mid_nbdev, name)
        assert value.__name__ == name and value.__module__ == f"mid_nbdev.{mid_nbdev._PLACES[name]}"


def test_type_checkers_see_the_same_names():
    tree = ast.parse((ROOT / "mid_nbdev" / "__init__.py").read_text(encoding="utf-8"))
    guarded = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {
        alias.name: node.module for node in guarded.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert seen == mid_nbdev._PLACES


def test_another_name_is_refused_with_those_there_are():
    with pytest.raises(AttributeError, match="load_classifier"):
        _ = mid_nbdev.mid


METHODS = [
    "MID.forward",
    "MID.fit",
    "Run.open",
    "Run.rows",
    "Run.failed",
    "Classifier.features",
    "Classifier.forward",
    "Preprocessing.normalise",
    "ImageSource.take",
]
LISTED = [entry for listed in entries(ROOT / "mid_nbdev").values() for top in listed for entry in top.everything()]
ENTRIES = {f"{entry.module}.{entry.name}": entry for entry in LISTED}


def found(name):
    "A public name or a method of one, its docstring as it is read, and its reference entry."
    owner = name.partition(".")[0]
    value = functools.reduce(getattr, name.split(".")[1:], getattr(mid_nbdev, owner))
    parsed = parse(inspect.getdoc(value) or "", DocstringStyle.GOOGLE)
    return value, parsed, ENTRIES[f"{mid_nbdev._PLACES[owner]}.{name}"]


@pytest.mark.parametrize("name", [*mid_nbdev.__all__, *METHODS])
def test_the_docstring_says_what_a_name_takes_gives_and_raises(name):
    value, parsed, entry = found(name)
    assert parsed.short_description
    if name == "InputError":  # takes what every exception takes
        return
    said = {item.arg_name.lstrip("*"): item.description for item in parsed.params}
    taken = [parameter for parameter in inspect.signature(value).parameters if parameter != "self"]
    others = next((said[keywords] for keywords in ("kwargs", "options") if keywords in said), "")
    assert [name for name in taken if not said.get(name) and not re.search(rf"\b{name}\b", others)] == []
    arguments = [item.arg_name.lstrip("*") for item in parsed.params if item.args[0] == "param"]
    assert [name for name in arguments if not re.search(rf"\b{name}\b", entry.signature)] == [], "not in the signature"
    assert inspect.isclass(value) or (parsed.returns and parsed.returns.description)
    assert parsed.raises or not (entry.errors or entry.calls), f"raises {entry.errors} and what {entry.calls} raise"


@pytest.mark.parametrize("name", [*mid_nbdev.__all__, *METHODS])
def test_the_example_in_the_docstring_runs(name, tmp_path, monkeypatch):
    value, parsed, _ = found(name)
    monkeypatch.chdir(tmp_path)
    assert parsed.examples, "no example"
    finder = doctest.DocTestFinder(recurse=False)
    (example,) = finder.find(value, name, globs={public: getattr(mid_nbdev, public) for public in mid_nbdev.__all__})
    assert example.examples, "the example has no >>> lines"
    failed, _ = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE).run(example)
    assert failed == 0, "its output differs: see above"


@pytest.mark.long
def test_a_wrapper_does_without_tables_and_fits():
    names = ("pandas", "matplotlib", "torchmetrics", "scipy.optimize", "pyarrow")
    code = f"import sys; from mid_nbdev import MID; print([name for name in {names} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
