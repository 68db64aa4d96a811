"What can be tested of a GPU's path without one: devices, precision and memory, by stand-ins."

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import timm
import torch

from mid_nbdev import MID, Classifier, Preprocessing, evaluate, load_classifier
from mid_nbdev.averaging.batches import fixed_batches, forward_crops
from mid_nbdev.averaging.dense import DenseMID
from mid_nbdev.averaging.one_forward import Squashed
from mid_nbdev.averaging.outputs import crop_outputs
from mid_nbdev.averaging.shapes import ShapeMID
from mid_nbdev.averaging.training_crops import TrainCropsMID
from mid_nbdev.cli import predict
from mid_nbdev.cli.options import PredictOptions
from mid_nbdev.crops.boxes import fixed_boxes
from mid_nbdev.crops.recipes import make_plan
from mid_nbdev.data import reading
from mid_nbdev.data.files import Limits
from mid_nbdev.data.images import demo_source
from mid_nbdev.evaluation.compute import Compute
from mid_nbdev.evaluation.evaluate import fit_to_source
from mid_nbdev.networks import choose
from mid_nbdev.networks.engines import TorchEngine, _out_of_memory, pick_device
from mid_nbdev.networks.process import _tf32_switches, precision


@pytest.fixture(scope="module")
def classifier():
    return load_classifier("efficientnet_lite0")


@pytest.fixture
def photo():
    return np.random.default_rng(0).integers(0, 256, (240, 300, 3), dtype=np.uint8)


def test_precision_is_set_and_restored_after_the_newer_switch_was_used():
    if not hasattr(torch.backends, "fp32_precision"):
        pytest.skip("this PyTorch has only the older switches")
    matmul, conv, everywhere = torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.fp32_precision
    before = matmul.fp32_precision, conv.fp32_precision
    torch.backends.fp32_precision = "tf32"
    try:
        own = matmul.fp32_precision, conv.fp32_precision
        with precision("float32"):
            assert (matmul.fp32_precision, conv.fp32_precision) == ("ieee", "ieee")
        assert (matmul.fp32_precision, conv.fp32_precision) == own
    finally:
        torch.backends.fp32_precision = everywhere
        matmul.fp32_precision, conv.fp32_precision = before
    assert not matmul.allow_tf32 and torch.backends.cudnn.allow_tf32  # the older switches still answer


def test_averaging_is_not_done_in_tf32(classifier, photo, monkeypatch):
    kinds = []
    monkeypatch.setattr("mid_nbdev.averaging.wrapper.precision", lambda kind: kinds.append(kind) or precision(kind))
    MID(classifier, "CC")(photo)
    assert kinds == ["float32"]


def test_no_images_give_tensors_where_the_network_is(classifier):
    there = SimpleNamespace(device=torch.device("meta"), num_classes=7, feature_size=5)
    there.preprocessing = classifier.preprocessing
    engine = SimpleNamespace(batch_size=2, outputs=lambda batches: iter(()))
    features, logits = forward_crops(engine, there, iter(()), True)
    assert (features.shape, logits.shape) == ((0, 5), (0, 7))
    assert features.device.type == logits.device.type == "meta"


def test_a_ready_engine_says_where_it_computes(classifier, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert Compute().place().type == "cuda"
    assert Compute(engine=TorchEngine(classifier)).place().type == "cpu"


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    ],
)
def test_a_batch_is_halved_once_and_the_wrapper_remembers(classifier, photo, monkeypatch, error):
    sizes, whole = [], TorchEngine.__init__

    def small(self, *args, **options):
        whole(self, *args, **options)
        graph = self.graph

        def limited(pixels):
            sizes.append(len(pixels))
            if len(pixels) > 2:
                raise error
            return graph(pixels)

        self.graph = limited

    mid = MID(classifier, "5FC")
    expected = mid(photo)
    monkeypatch.setattr(TorchEngine, "__init__", small)
    mid = MID(classifier, "5FC", batch_size=4)
    assert torch.allclose(mid(photo), expected, atol=1e-5)
    assert sizes[0] == 4 and mid.batch_size == 2
    sizes.clear()
    mid(photo)
    assert max(sizes) == 2


def test_an_image_is_read_where_no_memory_can_be_locked(monkeypatch):
    def fails(self):
        raise RuntimeError("CUDA error: out of memory")

    monkeypatch.setattr(torch.Tensor, "pin_memory", fails)
    read = reading.read_image(demo_source(), 0, 256, "bicubic", pinned=True)
    assert read.image is not None and read.image.shape[2] == 3


def test_memory_errors_are_told_by_type_code_and_words():
    coded = torch.AcceleratorError("CUDA error") if hasattr(torch, "AcceleratorError") else RuntimeError("CUDA error")
    coded.error_code = 2
    other = RuntimeError("CUDA error: an illegal memory access was encountered")
    other.error_code = 700
    assert _out_of_memory(coded) and not _out_of_memory(other)
    assert _out_of_memory(RuntimeError('"NVML_SUCCESS == r" INTERNAL ASSERT FAILED at "CUDACachingAllocator.cpp":995'))


class Recorder(torch.nn.Module):
    "A layer that notes the switches for TF32 whenever it, or a copy of it, is called."

    seen: list = []

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, pixels):
        self.seen.append([getattr(owner, name) for owner, name, _, _ in _tf32_switches()])
        return self.layer(pixels)


@pytest.fixture
def recorded():
    "A network that records, where TF32 was switched on before."
    network = timm.create_model("test_resnet", num_classes=5).eval()
    network.conv1 = Recorder(network.conv1)
    sizes = Preprocessing(40, 32, "bilinear", (0.5,) * 3, (0.5,) * 3)
    before = [(owner, name, getattr(owner, name)) for owner, name, _, _ in _tf32_switches()]
    for owner, name, with_tf32, _ in _tf32_switches():
        setattr(owner, name, with_tf32)
    yield Classifier(network, sizes, "recorder")
    for owner, name, value in before:
        setattr(owner, name, value)


PATHS = {
    "MID": lambda classifier, photo: MID(classifier, "2RC")(photo),
    "auto": lambda classifier, photo: MID(classifier, "auto")(photo),
    "fit": lambda classifier, photo: MID(classifier).fit([photo], budget=2),
    "features": lambda classifier, photo: MID(classifier, "2RC@feature")(photo),
    "dense": lambda classifier, photo: DenseMID(classifier)(photo),
    "shapes": lambda classifier, photo: ShapeMID(classifier)(photo),
    "training crops": lambda classifier, photo: TrainCropsMID(classifier, 2)(photo),
    "one forward": lambda classifier, photo: Squashed(classifier)(photo),
    "crops shown": lambda classifier, photo: crop_outputs(classifier, photo, make_plan("2RC")),
    "evaluation": lambda classifier, photo: evaluate(classifier, few(), "CC", device="cpu", workers=0),
    "fit to source": lambda classifier, photo: fit_to_source(classifier, few(), 2, device="cpu", workers=0),
    "calibration": lambda classifier, photo: choose._calibrate(classifier, "eager", sizes=(2,), seconds=0.01),
    "prediction": lambda classifier, photo: predict._predict_files(
        [str(few().root / few().names[0])], classifier, make_plan("CC"), PredictOptions(device="cpu"), Limits(), False),
}


def few():
    found = demo_source().take([0])
    return replace(found, labels=np.zeros(1, np.int64))


@pytest.mark.parametrize("path", PATHS)
def test_no_path_computes_float32_in_tf32(recorded, photo, path):
    Recorder.seen.clear()
    PATHS[path](recorded, photo)
    without = [value for _, _, _, value in _tf32_switches()]
    assert Recorder.seen and all(seen == without for seen in Recorder.seen)
    assert [getattr(owner, name) for owner, name, _, _ in _tf32_switches()] != without  # as it was before


def test_a_gpu_is_used_where_the_engine_runs_on_it(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Fake H100")
    assert pick_device(None, "eager").type == pick_device(None).type == "cuda"
    assert pick_device(None, "openvino").type == Compute(engine="onnxruntime").place().type == "cpu"
    said, made, network = [], [], SimpleNamespace(preprocessing=SimpleNamespace(interpolation="bicubic"))
    monkeypatch.setattr(predict, "say", said.append)
    monkeypatch.setattr("mid_nbdev.networks.choose.load_engine", lambda *args: made.append(args[4]))
    predict._engine(network, PredictOptions(engine="auto"), 20, [0])
    predict._engine(network, PredictOptions(engine="auto", device="cpu"), 20, [0])
    assert [device.type for device in made] == ["cuda", "cpu"]
    assert said == ["computing on Fake H100; --device cpu uses the CPU"]


def test_what_is_compiled_has_a_batch_that_fits():
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert [choose.fitting_batch("compile", cuda, crops) for crops in (0, 1, 20, 100, 1000)] == [1, 1, 32, 128, 256]
    assert choose.fitting_batch("compile", cpu, 20) == 8 and choose.fitting_batch("openvino", cpu, 20) is None


def test_each_compiled_engine_has_recompilations_of_its_own(classifier, monkeypatch):
    asked = {}
    monkeypatch.setattr(torch, "compile", lambda graph, *, isolate_recompiles=False, recompile_limit=None, **options:
                        asked.update(options, apart=isolate_recompiles, limit=recompile_limit) or graph)
    TorchEngine(classifier, compiled=True)
    assert asked == {"dynamic": False, "apart": True, "limit": 64}
    monkeypatch.setattr(torch, "compile", lambda graph, **options: asked.clear() or graph)
    TorchEngine(classifier, compiled=True)


def test_few_crops_are_filled_in_where_another_size_costs_nothing():
    image, boxes = torch.zeros(40, 40, 3, dtype=torch.uint8), fixed_boxes(40, 40, 32)
    sizes = [(len(batch), len(own)) for batch, own in fixed_batches([(image, boxes)] * 5, 16, 2)]
    assert sizes == [(16, 16), (10, 9)]
    assert [len(batch) for batch, _ in fixed_batches([(image, boxes)] * 5, 16)] == [16, 16]
