"What can be tested of a GPU's path without one: devices, precision and memory, by stand-ins."

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mid_nbdev import MID, load_classifier
from mid_nbdev.averaging.wrapper import forward_crops
from mid_nbdev.data import reading
from mid_nbdev.data.images import demo_source
from mid_nbdev.evaluation.compute import Compute
from mid_nbdev.networks.engines import TorchEngine
from mid_nbdev.networks.process import precision


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
