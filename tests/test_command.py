"The installed `mid` command, run as a user runs it."

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import pytest

MID = shutil.which("mid", path=str(Path(sys.executable).parent)) or "mid"


def run_mid(folder, *words):
    environment = {name: value for name, value in os.environ.items() if name != "IN_TEST"}
    told = {"capture_output": True, "text": True}
    return subprocess.run([MID, *map(str, words)], cwd=folder, env=environment, timeout=300, **told)


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    return folder, run_mid(folder, "demo")


def test_demo_runs_and_writes_what_it_says(demo):
    folder, done = demo
    assert done.returncode == 0, done.stderr
    assert "10RC+10MRC@feature" in done.stdout and "prove nothing about accuracy" in done.stdout
    for name in ("crops.png", "gains.png", "report.csv", "run/manifest.json"):
        assert (folder / "mid-demo" / name).stat().st_size > 100
    table = pd.read_csv(folder / "mid-demo" / "report.csv")
    assert len(table) == 16 and (table["images"] == 20).all()


def test_demo_twice_computes_nothing_and_says_the_same(demo):
    folder, first = demo
    part = folder / "mid-demo" / "run" / "parts" / "00000.parquet"
    written = part.stat().st_mtime_ns
    again = run_mid(folder, "demo")
    assert (again.returncode, again.stdout) == (0, first.stdout)
    assert part.stat().st_mtime_ns == written


def test_report_of_the_demo(demo):
    folder, _ = demo
    done = run_mid(folder, "report", "mid-demo/run", "--format", "csv", "--baseline", "5FC")
    assert done.returncode == 0 and done.stderr == ""
    assert len(done.stdout.splitlines()) == 17


def test_a_reader_that_has_had_enough_is_no_mistake(demo):
    folder, _ = demo
    line = f"'{MID}' report mid-demo/run --format csv | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], cwd=folder, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (1, "")


def test_no_traceback_for_a_users_mistakes(tmp_path):
    (tmp_path / "code.pth").write_bytes(b"\x80\x04cos\nsystem\n(S'true'\ntR.")
    mistakes = {
        ("evaluate", "resnet50", "--data", "."): "timm/resnet50",
        ("evaluate", "efficientnet_lite0", "--data", "missing"): "data missing",
        ("evaluate", "efficientnet_lite0", "--data", ".", "--checkpoint", "code.pth"): "checkpoint code.pth",
        ("evaluate", "efficientnet_lite0", "--data", ".", "--recipes", "20XC"): "'20XC'",
        ("evaluate", "timm/resnet18", "--data", ".", "--crop", "0"): "crop 0",  # before any weights are asked for
        ("report", "."): "no run",
        ("predict", "missing.jpg"): "--model",
    }
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda words: run_mid(tmp_path, *words), mistakes))
    for (words, told), done in zip(mistakes.items(), answers, strict=True):
        assert done.returncode == 2, (words, done)
        assert "Traceback" not in done.stderr and told in done.stderr and done.stdout == "", (words, done)
