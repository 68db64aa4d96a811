"""Pages of the site without a notebook: lists of pages, the API, a page for each command, texts of the repository.

What they say is read from elsewhere: titles and promises from the notebooks, signatures and summaries from the modules,
options from the commands. `nbs/reference.yml` chooses the names and has the examples of the commands.
"""

import ast
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from reference import Entry, markdown, with_code


@dataclass(frozen=True)
class Written:
    "A page that is written for the site."

    title: str
    promise: str  # what the reader finds on it, in a sentence
    text: str  # Markdown, with links from the top of the site
    options: dict = field(default_factory=dict)  # of its front matter

    def page(self) -> str:
        "The page with its front matter."
        front = {"title": self.title, "description": self.promise, **self.options}
        return f"---\n{yaml.safe_dump(front, allow_unicode=True)}---\n\n{self.text}\n"


def written_pages(book, chosen: dict) -> dict[str, Written]:
    "All pages without a notebook but the lists of a section's pages, by their name."
    return {
        "api.md": api_page(book),
        "names.md": names_page(book, chosen["names"]),
        **{f"commands/{name}.md": page for name, page in command_pages(book.root, chosen["commands"]).items()},
        "contributing.md": repository_text(book.root, "CONTRIBUTING.md", "How the library is changed and tested."),
        "changelog.md": repository_text(book.root, "CHANGELOG.md", "What changed for users, version by version."),
        "404.md": Written(
            "Page not found", "There is no page at this address.", MISSING, {"toc": False, "search": False}
        ),
    }


MISSING = """The page may have been renamed. Search above, or begin with the [guides](guides.md), the [API](api.md),
the [command line](commands.md) or the [results](results.md)."""


def repository_text(root: Path, name: str, promise: str) -> Written:
    "A text from the top of the repository as a page."
    title, _, text = (root / name).read_text(encoding="utf-8").partition("\n")
    return Written(title.removeprefix("# "), promise, re.sub(r"\]\(nbs/", "](", text).strip())


def overview(section: dict, texts: dict[str, dict[str, str]], about: dict[str, tuple[str, str]]) -> Written:
    "The pages of a section of the sidebar, each with its promise; sections within it have headings."

    def listed(item: dict | str) -> str:
        if isinstance(item, dict):
            said = texts.get(item["section"], {}).get("description", "")
            return "\n\n".join([f"## {item['section']}", said, *map(listed, item["contents"])])
        title, promise = about[item]
        title = re.sub(r"`(\w+)`", r"\1", title)  # a name would become a link within the link
        return f"[{title}]({item})\n: {promise}"

    own, inner = texts[section["section"]], any(isinstance(item, dict) for item in section["contents"])
    text = "\n\n".join([own.get("about", ""), *map(listed, section["contents"])]).strip()
    return Written(section["section"], own["description"], text, {} if inner else {"toc": False})


def front_door(root: Path, package: str) -> dict[str, str]:
    "The names that the package itself offers, in the order in which it lists them, each with its module."
    tree = ast.parse((root / package / "__init__.py").read_text(encoding="utf-8"))
    assigned = {ast.unparse(node.targets[0]): node.value for node in tree.body if isinstance(node, ast.Assign)}
    names, places = (ast.literal_eval(assigned[name]) for name in ("__all__", "_PLACES"))
    return {name: places[name] for name in names}


API = """Import these names from `mid_nbdev`. [More functions and classes](names.md) has the others that are useful by
themselves, by task; every chapter of the [library](chapters.md) describes all that it defines.

```python
from mid_nbdev import MID, load_classifier
```"""


def api_page(book) -> Written:
    "The names of the package itself, each with signature, parameters and an example with its output."
    parts = [API]
    for name, module in front_door(book.root, book.settings["lib_path"]).items():
        page = book.modules[module]
        parts.append(markdown(book.entry(f"{module}.{name}"), book.file(module), 2))
        parts.append(f"How it works: [{book.about[page][0]}]({page}).")
    return Written("API reference", "The names that most programs need, with examples.", "\n\n".join(parts))


def names_page(book, tasks: list[dict]) -> Written:
    "Other names by task, each with its summary and a link to its entry."
    parts = []
    for task in tasks:
        rows = [name_row(book, book.entry(name)) for name in task["contents"]]
        table = "\n".join(["| name | what it does |", "|---|---|", *rows])
        parts.append(f"## {task['task']}\n\n{task['description']}\n\n{table}")
    promise = "Functions and classes behind the main ones, grouped by task."
    return Written("More functions and classes", promise, "\n\n".join(parts))


def name_row(book, entry: Entry) -> str:
    "A name in a table: link, module, summary."
    summary = " ".join(entry.summary.split("\n\n")[0].split())
    return f"| [`{entry.name}`]({book.modules[entry.module]}#{entry.anchor}) | {cell(summary)} |"


def cell(text: str) -> str:
    "Text in a cell of a Markdown table."
    return with_code(" ".join(text.split()).replace("|", r"\|").replace("<", r"\<").replace("*", r"\*"))


def command_pages(root: Path, examples: dict[str, dict[str, str]]) -> dict[str, Written]:
    "A page for each command of `mid`, in the order of the examples: usage, examples, arguments, options."
    commands, top = mid_commands(root)
    if missing := commands.keys() ^ examples.keys():
        sys.exit(f"nbs/reference.yml: expected examples of every command, see {', '.join(sorted(missing))}")
    pages = {}
    for name, shown in examples.items():
        command = commands[name]
        context = type(top)(command, info_name=name, parent=top)
        usage = command.get_usage(context).removeprefix("Usage: ")
        parts = [f"```sh\n{usage}\n```", "## Examples"]
        parts += [f"{about}:\n\n```sh\n{line.strip()}\n```" for about, line in shown.items()]
        for kind, heading in (("argument", "Arguments"), ("option", "Options")):
            rows = [option_row(one, context) for one in command.get_params(context) if one.param_type_name == kind]
            if rows:
                head = f"| {kind} | type | description | default |\n|---|---|---|---|"
                parts.append(f"## {heading}\n\n" + "\n".join([head, *rows]))
        pages[name] = Written(f"mid {name}", " ".join(command.help.split()), "\n\n".join(parts))
    return pages


def mid_commands(root: Path) -> tuple[dict, object]:
    "The commands of a repository's `mid` by name, and the context of them all."
    sys.path.insert(0, str(root))
    from typer.main import get_command

    from mid_nbdev.__main__ import app

    group = get_command(app)
    return group.commands, group.context_class(group, info_name="mid")


def option_row(parameter, context) -> str:
    "An option as `--help` shows it: name, type, description, default."
    named, said = parameter.get_help_record(context)
    name, kind = re.fullmatch(r"(.*?)(?: <(.*)>)?", named).groups()
    text, default, required = re.fullmatch(r"(.*?)(?:  \[(?:default: (.*?)(?:; )?)?(required)?\])?", said).groups()
    names = " / ".join(f"`{one}`" for one in name.split(" / "))
    shown = "required" if required else f"`{default}`" if default else ""
    return f"| {names} | {cell(kind or 'flag')} | {cell(text)} | {shown} |"
