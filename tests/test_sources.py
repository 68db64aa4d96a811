"""Every source of images through the commands: the same photographs get the same answers, wherever they lie.

A tiny network with random weights answers; what it says is meaningless, but it has to be the same.
"""

import io
import json
import tarfile
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from timm import create_model
from timm.data import ImageNetInfo
from typer.testing import CliRunner

import mid_nbdev.__main__  # noqa: F401, all commands
from mid_nbdev.cli.app import app
from mid_nbdev.data.images import demo_source
from mid_nbdev.evaluation.runs import Run
from mid_nbdev.networks.models import read_classes

PHOTOS = demo_source().take(range(6))
BYTES = [(PHOTOS.root / name).read_bytes() for name in PHOTOS.names]
LABELS = PHOTOS.labels.tolist()
SYNSETS = [ImageNetInfo().label_names()[label] for label in LABELS]
VALIDATION = [f"ILSVRC2012_val_{number:08}.JPEG" for number in range(1, len(LABELS) + 1)]


def mid(*words, status=0):
    done = CliRunner(env={"COLUMNS": "200", "TERM": "dumb"}).invoke(app, list(map(str, words)))
    assert done.exit_code == status, done.output
    return done.stdout


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def shard(path, numbers):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for number in numbers:
            for ending, content in (("jpg", BYTES[number]), ("cls", str(LABELS[number]).encode())):
                member = tarfile.TarInfo(f"{number:06}.{ending}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    "The photographs in every layout, and the network's weights."
    place = tmp_path_factory.mktemp("sources")
    for number, content in enumerate(BYTES):
        write(place / "flat" / PHOTOS.names[number], content)
        write(place / "numbers" / str(LABELS[number]) / "photo.jpeg", content)  # as ImageNetV2 has them
        write(place / "imagenet" / "val" / SYNSETS[number] / VALIDATION[number], content)
    pd.DataFrame({"file": PHOTOS.names, "label": LABELS}).to_csv(place / "labels.csv", index=False)
    with tarfile.open(place / "folders.tar", "w") as archive:
        archive.add(place / "imagenet" / "val", "val")
    shard(place / "shards" / "0.tar", range(3))
    shard(place / "shards" / "1.tar", range(3, 6))
    images = [{"bytes": content, "path": name} for content, name in zip(BYTES, PHOTOS.names, strict=True)]
    (place / "hub").mkdir()
    pq.write_table(pa.table({"image": images, "label": LABELS}), place / "hub" / "validation.parquet")
    torch.manual_seed(0)
    torch.save(create_model("test_resnet").state_dict(), place / "own.pth")
    return place


def evaluate(place, out, *words):
    given = (
        "evaluate",
        "timm/test_resnet",
        "--checkpoint",
        place / "own.pth",
        "--engine",
        "eager",
        "--recipes",
        "CC,2RC",
    )
    mid(*given, "--out", place / out, *words)
    return Run.open(place / out).rows()


def answers(rows):
    "What the center crop says of each photograph, whatever its name."
    rows = rows[rows["recipe"] == "CC"].sort_values("label")
    return rows["label"].tolist(), rows["prediction"].tolist(), rows["p_true"].tolist()


@pytest.fixture(scope="module")
def flat(place):
    return evaluate(place, "flat-run", "--data", place / "flat", "--labels", place / "labels.csv")


READ = {
    ".csv": pd.read_csv,
    ".json": pd.read_json,
    ".jsonl": partial(pd.read_json, lines=True),
    ".parquet": pd.read_parquet,
}
SOURCES = [
    "numbers",
    "imagenet",
    "imagenet/val",
    "folders.tar",
    "shards",
    "shards/*.tar",
    "hub/validation.parquet",
    "hub",
    "imagenet/val/*/*.JPEG",
]


@pytest.mark.parametrize("data", SOURCES)
def test_the_same_answers_from_every_source(place, flat, data):
    out = f"run-{SOURCES.index(data)}"
    assert answers(evaluate(place, out, "--data", place / data)) == answers(flat)
    assert "6 of them identical" in mid("verify", place / out, "--images", "3")


@pytest.mark.skipif(find_spec("datasets") is None, reason="no datasets here: the extra data")
def test_the_same_answers_from_datasets(place, flat):
    import datasets

    datasets.config.HF_DATASETS_CACHE = place / "cache"
    assert answers(evaluate(place, "hub-run", "--data", f"hfds/{place / 'hub'}")) == answers(flat)
    named = datasets.load_dataset("imagefolder", data_dir=str(place / "imagenet" / "val"), split="validation")
    assert max(named["label"]) == 5  # numbered by themselves, not as ImageNet does
    named.save_to_disk(str(place / "saved"))
    assert answers(evaluate(place, "saved-run", "--data", place / "saved")) == answers(flat)


def test_one_file(place, flat):
    rows = evaluate(place, "one-run", "--data", place / "numbers" / str(LABELS[2]) / "photo.jpeg")
    assert rows["label"].tolist() == [LABELS[2]] * 2
    assert rows["p_true"].iloc[0] == flat[flat["image"] == PHOTOS.names[2]]["p_true"].iloc[0]


def test_real_labels(place, flat):
    "An answer is right if it is one of several, and an image without any is left out."
    says = flat.set_index("image")["prediction"].to_dict()
    right = [[7, int(says[name])] for name in PHOTOS.names]
    right[0], right[1] = [], [(right[1][1] + 1) % 1000]
    (place / "real.json").write_text(json.dumps(right))
    rows = evaluate(place, "real-run", "--data", place / "imagenet", "--labels", place / "real.json").query(
        "recipe == 'CC'"
    )
    assert sorted(Path(name).name for name in rows["image"]) == VALIDATION[1:]
    assert ((rows["rank"] == 0) == [not name.endswith(VALIDATION[1]) for name in rows["image"]]).all()


def test_a_subset_of_the_classes(place):
    inside = read_classes("imagenet-r")
    rows = pd.DataFrame({"file": PHOTOS.names, "label": inside[:6]})
    rows.to_csv(place / "inside.csv", index=False)
    told = evaluate(
        place, "inside-run", "--data", place / "flat", "--labels", place / "inside.csv", "--classes", "imagenet-r"
    )
    assert np.isin(told["prediction"], inside).all()
    rows.assign(label=[number for number in range(1000) if number not in inside][:6]).to_csv(
        place / "outside.csv", index=False
    )
    given = (
        "evaluate",
        "timm/test_resnet",
        "--checkpoint",
        place / "own.pth",
        "--data",
        place / "flat",
        "--labels",
        place / "outside.csv",
    )
    mid(*given, "--classes", "imagenet-r", status=2)


@pytest.mark.parametrize("ending", [".csv", ".json", ".jsonl", ".parquet", ".md", ".tex"])
def test_every_output(place, flat, ending):
    network = ("--model", "timm/test_resnet", "--checkpoint", place / "own.pth", "--recipe", "CC", "--top", "2")
    for words, lines in ((("report", place / "flat-run"), 2), (("predict", place / "flat", *network), 12)):
        out = place / f"{words[0]}{ending}"
        mid(*words, "--out", out)
        if ending in READ:
            assert len(READ[ending](out)) == lines
        else:
            assert len(out.read_text().splitlines()) == lines + (2 if ending == ".md" else 6)
