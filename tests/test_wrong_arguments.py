"What people give by mistake is refused in words that name it, and nothing is chosen in silence."

import os
import sys
from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest
import timm
import torch
from PIL import Image
from test_right_reports import make_run, mid
from torchvision.transforms import v2

from mid_nbdev.analysis.choose import measure
from mid_nbdev.analysis.explore import explore
from mid_nbdev.analysis.outcomes import read_outcomes
from mid_nbdev.averaging.matching import fit_matching
from mid_nbdev.averaging.tensors import checked_tensors
from mid_nbdev.averaging.wrapper import MID
from mid_nbdev.crops.recipes import make_plan, parse_recipes
from mid_nbdev.data.images import ImageSource, image_shapes
from mid_nbdev.errors import InputError
from mid_nbdev.evaluation.evaluate import evaluate, fit_to_source, match_to_source
from mid_nbdev.evaluation.runs import evaluate_run
from mid_nbdev.networks.classifier import Classifier, Preprocessing
from mid_nbdev.networks.factory import made_by_code
from mid_nbdev.networks.transforms import read_transform
from mid_nbdev.paper.tables import reproduce_table

SMALL = Preprocessing(40, 32, "bilinear", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
IMAGENET_MEAN = (0.485, 0.456, 0.406)
GRAY = Image.new("RGB", (60, 48), "gray")


@cache
def small(name="test_resnet", **options):
    "A small network."
    torch.manual_seed(0)
    return Classifier(timm.create_model(name, num_classes=4, **options).eval(), SMALL)


@pytest.mark.parametrize("recipe", [20, None, ["CC", "20RC"], 1.5])
def test_a_recipe_is_text(recipe):
    with pytest.raises(InputError, match=f"of type {type(recipe).__name__}: expected one text"):
        MID(small(), recipe)


def test_recipes_that_are_no_list_are_refused():
    with pytest.raises(InputError, match="recipe 20 of type int"):
        parse_recipes(20)


@pytest.mark.parametrize(("given", "words"), [
    ("photo.jpg", "not its path; open it with PIL.Image.open"), (["photo.jpg"], "not its path"),
    (b"photo.jpg", "not its path"), (pytest, "of type module"), (None, "of type NoneType"), (5, "of type int"),
])
def test_what_is_no_image_is_refused(given, words):
    with pytest.raises(InputError, match=words):
        MID(small(), "CC")(given)


@pytest.mark.parametrize("options", [
    {"seed": "a"}, {"seed": -1}, {"seed": 1.5}, {"batch_size": 0}, {"batch_size": 2.0},
])
def test_seed_and_batch_size_are_whole_numbers(options):
    with pytest.raises(InputError, match=f"{[*options][0]} .*: expected a whole number of at least"):
        MID(small(), "2RC", **options)


def test_a_temperature_that_is_text_is_quoted():
    with pytest.raises(InputError, match="temperature '2'"):
        MID(small(), "CC", temperature="2")


def test_views_are_not_matched_on_equal_images():
    with pytest.raises(InputError, match="on 5 images with equal features"):
        MID(small(), "FULL").match([GRAY] * 5)


def test_a_policy_asks_whether_a_network_takes_its_views():
    vit = small("test_vit", img_size=32)
    with pytest.raises(InputError, match="accepts only crops of 32 pixels, not views of 40"):
        MID(vit, "MFULL+CC~0.8")(GRAY)


def test_a_policy_of_one_view_is_refused():
    with pytest.raises(InputError, match="name two or more"):
        MID(small(), "CC~0.8")


def test_a_crop_that_fits_no_memory_is_refused():
    with pytest.raises(InputError, match="crop 100000: expected at most 4096 pixels"):
        Preprocessing(256, 100_000, "bilinear", (0, 0, 0), (1, 1, 1))


@pytest.mark.parametrize(("steps", "words"), [
    ([v2.CenterCrop(32), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)], "no Resize"),
    ([v2.Resize(40), v2.CenterCrop(32), v2.ToImage(), v2.Normalize([0.5] * 3, [0.5] * 3)], "no ToTensor"),
    ([v2.CenterCrop(32), v2.Resize(40), v2.ToImage()], "CenterCrop comes before Resize"),
])
def test_a_step_that_is_not_there_is_not_said_to_be_late(steps, words):
    with pytest.raises(InputError, match=words):
        read_transform(v2.Compose(steps))


def test_what_their_code_prints_is_no_answer(tmp_path, monkeypatch, capsys):
    text = "import timm\nprint('imported')\ndef make():\n    print('made')\n    return timm.create_model('test_resnet')"
    (tmp_path / "my_loud.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    made_by_code("my_loud:make", {})
    printed = capsys.readouterr()
    assert printed.out == "" and "imported\nmade" in printed.err


def test_a_network_that_is_never_right_can_be_compared(tmp_path):
    table = pd.DataFrame({"image": ["a", "b"], "label": [1, 2], "prediction": [3, 4]})
    table.to_csv(tmp_path / "wrong.csv", index=False)
    assert not next(iter(read_outcomes(tmp_path / "wrong.csv").values())).table["correct"].any()
    table.assign(prediction=["cat", "dog"]).to_csv(tmp_path / "names.csv", index=False)
    with pytest.raises(InputError, match="no prediction is among the labels"):
        read_outcomes(tmp_path / "names.csv")


def test_a_figure_of_sizes_is_written_where_names_are_odd(tmp_path):
    (tmp_path / "odd").mkdir()
    GRAY.save(tmp_path / "plain.png")
    try:
        os.rename(tmp_path / "plain.png", os.fsencode(tmp_path / "odd") + b"/caf\xe9.png")
    except OSError:
        pytest.skip("file names are UTF-8 here")
    assert image_shapes(tmp_path / "odd", 32)[0]["image"].tolist() == ["caf\\xe9.png"]
    printed, _ = mid("histogram", tmp_path / "odd", "--resize", "32", "--out", tmp_path / "sizes")
    assert "1 images, longer side" in printed and (tmp_path / "sizes.svg").is_file()
    assert pd.read_csv(tmp_path / "sizes.csv")["image"].tolist() == ["caf\\xe9.png"]
    assert "resize 0: expected at least 1 pixel" in mid("histogram", tmp_path / "odd", "--resize", "0", status=2)[1]
    assert "without extension" in mid("histogram", tmp_path / "odd", "--out", tmp_path / "sizes.png", status=2)[1]


@pytest.mark.parametrize("words", [("models", "--format", "latex"), ("table", "3", "--format", "timm")])
def test_a_format_that_is_not_printed_is_refused(words):
    assert "expected table, csv, json, markdown" in mid(*words, status=2)[1]


def test_a_benchmark_is_refused_before_it_begins(tmp_path):
    assert "dtype 'foo': expected float32" in mid("bench", "--dtype", "foo", "--out", tmp_path / "new", status=2)[1]
    assert not (tmp_path / "new").exists()
    (tmp_path / "mine.csv").touch()
    assert "expected a folder" in mid("bench", "--out", tmp_path / "mine.csv", status=2)[1]


def test_tensors_from_0_to_255_are_noticed(caplog):
    MID(small(), "5FC").from_tensors(torch.rand(1, 3, 40, 40) * 255)
    assert "no value is below 0, as before Normalize" in caplog.text


@pytest.mark.parametrize(("tensors", "mean", "warned"), [
    (torch.rand(1, 3, 40, 40), IMAGENET_MEAN, True),  # as after ToTensor
    (torch.rand(1, 3, 40, 40) * 255, IMAGENET_MEAN, True),
    ((1 - torch.tensor(IMAGENET_MEAN)).div(0.225).view(1, 3, 1, 1).expand(1, 3, 40, 40), IMAGENET_MEAN, False),  # white
    ((1 - torch.tensor(IMAGENET_MEAN)).div(0.225).view(1, 3, 1, 1).expand(1, 3, 40, 40).bfloat16(), IMAGENET_MEAN,
     False),
    (torch.rand(1, 3, 40, 40), (0, 0, 0), False),  # nothing is subtracted
    (torch.rand(1, 3, 40, 40) - 0.5, IMAGENET_MEAN, False),
])
def test_only_tensors_that_cannot_be_normalised_are_warned_of(tensors, mean, warned, caplog):
    checked_tensors(tensors, make_plan("5FC"), replace(SMALL, mean=mean, std=(0.225,) * 3))
    assert ("as before Normalize" in caplog.text) == warned


def two_images(folder):
    "A source of two equal images, of classes that the small network has."
    for name in "ab":
        GRAY.save(folder / f"{name}.png")
    return ImageSource(folder, ("a.png", "b.png"), np.array([0, 1]))


@pytest.mark.parametrize("seed", [-1, 1.5, "a"])
def test_every_evaluation_refuses_the_seeds_that_a_wrapper_refuses(tmp_path, seed):
    source, out = two_images(tmp_path), tmp_path / "run"
    for evaluated in (
        lambda: MID(small(), "CC", seed), lambda: evaluate(small(), source, "CC", seed=seed),
        lambda: evaluate_run(small(), source, "CC", out, seed=seed), lambda: measure(small(), source, seed=seed),
        lambda: fit_to_source(small(), source, budget=2, seed=seed), lambda: explore(small(), source, seed=seed),
        lambda: reproduce_table(3, source, out, seed=seed),
    ):
        with pytest.raises(InputError, match=f"^seed {seed!r}: expected a whole number of at least 0$"):
            evaluated()
    assert not out.exists()


def test_a_refused_seed_begins_no_run(tmp_path, monkeypatch):
    two_images(tmp_path)
    (tmp_path / "my_seeded.py").write_text("import timm\ndef make():\n    return timm.create_model('test_resnet')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    pd.DataFrame({"file": ["a.png", "b.png"], "label": [0, 1]}).to_csv("labels.csv", index=False)
    given = ("--data", "*.png", "--labels", "labels.csv", "--resize", 40, "--crop", 32, "--out", "run", "--seed", -1)
    words = mid("evaluate", "my_seeded:make", *given, status=2)[1]
    assert "seed -1: expected a whole number of at least 0" in words and not (tmp_path / "run").exists()


def test_an_earlier_matching_is_kept_if_a_new_one_is_refused(tmp_path):
    classifier = small.__wrapped__()
    kept = classifier.matching = fit_matching(torch.rand(8, classifier.feature_size))
    for fitted in (lambda: MID(classifier, "FULL").match([GRAY] * 5),
                   lambda: match_to_source(classifier, two_images(tmp_path), device="cpu")):
        with pytest.raises(InputError, match="images with equal features"):
            fitted()
        assert classifier.matching is kept


def test_predictions_in_latin_1_are_refused_by_name(tmp_path):
    (tmp_path / "latin.csv").write_bytes("image,label,prediction\né.png,1,1\n".encode("latin-1"))
    with pytest.raises(InputError, match="latin.csv: is not UTF-8; save it as UTF-8"):
        read_outcomes(tmp_path / "latin.csv")


def test_a_report_asks_for_its_folder_first(tmp_path):
    make_run(tmp_path / "run")
    printed = mid("report", tmp_path / "run", "--html", tmp_path / "no" / "page.html", status=2)
    assert printed[0] == "" and "does not exist; create it first" in printed[1]
