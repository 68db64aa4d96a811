"""Write what is generated from the notebooks: clean notebooks, the package's modules, README.md and its dark figures.

`python tools/generate.py` writes in place; with `--check` a copy is written instead, and files that differ are named.
"""

import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import nbformat
from figures import dark
from nbconvert import MarkdownExporter
from reference import notebook_files

ROOT = Path(__file__).resolve().parent.parent


def write_readme(root: Path) -> None:
    "README.md from nbs/index.ipynb, with links that hold from the top of the repository."
    notebook = nbformat.read(root / "nbs" / "index.ipynb", as_version=4)
    notebook.metadata.language_info = {"name": "python"}
    notebook.cells = [cell for cell in notebook.cells if not re.match(r"#\|\s*hide", cell.source)]
    for cell in notebook.cells:
        echo = not re.match(r"#\|\s*echo:\s*false", cell.source)
        cell.source = re.sub(r"^#\|.*\n", "", cell.source, flags=re.MULTILINE) if echo else ""
    text, _ = MarkdownExporter().from_notebook_node(notebook)
    text = re.sub(r"```python\s*```\n", "", text)
    text = re.sub(r"\]\((?!https?:|#)([^)]+)\)", r"](nbs/\1)", text)
    text = re.sub(r"(?m)^!\[(.+)\]\((\S+)\.svg\)$", lambda match: in_both_themes(match, root), text)
    text = re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"
    text = f"<!-- Generated from nbs/index.ipynb: edit it there. -->\n{text}"
    (root / "README.md").write_text(text, encoding="utf-8")


def in_both_themes(match: re.Match, root: Path) -> str:
    "A figure as GitHub shows it in either theme; writes the dark one beside the other."
    shows, stem = match.groups()
    svg = (root / f"{stem}.svg").read_text(encoding="utf-8")
    (root / f"{stem}-dark.svg").write_text(dark(svg), encoding="utf-8")
    source = f'  <source media="(prefers-color-scheme: dark)" srcset="{stem}-dark.svg">'
    return f'<picture>\n{source}\n  <img alt="{shows}" src="{stem}.svg">\n</picture>'


def generate(root: Path) -> None:
    "Clean the notebooks, export the modules, write README.md."
    for tool in ("nbdev_clean", "nbdev_export"):
        subprocess.run([Path(sys.executable).with_name(tool)], cwd=root, check=True)
    for module in (root / "mid_nbdev").rglob("[!_]*.py"):
        text = re.sub(r"(?ms)^__all__ = \[.*?\]$", wrapped, module.read_text(encoding="utf-8"))
        module.write_text(text, encoding="utf-8")
    write_readme(root)


def wrapped(names: re.Match) -> str:
    "A module's public names in lines of at most 120 columns; nbdev writes 130."
    return textwrap.fill(" ".join(names[0].split()), 120, subsequent_indent=" " * 11)


def stale(root: Path) -> list[str]:
    "Generated files that are not what the notebooks give."
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy"
        left_out = shutil.ignore_patterns(".git", "*.egg-info", "__pycache__", ".*_cache", ".ipynb_checkpoints", "runs")
        shutil.copytree(root, copy, symlinks=True, ignore=left_out)
        (copy / "README.md").unlink()
        for module in (copy / "mid_nbdev").rglob("*.py"):
            if module.name != "__init__.py":
                module.unlink()
        for figure in (copy / "nbs").rglob("*-dark.svg"):
            figure.unlink()
        generate(copy)
        kept, made = contents(root), contents(copy)
        return sorted(name for name in kept.keys() | made.keys() if kept.get(name) != made.get(name))


def contents(root: Path) -> dict[str, bytes]:
    "The generated files of a repository, each with its bytes."
    made = [*(root / "mid_nbdev").rglob("*.py"), *(root / "nbs").rglob("*-dark.svg")]
    paths = [root / "README.md", *made, *notebook_files(root)]
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in paths}


if __name__ == "__main__":
    if "--check" not in sys.argv:
        generate(ROOT)
    elif different := stale(ROOT):
        sys.exit(f"not in sync with the notebooks, run `python tools/generate.py`: {', '.join(different)}")
    else:
        print("modules, README and notebooks are in sync")
