"""Names, arguments, run folders, images, archives, surroundings: none of them runs code, opens what nobody named,
reaches the terminal as a command, or makes a small file large."""

import http.client
import importlib
import inspect
import io
import json
import os
import pickle
import resource
import subprocess
import sys
import tarfile
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import torchvision
from hostile import Command, many_strips, picture, png, saved
from test_right_reports import make_run, mid
from timm import create_model
from timm.models._builder import build_model_with_cfg

from mid_nbdev.analysis.results import changed_images, keep_class_names, plot_changed, table_bytes
from mid_nbdev.averaging.adaptive import fit_policy, stop_early
from mid_nbdev.averaging.wrapper import MID
from mid_nbdev.cli.app import print_table
from mid_nbdev.crops.recipes import Policy, make_plan, parse_recipe, parse_recipes
from mid_nbdev.data import files, reading, shards
from mid_nbdev.data.archives import ParquetArchive, TarArchive
from mid_nbdev.data.files import Limits, csv_bytes, owner, printable
from mid_nbdev.data.images import ImageSource, decode, read_labels
from mid_nbdev.data.reading import read_image, read_images
from mid_nbdev.data.sources import _read_real_labels, find_source
from mid_nbdev.deployment.export import ExportedGraph, export_graph
from mid_nbdev.errors import InputError
from mid_nbdev.evaluation.verify import make_origin, read_origin
from mid_nbdev.networks import process
from mid_nbdev.networks.classifier import Classifier, Preprocessing
from mid_nbdev.networks.models import _PLACES, load_classifier, parse_name

ROOT = Path(__file__).resolve().parent.parent
SMALL = Preprocessing(32, 32, "bilinear", (0.5,) * 3, (0.5,) * 3)
MOST = 600_000  # kilobytes more than before, at the peak


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return Classifier(create_model("test_resnet", num_classes=10), SMALL, "small")


def put(archive, name, content):
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


# ---- names of networks


ARGUMENTS = ["checkpoint_path=evil.pth", "checkpoint_path=evil", "pretrained_cfg=x",
             "pretrained_cfg_overlay={'file': 'a'}", "pretrained=True", "cache_dir=here", "weights=DEFAULT",
             "weights_backbone=DEFAULT", "file=a", "url=a",
             "hf_hub_id=a", "hf_hub_filename=a", "state_dict=1", "model_dir=a", "img_size={'a': 1}",
             "global_pool=/etc/passwd", "act_layer=../a", "global_pool=a.pth", "act_layer=https://a", "block=b'bytes'"]


@pytest.mark.parametrize("argument", ARGUMENTS)
@pytest.mark.parametrize("name", ["timm/test_resnet", "torchvision/resnet18", "local-dir:."])
def test_a_name_opens_nothing(name, argument, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for file in ("evil.pth", "evil"):
        Path(file).write_bytes(pickle.dumps(Command(tmp_path / "canary")))
    with pytest.raises(InputError, match="a name may not contain the argument .*, which could open files"):
        load_classifier(f"{name},{argument}", pretrained=False)
    assert not Path("canary").exists()


def test_plain_arguments_still_pass():
    given = "timm/test_resnet,num_classes=7,drop_path_rate=0.1,global_pool=avg,act_layer=relu"
    assert load_classifier(given, pretrained=False).num_classes == 7
    assert dict(parse_name("torchvision/inception_v3,aux_logits=False").arguments) == {"aux_logits": False}
    for long in ("timm/" + "x" * 10**5, "timm/test_resnet,a=" + "(" * 10**5, "timm/test_resnet,a=" + "(" * 900):
        with pytest.raises(InputError) as caught:
            parse_name(long)
        assert len(str(caught.value)) < 2000


def test_no_constructor_has_a_place_that_is_not_refused():
    "Of all parameters of timm's factory and builder, and of torchvision's constructors, those that name a place."
    taken = set(inspect.signature(create_model).parameters) | set(inspect.signature(build_model_with_cfg).parameters)
    for name in torchvision.models.list_models(module=torchvision.models):
        taken |= set(inspect.signature(torchvision.models.get_model_builder(name)).parameters)
    passing = {name for name in taken if not _PLACES.search(name)}
    smells = ("path", "file", "url", "dir", "cfg", "weights", "checkpoint", "hub", "cache")
    assert not {name for name in passing if any(smell in name for smell in smells)}
    assert {"pretrained_cfg", "checkpoint_path", "cache_dir", "weights", "weights_backbone"} & taken - passing


def test_the_lower_bounds_load_no_pickles():
    "timm before 1.0.26 unpickles by default; PyTorch before 2.6 runs code even with weights_only (CVE-2025-32434)."
    settings = (ROOT / "settings.ini").read_text()
    assert "timm>=1.0.26 " in settings and "torch>=2.6 " in settings and "torchvision>=0.21 " in settings


# ---- run folders


def test_what_another_account_names_is_not_opened(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    (tmp_path / "evil.pth").write_bytes(pickle.dumps(Command(tmp_path / "canary")))
    run = make_run(tmp_path / "run", "timm/test_resnet")
    own = make_origin("timm/test_resnet", tmp_path, None, tmp_path / "evil.pth")
    evil = {"model": f"timm/test_resnet,checkpoint_path={tmp_path / 'evil.pth'}", "data": "/dev", "fitted": "budget"}
    for told in (evil, {**own, **evil}, {**own, "data": "/etc"}, {**own, "mark": "é"}, {**own, "mark": ""}):
        (run.folder / "origin.json").write_text(json.dumps(told))
        assert set(read_origin(run.folder)) <= {"fitted"}
    said = mid("verify", run.folder)[1]
    assert "no record of its network and images written by this account" in said and "--model and --data" in said
    assert not (tmp_path / "canary").exists()
    (run.folder / "origin.json").write_text(json.dumps({**own, "fitted": "--budget 2"}))
    assert read_origin(run.folder)["data"] == str(tmp_path) and read_origin(run.folder)["fitted"] == "--budget 2"
    assert (tmp_path / "cache/hub/mid_nbdev/origin.key").stat().st_mode & 0o77 == 0
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "another"))
    assert "data" not in read_origin(run.folder)


def test_a_manifest_of_anybody_is_one_line(tmp_path):
    run = make_run(tmp_path / "run", "timm/test_resnet")
    path = run.folder / "manifest.json"
    manifest = json.loads(path.read_text())
    for wrong in ({"limits": {"x": 1}}, {"limits": 3}, {"preprocessing": {"checkpoint": "x"}}, {"preprocessing": [1]}):
        path.write_text(json.dumps({**manifest, **wrong}))
        assert "not a manifest" in mid("verify", run.folder, status=2)[1]


WRONG_MANIFESTS = {
    "nested": ("[" * 10**5, "it is nested too deeply"), "nested settings": ('{"a":' * 10**5, "nested too deeply"),
    "a list": ("[]", "it is not an object with named settings"),
    "nothing": ("null", "it is not an object with named settings"),
    "one setting": ('{"network": 1}', "it lacks 'data'"), "text": ("{", "Expecting property name"),
    "a number": ('{"data": 1}', "its settings have unexpected types"),
}


@pytest.mark.parametrize("what", WRONG_MANIFESTS)
def test_what_is_no_manifest_is_one_clear_line(what, tmp_path):
    run = make_run(tmp_path / "run", "timm/test_resnet")
    text, expected = WRONG_MANIFESTS[what]
    (run.folder / "manifest.json").write_text(text)
    for command in ("verify", "report"):
        said = mid(command, run.folder, status=2)[1]
        assert "manifest.json: not a manifest (" in said and expected in said and "Traceback" not in said
        assert "NoneType" not in said and "pop expected" not in said


def test_other_files_nested_too_deeply_are_refused(tmp_path):
    run = make_run(tmp_path / "run", "timm/test_resnet")
    (run.folder / "origin.json").write_text("[" * 10**5)
    assert "origin.json: not written by `mid evaluate`; delete it" in mid("verify", run.folder, status=2)[1]
    source = ImageSource(tmp_path, ("ILSVRC2012_val_00000001.JPEG",), np.zeros(1, np.int64))
    (tmp_path / "real.json").write_text("[" * 10**5)
    with pytest.raises(InputError, match="real.json: expected a JSON list of class lists"):
        _read_real_labels(source, tmp_path / "real.json")


# ---- what is printed


NASTY = "a\x1b[2J\x07\r\nb\x85\u2028\u202ec\x9b1m|<script>alert(1)</script>"


def without_commands(text):
    return not set(text) & set("\x1b\x07\r\x85\u2028\u202e\x9b")


def test_one_function_makes_text_printable():
    assert printable("tab\there\n\x1b[31m\u202e\x7f") == "tab\\there\\n\\x1b[31m\\u202e\\x7f"
    assert printable("ordinary ünï 图像 🖼 👩‍👩‍👧") == "ordinary ünï 图像 🖼 👩‍👩‍👧"
    assert printable(os.fsdecode(b"\xff") + "\ud800") == "\\xff\\ud800"
    assert len({printable(name) for name in ("\n", "\\n", "\\x0a", "\\\\n")}) == 4
    assert printable(printable(NASTY), keep="\\") == printable(NASTY)


def test_reports_of_any_run_are_text(tmp_path):
    run = make_run(tmp_path / "run", NASTY, data=NASTY, recipes="CC,5FC", failed=[(NASTY, NASTY)])
    keep_class_names(run, [NASTY] * 1000)
    assert len((run.folder / "classes.txt").read_text().split("\n")) == 1001
    for format in ("markdown", "latex", "csv"):
        per_class = ["--per-class", "5FC"] if format == "markdown" else []
        out, err = mid("report", run.folder, "--format", format, *per_class)
        assert without_commands(out) and without_commands(err), format
        assert "<script" not in out or format != "markdown"
    said = mid("verify", run.folder, "--images", 0)
    assert without_commands("".join(said))


def test_messages_are_text(tmp_path):
    for words in (["evaluate", f"timm/{NASTY}", "--data", tmp_path], ["report", f"{tmp_path}/{NASTY}"],
                  ["evaluate", "efficientnet_lite0", "--data", f"{tmp_path}/{NASTY}"],
                  ["evaluate", "efficientnet_lite0", "--data", tmp_path, "--recipes", "x" * 10**5]):
        out, err = mid(*words, status=2)
        assert without_commands(out + err) and "error: " in err and len(err) < 5000
        assert "\nb" not in err


def test_tables_are_text(capsys):
    table = pd.DataFrame({"image": [NASTY], "name": ["two\nlines"]})
    print_table(table)
    print_table(table, markdown=True)
    shown = capsys.readouterr().out
    assert without_commands(shown) and "two\\nlines" in shown
    assert "\\|&lt;script>" in shown and table_bytes(table, ".md").count(b"<script") == 0
    for ending in (".csv", ".md", ".tex"):
        assert without_commands(table_bytes(table, ending).decode())


def test_cells_are_no_formulas(tmp_path):
    cells = ["=HYPERLINK(1)", "+1+1", "-2+3", "@SUM(1)", "\t=1", "\r=1", "-1.5", "+3", "1e-05", "plain", "'quoted"]
    table = pd.DataFrame({"name": cells, "gain": [-1.5] * len(cells), "correct": True})
    read = pd.read_csv(io.BytesIO(csv_bytes(table)), dtype=str)
    assert read["name"].tolist() == ["'=HYPERLINK(1)", "'+1+1", "'-2+3", "'@SUM(1)", "'\\t=1", "'\\r=1", *cells[6:]]
    assert set(read["gain"]) == {"-1.5"} and set(read["correct"]) == {"True"}
    assert table_bytes(table, ".csv") == csv_bytes(table)
    assert json.loads(table_bytes(table, ".json"))[0]["name"] == "=HYPERLINK(1)"


def test_a_contact_sheet_shows_any_name(tmp_path):
    names = ["$\\frac{$.jpg", "=1$^$.jpg"]
    for name in names:
        (tmp_path / name).write_bytes(saved(picture(), "JPEG"))
    rows = pd.DataFrame({"image": [printable(name) for name in names] * 2, "recipe": ["CC"] * 2 + ["5FC"] * 2,
                         "label": 0, "prediction": [1, 1, 0, 0], "rank": [1, 1, 0, 0], "p_true": [0.1, 0.1, 0.9, 0.9]})
    changed = changed_images(rows, "CC", "5FC", ["$\\frac{$", "$^$ $"])
    plot_changed(changed, ImageSource(tmp_path, tuple(names), np.zeros(2, np.int64))).savefig(io.BytesIO())


def test_a_narrow_terminal_loses_nothing(capsys):
    path = "/a/long/path/to/a/folder/of/photographs/" * 3 + "photo.jpg"
    table = pd.DataFrame({"image": [path, ""], "class": ["285", "281"], "name": ["Egyptian cat", "tabby"],
                          "probability %": ["97.5", "1.1"]})
    print_table(table, width=80)
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80 and "Egyptian cat" in shown and "97.5" in shown
    lines = [line for line in shown.splitlines() if line.strip()]
    end = lines[0].index("class")
    assert "".join(line[:end].strip() for line in lines[2:]) == path


# ---- the surroundings


def test_the_cache_is_optional(tmp_path, monkeypatch, caplog, network):
    caplog.set_level("INFO")
    (tmp_path / "file").write_text("")
    monkeypatch.chdir(tmp_path)
    for home in (str(tmp_path / "file"), "~nobody-of-this-name"):
        process._passing_folder.cache_clear()
        monkeypatch.setenv("TORCH_HOME", home)
        folder = process.cache_folder()
        assert folder.is_dir() and not str(folder).startswith(str(tmp_path)) and "only for this process" in caplog.text
        assert process.cache_file("a").parent == folder
        caplog.clear()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    kept = tmp_path / "kept/hub/mid_nbdev/a.json"
    kept.parent.mkdir(parents=True)
    kept.write_text("[]")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "kept"))
    full = lambda *_, **__: (_ for _ in ()).throw(OSError(28, "No space left on device"))
    monkeypatch.setattr(process.tempfile, "TemporaryFile", full)
    assert process.cache_file("a.json") == kept and process.cache_file("b.json").parent != kept.parent
    assert "No space left on device" in caplog.text or process._passing_folder.cache_info().currsize
    process._passing_folder.cache_clear()


def test_the_doctor_survives(monkeypatch):
    from mid_nbdev.cli import machine

    def broken():
        raise KeyError("getpwuid(): uid not found: 12345")
    for side in ("_devices", "_engines", "_weights_found", "_slow_reasons"):
        monkeypatch.setattr(machine, side, broken)
    out, _ = mid("doctor", "--no-rate")
    assert out.count("not available") == 4


TWICE = """
from typer.testing import CliRunner
from mid_nbdev.__main__ import app
for words in {commands}:
    done = CliRunner().invoke(app, words)
    print(done.exit_code, repr(done.exception), done.output)
"""


@pytest.mark.long
def test_no_home_no_trace(tmp_path):
    "The doctor and an evaluation for a user whom the system does not know, without HOME."
    if os.getuid():
        pytest.skip("only root can be another user")
    who = ["setpriv", "--reuid=54321", "--regid=54321", "--clear-groups", "--inh-caps=+dac_override",
           "--ambient-caps=+dac_override"]
    (tmp_path / "a.png").write_bytes(saved(picture(), "PNG"))
    (tmp_path / "labels.csv").write_text("file,label\na.png,1\n")
    evaluate = ["evaluate", "efficientnet_lite0", "--data", str(tmp_path), "--labels", str(tmp_path / "labels.csv"),
                "--recipes", "CC", "--out", str(tmp_path / "run")]
    code = TWICE.format(commands=[["doctor", "--no-rate"], evaluate])
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": os.environ.get("PYTHONPATH", ""), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*who, sys.executable, "-c", code], env=environment, cwd=tmp_path, capture_output=True,
                          text=True, timeout=300)
    assert done.stdout.startswith("0 None") and "\n0 None" in done.stdout, done.stdout + done.stderr
    assert "cache /tmp/mid_nbdev-" in done.stdout and "not available" not in done.stdout, done.stdout
    assert not (tmp_path / "~").exists() and (tmp_path / "run" / "manifest.json").exists()


@pytest.mark.long
def test_odd_terminals(tmp_path):
    (tmp_path / "ünï.jpg").write_bytes(saved(picture(), "JPEG"))
    known = {name: os.environ[name] for name in ("PATH", "HOME", "PYTHONPATH") if name in os.environ}
    for odd in ({"MPLBACKEND": "nonsense", "PYTHONIOENCODING": "ascii"},
                {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}):
        words = ["predict", str(tmp_path / "ünï.jpg"), "--model", "efficientnet_lite0", "--recipe", "CC"]
        done = subprocess.run([sys.executable, "-m", "mid_nbdev", *words], env={**known, "OMP_NUM_THREADS": "1", **odd},
                              capture_output=True, timeout=300)
        assert done.returncode == 0 and b"Traceback" not in done.stderr, done.stderr
        assert b".jpg" in done.stdout and b"probability" in done.stdout


def test_containers_that_share_a_name_are_told_apart(monkeypatch):
    before = owner()
    machine, _, process = before.rpartition(".")
    assert process == str(os.getpid()) and owner() == before
    monkeypatch.setattr(files, "_mark", lambda path: "pid:[4026539999]" if path.endswith("pid") else "boot")
    files._machine.cache_clear()
    other = owner()
    files._machine.cache_clear()
    assert other != before and other.rpartition("-")[0] == machine.rpartition("-")[0]


# ---- recipes and tables of labels


def test_margins_and_long_recipes():
    for text in ("auto~0.00001", "auto~1e-05", "auto~0.123456789", "auto~1e20"):
        policy = parse_recipe(text)
        assert parse_recipe(str(policy)) == policy and policy.margin == float(text.partition("~")[2])
    assert [str(Policy(margin)) for margin in (0, 2, 0.2, 1e-05)] == ["auto~0", "auto~2", "auto~0.2", "auto~1e-05"]
    for wrong in ("auto~" + "9" * 400, "auto~1e999", "auto~nan", "auto~-1", "auto~inf"):
        with pytest.raises(InputError):
            parse_recipe(wrong)
    for margin in (float("inf"), float("nan"), -0.1):
        with pytest.raises(InputError, match="expected a number of at least 0"):
            Policy(margin)
    for read in (parse_recipe, parse_recipes, make_plan):
        for text in ("x" * 10**5, "5RC+" * 10**5, "table_" * 10**5, "auto~" + "1" * 10**5):
            with pytest.raises(InputError) as caught:
                read(text)
            assert len(str(caught.value)) < 500
    for budget in (float("nan"), float("inf"), 0.5):
        with pytest.raises(InputError, match="expected at least 1 crop per image"):
            fit_policy(torch.ones(3, 10, 2), budget)
    one = stop_early(torch.ones(3, 10, 1), Policy())
    assert one.crops.tolist() == [1, 1, 1] and one.probabilities.tolist() == [[1.0]] * 3


@pytest.mark.parametrize("content, line", [
    (b"file,label\na.jpg,1\n\n\nb.jpg,cat\n", 5),
    (b"\n\nfile,label\na.jpg,1\nb.jpg,cat\n", 5),
    (b"\r\nfile,label\r\n\r\nb.jpg,cat\r\n", 4),
    (b"file,label,note\na.jpg,1,\"two\nlines\"\nb.jpg,cat,\n", 4),
])
def test_line_numbers_are_the_editors(tmp_path, content, line):
    (tmp_path / "labels.csv").write_bytes(content)
    with pytest.raises(InputError, match=f"labels.csv, line {line}: "):
        read_labels(tmp_path, tmp_path / "labels.csv", 10)


# ---- small files, large memory


def test_a_line_of_pixels_stays_small(tmp_path):
    (tmp_path / "line.png").write_bytes(saved(picture(1, 2700), "PNG"))
    source = ImageSource(tmp_path, ("line.png",), np.zeros(1, np.int64))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    _, image, reason = read_image(source, 0, 256, "bilinear")[:3]
    assert image is None and "2700x1 pixels become 691200x256 when resized; the limit is 16,777,216" in reason
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MOST
    allowed = replace(source, limits=Limits(resized=2**25))
    assert read_image(allowed, 0, 64, "bilinear")[1].shape == (64, 172800, 3)
    with pytest.raises(InputError, match="expected 1 or more"):
        Limits(resized=0)


def test_what_is_read_ahead_is_bounded(tmp_path, monkeypatch):
    (tmp_path / "a.png").write_bytes(saved(picture(64, 64), "PNG"))
    for number in range(12):
        (tmp_path / f"{number}.png").symlink_to("a.png")
    source = ImageSource(tmp_path, tuple(f"{number}.png" for number in range(12)), np.zeros(12, np.int64))
    started = []
    real = reading.read_image
    monkeypatch.setattr(reading, "read_image", lambda source, number, *rest: started.append(number) or real(
        source, number, *rest))
    monkeypatch.setattr(reading, "_AHEAD_BYTES", 2 * 32 * 32 * 3)
    found = read_images(source, range(12), 32, "bilinear", workers=2)
    first = next(found)
    time.sleep(0.3)
    assert first[0] == 0 and len(started) <= 6
    assert [one[0] for one in found] == list(range(1, 12))
    found = read_images(source, range(12), 32, "bilinear", workers=2)
    next(found)
    found.close()


def test_a_tiff_is_not_listed_strip_by_strip(tmp_path):
    start = time.perf_counter()
    for source in (io.BytesIO(many_strips(300_000)), tmp_path / "a.tif"):
        if isinstance(source, Path):
            source.write_bytes(many_strips(300_000))
        with pytest.raises(InputError, match="entry 273 lists 300,000 numbers; the limit is 262,144"):
            decode(source, 32, "bilinear")
    assert time.perf_counter() - start < 0.5
    assert decode(io.BytesIO(saved(picture(), "TIFF")), 32, "bilinear").shape == (32, 42, 3)


def test_a_label_or_header_of_gigabytes_is_not_read(tmp_path):
    with tarfile.open(tmp_path / "label.tar", "w") as archive:
        put(archive, "0.jpg", saved(picture(), "JPEG"))
        long = tarfile.TarInfo("0.cls")
        long.size = 3 * 2**30
        archive.fileobj.write(long.tobuf())
        place = archive.fileobj.tell()
    with open(tmp_path / "label.tar", "r+b") as file:
        file.seek(place)
        file.write(b"7 ")
        file.truncate(place + long.size + 1024)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError, match="label '7"):
        find_source(tmp_path / "label.tar", num_classes=5)
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, 3 * 2**30
    with open(tmp_path / "header.tar", "wb") as file:
        file.write(header.tobuf())
        file.truncate(header.size + 2048)
    with pytest.raises(InputError, match="a header of 3,221,225,472 bytes; the limit is 1,048,576"):
        TarArchive([tmp_path / "header.tar"])
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MOST


def repeated(path, kind, size, rows, **options):
    "A Parquet file whose image is one value, many times."
    value = b"x" * size
    cells = [value if pa.types.is_binary(kind) else {"bytes": value, "path": "a"}] * rows
    table = {"image": pa.array(cells, kind), "label": [1] * rows, "key": [f"{row}" for row in range(rows)]}
    pq.write_table(pa.table(table), path, compression="zstd", **options)


@pytest.mark.parametrize("kind", [pa.binary(), pa.struct([("bytes", pa.binary()), ("path", pa.string())])])
def test_an_image_repeated_is_held_once(tmp_path, kind):
    repeated(tmp_path / "a.parquet", kind, 2**20, 50, dictionary_pagesize_limit=2**30)
    archive = ParquetArchive([tmp_path / "a.parquet"], "a")
    before = pa.total_allocated_bytes()
    assert archive.size("7") == 2**20 and archive.open("49").read() == b"x" * 2**20
    assert pa.total_allocated_bytes() - before < 8 * 2**20  # of 50 in the column
    shard = shards.Shard("a", [str(tmp_path / "a.parquet")], ["a.parquet"])
    items = shards.read_shard(str(tmp_path), "parquet", shard, Limits())
    next(items)
    assert pa.total_allocated_bytes() - before < 8 * 2**20 and len(list(items)) == 49


def test_row_groups_and_names_have_limits(tmp_path, monkeypatch):
    repeated(tmp_path / "a.parquet", pa.binary(), 1000, 50, use_dictionary=False)
    monkeypatch.setattr(files, "_MOST_GROUP", 10_000)
    with pytest.raises(InputError, match="column image unpacks to .* bytes in one row group; the limit is 10,000"):
        ParquetArchive([tmp_path / "a.parquet"], "a")
    monkeypatch.undo()
    pq.write_table(pa.table({"image": [b"a"], "label": [1], "key": ["x" * 10**6]}), tmp_path / "b.parquet")
    with pytest.raises(InputError, match="a name or label of 1,000,000 bytes; the limit is 65,536"):
        ParquetArchive([tmp_path / "b.parquet"], "b")


def test_pieces_and_samples_of_a_corpus_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "_PIECE_BYTES", 10_000)
    items = [shards._Item(str(number), saved(picture(64, 64), "PNG")) for number in range(9)]
    pieces = list(shards.decoded_pieces(iter(items), 48, "bilinear", Limits()))
    assert [len(json.loads(piece["keys"])) for piece in pieces] == [2, 2, 2, 2, 1] and pieces[-1]["last"]
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for number in range(4):
            put(archive, f"0.{number}.png", bytes(400))
    shard = shards.Shard("a", [str(tmp_path / "a.tar")], ["a.tar"])
    items = list(shards.read_shard(str(tmp_path), "tar", shard, Limits(file_size=1000)))
    assert [len(item.content) for item in items] == [400, 400, 0, 0] and "of which 200 are left" in items[2].reason


# ---- the graph and the server


def test_the_graph_computes_what_the_crops_need(network):
    lines = [picture(1000, 1), picture(40, 3000)]
    wrapper = MID(network, "5FC+3RC", seed=2)
    graph = ExportedGraph(wrapper, key="k")
    graph.swaps = False  # else `torch.cond` compiles for seconds; the order of passes shows in the last gray level
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with torch.no_grad():
        ours = torch.stack([graph(torch.from_numpy(np.array(image))) for image in lines])
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MOST
    assert (ours - wrapper(lines, keys=["k"] * 2)).abs().max() < 1e-3


@pytest.fixture(scope="module")
def server(tmp_path_factory, network):
    "The example server with a small graph, on a port of its own."
    pytest.importorskip("waitress", reason="waitress is not installed")
    pytest.importorskip("onnxscript", reason="onnxscript is not installed")
    from waitress.server import create_server

    path = tmp_path_factory.mktemp("graph") / "small.onnx"
    expected = replace(SMALL, resize_to=256, crop_size=224)
    wide = Classifier(create_model("test_resnet", num_classes=10), expected, "small")
    export_graph(MID(wide, "10RC"), path, [f"name {number}" for number in range(10)])
    sys.path.insert(0, str(ROOT / "examples"))
    example = importlib.import_module("serve")
    sys.path.pop(0)
    limits = {**example.LIMITS, "channel_timeout": 1}
    made = create_server(example.make_app(str(path)), host="127.0.0.1", port=0, **limits)
    threading.Thread(target=made.run, daemon=True).start()
    yield example, made.effective_port
    made.close()


def ask(port, content, method="POST", headers=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request(method, "/", content, headers or {})
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read() or "null") if answer.status < 500 and "json" in (
        answer.getheader("Content-Type") or "") else None


@pytest.mark.long
def test_the_server_answers_and_refuses(server):
    example, port = server
    status, best = ask(port, saved(picture(), "JPEG"))
    assert status == 200 and len(best) == 5 and best[0]["name"].startswith("name ")
    for width, height in ((1000, 1), (5000, 40), (1, 1)):
        start = time.perf_counter()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        assert ask(port, saved(picture(height, width), "PNG"))[0] == 200
        assert time.perf_counter() - start < 3
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MOST
    for kind in ("GIF", "TIFF", "BMP", "PPM"):
        assert ask(port, saved(picture(), kind))[0] == 400
    for wrong in (b"", b"text", saved(picture(), "PNG")[:200], b"%!PS-Adobe-3.0 EPSF-3.0\n"):
        assert ask(port, wrong)[0] == 400
    for large in (png(5000, 5000), png(60000, 60000)):
        assert ask(port, large)[0] == 413
    assert ask(port, b"", method="GET")[0] == 405
    assert ask(port, b"", headers={"Content-Length": str(2**24 + 1)})[0] == 413
    assert ask(port, b"", headers={"Content-Length": "-1"})[0] == 400
    assert ask(port, b"", headers={"Content-Length": "9" * 30})[0] in (400, 413)
    assert ask(port, saved(picture(), "WEBP"))[0] == 200


@pytest.mark.long
def test_the_server_does_not_wait_for_ever(server):
    import socket

    example, port = server
    silent = [socket.create_connection(("127.0.0.1", port), timeout=20) for _ in range(6)]
    for connection in silent:
        connection.sendall(b"POST / HTTP/1.1\r\nContent-Length: 100\r\n\r\nab")
    assert ask(port, saved(picture(), "JPEG"))[0] == 200
    start = time.perf_counter()
    assert all(connection.recv(1000) == b"" for connection in silent) and time.perf_counter() - start < 15
    assert example.LIMITS["connection_limit"] <= 64 and example.LIMITS["max_request_body_size"] <= 2**24
