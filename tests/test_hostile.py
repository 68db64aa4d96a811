"Hostile and broken input: each file gets one clear answer, is counted, changes no other row and executes nothing."

import os
import resource
from dataclasses import replace
from importlib.util import find_spec

import hostile
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from timm import create_model

from mid_nbdev.crops.recipes import parse_recipe, parse_recipes
from mid_nbdev.data.files import Limits, image_files, printable
from mid_nbdev.data.images import ImageSource, open_source, read_labels
from mid_nbdev.data.reading import read_image
from mid_nbdev.data.sources import find_source
from mid_nbdev.errors import InputError
from mid_nbdev.evaluation.evaluate import evaluate
from mid_nbdev.evaluation.runs import evaluate_run
from mid_nbdev.networks.classifier import Classifier, Preprocessing
from mid_nbdev.networks.models import fill, read_checkpoint

EXAMPLES = int(os.environ.get("MID_EXAMPLES", 100))
fuzzed = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    derandomize=EXAMPLES == 100,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def small_network():
    torch.manual_seed(0)
    return create_model("test_resnet", num_classes=10)


@pytest.fixture(scope="module")
def classifier():
    return Classifier(small_network(), Preprocessing(256, 64, "bilinear", (0.5,) * 3, (0.5,) * 3), "small")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    "The files with their expected answers, a canary that must not appear, and labels for all of them."
    place = tmp_path_factory.mktemp("hostile")
    expected = hostile.make_corpus(place / "files", place / "canary")
    hostile.write_labels(place / "labels.csv", {name: number % 10 for number, name in enumerate(sorted(expected))})
    return place, expected


def test_every_file_gets_its_answer_and_changes_no_other(corpus, classifier):
    place, expected = corpus
    assert len(expected) >= 60
    source = open_source(place / "files", place / "labels.csv", 10)
    run = evaluate_run(classifier, source, "CC,4RC", place / "run", device="cpu", batch_size=8, workers=2)
    rows, reasons = run.rows(), dict(run.failed().values.tolist())
    for name, answer in expected.items():
        reason, shown = reasons.get(printable(name), ""), printable(name)
        assert (rows["image"] == shown).sum() == (0 if reason else 2), name
        assert (reason == "") == (answer == hostile.ROW), (name, answer, reason)
        assert answer in (hostile.ROW, hostile.ANY_REASON) or answer in reason, (name, answer, reason)
        assert "\n" not in reason and len(reason) <= 200 and str(place) not in reason
    assert len(rows) + 2 * len(reasons) == 2 * len(expected)
    assert not (place / "canary").exists()
    kept = [number for number, name in enumerate(source.names) if expected[name] == hostile.ROW]
    good = replace(source, names=tuple(source.names[number] for number in kept), labels=source.labels[kept])
    alone = evaluate_run(classifier, good, "CC,4RC", place / "good", device="cpu", batch_size=8, workers=0).rows()
    exact = ["image", "label", "recipe", "prediction", "rank", "crops"]
    assert rows[exact].equals(alone[exact])
    assert np.abs(rows["p_true"] - alone["p_true"]).max() < 1e-6
    again = evaluate_run(classifier, source, "CC,4RC", place / "run", device="cpu", workers=0)
    assert again.rows().equals(rows) and len(again.failed()) == len(reasons)


def test_archives_and_tables_execute_nothing(tmp_path, classifier):
    if find_spec("ray"):
        import ray.data  # noqa: F401 - registers types that pyarrow alone would unpickle
    expected = hostile.archives(tmp_path / "archives", tmp_path / "canary")
    for name, answer in expected.items():
        if isinstance(answer, str):
            with pytest.raises(InputError) as caught:
                find_source(tmp_path / "archives" / name, num_classes=10)
            assert answer in str(caught.value) and "\n" not in str(caught.value), (name, str(caught.value))
            continue
        source = find_source(tmp_path / "archives" / name, num_classes=10)
        part = evaluate(classifier, source, "CC", device="cpu", workers=0)
        reasons = dict(part.failed.values.tolist())
        assert set(source.names) == set(answer) and len(part.rows) + len(reasons) == len(answer), name
        assert all((not reasons.get(image)) == (said == hostile.ROW) for image, said in answer.items()), (name, reasons)
        assert all(
            said in (hostile.ROW, hostile.ANY_REASON) or said in reasons[image] for image, said in answer.items()
        ), (name, reasons)
    assert not (tmp_path / "canary").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["archives"]


def test_a_dataset_with_a_script_is_refused(tmp_path, monkeypatch):
    pytest.importorskip("datasets", reason="datasets is not installed")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "photos.py").write_text(f"open({str(tmp_path / 'canary')!r}, 'w')\nraise SystemExit")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="data hfds/./photos: "):
        find_source("hfds/./photos")
    assert not (tmp_path / "canary").exists()


def test_limits_are_options(corpus, tmp_path, classifier):
    place, _ = corpus
    source = ImageSource(place / "files", ("good.jpg", "hundred_megapixels.jpg"), np.array([1, 2]))
    reasons = [
        read_image(replace(source, limits=limits), number, 256, "bilinear")[2]
        for limits in (Limits(pixels=10**6), Limits(file_size=10**4))
        for number in (0, 1)
    ]
    assert reasons[0] == reasons[2] == ""
    assert reasons[1] == "10000x10000 pixels; the limit is 1,000,000" and "bytes; the limit is 10,000" in reasons[3]
    run = evaluate_run(classifier, source, "CC", tmp_path / "run", device="cpu", workers=0)
    assert len(run.rows()) == 2
    with pytest.raises(InputError, match="limits.pixels: the run has 178956970, now it is 1000"):
        evaluate_run(
            classifier, replace(source, limits=Limits(pixels=1000)), "CC", tmp_path / "run", device="cpu", workers=0
        )


def test_what_is_refused_costs_no_memory(corpus):
    place, _ = corpus
    source = ImageSource(
        place / "files",
        ("bomb.png", "bomb.gif", "sparse.jpg", "text_bomb.png", "column.png", "large.png"),
        np.arange(6),
    )
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert all(read_image(source, number, 256, "bilinear")[1] is None for number in range(6))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


@pytest.mark.parametrize("what", hostile.LABELS)
def test_labels_that_are_wrong_are_named(what, tmp_path):
    content, message = hostile.LABELS[what]
    (tmp_path / "good.jpg").write_bytes(hostile.saved(hostile.picture(), "JPEG"))
    (tmp_path / "labels.csv").write_bytes(content)
    with pytest.raises(InputError) as caught:
        open_source(tmp_path, tmp_path / "labels.csv", 10)
    assert message == hostile.ANY_REASON or message in str(caught.value)
    assert len(str(caught.value)) < 6000 and "\n" not in str(caught.value)


def test_folders_that_lead_in_circles(tmp_path):
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "good.jpg").write_bytes(b"")
    for number in range(6):
        (tmp_path / "0" / f"up{number}").symlink_to(tmp_path)
    assert image_files(tmp_path) == ["0/good.jpg"]


def test_checkpoints_execute_nothing_and_are_named(tmp_path):
    network, canary = small_network(), tmp_path / "canary"
    files = hostile.checkpoints(network, canary)
    for name, (content, message) in files.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError) as caught:
            fill(small_network(), read_checkpoint(tmp_path / name), f"checkpoint {name}")
        assert message == hostile.ANY_REASON or message in str(caught.value), (name, str(caught.value))
        assert "\n" not in str(caught.value), name
    assert not canary.exists() and len(files) >= 20
    (tmp_path / "loop.pth").symlink_to("loop.pth")
    for name in ("loop.pth", "missing.pth", "."):
        with pytest.raises(InputError, match="no such file"):
            read_checkpoint(tmp_path / name)


RECIPE_LETTERS = st.text(alphabet="0123456789CFRMcfrm+@#, \n²٣ßfeatursoxlgi", max_size=30)


ALMOST = st.from_regex(
    r"[0-9]{0,5}(CC|M?FULL|M?FC|M?RC)(#[0-9]{0,7})?(\+[0-9]{0,6}M?[RF]C)?(@[a-z]*)?", fullmatch=True
)


@fuzzed
@given(st.one_of(RECIPE_LETTERS, st.text(max_size=40), ALMOST))
def test_any_text_is_a_recipe_or_refused(text):
    try:
        recipe = parse_recipe(text)
    except InputError as error:
        assert str(error)
    else:
        assert parse_recipe(str(recipe)) == recipe and 1 <= recipe.crops <= 40_000
    try:
        assert all(parse_recipe(str(recipe)) == recipe for recipe in parse_recipes(text))
    except InputError:
        pass


BASES = [
    hostile.saved(hostile.picture(40, 50), kind)
    for kind in ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "PPM", "JPEG2000")
]
CHANGES = st.lists(
    st.tuples(st.integers(0, 2**16), st.integers(0, 255), st.sampled_from(["set", "cut", "insert"])),
    min_size=1,
    max_size=12,
)


def mutate(content, changes):
    changed = bytearray(content)
    for position, value, how in changes:
        at = position % (len(changed) + 1)
        if how == "set" and at < len(changed):
            changed[at] = value
        elif how == "cut":
            del changed[at : at + value]
        else:
            changed[at:at] = bytes([value]) * (value % 9)
    return bytes(changed)


@fuzzed
@given(st.sampled_from(BASES), CHANGES)
def test_any_bytes_are_an_image_or_a_reason(tmp_path_factory, base, changes):
    folder = tmp_path_factory.getbasetemp()
    (folder / "fuzzed.jpg").write_bytes(mutate(base, changes))
    source = ImageSource(folder, ("fuzzed.jpg",), np.array([0]), limits=Limits(pixels=10**6))
    _, image, reason, _ = read_image(source, 0, 32, "bilinear")
    if image is None:
        assert reason and "\n" not in reason
    else:
        assert image.dtype == torch.uint8 and image.shape[2] == 3 and min(image.shape[:2]) == 32 and reason == ""


@fuzzed
@given(
    st.one_of(
        st.binary(max_size=200),
        st.text(max_size=100).map(lambda text: f"file,label\n{text}".encode("utf-8", "replace")),
    )
)
def test_any_bytes_are_labels_or_refused(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "fuzzed.csv"
    path.write_bytes(content)
    try:
        source = read_labels(path.parent, path, 10)
    except InputError as error:
        assert str(error)
    else:
        assert (
            len(source)
            and 0 <= source.labels.min() <= source.labels.max() < 10
            and len(set(source.names)) == len(source)
        )


STATE = {"a": torch.ones(3), "b": torch.zeros(2, 2)}


@fuzzed
@given(st.sampled_from(["pth", "safetensors"]), CHANGES)
def test_any_bytes_are_tensors_or_refused(tmp_path_factory, kind, changes):
    path = tmp_path_factory.getbasetemp() / f"fuzzed.{kind}"
    if kind == "pth":
        torch.save(STATE, path)
        path.write_bytes(mutate(path.read_bytes(), changes))
    else:
        path.write_bytes(mutate(hostile.save(STATE), changes))
    try:
        state = read_checkpoint(path)
    except InputError as error:
        assert str(error)
    else:
        assert all(isinstance(tensor, torch.Tensor) for tensor in state.values())


def test_hostile_files_among_good_ones_in_memory(corpus, classifier):
    place, expected = corpus
    names = ("good.jpg", "empty.jpg", "pipe.jpg", "cmyk.jpg")
    part = evaluate(
        classifier, ImageSource(place / "files", names, np.zeros(4, dtype=np.int64)), "CC", device="cpu", workers=1
    )
    assert part.rows["image"].tolist() == ["good.jpg", "cmyk.jpg"] and part.failed["image"].tolist() == [
        "empty.jpg",
        "pipe.jpg",
    ]
