"Corpora with a real local Ray of two processors: killed, resumed, and with an actor that is killed on the way."

import contextlib
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from timm import create_model

from mid_nbdev.averaging.wrapper import MID
from mid_nbdev.evaluation.corpus import read_predictions
from mid_nbdev.networks.models import load_classifier

pytest.importorskip("ray", reason="Ray is not installed")
psutil = pytest.importorskip("psutil")

pytestmark = pytest.mark.long
SHARDS, EACH = 6, 130


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    "Archives of made images, weights, and what the wrapper says of each image."
    import tarfile

    place, generator = tmp_path_factory.mktemp("corpus"), np.random.default_rng(0)
    torch.manual_seed(0)
    save_file(create_model("test_resnet", num_classes=1000).state_dict(), place / "weights.safetensors")
    (place / "shards").mkdir()
    pictures = {}
    for shard in range(SHARDS):
        with tarfile.open(place / "shards" / f"{shard}.tar", "w") as archive:
            for number in range(EACH):
                name = f"{shard}/{number:03}.png"
                pictures[name] = Image.fromarray(generator.integers(0, 256, (30, 40, 3), dtype=np.uint8))
                pictures[name].save(place / "picture.png")
                archive.add(place / "picture.png", arcname=name)
    wrapper = MID(load_classifier("timm/test_resnet", place / "weights.safetensors"), "CC+1RC", batch_size=32)
    some = list(pictures)[::37]
    return place, wrapper(list(map(pictures.get, some)), keys=some), some


def start(place, out):
    "`mid predict --engine ray` in a process of its own, with a Ray of its own."
    words = [
        "predict",
        place / "shards",
        "--engine",
        "ray",
        "--out",
        place / out,
        "--model",
        "timm/test_resnet",
        "--checkpoint",
        place / "weights.safetensors",
        "--recipe",
        "CC+1RC",
        "--top",
        "2",
    ]
    code = (
        "import ray, sys; ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level='ERROR'); "
        "from mid_nbdev.__main__ import main; sys.argv = ['mid', *sys.argv[1:]]; main()"
    )
    environment = {**os.environ, "IN_TEST": "", "RAY_USAGE_STATS_ENABLED": "0"}
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, words)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def check(corpus, out):
    place, expected, some = corpus
    rows = read_predictions(str(place / out))
    assert len(rows) == SHARDS * EACH and rows["key"].is_unique and (rows["reason"] == "").all()
    rows = rows.set_index("key").loc[some]
    assert rows["prediction"].tolist() == expected.argmax(1).tolist()
    assert np.abs(rows["confidence"].to_numpy() - expected.amax(1).numpy()).max() < 1e-5
    assert not list((place / out / "unfinished").rglob("*.parquet"))


def test_killed_and_resumed_by_shard_where_an_actor_dies(corpus):
    place = corpus[0]
    process = start(place, "killed")
    while process.poll() is None and not list((place / "killed").glob("*.tar.parquet")):
        time.sleep(0.01)
    family = [process, *psutil.Process(process.pid).children(recursive=True)]
    for member in family:
        member.send_signal(signal.SIGKILL) if isinstance(member, subprocess.Popen) else member.kill()
    process.communicate()
    finished = {path.name: path.stat().st_mtime_ns for path in (place / "killed").glob("*.tar.parquet")}
    assert 0 < len(finished) < SHARDS
    resumed, gone = start(place, "killed"), list[int]()
    while resumed.poll() is None and not gone:  # one of its actors dies on the way
        time.sleep(0.005)
        for child in psutil.Process(resumed.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                if "ray::MapWorker" in " ".join(child.cmdline()):
                    gone.append(child.pid)
                    child.kill()
    output, told = resumed.communicate(timeout=240)
    assert gone and resumed.returncode == 0, told
    assert f"{len(finished)} of them complete" in told
    assert f"{SHARDS * EACH} images in {SHARDS} shards, 0 of them" in output
    check(corpus, "killed")
    assert all((place / "killed" / name).stat().st_mtime_ns == stamp for name, stamp in finished.items())
