"Number formats of the forward pass, and crops of several sizes in one engine."

import copy
import json
import logging
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from mid_nbdev import MID
from mid_nbdev.analysis import choose as recipe_choice
from mid_nbdev.averaging.adaptive import average_until_sure
from mid_nbdev.cli.options import ComputeOptions, VerifyOptions
from mid_nbdev.crops.recipes import make_plan, parse_recipe
from mid_nbdev.data.images import ImageSource, decode
from mid_nbdev.errors import InputError
from mid_nbdev.evaluation import formats as source_formats
from mid_nbdev.evaluation.compute import Compute, settle
from mid_nbdev.evaluation.evaluate import evaluate, fit_to_source, match_to_source
from mid_nbdev.evaluation.runs import evaluate_run
from mid_nbdev.evaluation.verify import verify_run
from mid_nbdev.networks import converted, engines, formats
from mid_nbdev.networks.classifier import Classifier, Preprocessing
from mid_nbdev.networks.engines import TorchEngine, make_engine
from mid_nbdev.networks.formats import Calibration, Change, Format, choose_format
from mid_nbdev.networks.process import precision

timm = pytest.importorskip("timm")
SMALL = Preprocessing(48, 40, "bilinear", (0.5,) * 3, (0.5,) * 3)
OPENVINO = {"engine": "openvino", "device": "cpu", "batch_size": 2}


def needs_nncf() -> None:
    pytest.importorskip("openvino", reason="without OpenVINO there is no int8")
    if engines.find_spec("nncf") is None:
        pytest.skip("without NNCF there is no int8")


def crops_of(side: int, count: int = 2) -> torch.Tensor:
    return torch.randint(0, 256, (count, side, side, 3), dtype=torch.uint8).permute(0, 3, 1, 2)


@pytest.fixture(scope="module", autouse=True)
def hub(tmp_path_factory):
    "A cache of its own for converted networks and measurements, in which no speed is measured for long."
    with pytest.MonkeyPatch.context() as changed:
        changed.setenv("TORCH_HOME", str(tmp_path_factory.mktemp("hub")))
        changed.setattr(formats, "crop_rate", lambda engine, *_: {"float32": 10, "bfloat16": 20}.get(engine.dtype, 40))
        yield


@pytest.fixture(scope="module")
def tiny() -> Classifier:
    torch.manual_seed(0)
    return Classifier(timm.create_model("test_resnet", num_classes=7).eval(), SMALL, "tiny")


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> ImageSource:
    folder, numbers = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for number in range(30):
        coarse = Image.fromarray(numbers.integers(0, 256, (6, 7, 3), dtype=np.uint8))
        coarse.resize((60, 52)).save(folder / f"{number:02}.png")
    return ImageSource(folder, tuple(f"{number:02}.png" for number in range(30)), np.arange(30) % 7)


@pytest.fixture(scope="module")
def int8_run(tiny, photos, tmp_path_factory):
    needs_nncf()
    return evaluate_run(tiny, photos, "CC,5FC", tmp_path_factory.mktemp("runs") / "int8", dtype="int8", **OPENVINO)


@pytest.mark.long
@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
def test_one_engine_computes_crops_of_several_sizes_in_their_order(tiny, name):
    pytest.importorskip(name)
    engine, exact = make_engine(tiny, name, batch_size=2), TorchEngine(tiny, batch_size=2)
    batches = [crops_of(side) for side in (40, 48, 40, 40, 48, 40, 48, 48, 40)]
    with precision("float32"), torch.inference_mode():  # as in an evaluation
        for ours, theirs in zip(engine.outputs(batches), exact.outputs(batches), strict=True):
            torch.testing.assert_close(ours[-1], theirs[-1], rtol=1e-3, atol=1e-4)
    assert set(engine.requests if name == "openvino" else engine.sessions) == {40, 48}


def test_a_size_that_a_network_does_not_take_is_named():
    pytest.importorskip("openvino")
    layers = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 8, 8), torch.nn.Flatten(), torch.nn.Linear(2 * 5 * 5, 7))
    engine = make_engine(Classifier(layers, SMALL, "fixed"), "openvino", batch_size=1)
    with pytest.raises(InputError, match="fixed does not accept crops of 48x48 pixels"), torch.inference_mode():
        list(engine.outputs([crops_of(48, 1)]))


def test_a_run_in_int8_says_what_that_changed_and_on_what_it_was_fitted(int8_run):
    known = int8_run.manifest
    measured = known["format"]["measured"]["int8"]
    assert known["dtype"] == "int8" and len(known["calibration"]) == 16 and "nncf" in known["versions"]
    assert measured["images"] == 12 and 0 < measured["max_shift"] < 0.05


def test_int8_is_fitted_once(int8_run, tiny, photos, monkeypatch):
    def again(*_):
        raise AssertionError("fitted again")

    monkeypatch.setattr(formats, "_quantise", again)
    part = evaluate(tiny, photos, "CC,5FC", dtype="int8", **OPENVINO)
    assert part.rows["p_true"].tolist() == int8_run.rows()["p_true"].tolist()


def test_a_run_goes_on_in_its_own_format(int8_run, tiny, photos, caplog):
    before = int8_run.rows()
    int8_run.path(0).unlink()
    with caplog.at_level(logging.INFO):
        again = evaluate_run(tiny, photos, "CC,5FC", int8_run.folder, dtype="auto", tolerance=0, **OPENVINO)
    assert "dtype auto: int8, as in the existing run" in caplog.text
    assert again.rows().equals(before)


def test_a_run_in_another_format_is_another_run(int8_run, tiny, photos):
    for other in ({}, {"dtype": "bfloat16"}, {"dtype": "int8", "calibration": photos.take(range(12))}):
        with pytest.raises(InputError, match="with other settings"):
            evaluate_run(tiny, photos, "CC,5FC", int8_run.folder, **OPENVINO | other)


def test_a_run_in_int8_is_computed_again_as_it_was(int8_run, tiny, photos):
    done = verify_run(int8_run, tiny, photos, images=5)
    assert (done.problems, done.recomputed, done.identical) == ([], 10, 10)


def test_images_that_were_replaced_are_not_taken_for_those_that_int8_was_fitted_on(tiny, int8_run):
    other = Calibration(crops_of(40, 20), int8_run.manifest["calibration"])
    with pytest.raises(InputError, match="int8 was calibrated on other images"):
        other.quantise(other_graph := formats.Path("of-other-weights.xml"))
    assert not other_graph.exists()


def test_auto_takes_the_fastest_within_the_tolerance(tiny, photos, tmp_path, caplog):
    needs_nncf()
    with caplog.at_level(logging.INFO):
        run = evaluate_run(tiny, photos, "CC", tmp_path / "run", dtype="auto", tolerance=1, **OPENVINO)
    assert (run.manifest["dtype"], run.manifest["format"]["tolerance"]) == ("int8", 1)
    assert list(run.manifest["format"]["measured"]) == ["float32", "bfloat16", "int8"]
    assert "dtype auto: int8, the fastest that changes at most 100 % of predictions (float32 10 crops/s;" in caplog.text


@pytest.mark.long
def test_auto_stays_with_float32_where_nothing_gains(tiny, photos, tmp_path, monkeypatch, caplog):
    pytest.importorskip("openvino")
    monkeypatch.setattr(formats, "crop_rate", lambda engine, *_: 10)
    with caplog.at_level(logging.INFO):
        compute = Compute(dtype="auto", tolerance=0.5, **OPENVINO | {"batch_size": 3})
        settled, record = settle(compute, tiny, photos, 9)
    assert settled.dtype == record["chosen"] == "float32" and "float32, no other is faster" in caplog.text


@pytest.mark.parametrize(
    "tolerance, rates, taken",
    [
        (0.01, (10, 20, 40), "bfloat16"),
        (0.03, (10, 20, 40), "int8"),
        (0.03, (10, 20, 21), "bfloat16"),
        (0.03, (10, 10.5, 40), "int8"),
        (0, (10, 20, 40), "float32"),
    ],
)
def test_what_is_chosen(tolerance, rates, taken):
    changes = [Change(200, changed, 0.0, 0.0) for changed in (0, 2, 6)]
    found = [Format(*one) for one in zip(("float32", "bfloat16", "int8"), rates, changes)]
    assert choose_format(found, tolerance).dtype == taken


@pytest.mark.long
def test_a_wrapper_computes_in_int8_and_is_copied(tiny, photos):
    needs_nncf()
    pictures = [Image.open(photos.file(number)) for number in range(30)]
    wrapper = MID(tiny, "5FC", engine="openvino", dtype="int8", calibration=pictures[:20])
    ours, exact = wrapper(pictures[20:]), MID(tiny, "5FC")(pictures[20:])
    assert 0 < float((ours - exact).abs().max()) < 0.05
    torch.testing.assert_close(copy.deepcopy(wrapper)(pictures[20:]), ours)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_wrapper_computes_in_a_low_precision_without_an_engine(tiny, photos, dtype):
    picture = Image.open(photos.file(0))
    shift = float((MID(tiny, "5FC", dtype=dtype)(picture) - MID(tiny, "5FC")(picture)).abs().max())
    assert 0 < shift < 0.01


def test_what_int8_cannot_do_is_refused(tiny, photos, monkeypatch):
    pytest.importorskip("openvino")
    picture, many = Image.open(photos.file(0)), [crops_of(40)[0]] * 12
    with pytest.raises(InputError, match="not in int8; use openvino, on the CPU"):
        evaluate(tiny, photos, "CC", dtype="int8", device="cpu")
    with pytest.raises(InputError, match="needs calibration images: give some hundreds as `calibration`"):
        MID(tiny, "CC", engine="openvino", dtype="int8")(picture)
    with pytest.raises(InputError, match="calibration has no images"):
        MID(tiny, "CC", engine="openvino", dtype="int8", calibration=[])
    needs_nncf()
    with pytest.raises(InputError, match="expected 10 or more, found 2; give others"):
        evaluate(tiny, photos.take([0, 1, 2]), "CC", dtype="int8", **OPENVINO)
    monkeypatch.setattr(engines, "find_spec", lambda name: None if name == "nncf" else name)
    with pytest.raises(InputError, match=r'dtype int8 needs nncf; run: pip install "mid_nbdev\[cpu\]"'):
        MID(tiny, "CC", engine="openvino", dtype="int8", calibration=many)(picture)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_the_eager_engine_is_compared_in_a_low_precision(tiny, photos, monkeypatch, dtype):
    compared = []
    monkeypatch.setattr(converted, "_agreed", set())
    monkeypatch.setattr(converted, "_likeness", lambda engine: compared.append(engine.dtype) or 0.3)
    wrapper, picture = MID(tiny, "CC", dtype=dtype), Image.open(photos.file(0))
    for _ in range(2):
        with pytest.raises(InputError, match=f"tiny cannot be computed in {dtype} by engine eager: .* is 0.30"):
            wrapper(picture)
    monkeypatch.setattr(converted, "_likeness", lambda engine: compared.append(engine.dtype) or 0.99)
    wrapper(picture), wrapper(picture), MID(tiny, "CC")(picture)
    assert compared == [dtype] * 3


def test_a_format_is_measured_once_for_fits_and_the_run(tiny, photos, tmp_path, monkeypatch, caplog):
    measured, measure = [], formats.measure_formats
    wanted = {"dtype": "bfloat16", "device": "cpu", "batch_size": 8}
    monkeypatch.setattr(source_formats, "measure_formats", lambda *given: measured.append(1) or measure(*given))
    network, crops = copy.deepcopy(tiny), len(photos) * 4
    network.name = "measured once"
    with caplog.at_level(logging.INFO):
        match_to_source(network, photos, crops=crops, **wanted)
        fitted = fit_to_source(network, photos, 2, crops=crops, policy=parse_recipe("MFULL+CC+2RC~1"), **wanted)
        evaluate_run(network, photos, fitted, tmp_path / "run", **wanted)
    said = [one.getMessage() for one in caplog.records]
    assert len(measured) == 1 and sum(text.startswith("dtype bfloat16: 20 crops/s") for text in said) == 1
    assert (
        sum("matched to center crops: 96 features, in bfloat16, on 30 unlabelled images" in text for text in said) == 1
    )


def test_a_network_that_does_not_stand_a_format_is_refused(tiny, monkeypatch):
    pytest.importorskip("openvino")
    monkeypatch.setattr(converted, "_agreed", set())
    monkeypatch.setattr(converted, "_likeness", lambda *_: 0.3)
    with pytest.raises(InputError, match="tiny cannot be computed in bfloat16 by engine openvino: .* is 0.30"):
        make_engine(tiny, "openvino", "bfloat16", 2)


@pytest.mark.parametrize(
    "given, message",
    [
        ({"dtype": "auto"}, "dtype auto needs a tolerance"),
        ({"dtype": "auto", "tolerance": 1.5}, "expected a share of predictions from 0 to 1"),
        ({"dtype": "auto", "tolerance": float("nan")}, "expected a share of predictions from 0 to 1"),
        ({"dtype": "int8", "tolerance": 0.01}, "works only with dtype auto"),
        ({"calibration": "photos"}, "--calibration needs --dtype int8 or auto"),
    ],
)
def test_options_that_do_not_fit_are_refused(given, message):
    with pytest.raises(InputError, match=message):
        ComputeOptions(**given)


def test_images_to_fit_on_are_a_folder_or_a_glob(photos, tmp_path):
    folder = ComputeOptions(dtype="int8", calibration=str(photos.root)).given()["calibration"]
    some = ComputeOptions(dtype="int8", calibration=f"{photos.root}/1*.png").given()["calibration"]
    assert (len(folder), len(some)) == (30, 10) and some.file(0) == photos.file(10)
    with pytest.raises(InputError, match="no images for int8 calibration"):
        ComputeOptions(dtype="int8", calibration=str(tmp_path / "*.jpg")).given()
    assert VerifyOptions(calibration=str(photos.root)).given().keys() == {"calibration"}


def test_what_was_measured_decides_no_number(int8_run):
    changed = json.loads(json.dumps(int8_run.manifest))
    changed["format"]["measured"]["int8"]["rate"] = 1.0
    from mid_nbdev.evaluation.run_files import manifest_differences, run_hash

    assert manifest_differences(int8_run.manifest, changed) == []
    assert run_hash(int8_run.manifest) == run_hash(changed)


def test_large_photographs_are_decoded_in_reduced_size_and_what_that_changes_is_kept(tmp_path, caplog):
    numbers = np.random.default_rng(0)
    for number in range(30):
        coarse = Image.fromarray(numbers.integers(0, 256, (6, 9, 3), dtype=np.uint8)).resize((300, 201), 3)
        turned = Image.Exif()
        turned[0x0112] = 6
        coarse.save(tmp_path / f"{number:02}.jpg", quality=80, exif=turned if number % 2 else Image.Exif())
    source = ImageSource(tmp_path, tuple(f"{number:02}.jpg" for number in range(30)), np.arange(30) % 7)
    for exif in (False, True):
        exact, reduced = (decode(source.file(1), 50, way, exif=exif) for way in ("bicubic", "bicubic-draft"))
        assert exact.shape == reduced.shape and 0 < (exact.int() - reduced.int()).abs().max() < 40
    torch.manual_seed(0)
    network = timm.create_model("test_resnet", num_classes=7).eval()
    reduced = Classifier(network, replace(SMALL, interpolation="bilinear-draft"), "reduced")
    with caplog.at_level(logging.INFO):
        run = evaluate_run(reduced, source, "CC", tmp_path / "run", device="cpu")
    kept = run.manifest["format"]["decoding"]
    assert kept["against"] == "bilinear" and kept["images"] == 12 and kept["max_shift"] > 0
    assert caplog.text.count("interpolation bilinear-draft against bilinear: 0 of 12 predictions changed") == 1
    exact = evaluate_run(Classifier(network, SMALL, "exact"), source, "CC", tmp_path / "exact", device="cpu")
    assert (run.rows()["prediction"] == exact.rows()["prediction"]).all()
    assert "format" not in exact.manifest


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_candidates_are_timed_in_the_format_asked_for(tiny, photos, monkeypatch, dtype):
    timed = []

    class Timed(MID):
        def __init__(self, classifier, recipe, **given):
            timed.append((given, self))
            super().__init__(classifier, recipe)

    monkeypatch.setattr(recipe_choice, "MID", Timed)
    monkeypatch.setattr(recipe_choice, "_FIXED", ("CC", "FULL"))
    engine = TorchEngine(tiny)
    engine.dtype, engine.calibration = dtype, "what it was fitted on"
    outputs = lambda self, batches: ((torch.ones(len(each), 7),) * 2 for each in batches)
    monkeypatch.setattr(TorchEngine, "_run", outputs)
    monkeypatch.setattr(recipe_choice.Compute, "load_engine", lambda *_: engine)
    monkeypatch.setattr(recipe_choice, "settle", lambda compute, *_: (compute, {}))
    recipe_choice.measure(tiny, photos, dtype=dtype)
    assert len(timed) == 3
    for given, wrapper in timed:
        assert given == {"engine": "eager", "dtype": dtype} and wrapper.calibration == "what it was fitted on"


def test_candidates_that_cannot_be_evaluated_are_refused_before_an_engine_is_measured(tiny, photos, monkeypatch):
    monkeypatch.setattr(recipe_choice, "settle", lambda *_: pytest.fail("something was measured"))
    with pytest.raises(InputError, match="labels from 0 to 7: expected 0 to 6"):
        recipe_choice.measure(tiny, replace(photos, labels=np.arange(30) % 8))
    with pytest.raises(TypeError, match=r"measure\(\) has no option 'sed'; its options are .*, seed, device, engine,"):
        recipe_choice.measure(tiny, photos, sed=3)


def test_candidates_are_evaluated_with_the_seed_asked_for(tiny, photos, monkeypatch):
    seeds = []
    monkeypatch.setattr(recipe_choice, "settle", lambda compute, *_: (compute, {}))
    for name, function in (("evaluate", evaluate), ("fit_to_source", fit_to_source)):
        noted = lambda *given, function=function, **named: seeds.append(named["seed"]) or function(*given, **named)
        monkeypatch.setattr(recipe_choice, name, noted)
    monkeypatch.setattr(recipe_choice, "_FIXED", ("CC", "FULL"))
    recipe_choice.measure(tiny, photos.take(range(4)), seed=3, device="cpu")
    assert seeds == [3, 3, 3]


def test_a_policy_lets_the_pixels_of_decided_images_go(tiny):
    policy, made, alive = parse_recipe("auto"), [], []
    boxes = make_plan(policy).boxes(48, 60, 40, "")

    def images():
        for _ in range(80):
            pixels = np.zeros((48, 60, 3), dtype=np.uint8)
            made.append(weakref.ref(pixels))
            alive.append(sum(one() is not None for one in made))
            yield torch.from_numpy(pixels), boxes
    with torch.inference_mode():
        stopped = average_until_sure(TorchEngine(tiny, batch_size=4), tiny, images(), replace(policy, margin=0.0))
    assert len(stopped.crops) == 80 and max(alive) < 40
