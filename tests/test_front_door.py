"The top level offers twelve names, loads nothing before one is used, and says what each takes."

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import mid_nbdev

ROOT = Path(__file__).resolve().parent.parent


def test_importing_the_package_loads_nothing_heavy():
    heavy = ("torch", "numpy", "timm", "pandas", "matplotlib")
    code = f"import sys, mid_nbdev; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_name_is_there_and_is_the_modules_own():
    assert len(mid_nbdev.__all__) == 12 and set(mid_nbdev.__all__) <= set(dir(mid_nbdev))
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
