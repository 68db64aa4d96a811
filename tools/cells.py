"""Measure the notebooks against the bounds that keep them readable: `python tools/cells.py` names what is outside them.

A notebook begins with a title and one line of promise. An exported cell has at most 40 lines, a module fewer than 300;
parameters with their comments (documentation, a line each) and the export's own marks are not counted.
Imports stand in cells of their own. What is shown is there: saved outputs, no errors, no paths of a machine.
No two notebooks have one number, and a module imports only modules of lower numbers.
"""

import ast
import json
import re
import sys
from pathlib import Path

from reference import Module

ROOT = Path(__file__).resolve().parent.parent
CELL_LINES, MODULE_LINES = 40, 300
MODULES_OF_THEIR_OWN_SIZE = {"_modidx.py": 1000}
UNRUN = ("notest", "slow", "gpu", "hide", "export")
UNCOUNTED = re.compile(r"#\||# %%|    (?:    )?\w+(?:: [^#]+)?, # |(?:    )?\) -> .*# ")
MACHINE = re.compile(r"(?<![\w.:/])/(?:home|root|tmp|Users|work)/\w+")


def measure_notebook(path: Path) -> list[str]:
    "What is outside the bounds in a notebook, each with the cell's id."
    cells = [{**cell, "source": "".join(cell["source"])} for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]]
    found = [] if begins_well(cells) else ["the first cell is not `# Title`, then `> what the reader gains` on one line"]
    if re.search(r"^- ", cells[0]["source"] if cells else "", re.MULTILINE):
        found.append("a list in the first cell, which nbdev reads as front matter: give it a cell of its own")
    for cell in cells:
        wrong = measure_code(cell, path.name) if cell["cell_type"] == "code" else []
        if paths := MACHINE.findall(cell["source"] + json.dumps(cell.get("outputs", []))):
            wrong.append(f"names a place on a machine: {paths[0]}")
        found += [f"cell {cell['id']}: {text}" for text in wrong]
    return found


def begins_well(cells: list[dict]) -> bool:
    "Is there a title, and a promise in one line?"
    return bool(cells) and cells[0]["cell_type"] == "markdown" and bool(re.match(r"# \S.*\n\n> \S.*[.!?](\n\n|\n*$)", cells[0]["source"]))


def measure_code(cell: dict, notebook: str) -> list[str]:
    "What is outside the bounds in a code cell."
    marks = set(re.findall(r"^#\|\s*(\w+)", cell["source"], re.MULTILINE))
    lines = [line for line in cell["source"].splitlines() if line.strip() and not UNCOUNTED.match(line)]
    found = []
    if "export" in marks and len(lines) > CELL_LINES:
        found.append(f"exports {len(lines)} lines, more than {CELL_LINES}")
    if any(output["output_type"] == "error" for output in cell["outputs"]):
        found.append("its output is an error")
    body = ast.parse(re.sub(r"^[%!].*$", "", cell["source"], flags=re.MULTILINE)).body
    imports = [isinstance(node, ast.Import | ast.ImportFrom) for node in body]
    if any(imports) and not all(imports) and notebook != "index.ipynb":  # the README's five lines are whole by themselves
        found.append("imports beside other code")
    if not cell["outputs"] and not marks & set(UNRUN) and body and shows(body[-1]):
        found.append("no output is saved")
    return found


def shows(node: ast.stmt) -> bool:
    "Does a cell that ends so print or display something?"
    if not isinstance(node, ast.Expr) or isinstance(node.value, ast.Constant):
        return False
    return not isinstance(node.value, ast.Call) or ast.unparse(node.value.func) in ("print", "display")


def measure_module(path: Path) -> list[str]:
    "Whether a module is too long."
    length = len([line for line in path.read_text(encoding="utf-8").splitlines() if not UNCOUNTED.match(line)])
    most = MODULES_OF_THEIR_OWN_SIZE.get(path.name, MODULE_LINES)
    return [f"{length} lines, expected fewer than {most}"] if length >= most else []


def out_of_order(chapters: dict[str, tuple[str, set[str]]]) -> list[str]:
    "Modules (each with its notebook and what it imports) that import from notebooks to their right, and numbers given twice."
    notebooks = {module: notebook for module, (notebook, _) in chapters.items()}
    found = [f"nbs/{notebook}: imports {notebooks[name]}, which comes after it" for notebook, imported in chapters.values()
             for name in sorted(imported) if notebooks.get(name, "") > notebook]
    numbers = [notebook[:2] for notebook in notebooks.values()]
    return found + [f"nbs/{notebook}: its number is another's too" for notebook in notebooks.values() if numbers.count(notebook[:2]) > 1]


def read_chapters(modules: list[Path]) -> dict[str, tuple[str, set[str]]]:
    "Each generated module's notebook and the modules it imports."
    found = {path: re.search(r"File to edit: \.\./nbs/(\S+\.ipynb)", path.read_text(encoding="utf-8")) for path in modules}
    return {path.stem: (match[1], {origin for origin, _ in Module(path).imports.values()}) for path, match in found.items() if match}


def measure(root: Path) -> list[str]:
    "Everything outside the bounds, each with its file."
    notebooks = [path for path in sorted((root / "nbs").rglob("*.ipynb")) if ".ipynb_checkpoints" not in path.parts]
    found = [f"{path.relative_to(root)}: {text}" for path in notebooks for text in measure_notebook(path)]
    modules = sorted((root / "mid_nbdev").glob("*.py"))
    found += [f"{path.relative_to(root)}: {text}" for path in modules for text in measure_module(path)]
    return found + out_of_order(read_chapters(modules))


if __name__ == "__main__":
    outside = measure(ROOT)
    sys.exit("\n".join(outside) if outside else None)
