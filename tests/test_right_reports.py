"What is printed of runs is what they are: whose weights, how many images, which recipes."
import contextlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from mid_nbdev.__main__ import app
from mid_nbdev.crops.recipes import parse_recipes
from mid_nbdev.errors import InputError
from mid_nbdev.evaluation.evaluate import Part
from mid_nbdev.evaluation.runs import Run, part_bytes
from mid_nbdev.paper.tables import _table_run, find_runs, measured_reports, table_text

V1 = "torchvision/mobilenet_v2.IMAGENET1K_V1"
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
KNOWN = "f116b036e4e146b394537af111d91cfa7158b7a0e9a68d5badae5d496115b8f2"  # of MobileNetV2, among the known weights

def mid(*words, cwd=".", status=0):
    "What a command prints: on standard output, and on standard error."
    with contextlib.chdir(cwd):
        done = CliRunner(env={"COLUMNS": "200", "TERM": "dumb"}).invoke(app, list(map(str, words)))
    assert done.exit_code == status, done.output
    return done.stdout, done.stderr

def make_rows(recipes, images=8, classes=1000, auto_crops=None, seed=0):
    "Rows of made-up answers."
    generator, tables = np.random.default_rng(seed), []
    for recipe in parse_recipes(recipes):
        rank = (generator.random(images) < 0.4) * generator.integers(1, classes, images)
        crops = np.full(images, recipe.crops) if auto_crops is None or str(recipe) == "CC" else auto_crops
        tables.append(pd.DataFrame({
            "image": [f"{number}.png" for number in range(images)], "label": 1, "recipe": str(recipe),
            "prediction": np.where(rank == 0, 1, 2), "rank": rank, "p_true": np.where(rank == 0, 0.7, 0.2),
            "confidence": 0.7, "crops": crops, "content": "0" * 16}))
    return pd.concat(tables)

def make_run(folder, network=V1, weights="0" * 64, recipes="table_2", images=8, data="val", rows=None, parts=1,
             failed=(), **preprocessing):
    "A run folder, without a network."
    folder = Path(folder)
    (folder / "parts").mkdir(parents=True)
    manifest = {
        "network": network, "weights": weights, "parameters": 1,
        "preprocessing": {"resize_to": 256, "crop_size": 224, "interpolation": "bilinear", "mean": MEAN, "std": STD}
        | preprocessing,
        "recipes": [str(recipe) for recipe in parse_recipes(recipes)], "seed": 0, "dtype": "float32",
        "engine": "eager", "batch_size": None,
        "data": {"name": data, "images": (images + len(failed)) * parts, "fingerprint": "0"}, "limits": {},
        "images_per_part": images + len(failed), "versions": {}}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    rows = make_rows(recipes, images) if rows is None else rows
    lost = pd.DataFrame(list(failed), columns=["image", "reason"])
    (folder / "parts" / "00000.parquet").write_bytes(part_bytes(Part(rows, lost)))
    return Run.open(folder)

WRONG = {
    "checkpoint of unknown weights": dict(network="torchvision/mobilenet_v2"),
    "random weights": dict(network=V1 + " (random weights)"),
    "other weights": dict(network="torchvision/mobilenet_v2.IMAGENET1K_V2"),
    "fewer classes": dict(network=V1 + " [200 classes]"),
    "another head": dict(network=V1 + ",num_classes=10"),
    "another normalisation": dict(mean=[0.5] * 3, std=[0.5] * 3),
    "another resize": dict(resize_to=232),
    "unfinished": dict(parts=2),
}

@pytest.mark.parametrize("kind", WRONG)
def test_a_run_of_something_else_is_not_the_papers(kind, tmp_path):
    make_run(tmp_path / "runs" / "mobilenet_v2", **WRONG[kind])
    output, told = mid("table", 2, "--runs", tmp_path / "runs")
    assert "Measured on" not in output and output.count("not measured") == 15
    assert f"passed over {tmp_path}/runs/mobilenet_v2: its" in told or "it is unfinished: 1 of 2 parts" in told

def test_a_run_of_the_papers_network_says_how_many_images_of_what(tmp_path):
    make_run(tmp_path / "runs" / "a", data="val800", images=8)
    make_run(tmp_path / "runs" / "b", network="timm/resnet18.a1_in1k")
    output, told = mid("table", 2, "--runs", tmp_path / "runs")
    assert "val800, n = 8" in output and output.count("not measured") == 10
    assert "8 of 8 images of val800" in told and "passed over" in told and "timm/resnet18.a1_in1k is not among" in told
    cells = json.loads(mid("table", 2, "--runs", tmp_path / "runs", "--format", "json")[0])
    assert {(cell["images"], cell["data"]) for cell in cells if cell["measured"] is not None} == {(8, "val800")}

def test_a_checkpoint_of_known_weights_counts_and_is_named(tmp_path):
    make_run(tmp_path / "runs" / "a", network="torchvision/mobilenet_v2", weights=KNOWN)
    output, told = mid("table", 2, "--runs", tmp_path / "runs")
    assert "val with mobilenetv2_100_coral_qat8, n = 8" in output and "weights mobilenetv2_100_coral_qat8" in told
    assert "here +" in output or "here -" in output and "Δ" not in output  # gains compare, accuracies do not

def test_of_two_runs_of_one_network_none_is_taken_silently(tmp_path):
    for name in "ab": make_run(tmp_path / "runs" / name)
    output, told = mid("table", 2, "--runs", tmp_path / "runs", status=2)
    assert output == "" and f"{tmp_path}/runs/a and {tmp_path}/runs/b both measured it" in told

def test_the_run_with_all_recipes_of_the_table_is_taken_and_said(tmp_path):
    resnet = "torchvision/resnet18.IMAGENET1K_V1"
    for number in (1, 8): make_run(tmp_path / f"t{number}", network=resnet, recipes=f"table_{number}")
    for number, other in ((1, 8), (8, 1)):
        assert find_runs(tmp_path, number)["resnet18"].folder.name == f"t{number}"
        _, told = mid("table", number, "--runs", tmp_path)
        assert f"passed over {tmp_path}/t{other}: {tmp_path}/t{number} holds" in told
    with pytest.raises(InputError, match="which is meant"): find_runs(tmp_path)

def test_a_run_without_the_center_crop_is_shown_without_gains(tmp_path):
    make_run(tmp_path / "a", recipes="20RC")
    assert "n = 8" in table_text(2, measured_reports(find_runs(tmp_path, 2))).iloc[4]["MobileNetV2"]

def test_two_tables_in_one_folder_share_a_run(tmp_path):
    both = [str(recipe) for recipe in parse_recipes("table_1,table_8")]
    assert _table_run(tmp_path, "resnet18", 1) == _table_run(tmp_path, "resnet18", 8) == (tmp_path / "resnet18", both)
    make_run(tmp_path / "resnet18", "torchvision/resnet18.IMAGENET1K_V1", recipes="table_1,table_8")
    assert _table_run(tmp_path, "resnet18", 1) == _table_run(tmp_path, "resnet18", 8) == (tmp_path / "resnet18", both)
    for number in (1, 8): assert list(find_runs(tmp_path, number)) == ["resnet18"]

def test_a_run_of_one_table_alone_is_resumed_and_the_other_has_a_folder_of_its_own(tmp_path):
    make_run(tmp_path / "resnet18", recipes="table_1")
    first, second = ([str(recipe) for recipe in parse_recipes(f"table_{number}")] for number in (1, 8))
    assert _table_run(tmp_path, "resnet18", 1) == (tmp_path / "resnet18", first)
    assert _table_run(tmp_path, "resnet18", 8) == (tmp_path / "resnet18-table_8", second)
