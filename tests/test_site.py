"The site is built from a copy of the notebooks; links, anchors, names and pictures of every page are checked."

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat
import pytest
import yaml
from bs4 import BeautifulSoup
from docs import Book, build
from filelock import FileLock
from nbformat.v4 import new_markdown_cell, new_notebook
from pages import front_door
from reference import entries

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "mid_nbdev"
COMMANDS = yaml.safe_load((ROOT / "nbs" / "reference.yml").read_text(encoding="utf-8"))["commands"]
LISTS = ["guides.html", "commands.html", "results.html", "paper.html", "chapters.html"]  # of the pages of a section
WRITTEN = [*LISTS, *(f"commands/{name}.html" for name in COMMANDS)]
WRITTEN += ["api.html", "names.html", "contributing.html", "changelog.html", "404.html"]
LEFT_OUT = shutil.ignore_patterns(
    ".git", "*.egg-info", "__pycache__", ".*_cache", ".ipynb_checkpoints", "runs", "_docs"
)


def built(root: Path, folder: Path) -> Path:
    "Build the site of a copy of the repository, as anyone would."
    command = [sys.executable, root / "tools" / "docs.py", folder, "--engine", "smalldocs", "--still"]
    subprocess.run(command, check=True, cwd=root)
    return folder


def parsed(path: Path) -> BeautifulSoup:
    "A page."
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clone") / "clone"
    shutil.copytree(ROOT, folder, symlinks=True, ignore=LEFT_OUT)
    return folder


@pytest.fixture(scope="module")
def site(copy, tmp_path_factory):
    "The site, built once for all the processes that test it."
    shared = tmp_path_factory.getbasetemp()
    shared = shared.parent if "PYTEST_XDIST_WORKER" in os.environ else shared
    with FileLock(shared / "docs.lock"):
        folder = shared / "docs"
        return folder if folder.exists() else built(copy, folder)


@pytest.fixture(scope="module")
def pages(site):
    return {path.relative_to(site).as_posix(): parsed(path) for path in site.rglob("*.html")}


def dead_links(site: Path, pages: dict[str, BeautifulSoup]) -> tuple[int, list[str]]:
    "How many internal links there are, and those that lead nowhere."
    names = {page: {tag["id"] for tag in soup.find_all(id=True)} for page, soup in pages.items()}
    count, dead = 0, []
    for page, soup in pages.items():
        for tag, attribute in [(t, a) for a in ("href", "src") for t in soup.find_all(attrs={a: True})]:
            link = urlsplit(tag[attribute])
            if link.scheme or link.netloc or tag[attribute] == "#" or tag.get("role") == "button" or tag.name == "base":
                continue
            count += 1
            target = (site / page).parent / unquote(link.path) if link.path else site / page
            target = (target / "index.html" if target.is_dir() else target).resolve()
            inside = target.relative_to(site.resolve()).as_posix() if target.is_relative_to(site.resolve()) else ""
            if (
                not inside
                or not target.is_file()
                or (link.fragment and inside in names and unquote(link.fragment) not in names[inside])
            ):
                dead.append(f"{page}: {tag[attribute]}")
    return count, dead


def test_no_internal_link_or_anchor_is_dead(site, pages):
    count, dead = dead_links(site, pages)
    assert dead == []
    assert count > 1000
    print(f"{count} internal links and anchors on {len(pages)} pages")


def test_a_dead_link_and_a_dead_anchor_are_found(site, pages):
    page = BeautifulSoup(
        '<a href="nowhere.html">a</a> <a href="#nothing">b</a> <a href="averaging/wrapper.html#mid">c</a>',
        "html.parser",
    )
    assert dead_links(site, {**pages, "index.html": page})[1][-2:] == [
        "index.html: nowhere.html",
        "index.html: #nothing",
    ]


def test_every_notebook_has_a_page_that_can_be_reached(site, pages):
    notebooks = [path for path in (ROOT / "nbs").rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts]
    assert len(pages) == len(notebooks) + len(WRITTEN) and set(WRITTEN) <= set(pages)
    seen, waiting = set(), ["index.html"]
    while waiting:
        page = waiting.pop()
        if page in seen or page not in pages:
            continue
        seen.add(page)
        targets = (
            (site / page).parent / unquote(urlsplit(tag["href"]).path) for tag in pages[page].find_all("a", href=True)
        )
        waiting += [
            t.resolve().relative_to(site.resolve()).as_posix()
            for t in targets
            if t.resolve().is_relative_to(site.resolve())
        ]
    assert sorted(set(pages) - seen) == ["404.html"]
    menu = {tag["href"] for tag in pages["index.html"].select("#quarto-sidebar a[href]")}
    missing = [page for page in pages if not any(link.removeprefix("./") == page for link in menu)]
    assert missing == ["404.html"]


def test_the_pages_of_a_section_are_listed_as_in_the_menu_each_with_its_promise(site, pages):
    menu = pages["index.html"].select("#quarto-sidebar .sidebar-menu-container a[href]")
    order = list(dict.fromkeys(tag["href"].removeprefix("./") for tag in menu))
    order = [page for page in order if page in pages and page not in ("index.html", "api.html", "names.html")]
    listed = []
    for name in LISTS:
        entries = pages[name].find("main").find_all("dt")
        listed += [name, *(entry.find("a")["href"] for entry in entries)]
        for entry in entries:
            title, promise = (pages[entry.find("a")["href"]].select_one(part) for part in ("h1", ".description"))
            shown = [tag.get_text().replace("’", "'").split() for tag in (entry, entry.find_next("dd"), title, promise)]
            assert shown[:2] == shown[2:]
    assert sorted(listed) == sorted(order)
    assert [page for page in listed if page not in LISTS] == [page for page in order if page not in LISTS]


def test_header_and_footer_have_repository_version_licence_and_search(pages):
    settings = (ROOT / "settings.ini").read_text(encoding="utf-8")
    version = re.search(r"^version = (.*)$", settings, re.MULTILINE).group(1)
    home = re.search(r"^git_url = (.*)$", settings, re.MULTILINE).group(1)
    for page, soup in pages.items():
        header, footer = soup.select_one("nav.navbar"), soup.select_one("footer.footer")
        links = {tag["href"] for tag in header.find_all("a", href=True)}
        assert {home, f"{home}/blob/main/LICENSE"} <= links and header.select_one("input[type=search]"), page
        assert f"v{version}" in header.get_text(" ") and f"mid_nbdev {version}" in footer.get_text(" "), page
        assert home in {tag["href"] for tag in footer.find_all("a", href=True)}, page
    doors = [tag.get_text(strip=True) for tag in pages["index.html"].select("nav.navbar .me-auto a")]
    assert doors == ["Guides", "API", "Command line", "Results", "Paper", "Development"]


def test_the_menu_opens_the_section_of_its_page_alone(pages):
    for page, soup in pages.items():
        opened = soup.select("#quarto-sidebar ul.depth1.show")
        active = soup.select("#quarto-sidebar .sidebar-link.active")
        assert len(active) == (page != "404.html"), page
        assert len(opened) <= 1 and all(active[0] in ul.parent.find_all("a") for ul in opened), page


def test_every_page_says_its_address_and_what_a_link_to_it_shows(site, pages):
    home = "https://mid-nbdev.github.io/mid_nbdev/"
    for page, soup in pages.items():
        about = {tag["property"]: tag["content"] for tag in soup.find_all("meta", attrs={"property": True})}
        assert about["og:title"] and about["og:description"] and soup.find("meta", attrs={"name": "description"})
        assert (site / about["og:image"].removeprefix(home)).is_file(), about["og:image"]
        canonical = soup.find("link", rel="canonical")
        if page == "404.html":  # shown at the address that was asked for
            assert not canonical and soup.find("base")["href"] == urlsplit(home).path
        else:
            assert canonical["href"] == about["og:url"] == home + page.removesuffix("index.html")
    mapped = re.findall("<loc>(.*?)</loc>", (site / "sitemap.xml").read_text(encoding="utf-8"))
    assert sorted(mapped) == sorted(home + page for page in pages if page != "404.html")


def test_the_api_page_has_the_names_of_the_package_with_parameters_and_examples(pages):
    main = pages["api.html"].find("main")
    entries = main.select("section.entry.level2")
    listed = list(front_door(ROOT, "mid_nbdev"))
    assert [entry["id"] for entry in entries] == [name.lower() for name in listed]
    for name, entry in zip(listed, entries, strict=True):
        blocks = [pre.get_text() for pre in entry.find_all("pre")]
        assert blocks[0].startswith((f"def {name}(", f"class {name}")), name
        assert any(">>> " in block for block in blocks) and "Example" in entry.get_text(), name
        assert entry.find("li") or name == "InputError", name
    rows = pages["names.html"].select("main td:first-child a")
    assert len(rows) > 60 and len({row["href"] for row in rows}) == len(rows)


def test_pages_of_results_open_with_what_was_found_and_fold_their_code(pages):
    folders = ("paper/", "beyond/", "benchmark/measured")
    modules = {f"{module}.html" for module, _ in public_names()}
    results = {page: soup for page, soup in pages.items() if page.startswith(folders) and page not in modules}
    assert len(results) > 20
    for page, soup in results.items():
        main = soup.find("main")
        assert [code for code in main.select(".cell div.sourceCode") if not code.find_parent("details")] == [], page
        first = main.select_one(".cell-output-display, .cell-output-markdown, .cell-output")
        before = main.find("h2", class_="anchored")
        assert not before or first in before.find_all_previous("div"), page
        if contents := main.find("nav", id="TOC", class_=False):  # below the verdict and its figure
            assert main in contents.find_previous(["img", "svg", "table"]).parents, page


def test_each_of_several_tables_on_a_page_of_results_has_a_caption(pages):
    silent, marked = [], 0
    modules = {f"{module}.html" for module, _ in public_names()}
    for page, soup in pages.items():
        tables = soup.select("table.dataframe")
        if page.startswith(("paper/", "beyond/", "benchmark/")) and page not in modules:
            captions = [table.caption.get_text() if table.caption else "" for table in tables]
            silent += [page] if len(tables) > 1 and "" in captions else []
            marked += sum("bold where they exclude zero" in text for text in captions)
    assert silent == [] and marked > 10
    (table,) = [one for one in pages["paper/gains.html"].select("table") if "val800, 800 images" in one.get_text()]
    cells = {cell.get_text(): "clear" in cell.get("class", []) for cell in table.find_all("td")}
    signs = {text: re.findall(r"[+-](?=[\d.]+[,\]])", text) for text in cells}
    assert cells == {text: len(found) == 2 and found[0] == found[1] for text, found in signs.items()}


def test_data_files_that_a_page_of_results_reads_are_linked_and_delivered(site, pages):
    links = {tag["href"] for tag in pages["beyond/few_crops.html"].select(".page-end a")}
    assert {"few_crops.csv", "few_crops_each.csv", "few_crops_time.csv"} <= links
    assert all((site / "beyond" / link).is_file() for link in links if link.endswith(".csv"))


def test_no_character_is_shown_as_its_escape(pages):
    outputs = [
        (page, tag.get_text()) for page, soup in pages.items() for tag in soup.select("main .cell-output, h1, h2")
    ]
    assert [f"{page}: {found}" for page, text in outputs for found in re.findall(r".{,20}&#?\w+;", text)] == []


def test_the_front_page_comes_to_the_point(pages):
    "Install line within 80 words, picture, quick start with its output, result with interval and n, cost, development."
    main = pages["index.html"].find("main")
    whole, text = str(main), main.get_text(" ", strip=True)
    assert len(text.split("pip install")[0].split()) <= 80 and len(text.split()) <= 700
    assert whole.index("mid demo") < whole.index("<svg") < whole.index("beach wagon 26%") < whole.index("Results")
    assert re.search(r"\+\d\.\d\d \[[+-]\d\.\d\d,\s[+-]\d\.\d\d\] points .* on \d+ ImageNet", text)
    headings = [tag.get_text(strip=True) for tag in main.find_all("h2")]
    assert headings == ["Quick start", "Results", "What it costs", "Development", "Citation and licence"]


def test_words_stand_left_and_sentences_break(pages):
    claims = [
        cell
        for cell in pages["paper/claims.html"].select("table.dataframe td")
        if "beat the center crop" in cell.get_text()
    ]
    assert claims and all("sentences" in cell["class"] and not cell.get_text().endswith("...") for cell in claims)
    table = pages["paper/table_1.html"].find("table", class_="dataframe")
    assert not [cell for cell in table.find_all("td") if cell.get_text() == "224" and cell.get("class")]


def test_tables_have_one_row_of_headings(pages):
    assert [
        page
        for page, soup in pages.items()
        for table in soup.select("table.dataframe")
        if len(table.select("thead tr")) > 1
    ] == []
    heads = pages["beyond/draws.html"].select("table.dataframe thead tr")
    assert ["crops", "way"] in [[cell.get_text() for cell in row.find_all("th")][:2] for row in heads]


def test_no_cell_of_a_table_is_cut(pages):
    cells = [(page, cell.get_text()) for page, soup in pages.items() for cell in soup.select("table.dataframe td")]
    cut = [f"{page}: {text[-40:]}" for page, text in cells if len(text) > 40 and text.endswith("...")]
    assert cut == [], "call use_style before the table is shown"


def public_names() -> list[tuple[str, str]]:
    "Every name that a module exports."
    found = []
    for path in sorted(PACKAGE.rglob("[!_]*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
                found += [
                    (path.relative_to(PACKAGE).with_suffix("").as_posix(), name)
                    for name in ast.literal_eval(node.value)
                ]
    return found


def test_every_public_name_has_an_entry_with_its_parameters(pages):
    missing = []
    described = {module for module, listed in entries(PACKAGE).items() if listed}
    assert {module.replace("/", ".") for module, _ in public_names()} == described - {"__main__"}
    for module, name in public_names():
        found = pages[f"{module}.html"].find_all(id=name.lower(), class_="entry")
        if len(found) != 1 or not found[0].find("pre") or name not in found[0].find("pre").get_text():
            missing.append(f"{module}.{name}")
    assert missing == []
    entry = pages["crops/geometry.html"].find(id="resized_size").get_text(" ", strip=True)
    for words in ("tuple[int, int]", "image height in pixels, at least 1", "InputError: resize {height}x{width}"):
        assert words in entry
    forward = pages["averaging/wrapper.html"].find(id="mid.forward").get_text(" ", strip=True)
    assert "probabilities (images, classes), float32" in forward and "named_pictures" in forward


def test_every_entry_has_a_sentence_and_every_parameter_a_note():
    everything = [e for listed in entries(PACKAGE).values() for top in listed for e in top.everything()]
    silent = {
        f"{e.module}.{e.name}"
        for e in everything
        if not e.summary or any(re.fullmatch("`[^`]*`", text) for text in e.parameters)
    }
    assert not silent, "say what it is beside it"


def test_no_two_things_on_a_page_have_one_anchor(pages):
    for page, soup in pages.items():
        names = [tag["id"] for tag in soup.find_all(id=True)]
        assert len(names) == len(set(names)), (page, sorted({name for name in names if names.count(name) > 1}))


def test_every_picture_says_what_it_shows(pages):
    pictures = [(page, tag) for page, soup in pages.items() for tag in soup.find_all(["img", "svg"])]
    told = {"img": "alt", "svg": "aria-label"}
    silent = [f"{page}: {str(tag)[:60]}" for page, tag in pictures if not tag.get(told[tag.name], "").strip()]
    assert silent == [], "begin the notebook's cell with a line `#| fig-alt: what the picture shows`"
    assert len(pictures) > 15


def test_figures_have_the_ink_of_the_theme_and_are_legible_on_a_phone(pages):
    drawn = [(page, tag) for page, soup in pages.items() for tag in soup.select("main figure.figure > svg")]
    assert len(drawn) >= 40 and all(tag["role"] == "img" for _, tag in drawn)
    fixed = re.compile(r"(?:fill|stroke): #|<metadata|<style|xlink")  # a color, or what concerns the whole page
    assert [page for page, tag in drawn if fixed.search(str(tag))] == []
    least = [(page, int(re.search(r"min-width: (\d+)px", tag["style"]).group(1))) for page, tag in drawn]
    assert {page for page, width in least if width > 356} <= {"analysis/explore.html"}


def test_nothing_comes_from_another_site(site, pages):
    loads = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src", "video": "src"}
    remote = re.compile(r"^(https?:)?//")
    found = [
        (page, tag)
        for page, soup in pages.items()
        for name, a in loads.items()
        for tag in soup.find_all(name, attrs={a: remote})
        if tag.get("rel") != ["canonical"]  # which is where the page itself is
    ]
    assert found == []
    for path in site.rglob("*.css"):
        assert not re.search(
            r"""(@import|url\()\s*['"]?\s*(url\()?['"]?(https?:)?//""", path.read_text(encoding="utf-8")
        ), path.name


def test_an_option_keeps_its_two_hyphens(pages):
    texts = {page: soup.find("main").get_text() for page, soup in pages.items()}
    assert [
        f"{page}: {found}" for page, text in texts.items() for found in re.findall(r"(?:^|\s)–[a-z][\w-]+", text)
    ] == []


def test_formulas_are_drawn_by_the_browser_itself(pages):
    assert pages["crops/geometry.html"].select_one("math mi") and pages["averaging/wrapper.html"].select_one(
        "math msub"
    )
    assert not [page for page, soup in pages.items() if soup.find(class_="math")]


def test_the_search_index_knows_every_page_and_name(site, pages):
    index = json.loads((site / "search.json").read_text(encoding="utf-8"))
    assert {entry["href"].split("#")[0] for entry in index} == set(pages) - {"404.html"}
    places = {entry["href"] for entry in index}
    assert not [entry["href"] for entry in index if entry["text"].startswith("source ")]
    assert [name for module, name in public_names() if f"{module}.html#{name.lower()}" not in places] == []


def test_no_machine_is_named(pages):
    for page, soup in pages.items():
        assert not re.search(r"/(home|root|tmp|Users|work)/\w", soup.get_text()), page


def test_a_link_to_no_notebook_stops_the_build(copy, tmp_path):
    broken = tmp_path / "clone"
    shutil.copytree(copy, broken, symlinks=True)
    prose = "# A chapter\n\n> Nothing.\n\nSee [this](09_gone.ipynb)."
    nbformat.write(new_notebook(cells=[new_markdown_cell(prose)]), broken / "nbs" / "crops" / "91_more.ipynb")
    with pytest.raises(SystemExit, match="crops/91_more.ipynb: links to 09_gone.ipynb, which is no notebook"):
        build(broken, tmp_path / "docs", "smalldocs")
    assert not (tmp_path / "docs").exists()


def test_a_folder_of_someone_else_is_not_replaced(copy, tmp_path):
    (tmp_path / "mine.txt").write_text("kept")
    run = subprocess.run([sys.executable, copy / "tools" / "docs.py", tmp_path], capture_output=True, text=True)
    assert run.returncode == 1 and "is no built site" in run.stderr
    assert (tmp_path / "mine.txt").read_text() == "kept"


def test_a_new_tutorial_joins_the_menu(copy, tmp_path):
    clone = tmp_path / "clone"
    shutil.copytree(copy, clone, symlinks=True)
    prose = "# First steps\n\n> A tutorial.\n\nSee [crops](../crops/01_boxes.ipynb) and `MID`."
    nbformat.write(new_notebook(cells=[new_markdown_cell(prose)]), clone / "nbs" / "tutorials" / "91_first.ipynb")
    Book(clone).stage(tmp_path / "staged")
    page = (tmp_path / "staged" / "tutorials" / "first.ipynb").read_text(encoding="utf-8")
    assert "](../crops/boxes.ipynb)" in page and "](../averaging/wrapper.ipynb#mid)" in page
    sidebar = yaml.safe_load((tmp_path / "staged" / "_quarto.yml").read_text())["website"]["sidebar"]["contents"]
    assert sidebar[1]["section"] == "Guides" and sidebar[1]["contents"][-1] == "tutorials/first.ipynb"
    assert "[First steps](tutorials/first.ipynb)\n: A tutorial." in (tmp_path / "staged" / "guides.md").read_text()


def test_tutorials_open_on_colab_where_they_run():
    "The link is to the notebook itself, and the line to run first names extras that there are."
    extras = set(re.findall(r"^(\w+)_requirements", (ROOT / "settings.ini").read_text(encoding="utf-8"), re.MULTILINE))
    for path in sorted((ROOT / "nbs" / "tutorials").glob("*.ipynb")):
        text = "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells)
        links = re.findall(r"\(https://colab\.research\.google\.com/github/([^)]*)\)", text)
        assert links == (
            [] if path.stem == "on_your_cluster" else [f"mid-nbdev/mid_nbdev/blob/main/nbs/tutorials/{path.name}"]
        )
        wanted = re.findall(r'%pip install "mid_nbdev\[([\w,]+)\] @ git\+https://github.com/mid-nbdev/mid_nbdev"', text)
        assert len(wanted) == len(links) and all(set(names.split(",")) <= extras for names in wanted)


def test_quarto_renders_the_same_pages_where_it_is_installed(copy, site, tmp_path):
    stand_in = tmp_path / "bin" / "quarto"
    stand_in.parent.mkdir()
    stand_in.write_text(f"""#!{sys.executable}
import sys
from pathlib import Path

command, folder, *options = sys.argv[1:]
assert (command, options) == ("render", ["--no-execute"]), sys.argv
assert "html-math-method: mathml" in (Path(folder) / "_quarto.yml").read_text()
(Path(folder) / "_docs" / "site_libs").mkdir(parents=True)
for page in (path for path in Path(folder).rglob("*") if path.suffix in (".ipynb", ".md")):
    made = Path(folder) / "_docs" / page.relative_to(folder).with_suffix(".html")
    made.parent.mkdir(exist_ok=True)
    made.write_text('<script src="https://example.org/a.js"></script>')
""")
    stand_in.chmod(0o755)
    environment = {**os.environ, "PATH": f"{stand_in.parent}{os.pathsep}{os.environ['PATH']}"}
    subprocess.run([sys.executable, copy / "tools" / "docs.py", tmp_path / "docs"], check=True, env=environment)
    names = {
        folder: sorted(path.relative_to(folder) for path in folder.rglob("*.html"))
        for folder in (site, tmp_path / "docs")
    }
    assert names[site] == names[tmp_path / "docs"]
    assert not any(path.read_text() for path in (tmp_path / "docs").rglob("*.html"))
