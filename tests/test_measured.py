"The committed numbers of the paper's pages are those that the rows in the repository give."

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from measure import keep_crops, read_crops

from mid_nbdev import evaluate, load_classifier
from mid_nbdev.crops.recipes import make_plan
from mid_nbdev.data.images import demo_source
from mid_nbdev.networks.models import weights_hash
from mid_nbdev.paper.measured import (
    FAMILIES,
    compare_recipes,
    curve_gains,
    measured_gains,
    measured_weights,
    paper_gains,
    read_rows,
)
from mid_nbdev.paper.rows import draw_outcomes
from mid_nbdev.paper.tables import table_cells

PAPER = Path(__file__).resolve().parent.parent / "nbs" / "paper"
ROWS, SETS = PAPER / "rows", ("val800", "val125")


def same(ours, committed):
    ours, committed = ours.reset_index(drop=True), committed.reset_index(drop=True)
    pd.testing.assert_frame_equal(ours, committed, check_dtype=False, atol=1e-3)


def test_the_headline_and_its_neighbours():
    committed = pd.read_csv(PAPER / "headline.csv")
    for name, lines in committed.groupby("data"):
        pairs = lines[["recipe", "baseline"]].drop_duplicates().itertuples(index=False, name=None)
        same(compare_recipes(read_rows(ROWS, name), pairs).assign(data=name), lines)
    assert len(committed.query("recipe == '20RC' and baseline == 'CC' and network == 'all'")) == len(SETS)


def test_gains():
    committed = pd.read_csv(PAPER / "gains.csv")
    for name, lines in committed.groupby("data"):
        same(measured_gains(read_rows(ROWS, name), list(lines["recipe"].unique())).assign(data=name), lines)


def test_the_gains_that_the_package_carries():
    same(measured_gains(read_rows(ROWS), list(paper_gains()["recipe"].unique())), paper_gains())


@pytest.mark.parametrize("number", [3, 7])
def test_curves(number):
    path, rows = PAPER / "figures" / f"figure_{number}.csv", read_rows(ROWS)
    committed = pd.read_csv(path)
    for network, lines in committed.groupby("network", sort=False):
        if network in set(rows["network"]):
            same(curve_gains(rows, [network]).assign(network=network), lines)


def test_rows_agree_with_the_totals_of_every_draw():
    totals = pd.read_parquet(ROWS / "totals.parquet").astype({"correct": int, "images": int})
    for name in SETS:
        rows = read_rows(ROWS, name).astype({"correct": int})
        ours = rows.groupby(["network", "recipe"], observed=True)["correct"].sum()
        theirs = totals.query("data == @name").groupby(["network", "recipe"], observed=True)["correct"].sum()
        assert theirs.to_dict().items() <= ours.to_dict().items()


def test_rows_are_of_the_weights_that_are_named():
    runs, weights = pd.read_csv(ROWS / "runs.csv"), measured_weights()
    assert set(runs["network"]) <= set(weights.index) == {name for own in FAMILIES.values() for name in own}
    for run in runs.itertuples():
        assert weights.loc[run.network, "hash"] == run.weights_hash


def test_every_own_row_of_a_table_is_measured_for_every_network_there_is():
    gains = paper_gains()
    for number in (1, 2, 7, 8):
        cells = table_cells(number, gains=gains)
        filled = cells[~cells["recipe"].isin(["", "CC"]) & cells["network"].isin(set(gains["network"]))]
        assert filled["gain"].notna().all()


def test_the_tool_measures_what_an_evaluation_does(tmp_path):
    classifier, photos = load_classifier("efficientnet_lite0"), demo_source().take([3, 1, 7])
    keep_crops(classifier, photos, make_plan("5FC,2RC"), tmp_path / "kept", "demo")
    stored, sizes, about = read_crops(tmp_path / "kept", classifier.head)
    assert stored.images == photos.names and sizes.min() == 256 and about["hash"] == weights_hash(classifier)
    rows = evaluate(classifier, photos, "CC,5FC,2RC", device="cpu").rows.set_index(["recipe", "image"])
    for recipe, outcome in draw_outcomes(stored, "CC,5FC,2RC", draws=1).items():
        ours = rows.loc[recipe].loc[list(stored.images)]
        assert outcome.rank[:, 0].tolist() == ours["rank"].tolist()
        assert np.allclose(outcome.confidence[:, 0], ours["confidence"], atol=2e-3)
