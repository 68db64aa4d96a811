"Reference entries and the pages of commands: parameters in both notations, and options as `--help` shows them."

import re
import shlex
from pathlib import Path

import pytest
import yaml
from pages import command_pages, front_door, mid_commands
from reference import Entry, Module, markdown

ROOT = Path(__file__).resolve().parent.parent
CHOSEN = yaml.safe_load((ROOT / "nbs" / "reference.yml").read_text(encoding="utf-8"))
COMMANDS, TOP = mid_commands(ROOT)
PAGES = command_pages(ROOT, CHOSEN["commands"])

BESIDE = """
__all__ = ["area", "Box"]

def area(
    height: int,  # pixels, at least 1
    *,
    width: int = 2,  # pixels
) -> int:  # pixels
    "The area of a box."
    if height < 1: raise InputError(f"height {height}: expected at least 1")
    return height * width

class Box:
    "A box."
    height: int  # pixels
"""
GOOGLE = '''
__all__ = ["area", "Box", "Grid"]

def area(height: int, *, width: int = 2) -> int:
    """The area of a box.

    Without its frame.

    Args:
        height: pixels,
            at least 1
        width: pixels

    Returns:
        area: pixels

    Raises:
        InputError: if the height is below 1

    Example:
        >>> area(3)
        6
    """
    if height < 1: raise InputError(f"height {height}: expected at least 1")
    return height * width

class Box:
    """A box.

    Attributes:
        height: pixels
    """
    height: int

class Grid:
    """A grid.

    Args:
        *sizes: pixels
        **options: see `Box`

    Attributes:
        cells: how many
    """
    def __init__(self, *sizes: int, **options): ...
'''


def entries(text: str, folder: Path) -> dict[str, Entry]:
    (folder / "made.py").write_text(text)
    return {entry.name: entry for entry in Module(folder / "made.py", folder).entries()}


@pytest.mark.parametrize("text", [BESIDE, GOOGLE])
def test_both_ways_give_the_parameters_and_the_errors(tmp_path, text):
    made = entries(text, tmp_path)
    assert made["area"].parameters == ["`height: int`: pixels, at least 1", "`width: int = 2`: pixels"]
    assert made["area"].errors == ["InputError: height {height}: expected at least 1"]
    assert made["area"].summary.startswith("The area of a box.") and "Args" not in made["area"].summary
    assert made["Box"].parameters == ["`height: int`: pixels"]


def test_the_sections_of_a_docstring_are_read(tmp_path):
    made = entries(GOOGLE, tmp_path)
    area = made["area"]
    assert area.summary == "The area of a box.\n\nWithout its frame." and area.result == "`int`: area: pixels"
    assert area.raises == ["`InputError`: if the height is below 1"] and area.example == ">>> area(3)\n6"
    page = markdown(area, "made.py")
    assert "- `InputError`: if the height is below 1\n- ``InputError: height {height}: expected at least 1``" in page
    assert "```python\n>>> area(3)\n6\n```" in page
    assert made["Grid"].parameters == ["`*sizes: int`: pixels", "`**options`: see `Box`", "`cells`: how many"]


def test_a_method_added_by_patch_is_a_method(tmp_path):
    text = (
        BESIDE
        + """
@patch
def grow(
    self: Box,
    by: int,  # pixels
) -> None:
    "Make it larger."
"""
    )
    (method,) = entries(text, tmp_path)["Box"].methods
    assert (method.name, method.parameters) == ("Box.grow", ["`by: int`: pixels"])


@pytest.mark.parametrize("name", CHOSEN["commands"])
def test_a_page_agrees_with_the_commands_help(name, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "1000")
    with pytest.raises(SystemExit):
        COMMANDS[name](["--help"], prog_name=f"mid {name}")
    printed = capsys.readouterr().out
    said = " ".join(re.sub("│", " ", printed).replace("`", "").split())
    rows = re.findall(r"^\| (`.*) \|$", PAGES[name].text, re.MULTILINE)
    rows = [[cell.replace("`", "").replace("\\", "") for cell in re.split(r" \|(?: |$)", row)] for row in rows]
    usage = PAGES[name].text.splitlines()[1]
    assert usage.startswith(f"mid {name} ") and f"Usage: {usage}" in said
    for option, kind, description, default in rows:
        assert all(part in said for part in option.split(" / ")) and description in said
        assert kind == "flag" or f"<{kind}>" in said
        assert default in ("", "required") or f"[default: {default}]" in said
    listed = re.findall(r"^│[ *]+(--[a-z][\w-]*)", printed, re.MULTILINE)
    assert [row[0].split(" / ")[0] for row in rows if row[0].startswith("--")] == listed


@pytest.mark.parametrize("name", CHOSEN["commands"])
def test_a_command_has_two_examples_that_it_accepts(name):
    lines = CHOSEN["commands"][name].values()
    assert len(lines) == 2
    for line in lines:
        program, called, *words = shlex.split(line)
        assert (program, called) == ("mid", name)
        COMMANDS[name].make_context(name, words, parent=TOP)


def test_names_by_task_are_other_names_than_the_packages_own_and_come_once():
    names = [name for task in CHOSEN["names"] for name in task["contents"]]
    assert len(set(names)) == len(names) and not set(names) & front_door(ROOT, "mid_nbdev").keys()


def test_the_installation_page_describes_every_extra():
    settings = (ROOT / "settings.ini").read_text(encoding="utf-8")
    text = (ROOT / "nbs" / "installation.ipynb").read_text(encoding="utf-8")
    described = set(re.findall(r"\| `(\w+)` \|", text))
    assert described == set(re.findall(r"^(\w+)_requirements", settings, re.MULTILINE))
