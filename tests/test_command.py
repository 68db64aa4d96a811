"The installed `mid` command, run as a user runs it."

import contextlib
import json
import logging
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from timm import create_model
from typer.testing import CliRunner

from mid_nbdev.__main__ import app
from mid_nbdev.data.images import demo_source

MID = shutil.which("mid", path=str(Path(sys.executable).parent)) or "mid"


def run_mid(folder, *words):
    environment = {name: value for name, value in os.environ.items() if name != "IN_TEST"}
    command = [MID, *map(str, words)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment, timeout=300)


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    return folder, run_mid(folder, "demo")


def test_demo_runs_and_writes_what_it_says(demo):
    folder, done = demo
    assert done.returncode == 0, done.stderr
    assert "10RC+10MRC@feature" in done.stdout and "too few to measure a gain" in done.stdout
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
    done = mid(folder, "report", "mid-demo/run", "--format", "csv", "--baseline", "5FC")
    assert done.exit_code == 0 and done.stderr == ""
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
        ("report", "."): "not a run",
        ("predict", "missing.jpg"): "--model",
    }
    for words, told in mistakes.items():
        done = mid(tmp_path, *words)
        assert (done.exit_code, done.stdout) == (2, ""), (words, done)
        assert "Traceback" not in done.stderr and told in done.stderr, (words, done)
    installed = run_mid(tmp_path, *next(iter(mistakes)))  # the command itself, once
    assert (installed.returncode, installed.stdout) == (2, "") and "Traceback" not in installed.stderr


SHARED = {  # options that evaluate, predict, export and verify share, each with a wrong value and a word of the message
    "--checkpoint": ("names.txt", "checkpoint names.txt"),
    "--num-classes": ("0", "--num-classes 0: expected 1 or more"),
    "--class-names": ("nowhere.txt", "nowhere.txt"),
    "--class-order": ("size", "--class-order 'size': expected number or text"),
    "--resize": ("0", "resize 0"),
    "--crop": ("-1", "crop -1"),
    "--interpolation": ("nearest", "interpolation 'nearest'"),
    "--mean": ("123.7,116.3,103.5", "--mean '123.7,116.3,103.5': expected three numbers"),
    "--std": ("0,0,0", "std (0.0, 0.0, 0.0)"),
    "--device": ("tpu", "device 'tpu'"),
    "--dtype": ("int3", "dtype 'int3'"),
    "--engine": ("abacus", "engine 'abacus'"),
    "--batch-size": ("0", "--batch-size 0: expected 1 or more"),
    "--workers": ("-1", "--workers -1: expected 0"),
}
LEFT_OUT = {
    "export": {"--device", "--dtype", "--engine", "--batch-size", "--workers"},  # whoever opens the file decides
    "verify": {"--resize", "--crop", "--interpolation", "--mean", "--std"},  # the run's own, or it would be another run
}
OWN = ("--checkpoint", "own.pth", "--num-classes", "4")
COMMANDS = {
    "evaluate": ("timm/test_resnet", *OWN, "--data", "animals", "--recipes", "CC", "--engine", "eager"),
    "predict": ("animals", "--model", "timm/test_resnet", *OWN, "--recipe", "CC", "--top", "1"),
    "export": ("timm/test_resnet", *OWN, "--recipe", "CC", "--out", "own.pt2"),
    "verify": ("run",),
}


def mid(folder, *words):
    "A command in this process."
    with contextlib.chdir(folder):
        return CliRunner(env={"COLUMNS": "200", "TERM": "dumb"}).invoke(app, list(map(str, words)))


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    "A folder with a network of one's own, photographs in class folders, and a run."
    folder, photos = tmp_path_factory.mktemp("own"), demo_source()
    torch.manual_seed(0)
    torch.save(create_model("test_resnet", num_classes=4).state_dict(), folder / "own.pth")
    (folder / "names.txt").write_text("ant\nbee\ncat\ndog\n")
    for number, animal in enumerate(("ant", "bee", "cat", "dog"), start=5):
        (folder / "animals" / animal).mkdir(parents=True)
        shutil.copy(photos.root / photos.names[number], folder / "animals" / animal)
    done = mid(folder, "evaluate", *COMMANDS["evaluate"], "--device", "cpu", "--out", "run")
    assert done.exit_code == 0, done.output
    return folder


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("option", SHARED)
def test_a_wrong_value_of_a_shared_option_is_refused_in_a_line(own, command, option):
    value, told = SHARED[option]
    done = mid(own, command, *COMMANDS[command], option, value)
    assert done.exit_code == 2 and done.stdout == ""
    if option in LEFT_OUT.get(command, ()):
        assert f"No such option: {option}" in done.stderr
        return
    said = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(said) == 1 and told in said[0] and said[0] == done.stderr.splitlines()[-1]


PREPROCESSING = ("--resize", "200", "--crop", "144", "--interpolation", "bicubic",
                 "--mean", "0.4,0.4,0.4", "--std", "0.3,0.3,0.3")
COMPUTE = ("--device", "cpu", "--dtype", "bfloat16", "--engine", "eager", "--batch-size", "2", "--workers", "0")


def predicted(folder, *words):
    done = mid(folder, "predict", *COMMANDS["predict"], "--out", "found.csv", *words)
    assert done.exit_code == 0, done.output
    return pd.read_csv(folder / "found.csv")


CHANGING = [*zip(PREPROCESSING[::2], PREPROCESSING[1::2], strict=True), ("--dtype", "bfloat16")]


@pytest.mark.parametrize("option, value", CHANGING)
def test_predict_computes_with_what_is_given(own, option, value):
    assert (predicted(own, option, value)["probability"] - predicted(own)["probability"]).abs().max() > 1e-6


def test_predict_answers_the_same_however_it_is_computed(own):
    plain = predicted(own)
    assert list(plain["name"]) == list(plain["class"])
    same = ("--batch-size", "2", "--workers", "0", "--device", "cpu", "--engine", "auto", "--class-names", "names.txt")
    for words in zip(same[::2], same[1::2], strict=True):
        again = predicted(own, *words)
        assert (again["probability"] - plain["probability"]).abs().max() < 1e-6
        assert (again["class"] == plain["class"]).all()
    assert list(again["name"]) == [("ant", "bee", "cat", "dog")[number] for number in plain["class"]]


def test_evaluate_writes_down_what_was_given(own):
    given = (*PREPROCESSING, *COMPUTE, "--class-names", "names.txt")
    done = mid(own, "evaluate", *COMMANDS["evaluate"], *given, "--out", "given")
    assert done.exit_code == 0, done.output
    manifest = json.loads((own / "given" / "manifest.json").read_text())
    assert list(manifest["preprocessing"].values()) == [200, 144, "bicubic", [0.4, 0.4, 0.4], [0.3, 0.3, 0.3]]
    assert [manifest[name] for name in ("dtype", "engine", "batch_size")] == ["bfloat16", "eager", 2]


def test_export_writes_the_preprocessing_that_was_given(own):
    done = mid(own, "export", *COMMANDS["export"], *PREPROCESSING, "--class-names", "names.txt", "--resized",
               "--out", "given.pt2")
    assert done.exit_code == 0, done.output
    names = ("resize_to", "crop", "interpolation", "class_names")
    notes = dict.fromkeys(names, "")
    torch.export.load(own / "given.pt2", extra_files=notes)
    assert [notes[name] for name in names] == ["200", "144", "bicubic", '["ant", "bee", "cat", "dog"]']


def test_verify_computes_again_as_it_is_told(own):
    same = mid(own, "verify", "run", "--device", "cpu", "--class-names", "names.txt", *OWN)
    assert same.exit_code == 0 and "4 of them identical" in same.stdout, same.output
    other = mid(own, "verify", "run", *COMPUTE)
    assert other.exit_code == 0 and "0 of them identical" in other.stdout, other.output


def test_ray_refuses_what_its_workers_decide(own):
    corpus = ("animals", "--model", "timm/test_resnet", "--engine", "ray", "--out", "corpus")
    for words in (("--dtype", "bfloat16"), ("--batch-size", "2"), ("--device", "cpu"), PREPROCESSING[:2]):
        done = mid(own, "predict", *corpus, *words)
        assert done.exit_code == 2 and done.stderr.startswith(f"error: {words[0]} does not work with --engine ray")


def test_what_is_not_there_is_refused_in_a_line(own):
    calls = (
        mid(own, *["choose", "timm/test_resnet", "--checkpoint", "own.pth", "--num-classes", "4", "--data", "nowhere"]),
        mid(own, *["calibrate", "nowhere"]),
        mid(own, *["explore", "efficientnet_lite0", "--data", "nowhere"]),
    )
    for done in calls:
        assert done.exit_code == 2 and "Traceback" not in done.stderr, done.stderr
        assert re.match("error: .*nowhere", done.stderr.splitlines()[-1]), done.stderr


def test_a_command_leaves_logging_as_it_was(own):
    logger = logging.getLogger("mid_nbdev")
    before = logger.level, list(logger.handlers)
    assert mid(own, "verify", "nowhere").exit_code == 2
    assert (logger.level, list(logger.handlers)) == before


def test_help_loads_neither_torch_nor_pandas():
    code = "import sys, mid_nbdev.__main__; print({'torch', 'timm', 'pandas', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "set()\n", done
