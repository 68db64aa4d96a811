"What `mid bench` measures, on a tiny network: rows, formats, labels and peers; the times themselves are not looked at."

import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
import timm
import torch
from typer.testing import CliRunner

from mid_nbdev import Classifier, InputError, Preprocessing
from mid_nbdev.__main__ import app
from mid_nbdev.benchmark import bench, formats, peers
from mid_nbdev.benchmark.peers import Task
from mid_nbdev.data.images import demo_source
from mid_nbdev.networks.engines import ENGINES


@pytest.fixture
def tiny(monkeypatch):
    "Tasks compute a tiny network, and processes of their own are this one."
    torch.manual_seed(0)
    network = timm.create_model("test_resnet", num_classes=1000).eval()
    classifier = Classifier(network, Preprocessing(36, 32, "bilinear", (0.5,) * 3, (0.5,) * 3), name="tiny")
    monkeypatch.setattr(Task, "classifier", lambda self: classifier)
    for module in (bench, formats):
        monkeypatch.setattr(module, "apart", lambda function, *args: (function(*args), {}))
    plain = peers._loader
    monkeypatch.setattr(peers, "_loader", lambda *args: plain(*args[:4], 0))
    return Task("tiny", images=3, device="cpu")


def test_formats_are_compared_with_the_float32_center_crop(tiny):
    table = formats.format_table(tiny, "eager", 1, quick=True)
    own, peer = table[table["recipe"] != "TenCrop of torchvision"], table.iloc[-2:]
    assert list(dict.fromkeys(own["dtype"])) == bench.formats_of(tiny, "eager") == ["float32", "bfloat16"]
    assert own["recipe"].tolist() == ["CC", "5FC+5MFC", "20RC", "auto (2 crops)"] * 2
    assert own["crops"].tolist()[:3] == [1, 10, 20] and 1 <= own["crops"].iloc[3] <= 2
    assert peer["dtype"].tolist() == ["float32", "bfloat16"] and table["times_center"].iloc[0] == 1
    assert (own["changed"][own["dtype"] == "float32"] == 0).all()
    assert own["gain"].isna().tolist() == [True] + [False] * 7 and not table["gain"].iloc[1:].isna().any()


@pytest.mark.parametrize("engine", ENGINES)
def test_every_format_of_an_engine_is_measured(engine):
    found = bench.formats_of(Task("tiny", device="cpu"), engine)
    assert found[:1] == ["float32"] and set(found) <= set(ENGINES[engine].dtypes)
    assert not {"float16", "tf32"} & set(found)


def test_images_without_labels_have_times_and_no_gains(tiny, tmp_path):
    for name in demo_source().names[:2]:
        shutil.copy(demo_source().root / name, tmp_path / name)
    task = Task("tiny", data=str(tmp_path), images=3, device="cpu")
    assert not task.labelled and len(task.source()) == 2
    own = formats.own_formats(task, "eager", (), 1, True)
    assert "gain" not in formats.against_center(own, task.labelled)
    assert "gain" in formats.against_center(own)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no images found"):
        Task("tiny", data=str(tmp_path / "empty")).source()


def test_the_best_way_of_a_peer_is_the_fastest_that_works(tiny, monkeypatch):
    def rival(task, batch):
        if task.compiled:
            raise RuntimeError("no compiler")
        return peers.Timed(np.zeros((1, 1, 2)), {"float32": 2.0, "bfloat16": 1.0}[task.dtype], 10)

    assert bench._best_way(rival, tiny, 40) == ("bfloat16", False)


def test_only_peers_have_the_color_of_others(tiny, monkeypatch):
    monkeypatch.setattr(bench, "_best_batch", lambda rival, task: 40)
    monkeypatch.setattr(bench, "_best_way", lambda rival, task, *args: ("bfloat16", True))
    task = replace(tiny, recipes="5FC+5MFC")
    labels = [label for name in bench.CONTESTS for label, *_ in bench._contestants(task, name, ("eager",))]
    assert {label for label in labels if not re.search(bench._OTHERS, label)} == {
        "this library, eager",
        "this library, eager, bfloat16",
    }


def test_quick_is_one_section(tmp_path):
    done = CliRunner().invoke(app, ["bench", "--quick", "--sections", "peers", "--out", str(tmp_path / "b")])
    assert done.exit_code == 2 and "leave out --sections or --quick" in done.stderr
