"Number formats of the forward pass, and crops of several sizes in one engine."

import pytest
import torch

from mid_nbdev.errors import InputError
from mid_nbdev.networks.classifier import Classifier, Preprocessing
from mid_nbdev.networks.engines import TorchEngine, make_engine

timm = pytest.importorskip("timm")
SMALL = Preprocessing(48, 40, "bilinear", (0.5,) * 3, (0.5,) * 3)


@pytest.fixture(scope="module")
def tiny() -> Classifier:
    torch.manual_seed(0)
    return Classifier(timm.create_model("test_resnet", num_classes=7).eval(), SMALL, "tiny")


def crops_of(side: int, count: int = 2) -> torch.Tensor:
    return torch.randint(0, 256, (count, side, side, 3), dtype=torch.uint8).permute(0, 3, 1, 2)


def test_one_engine_computes_crops_of_several_sizes_in_their_order(tiny):
    pytest.importorskip("openvino")
    engine, exact = make_engine(tiny, "openvino", batch_size=2), TorchEngine(tiny, batch_size=2)
    batches = [crops_of(side) for side in (40, 48, 40, 40, 48, 40, 48, 48, 40)]
    with torch.inference_mode():
        for ours, theirs in zip(engine.outputs(batches), exact.outputs(batches), strict=True):
            torch.testing.assert_close(ours[-1], theirs[-1], rtol=1e-3, atol=1e-4)
    assert set(engine.requests) == {40, 48}


def test_a_size_that_a_network_does_not_take_is_named():
    pytest.importorskip("openvino")
    fixed = Classifier(timm.create_model("test_vit", num_classes=7).eval(),
                       Preprocessing(176, 160, "bilinear", (0.5,) * 3, (0.5,) * 3), "fixed")
    engine = make_engine(fixed, "openvino", batch_size=1)
    with pytest.raises(InputError, match="fixed does not take crops of 176x176 pixels"), torch.inference_mode():
        list(engine.outputs([crops_of(176, 1)]))
