"""No prediction depends on its company: on the order of the images, on what else is in the batch, or on the labels.

The classic accidental leak: a validation set is sorted by class, a layer normalises over the batch, and the batch
gives the class away. The check that must find such a leak is tested on networks that leak.
"""

import numpy as np
import pytest
import torch
from PIL import Image
from timm import create_model
from torch import nn

from mid_nbdev.data.images import ImageSource
from mid_nbdev.evaluation.evaluate import evaluate
from mid_nbdev.networks.classifier import Classifier, Preprocessing

CLASSES, EACH = 4, 6


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    "Images sorted by class, as folders of classes are; noise, so that only a leak can tell the class."
    root, generator = tmp_path_factory.mktemp("company"), np.random.default_rng(0)
    names = [f"{number:03}.png" for number in range(CLASSES * EACH)]
    for name in names:
        Image.fromarray(generator.integers(0, 256, (40, 48, 3), dtype=np.uint8)).save(root / name)
    return ImageSource(root, tuple(names), np.arange(CLASSES).repeat(EACH))


def chosen(source, numbers):
    return ImageSource(source.root, tuple(source.names[number] for number in numbers), source.labels[numbers])


def companies(source):
    "The same images in other company, as lists of sources that are evaluated one after the other."
    everyone = np.arange(len(source))
    yield "shuffled", [chosen(source, np.random.default_rng(1).permutation(everyone))]
    yield "backwards", [chosen(source, everyone[::-1])]
    yield "one at a time", [chosen(source, np.array([number])) for number in everyone]
    yield "one class at a time", [chosen(source, everyone[source.labels == label]) for label in range(CLASSES)]
    yield "other labels", [ImageSource(source.root, source.names, np.roll(source.labels, EACH + 1))]


def changed_by_company(classifier, source, batch_size=16, recipes="CC,3RC,3RC@feature,2RC@logit"):
    "In what company a prediction, or a confidence by more than rounding, is another."

    def rows(some):
        table = evaluate(classifier, some, recipes, device="cpu", batch_size=batch_size, workers=0).rows
        return table.set_index(["image", "recipe"])[["prediction", "confidence"]]

    usual, changed = rows(source), []
    for name, sources in companies(source):
        for some in sources:
            there = rows(some)
            before = usual.loc[there.index]
            moved = np.abs(there["confidence"] - before["confidence"]).max() > 1e-5
            if moved or (there["prediction"] != before["prediction"]).any():
                changed.append(name)
                break
    return changed


def small(network, head=None):
    return Classifier(network, Preprocessing(36, 32, "bilinear", (0.5,) * 3, (0.5,) * 3), "small", head)


@pytest.mark.parametrize("name", ["test_resnet", "test_vit"])
def test_predictions_do_not_depend_on_company(source, name):
    torch.manual_seed(0)
    network = create_model(name, num_classes=CLASSES, **({"img_size": 32} if name == "test_vit" else {}))
    assert changed_by_company(small(network), source) == []
    assert changed_by_company(small(network), source, batch_size=1) == []


class BatchStatistics(nn.Module):
    "Leaks: it normalises over the batch, also when it is tested."

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.trunk, self.fc = nn.Conv2d(3, 8, 5, stride=4), nn.Linear(8, CLASSES)

    def forward(self, crops):
        features = self.trunk(crops).relu().mean((2, 3))
        if len(features) > 1:
            features = (features - features.mean(0)) / (features.std(0) + 1e-3)
        return self.fc(features)


class CountsCalls(nn.Module):
    "Leaks: what it answers depends on how many crops came before, so images sorted by class get their class."

    def __init__(self, crops_an_image):
        super().__init__()
        self.fc, self.crops_an_image, self.seen = nn.Linear(3, CLASSES), crops_an_image, 0

    def forward(self, crops):
        numbers = (torch.arange(len(crops)) + self.seen) // self.crops_an_image
        self.seen += len(crops)
        return 9.0 * nn.functional.one_hot(numbers // EACH % CLASSES, CLASSES).float() + 0 * self.fc(crops.mean((2, 3)))


def test_a_leak_through_the_batch_is_caught(source):
    assert {"shuffled", "one at a time", "one class at a time"} <= set(
        changed_by_company(small(BatchStatistics()), source)
    )


def test_a_leak_of_the_order_of_labels_is_caught(source):
    network = CountsCalls(crops_an_image=4)
    cheating = small(network, head=())
    network.seen = 0
    rows = evaluate(cheating, source, "CC,3RC", device="cpu", batch_size=16, workers=0).rows
    assert (rows["rank"] == 0).all(), "the leak does not even work"
    network.seen = 0
    assert {"shuffled", "backwards", "one class at a time"} <= set(
        changed_by_company(cheating, source, recipes="CC,3RC")
    )


def test_labels_reach_nothing_but_the_score(source):
    torch.manual_seed(0)
    classifier = small(create_model("test_resnet", num_classes=CLASSES))
    other = ImageSource(source.root, source.names, (source.labels + 1) % CLASSES)
    first, second = (
        evaluate(classifier, some, "CC,3RC", device="cpu", batch_size=16, workers=0).rows for some in (source, other)
    )
    said = ["image", "recipe", "prediction", "confidence", "crops"]
    assert first[said].equals(second[said])
    assert not first["p_true"].equals(second["p_true"])
