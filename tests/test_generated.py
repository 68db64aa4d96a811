"What is generated is what the notebooks give, and a stale file is found."

import shutil
from pathlib import Path

from generate import stale

ROOT = Path(__file__).resolve().parent.parent


def test_modules_and_readme_are_in_sync():
    assert stale(ROOT) == []


def test_a_stale_module_is_found(tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(ROOT, copy, symlinks=True, ignore=shutil.ignore_patterns(".git", "*.egg-info", "runs"))
    with open(copy / "mid_nbdev" / "crops" / "boxes.py", "a") as module:
        module.write("\nextra = 1\n")
    (copy / "README.md").write_text("edited by hand")
    assert stale(copy) == ["README.md", "mid_nbdev/crops/boxes.py"]
