"Views of several sizes in one plan: crops, and the square center of the whole resized image."

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torchvision import transforms

from mid_nbdev import MID, Classifier, InputError, Preprocessing, evaluate
from mid_nbdev.averaging.batches import fixed_batches, forward_crops
from mid_nbdev.averaging.matching import Matching
from mid_nbdev.averaging.outputs import crop_outputs
from mid_nbdev.averaging.wrapper import as_pil
from mid_nbdev.crops.boxes import full_box, mirror, resize
from mid_nbdev.crops.recipes import make_plan
from mid_nbdev.data.sources import find_source
from mid_nbdev.deployment.export import ExportedGraph, check_graph, export_graph
from mid_nbdev.evaluation.evaluate import match_to_source
from mid_nbdev.evaluation.runs import evaluate_run
from mid_nbdev.evaluation.verify import verify_run
from mid_nbdev.networks.engines import TorchEngine

HALF = (0.5, 0.5, 0.5)
IMAGES = [
    np.random.default_rng(number).integers(0, 256, (*size, 3), dtype=np.uint8)
    for number, size in enumerate(((50, 61), (90, 45), (40, 40), (20, 300), (33, 32)))
]


def of_sizes(resize_to: int, crop_size: int, name: str = "test_resnet", **settings) -> Classifier:
    torch.manual_seed(0)
    network = timm.create_model(name, num_classes=11, **settings).eval()
    return Classifier(network, Preprocessing(resize_to, crop_size, "bilinear", HALF, HALF), f"tiny {name}")


@pytest.fixture(scope="module")
def tiny() -> Classifier:
    return of_sizes(40, 32)


@pytest.fixture(scope="module")
def one_size() -> Classifier:
    return of_sizes(176, 160, "test_vit", dynamic_img_size=False)


@pytest.mark.parametrize("mirrored", [False, True])
def test_the_full_view_is_torchvisions_center_crop_of_the_resized_image(tiny, mirrored):
    library = transforms.Compose([transforms.Resize(40), transforms.CenterCrop(40)])
    for image in IMAGES:
        plan = make_plan("MFULL" if mirrored else "FULL")
        _, boxes, (pixels,), _, _ = crop_outputs(tiny, image, plan)
        theirs = np.asarray(library(Image.fromarray(image)))
        assert (pixels.permute(1, 2, 0).numpy() == (theirs[:, ::-1] if mirrored else theirs)).all()
        assert boxes[:, 2:].tolist() == [[40, int(mirrored)]]


@pytest.mark.parametrize("recipe", ["FULL", "FULL+MFULL", "FULL+5FC@logit", "CC+MFULL+3RC@feature"])
@pytest.mark.parametrize("batch_size", [1, 3, 32])
def test_mixed_views_against_a_plain_loop(tiny, recipe, batch_size):
    wrapper, plan = MID(tiny, recipe, batch_size=batch_size), make_plan(recipe)
    for row, probabilities in enumerate(wrapper(IMAGES, keys=list("abcde"))):
        image = resize(as_pil(IMAGES[row]), 40)
        found = []
        for top, left, size, mirrored in plan.boxes(*image.shape[:2], 32, "abcde"[row]).tolist():
            pixels = transforms.functional.crop(image.permute(2, 0, 1), top, left, size, size)
            found.append(tiny.preprocessing.normalise((pixels.flip(2) if mirrored else pixels)[None]))
        weights = torch.from_numpy(plan.weights(plan.recipes[0].level))
        with torch.no_grad():
            if recipe.endswith("feature"):
                expected = tiny.head(weights @ torch.cat([tiny.features(one) for one in found])).softmax(-1)
            else:
                logits = torch.cat([tiny(one) for one in found])
                expected = (weights @ logits).softmax(-1) if "@" in recipe else weights @ logits.softmax(-1)
        torch.testing.assert_close(probabilities, expected[0], rtol=0, atol=1e-5)
    assert wrapper.crops_used.tolist() == [plan.recipes[0].crops] * 5


def test_every_batch_has_one_of_two_shapes_and_each_view_is_forwarded_once(tiny):
    plan, images = make_plan("FULL,FULL+5FC,20RC"), [resize(as_pil(image), 40) for image in IMAGES]
    boxed = [(image, plan.boxes(*image.shape[:2], 32, "key")) for image in images]
    batches = list(fixed_batches(boxed, 8))
    assert {tuple(batch.shape) for batch, _ in batches} == {(8, 3, 32, 32), (8, 3, 40, 40)}
    assert sorted(torch.cat([numbers for _, numbers in batches]).tolist()) == list(range(5 * 26))
    alone = [(image, boxes[1:]) for image, boxes in boxed]
    of_one_size = [batch for batch, _ in batches if batch.shape[-1] == 32]
    assert all(torch.equal(a, b) for a, (b, _) in zip(of_one_size, fixed_batches(alone, 8), strict=True))
    with torch.no_grad():
        engine = TorchEngine(tiny, batch_size=8)
        both, apart = (forward_crops(engine, tiny, some, True) for some in (boxed, alone))
    for together, own in zip(both, apart, strict=True):
        assert torch.equal(together.reshape(5, 26, -1)[:, 1:].flatten(0, 1), own)


def test_where_the_resized_side_is_the_crop_the_full_view_is_the_center_crop():
    for resize_to in (32, 30):
        same = of_sizes(resize_to, 32)
        assert torch.equal(MID(same, "FULL")(IMAGES), MID(same, "CC")(IMAGES))
    assert (mirror(full_box(40, 61, 32)) == [[0, 10, 40, 1]]).all()


def test_a_network_of_one_size_is_refused_before_anything_is_written(one_size, tmp_path):
    said = "tiny test_vit accepts only crops of 160 pixels, not views of 176"
    with pytest.raises(InputError, match=said):
        MID(one_size, "FULL+CC")(IMAGES[0])
    for number, image in enumerate(IMAGES[:2]):
        (tmp_path / "images" / f"{number}").mkdir(parents=True)
        Image.fromarray(image).save(tmp_path / "images" / f"{number}" / "a.png")
    source = find_source(tmp_path / "images", None, 11)
    with pytest.raises(InputError, match=said):
        evaluate(one_size, source, "FULL", device="cpu")
    with pytest.raises(InputError, match=said):
        evaluate_run(one_size, source, "CC,FULL", tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists() or not list((tmp_path / "run").rglob("*.parquet"))
    assert MID(one_size, "CC")(IMAGES[0]).shape == (1, 11)


@pytest.mark.long
def test_a_graph_cuts_and_forwards_larger_views(tiny):
    for recipe in ("FULL", "FULL+MFULL+2RC@logit", "CC+MFULL@feature"):
        wrapper = MID(tiny, recipe)
        graph = ExportedGraph(wrapper, key="k")
        with torch.no_grad():
            ours = torch.stack([graph(torch.from_numpy(image)) for image in IMAGES])
        torch.testing.assert_close(ours, wrapper(IMAGES, keys=["k"] * 5), rtol=0, atol=1e-6)
    with pytest.raises(InputError, match="a graph that takes boxes can only cut crops; leave out FULL and MFULL"):
        ExportedGraph(MID(tiny, "FULL+CC"), given_boxes=True)


@pytest.mark.long
def test_a_file_with_larger_views_gives_the_wrappers_answers(tiny, tmp_path):
    wrapper = MID(tiny, "MFULL+FULL+CC")
    path = export_graph(wrapper, tmp_path / "views.pt2", resized=True)
    assert check_graph(path, wrapper, IMAGES[:3], resized=True) < 1e-4


def test_matched_larger_views_and_a_run_that_keeps_the_numbers(tmp_path):
    tiny = of_sizes(40, 32)
    recipe, center = "FULL+MFULL+CC", MID(tiny, "CC")(IMAGES)
    raw = MID(tiny, recipe)(IMAGES)
    ours = MID(tiny, recipe).match(IMAGES)(IMAGES)
    assert not torch.equal(ours, raw) and torch.equal(MID(tiny, "CC")(IMAGES), center)
    with torch.no_grad():
        crops = crop_outputs(tiny, IMAGES[0], make_plan(recipe))[2]
        features = [tiny.features(tiny.preprocessing.normalise(crop[None])) for crop in crops]
    matched = [
        tiny.matching(some) if crop.shape[-1] == 40 else some for some, crop in zip(features, crops, strict=True)
    ]
    with torch.no_grad():
        expected = torch.stack([tiny.head(some).softmax(-1) for some in matched]).mean(0)
    torch.testing.assert_close(ours[:1], expected, rtol=0, atol=1e-6)

    for number, image in enumerate(IMAGES):
        (tmp_path / "images" / f"{number:02}").mkdir(parents=True)
        Image.fromarray(image).save(tmp_path / "images" / f"{number:02}" / "a.png")
    source = find_source(tmp_path / "images", None, 11)
    match_to_source(tiny, source, device="cpu")
    run = evaluate_run(tiny, source, "CC,FULL", tmp_path / "run", device="cpu")
    kept = Matching.read(run.manifest["matching"])
    assert torch.equal(kept.ratio, tiny.matching.ratio)
    assert not verify_run(run, of_sizes(40, 32), source, device="cpu").problems
    with pytest.raises(InputError, match="a graph cannot match larger views"):
        ExportedGraph(MID(tiny, "FULL"))
    with pytest.raises(InputError, match="give 2 or more"):
        MID(tiny, "FULL").match(IMAGES[0])
