"""Judge larger views: `python tools/larger_views.py KEPT WEIGHTS EARLIER DATA` writes `nbs/beyond/larger_views.csv`.

KEPT has a file SET/NETWORK.npz for each set of images and network: `labels`, and for each number format the `views`
(FC4 is the center crop), their `logits` (images, views, classes) and `feats`, the pooled features of the center crop,
its mirror image, FULL and MFULL. WEIGHTS has the files that `paper_weights.csv` names, DATA the images of each set,
which are forwarded once for mean-max pooling. What is fitted is fitted on every other image and judged on the rest,
both ways round.
"""

import argparse
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from measure import NETWORKS, ROOT, open_network
from scipy.optimize import curve_fit
from torch.nn.functional import avg_pool2d
from tqdm.auto import tqdm

from mid_nbdev import Classifier, find_source, load_classifier
from mid_nbdev.analysis.stats import compare_correct, compare_likelihood, mean_interval
from mid_nbdev.averaging.dense import feature_map
from mid_nbdev.averaging.matching import fit_matching
from mid_nbdev.averaging.temperature import fit_temperature, match_confidence, scale
from mid_nbdev.crops.boxes import cut
from mid_nbdev.crops.recipes import make_plan
from mid_nbdev.data.reading import read_images
from mid_nbdev.evaluation.evaluate import score

SETS = {"nips500": "bf16", "eli500": "bf16", "val800": "f32"}  # and the number format that is judged
JUDGED = "val800"  # the set that nothing was chosen on
CENTER, FULL = 0, 2  # places among the views whose features are kept
ALL = ("lite0", *NETWORKS)
MATCHED, MEAN_MAX = "FULL, channels", "FULL, mean-max"  # compared directly, where both are computed


SHAPE = 0.3  # of the Fréchet distribution, as FixRes has it


def opened(network: str, weights: Path) -> Classifier:
    "A network by its short name."
    return load_classifier("efficientnet_lite0") if network == "lite0" else open_network(network, weights)


@torch.no_grad()
def keep_windows(classifier: Classifier, folder: Path, file: Path) -> None:
    "The features of FULL pooled over every window of a crop's map, (images, windows, feature_size), in half precision."
    expected, source = classifier.preprocessing, find_source(folder / "images", labels=folder / "labels.csv")
    own = feature_map(classifier, torch.zeros(1, 3, expected.crop_size, expected.crop_size)).shape[-1]
    read = read_images(source, range(len(source)), expected.resize_to, expected.interpolation)
    found = []
    for image in tqdm((one.image for one in read), file.stem, len(source)):
        boxes = make_plan("FULL").boxes(*image.shape[:2], expected.crop_size, "")
        cells = feature_map(classifier, expected.normalise(cut(image, boxes)))
        found.append(avg_pool2d(cells, own, stride=1).flatten(2).transpose(1, 2).half())
    file.parent.mkdir(parents=True, exist_ok=True)
    np.save(file, torch.cat(found).numpy())


@torch.no_grad()
def mean_max_of(classifier: Classifier, folder: Path, file: Path) -> torch.Tensor:
    "Probabilities by timm's pooling at test time: half the mean and half the largest of the windows' logits."
    if not file.exists():
        keep_windows(classifier, folder, file)
    windows = torch.from_numpy(np.load(file)).float()
    logits = classifier.head(windows.flatten(0, 1)).unflatten(0, windows.shape[:2])
    return (logits.mean(1) / 2 + logits.amax(1) / 2).softmax(-1)


def frechet(features: torch.Tensor) -> tuple[float, float]:
    "Place and scale of a Fréchet distribution fitted to the distribution of all features, by least squares."
    shares = np.linspace(0.01, 0.99, 99)
    values = np.quantile(features.numpy(), shares)
    stretch = ((-np.log(shares)) ** -SHAPE - 1) / SHAPE  # the quantiles of place 0 and scale 1
    scale, place = np.polyfit(stretch, values, 1)  # where the fit begins

    def below(value, place, scale):
        return np.exp(-(np.maximum(1 + SHAPE * (value - place) / scale, 1e-9) ** (-1 / SHAPE)))

    (place, scale), _ = curve_fit(below, values, shares, (place, scale), bounds=([-np.inf, 1e-6], np.inf))
    return place, scale


def read_views(file: Path, number_format: str) -> tuple[list[str], torch.Tensor, torch.Tensor, torch.Tensor]:
    "Names of the views, their logits, the features, and the labels."
    kept = np.load(file)
    logits, features = (torch.from_numpy(kept[f"{number_format}_{name}"]).float() for name in ("logits", "feats"))
    return list(kept[f"{number_format}_views"]), logits, features, torch.from_numpy(kept["labels"]).long()


def averages(views: list[str], logits: torch.Tensor, kept: Path, weights_of: str) -> dict[str, torch.Tensor]:
    "Probabilities of what needs no fit, by recipe."
    scores = logits.softmax(-1)
    if not any(view.startswith("RC") for view in views):  # the paper's networks: measured before, with these crops
        scores = torch.cat([scores, earlier_scores(kept, weights_of)], 1)
        views = [*views, *[f"X{kind}{number}" for kind in ("FC", "MFC") for number in range(5)]]
        views += [f"RC{number}" for number in range(20)]
    fixed = [place for place, view in enumerate(views) if view.startswith(("XFC", "XMFC"))] or [
        place for place, view in enumerate(views) if view[:-1] in ("FC", "MFC")
    ]
    random = [place for place, view in enumerate(views) if view.startswith("RC")]
    center, full, mirrored = (scores[:, views.index(view)] for view in ("FC4", "FULL0", "MFULL0"))
    return {
        "CC": center,
        "5FC+5MFC": scores[:, fixed].mean(1),
        "20RC": scores[:, random].mean(1),
        "FULL": full,
        "FULL+MFULL": (full + mirrored) / 2,
        "CC+FULL": (full + center) / 2,
    }


def earlier_scores(kept: Path, network: str) -> torch.Tensor:
    "Scores of the ten fixed and the first 20 random crops, as `measure.py` kept them."
    parts = [np.load(file)["logits"][:, :30] for file in sorted((kept / network).glob("[0-9]*.npz"))]
    return torch.from_numpy(np.concatenate(parts)).float().softmax(-1)


@torch.no_grad()
def fitted(views, logits, features, labels, head) -> dict[str, torch.Tensor]:
    "Probabilities of what is fitted on the other half, by name."
    found: dict[str, torch.Tensor] = {}
    center, full, mirrored = (logits[:, views.index(view)] for view in ("FC4", "FULL0", "MFULL0"))
    even = torch.arange(len(labels)) % 2 == 0
    for fit, judge in ((even, ~even), (~even, even)):
        crops, larger = features[fit, CENTER], features[fit, FULL]
        channels = fit_matching(torch.stack([larger, crops], 1).flatten(0, 1))
        scaled = partial(torch.mul, crops.norm(dim=1).mean() / larger.norm(dim=1).mean())
        (place, width), (own_place, own_width) = frechet(larger), frechet(crops)
        both = features[judge, FULL:]
        answers = {}
        ways = {"channels": channels, "one scale": scaled}
        ways["Fréchet"] = lambda view, a=place, b=width, c=own_place, d=own_width: (view - a) * (d / b) + c
        for name, change in ways.items():
            one, other = (head(change(view)).softmax(-1) for view in both.unbind(1))
            answers |= {f"FULL, {name}": one, f"FULL+MFULL, {name}": (one + other) / 2}
            answers[f"CC+FULL, {name}"] = (one + center[judge].softmax(-1)) / 2
        confidence = float(center[fit].softmax(-1).amax(-1).mean())
        level = match_confidence(full[fit].softmax(-1), confidence)
        answers["FULL, confidence"] = scale(full[judge].softmax(-1), level)
        answers["FULL+MFULL, confidence"] = sum(scale(some[judge].softmax(-1), level) for some in (full, mirrored)) / 2
        for name, some in (("CC", center), ("FULL", full)):
            level = fit_temperature(some[fit].softmax(-1), labels[fit])
            answers[f"{name}, labels"] = scale(some[judge].softmax(-1), level)
        for name, some in answers.items():
            found.setdefault(name, torch.zeros_like(center))[judge] = some
    return found


def changed_by_int8(kept: Path) -> pd.DataFrame:
    "Predictions that int8, with NNCF's default settings, changes against bfloat16, with one and with ten fixed crops."
    lines = []
    for network in ALL:
        file, found = kept / JUDGED / f"{network}.npz", []
        for number_format in ("bf16", "int8"):
            views, logits, _, _ = read_views(file, number_format)
            ten = logits[:, [place for place, view in enumerate(views) if view[:-1] in ("FC", "MFC")]].softmax(-1)
            found.append(torch.stack([ten[:, views.index("FC4")], ten.mean(1)]).argmax(-1))
        one, ten = (found[0] != found[1]).sum(1).tolist()
        lines.append({"network": network, "images": found[0].shape[1], "CC": one, "5FC+5MFC": ten})
    return pd.DataFrame(lines)


def rows_of(probabilities: torch.Tensor, labels: torch.Tensor) -> pd.DataFrame:
    "Rows as of a run, indexed by image."
    columns = {name: values[:, 0] for name, values in score(probabilities[:, None], labels).items()}
    return pd.DataFrame(columns).rename_axis("image")


def pooled(rows: list[pd.DataFrame], baselines: list[pd.DataFrame]) -> dict[str, float]:
    "What a recipe gains over a baseline, averaged over networks, with intervals over images."
    correct = [100.0 * ((some["rank"] == 0).astype(float) - (base["rank"] == 0)) for some, base in zip(rows, baselines)]
    change = [np.log(base["p_true"].clip(1e-38) / some["p_true"].clip(1e-38)) for some, base in zip(rows, baselines)]
    return averaged(correct, change)


def averaged(correct: list[pd.Series], change: list[pd.Series]) -> dict[str, float]:
    "Points of top-1 and nats of each network's images, averaged over networks, with intervals over images."
    columns = ("gain", "gain_low", "gain_high"), ("nll_change", "nll_low", "nll_high")
    values = (mean_interval(np.mean(some, axis=0)) for some in (correct, change))
    return {name: value for names, three in zip(columns, values) for name, value in zip(names, three)}


def pairs(recipes: list[str]) -> list[tuple[str, str]]:
    "Each recipe and the baselines that it is compared with: one crop, 20 random crops, and the matched larger view."
    found = [(recipe, baseline) for baseline in ("CC", "20RC") for recipe in recipes]
    return found + [(MEAN_MAX, MATCHED)] * (MEAN_MAX in recipes)


def judge(kept: Path, weights: Path, earlier: Path, data: Path) -> pd.DataFrame:
    "A line per set, network, recipe and baseline; the network `all` is the mean over those of the set."
    lines, wanted = [], ["gain", "gain_low", "gain_high", "nll_change", "nll_low", "nll_high"]
    for name, number_format in SETS.items():
        each: dict[str, dict[str, pd.DataFrame]] = {}
        for network in ALL:
            if not (file := kept / name / f"{network}.npz").exists():
                continue
            read = read_views(file, number_format)
            classifier = opened(network, weights)
            answers = averages(*read[:2], earlier / name, network) | fitted(*read, classifier.head)
            if name == JUDGED:
                answers[MEAN_MAX] = mean_max_of(classifier, data / name, file.with_name(f"{network}-windows.npy"))
            each[network] = {recipe: rows_of(some, read[-1]) for recipe, some in answers.items()}
        for recipe, baseline in pairs(list(next(iter(each.values())))):
            about = {"data": name, "recipe": recipe, "baseline": baseline}
            for network, rows in each.items():
                own, base = rows[recipe], rows[baseline]
                found = compare_likelihood(own, base) | compare_correct(own["rank"] == 0, base["rank"] == 0)
                top1 = 100 * (own["rank"] == 0).mean()
                counts = {"network": network, "images": len(rows[recipe]), "top1": top1}
                lines.append(about | counts | {key: found[key] for key in wanted})
            own, base = ([rows[one] for rows in each.values()] for one in (recipe, baseline))
            lines.append(about | {"network": "all", "images": len(own[0])} | pooled(own, base))
    return pd.DataFrame(lines)


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("kept", type=Path, help="folder of what was forwarded")
    arguments.add_argument("weights", type=Path, help="folder of the weights")
    arguments.add_argument("earlier", type=Path, help="folder in which tools/measure.py kept its crops")
    arguments.add_argument("data", type=Path, help="folder of the sets of images")
    given = arguments.parse_args()
    table = judge(given.kept, given.weights, given.earlier, given.data)
    table.to_csv(ROOT / "nbs" / "beyond" / "larger_views.csv", index=False, float_format="%.4f")
    changed_by_int8(given.kept).to_csv(ROOT / "nbs" / "beyond" / "int8_crops.csv", index=False)
