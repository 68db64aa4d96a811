"Reference entries read both ways of describing a parameter: the comment beside it and a Google-style docstring."

from pathlib import Path

import pytest
from reference import Entry, Module, markdown

BESIDE = '''
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
'''
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
    text = BESIDE + """
@patch
def grow(
    self: Box,
    by: int,  # pixels
) -> None:
    "Make it larger."
"""
    (method,) = entries(text, tmp_path)["Box"].methods
    assert (method.name, method.parameters) == ("Box.grow", ["`by: int`: pixels"])
