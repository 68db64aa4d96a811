"""Pages of the site without a notebook: lists of pages, the API, a page for each command, texts of the repository.

What they say is read from elsewhere: titles and promises from the notebooks, signatures and summaries from the modules,
options from the commands. `nbs/reference.yml` says what each page is about, chooses the names and has the examples of
the commands.
"""

import ast
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from reference import markdown, with_code


@dataclass(frozen=True)
class Written:
    "A page that is written for the site."

    title: str
    promise: str  # what the reader finds on it, in a sentence
    text: str  # Markdown, with links from the top of the site
    options: dict = field(default_factory=dict)  # of its front matter

    @classmethod
    def of(cls, book, title: str, *parts: str, **options) -> "Written":
        "A page of parts, below what is said about it."
        said = book.chosen["pages"][title]
        return cls(title, said["description"], "\n\n".join([said.get("about", ""), *parts]).strip(), options)

    def page(self) -> str:
        "The page with its front matter."
        front = {"title": self.title, "description": self.promise, **self.options}
        return f"---\n{yaml.safe_dump(front, allow_unicode=True)}---\n\n{self.text}\n"


def written_pages(book) -> dict[str, Written]:
    "All pages without a notebook but the lists of a section's pages, by their name."
    made = {
        "api.md": Written.of(book, "API reference", *api_parts(book)),
        "names.md": Written.of(book, "More functions and classes", *[names_of(book, t) for t in book.chosen["names"]]),
        **{f"commands/{name}.md": page for name, page in command_pages(book.root, book.chosen["commands"]).items()},
        "404.md": Written.of(book, "Page not found", toc=False, search=False),
    }
    for name in ("contributing", "changelog"):
        title, _, text = (book.root / f"{name.upper()}.md").read_text(encoding="utf-8").partition("\n")
        made[f"{name}.md"] = Written.of(book, title.removeprefix("# "), re.sub(r"\]\(nbs/", "](", text))
    return made


def overview(book, section: dict) -> Written:
    "The pages of a section of the sidebar, each with its promise; sections within it have headings."

    def listed(item: dict | str) -> str:
        if isinstance(item, dict):
            said = book.chosen["pages"].get(item["section"], {"description": ""})["description"]
            return "\n\n".join([f"## {item['section']}", said, *map(listed, item["contents"])])
        title, promise = book.about[item]
        title = re.sub(r"`(\w+)`", r"\1", title)  # a name would become a link within the link
        return f"[{title}]({item})\n: {promise}"

    options = {} if any(isinstance(item, dict) for item in section["contents"]) else {"toc": False}
    return Written.of(book, section["section"], *map(listed, section["contents"]), **options)


def front_door(root: Path, package: str) -> dict[str, str]:
    "The names that the package itself offers, in the order in which it lists them, each with its module."
    tree = ast.parse((root / package / "__init__.py").read_text(encoding="utf-8"))
    assigned = {ast.unparse(node.targets[0]): node.value for node in tree.body if isinstance(node, ast.Assign)}
    names, places = (ast.literal_eval(assigned[name]) for name in ("__all__", "_PLACES"))
    return {name: places[name] for name in names}


def api_parts(book) -> list[str]:
    "The names of the package itself, each with signature, parameters and an example with its output."
    parts = []
    for name, module in front_door(book.root, book.settings["lib_path"]).items():
        page = book.modules[module]
        parts.append(markdown(book.entry(f"{module}.{name}"), book.file(module), 2))
        parts.append(f"How it works: [{book.about[page][0]}]({page}).")
    return parts


def names_of(book, task: dict) -> str:
    "Names for a task, each with a link to its entry and its summary."
    rows = []
    for entry in map(book.entry, task["contents"]):
        link = f"[`{entry.name}`]({book.modules[entry.module]}#{entry.anchor})"
        rows.append((link, cell(entry.summary.split("\n\n")[0])))
    return f"## {task['task']}\n\n{task['description']}\n\n{table(('name', 'what it does'), rows)}"


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    "A Markdown table."
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows))


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
        parts = [f"```sh\n{command.get_usage(context).removeprefix('Usage: ')}\n```", "## Examples"]
        parts += [f"{about}:\n\n```sh\n{line.strip()}\n```" for about, line in shown.items()]
        for kind in ("argument", "option"):
            rows = [option_row(one, context) for one in command.get_params(context) if one.param_type_name == kind]
            if rows:
                parts += [f"## {kind.title()}s", table((kind, "type", "description", "default"), rows)]
        pages[name] = Written(f"mid {name}", " ".join(command.help.split()), "\n\n".join(parts))
    return pages


def mid_commands(root: Path) -> tuple[dict, object]:
    "The commands of a repository's `mid` by name, and the context of them all."
    sys.path.insert(0, str(root))
    from typer.main import get_command

    from mid_nbdev.__main__ import app

    group = get_command(app)
    return group.commands, group.context_class(group, info_name="mid")


def option_row(parameter, context) -> tuple[str, ...]:
    "An option as `--help` shows it: name, type, description, default."
    named, said = parameter.get_help_record(context)
    name, kind = re.fullmatch(r"(.*?)(?: <(.*)>)?", named).groups()
    text, default, required = re.fullmatch(r"(.*?)(?:  \[(?:default: (.*?)(?:; )?)?(required)?\])?", said).groups()
    names = " / ".join(f"`{one}`" for one in name.split(" / "))
    return names, cell(kind or "flag"), cell(text), "required" if required else f"`{default}`" if default else ""
