"""Reference entries of the package, read from its modules without importing them.

An entry has the signature with its types, the summary, what each parameter and the result is (shape, unit, range), the
errors that the code raises, in the code's own words, and an example. Parameters are described by the comment beside
them or in a Google-style docstring. `entries` gives them all; `tools/docs.py` puts them on the pages.
"""

import ast
import io
import re
import tokenize
from dataclasses import dataclass, field
from importlib.util import resolve_name
from pathlib import Path

from docstring_parser import Docstring, DocstringStyle, parse

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass
class Entry:
    "One public name, or a method of one."

    module: str  # its module without the package, as "crops.boxes"
    name: str  # as "average" or "MID.forward"
    line: int  # where it begins in its module
    signature: str  # Python
    summary: str  # docstring without its sections; empty for a constant
    parameters: list[str] = field(default_factory=list)  # Markdown, one for each parameter or field
    result: str = ""  # Markdown
    raises: list[str] = field(default_factory=list)  # Markdown, as the docstring says it
    errors: list[str] = field(default_factory=list)  # as "InputError: recipe ...", raised by the code itself
    example: str = ""  # Python, with its output
    calls: set[str] = field(default_factory=set)  # names it calls
    methods: list["Entry"] = field(default_factory=list)

    @property
    def anchor(self) -> str:
        "Its place on the page, as nbdev names it."
        return self.name.lower()

    def everything(self) -> list["Entry"]:
        "The entry and its methods."
        return [self, *self.methods]


def module_files(package: Path) -> list[Path]:
    "Files of a package's modules, in all its folders; those that only open a folder or index the package are none."
    return [path for path in sorted(package.rglob("*.py")) if path.name not in ("__init__.py", "_modidx.py")]


def notebook_files(root: Path) -> list[Path]:
    "A repository's notebooks, in all folders; an editor's checkpoints are none."
    paths = [path.relative_to(root / "nbs") for path in sorted((root / "nbs").rglob("*.ipynb"))]
    return [root / "nbs" / path for path in paths if not any(part.startswith((".", "_")) for part in path.parts)]


class Module:
    "A module's source, with the comment of each line."

    def __init__(self, path: Path, package: Path):
        text = path.read_text(encoding="utf-8")
        self.name = ".".join(path.relative_to(package).with_suffix("").parts)  # without the package, as crops.boxes
        self.text, self.tree = text, ast.parse(text)
        tokens = tokenize.generate_tokens(io.StringIO(text).readline)
        self.notes = {t.start[0]: t.string.lstrip("# ").strip() for t in tokens if t.type == tokenize.COMMENT}
        listed = (ast.literal_eval(node.value) for node in self.tree.body if self.assigns(node) == "__all__")
        self.public: list[str] = next(listed, [])
        functions = (node for node in self.tree.body if isinstance(node, Function))
        self.private = {node.name: node for node in functions if node.name not in self.public}
        self.imports: dict[str, tuple[str, str]] = {}
        folder = f"{package.name}.{self.name}".rpartition(".")[0]
        for node in (n for n in ast.walk(self.tree) if isinstance(n, ast.ImportFrom)):
            origin = resolve_name("." * node.level + (node.module or ""), folder)
            if origin.startswith(f"{package.name}."):
                named = {alias.asname or alias.name: alias.name for alias in node.names}
                self.imports |= {name: (origin.partition(".")[2], given) for name, given in named.items()}

    @staticmethod
    def assigns(node: ast.AST) -> str:
        "The name that a statement assigns to, if it is one name."
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        return target.id if isinstance(target, ast.Name) else ""

    def entries(self) -> list[Entry]:
        "Entries of the public names, in order."
        found = []
        for node in self.tree.body:
            name = getattr(node, "name", "") or self.assigns(node)
            if name not in self.public:
                continue
            if isinstance(node, ast.ClassDef):
                found.append(self.of_class(node))
            elif isinstance(node, Function):
                found.append(self.of_function(node))
            else:
                written_so = ast.get_source_segment(self.text, node) or ""
                found.append(Entry(self.name, name, node.lineno, written_so, self.notes.get(node.end_lineno or 0, "")))
        return found

    def raises(self, *nodes: ast.AST) -> tuple[list[str], set[str]]:
        "Errors that code raises, and names that it calls: with those of the module's private functions that it calls."
        errors, calls, waiting = [], set(), list(nodes)
        while waiting:
            node = waiting.pop(0)
            errors += raised(node)
            waiting += [self.private[name] for name in sorted((called(node) - calls) & self.private.keys())]
            calls |= called(node)
        return list(dict.fromkeys(errors)), calls

    def of_function(self, node: Function, owner: str = "") -> Entry:
        "Entry of a function or method."
        given = parameters(node)[1 if owner and not is_static(node) else 0 :]
        name = f"{owner}.{node.name}" if owner else node.name
        docs = Docs(node)
        entry = Entry(self.name, name, node.lineno, signature(node, given), docs.summary)
        entry.parameters = [f"`{text}`" + colon(docs.notes.get(arg.arg) or self.note(arg)) for arg, text in given]
        if node.returns and ast.unparse(node.returns) != "None":
            entry.result = f"`{ast.unparse(node.returns)}`" + colon(docs.result or self.note(node.returns))
        entry.raises, entry.example = docs.raises, docs.example
        entry.errors, entry.calls = self.raises(node)
        return entry

    def of_class(self, node: ast.ClassDef) -> Entry:
        "Entry of a class, with its fields or the parameters of its constructor, and its methods."
        made = {n.name: n for n in node.body if isinstance(n, Function)}
        fields = [n for n in node.body if isinstance(n, ast.AnnAssign) and not ast.unparse(n.target).startswith("_")]
        docs = Docs(node)
        entry = Entry(self.name, node.name, node.lineno, "", docs.summary, raises=docs.raises, example=docs.example)
        if constructor := made.get("__init__"):
            given = [(arg.arg, self.note(arg), text) for arg, text in parameters(constructor)[1:]]
            docs.notes = Docs(constructor).notes | docs.notes
        else:
            given = [(ast.unparse(n.target), self.note(n), ast.unparse(n)) for n in fields]
        entry.parameters = [f"`{text}`" + colon(docs.notes.pop(name, "") or note) for name, note, text in given]
        entry.parameters += [f"`{name}`" + colon(note) for name, note in docs.notes.items()]  # attributes
        bases = ", ".join(map(ast.unparse, node.bases))
        entry.signature = written(f"class {node.name}", [text for *_, text in given], "")
        entry.signature += f"  # a {bases}" if bases else ""
        entry.errors, entry.calls = self.raises(*(made[n] for n in ("__init__", "__post_init__") if n in made))
        methods = [*made.values(), *(n for n in self.tree.body if isinstance(n, Function) and patches(n) == node.name)]
        shown = [n for n in methods if not n.name.startswith("_") and n.name != "extra_repr"]  # which PyTorch calls
        entry.methods = [self.of_function(n, node.name) for n in shown]
        return entry

    def note(self, node: ast.AST) -> str:
        "The docment of a parameter, field or result: the comment on its last line."
        return self.notes.get(getattr(node, "end_lineno", 0), "")


class Docs:
    "What a Google-style docstring says; a docstring without sections is a summary."

    def __init__(self, node: ast.AsyncFunctionDef | ast.FunctionDef | ast.ClassDef):
        parsed: Docstring = parse(ast.get_docstring(node) or "", DocstringStyle.GOOGLE)
        prose = [parsed.short_description, parsed.long_description]
        self.summary = "\n\n".join(text for text in prose if text)
        self.notes = {item.arg_name.lstrip("*"): one_line(item.description) for item in parsed.params}
        self.raises = [f"`{item.type_name}`" + colon(one_line(item.description)) for item in parsed.raises]
        self.example = "\n\n".join(item.description or "" for item in parsed.examples)
        self.result = ""
        if parsed.returns:  # a text such as "scores: float32" is read as a type and its description
            said = [parsed.returns.type_name, one_line(parsed.returns.description)]
            self.result = ": ".join(text for text in said if text)


def one_line(text: str | None) -> str:
    "A description that was broken over lines."
    return " ".join((text or "").split())


def colon(note: str) -> str:
    "A note behind a colon, if there is one."
    return f": {with_code(note)}" if note else ""


def with_code(text: str) -> str:
    "A text with a command's options as code, since their two hyphens would become a dash."
    parts = text.split("`")
    parts[::2] = [re.sub(r"--[a-z][\w-]*", r"`\g<0>`", part) for part in parts[::2]]
    return "`".join(parts)


def patches(node: Function) -> str:
    "The class that a function outside it becomes a method of, by fastcore's `patch`; empty if none."
    patched = any(ast.unparse(decorator) == "patch" for decorator in node.decorator_list)
    return ast.unparse(node.args.args[0].annotation) if patched and node.args.args[0].annotation else ""


def is_static(node: Function) -> bool:
    "Has a method no first parameter of its own?"
    return any(ast.unparse(d) == "staticmethod" for d in node.decorator_list)


def parameters(node: Function) -> list[tuple[ast.arg, str]]:
    "Parameters of a function, each as written with its type and default."
    a = node.args
    plain = [*a.posonlyargs, *a.args]
    given = [*zip(plain, [None] * (len(plain) - len(a.defaults)) + a.defaults), (a.vararg, None)]
    given += [*zip(a.kwonlyargs, a.kw_defaults), (a.kwarg, None)]
    stars = {a.vararg: "*", a.kwarg: "**"}
    return [(arg, stars.get(arg, "") + text_of(arg, default)) for arg, default in given if arg]


def text_of(arg: ast.arg, default: ast.expr | None) -> str:
    "A parameter as Python writes it."
    text = f"{arg.arg}: {ast.unparse(arg.annotation)}" if arg.annotation else arg.arg
    return text if default is None else f"{text}{' = ' if arg.annotation else '='}{ast.unparse(default)}"


def signature(node: Function, given: list[tuple[ast.arg, str]]) -> str:
    "A function's first line, or lines where one would be long."
    texts = [text for _, text in given]
    if node.args.kwonlyargs and not node.args.vararg:
        texts.insert(len(texts) - len(node.args.kwonlyargs) - bool(node.args.kwarg), "*")
    if any(ast.unparse(d).endswith("property") for d in node.decorator_list):
        return f"{node.name}: {ast.unparse(node.returns)}" if node.returns else node.name
    return written(f"def {node.name}", texts, f" -> {ast.unparse(node.returns)}" if node.returns else "")


def written(start: str, texts: list[str], end: str) -> str:
    "A signature on one line if it has room for it."
    line = f"{start}({', '.join(texts)}){end}"
    return line if len(line) <= 72 else "\n".join([f"{start}(", *(f"    {text}," for text in texts), f"){end}"])


def raised(node: ast.AST) -> list[str]:
    "Errors that the code raises, with their messages; what is computed stands in braces or as dots."
    found = []
    for n in ast.walk(node):
        if isinstance(n, ast.Raise) and isinstance(n.exc, ast.Call):
            name = ast.unparse(n.exc.func).split(".")[-1]
            if name[0].isupper():
                found.append(f"{name}: {message(n.exc.args[0])}" if n.exc.args else name)
    return found


def message(value: ast.expr) -> str:
    "The text of a message as a template."
    if isinstance(value, ast.JoinedStr):
        return "".join(part.value if isinstance(part, ast.Constant) else message(part) for part in value.values)
    if isinstance(value, ast.FormattedValue):
        plain = re.fullmatch(r"[\w.]+", ast.unparse(value.value))
        return f"{{{plain.group()}}}" if plain else "…"
    if isinstance(value, ast.BinOp):
        return message(value.left) + message(value.right)
    return str(value.value) if isinstance(value, ast.Constant) else "…"


def called(node: ast.AST) -> set[str]:
    "Plain names that the code calls."
    return {n.func.id for n in ast.walk(node) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)}


def entries(package: Path) -> dict[str, list[Entry]]:
    "Entries of every module of a package, with the errors that come from what each calls."
    modules = [Module(path, package) for path in module_files(package)]
    found = {module.name: module.entries() for module in modules}
    everything = {(e.module, e.name): e for listed in found.values() for top in listed for e in top.everything()}
    imports = {module.name: module.imports for module in modules}
    callees = {}
    for key, entry in everything.items():
        called_here = {imports[entry.module].get(name, (entry.module, name)) for name in entry.calls}
        callees[key] = called_here & everything.keys() - {key}
    raising = {key for key, entry in everything.items() if entry.errors}
    while more := {key for key in everything if callees[key] & raising} - raising:
        raising |= more
    for key, entry in everything.items():
        entry.calls = {name for _, name in callees[key] & raising}
    return found


def markdown(entry: Entry, source: str, level: int = 3) -> str:
    "An entry as Markdown; `source` is the address of its module's file."
    link = f"[source]({source}#L{entry.line}){{.source}}"
    heading = f"{'#' * level} {entry.name} {{#{entry.anchor} .entry}}"
    parts = [heading, link, f"```python\n{entry.signature}\n```", entry.summary]
    if entry.parameters:
        parts.append("\n".join(f"- {text}" for text in entry.parameters))
    if entry.result:
        parts.append(f"Returns {entry.result}")
    written_so = [f"`` {text} ``" if text.endswith("`") else f"``{text}``" for text in entry.errors]
    if errors := [*entry.raises, *written_so]:
        parts.append("Raises\n\n" + "\n".join(f"- {text}" for text in errors))
    if entry.calls:
        parts.append(f"Passes on the errors of {', '.join(f'`{name}`' for name in sorted(entry.calls))}.")
    if entry.example:
        parts.append(f"Example\n\n```python\n{entry.example}\n```")
    parts += [markdown(method, source, level + 1) for method in entry.methods]
    return "\n\n".join(part for part in parts if part)
