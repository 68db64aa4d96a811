"""Build the documentation site from the notebooks: `python tools/docs.py [FOLDER]`, into _docs/ if no folder is named.

Pages are staged in a temporary folder under the names they have on the site and rendered by Quarto where it is
installed, otherwise by smalldocs (`--engine` says which); both read the one `_quarto.yml`. A chapter shows the
reference entries of what a cell defines above its folded code. A page of results opens with the cells marked
`#| opening: true` or `<!-- opening -->`, and its code is folded. `pages.py` writes the pages that have no notebook.
Nothing is loaded from another site: formulas become MathML, and remote fonts and scripts are removed.
"""

import argparse
import ast
import copy
import html
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from base64 import b64decode
from collections.abc import Iterator
from configparser import ConfigParser
from fnmatch import fnmatch
from hashlib import sha256
from io import BytesIO
from itertools import repeat, zip_longest
from pathlib import Path
from urllib.parse import urlsplit

import nbformat
import yaml
from bs4 import BeautifulSoup, Tag
from figures import inlined
from latex2mathml.converter import convert as to_mathml
from nbformat.v4 import new_markdown_cell, new_notebook, new_raw_cell
from pages import Written, overview, written_pages
from PIL import Image
from reference import Entry, entries, markdown, notebook_files

ROOT = Path(__file__).resolve().parent.parent
LONG = 12  # lines of a hundred characters: longer code is folded in guides
RESULTS = ("paper/", "beyond/", "benchmark/")  # folders whose pages without a module are pages of results
OPENING = re.compile(r"^(?:#\| opening: true|<!-- opening -->)\n", re.MULTILINE)
INTERVAL = re.compile(r"\[([+-]?)([\d.]+),\s([+-]?)([\d.]+)\]")
BESIDE = shutil.ignore_patterns("*.ipynb", "*.yml", ".*", "_*")  # all others beside the notebooks are of use to pages
DATA = re.compile(r"""[\w./-]+\.(?:csv|parquet)\b""")  # a file that a page may name
EXPLORER = '<div class="explorer"></div>'  # where a page shows the explorer
EXPLORED = (5, 6, 7, 10, 14)  # photographs of the demo that it shows


class Book:
    "The notebooks of a repository as pages."

    def __init__(self, root: Path):
        parser = ConfigParser(delimiters=["="])
        parser.read(root / "settings.ini", encoding="utf-8")
        self.settings, self.root, self.notebooks = parser["DEFAULT"], root, root / "nbs"
        self.source = f"{self.settings['git_url']}/blob/{self.settings['branch']}"
        self.config = yaml.safe_load((root / "_quarto.yml").read_text(encoding="utf-8"))
        paths = [path.relative_to(self.notebooks).as_posix() for path in notebook_files(root)]
        self.pages = {path: page_name(path) for path in sorted(paths, key=lambda path: (path.count("/"), path))}
        if len(set(self.pages.values())) < len(self.pages):
            sys.exit(f"two notebooks have one address: {sorted(self.pages.values())}")
        self.cells = {path: nbformat.read(self.notebooks / path, as_version=4).cells for path in self.pages}
        self.entries = entries(root / self.settings["lib_path"])
        self.modules = {self.module(path): page for path, page in self.pages.items() if self.module(path)}
        self.places: dict[str, list[str]] = {}
        for module, listed in self.entries.items():
            for entry in (e for top in listed for e in top.everything()):
                self.places.setdefault(entry.name, []).append(f"{self.modules[module]}#{entry.anchor}")
        self.about = {page: self.title_and_promise(path) for path, page in self.pages.items()}
        self.chosen = yaml.safe_load((self.notebooks / "reference.yml").read_text(encoding="utf-8"))
        self.written: dict[str, Written] = written_pages(self)
        self.about |= {page: (text.title, text.promise) for page, text in self.written.items()}
        self.tree = self.expanded(self.config["website"]["sidebar"]["contents"], set())
        lists = [item for item in self.tree if "contents" in item and item["href"] not in self.written]
        self.written |= {item["href"]: overview(self, item) for item in lists}

    def title_and_promise(self, path: str) -> tuple[str, str]:
        "What the first cell of a notebook says: `# Title` and `> promise`."
        first = self.cells[path][0]["source"]
        found = [re.search(rf"^{mark} (.+)$", first, re.MULTILINE) for mark in "#>"]
        if not all(found):
            sys.exit(f"{path}: expected a first cell with '# Title' and '> what the reader gains'")
        return found[0].group(1), found[1].group(1)

    def entry(self, name: str) -> Entry:
        "The reference entry of a name that one module defines, or of the name in the module that is named with it."
        module, _, short = name.rpartition(".")
        found = [e for of, listed in self.entries.items() for e in listed if e.name == short and module in ("", of)]
        if len(found) != 1:
            sys.exit(f"{name}: expected a name that one module defines, found it in {len(found)}")
        return found[0]

    def file(self, module: str) -> str:
        "The address of a module's file in the repository."
        return f"{self.source}/{self.settings['lib_path']}/{module.replace('.', '/')}.py"

    def module(self, path: str) -> str:
        "The module a notebook is exported to; empty if it exports none."
        sources = (cell["source"] for cell in self.cells[path] if cell["cell_type"] == "code")
        exported = (re.match(r"#\|\s*default_exp\s+(\S+)", source) for source in sources)
        return next((match.group(1) for match in exported if match), "")

    def stage(self, folder: Path) -> None:
        "Write the pages, the configuration and the files beside the notebooks into a folder."
        shutil.copytree(self.notebooks, folder, ignore=BESIDE, dirs_exist_ok=True)
        for path, page in self.pages.items():
            write(folder / page, json.dumps(self.staged(path)))
        for page, written in self.written.items():
            write(folder / page, self.linked(written.page(), page))
        config = copy.deepcopy(self.config)
        config["project"]["output-dir"] = "_docs"
        website, version = config["website"], self.settings["version"]
        website["sidebar"]["contents"] = self.tree
        website["navbar"]["right"].insert(0, {"text": f"v{version}", "href": "changelog.md"})
        website["page-footer"]["left"] = f"{website['title']} {version} · {website['page-footer']['left']}"
        write(folder / "_quarto.yml", yaml.safe_dump(config, sort_keys=False, allow_unicode=True))

    def expanded(self, contents: list, listed: set[str]) -> list:
        "The sidebar with page names: a pattern gives the pages not listed before it; an empty section is left out."
        found: list = []
        for item in contents:
            if isinstance(item, dict) and "contents" in item:
                inner = self.expanded(item["contents"], listed)
                found += [{**item, "contents": inner}] if inner else []
            elif isinstance(item, str):
                names = {**self.pages, **{page: page for page in self.written}}
                beside = [path for path in names if path.count("/") == item.count("/")]
                new = [path for path in beside if fnmatch(path, item) and path not in listed]
                listed.update(new)
                found += [names[path] for path in new]
            else:
                found.append(item)
        return found

    def staged(self, path: str) -> dict:
        "A notebook as it is rendered: front matter, prose with links, reference entries, examples with outputs."
        (first, *cells), module = self.cells[path], self.module(path)
        title, promise = self.title_and_promise(path)
        front = {"title": title, "description": promise}
        said = re.sub(r"^[#>] .+$", "", first["source"], count=2, flags=re.MULTILINE).strip()
        cells.insert(0, {**first, "source": said})
        if results := path.startswith(RESULTS) and not module:
            cells = joined(opened(cells))
        headings = sum(len(re.findall(r"^## ", cell["source"], re.MULTILINE)) for cell in cells)
        if path == "index.ipynb" or not module and headings < 4:
            front["toc"] = False
        elif results:  # wide tables and figures take the place of the list in the margin
            front["toc-location"] = "body"
        text = f"---\n{yaml.safe_dump(front, allow_unicode=True)}---\n"
        made = [new_raw_cell(text, id="front")]
        for cell in cells:
            made += self.staged_cell(cell, module, path)
        made.append(text_cell("page-end", self.page_end(path, cells)))
        kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
        return new_notebook(cells=made, metadata={"kernelspec": kernel})

    def staged_cell(self, cell: dict, module: str, path: str) -> list[dict]:
        "One cell as none, one or an entry for each name that it defines."
        if cell["cell_type"] == "markdown":
            taken = {entry.anchor for entry in self.entries.get(module, [])}
            text = re.sub(r"^#+ (.+)$", lambda m: heading(m, taken), cell["source"], flags=re.MULTILINE)
            return [text_cell(cell["id"], self.linked(text, path))] if text else []
        if cell["cell_type"] != "code":
            return [cell]
        cell = with_figures(with_tables(cell))
        marks = re.findall(r"^#\|\s*(hide|default_exp|exporti?)\b(?!:)", cell["source"], re.MULTILINE)
        if not marks:
            lines = sum(1 + len(line) // 100 for line in cell["source"].splitlines())
            hidden = re.search(r"^#\| echo: false", cell["source"], re.MULTILINE)
            return [folded(cell) if not module and not hidden and (lines > LONG or path.startswith(RESULTS)) else cell]
        if "export" not in marks:
            return []
        begins = re.compile(r"^(?:def |class |async def )?(\w+)", re.MULTILINE)
        defined = [entry for entry in self.entries.get(module, []) if entry.name in begins.findall(cell["source"])]
        made = [
            text_cell(f"{cell['id']}-{e.anchor}", self.linked(markdown(e, self.file(module)), path)) for e in defined
        ]
        code = re.sub(r"^#\|.*\n", "", cell["source"], flags=re.MULTILINE)
        return made if only_imports(code) else [*made, folded({**cell, "source": code})]

    def page_end(self, path: str, cells: list[dict]) -> str:
        "The last line of a page: the data files that it names, and its notebook in the repository."
        named = sorted({name for cell in cells for name in DATA.findall(cell["source"])})
        places = {name: (self.notebooks / path).parent.joinpath(name).resolve() for name in named}
        there = [name for name, at in places.items() if at.is_file() and at.is_relative_to(self.notebooks.resolve())]
        links = [f"[{os.path.basename(name)}]({name})" for name in there]
        data = f"Data: {', '.join(links)}. " if links and path.startswith(RESULTS) else ""
        return f"::: {{.page-end}}\n{data}[Notebook of this page]({self.source}/nbs/{path})\n:::"

    def linked(self, text: str, path: str) -> str:
        "Markdown with links to the pages' own names, and public names in backticks linked to their entries."
        parts = re.split(r"(^```.*?^```|^#.*?$|``.*?``)", text, flags=re.MULTILINE | re.DOTALL)
        for number in range(0, len(parts), 2):
            plain = re.sub(r"^\[!\[.*\]\(https?://.*\)$", "", parts[number], flags=re.MULTILINE)  # badges
            plain = re.sub(r"(?m)^!\[([^\]]+)\]\(([^:)]*\.svg)\)$", lambda m: self.drawn(m, path), plain)
            plain = re.sub(r"!\[([^\]]+)\]\(([^)]*)\)", r'![](\2){fig-alt="\1"}', plain)
            link = r"\]\(([^)#:]+\.ipynb)((?:#[^)]*)?)\)"
            plain = re.sub(link, lambda m: f"]({self.address(m.group(1), path)}{m.group(2)})", plain)
            name = r"(?<!^\| )(?<![\[`])`([A-Za-z_][\w.]*)(\(\))?`(?!`)"  # neither in a link nor what a row is about
            parts[number] = re.sub(name, lambda m: self.named(m, path), plain, flags=re.MULTILINE)
        return "".join(parts)

    def drawn(self, match: re.Match, path: str) -> str:
        "A figure's file, which a page shows, as a part of the page."
        file = (self.notebooks / path).parent / match.group(2)
        return raw_html(inlined(file.read_text(encoding="utf-8"), file.stem, match.group(1)))

    def address(self, link: str, path: str) -> str:
        "Where a link from one notebook to another leads on the site."
        target = os.path.normpath(os.path.join(os.path.dirname(path), link)).replace(os.sep, "/")
        pages = self.pages if path in self.pages else {page: page for page in self.about} | self.pages
        if target not in pages:
            sys.exit(f"{path}: links to {link}, which is no notebook")
        return os.path.relpath(pages[target], os.path.dirname(path) or ".").replace(os.sep, "/")

    def named(self, match: re.Match, path: str) -> str:
        "A public name as a link to its entry; to the one of the same page if several have the name."
        places = self.places.get(match.group(1), [])
        own = (place for place in places if place.startswith(f"{self.pages.get(path, path)}#"))
        place = next(own, places[0] if len(places) == 1 else "")
        return f"[{match.group()}]({os.path.relpath(place, os.path.dirname(path) or '.')})" if place else match.group()


def write(path: Path, text: str) -> None:
    "Write a text into a folder that may be new."
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def opened(cells: list[dict]) -> list[dict]:
    "The cells of a page of results: those marked as its opening come first, and headings left with nothing go."
    shown = [cell for cell in cells if not re.search(r"^#\|\s*hide\s*$", cell["source"], re.MULTILINE)]
    first = [{**cell, "source": OPENING.sub("", cell["source"])} for cell in shown if OPENING.search(cell["source"])]
    if not first:
        return shown
    first[0]["source"] = re.sub(r"^#+ .*\n+", "", first[0]["source"])  # the page's title is above it
    rest = [cell for cell in shown if not OPENING.search(cell["source"])]
    ends = [after["cell_type"] == "markdown" and after["source"].startswith("#") for after in rest[1:]] + [True]
    return [*first, *(cell for cell, end in zip(rest, ends, strict=True) if not (end and is_heading(cell)))]


def only_imports(code: str) -> bool:
    "Does code import, and do nothing else?"
    return all(isinstance(node, ast.Import | ast.ImportFrom) for node in ast.parse(code).body)


def is_heading(cell: dict) -> bool:
    "Is a cell a heading alone?"
    return cell["cell_type"] == "markdown" and bool(re.fullmatch(r"#+ .*", cell["source"].strip()))


def joined(cells: list[dict]) -> list[dict]:
    "Cells of code without output become one with the next cell of code, or go if they only import."
    made: list[dict] = []
    for cell in cells:
        last = made[-1] if made else cell
        both = last is not cell and {last["cell_type"], cell["cell_type"]} == {"code"}
        if both and not last["outputs"] and "echo: false" not in cell["source"]:
            lines = f"{last['source']}\n\n{cell['source']}".split("\n")
            ordered = sorted(lines, key=lambda line: not line.startswith("#|"))  # options lead
            made[-1] = {**cell, "source": "\n".join(ordered)}
        else:
            made.append(cell)
    return [cell for cell in made if cell["cell_type"] != "code" or not only_imports(cell["source"])]


def page_name(path: str) -> str:
    "A page's name: its notebook's, without the number that orders it."
    folder, _, name = path.rpartition("/")
    return f"{folder}/".lstrip("/") + re.sub(r"^\d+[a-z]?_", "", name)


def heading(match: re.Match, taken: set[str]) -> str:
    "A heading, with an anchor of its own where the one it would get is an entry's."
    anchor = re.sub(r"[^\w.-]+", "-", match.group(1).strip().lower())
    return f"{match.group()} {{#about-{anchor}}}" if anchor in taken else match.group()


def text_cell(name: str, source: str) -> dict:
    "A Markdown cell."
    return new_markdown_cell(source, id=re.sub(r"[^\w-]", "-", name)[:64])


def folded(cell: dict) -> dict:
    "A cell whose code is shown when it is asked for."
    return {**cell, "source": f'#| code-fold: true\n#| code-summary: "Code"\n{cell["source"]}'}


def raw_html(text: str) -> str:
    "HTML in Markdown that both engines leave as it is."
    return f"\n```{{=html}}\n{text}\n```\n"


def with_figures(cell: dict) -> dict:
    "A cell whose figures are parts of the page, so that they follow its theme; each says what it shows."
    shows = re.search(r"^#\|\s*fig-alt:(.*)\n", cell["source"], re.MULTILINE)
    outputs = []
    for number, output in enumerate(cell["outputs"]):
        if svg := "".join(output.get("data", {}).get("image/svg+xml", "")):
            name = f"figure-{cell['id']}-{number}"
            told = yaml.safe_load(shows.group(1)) if shows else ""
            output = {**output, "data": {"text/html": inlined(svg, name, told)}}
        outputs.append(output)
    return {**cell, "outputs": outputs}


def with_tables(cell: dict) -> dict:
    "A cell whose tables have their captions, one for each if `#| tbl-cap` is a list, and are ready for the style."
    caption = re.search(r"^#\|\s*tbl-cap:(.*)\n", cell["source"], re.MULTILINE)
    given = yaml.safe_load(caption.group(1)) if caption else ""
    captions = iter(given) if isinstance(given, list) else repeat(given)
    source = cell["source"].replace(caption.group(), "") if caption else cell["source"]
    return {**cell, "source": source, "outputs": [told(output, captions) for output in cell["outputs"]]}


def told(output: dict, captions: Iterator[str]) -> dict:
    """An output whose tables have one row of headings, and say which columns hold words, and which of those sentences.

    The style sets words left, breaks the lines of sentences, and makes intervals that exclude zero bold.
    """
    if "dataframe" not in (source := "".join(output.get("data", {}).get("text/html", ""))):
        return output
    soup = BeautifulSoup(source, "html.parser")
    for table in soup.select("table.dataframe"):
        merge_headings(table)
        if not table.caption and (caption := next(captions, "")):
            clear = [cell for cell in table.find_all("td") if is_clear(cell.get_text())]
            for cell in clear:
                cell["class"] = ["clear"]
            if INTERVAL.search(table.get_text()):
                caption += f" Brackets are 95 % intervals{', bold where they exclude zero' if clear else ''}."
            table.insert(0, Tag(name="caption"))
            table.caption.string = caption
        for name in table.find_all("th", string=re.compile(r"\w[+@]\w")):  # a recipe: it may break before its parts
            parts = re.split(r"(?=[+@])", name.get_text())
            name.clear()
            name.extend(piece for part in parts for piece in (soup.new_tag("wbr"), part))
        mark_columns(table)
        for head in table.find_all("th"):
            head.name = "th" if head.get_text(strip=True) else "td"
    return {**output, "data": {**output["data"], "text/html": str(soup)}}


def is_clear(text: str) -> bool:
    "Does a text hold one interval with signs, and do both ends lie on one side of zero?"
    ends = INTERVAL.findall(text)
    return len(ends) == 1 and ends[0][0] == ends[0][2] != "" and all(float(ends[0][place]) for place in (1, 3))


def mark_columns(table: Tag) -> None:
    "Say of a table's cells whether their column holds words or sentences, and of the table whether it is numbered."
    rows = [row.find_all(["th", "td"]) for row in table.find_all("tr")]
    if all(row[0].get_text(strip=True).isdigit() for row in rows if row and row[-1].name == "td"):
        table["class"] = [*table["class"], "numbered"]
    for column in zip_longest(*map(reversed, rows)):  # from the right, where headings and cells agree
        cells = [cell for cell in column if cell]
        texts = [cell.get_text(" ", strip=True) for cell in cells if cell.name == "td"]
        texts = [text for text in texts if text not in ("", "NaN", "None")]
        if sum(bool(re.search("[A-Za-z]{2}", text)) for text in texts) * 2 > len(texts):
            kind = ["words", "sentences"] if any(len(text) > 30 and " " in text for text in texts) else ["words"]
            for cell in cells:
                cell["class"] = [*cell.get("class", []), *kind]


def merge_headings(table: Tag) -> None:
    "Put the names of a table's index, which pandas gives a row of their own, into the row of the columns' names."
    heads = [row.find_all("th") for row in table.select("thead tr")]
    if len(heads) != 2 or len(heads[0]) != len(heads[1]) or heads[1][-1].get_text():  # two levels of columns
        return
    for column, index in zip(*heads, strict=True):
        if index.get_text():
            column.string, column["class"] = index.get_text(), ["words"]
    heads[1][0].find_parent("tr").decompose()


def render(folder: Path, engine: str) -> None:
    "Render a staged folder into its folder _docs."
    if engine == "quarto":
        subprocess.run(["quarto", "render", str(folder), "--no-execute"], check=True)
        return
    from smalldocs.config import load
    from smalldocs.site import Site

    site = Site(load(folder), quiet=True)
    site.build()
    if problems := [text for text in site.warnings if "html-math-method" not in text]:
        sys.exit("\n".join(problems))


def explorer(folder: Path) -> bool:
    "Write the explorer of a few photographs as a page of its own, unless the demo's packages are not installed."
    from mid_nbdev import InputError, explore
    from mid_nbdev.analysis.page import explorer_page
    from mid_nbdev.data.files import write_whole
    from mid_nbdev.data.images import demo_source
    from mid_nbdev.networks.process import cache_file

    package = [path for path in sorted((ROOT / "mid_nbdev").rglob("*")) if path.suffix in (".py", ".js", ".css")]
    decides = [Path(__file__), *package]  # this file says which photographs and recipes
    kept = cache_file(f"explorer-{sha256(b''.join(path.read_bytes() for path in decides)).hexdigest()[:32]}.html")
    try:
        if not kept.exists():
            shown = explore("efficientnet_lite0", demo_source().take(EXPLORED), recipe="CC+9RC")
            shown.answers.networks[0].speed_up()
            write_whole(kept, explorer_page(shown, ["auto", "20RC"]).encode())
    except InputError as error:
        print(f"no explorer on the site: {error}", file=sys.stderr)
        return False
    alone = '<head><meta name="robots" content="noindex"><link rel="icon" href="images/icon.svg">'
    write(folder / "explorer.html", kept.read_text(encoding="utf-8").replace("<head>", alone, 1))
    return True


def settle(folder: Path, home: str, still: bool) -> None:
    "Make a rendered site self-contained, and complete its pages; a still one has no explorer."
    for path in sorted(folder.rglob("*.html")):
        text, up = path.read_text(encoding="utf-8"), "../" * (len(path.relative_to(folder).parts) - 1)
        for found, written in SETTLED:
            text = re.sub(found, written, text, flags=re.DOTALL)
        text = re.sub(r'src="data:image/(\w+);base64,([^"]*)"', lambda m, up=up: stored(m, folder, up), text)
        text = text.replace("<head>", f"<head>{head_of(path.relative_to(folder).as_posix(), home)}", 1)
        if EXPLORER in text:
            text = text.replace(EXPLORER, FRAME.format(up) if not still and explorer(folder) else "")
        path.write_text(text, encoding="utf-8")
    for name, found, written in FILES:
        for path in folder.rglob(name):
            text = re.sub(found, written, path.read_text(encoding="utf-8"), flags=re.DOTALL)
            path.write_text(text, encoding="utf-8")


def stored(match: re.Match, folder: Path, up: str) -> str:
    "Where a picture of a page is, which is a file that is read when it comes into sight, and how much room it takes."
    content = b64decode(match.group(2))
    name = f"pictures/{sha256(content).hexdigest()[:16]}.{match.group(1)}"
    (folder / "pictures").mkdir(exist_ok=True)
    (folder / name).write_bytes(content)
    width, height = Image.open(BytesIO(content)).size
    return f'src="{up}{name}" width="{width}" height="{height}" loading="lazy"'


def head_of(page: str, home: str) -> str:
    "What a page says of its address; the page for addresses that are none may be shown at any depth."
    if page == "404.html":
        return f'<base href="{urlsplit(home).path}"><meta name="robots" content="noindex">'
    address = home + page.removesuffix("index.html")
    return f'<link rel="canonical" href="{address}"><meta property="og:url" content="{address}">'


def with_options(match: re.Match) -> str:
    "Code, with the options of a command marked, so that their hyphens stay together."
    return re.sub(r"(?<![\w-])--[a-z][\w-]*", r'<span class="option">\g<0></span>', match.group())


def in_columns(match: re.Match) -> str:
    "Printed lines, marked if they are columns: those scroll where they are too wide, all others break."
    lines = html.unescape(match.group(1)).splitlines()
    columns = sum(bool(re.search(r"\S {2,}\S|[─│]", line)) for line in lines) > 1
    return f'<pre class="columns"><code>{match.group(1)}</code></pre>' if columns else match.group()


def formula(match: re.Match) -> str:
    "A formula in TeX as MathML, which browsers draw by themselves."
    return to_mathml(html.unescape(match.group(2)), display="block" if match.group(1) == "display" else "inline")


FRAME = (
    '<iframe title="What a network sees" loading="lazy" src="{}explorer.html" style="width: 100%; height: 1150px; '
    'border: 0"></iframe>'
)
FILES = (  # what is written otherwise in files beside the pages
    ("*.css", r"""@import\s+(url\(\s*['"]?https?://[^)]*\)|['"]https?://[^'"]*['"])[^;{]*;""", ""),
    ("sitemap.xml", r"\s*<url>\s*<loc>\S*/404.html</loc>.*?</url>", ""),
    ("search.json", r'(?<="text": ")source ', ""),  # the link of an entry
)
SETTLED = (  # on every page, in this order
    (r'<span class="math (inline|display)">\\[(\[](.*?)\\[)\]]</span>', formula),
    (r'<(?:script|link)\b[^>]*\b(?:src|href)="https?://[^>]*>(?:\s*</script>)?', ""),  # nothing from another site
    (r'<script src="([^"]*/(?:bootstrap.bundle|fuse).min.js)">', r'<script src="\1" defer>'),
    (r"<pre><code>(.*?)</code></pre>", in_columns),
    (r"<code\b.*?</code>", with_options),
    # The contents of a page, where they are in its text, go below its first figure or table.
    (r'(<nav id="TOC" role="doc-toc">.*?</nav>)(.*?<(?:img|svg|table)\b.*?)(?=<section [^>]*"level2)', r"\2\1"),
    # What a screen reader and a keyboard need beyond what the engine writes: a name for an icon is that of its link.
    (r"<body[^>]*>", r'\g<0><a class="skip" href="#quarto-document-content">Skip to the text</a>'),
    (r'(<i class="bi[^"]*") role="img">', r'\1 aria-hidden="true">'),
    (r'(<a [^>]*data-bs-target="(#[^"]*)"[^>]*) role="navigation"', r'\1 role="button" href="\2"'),
    (r'<nav (?=class="navbar)', '<nav aria-label="Main" '),
    (r'<nav (?=id="quarto-sidebar")', '<nav aria-label="All pages" '),
    (r'<nav (?=class="page-navigation")', '<nav aria-label="Previous and next page" '),
)


def build(root: Path, target: Path, engine: str = "", still: bool = False) -> list[Path]:
    "Build the site into a folder, which is replaced, or a still one without the explorer; gives its pages."
    engine = engine or ("quarto" if shutil.which("quarto") else "smalldocs")
    if target.exists() and any(target.iterdir()) and not (target / "site_libs").is_dir():
        sys.exit(f"{target} is not empty and is no built site; name another folder")
    with tempfile.TemporaryDirectory() as folder:
        book = Book(root)
        book.stage(Path(folder))
        render(Path(folder), engine)
        settle(Path(folder) / "_docs", book.config["website"]["site-url"], still)
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(Path(folder) / "_docs", target)
    return sorted(target.rglob("*.html"))


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("folder", nargs="?", type=Path, default=ROOT / "_docs", help="where the site goes")
    engines = ("quarto", "smalldocs")
    arguments.add_argument("--engine", choices=engines, default="", help="Quarto if it is installed, else smalldocs")
    arguments.add_argument("--still", action="store_true", help="leave out the explorer, which takes half a minute")
    given = arguments.parse_args()
    for made in build(ROOT, given.folder, given.engine, given.still):
        print(f"{made.stat().st_size / 1e3:8.0f} kB  {made.relative_to(given.folder)}")
