"No row is lost, none is another run's, and nothing that is not a run's own is replaced or removed."

import contextlib
import errno
import json
import os
import resource
import shutil
import tarfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import mid_nbdev.cli.evaluate
import mid_nbdev.cli.report
from mid_nbdev.__main__ import app
from mid_nbdev.analysis.results import keep_class_names, kept_class_names, per_class, table_bytes, write_table
from mid_nbdev.data.files import refuse_foreign_files
from mid_nbdev.data.images import ImageSource, failure_reason, is_passing, open_source
from mid_nbdev.data.reading import Patience, read_image, read_images
from mid_nbdev.data.sources import find_source
from mid_nbdev.errors import InputError
from mid_nbdev.evaluation import corpus
from mid_nbdev.evaluation.claims import remove_leftovers
from mid_nbdev.evaluation.evaluate import evaluate
from mid_nbdev.evaluation.runs import Run, damaged_parts, evaluate_run, read_crops
from mid_nbdev.evaluation.verify import make_origin, verify_run
from mid_nbdev.networks.classifier import Classifier, Preprocessing

assert mid_nbdev.cli.evaluate and mid_nbdev.cli.report  # each adds its commands
RECIPES = "CC,3RC"


class Tiny(torch.nn.Module):
    def __init__(self, scale=1.0, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.scale, self.trunk, self.fc = scale, torch.nn.Conv2d(3, 4, 7, stride=4), torch.nn.Linear(4, 10)

    def forward(self, crops):
        return self.scale * self.fc(self.trunk(crops).relu().mean((2, 3)))


def classifier(**how):
    return Classifier(Tiny(**how), Preprocessing(24, 16, "bilinear", (0.5,) * 3, (0.5,) * 3), "tiny")


def make_images(folder, count=40):
    "Images in four class folders, as many bytes each as every other."
    generator = np.random.default_rng(0)
    for number in range(count):
        path = folder / str(number % 4) / f"{number:02}.bmp"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (24, 30, 3), dtype=np.uint8)).save(path)
    return folder


@pytest.fixture
def images(tmp_path):
    return make_images(tmp_path / "images")


@pytest.fixture(autouse=True)
def small_parts_and_no_patience(monkeypatch):
    monkeypatch.setattr("mid_nbdev.evaluation.evaluate._CROPS_PER_PART", 64)  # 16 images
    monkeypatch.setattr("mid_nbdev.data.reading._WAITS", (0.001,) * 3)


def evaluated(images, out, recipes=RECIPES, network=None, **options):
    source = images if isinstance(images, ImageSource) else open_source(images, num_classes=10)
    settings = {"device": "cpu", "workers": 0, "batch_size": 64, "engine": "eager"} | options
    return evaluate_run(network or classifier(), source, recipes, out, **settings)


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# A folder that is no run


OWN = {
    "a table": ("parts/00000.parquet", lambda path: pd.DataFrame({"mine": [1]}).to_parquet(path)),
    "a file": ("parts/notes.txt", lambda path: path.write_text("mine")),
    "a backup": (".backup.2024-05-01.7", lambda path: path.write_text("mine")),
    "class names": ("classes.txt", lambda path: path.write_text("mine")),
    "an origin": ("origin.json", lambda path: path.write_text("{}")),
    "crops": ("crops/00000.safetensors", lambda path: path.write_text("mine")),
    "a manifest": ("manifest.json", lambda path: path.write_text('{"name": "My web application"}')),
    "a folder": ("photos/a.jpg", lambda path: path.write_text("mine")),
}


@pytest.mark.parametrize("what", OWN)
def test_a_folder_that_is_no_run_is_refused_and_stays_as_it_is(what, images, tmp_path):
    name, write = OWN[what]
    path = tmp_path / "out" / name
    path.parent.mkdir(parents=True)
    write(path)
    os.utime(path, (0, 0))  # older than a day
    before = contents(tmp_path / "out")
    with pytest.raises(InputError, match=r"out: contains .*; give a new or empty folder|not a manifest"):
        evaluated(images, tmp_path / "out")
    assert contents(tmp_path / "out") == before


def test_what_a_killed_start_left_is_no_obstacle(images, tmp_path):
    (tmp_path / "out" / "parts").mkdir(parents=True)
    (tmp_path / "out" / ".manifest.json.elsewhere.7").write_text("{")
    assert len(evaluated(images, tmp_path / "out").rows()) == 80


def test_only_names_that_a_run_writes_are_leftovers(tmp_path):
    for name in (".backup.2024-05-01.7", ".x.1.2", ".00001.parquet.elsewhere.7", ".classes.txt.elsewhere.7"):
        (tmp_path / name).write_text("")
        os.utime(tmp_path / name, (0, 0))
    assert remove_leftovers(tmp_path) == [".00001.parquet.elsewhere.7", ".classes.txt.elsewhere.7"]


def test_other_commands_refuse_folders_that_hold_something_else(tmp_path):
    for command in (["demo", "--out", tmp_path], ["report", tmp_path / "run", "--changed", tmp_path]):
        (tmp_path / "report").write_text("mine")
        done = CliRunner().invoke(app, list(map(str, command)))
        assert done.exit_code == 2 and contents(tmp_path) == {"report": b"mine"}
    with pytest.raises(InputError, match="contains the foreign file 'report'"):
        refuse_foreign_files(tmp_path, ["changed.csv"])


def test_predictions_of_a_corpus_are_not_mixed_with_other_files(tmp_path):
    (tmp_path / "unfinished").mkdir()
    (tmp_path / "unfinished" / "thesis.txt").write_text("mine")
    task = corpus._CorpusTask("in", "images", str(tmp_path), "m", None, "CC", 0, 5, "eager", None, 8, "bilinear")
    with pytest.raises(InputError, match="contains unfinished but no manifest.json of predictions"):
        corpus._prepare(task, {})
    assert contents(tmp_path) == {"unfinished/thesis.txt": b"mine"}


@pytest.mark.parametrize("inner", ["parts", "crops"])
def test_a_run_writes_through_no_link(inner, images, tmp_path):
    run = evaluated(images, tmp_path / "run", keep_crops=True)
    shutil.move(run.folder / inner, tmp_path / "mine")
    (run.folder / inner).symlink_to(tmp_path / "mine")
    next((tmp_path / "mine").iterdir()).write_text("mine")
    before = contents(tmp_path / "mine")
    with pytest.raises(InputError, match=f"run/{inner}: is a link; expected a folder, since a run writes only inside"):
        evaluated(images, run.folder, keep_crops=True)
    assert contents(tmp_path / "mine") == before
    with pytest.raises(InputError, match="is a link"):  # also without a manifest
        (run.folder / "manifest.json").unlink()
        evaluated(images, run.folder, keep_crops=True)
    (tmp_path / "changed").mkdir()
    (tmp_path / "changed" / "changed.png").symlink_to(tmp_path / "mine")
    with pytest.raises(InputError, match="contains the foreign file 'changed.png'"):
        refuse_foreign_files(tmp_path / "changed", ["changed.png"])


@pytest.mark.parametrize("ending", [".csv", ".json", ".jsonl", ".parquet", ".md", ".tex"])
def test_out_replaces_what_the_same_command_wrote_and_nothing_else(ending, tmp_path):
    found, out = pd.DataFrame({"image": ["a", "b"], "place": 1, "class": 2}), tmp_path / f"out{ending}"
    write_table(out, found)
    write_table(out, found.assign(reason="x"))
    assert out.read_bytes() == table_bytes(found.assign(reason="x"), ending)
    others = table_bytes(pd.DataFrame({"image": ["a"], "label": 3}), ending), b"mine", b"", b"\x00\xff"
    for mine in others:
        out.write_bytes(mine)
        with pytest.raises(InputError, match="exists and was not written by this command; name another file"):
            write_table(out, found)
        assert out.read_bytes() == mine


def test_commands_replace_no_file_of_the_user(images, tmp_path):
    run = evaluated(images, tmp_path / "run")
    mine = tmp_path / "labels.csv"
    mine.write_text("file,label\na.png,1\n")
    (tmp_path / "weights.pt2").write_text("mine")
    (tmp_path / "figure.svg").write_text("mine")
    for folder, name in (("table", "bench.csv"), ("picture", "bench.png")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_text("mine")
    before = contents(tmp_path)
    for words in (["report", run.folder, "--out", mine], ["report", run.folder, "--out", run.path(0)],
                  ["predict", images / "0" / "00.bmp", "--model", "efficientnet_lite0", "--out", mine],
                  ["export", "efficientnet_lite0", "--out", tmp_path / "weights.pt2"],
                  ["bench", "--out", tmp_path / "table"], ["bench", "--out", tmp_path / "picture"],
                  ["histogram", images, "--out", tmp_path / "figure"]):
        done = CliRunner().invoke(app, list(map(str, words)))
        assert done.exit_code == 2 and "exists and was not written by this command" in done.stderr, done.output
    assert contents(tmp_path) == before
    for words in (["report", run.folder, "--out", tmp_path / "report.csv"],) * 2:
        assert CliRunner().invoke(app, list(map(str, words))).exit_code == 0


def test_class_names_that_were_changed_are_no_names_of_the_run(images, tmp_path):
    run = evaluated(images, tmp_path / "run", origin=make_origin("tiny", images))
    names = [f"name {number}" for number in range(10)]
    keep_class_names(run, names)
    assert kept_class_names(run) == names and verify_run(run).problems == []
    for changed in (b"other\n" * 10, b"name 0\n", b""):
        (run.folder / "classes.txt").write_bytes(changed)
        assert "classes.txt: changed since `mid evaluate` wrote it; evaluate again" in verify_run(run).problems[0]
        done = CliRunner().invoke(app, ["report", str(run.folder), "--per-class", "3RC"])
        assert done.exit_code == 2 and "classes.txt: changed since" in done.stderr
    keep_class_names(run, names)
    assert kept_class_names(run) == names and verify_run(run).problems == []
    with pytest.raises(InputError, match="1 class names, but images of class 3"):  # of a run without a hash
        per_class(run.rows(), "CC", "3RC", names[:1])


# Passing troubles


TROUBLES = {
    "too many open files": OSError(errno.EMFILE, "Too many open files"),
    "input/output error": OSError(errno.EIO, "Input/output error"),
    "stale file handle": OSError(errno.ESTALE, "Stale file handle"),
    "connection timed out": OSError(errno.ETIMEDOUT, "Connection timed out"),
    "permission denied": PermissionError(errno.EACCES, "Permission denied"),
    "not enough memory": MemoryError(),
}


@contextlib.contextmanager
def trouble(monkeypatch, error, names, times=10**9):
    "Reading some files fails, so many times each."
    real, left = Path.read_bytes, dict.fromkeys(names, times)

    def read_bytes(path):
        if left.get(path.name, 0) > 0:
            left[path.name] -= 1
            raise error
        return real(path)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "read_bytes", read_bytes)
        yield


@pytest.mark.parametrize("what", TROUBLES)
def test_the_machines_troubles_are_told_from_the_files(what):
    reason = failure_reason(TROUBLES[what])
    assert is_passing(reason) and what in reason


def test_bad_files_stay_bad(tmp_path):
    Image.new("RGB", (40, 40)).save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:60])
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "loop.png").symlink_to("loop.png")
    names = ("cut.png", "text.png", "folder.png", "loop.png", "missing.png", "x" * 300)
    source = ImageSource(tmp_path, names, np.zeros(len(names), np.int64))
    reasons = [read.reason for read in read_images(source, range(len(names)), 24, "bilinear")]
    assert all(reasons) and not any(map(is_passing, reasons)), reasons


def test_a_trouble_of_a_moment_costs_nothing(images, tmp_path, monkeypatch):
    unbroken = evaluated(images, tmp_path / "unbroken")
    with trouble(monkeypatch, TROUBLES["input/output error"], ["03.bmp", "21.bmp"], times=2):
        run = evaluated(images, tmp_path / "run")
    assert contents(run.folder) == contents(unbroken.folder)


def test_patience_ends(monkeypatch, images):
    monkeypatch.setattr("mid_nbdev.data.reading._WAITS", (0.01,) * 3)
    source, patience = open_source(images, num_classes=10), Patience(0.05)
    with trouble(monkeypatch, TROUBLES["stale file handle"], [f"{number:02}.bmp" for number in range(40)]):
        start = time.perf_counter()
        reads = [read_image(source, number, 24, "bilinear", patience=patience) for number in range(40)]
        assert all(is_passing(read.reason) for read in reads) and patience.left < 0.01
        assert time.perf_counter() - start < 2


@pytest.mark.parametrize("what", ["too many open files", "not enough memory"])
def test_images_that_the_machine_could_not_read_are_tried_again(what, images, tmp_path, monkeypatch, caplog):
    unbroken = evaluated(images, tmp_path / "unbroken")
    with trouble(monkeypatch, TROUBLES[what], ["03.bmp", "21.bmp"]):
        run = evaluated(images, tmp_path / "run")
        failed = run.failed()
        assert len(failed) == 2 and failed["reason"].map(is_passing).all() and (run.folder / "failed.csv").exists()
        assert "2 images could not be read because of machine trouble" in caplog.text
        stamps = [run.path(number).stat().st_mtime_ns for number in range(3)]
        evaluated(images, tmp_path / "run")  # nothing can be read yet, and nothing is computed
        assert [run.path(number).stat().st_mtime_ns for number in range(3)] == stamps
    done = verify_run(run, classifier(), open_source(images, num_classes=10), device="cpu", workers=0)
    assert "2 images that failed can be read now" in done.problems[0] and "evaluate again" in done.problems[0]
    run = evaluated(images, tmp_path / "run")
    assert contents(run.folder) == contents(unbroken.folder) and "lacks images that can be read now" in caplog.text


def test_a_folder_that_was_away_is_not_a_missing_file(images, tmp_path):
    source, unbroken = open_source(images, num_classes=10), evaluated(images, tmp_path / "unbroken")
    source.fingerprint()
    frozen = source.fingerprint()
    moved = shutil.move(images / "2", tmp_path / "away")
    object.__setattr__(source, "fingerprint", lambda: frozen)
    run = evaluated(source, tmp_path / "run")
    assert len(run.failed()) == 10 and run.failed()["reason"].map(is_passing).all()
    shutil.move(moved, images / "2")
    assert contents(evaluated(images, tmp_path / "run").folder) == contents(unbroken.folder)


def test_no_free_file_handles(images):
    source = open_source(images, num_classes=10)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
        reason = read_image(source, 0, 24, "bilinear").reason
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert reason == "machine trouble: too many open files"


def test_a_part_that_cannot_be_read_just_now_is_kept(images, tmp_path):
    run = evaluated(images, tmp_path / "run")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
        with pytest.raises(OSError, match="Too many open files"):
            damaged_parts(run)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert not run.missing()


def test_the_command_says_so_and_ends_with_a_status(images, tmp_path, monkeypatch):
    from mid_nbdev.networks import models

    monkeypatch.setattr(models, "load_named", lambda *args, **kwargs: classifier())
    words = ["evaluate", "tiny", "--data", images, "--recipes", RECIPES, "--out", tmp_path / "run", "--device", "cpu"]
    words += ["--workers", "0", "--batch-size", "64", "--engine", "eager"]
    with trouble(monkeypatch, TROUBLES["input/output error"], ["03.bmp"]):
        done = CliRunner().invoke(app, list(map(str, words)))
        assert done.exit_code == 1 and "machine trouble: input/output error" in done.stderr
        assert "1 images could not be read because of machine trouble" in done.stderr
    done = CliRunner().invoke(app, list(map(str, words)))
    assert done.exit_code == 0 and not (tmp_path / "run" / "failed.csv").exists()


# Parts and their manifest


def test_parts_of_another_run_are_refused(images, tmp_path):
    one, two = evaluated(images, tmp_path / "one"), evaluated(images, tmp_path / "two", seed=1)
    shutil.copy(two.path(1), one.path(1))
    with pytest.raises(InputError, match="00001.parquet: a part of another run"):
        one.rows()
    kept = contents(one.folder)
    with pytest.raises(InputError, match="00001.parquet: a part of another run; move it out"):
        evaluated(images, one.folder)
    assert contents(one.folder) == kept
    assert "a part of another run" in verify_run(one).problems[0]
    done = CliRunner().invoke(app, ["report", str(one.folder)])
    assert done.exit_code == 2 and "a part of another run" in done.stderr


def test_a_copy_of_a_neighbour_is_computed_again(images, tmp_path, caplog):
    run = evaluated(images, tmp_path / "run")
    kept = contents(run.folder)
    shutil.copy(run.path(0), run.path(1))
    with pytest.raises(InputError, match="00001.parquet: a copy of part 0"):
        run.rows()
    evaluated(images, run.folder)
    assert contents(run.folder) == kept and "was a copy of part 0; computing it again" in caplog.text


def test_a_table_that_is_no_part_is_not_replaced(images, tmp_path):
    run = evaluated(images, tmp_path / "run")
    pd.DataFrame({"mine": [1]}).to_parquet(run.path(2))
    mine = run.path(2).read_bytes()
    with pytest.raises(InputError, match="00002.parquet"):
        evaluated(images, run.folder)
    assert run.path(2).read_bytes() == mine


@pytest.mark.parametrize("other", [{"seed": 1}, {"recipes": "CC,4RC"}, {"network": classifier(seed=1)}])
def test_without_its_manifest_a_run_is_not_taken_by_another(other, images, tmp_path):
    run = evaluated(images, tmp_path / "run")
    (run.folder / "manifest.json").unlink()
    kept = contents(run.folder)
    with pytest.raises(InputError, match="its manifest.json is missing, and its parts were computed with other set"):
        evaluated(images, run.folder, **other)
    assert contents(run.folder) == kept


def test_without_its_manifest_a_run_goes_on_with_the_same_settings(images, tmp_path, caplog):
    run = evaluated(images, tmp_path / "run")
    kept = contents(run.folder)
    (run.folder / "manifest.json").unlink()
    run.path(1).unlink()
    evaluated(images, run.folder)
    assert contents(run.folder) == kept and "manifest.json was missing and is written again" in caplog.text


def without_marks(run):
    "A run as it was before parts had marks and rows had hashes."
    manifest = {name: value for name, value in run.manifest.items() if name != "pixels"}
    (run.folder / "manifest.json").write_text(json.dumps(manifest))
    for number in run.present():
        file = pq.ParquetFile(run.path(number))
        table = file.read().drop(["content"])
        pq.write_table(table.replace_schema_metadata({"failed": "[]"}), run.path(number))
    return run.folder


def test_runs_of_before_are_still_read(images, tmp_path, caplog):
    caplog.set_level("INFO")
    run = evaluated(images, tmp_path / "run")
    older = Run.open(without_marks(run))
    assert "written by an older version" in caplog.text
    assert set(older.rows()["content"]) == {""} and len(older.rows()) == 80
    done = verify_run(older, classifier(), open_source(images, num_classes=10), device="cpu", workers=0)
    assert done.problems == [] and done.recomputed == 40
    with pytest.raises(InputError, match="pixels: the run has null"):
        evaluated(images, run.folder)


# An image that was replaced


def replace_image(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 255
    path.write_bytes(content)


def test_an_image_replaced_by_one_of_the_same_size_is_seen(images, tmp_path):
    run, source = evaluated(images, tmp_path / "run"), open_source(images, num_classes=10)
    assert run.rows()["content"].str.fullmatch("[0-9a-f]{16}").all() and run.rows()["content"].nunique() == 40
    replace_image(images / "3" / "23.bmp")
    some = verify_run(run, classifier(), source, images=1, device="cpu", workers=0)
    every = verify_run(run, classifier(), source, images=0, device="cpu", workers=0, every=True)
    assert some.problems == [] and every.recomputed == 0
    assert "1 of 40 images are not those that were evaluated (first: '3/23.bmp': its file has" in every.problems[0]
    sample = verify_run(run, classifier(), source, images=40, device="cpu", workers=0)
    assert "'3/23.bmp'" in sample.problems[0]


def test_a_run_does_not_go_on_with_other_images(images, tmp_path):
    run = evaluated(images, tmp_path / "run")
    run.path(2).unlink()
    for path in images.rglob("*.bmp"):
        replace_image(path)
    with pytest.raises(InputError, match="is not the image that was evaluated into .*run: its file"):
        evaluated(images, run.folder)


def test_the_image_that_is_gone_or_new_is_named(images, tmp_path):
    run = evaluated(images, tmp_path / "run")
    shutil.copy(images / "3" / "23.bmp", images / "3" / "new.bmp")
    with pytest.raises(InputError, match="with other settings.*\n(.*\n)*  the image '3/new.bmp' is not in the run"):
        evaluated(images, run.folder)
    (images / "3" / "23.bmp").unlink()
    with pytest.raises(InputError, match="\n  the run has the image '3/23.bmp', which does not exist now"):
        evaluated(images, run.folder)


def test_hashes_are_of_members_of_archives(images, tmp_path):
    rows = [(path.name, path.read_bytes()) for path in sorted(images.rglob("*.bmp"))]
    table = pa.table({"key": [name for name, _ in rows], "image": [content for _, content in rows], "label": [0] * 40})
    pq.write_table(table, tmp_path / "all.parquet")
    packed = evaluate(classifier(), find_source(tmp_path / "all.parquet", num_classes=10), "CC", device="cpu").rows
    loose = evaluate(classifier(), open_source(images, num_classes=10), "CC", device="cpu").rows
    assert dict(zip(packed["image"], packed["content"])) == {
        Path(image).name: content for image, content in zip(loose["image"], loose["content"])
    }


def test_another_decoder_is_named(images, tmp_path, monkeypatch):
    run = evaluated(images, tmp_path / "run")
    monkeypatch.setattr("mid_nbdev.evaluation.verify.decoder_hash", lambda *how: "another")
    done = verify_run(run, classifier(), open_source(images, num_classes=10), device="cpu", workers=0)
    assert "its decoder or resize is built differently" in done.problems[0]


# Crops that are kept


def test_crops_of_a_part_without_images(images, tmp_path):
    for number in range(16):
        (images / str(number % 4) / f"{number:02}.bmp").write_text("no image")
    source = open_source(images, num_classes=10)
    order = sorted(range(40), key=lambda number: source.names[number][-6:])
    run = evaluated(source.take(order), tmp_path / "run", keep_crops=True)
    again = evaluated(source.take(order), tmp_path / "run", keep_crops=True)
    assert len(run.failed()) == 16 and read_crops(again).logits.shape == (24, 4, 10)
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "a.png").write_text("no image")
    nothing = ImageSource(tmp_path / "none", ("a.png",), np.zeros(1, np.int64))
    run = evaluated(nothing, tmp_path / "nothing", keep_crops=True)
    assert len(read_crops(run).images) == 0 and verify_run(run).problems == []


def test_logits_beyond_half_precision_are_kept(images, tmp_path, caplog):
    run = evaluated(images, tmp_path / "run", recipes="CC", network=classifier(scale=1e7), keep_crops=True)
    logits = read_crops(run).logits
    assert logits.dtype == np.float32 and np.isfinite(logits).all() and np.abs(logits).max() > 65504
    assert "exceed half precision" in caplog.text
    assert verify_run(run).problems == []


def test_leftovers_among_crops_are_removed(images, tmp_path):
    run = evaluated(images, tmp_path / "run", keep_crops=True)
    leftover = run.folder / "crops" / ".00001.safetensors.elsewhere.7"
    leftover.write_text("")
    os.utime(leftover, (0, 0))
    evaluated(images, run.folder, keep_crops=True)
    assert not leftover.exists()


# Many files


def test_more_parquet_files_than_may_be_open(tmp_path):
    content = (make_images(tmp_path / "one", 1) / "0" / "00.bmp").read_bytes()
    (tmp_path / "shards").mkdir()
    for number in range(40):
        table = pa.table({"key": [f"{number}.bmp"], "image": [content], "label": [number % 10]})
        pq.write_table(table, tmp_path / "shards" / f"{number}.parquet")
    before, open_now = resource.getrlimit(resource.RLIMIT_NOFILE), len(os.listdir("/proc/self/fd"))
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (open_now + 20, before[1]))
        source = find_source(tmp_path / "shards", num_classes=10)
        assert len(source) == 40
        assert all(read.image is not None for read in read_images(source, range(40), 24, "bilinear"))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_an_archive_that_has_gone_is_not_the_images_fault(images, tmp_path):
    with tarfile.open(tmp_path / "images.tar", "w") as archive:
        archive.add(images, arcname=".")
    source = find_source(tmp_path / "images.tar", num_classes=10)
    assert read_image(source, 0, 24, "bilinear").image is not None
    (tmp_path / "images.tar").unlink()
    assert read_image(source, 0, 24, "bilinear").reason == "machine trouble: its archive no longer exists"
