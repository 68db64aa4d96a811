"Networks and checkpoints of other people: their answers are theirs, and they are left as they were."

import copy
import logging
import pickle
from types import SimpleNamespace

import numpy as np
import pytest
import timm
import torch
import torchvision
from torch import nn

from mid_nbdev.averaging.wrapper import MID
from mid_nbdev.errors import InputError
from mid_nbdev.networks import converted
from mid_nbdev.networks.checkpoints import read_checkpoint
from mid_nbdev.networks.classifier import Classifier, Preprocessing
from mid_nbdev.networks.converted import cache_key
from mid_nbdev.networks.engines import TorchEngine, make_engine
from mid_nbdev.networks.models import fill, load_classifier, parse_name, restrict
from mid_nbdev.networks.views import Watch, unchanged

SMALL = Preprocessing(40, 32, "bilinear", (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
IMAGES = [np.random.default_rng(n).integers(0, 256, (50, 60, 3), dtype=np.uint8) for n in range(3)]
CROPS = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


class Small(nn.Module):
    "A network with everything that evaluation could disturb."

    def __init__(self, classes=5, end=None):
        super().__init__()
        self.conv, self.bn, self.drop = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Dropout(0.5)
        self.fc = nn.Linear(8, classes)
        self.transform_input, self.end = False, end

    def forward(self, x):
        if self.transform_input:
            x = x * 2 + 1
        logits = self.fc(self.drop(torch.relu(self.bn(self.conv(x))).mean((2, 3))))
        return self.end(logits) if self.end else logits


def state_of(network):
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def truth(network, crops=CROPS):
    "What the network itself says, in evaluation mode."
    held = copy.deepcopy(network).eval()
    with torch.no_grad():
        there = crops.to(next(held.parameters()).device)  # `DataParallel` moves a network to a GPU
        return held(SMALL.normalise(there.permute(0, 3, 1, 2)))


def asked(engine):
    there = CROPS.to(engine.classifier.device)
    with torch.no_grad():
        return next(iter(engine.outputs([there.permute(0, 3, 1, 2)])))[-1]


# Whose mode, whose weights


@pytest.mark.parametrize("training", [True, False])
def test_wrapping_and_asking_leave_a_network_as_it_was(training):
    network = Small().train(training)
    network.bn.eval()
    network.conv.weight.requires_grad_(False)
    before = state_of(network)
    wrapper = MID(Classifier(network, SMALL), "3RC@feature")
    wrapper.train()
    assert wrapper(IMAGES).shape == (3, 5)
    assert [module.training for module in network.modules()] == [training, training, False] + 2 * [training]
    assert not network.conv.weight.requires_grad and network.fc.weight.requires_grad
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_training_mode_set_afterwards_changes_no_answer():
    network = Small()
    wrapper = MID(Classifier(network, SMALL), "3RC")
    first = wrapper(IMAGES)
    network.train()
    wrapper.classifier.body.train()
    wrapper.train()
    before = state_of(network)
    assert torch.equal(wrapper(IMAGES), first) and torch.equal(wrapper(IMAGES), first)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_a_network_stays_on_its_device_in_its_type_and_layout():
    network = Small()
    classifier = Classifier(network, SMALL)
    make_engine(classifier, "eager")
    assert network.conv.weight.is_contiguous()
    classifier.to("meta")
    assert network.conv.weight.device.type == "cpu"
    half = Classifier(network, SMALL).half()
    assert network.conv.weight.dtype == torch.float32 and half.body.conv.weight.dtype == torch.float16
    optimiser = torch.optim.SGD(network.parameters(), 0.1)
    network(torch.rand(2, 3, 32, 32)).sum().backward()
    optimiser.step()


def changed_in_place(network):
    with torch.no_grad():
        network.fc.bias.add_(torch.arange(5.0))


def changed_by_data(network):
    network.conv.weight.data.mul_(1.5)


def loaded(network):
    network.load_state_dict(Small().state_dict())


def replaced(network):
    network.fc = nn.Linear(8, 5)


def trained(network):
    network.train()(torch.rand(4, 3, 32, 32)).sum().backward()
    torch.optim.SGD(network.parameters(), 0.5).step()
    network.eval()


def attribute(network):
    network.transform_input = True


def halved(network):
    network.double()


CHANGES = [changed_in_place, changed_by_data, loaded, replaced, trained, attribute, halved]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("moved", [False, True])
def test_a_classifier_follows_the_network_it_was_given(change, moved):
    network = Small().eval()
    classifier = Classifier(network, SMALL)
    engine = make_engine(classifier, "eager", batch_size=2) if moved else TorchEngine(classifier, batch_size=2)
    torch.testing.assert_close(asked(engine), truth(network))
    change(network)
    if network.fc.weight.dtype == torch.float32:
        torch.testing.assert_close(asked(engine), truth(network))
    assert asked(engine).shape == (2, 5)


def test_a_copy_and_a_restricted_classifier(tmp_path):
    network = Small().eval()
    classifier = Classifier(network, SMALL)
    copied, sent = copy.deepcopy(classifier), pickle.loads(pickle.dumps(classifier))
    held = restrict(classifier, (1, 3))
    old = truth(network)
    changed_by_data(network)
    attribute(network)
    for stays in (copied, sent):
        torch.testing.assert_close(asked(TorchEngine(stays)), old)
    probabilities = asked(TorchEngine(held)).softmax(-1)
    torch.testing.assert_close(probabilities[:, [1, 3]], truth(network)[:, [1, 3]].softmax(-1))
    assert held._finish and not classifier._finish


def test_what_cannot_be_copied_and_lists_of_modules():
    import threading

    network = Small().eval()
    network.lock, network.kept = threading.Lock(), network.bn(torch.rand(1, 8, 2, 2))
    torch.testing.assert_close(asked(TorchEngine(Classifier(network, SMALL))), truth(Small().eval()), rtol=9, atol=9)
    assert network.lock.acquire(timeout=1)


# Cached engines


@pytest.fixture
def hub(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(converted, "_agreed", set())
    return tmp_path


@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
def test_a_converted_network_follows(hub, name):
    pytest.importorskip(name)
    network = Small().eval()
    engine = make_engine(Classifier(network, SMALL), name, batch_size=2)
    for change in (changed_by_data, attribute, loaded):
        change(network)
        torch.testing.assert_close(asked(engine), truth(network), rtol=1e-3, atol=1e-4)


def test_equal_weights_and_another_attribute_are_another_network(hub):
    pytest.importorskip("openvino")
    network, other = Small().eval(), Small().eval()
    other.load_state_dict(network.state_dict())
    other.transform_input = True
    assert cache_key(Classifier(network, SMALL)) != cache_key(Classifier(other, SMALL))
    for one in (network, other):
        torch.testing.assert_close(
            asked(make_engine(Classifier(one, SMALL), "openvino", batch_size=2)), truth(one), rtol=1e-3, atol=1e-4
        )


def test_a_cached_graph_that_disagrees_is_converted_anew(hub, monkeypatch, caplog):
    pytest.importorskip("openvino")
    monkeypatch.setattr(converted, "cache_key", lambda classifier, *details: "one")
    network, other = Small().eval(), Small().eval()
    for one in (network, other):
        engine = make_engine(Classifier(one, SMALL), "openvino", batch_size=2)
        torch.testing.assert_close(asked(engine), truth(one), rtol=1e-3, atol=1e-4)
    assert "outputs differ from PyTorch's; converting it again" in caplog.text


def test_another_classifier_in_a_wrapper_gets_another_engine(hub):
    pytest.importorskip("openvino")
    first, second = (Classifier(Small().eval(), SMALL) for _ in range(2))
    wrapper = MID(first, "CC", engine="openvino")
    wrapper(IMAGES)
    wrapper.classifier = second
    torch.testing.assert_close(wrapper(IMAGES), MID(second, "CC")(IMAGES), rtol=1e-3, atol=1e-4)


# Numbers that are no logits


class Returns(Small):
    "A network that returns its logits in some way."

    def __init__(self, how, classes=5):
        super().__init__(classes)
        self.how = how

    def forward(self, x):
        return self.how(super().forward(x))


WAYS = {
    "tuple": lambda x: (x, x.sum(0)),
    "one": lambda x: [x],
    "dictionary": lambda x: {"logits": x, "features": x * 2},
    "only": lambda x: {"out": x},
    "object": lambda x: SimpleNamespace(logits=x, hidden=None),
}


@pytest.mark.parametrize("way", WAYS)
def test_logits_in_a_tuple_dictionary_or_object(way):
    network = Returns(WAYS[way]).eval()
    plain = Small().eval()
    plain.load_state_dict(network.state_dict())
    classifier = Classifier(network, SMALL)
    assert not classifier.split_error
    torch.testing.assert_close(
        MID(classifier, "3RC@feature")(IMAGES), MID(Classifier(plain, SMALL), "3RC@feature")(IMAGES)
    )


def test_the_log_says_which_value_is_taken(caplog):
    Classifier(Returns(WAYS["tuple"]), SMALL)
    assert "returns 2 values; using the first, of shape (1, 5), as the logits" in caplog.text


REFUSED = {
    "softmax": (lambda: Small(end=nn.Softmax(-1)), "returns probabilities"),
    "functional softmax": (lambda: Returns(lambda x: x.softmax(-1)), "returns probabilities"),
    "softmax within a tuple": (lambda: Returns(lambda x: (x.softmax(-1), x)), "returns probabilities"),
    "sigmoid": (lambda: Small(end=nn.Sigmoid()), "ends in a sigmoid"),
    "one class": (lambda: Small(1), "expected 2 classes or more"),
    "no classes": (lambda: timm.create_model("test_resnet", num_classes=0), "features, not logits"),
    "no pooling": (lambda: timm.create_model("test_resnet", num_classes=0, global_pool=""), r"\(1, 96, 1, 1\)"),
    "no head": (
        lambda: [n := torchvision.models.resnet18(), setattr(n, "fc", nn.Identity())][0],
        "features, not logits",
    ),
    "tokens": (lambda: Returns(lambda x: x[:, None]), r"returns shape \(1, 1, 5\) for one crop"),
    "classes as numbers": (lambda: Returns(lambda x: x.argmax(-1)), "for one crop"),
    "not a number": (lambda: Returns(lambda x: x * float("nan")), "not finite"),
    "two entries": (lambda: Returns(lambda x: {"a": x, "b": x}), "a dictionary of a, b"),
    "nothing": (lambda: Returns(lambda x: None), "returns NoneType"),
    "no statistics": (
        lambda: nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False), Small()),
        "running statistics",
    ),
    "lazy": (lambda: nn.Sequential(nn.Flatten(), nn.LazyLinear(5)), "no weights yet"),
    "no network": (lambda: print, "expected a torch.nn.Module"),
    "grey images": (lambda: nn.Sequential(nn.Conv2d(1, 3, 1), Small()), "does not accept crops of 32x32 pixels"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_gives_no_logits_is_refused(what):
    make, message = REFUSED[what]
    with pytest.raises(InputError, match=message) as caught:
        Classifier(make(), SMALL)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "mean, std",
    [
        ((123.0, 117.0, 104.0), (0.2, 0.2, 0.2)),
        ((0.4, 0.4, 0.4), (58.0, 57.0, 57.0)),
        ((-1.0, 0, 0), (1.0, 1.0, 1.0)),
        ((float("nan"),) * 3, (0.5,) * 3),
    ],
)
def test_pixels_in_0_to_255_are_refused(mean, std):
    with pytest.raises(InputError, match="divide values for pixels in 0 to 255 by 255"):
        Preprocessing(40, 32, "bilinear", mean, std)


@pytest.mark.parametrize("recipe", ["CC", "3RC@feature", "3RC@logit", "auto"])
def test_numbers_that_are_not_finite_are_no_answer(recipe):
    class Fails(Small):
        def forward(self, x):
            return super().forward(torch.where(x.amax((1, 2, 3), keepdim=True) > 1.5, x / 0 - x / 0, x))

    classifier = Classifier(Fails(), Preprocessing(40, 32, "bilinear", (0.0,) * 3, (0.4,) * 3))
    with pytest.raises(InputError, match=r"not finite \(NaN or infinity\) for 3 of 3 images"):
        MID(classifier, recipe)(IMAGES)


# Networks of other kinds


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("recipe", ["3RC", "3RC@feature"])
def test_networks_of_other_precisions(dtype, recipe):
    network = Small().eval()
    expected = MID(Classifier(network, SMALL), recipe)(IMAGES)
    found = MID(Classifier(copy.deepcopy(network).to(dtype), SMALL), recipe)(IMAGES)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=0.1, atol=0.02)


class Volumes(Small):
    "A network with weights of three and of five dimensions."

    def __init__(self):
        super().__init__()
        self.line, self.volume = nn.Conv1d(3, 3, 1), nn.Conv3d(3, 3, 1)

    def forward(self, x):
        x = self.line(x.flatten(2)).unflatten(2, x.shape[2:])
        return super().forward(self.volume(x[:, :, None])[:, :, 0])


class Tied(Small):
    "A head used through its weight."

    def forward(self, x):
        return torch.nn.functional.linear(super().forward(x) @ self.fc.weight, self.fc.weight)


class ThroughWeight(Small):
    def forward(self, x):
        return torch.nn.functional.linear(torch.relu(self.bn(self.conv(x))).mean((2, 3)), self.fc.weight, self.fc.bias)


@pytest.mark.parametrize("make", [Volumes, Tied, ThroughWeight])
def test_unusual_weights(make):
    network = make().eval()
    torch.testing.assert_close(asked(make_engine(Classifier(network, SMALL), "eager", batch_size=2)), truth(network))


def test_networks_within_others():
    network = Small().eval()
    for outer in (nn.DataParallel(network), torch.compile(network), nn.DataParallel(torch.compile(network))):
        classifier = Classifier(outer, SMALL)
        assert classifier.name == "Small" and classifier.feature_size == 8
        torch.testing.assert_close(asked(TorchEngine(classifier)), truth(network))


@pytest.mark.filterwarnings("ignore")
def test_scripted_traced_quantised_and_hooked_networks():
    network = Small().eval()
    hooked = copy.deepcopy(network)
    hooked.bn.register_forward_hook(lambda module, inputs, output: output * 2)
    others = [
        torch.jit.trace(network, torch.rand(1, 3, 32, 32)),
        hooked,
        torch.ao.quantization.quantize_dynamic(network, {nn.Linear}),
    ]
    for other in others:
        torch.testing.assert_close(asked(TorchEngine(Classifier(other, SMALL))), truth(other))


def test_weights_of_averaged_models_and_arrays(tmp_path):
    network = timm.create_model("test_resnet", num_classes=5)
    torch.save(torch.optim.swa_utils.AveragedModel(network).state_dict(), tmp_path / "swa.pth")
    fill(network, read_checkpoint(tmp_path / "swa.pth"), "swa.pth")
    torch.save({name: tensor.numpy() for name, tensor in network.state_dict().items()}, tmp_path / "arrays.pth")
    with pytest.raises(InputError, match="torch.from_numpy"):
        read_checkpoint(tmp_path / "arrays.pth")


# Checkpoints


def test_ties_go_to_the_first_class():
    network = Small()
    with torch.no_grad():
        network.fc.weight.zero_(), network.fc.bias.copy_(torch.tensor([0.0, 1, 1, 1, 0]))
    for recipe in ("CC", "5FC+5MFC", "7RC@feature", "7RC@logit", "auto"):
        assert MID(Classifier(network, SMALL), recipe)(IMAGES).argmax(-1).tolist() == [1, 1, 1], recipe


def test_a_local_folder_needs_no_hub(tmp_path, caplog):
    import json

    from safetensors.torch import save_file

    network = timm.create_model("test_resnet", num_classes=7)
    save_file(network.state_dict(), tmp_path / "model.safetensors")
    config = {
        "mean": [0.1, 0.2, 0.3],
        "std": [0.5, 0.5, 0.5],
        "input_size": [3, 64, 64],
        "crop_pct": 0.8,
        "interpolation": "bilinear",
        "first_conv": "conv1.0",
        "classifier": "fc",
        "num_classes": 7,
    }
    (tmp_path / "config.json").write_text(
        json.dumps({"architecture": "test_resnet", "num_classes": 7, "pretrained_cfg": config})
    )
    for name in (f"local-dir:{tmp_path}", f"timm/local-dir:{tmp_path}"):
        classifier = load_classifier(name)
        assert classifier.num_classes == 7 and classifier.stated_by == "the checkpoint's config.json"
        assert classifier.preprocessing == Preprocessing(80, 64, "bilinear", (0.1, 0.2, 0.3), (0.5, 0.5, 0.5))
        assert torch.equal(classifier.head[1].weight, network.fc.weight)
    with pytest.raises(InputError, match="timm's config.json"):
        load_classifier(f"local-dir:{tmp_path / 'none'}")

    def states(**stated):
        (tmp_path / "config.json").write_text(json.dumps({"architecture": "test_resnet", "pretrained_cfg": stated}))
        return f"local-dir:{tmp_path}"

    caplog.set_level("INFO")
    del config["mean"]
    assert load_classifier(states(**config)).num_classes == 7
    assert "states no mean: timm's default is taken" in caplog.text
    with pytest.raises(InputError, match="crop_mode squash: only center is supported"):
        load_classifier(states(**config, crop_mode="squash"))


def test_names_on_the_hub():
    expected = ("timm", "hf-hub:owner/name.tag", "", (("num_classes", 5),))
    for name in ("hf-hub:owner/name.tag,num_classes=5", "timm/hf-hub:owner/name.tag,num_classes=5"):
        parsed = parse_name(name)
        assert (parsed.library, parsed.architecture, parsed.tag, parsed.arguments) == expected
    with pytest.raises(InputError, match="expected hf-hub:OWNER/NAME"):
        parse_name("hf-hub:")


def test_whose_preprocessing_it_is():
    assert load_classifier("efficientnet_lite0").stated_by == "timm's configuration"
    assert load_classifier("timm/test_resnet", pretrained=False).stated_by == "timm's configuration"
    assert load_classifier("torchvision/resnet18", pretrained=False).stated_by == "torchvision's weights"
    changed = load_classifier("torchvision/resnet18", pretrained=False, resize_to=300, crop_size=280)
    assert changed.stated_by == "torchvision's weights; given: resize_to, crop_size"
    assert Classifier(Small(), SMALL).stated_by == "given"


NETWORK = timm.create_model("test_resnet", num_classes=5)
STATE = NETWORK.state_dict()


def prefixed(prefix, state=STATE):
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


def without(ending, state=STATE):
    return {name: tensor for name, tensor in state.items() if not name.endswith(ending)}


def in_a_sequence(prefix=""):
    return {f"{prefix}{name.replace('fc.', 'fc.1.')}": tensor for name, tensor in STATE.items()}


LOADED = {
    "plain": STATE,
    "beside": {
        "model_state_dict": STATE,
        "epoch": 3,
        "best": np.float64(0.7),
        "optimizer": {"state": {0: torch.ones(3)}},
    },
    "net": {"net": STATE, "acc": 91.2},
    "model": {"model": prefixed("module."), "args": SimpleNamespace(lr=0.1)},
    "lightning": {
        "state_dict": {**prefixed("model."), "criterion.weight": torch.ones(5)},
        "pytorch-lightning_version": "2",
        "callbacks": {"a": {"best_model_score": torch.tensor(0.5)}},
        "loops": {},
        "hyper_parameters": {"lr": 1},
    },
    "nested": {"checkpoint": {"model": prefixed("net.")}},
    "average": {"n_averaged": torch.tensor(4), **prefixed("module.")},
    "no counts": without("num_batches_tracked"),
    "no counts, prefix": prefixed("backbone.", without("num_batches_tracked")),
    "sequence": in_a_sequence(),
    "sequence, prefix": {"state_dict": in_a_sequence("model.")},
    "profiled": {**STATE, "total_ops": torch.zeros(1), "layer1.total_params": torch.zeros(1)},
    "inside": {name.replace("layer1.", "layer1.module."): tensor for name, tensor in STATE.items()},
    "half": {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in STATE.items()},
    **{
        prefix: prefixed(prefix)
        for prefix in (
            "module.",
            "_orig_mod.",
            "model.",
            "net.",
            "backbone.",
            "timm_model.",
            "module._orig_mod.",
            "_orig_mod.module.model.",
            "student.network.",
        )
    },
}


@pytest.mark.parametrize("what", LOADED)
def test_checkpoints_of_others_load(what, tmp_path, caplog):
    torch.save(LOADED[what], tmp_path / "some.ckpt")
    caplog.set_level(logging.INFO)
    network = fill(
        timm.create_model("test_resnet", num_classes=5), read_checkpoint(tmp_path / "some.ckpt"), "some.ckpt"
    )
    for name, tensor in network.state_dict().items():
        torch.testing.assert_close(tensor, STATE[name], rtol=1e-2, atol=1e-3)
    if what in ("lightning", "backbone.", "student.network."):
        assert f"names that begin with '{ {'lightning': 'model.'}.get(what, what) }'" in caplog.text
    if what.startswith("sequence"):
        assert "using fc.1.weight as fc.weight" in caplog.text


@pytest.mark.parametrize(
    "content, said",
    [
        (
            {"state_dict": STATE, "state_dict_ema": prefixed("module.")},
            "in 'state_dict_ema', not those in 'state_dict'",
        ),
        ({"model": STATE, "ema": STATE}, "in 'ema', not those in 'model'"),
        ({"state_dict": {**prefixed("model."), **prefixed("ema_model.")}}, "names that begin with 'ema_model.'"),
    ],
)
def test_which_of_two_is_taken_is_said(content, said, tmp_path, caplog):
    torch.save(content, tmp_path / "some.pth")
    fill(timm.create_model("test_resnet", num_classes=5), read_checkpoint(tmp_path / "some.pth"), "some.pth")
    assert said in caplog.text


def one(tensor):
    return {**STATE, "fc.bias": tensor}


SPOILT = {
    "two": ({"student": STATE, "teacher": STATE}, "2 sets of weights (student, teacher)"),
    "two prefixes": ({**prefixed("student."), **prefixed("teacher.")}, "more than once (student., teacher.)"),
    "whole": (NETWORK, "it is a whole network (ResNet)"),
    "meta": (one(torch.zeros(5, device="meta")), "fc.bias is meta"),
    "sparse": (one(torch.zeros(5).to_sparse()), "fc.bias is sparse"),
    "float8": (one(torch.zeros(5).to(torch.float8_e4m3fn)), "fc.bias is float8"),
    "quantised": (one(torch.quantize_per_tensor(torch.zeros(5), 0.1, 0, torch.qint8)), "fc.bias is quantised"),
    "complex": (one(torch.zeros(5, dtype=torch.complex64)), "fc.bias is complex"),
    "bool": (one(torch.zeros(5, dtype=torch.bool)), "fc.bias is bool, expected floating point"),
    "int8": (one(torch.zeros(5, dtype=torch.int8)), "fc.bias is int8, expected floating point"),
    "backbone": (
        {**prefixed("backbone.", without(("fc.weight", "fc.bias"))), "cls.weight": torch.zeros(5, 96)},
        "2 tensors missing (first: fc.weight)",
    ),
    "deep head": (
        {
            **without(("fc.weight", "fc.bias")),
            "fc.0.weight": torch.zeros(9, 96),
            "fc.0.bias": torch.zeros(9),
            "fc.2.weight": torch.zeros(5, 9),
            "fc.2.bias": torch.zeros(5),
        },
        "create the network in Python",
    ),
    "another": (timm.create_model("test_vit").state_dict(), "belongs to another architecture"),
    "list": ([1, 2], "expected a dictionary of tensors by name, found list"),
    "empty": ({"epoch": 1, "args": {}}, "it has 'epoch', 'args'"),
    "classes": (timm.create_model("test_resnet", num_classes=9).state_dict(), "give --num-classes 9"),
}


@pytest.mark.parametrize("what", SPOILT)
@pytest.mark.filterwarnings("ignore")
def test_what_is_refused_says_why(what, tmp_path):
    content, message = SPOILT[what]
    torch.save(content, tmp_path / "some.pth")
    with pytest.raises(InputError) as caught:
        fill(timm.create_model("test_resnet", num_classes=5), read_checkpoint(tmp_path / "some.pth"), "some.pth")
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "it is empty"),
        (b"version https://git-lfs.github.com/spec/v1", "Git LFS pointer"),
        (b"<!DOCTYPE html>", "a web page"),
        (b"\x89HDF\r\n", "Keras"),
        (b"\x1f\x8b00", "unpack it first"),
    ],
)
def test_files_of_another_kind_are_named(content, message, tmp_path):
    for name in ("some.pth", "some.safetensors"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=message):
            read_checkpoint(tmp_path / name)


# Networks whose constructor depends on weights


def attributes(network):
    return {
        name: {
            key: value
            for key, value in vars(module).items()
            if isinstance(value, (bool, int, float, str)) and key not in ("training", "num_batches")
        }
        for name, module in network.named_modules()
    }


NAMES = [
    "inception_v3",
    "googlenet",
    "vit_b_16.IMAGENET1K_SWAG_E2E_V1",
    "vit_b_32",
    "vit_h_14",
    "maxvit_t",
    "resnet18",
    "swin_t",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_checkpoint_gets_what_the_weights_build(name, monkeypatch):
    from mid_nbdev.networks.models import _torchvision_network

    parsed = parse_name(f"torchvision/{name}")
    weights = torchvision.models.get_model_weights(parsed.architecture)[parsed.tag or "DEFAULT"]
    monkeypatch.setattr(type(weights), "get_state_dict", lambda self, *args, **kwargs: {})
    monkeypatch.setattr(nn.Module, "load_state_dict", lambda self, *args, **kwargs: None)
    with torch.device("meta"):
        built = torchvision.models.get_model(parsed.architecture, weights=weights)
        ours, _ = _torchvision_network(parsed, False)
    assert attributes(ours) == attributes(built)


def test_an_attribute_can_be_chosen_and_what_is_taken_is_said(caplog):
    caplog.set_level(logging.INFO)
    network = load_classifier("torchvision/inception_v3", pretrained=False)
    assert network.body.transform_input is True and "transform_input" in caplog.text
    assert (
        load_classifier("torchvision/inception_v3,transform_input=False", pretrained=False).body.transform_input
        is False
    )


# What following costs


def written_in_a_block(network):
    with torch.no_grad():
        network.fc.weight[0, 0] += 5  # one number, through PyTorch


def hooked(network):
    network.fc.register_forward_hook(lambda module, inputs, output: output * 2)


def swapped(network):
    network.bn, network.drop = network.drop, network.bn


def nested(network):
    network.settings["scale"][0] = 3.0


@pytest.mark.parametrize("change", [*CHANGES, written_in_a_block, hooked, swapped, nested])
@pytest.mark.parametrize("shared", [True, False])
def test_every_change_is_noticed(change, shared):
    network = Small().eval()
    network.settings = {"scale": [1.0]}
    places = {tensor.data_ptr() for tensor in network.state_dict().values()} if shared else ()
    watch = Watch(network, places)
    assert not watch.changed()
    change(network)
    in_place = change in (changed_in_place, changed_by_data, loaded, trained, written_in_a_block)
    assert watch.changed() == (not (shared and in_place))


def test_a_few_numbers_written_past_pytorch_are_seen_when_an_evaluation_begins():
    network = Small().eval()
    classifier = Classifier(network, SMALL)
    engine = make_engine(classifier, "eager", batch_size=2)  # the convolution's weights are copies now
    network.conv.weight.data[0, 0, 0, 1] += 100
    make_engine(classifier, "eager", batch_size=2)
    torch.testing.assert_close(asked(engine), truth(network))


def test_a_network_is_looked_at_once_where_it_cannot_change(monkeypatch):
    looks = []
    monkeypatch.setattr(Watch, "changed", lambda self, *_: bool(looks.append(self)))
    network = Small().eval()
    classifier = Classifier(network, SMALL)
    for wrapper in (MID(classifier, "CC"), MID(classifier, "20RC", batch_size=2), MID(classifier, "auto")):
        looks.clear()
        wrapper(IMAGES)
        assert len(looks) == 1
    with unchanged():
        for _ in range(3):
            wrapper(IMAGES)
    assert len(looks) == 2


def test_a_network_that_is_gone_is_held_by_nobody():
    import gc
    import weakref

    network = Small().eval()
    classifier = Classifier(network, SMALL).half()
    gone = weakref.ref(network.fc.weight)
    del network
    classifier.follow()
    gc.collect()
    assert gone() is None and classifier._watch is None


# Numbers of classes


@pytest.mark.parametrize("name", [
    "timm/resnet18,num_classes=5", "timm/resnet18.a1_in1k,num_classes=5", "torchvision/resnet18,num_classes=5",
    "torchvision/vit_b_16.IMAGENET1K_SWAG_E2E_V1,num_classes=5",
])
def test_a_head_of_random_weights_is_refused(name):
    with pytest.raises(InputError, match="for 1000 classes, and a head for 5 would be random; give --checkpoint FILE"):
        load_classifier(name)


def test_as_many_classes_as_the_weights_know_are_no_question(tmp_path):
    import json

    from safetensors.torch import save_file

    network = timm.create_model("test_resnet", num_classes=7)
    save_file(network.state_dict(), tmp_path / "model.safetensors")
    config = {"input_size": [3, 64, 64], "num_classes": 7, "first_conv": "conv1.0", "classifier": "fc"}
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "test_resnet", "pretrained_cfg": config}))
    assert load_classifier(f"local-dir:{tmp_path},num_classes=7").num_classes == 7
    with pytest.raises(InputError, match="for 7 classes, and a head for 5 would be random"):
        load_classifier(f"local-dir:{tmp_path},num_classes=5")
    assert load_classifier("timm/test_resnet,num_classes=5", pretrained=False).num_classes == 5


def test_a_packaged_network_has_its_own_classes():
    with pytest.raises(InputError, match="takes no arguments; omit num_classes=5 or.*timm/tf_efficientnet_lite0"):
        load_classifier("efficientnet_lite0,num_classes=5")


# What networks and checkpoints are, besides what they were taken for


@pytest.mark.parametrize("how", [lambda x: x.sigmoid(), lambda x: x.sigmoid() * 100])
def test_outputs_as_after_a_sigmoid_are_said(how, caplog):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        Classifier(Returns(lambda x: x, 20), SMALL)
        assert "sigmoid" not in caplog.text
        Classifier(Returns(how, 20), SMALL)
    assert "as after a sigmoid; they are used as logits: if it ends in a sigmoid, remove it" in caplog.text


def test_probabilities_in_percent_are_refused():
    with pytest.raises(InputError, match="they sum to 100.*remove its final softmax"):
        Classifier(Returns(lambda x: x.softmax(-1) * 100), SMALL)


def test_another_number_of_rows_than_crops_is_refused():
    with pytest.raises(InputError, match="returns 1 rows for a batch of .* crops: expected one each"):
        MID(Classifier(Returns(lambda x: x[:1]), SMALL), "3RC")(IMAGES)


@pytest.mark.parametrize("plain", ["module.", ""])
def test_two_sets_beside_each_other_are_named_whatever_they_begin_with(plain, caplog):
    network = timm.create_model("test_resnet", num_classes=5)
    double = {name: tensor * 2 for name, tensor in STATE.items()}
    fill(network, {**prefixed(plain), **prefixed("ema.", double)}, "both")
    assert torch.equal(network.fc.weight, STATE["fc.weight"] * 2)
    assert f"(of ema., {plain or 'the plain names'})" in caplog.text
    with pytest.raises(InputError, match="contains the network more than once"):
        fill(network, {**prefixed(plain), **prefixed("teacher.", double)}, "both")


def test_files_that_are_cut_off_or_of_numpy_are_named(tmp_path):
    torch.save(STATE, tmp_path / "whole.pt")
    (tmp_path / "cut.pt").write_bytes((tmp_path / "whole.pt").read_bytes()[:5000])
    np.savez(tmp_path / "arrays.npz", a=np.zeros(3))
    for name, said in (("cut.pt", "it is truncated"), ("arrays.npz", "a NumPy file .*, not a checkpoint")):
        with pytest.raises(InputError, match=said):
            read_checkpoint(tmp_path / name)


def test_arguments_in_the_wrong_place_and_a_std_alone_are_named():
    with pytest.raises(InputError, match="'timm/test_resnet,num_classes=3', and give checkpoint=FILE"):
        load_classifier("timm/test_resnet", num_classes=3)
    with pytest.raises(InputError, match="^std .58, 57, 57.: expected values for pixels in 0 to 1"):
        load_classifier("timm/test_resnet", std=(58, 57, 57))
