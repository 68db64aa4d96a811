"""Measure the notebooks against the bounds that keep them readable: `python tools/cells.py` names what is outside them.

A notebook begins with a title and one line of promise. An exported cell has at most 40 lines, a module fewer than 300;
parameters with their comments (a line each) and docstrings, which are documentation, and the export's own marks are not
counted.
Imports stand in cells of their own. What is shown is there: saved outputs, no errors, no paths of a machine.
No two notebooks of a folder have one number. A folder of modules imports only folders to its left in `LAYERS`, and no
modules import each other in a circle. A public function is used outside its module.
"""

import ast
import json
import re
import sys
from collections import Counter
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from reference import Function, Module, module_files, notebook_files

ROOT = Path(__file__).resolve().parent.parent
LAYERS = ["errors", "crops", "data", "networks", "averaging", "evaluation", "analysis", "deployment", "benchmark"]
LAYERS += ["paper", "cli", "__main__"]
CELL_LINES, MODULE_LINES = 40, 300
MODULES_OF_THEIR_OWN_SIZE = {"_modidx.py": 2400}
UNRUN = ("notest", "slow", "gpu", "hide", "export")
UNCOUNTED = re.compile(
    r"#\||# %%|    (?:    )?\w+(?:: [^#]+)?, # |        self,$|(?:    )?\)(?: -> .*)?:(?: *#|$)|(?:    )?\) -> .*# "
)
MACHINE = re.compile(r"(?<![\w.:/])/(?:home|root|tmp|Users|work)/\w+")


def measure_notebook(path: Path) -> list[str]:
    "What is outside the bounds in a notebook, each with the cell's id."
    saved = json.loads(path.read_text(encoding="utf-8"))["cells"]
    cells = [{**cell, "source": "".join(cell["source"])} for cell in saved]
    found = [] if begins_well(cells) else ["the first cell is not `# Title` and `> what the reader gains` in one line"]
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
    if not cells or cells[0]["cell_type"] != "markdown":
        return False
    return bool(re.match(r"# \S.*\n\n> \S.*[.!?](\n\n|\n*$)", cells[0]["source"]))


def counted(source: str) -> list[str]:
    "The lines that count: neither parameters with their comments nor docstrings of several lines."
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
    bodies = [node.body for node in ast.walk(ast.parse(source)) if isinstance(node, kinds) and ast.get_docstring(node)]
    written = [body[0] for body in bodies if body[0].end_lineno > body[0].lineno]
    documentation = {number for node in written for number in range(node.lineno, node.end_lineno + 1)}
    lines = enumerate(source.splitlines(), start=1)
    return [line for number, line in lines if number not in documentation and not UNCOUNTED.match(line)]


def measure_code(cell: dict, notebook: str) -> list[str]:
    "What is outside the bounds in a code cell."
    marks = set(re.findall(r"^#\|\s*(\w+)", cell["source"], re.MULTILINE))
    found = []
    if "export" in marks and (length := len(list(filter(str.strip, counted(cell["source"]))))) > CELL_LINES:
        found.append(f"exports {length} lines, more than {CELL_LINES}")
    if any(output["output_type"] == "error" for output in cell["outputs"]):
        found.append("its output is an error")
    body = ast.parse(re.sub(r"^[%!].*$", "", cell["source"], flags=re.MULTILINE)).body
    imports = [isinstance(node, ast.Import | ast.ImportFrom) for node in body]
    if any(imports) and not all(imports) and notebook != "index.ipynb":  # the README's five lines are one cell
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
    length = len(counted(path.read_text(encoding="utf-8")))
    most = MODULES_OF_THEIR_OWN_SIZE.get(path.name, MODULE_LINES)
    return [f"{length} lines, expected fewer than {most}"] if length >= most else []


def against_layers(imports: dict[str, set[str]]) -> list[str]:
    "Modules, each with the modules it imports, that import from a folder to the right of their own."

    def layer(module: str) -> int:
        return LAYERS.index(module.split(".")[0])

    if strange := [name for name in imports if name.split(".")[0] not in LAYERS]:
        return [f"{name}: its folder is none of {', '.join(LAYERS)}" for name in strange]
    pairs = [(name, other) for name, others in imports.items() for other in sorted(others & imports.keys())]
    return [f"{name}: imports {other}, which lies above it" for name, other in pairs if layer(other) > layer(name)]


def circles(imports: dict[str, set[str]]) -> list[str]:
    "Modules that import each other, directly or through others."
    try:
        list(TopologicalSorter(imports).static_order())
    except CycleError as error:
        return [f"{' imports '.join(reversed(error.args[1]))}: a circle"]
    return []


def numbered_twice(notebooks: list[str]) -> list[str]:
    "Notebooks, relative to nbs, that have one number in one folder."
    places = {name: re.sub(r"(\d+)_[^/]*$", r"\1", name) for name in notebooks if re.search(r"(^|/)\d+_[^/]*$", name)}
    taken = Counter(places.values())
    return [f"nbs/{name}: its number is another's too" for name, place in places.items() if taken[place] > 1]


def used_by_none(root: Path) -> list[str]:
    "Public functions that nothing outside their own module and its chapter names; the command line names commands."
    package = root / "mid_nbdev"
    modules = [Module(path, package) for path in module_files(package)]
    texts = outside_texts(root) | {module.name: module.text for module in modules}
    places: dict[str, set[str]] = {}  # of each word, the texts that hold it
    for name, text in texts.items():
        for word in set(re.findall(r"\w+", text)):
            places.setdefault(word, set()).add(name)
    found = []
    for module in modules:
        own = {module.name, f"chapter of {module.name}"}
        functions = {node.name for node in module.tree.body if isinstance(node, Function)}
        lonely = [name for name in functions.intersection(module.public) if places.get(name, set()) <= own]
        names = sorted(name for name in lonely if not name.endswith("_command"))
        found += [f"{module.name}: {name} is public, and nothing outside uses it" for name in names]
    return found


def outside_texts(root: Path) -> dict[str, str]:
    "Texts of notebooks (a module's chapter under that name), tests, tools and examples."
    texts = {}
    for path in notebook_files(root):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        text = "\n".join("".join(cell["source"]) for cell in cells)
        module = re.search(r"^#\| default_exp (\S+)", text, re.MULTILINE)
        texts[f"chapter of {module[1]}" if module else str(path)] = text
    scripts = [path for folder in ("tests", "tools", "examples") for path in (root / folder).glob("*.py")]
    return texts | {str(path): path.read_text(encoding="utf-8") for path in scripts}


def read_imports(package: Path) -> dict[str, set[str]]:
    "Each module of a package, and the modules of it that it imports."
    modules = [Module(path, package) for path in module_files(package)]
    return {module.name: {origin for origin, _ in module.imports.values()} for module in modules}


def measure(root: Path) -> list[str]:
    "Everything outside the bounds, each with its file."
    notebooks = notebook_files(root)
    found = [f"{path.relative_to(root)}: {text}" for path in notebooks for text in measure_notebook(path)]
    package = root / "mid_nbdev"
    modules = sorted(package.rglob("*.py"))
    found += [f"{path.relative_to(root)}: {text}" for path in modules for text in measure_module(path)]
    imports = read_imports(package)
    found += numbered_twice([path.relative_to(root / "nbs").as_posix() for path in notebooks])
    return found + used_by_none(root) + against_layers(imports) + circles(imports)


if __name__ == "__main__":
    outside = measure(ROOT)
    sys.exit("\n".join(outside) if outside else None)
