"The package's copy of the paper's figures is the paper's, number by number, where the originals can be had."

import os
from pathlib import Path

import pandas as pd
import pytest

from mid_nbdev.crops.recipes import parse_recipe
from mid_nbdev.paper.networks import paper_networks
from mid_nbdev.paper.numbers import paper_figures
from mid_nbdev.paper.tables import table_cells

PAPER = Path(os.environ.get("MID_SHARED", Path(__file__).resolve().parent.parent.parent / "shared")) / "paper"
NUMBERS = {"I": 1, "II": 2, "III": 3, "IV": 4, "V": 5, "VI": 6, "VII": 7, "VIII": 8}

pytestmark = pytest.mark.skipif(not PAPER.exists(), reason="the paper's original tables are not here")


def counts(recipe):
    "Fixed, mirrored fixed, random and mirrored random crops of a recipe."
    found = {kind: count for kind, count, _ in parse_recipe(recipe).parts} if recipe not in ("", "CC") else {}
    return [found.get(kind, 0) for kind in ("FC", "MFC", "RC", "MRC")]


def test_no_published_figure_differs():
    original = pd.read_csv(PAPER / "tables.csv", keep_default_na=False)
    ours = paper_figures()
    assert len(original) == len(ours) == 450
    levels = {"FV": "feature", "SM": "softmax"}
    for theirs, mine in zip(original.itertuples(), ours.itertuples(), strict=True):
        where = (NUMBERS[theirs.table], theirs.approach, theirs.model, theirs.training_required)
        assert where == (mine.table, mine.approach, mine.network, mine.training_required)
        assert float(theirs.top1) == mine.top1
        assert (theirs.gain == "" and mine.gain != mine.gain) or float(theirs.gain) == mine.gain
        assert counts(mine.recipe) == [theirs.fc, theirs.mfc, theirs.rc, theirs.mrc]
        if theirs.level in levels:
            assert parse_recipe(mine.recipe).level == levels[theirs.level]


def test_every_published_figure_stands_in_its_table():
    cells = pd.concat([table_cells(number) for number in range(1, 9)]).dropna(subset=["published"])
    key = ["table", "approach", "recipe", "network"]
    joined = cells.merge(paper_figures(), on=key, how="outer", indicator=True)
    assert (joined["_merge"] == "both").all() and (joined["published"] == joined["top1"]).all()


def test_sizes_are_the_papers():
    original = pd.read_csv(PAPER / "models.csv").set_index("model")
    ours = paper_networks()
    assert list(original.index) == list(ours.index)
    for mine, theirs in {
        "feature_size": "paper_feature_dim",
        "resize_to": "paper_resize",
        "crop": "paper_crop",
    }.items():
        assert (ours[mine] == original[theirs]).all()
