"A network from where its owner has it: a function of their code, a folder, a transform, a config.json, a loader."

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import timm
import torch
from PIL import Image
from test_right_reports import mid
from torchvision.transforms import transforms as first
from torchvision.transforms import v2

from mid_nbdev.analysis.calibration import calibrate_run
from mid_nbdev.averaging.temperature import fit_temperature, match_confidence, scale
from mid_nbdev.averaging.wrapper import MID
from mid_nbdev.data.sources import find_source
from mid_nbdev.deployment.trackers import run_metrics, to_fiftyone
from mid_nbdev.errors import InputError
from mid_nbdev.evaluation.answers import answers_of_crops, read_answers
from mid_nbdev.evaluation.runs import Run, read_crops
from mid_nbdev.networks.classifier import Classifier, Preprocessing
from mid_nbdev.networks.config import config_bytes, config_content, read_config
from mid_nbdev.networks.models import load_classifier, load_named

SMALL = Preprocessing(40, 32, "bilinear", (0.5, 0.4, 0.3), (0.25, 0.25, 0.25))
MEAN = (0.5, 0.5, 0.5)
NETS = """
import timm
from torchvision.transforms import transforms as t

def make(num_classes=4, seed=0):
    import torch
    torch.manual_seed(seed)
    steps = [t.Resize(40), t.CenterCrop(32), t.ToTensor(), t.Normalize([0.5, 0.4, 0.3], [0.25] * 3)]
    return timm.create_model("test_resnet", num_classes=num_classes), t.Compose(steps)

def bare(): return make()[0]
def plain():
    from torch import nn
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 4))
def broken(): return 1 / 0
def none(): return "network"
"""


@pytest.fixture()
def project(tmp_path, monkeypatch):
    "A folder with code, images of four classes and a checkpoint; what is imported there is forgotten."
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    (tmp_path / "my_nets.py").write_text(NETS)
    generator = np.random.default_rng(0)
    for number in range(8):
        folder = tmp_path / "images" / "dacb"[number % 4]
        folder.mkdir(parents=True, exist_ok=True)
        noise = generator.integers(0, 256, (48, 60, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"{number}.png")
    torch.manual_seed(1)
    torch.save(timm.create_model("test_resnet", num_classes=4).state_dict(), tmp_path / "best.pth")
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith("my_"):
            del sys.modules[name]


def write_config(folder, **changed):
    "A config.json beside the checkpoint, in timm's layout."
    cfg = {"input_size": [3, 32, 32], "crop_pct": 0.8, "interpolation": "bilinear", "mean": [0.5, 0.4, 0.3],
           "std": [0.25] * 3, "crop_mode": "center"}
    content = {"architecture": "test_resnet", "num_classes": 4, "label_names": ["d", "a", "c", "b"]}
    (folder / "config.json").write_text(json.dumps({**content, "pretrained_cfg": cfg, **changed}))


def test_a_function_of_their_code_makes_the_network(project):
    classifier = load_named("my_nets:make,seed=3", folders=["images"])
    assert (classifier.name, classifier.preprocessing) == ("my_nets:make,seed=3", SMALL)
    assert classifier.stated_by == "the transform of my_nets:make"
    crops, same = torch.randn(2, 3, 32, 32), sys.modules["my_nets"].make(seed=3)[0].eval()
    assert torch.allclose(classifier(crops), same(crops), atol=1e-5)
    _, err = mid("evaluate", "my_nets:make", "--data", "images", "--out", "run", "--recipes", "CC,5FC")
    assert "my_nets:make is made by my_nets.py" in err
    assert "from the transform of my_nets:make" in err
    assert len(Run.open("run").rows()) == 16
    assert "timm's configuration of this network" in load_named("my_nets:bare").stated_by


@pytest.mark.parametrize(("name", "message"), [
    ("my_nets:absent", "has no function 'absent'"), ("my_nots:make", "no module 'my_nots'"),
    ("my_nets:broken", r"ZeroDivisionError: division by zero \(my_nets.py, line"),
    ("my_nets:none", "returns str; expected a torch.nn.Module"), ("my_nets:make,path=x/y", "could open files"),
    ("my_nets:make,wide=2", "unexpected keyword argument 'wide'"), ("json:loads", "missing 1 required"),
    ("images/my_evil:make", "unknown network 'images/my_evil:make'"),
    ("my_nets:plain", "its preprocessing lacks resize_to"),
])
def test_what_is_no_network_is_refused(project, name, message):
    with pytest.raises(InputError, match=message):
        load_named(name)


def test_code_beside_images_is_not_run(project):
    trap = "open('ran', 'w').close()\n" + NETS
    for place in ("images/my_trap.py", "images/a/my_trap.py"):
        (project / place).write_text(trap)
    for data in ("images", "images/*/*.png"):
        _, err = mid("evaluate", "images.my_trap:make", "--data", data, status=2)
        assert "it is in the images' folder" in err
    _, err = mid("predict", ".", "--model", "my_nets:make", status=2)
    assert "working directory is in the images' folder" in err
    _, err = mid("evaluate", "my_trap:make", "--data", ".", cwd="images", status=2)
    assert "working directory is" in err
    with pytest.raises(InputError, match="only run if named on the command line"):
        load_classifier("my_nets:make")
    assert "my_nets" not in sys.modules
    assert not list(project.rglob("ran"))


def test_a_name_that_means_two_modules_is_refused(project, monkeypatch):
    other = project / "elsewhere"
    other.mkdir()
    (other / "my_nets.py").write_text("raise SystemExit")
    monkeypatch.syspath_prepend(str(other))
    with pytest.raises(InputError, match="both in the working directory and installed"):
        load_named("my_nets:make")
    (project / "json.py").write_text("raise SystemExit")
    with pytest.raises(InputError, match="json is both"):
        load_named("json:loads")


def test_verify_imports_nothing_that_is_not_named(project):
    mid("evaluate", "my_nets:make", "--data", "images", "--out", "run", "--recipes", "CC")
    del sys.modules["my_nets"]
    (project / "my_nets.py").write_text("raise SystemExit")
    _, err = mid("verify", "run")
    assert "only runs if you name it; give --model my_nets:make" in err
    (project / "my_nets.py").write_text(NETS)
    assert "8 of them identical" in mid("verify", "run", "--model", "my_nets:make")[0]


def test_a_config_beside_the_checkpoint_is_read(project):
    with pytest.raises(InputError, match="give --num-classes 4"):
        load_classifier("timm/test_resnet", "best.pth")
    write_config(project)
    classifier = load_classifier("timm/test_resnet", "best.pth")
    assert (classifier.preprocessing, classifier.num_classes) == (SMALL, 4)
    assert classifier.stated_by == "config.json beside the checkpoint"
    assert classifier.label_names == ("d", "a", "c", "b")
    assert load_classifier("timm/test_resnet", "best.pth", resize_to=50).stated_by.endswith("; given: resize_to")
    _, err = mid("evaluate", "timm/test_resnet", "--checkpoint", "best.pth", "--data", "images", "--out", "run",
                 "--recipes", "CC")
    assert "classes: d, a, c, … (from config.json)" in err
    rows = Run.open("run").rows()
    assert dict(zip(rows["image"].str[0], rows["label"])) == {"d": 0, "a": 1, "c": 2, "b": 3}
    assert (project / "run" / "classes.txt").read_text().split() == ["d", "a", "c", "b"]
    out, _ = mid("predict", "images", "--model", "my_nets:bare", "--checkpoint", "best.pth", "--format", "csv",
                 "--recipe", "CC", "--top", "1")
    assert {line.split(",")[3] for line in out.split()[1:]} <= set("dacb")


@pytest.mark.parametrize(("changed", "message"), [
    ({"pretrained_cfg": {"mean": [1, 2]}}, r"mean \[1, 2\]"), ({"num_classes": "4"}, "num_classes 4"),
    ({"label_names": ["a", "a", "b", "c"]}, "two classes have one name"),
    ({"label_names": ["a"]}, "1 label_names for 4"),
    ({"pretrained_cfg": {"crop_mode": "squash"}}, "crop_mode squash"), ({"pretrained_cfg": {"std": [0, 1, 1]}}, "std"),
    ({"pretrained_cfg": {"input_size": [3, 32, 64]}}, "input_size"), ({"pretrained_cfg": {"crop_pct": 0}}, "crop_pct"),
    ({"pretrained_cfg": {"interpolation": "lanczos"}}, "lanczos"), ({"pretrained_cfg": []}, "pretrained_cfg"),
    ({"mid_nbdev": {"temperatures": {"CC": -1}}}, "temperatures"),
])
def test_a_wrong_config_is_refused_by_its_entry(project, changed, message):
    write_config(project, **changed)
    with pytest.raises(InputError, match=message):
        load_classifier("timm/test_resnet,num_classes=4", "best.pth")


def test_a_config_of_something_else_is_passed_over(project, caplog):
    caplog.set_level("INFO", "mid_nbdev")
    others = ({"model_type": "resnet"}, "its layout is not timm's"), ({"architecture": "resnet50"}, "for resnet50")
    for content, said in others:
        (project / "config.json").write_text(json.dumps(content))
        assert load_classifier("timm/test_resnet,num_classes=4", "best.pth").stated_by == "timm's configuration"
        assert said in caplog.text
    for text in ("{", "[" * 100_000):
        (project / "config.json").write_text(text)
        with pytest.raises(InputError, match="cannot be read as JSON"):
            load_classifier("timm/test_resnet,num_classes=4", "best.pth")


def test_what_is_written_is_what_timm_reads(project):
    network, expected = timm.create_model("test_resnet", num_classes=4), Preprocessing(41, 32, "bicubic", MEAN, MEAN)
    made = Classifier(network, expected, "timm/test_resnet.r160_in1k,num_classes=4")
    folder = project / "saved"
    folder.mkdir()
    content = config_content(made, list("abcd"), temperatures={"CC": 2.0})
    (folder / "config.json").write_bytes(config_bytes(content))
    torch.save(network.state_dict(), folder / "pytorch_model.bin")
    for classifier in (load_classifier(f"local-dir:{folder}"),
                       load_classifier("timm/test_resnet", folder / "pytorch_model.bin")):
        assert (classifier.preprocessing, classifier.label_names) == (made.preprocessing, tuple("abcd"))
        assert classifier.temperatures == {"CC": 2.0}
    assert read_config(folder).architecture == "test_resnet"


def test_a_transform_is_read(project):
    network = timm.create_model("test_resnet", num_classes=4).eval()
    steps = [v2.Resize(40), v2.CenterCrop(32), v2.ToImage(), v2.ToDtype(torch.float32, scale=True),
             v2.Normalize([0.5, 0.4, 0.3], [0.25] * 3)]
    wrapper, image = MID(network, "CC", transform=v2.Compose(steps)), Image.open("images/a/1.png")
    assert wrapper.classifier.preprocessing == SMALL
    assert wrapper.classifier.stated_by == "the transform"
    with torch.no_grad():
        expected = network(v2.Compose(steps)(image)[None]).softmax(-1)
    assert torch.allclose(wrapper(image), expected, atol=1e-5)
    for given, message in (({"transform": v2.Compose([v2.RandomCrop(32)])}, "RandomCrop cannot be read"),
                           ({"transform": v2.Compose(steps), "preprocessing": SMALL}, "give exactly one of them"),
                           ({}, "give exactly one of them"),
                           ({"preprocessing": v2.Compose(steps)}, "as transform=")):
        with pytest.raises(InputError, match=message):
            Classifier(network, **given)
    with pytest.raises(InputError, match="or a network with transform="):
        MID(network)


def test_tensors_of_a_loader(project):
    classifier = load_named("my_nets:make")
    images = [Image.open(f"images/a/{number}.png") for number in (1, 5)]
    steps = [first.Resize(40), first.CenterCrop(40), first.ToTensor(), first.Normalize(SMALL.mean, SMALL.std)]
    batch = torch.stack([first.Compose(steps)(image) for image in images])
    square = [Image.fromarray(np.array(first.Compose(steps[:2])(image))) for image in images]
    for recipe in ("CC", "5FC+5MFC", "4RC@logit", "5FC@feature"):
        wrapper = MID(classifier, recipe)
        assert torch.allclose(wrapper.from_tensors(batch, keys="ab"), wrapper(square, keys="ab"), atol=1e-5)
    cropped = batch[..., 4:36, 4:36]
    both = (classifier(cropped).softmax(-1) + classifier(cropped.flip(-1)).softmax(-1)) / 2
    assert torch.allclose(MID(classifier, "5FC+5MFC").from_tensors(cropped), both, atol=1e-5)
    assert MID(classifier, "CC").from_tensors(batch[:0]).shape == (0, 4)


@pytest.mark.parametrize(("tensors", "message"), [
    (torch.zeros(1, 3, 32, 32), "all crops are the same"),
    (torch.zeros(1, 3, 31, 40), "smaller than the network's crop"),
    (torch.zeros(3, 40, 40), r"got \(3, 40, 40\)"), (torch.zeros(1, 3, 40, 40).byte(), "give 8-bit images to MID"),
    ([1], "got list"), (torch.full((1, 3, 40, 40), float("nan")), "not finite"),
])
def test_other_tensors_are_refused(project, tensors, message):
    wrapper = MID(load_named("my_nets:make"), "5FC")
    with pytest.raises(InputError, match=message):
        wrapper.from_tensors(tensors)
    if isinstance(tensors, torch.Tensor) and tensors.is_floating_point() and tensors.ndim == 4:
        with pytest.raises(InputError, match="to MID.from_tensors"):
            wrapper(tensors)


def test_a_temperature_scales_the_average(project):
    classifier, image = load_named("my_nets:make"), Image.open("images/a/1.png")
    plain = MID(classifier, "5FC")(image)
    expected = plain.sqrt() / plain.sqrt().sum()
    assert torch.allclose(MID(classifier, "5FC", temperature=2)(image), expected, atol=1e-6)
    classifier.temperatures = {"5FC": 2.0}
    assert torch.allclose(MID(classifier, "5FC")(image), expected, atol=1e-6)
    assert "temperature=2" in repr(MID(classifier, "5FC"))
    assert torch.equal(MID(classifier, "5FC", temperature=1)(image), plain)
    assert torch.equal(scale(plain, 1), plain)
    with pytest.raises(InputError, match="above 0"):
        MID(classifier, "5FC", temperature=-1)


def test_a_temperature_is_found_again():
    honest = torch.tensor([[0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.1, 0.2, 0.7]]).repeat(10, 1)
    labels = torch.tensor([0] * 6 + [1] * 3 + [2])
    flat, observed = scale(honest[:1], 2.0).repeat(10, 1), labels
    assert abs(fit_temperature(flat, observed) - 0.5) < 1e-3
    assert abs(match_confidence(scale(honest, 3.0), float(honest.amax(-1).mean())) - 1 / 3) < 1e-3


@pytest.fixture()
def four(project):
    "Options of a network of four classes with a config.json."
    write_config(project)
    return ["timm/test_resnet", "--checkpoint", "best.pth", "--data", "images"]


def test_predictions_of_a_run_are_those_of_the_wrapper(four):
    run = "evaluate", *four, "--out", "run", "--recipes", "CC,5FC"
    _, err = mid(*run, "--predictions", "rows.csv", "--top", "3")
    assert "rows.csv: predictions of 5FC" in err
    table, rows = pd.read_csv("rows.csv"), Run.open("run").rows().query("recipe == '5FC'")
    assert list(table.columns[:8]) == ["image", "prediction", "name", "confidence", "label", "class_2", "name_2",
                                       "probability_2"]
    assert len(table) == 8
    assert (table["prediction"].to_numpy() == rows["prediction"].to_numpy()).all()
    classifier = load_classifier("timm/test_resnet", "best.pth")
    expected = MID(classifier, "5FC")(Image.open(f"images/{table['image'][0]}"))[0].sort(descending=True)
    assert np.allclose(table.iloc[0][["confidence", "probability_2", "probability_3"]].tolist(), expected.values[:3])
    out, _ = mid(*run, "--predictions", "-", "--predictions-of", "CC")
    assert out.startswith("image,prediction,name,confidence,label,class_2")
    assert len(out.splitlines()) == 9
    assert "top-1" not in out
    mid(*run, "--predictions", "all.parquet", "--top", "0")
    every = np.stack(pd.read_parquet("all.parquet")["probabilities"])
    assert np.allclose(every.sum(1), 1)
    assert (Run.open("run").rows().query("recipe == '5FC'")["prediction"].to_numpy() == every.argmax(1)).all()


@pytest.mark.parametrize(("options", "message"), [
    (["--predictions", "rows.csv", "--top", "0"], "only a .parquet file holds"),
    (["--top", "2"], "--top needs --predictions"),
    (["--predictions", "rows.csv", "--predictions-of", "20RC"], "expected one of CC,5FC"),
    (["--predictions", "none/rows.csv"], "the folder none does not exist"),
    (["--predictions", "rows.txt"], "expected .csv"),
    (["--predictions", "best.pth"], "a file ending in '.pth'"),
    (["--predictions", "x.csv", "--top", "-1"], "1 or more"),
])
def test_predictions_that_cannot_be_written_are_refused_first(four, options, message):
    _, err = mid("evaluate", *four, "--out", "run", "--recipes", "CC,5FC", *options, status=2)
    assert message in err
    assert not Path("run").exists()


def test_predict_writes_one_row_per_image(four):
    given = ["images", "--model", *four[:3], "--recipe", "CC"]
    out, _ = mid("predict", *given, "--out", "-", "--one-row", "--top", "2")
    assert out.splitlines()[0] == "image,prediction,name,confidence,class_2,name_2,probability_2"
    assert len(out.splitlines()) == 9
    mid("predict", *given, "--out", "all.parquet", "--top", "0")
    flat = pd.read_parquet("all.parquet")["probabilities"]
    mid("predict", *given, "--out", "hot.parquet", "--top", "0", "--temperature", "2")
    hot = np.stack(pd.read_parquet("hot.parquet")["probabilities"])
    expected = np.sqrt(np.stack(flat))
    assert np.allclose(hot, expected / expected.sum(1, keepdims=True), atol=1e-6)
    Path("images/broken.png").write_bytes(b"no image")
    out, _ = mid("predict", *given, "--format", "jsonl", "--one-row", status=1)
    found = list(map(json.loads, out.splitlines()))
    assert [one["image"] for one in found if one["reason"]] == ["images/broken.png"]
    assert "temperature 0" in mid("predict", *given, "--temperature", "0", status=2)[1]


@pytest.mark.long
def test_a_run_is_calibrated(four):
    run = ["evaluate", *four, "--recipes", "CC,5FC"]
    mid(*run, "--out", "run")
    assert "run mid evaluate again with --predictions FILE" in mid("calibrate", "run", status=2)[1]
    mid(*run, "--out", "run", "--predictions", "rows.csv")
    assert "8 images: expected 40 or more" in mid("calibrate", "run", status=2)[1]
    for number in range(8, 48):
        noise = np.random.default_rng(number).integers(0, 256, (40, 44, 3), dtype=np.uint8)
        Image.fromarray(noise).save(Path("images") / "dacb"[number % 4] / f"{number}.png")
    mid(*run, "--out", "more", "--keep", "crops", "--predictions", "rows.csv")
    assert "no temperature from 0.05 to 20 fits the 24 images" in mid("calibrate", "more", status=2)[1]  # noise
    assert "--seed -1: expected a whole number of at least 0" in mid("calibrate", "more", "--seed", "-1", status=2)[1]
    _, err = mid("calibrate", "more", "--match", "CC", "--config", "config.json", "--plot", "plot.png")
    found = read_config(".").temperatures["5FC"]
    assert f"temperature {found:g} for 5FC" in err
    assert Path("plot.png").stat().st_size > 1000
    wrapper = MID(load_classifier("timm/test_resnet", "best.pth"), "5FC")
    assert wrapper.scaled_by == found
    assert "temperature" in mid("predict", "images/a/1.png", "--model", *four[:3], "--recipe", "5FC")[1]
    table = calibrate_run(Run.open("more"), "CC", match="CC").table()
    assert table["top1"].nunique() == 1
    crops = answers_of_crops(read_crops(Run.open("more")), "5FC", Run.open("more").manifest["crops"])
    assert np.allclose(crops.probabilities, read_answers(Run.open("more"), "5FC").probabilities, atol=1e-2)
    refused = mid("calibrate", "more", "--match", "CC", "--config", "x.pth", status=2)[1]
    assert "expected a path ending in config.json" in refused


@pytest.mark.long
def test_one_recipe_is_chosen(four):
    given = ["choose", "timm/test_resnet", "--checkpoint", "best.pth", "--num-classes", "4"]
    out, err = mid(*given, "--data", "images")
    assert all(f" {recipe} " in out for recipe in ("CC", "CC+MCC", "FULL", "5FC+5MFC", "10QRC"))
    assert "Recommended: CC. " in out
    assert "mid predict IMAGES --model timm/test_resnet --checkpoint best.pth --num-classes 4 --recipe CC" in out
    assert "agreement" not in out
    out, err = mid(*given, "--data", "images/a", "--budget", "2")
    assert "no labels found; predictions are compared with those of an average of 30 crops" in err
    assert "agreement %" in out
    for option, value in (("--budget", "0"), ("--latency", "nan"), ("--images", "0")):
        assert f"{option} {value}: expected more than 0" in mid(*given, "--data", "images", option, value, status=2)[1]
    assert "no candidate is within the budget: CC takes 1 forwards" in mid(
        *given, "--data", "images/a", "--latency", "0.000001", status=2)[1]


def test_numbers_and_tags_for_other_tools(four):
    mid("evaluate", *four, "--out", "run", "--recipes", "CC,5FC+5MFC")
    run, source = Run.open("run"), find_source("images", None, 4, ["d", "a", "c", "b"])
    metrics = run_metrics(run)
    assert {"CC/top1", "5FC_5MFC/gain_low"} <= set(metrics)
    assert all(np.isfinite(value) for value in metrics.values())
    with pytest.raises(InputError, match="pip install fiftyone"):
        to_fiftyone(run, source)
