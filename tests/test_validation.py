"What is kept of ImageNet's validation split is what was published, and crops cover of it what was counted."

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from torchvision.transforms.functional import _compute_resized_output_size

from mid_nbdev.paper.coverage import largest_objects, object_coverage
from mid_nbdev.paper.validation import validation_shapes

ROOT = Path(__file__).resolve().parent.parent
BOXES = ROOT / "nbs" / "paper" / "imagenet_val_boxes.parquet"
PAPER = Path(os.environ.get("MID_SHARED", ROOT.parent / "shared")) / "paper"


@pytest.fixture(scope="module")
def shapes():
    return validation_shapes()


@pytest.mark.skipif(not PAPER.exists(), reason="the original tables are not here")
def test_no_size_and_no_box_differs_from_the_published_ones(shapes):
    images = pd.read_parquet(PAPER / "imagenet_val_images.parquet")
    assert (shapes[["image", "width", "height"]].to_numpy() == images[["file", "width", "height"]].to_numpy()).all()
    boxes, ours = pd.read_parquet(PAPER / "imagenet_val_boxes.parquet"), pd.read_parquet(BOXES)
    assert (shapes["image"].to_numpy()[ours["image"] - 1] == boxes["file"]).all()
    assert (ours[["x0", "y0", "x1", "y1"]].to_numpy() == boxes[["x0", "y0", "x1", "y1"]].to_numpy()).all()


def test_figure_4_has_the_shares_that_were_counted_independently(shapes):
    sides, lengths = shapes["longer_side"], shapes[["width", "height"]]
    aspect = lengths.max(axis=1) / lengths.min(axis=1)
    assert len(sides) == 50_000
    shares = [100 * (sides > limit).mean() for limit in (256, 400, 500)] + [100 * (aspect > 2).mean()]
    assert np.round(shares, 2).tolist() == [95.78, 2.46, 0.54, 0.45]


def test_longer_sides_are_those_of_torchvision(shapes):
    for line in shapes.iloc[::97].itertuples():
        assert max(_compute_resized_output_size((line.height, line.width), [256])) == line.longer_side


def test_the_data_is_compact():
    assert (ROOT / "mid_nbdev" / "paper" / "imagenet_val_sizes.parquet").stat().st_size < 80_000
    assert BOXES.stat().st_size < 600_000


def test_coverage_is_near_an_independent_count(shapes):
    "Every 25th image: center 79.5 %, one random crop 76.1 %, best of 20 87.3 % were counted over all."
    boxes = pd.read_parquet(BOXES).astype("int64")
    some = boxes[boxes["image"] % 25 == 0]
    coverage = largest_objects(object_coverage(shapes.iloc[24::25].reset_index(drop=True),
                                               some.assign(image=shapes["image"].to_numpy()[some["image"] - 1])))
    assert len(coverage) == 2_000
    for column, counted in {"CC": 79.5, "1RC": 76.1, "20RC best": 87.3}.items():
        assert abs(100 * coverage[column].mean() - counted) < 1.5, column
    assert (coverage["possible"] >= coverage["20RC best"] - 1e-9).all()
    assert (coverage["20RC best"] >= coverage["1RC"]).all()
