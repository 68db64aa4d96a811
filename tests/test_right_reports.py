"What is printed of runs is what they are: whose weights, how many images, which recipes."
import contextlib
import io
import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import timm
import torch
from PIL import Image
from typer.testing import CliRunner

from mid_nbdev.__main__ import app
from mid_nbdev.analysis.predictions import with_failures
from mid_nbdev.analysis.stats import remarks
from mid_nbdev.cli.evaluate import _run_folder
from mid_nbdev.cli.options import tell_preprocessing
from mid_nbdev.cli.predict import _best, _print_predictions
from mid_nbdev.crops.recipes import parse_recipes
from mid_nbdev.data.files import folder_name
from mid_nbdev.data.images import ImageSource, demo_source
from mid_nbdev.errors import InputError
from mid_nbdev.evaluation.evaluate import Part, evaluate
from mid_nbdev.evaluation.run_files import part_bytes
from mid_nbdev.evaluation.runs import Run
from mid_nbdev.networks.classifier import Classifier, Preprocessing
from mid_nbdev.paper.tables import _table_run, find_runs, measured_reports, table_text

SMALL = Preprocessing(64, 48, "bilinear", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
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
    assert f"skipped {tmp_path}/runs/mobilenet_v2: its" in told or "it is unfinished: 1 of 2 parts" in told

def test_a_run_of_the_papers_network_says_how_many_images_of_what(tmp_path):
    make_run(tmp_path / "runs" / "a", data="val800", images=8)
    make_run(tmp_path / "runs" / "b", network="timm/resnet18.a1_in1k")
    output, told = mid("table", 2, "--runs", tmp_path / "runs")
    assert "val800, n = 8" in output and output.count("not measured") == 10
    assert "8 of 8 images of val800" in told and "skipped" in told and "timm/resnet18.a1_in1k is not among" in told
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
        assert f"skipped {tmp_path}/t{other}: {tmp_path}/t{number} has" in told
    with pytest.raises(InputError, match="both measured it"): find_runs(tmp_path)

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

def test_crops_of_auto_are_the_mean_and_the_first_crop_is_its_baseline(tmp_path):
    rows = make_rows("CC,auto", auto_crops=np.array([1, 1, 1, 1, 1, 1, 10, 10]))
    make_run(tmp_path / "a", recipes="CC,auto", rows=rows)
    output, _ = mid("report", tmp_path / "a")
    line = next(line for line in output.splitlines() if line.lstrip().startswith("auto"))
    assert line.split()[1] == "3.25" and "gains over CC" in output
    assert [line["crops"] for line in json.loads(mid("report", tmp_path / "a", "--format", "json")[0])] == [1, 3.25]

def test_auto_computes_the_center_crop_with_its_first_crop():
    classifier = Classifier(timm.create_model("test_resnet"), SMALL, "small")
    together = evaluate(classifier, demo_source(), "CC,auto", device="cpu", workers=0).rows
    for recipe in ("CC", "auto~0.2"):
        alone = evaluate(classifier, demo_source(), recipe, device="cpu", workers=0).rows
        rows = together[together["recipe"] == recipe]
        assert rows["rank"].tolist() == alone["rank"].tolist() and rows["crops"].tolist() == alone["crops"].tolist()
        assert np.allclose(rows["p_true"], alone["p_true"], atol=1e-6)

def test_a_policy_beside_other_recipes_answers_as_alone():
    classifier = Classifier(timm.create_model("test_resnet", num_classes=1000), SMALL, "small")
    policies = ["auto~0.005", "MFULL+CC+4RC~0.02"]
    beside = evaluate(classifier, demo_source(), ["20RC", *policies, "5FC@logit"], device="cpu", keep_crops=True)
    assert beside.crops.logits.shape[1] == 31 # the mirrored larger view, ten fixed and 20 random crops
    for recipe in (*policies, "20RC", "5FC@logit"):
        alone = evaluate(classifier, demo_source(), recipe, device="cpu", workers=0).rows
        rows = beside.rows[beside.rows["recipe"] == recipe]
        assert rows["crops"].tolist() == alone["crops"].tolist() and rows["rank"].tolist() == alone["rank"].tolist()
        assert np.allclose(rows["p_true"], alone["p_true"], atol=1e-6)

@pytest.mark.parametrize("folder, name", [
    ("pets/val/images", "pets/val/images"), ("cars/test", "cars/test"), ("photos", "photos"), ("a/b/birds", "birds"),
    ("x/Images", "x/Images")])
def test_data_is_called_by_a_folder_that_says_something(folder, name):
    assert folder_name(Path("/some") / folder) == name

def test_a_run_folder_has_no_comma():
    source = ImageSource(Path("/some/cars/test"), (), np.zeros(0, np.int64))
    named = SimpleNamespace(name="timm/resnet18.a1_in1k,num_classes=3")
    assert str(_run_folder(named, source)) == "runs/timm-resnet18.a1_in1k-num_classes=3-cars-test"

def test_report_counts_its_comparisons_and_offers_holms_p(tmp_path):
    make_run(tmp_path / "a", recipes="table_2", images=40)
    output, _ = mid("report", tmp_path / "a")
    assert "4 comparisons, each with its own interval and p; Holm's p is adjusted for all of them" in output
    assert "top-label Brier %" in output
    lines = json.loads(mid("report", tmp_path / "a", "--format", "json")[0])
    assert all(line["p_holm"] >= line["p_value"] for line in lines[1:]) and lines[0]["p_holm"] is None

def test_where_interval_and_test_disagree_it_is_said():
    line = {"recipe": "20RC", "gain_low": 0.02, "gain_high": 3.0, "p_value": 0.06}
    assert "20RC: the interval excludes zero, the exact test does not" in remarks(pd.DataFrame([line]))[1]
    assert len(remarks(pd.DataFrame([line | {"gain_low": -0.1}]))) == 1
    assert "includes zero" in remarks(pd.DataFrame([line | {"gain_low": -0.1, "p_value": 0.04}]))[1]

def test_a_fitted_margin_is_said_to_be_fitted_on_the_same_images(tmp_path):
    run = make_run(tmp_path / "a", recipes="CC,auto")
    (run.folder / "origin.json").write_text(json.dumps({"fitted": "--budget 2"}))
    output, _ = mid("report", run.folder)
    assert "was fitted (--budget 2) on up to 200 of these same images, without their labels" in output

def test_several_runs_are_one_table_with_a_network_column(tmp_path):
    for name in ("a", "b"): make_run(tmp_path / name, network=f"timm/{name}")
    output, _ = mid("report", tmp_path / "a", tmp_path / "b")
    assert output.count("top-1 %") == 1 and "network" in output and output.count("timm/b") == 6
    assert "8 comparisons" in output
    table = mid("report", tmp_path / "a", tmp_path / "b", "--format", "markdown")[0]
    assert table.count("| network") == 1

def test_classes_and_recipes_are_one_json_document(tmp_path):
    make_run(tmp_path / "a")
    found = json.loads(mid("report", tmp_path / "a", "--format", "json", "--per-class", "20RC")[0])
    assert len(found["recipes"]) == 5 and found["classes"][0]["images"] == 8
    for format in ("csv", "jsonl", "timm"):
        output, told = mid("report", tmp_path / "a", "--format", format, "--per-class", "20RC", status=2)
        assert output == "" and "two tables in one document" in told
    found = mid("report", tmp_path / "a", "--format", "json", "--per-class", "20RC", "--out", tmp_path / "a.csv")[0]
    assert json.loads(found)[0]["images"] == 8 and len(pd.read_csv(tmp_path / "a.csv")) == 5

def test_latex_pastes_as_it_is(tmp_path):
    make_run(tmp_path / "a", network="timm/test_resnet.r160_in1k", data="my_50%_data & more", recipes="CC,20RC,5FC")
    output, _ = mid("report", tmp_path / "a", "--format", "latex", "--per-class", "20RC")
    inside = "\n".join(line for line in output.splitlines() if not line.startswith("%"))
    bare = [r"(?<!\\)_", r"(?<!\\)%", r"(?<!\\)#"]
    assert not any(re.search(one, inside) for one in bare) and inside.count(r"\begin{tabular}") == 2
    assert inside.lstrip().startswith(r"\begin{tabular}")

def test_top_5_of_five_classes_is_not_reported(tmp_path):
    make_run(tmp_path / "a", rows=make_rows("table_2", classes=4))
    line = json.loads(mid("report", tmp_path / "a", "--format", "json")[0])[0]
    assert line["top5"] is None and "100.0" not in mid("report", tmp_path / "a")[0]
    make_run(tmp_path / "b", rows=make_rows("table_2", classes=4).assign(prediction=7))
    assert json.loads(mid("report", tmp_path / "b", "--format", "json")[0])[0]["top5"] == 100

def test_failed_images_appear_in_machine_formats(tmp_path):
    make_run(tmp_path / "a", failed=[("broken.jpg", "not an image")])
    for format in ("json", "timm"):
        output, told = mid("report", tmp_path / "a", "--format", format)
        table = pd.read_json(io.StringIO(output)) if format == "json" else pd.read_csv(io.StringIO(output))
        assert (table["failed"] == 1).all() and "1 of 9 images could not be evaluated" in told

def test_of_equal_probabilities_the_first_class_is_named():
    found = _best([("a.png", torch.tensor([0.1, 0.3, 0.3, 0.3]))], list("abcd"), 3)
    assert found["class"].tolist() == [1, 2, 3]
    many = torch.full((1000,), 1e-3)
    assert _best([("a.png", many)], [str(number) for number in range(1000)], 5)["class"].tolist() == list(range(5))

def test_predictions_name_an_image_once_and_failures_in_machine_formats(capsys):
    table = _best([("a.png", torch.tensor([0.6, 0.4])), ("b.png", torch.tensor([0.2, 0.8]))], ["cat", "dog"], 2)
    _print_predictions(table)
    assert capsys.readouterr().out.count("a.png") == 1
    both = with_failures(table, [("c.png", "no such file")])
    line = json.loads(both.to_json(orient="records"))[-1]
    assert line == {"image": "c.png", "place": None, "class": None, "name": None, "probability": None,
                    "reason": "no such file"}
    assert list(with_failures(table, [])) == ["image", "place", "class", "name", "probability"]

def test_whose_preprocessing_is_used_is_said(caplog):
    caplog.set_level("INFO")
    same = replace(SMALL, crop_size=64)
    classifier = SimpleNamespace(name="net", preprocessing=same, stated_by="timm's configuration")
    tell_preprocessing(classifier)
    assert "resize 64, crop 64, bilinear, mean 0.5,0.5,0.5, std 0.5,0.5,0.5 (from timm's configuration)" in caplog.text
    assert "random crops differ only along the longer side" in caplog.text

def test_a_photograph_that_is_to_be_turned_is_named_and_turned_on_request(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    model = ("--model", "timm/test_resnet", "--checkpoint", tmp_path / "weights.pth", "--recipe", "CC",
             "--format", "jsonl")
    torch.save(timm.create_model("test_resnet").state_dict(), tmp_path / "weights.pth")
    plain, told = mid("predict", tmp_path / "turned.png", tmp_path / "none.png", *model, status=1)
    assert "1 of 2 images have an EXIF orientation (first:" in told and "mean 0.5" in told
    lines = [json.loads(line) for line in plain.splitlines()]
    assert len(lines) == 6 and lines[-1]["reason"] == "no such file"
    turned, told = mid("predict", tmp_path / "turned.png", *model, "--exif")
    assert "EXIF" not in told and json.loads(turned.splitlines()[0])["probability"] != lines[0]["probability"]

NUMBERED = [str(number) for number in range(12)]

@pytest.fixture(scope="module")
def twelve(tmp_path_factory):
    "A network of twelve classes, photographs in folders called 0 to 11, and a run that read them in the order of text."
    folder = tmp_path_factory.mktemp("twelve")
    torch.manual_seed(0)
    torch.save(timm.create_model("test_resnet", num_classes=12).state_dict(), folder / "own.pth")
    for number in NUMBERED[:4] + NUMBERED[10:]:
        (folder / "data" / number).mkdir(parents=True)
        pixels = np.random.default_rng(int(number)).integers(0, 256, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "data" / number / "a.png")
        (folder / "names" / number).mkdir(parents=True)
    for number in NUMBERED: (folder / "names" / number).mkdir(parents=True, exist_ok=True)
    mid("evaluate", *OWN, "--data", "data", *SHORT, "--out", "run", "--class-order", "text", cwd=folder)
    return folder

OWN = ("timm/test_resnet", "--checkpoint", "own.pth", "--num-classes", "12")
SHORT = ("--recipes", "CC,2RC", "--engine", "eager", "--device", "cpu")

def test_a_run_keeps_its_order_of_classes(twelve, tmp_path):
    assert json.loads((twelve / "run" / "origin.json").read_text())["class_order"] == "text"
    rows = Run.open(twelve / "run").rows()
    labels = dict(zip(rows["image"], rows["label"]))
    assert labels["10/a.png"] == 2 and labels["2/a.png"] == 4
    output, told = mid("verify", "run", cwd=twelve)
    assert "12 of them identical" in output and "wrong" not in told
    mid("report", "run", "--changed", tmp_path / "changed", cwd=twelve)
    output, _ = mid("evaluate", *OWN, "--data", "data", *SHORT, "--out", "run", cwd=twelve)
    assert "6 images" in output

@pytest.mark.parametrize("words", [("verify", "run"), ("evaluate", *OWN, "--data", "data", *SHORT, "--out", "run")])
def test_another_order_than_the_runs_is_refused(twelve, words):
    told = mid(*words, "--class-order", "number", cwd=twelve, status=2)[1]
    assert "--class-order number: the run read its class folders by text; leave out the option" in told

PREDICT = ("predict", "data/10/a.png", "--model", *OWN, "--recipe", "CC", "--format", "json", "--top", "12")

def test_names_of_a_folder_are_read_in_the_order_given(twelve):
    assert "ambiguous" in mid(*PREDICT, "--class-names", "names", cwd=twelve, status=2)[1]
    for order, names in (("number", NUMBERED), ("text", sorted(NUMBERED))):
        lines = json.loads(mid(*PREDICT, "--class-names", "names", "--class-order", order, cwd=twelve)[0])
        assert all(line["name"] == names[line["class"]] for line in lines)
    told = mid("export", *OWN, "--class-names", "names", "--out", "own.pt2", cwd=twelve, status=2)[1]
    assert "ambiguous" in told

def test_an_order_without_folders_is_refused(twelve):
    (twelve / "names.txt").write_text("\n".join(NUMBERED))
    for words in ((), ("--class-names", "names.txt")):
        told = mid(*PREDICT, *words, "--class-order", "text", cwd=twelve, status=2)[1]
        assert "--class-order is the order of the folders in --class-names FOLDER: give both, or neither" in told

def test_somebody_elses_origin_is_not_read(twelve, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "origin.json").write_text("[1]")
    from mid_nbdev.evaluation.verify import read_origin
    assert read_origin(tmp_path / "out") == {}

def test_what_a_class_is_called_decides_no_label_unless_it_was_given(twelve):
    folder = twelve / "csv"
    for name in ("10", "20"):
        (folder / name).mkdir(parents=True)
        Image.new("RGB", (40, 40)).save(folder / name / "a.png")
    (twelve / "labels.csv").write_text("file,label\n10/a.png,0\n20/a.png,1\n")
    words = ("evaluate", *OWN, "--data", "csv", "--labels", "labels.csv", *SHORT)
    mid(*words, "--out", "called", cwd=twelve)
    assert "4 of them identical" in mid("verify", "called", cwd=twelve)[0]

def test_a_head_of_random_weights_is_refused_at_the_command_line(twelve):
    for name in ("timm/resnet18", "torchvision/resnet18"):
        told = mid("evaluate", name, "--num-classes", "5", "--data", "data", cwd=twelve, status=2)[1]
        assert "a head for 5 would be random; give --checkpoint FILE" in told


# What is given twice, and numbers of things


def test_a_run_given_twice_is_refused(tmp_path):
    make_run(tmp_path / "a", recipes="CC,5FC")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    for again in ("a", "b", "../" + tmp_path.name + "/a"):
        told = mid("report", "a", again, cwd=tmp_path, status=2)[1]
        assert "is given more than once; name each run once" in " ".join(told.split())


def test_one_is_one_and_other_libraries_logs_are_left_out(capsys):
    import logging

    from mid_nbdev.cli.app import _messages
    from mid_nbdev.cli.evaluate import _tell_plan
    from mid_nbdev.crops.recipes import make_plan

    network = Classifier(timm.create_model("test_resnet", num_classes=3), SMALL)
    with _messages():
        _tell_plan(network, [0], make_plan("CC"))
        logging.getLogger("matplotlib").warning("a cache directory")
    told = capsys.readouterr().err
    assert "1 image, 1 recipe, 1 crop per image: 1 forward pass\n" in told and "cache" not in told
