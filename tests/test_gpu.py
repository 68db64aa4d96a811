"""Checks of a GPU: `pytest -m gpu -n 0`, skipped by name without one.

The same bodies run on the CPU, where they can, so that they are known to work before a GPU is at hand.
"""

import time
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from mid_nbdev import MID, Classifier, ImageSource, Preprocessing, evaluate
from mid_nbdev.data.reading import read_images
from mid_nbdev.evaluation import evaluate as evaluation
from mid_nbdev.evaluation.evaluate import _marker, _uploader, evaluate_parts, split_parts
from mid_nbdev.networks.choose import crop_rate
from mid_nbdev.networks.engines import TorchEngine, make_engine
from mid_nbdev.networks.outputs import smooth_crops
from mid_nbdev.networks.process import precision

GPUS = torch.cuda.device_count() if torch.cuda.is_available() else 0
CUDA = pytest.param("cuda", marks=[pytest.mark.gpu, pytest.mark.skipif(not GPUS, reason="needs a GPU")])
RECIPES = "CC,5FC+5MFC@logit,4RC@feature"


@pytest.fixture(params=[CUDA, "cpu"])
def device(request):
    return request.param


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    "Eight images of noise that is smooth, so that crops differ, in as many sizes."
    folder, draw = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for number in range(8):
        small = Image.fromarray(draw.integers(0, 256, (6, 8, 3), dtype=np.uint8))
        small.resize((60 + 5 * number, 48 + 3 * number), Image.Resampling.BICUBIC).save(folder / f"{number}.png")
    names = tuple(f"{number}.png" for number in range(8))
    return ImageSource(folder, names, np.zeros(8, np.int64))


def network(size=32):
    "A tiny network whose answers differ from image to image."
    torch.manual_seed(0)
    made = timm.create_model("test_resnet", num_classes=10).eval()
    with torch.no_grad():
        logits = made(smooth_crops(64, 32).float() / 127.5 - 1)
        made.fc.weight.div_(logits.std(0).mean())
        made.fc.bias.copy_(-logits.mean(0) / logits.std(0).mean())  # (the bias was zero)
    return Classifier(made, Preprocessing(size + 8, size, "bilinear", (0.5,) * 3, (0.5,) * 3), "tiny")


def rows_on(device, source, **options):
    return evaluate(network(), source, RECIPES, device=device, **options).rows


def test_float32_gives_the_cpus_predictions(device, source):
    ours, theirs = rows_on(device, source), rows_on("cpu", source)
    assert ours["prediction"].tolist() == theirs["prediction"].tolist() and ours["content"].equals(theirs["content"])
    assert np.abs(ours["p_true"] - theirs["p_true"]).max() < 1e-4
    assert theirs["prediction"].nunique() > 1


def test_what_bfloat16_changes_is_little(device, source, record_property):
    ours, theirs = rows_on(device, source, dtype="bfloat16"), rows_on("cpu", source)
    changed = int((ours["prediction"] != theirs["prediction"]).sum())
    record_property("predictions that bfloat16 changes", f"{changed} of {len(ours)}")
    print(f"bfloat16 on {device} changes {changed} of {len(ours)} predictions")
    assert changed <= len(ours) // 4 and np.abs(ours["confidence"] - theirs["confidence"]).mean() < 0.05


def test_images_arrive_whole_while_the_device_is_busy(device):
    upload, draw, sums = _uploader(torch.device(device)), torch.Generator().manual_seed(0), []
    busy, expected = torch.ones(512, 512, device=device), []
    for number in range(300):
        image = torch.randint(0, 256, (64 + number % 7, 80, 3), dtype=torch.uint8, generator=draw)
        expected.append(int(image.long().sum()))
        there = upload(image.pin_memory() if device == "cuda" else image)
        if number % 10 == 0:
            busy = (busy @ busy).clamp(max=1)
        sums.append(there.long().sum())  # its memory is free as soon as the next image is asked for
        del image, there
    assert torch.stack(sums).tolist() == expected


def test_images_are_read_into_locked_memory_by_threads(device, source):
    found = list(read_images(source, [*range(8)] * 10, 40, "bilinear", 2, pinned=device == "cuda"))
    plain = list(read_images(source, range(8), 40, "bilinear", 0))
    assert all(torch.equal(one.image, plain[one.number].image) for one in found)
    assert all(one.image.is_pinned() for one in found if device == "cuda")


def test_parts_in_flight_have_the_rows_of_parts_by_themselves(device, source):
    engine, slices = TorchEngine(network().to(device), batch_size=16), split_parts(8, 3)
    rows_of = lambda parts: list(evaluate_parts(engine.classifier, source, RECIPES, parts, engine=engine))
    together, apart = rows_of(slices), [rows_of([some])[0] for some in slices]
    for one, other in zip(together, apart, strict=True):
        assert one.rows["image"].equals(other.rows["image"]) and one.rows["prediction"].equals(other.rows["prediction"])
        assert np.abs(one.rows["p_true"] - other.rows["p_true"]).max() < 1e-5


def test_the_next_part_is_begun_before_the_rows_of_one_are_made(source, monkeypatch):
    classifier, order = network(), []
    begin, finish = evaluation.average_images, evaluation._finish_part
    monkeypatch.setattr(evaluation, "_uploader", lambda device: lambda image: image)
    monkeypatch.setattr(evaluation, "_marker", lambda device: lambda: order.append("mark") or nullcontext())
    monkeypatch.setattr(evaluation, "average_images", lambda *args: order.append("begin") or begin(*args))
    monkeypatch.setattr(evaluation, "_finish_part", lambda *args: order.append("finish") or finish(*args))
    plain = rows_on("cpu", source)
    order.clear()
    engine = TorchEngine(classifier)
    on_gpu = type("", (), {"type": "cuda"})
    monkeypatch.setattr(evaluation.Compute, "place", lambda self: on_gpu)
    parts = list(evaluate_parts(classifier, source, RECIPES, split_parts(8, 3), engine=engine))
    assert order == ["begin", "mark", "begin", "mark", "finish", "begin", "mark", "finish", "finish"]
    images = [name for part in parts for name in part.rows["image"]]
    assert images == plain["image"].tolist()


def test_results_are_fetched_behind_their_mark(monkeypatch):
    order = []
    note = lambda *what: order.append(what)
    stream = SimpleNamespace(record_event=lambda: note("record") or "mark", wait_event=lambda mark: note("wait", mark))
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda own: nullcontext(note("within")))
    fetching = _marker(torch.device("cuda"))()
    order.append("queued later")
    with fetching:
        order.append("fetch")
    assert order == [("record",), "queued later", ("wait", "mark"), ("within",), "fetch"]


@pytest.mark.gpu
@pytest.mark.skipif(not GPUS, reason="needs a GPU")
def test_results_do_not_wait_for_what_is_queued_later():
    mark, values = _marker(torch.device("cuda")), torch.arange(5, device="cuda")
    torch.cuda.synchronize()
    fetching = mark()
    torch.cuda._sleep(4_000_000_000)  # cycles: some two seconds
    start = time.perf_counter()
    with fetching:
        assert values.cpu().tolist() == [*range(5)] and time.perf_counter() - start < 0.5
    torch.cuda.synchronize()
    assert time.perf_counter() - start > 0.5


def test_a_batch_too_large_is_halved(device, monkeypatch):
    count, size = (512, 224) if device == "cuda" else (8, 32)
    engine = TorchEngine(network(size).to(device), batch_size=count)
    crops = torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8).to(device)
    whole = engine.graph
    if device == "cuda":
        torch.cuda.empty_cache()
        room = torch.cuda.memory_reserved() + 700 * 2**20
        torch.cuda.set_per_process_memory_fraction(room / torch.cuda.get_device_properties(0).total_memory)
    else:

        def limited(pixels):
            if len(pixels) > 2:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return whole(pixels)

        engine.graph = limited
    asked = engine.batch_size
    try:
        with torch.inference_mode():
            (found,) = engine.outputs([crops])
    finally:
        if device == "cuda":
            torch.cuda.set_per_process_memory_fraction(1.0)
    assert engine.batch_size < asked and len(found[-1]) == len(crops)
    with torch.inference_mode(), precision("float32"):
        some = whole(crops[:2].permute(0, 2, 3, 1))
    assert torch.allclose(found[-1][:2], some[-1].float(), atol=1e-3)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_what_is_compiled_gives_the_same_answers(device, dtype, monkeypatch):
    if device == "cpu":
        monkeypatch.setattr(torch, "compile", lambda graph, **options: graph)
    classifier = network()
    compiled = make_engine(classifier, "compile", dtype, 16, torch.device(device))
    crops = torch.randint(0, 256, (32, 3, 32, 32), dtype=torch.uint8, device=device)
    with torch.inference_mode():
        ours, theirs = (torch.cat([outputs[-1] for outputs in engine.outputs(crops.split(16))])
                        for engine in (compiled, TorchEngine(classifier, batch_size=16)))
    if dtype == "float32":
        assert torch.allclose(ours, theirs, atol=1e-3)
    assert torch.nn.functional.cosine_similarity(ours.flatten(), theirs.flatten(), dim=0) > 0.99


def test_a_wrapper_gives_what_it_gives_on_the_cpu(device, source):
    images = [Image.open(source.file(number)) for number in range(4)]
    there, here = MID(network().to(device), "3RC"), MID(network(), "3RC")
    assert there.device.type == device and torch.allclose(there(images).cpu(), here(images), atol=1e-4)


def test_a_rate_is_measured_for_long_enough(device):
    engine = make_engine(network(), "eager", batch_size=16, device=torch.device(device))
    assert 0 < crop_rate(engine, 32, torch.device(device), 0.05) < 1e9


@pytest.mark.gpu
@pytest.mark.skipif(GPUS < 2, reason="needs two GPUs")
def test_the_second_device_is_used_alone(source):
    held = torch.cuda.memory_allocated(0)
    ours = rows_on("cuda:1", source)
    assert ours["prediction"].tolist() == rows_on("cpu", source)["prediction"].tolist()
    assert torch.cuda.memory_allocated(0) == held and torch.cuda.current_device() == 0
