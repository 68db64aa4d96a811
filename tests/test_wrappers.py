"""All wrappers have the same outside; a policy is no recipe, and cannot be exported as one."""

import copy
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch

from mid_nbdev import MID, Classifier, InputError, evaluate, load_classifier
from mid_nbdev.averaging.dense import DenseMID
from mid_nbdev.averaging.one_forward import Squashed
from mid_nbdev.averaging.shapes import ShapeMID
from mid_nbdev.averaging.training_crops import TrainCropsMID
from mid_nbdev.averaging.wrapper import Wrapper
from mid_nbdev.crops.recipes import Policy, Recipe, make_plan
from mid_nbdev.data.images import demo_source
from mid_nbdev.deployment.export import export_graph
from mid_nbdev.deployment.integrations import PathClassifier
from mid_nbdev.evaluation.evaluate import evaluate_wrapper

WRAPPERS = [MID, DenseMID, ShapeMID, TrainCropsMID, Squashed]


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return load_classifier("efficientnet_lite0")


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    noise = np.random.default_rng(0)
    return [noise.integers(0, 256, shape, dtype=np.uint8) for shape in ((240, 300, 3), (400, 260, 3))]


def test_every_wrapper_is_listed():
    assert set(Wrapper.__subclasses__()) == set(WRAPPERS)


@pytest.mark.parametrize("kind", WRAPPERS)
def test_protocol(kind, classifier, images):
    wrapper = kind(classifier)
    assert wrapper.classifier.num_classes == classifier.num_classes and wrapper.device == classifier.device
    assert isinstance(wrapper.engine, str) and wrapper.batch_size >= 1 and wrapper.crops_used is None

    answers = wrapper(images, keys=["a", "b"])
    assert answers.shape == (2, 1000) and answers.dtype == torch.float32 and not answers.requires_grad
    assert torch.allclose(answers.sum(1), torch.ones(2), atol=1e-4)
    assert wrapper.crops_used.shape == (2,) and wrapper.crops_used.min() >= 1

    assert torch.allclose(wrapper(images[1], keys=["b"])[0], answers[1], atol=1e-5)
    assert wrapper(images).shape == (2, 1000)
    assert wrapper([]).shape == (0, 1000) and wrapper.crops_used.shape == (0,)
    for other in (copy.deepcopy(wrapper), pickle.loads(pickle.dumps(wrapper))):
        assert torch.equal(other(images, keys=["a", "b"]), answers)
    with pytest.raises(InputError, match="1 keys for 2 images"):
        wrapper(images, keys=["a"])
    with pytest.raises(InputError, match="expected a name for `load_classifier`, a `Classifier`"):
        kind(torch.nn.Linear(2, 2))
    PathClassifier(wrapper)


def test_a_wrapper_is_evaluated_as_its_recipe_is(classifier):
    photos = demo_source().take([0, 1])
    alone = evaluate_wrapper(MID(classifier, "3RC@logit"), photos, "3RC@logit", crops=3)
    together = evaluate(classifier, photos, "3RC@logit", device="cpu").rows
    for column in ("image", "label", "recipe", "prediction", "rank", "crops"):
        assert alone[column].tolist() == together[column].tolist()
    assert np.allclose(alone["p_true"], together["p_true"], atol=1e-5)


def test_fit_only_where_it_means_something(classifier, images):
    assert [kind for kind in WRAPPERS if hasattr(kind, "fit")] == [MID, ShapeMID]
    few, many = (ShapeMID(classifier).fit(images, budget=budget) for budget in (1, 4))
    assert 0 <= few.slope < 8 and few.slope < many.slope
    many(images)
    assert many.crops_used.float().mean() <= 4


def test_a_policy_is_no_recipe(classifier):
    policy = MID(classifier, "auto").recipe
    assert isinstance(policy, Policy) and not isinstance(policy, Recipe)
    assert (policy.crops, policy.level, str(policy)) == (10, "softmax", "auto~0.2")
    assert sorted(policy.numbered) == sorted(Recipe(policy.parts).numbered)
    with pytest.raises(InputError, match="it has no fixed weights"):
        make_plan("auto").weights("softmax")


def test_a_policy_is_not_exported(classifier, tmp_path):
    with pytest.raises(InputError, match="auto~0.2 averages a different number of .* export the average .*5FC\\+5MFC"):
        export_graph(MID(classifier, "auto"), tmp_path / "auto.pt2")
    command = ["export", "efficientnet_lite0", "--out", str(tmp_path / "auto.pt2"), "--recipe", "auto"]
    ran = subprocess.run([sys.executable, "-m", "mid_nbdev", *command], capture_output=True, text=True)
    assert ran.returncode == 2 and ran.stderr.count("\n") == 1 and "5FC+5MFC" in ran.stderr and not ran.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", [DenseMID, ShapeMID, TrainCropsMID, Squashed])
def test_only_recipes_are_exported(kind, classifier, tmp_path):
    with pytest.raises(InputError, match=f"wrapper of type {kind.__name__}: expected a MID"):
        export_graph(kind(classifier), tmp_path / "graph.pt2")
