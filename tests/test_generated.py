"What is generated is what the notebooks give, and a stale file is found."

import re
import shutil
from pathlib import Path

from figures import dark, inlined
from generate import stale

ROOT = Path(__file__).resolve().parent.parent


def test_modules_and_readme_are_in_sync():
    assert stale(ROOT) == []


def test_stale_files_are_found(tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(ROOT, copy, symlinks=True, ignore=shutil.ignore_patterns(".git", "*.egg-info", "runs"))
    with open(copy / "mid_nbdev" / "crops" / "boxes.py", "a") as module:
        module.write("\nextra = 1\n")
    (copy / "README.md").write_text("edited by hand")
    (copy / "nbs" / "images" / "no_more-dark.svg").touch()
    assert stale(copy) == ["README.md", "mid_nbdev/crops/boxes.py", "nbs/images/no_more-dark.svg"]


def test_readme_shows_its_figures_in_both_themes():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    source = r'<source media="\(prefers-color-scheme: dark\)" srcset="(.*)">'
    shown = re.findall(rf'{source}\n  <img alt=".+" src="(.*)">', text)
    assert [stem.removesuffix("-dark.svg") for stem, _ in shown] == [file.removesuffix(".svg") for _, file in shown]
    assert len(shown) == 2 and all((ROOT / file).is_file() for pair in shown for file in pair)


def test_a_figure_in_the_ink_of_its_page():
    ground = '<g id="figure_1">\n <g id="patch_1"><path style="fill: #ffffff"/></g>'
    marks = '<path id="m" style="stroke: #cccccc"/><use xlink:href="#m" style="fill: #009e73"/><g id="axes_1"/>'
    svg = f'<?xml?><svg viewBox="0 0 300 150">{ground}{marks}<g transform="scale(0.1 -0.1)"/></g></svg>'
    made = inlined(svg, "one", 'a "b"')
    assert made.startswith('<figure class="figure"><svg width="400" height="200" viewBox="0 0 300 150" role="img"')
    assert 'aria-label="a &quot;b&quot;" style="min-width: 270px; --figure-009e73: color-mix(' in made
    assert '<path id="one-m" style="stroke: var(--figure-cccccc)"/><use href="#one-m" style="fill: var(' in made
    assert "#ffffff" not in made and "axes_1" not in made
    assert "#ffffff" not in dark(svg) and "stroke: #404040" in dark(svg) and "fill: #40b696" in dark(svg)
