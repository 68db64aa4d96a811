"""Measure the paper's networks: `python tools/measure.py DATA WEIGHTS KEPT` writes the rows in `nbs/paper/rows`.

DATA has a folder for each set, with `images/` and `labels.csv`; WEIGHTS has the files that `paper_weights.csv` names.
The outputs of every crop are kept in KEPT, 50 images a file, so a measurement that was stopped goes on where it was.
Where a set, a file of weights or some of the images is missing, the rows are those of what is there.
"""

import argparse
import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from mid_nbdev import Classifier, ImageSource, find_source, load_classifier
from mid_nbdev.averaging.adaptive import fit_policy
from mid_nbdev.averaging.batches import forward_crops
from mid_nbdev.crops.recipes import Plan, Policy, make_plan, parse_recipes
from mid_nbdev.data.images import crop_key, spread_numbers
from mid_nbdev.data.reading import read_images
from mid_nbdev.networks.engines import make_engine
from mid_nbdev.networks.models import weights_hash
from mid_nbdev.paper.measured import measured_gains, measured_weights, read_rows
from mid_nbdev.paper.rows import StoredCrops, auto_rows, draw_outcomes, draw_sums, paired_scores, recipe_rows

ROOT = Path(__file__).resolve().parent.parent
ROWS, GAINS = ROOT / "nbs" / "paper" / "rows", ROOT / "mid_nbdev" / "paper" / "paper_gains.csv"
PLANS = {"val800": "5FC+5MFC+40RC+20MRC", "val125": "5FC+5MFC+60RC+40MRC"}
NETWORKS = {  # by the paper's name: the library's, mean and std, interpolation
    "resnet18": ("torchvision/resnet18", None, "bilinear"),
    "resnet50": ("torchvision/resnet50", None, "bilinear"),
    "tf_efficientnet_b0": ("timm/tf_efficientnet_b0", None, "bicubic"),
    "mobilenet_v2": ("timm/mobilenetv2_100,pad_type=same", 0.5, "bilinear"),
    "mobilenet_v3_small": ("timm/tf_mobilenetv3_small_100", 0.5, "bilinear"),
}
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
CROP_SIZES = (192, 240)  # beside 224, for the claim on the ratio of crop to image
OF_RATIO = ("mobilenet_v3_small", "mobilenet_v2", "resnet18")
RATIO_RECIPES = ["CC", "10RC", "20RC"]
CURVES = [f"{first}{count}RC" for count in range(1, 31) for first in ("", "CC+")]
TABLES = ["table_1", "table_2", "table_7", "table_8"]  # those with networks that are measured
RECIPES = ["table_1", "table_2", "table_8", "5RC@feature", "10RC@logit", "20RC@logit", *CURVES]
WISHES = {"agreement 0.99": {"agreement": 0.99}, "budget 2": {"budget": 2}}
TYPES = {"crops": "float32", "draws": "uint8", "correct": "uint8", "nll": "float32", "rank": "float32"}
TYPES["confidence"] = "float32"
AT_ONCE = 50  # images a file
FIT_ON = 200  # images on which `auto` is fitted, as the command takes them


def open_network(network: str, weights: Path, crop_size: int = 224) -> Classifier:
    "A network of the paper with the weights that are measured."
    name, mean, interpolation = NETWORKS[network]
    normalisation = IMAGENET if mean is None else {"mean": (mean,) * 3, "std": (mean,) * 3}
    file = weights / f"{measured_weights().loc[network, 'weights']}.safetensors"
    settings = {"interpolation": interpolation, "resize_to": 256, "crop_size": crop_size, **normalisation}
    return load_classifier(name, file, **settings)


def keep_crops(classifier: Classifier, source: ImageSource, plan: Plan, folder: Path, title: str) -> None:
    "Forward every crop of every image that has none in the folder yet, and keep the outputs in half precision."
    folder.mkdir(parents=True, exist_ok=True)
    about = {"hash": weights_hash(classifier), "crops": plan.crops, "images": source.names}
    (folder / "info.json").write_text(json.dumps(about | {"labels": source.labels.tolist()}))
    engine = make_engine(classifier, "openvino", batch_size=4)
    starts = range(0, len(source), AT_ONCE)
    for first in tqdm([start for start in starts if not (folder / f"{start:04}.npz").exists()], desc=title):
        numbers = range(first, min(first + AT_ONCE, len(source)))
        kept = outputs_of(classifier, source, plan, engine, numbers)
        waiting = folder / f"waiting-{first:04}.npz"
        np.savez(waiting, **kept)
        os.replace(waiting, folder / f"{first:04}.npz")


def is_linear(head: torch.nn.Module) -> bool:
    "Is the head one linear layer, so that averages of features and of logits say the same?"
    layers = [type(module) for module in head.modules() if list(module.parameters(recurse=False))]
    return layers == [torch.nn.Linear]


def outputs_of(classifier: Classifier, source: ImageSource, plan: Plan, engine, numbers: range) -> dict:
    "Logits of all crops of some images, sizes of the resized images, and features where the head is not linear."
    sizes, preprocessing = [], classifier.preprocessing
    with_features = not is_linear(classifier.head)

    def images():
        for number, image, reason, _ in read_images(
            source, numbers, preprocessing.resize_to, preprocessing.interpolation, workers=2
        ):
            if image is None:
                raise SystemExit(f"{source.names[number]}: {reason}")
            sizes.append(image.shape[:2])
            key = crop_key(source.names[number])
            yield image, plan.boxes(*image.shape[:2], preprocessing.crop_size, key, seed=0)

    with torch.inference_mode():
        features, logits = forward_crops(engine, classifier, images(), with_features)
    shaped = {"logits": logits} | ({"features": features} if with_features else {})
    shape = (len(numbers), len(plan.crops), -1)
    return {name: values.reshape(shape).half().numpy() for name, values in shaped.items()} | {"sizes": np.array(sizes)}


def read_crops(folder: Path, head: torch.nn.Module) -> tuple[StoredCrops, np.ndarray, dict] | None:
    "What is kept in a folder, the images' sizes and what is known of the network; `None` if nothing is kept."
    parts = [np.load(path) for path in sorted(folder.glob("[0-9]*.npz"))]
    if not parts:
        return None
    about = json.loads((folder / "info.json").read_text())
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0].files}
    count, crops = len(joined["logits"]), tuple((kind, int(number)) for kind, number in about["crops"])
    names, labels = tuple(about["images"][:count]), np.array(about["labels"][:count])
    features = torch.from_numpy(joined["features"]) if "features" in joined else None
    stored = StoredCrops(names, labels, crops, torch.from_numpy(joined["logits"]), features, head)
    return stored, joined["sizes"], about


def fitted_policies(stored: StoredCrops, other: StoredCrops | None) -> dict[str, Policy]:
    "`auto` as it comes, fitted on the same images without their labels, and fitted on other images."
    sample = spread_numbers(len(stored.images), FIT_ON)
    policies = {"auto": Policy()}
    for words, wish in WISHES.items():
        policies[f"auto --{words}"] = fit_policy(paired_scores(stored)[sample], **wish)
        if other is not None:
            policies[f"auto --{words}, fitted on other images"] = fit_policy(paired_scores(other), **wish)
    return policies


def make_rows(
    stored: StoredCrops, policies: dict[str, Policy], recipes: list[str]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    "Rows of every recipe and policy, and the sums of every draw."
    outcomes = draw_outcomes(stored, recipes)
    stopped = [auto_rows(stored, policy, title) for title, policy in policies.items()]
    tables = [rows.astype({"recipe": str, "image": str}) for rows in (recipe_rows(outcomes, stored.images), *stopped)]
    return pd.concat(tables), draw_sums(outcomes)


def save(table: pd.DataFrame, name: str, categories: list[str]) -> None:
    "Write a table as compact Parquet."
    for column in categories:
        table[column] = pd.Categorical(table[column], categories=list(dict.fromkeys(table[column])))
    table.reset_index(drop=True).to_parquet(ROWS / name, index=False, compression="zstd", compression_level=19)


def measure_set(name: str, kept: Path, weights: Path) -> tuple[pd.DataFrame, list[pd.DataFrame], list[dict], list]:
    "Rows of a set, sums of the draws, a line on every run, and the images."
    other = next(iter(PLANS.keys() - {name}))
    tables, totals, runs, images = [], [], [], []
    for network in NETWORKS:
        head = open_network(network, weights).head
        found = read_crops(kept / name / network, head)
        if found is None:
            continue
        stored, sizes, about = found
        elsewhere = read_crops(kept / other / network, head)
        policies = fitted_policies(stored, elsewhere and elsewhere[0])
        rows, sums = make_rows(stored, policies, RECIPES)
        tables.append(rows.assign(network=network))
        totals.append(sums.assign(network=network, data=name))
        margins = {title: policy.margin for title, policy in policies.items()}
        counts = {"images": len(stored.images), "of": len(about["images"])}
        runs.append({"data": name, "network": network, **counts, "weights_hash": about["hash"], **margins})
        shapes = {"height": sizes[:, 0], "width": sizes[:, 1]}
        images.append(pd.DataFrame({"data": name, "image": stored.images, "label": stored.labels} | shapes))
    return pd.concat(tables), totals, runs, images


def measure_ratio(kept: Path, weights: Path) -> list[pd.DataFrame]:
    "Rows of other crop sizes, and of 224 pixels beside them."
    tables = []
    for network in OF_RATIO:
        folders = {size: kept / "val800" / f"{network}-256-{size}" for size in CROP_SIZES} | {
            224: kept / "val800" / network
        }
        read = {size: read_crops(folder, open_network(network, weights).head) for size, folder in folders.items()}
        for size, found in read.items() if all(read.values()) else ():
            rows, _ = make_rows(found[0], {}, RATIO_RECIPES)
            tables.append(rows.assign(network=f"{network}-256-{size}"))
    return tables


def write_rows(kept: Path, weights: Path) -> None:
    "Turn what is kept into the rows of the repository."
    columns, totals, runs, images = ["network", "recipe", "image", *TYPES], [], [], []
    for name in PLANS:
        rows, *others = measure_set(name, kept, weights)
        save(rows[columns].astype(TYPES), f"{name}.parquet", ["network", "recipe", "image"])
        for kind, more in zip((totals, runs, images), others):
            kind += more
    sums = pd.concat(totals)[["data", "network", "recipe", "draw", "images", "correct", "nll"]]
    small = {"draw": "uint8", "images": "uint16", "correct": "uint16", "nll": "float32"}
    save(sums.astype(small), "totals.parquet", ["data", "network", "recipe"])
    every = pd.concat(images).drop_duplicates(["data", "image"]).sort_values(["data", "image"])
    save(every.astype({"label": "uint16", "height": "uint16", "width": "uint16"}), "images.parquet", ["data"])
    pd.DataFrame(runs).to_csv(ROWS / "runs.csv", index=False)
    recipes = [str(recipe) for recipe in parse_recipes(TABLES)]
    gains = measured_gains(read_rows(ROWS), recipes)
    gains.to_csv(GAINS, index=False, float_format="%.4f")
    if ratio := measure_ratio(kept, weights):
        save(pd.concat(ratio)[columns].astype(TYPES), "ratio.parquet", ["network", "recipe", "image"])


def measure(data: Path, weights: Path, kept: Path, networks: list[str], sets: list[str], ratio: bool) -> None:
    "Forward what is missing, then write the rows of all that is kept."
    for name in sets:
        source = find_source(data / name / "images", data / name / "labels.csv")
        for network in networks:
            folder = kept / name / network
            keep_crops(open_network(network, weights), source, make_plan(PLANS[name]), folder, f"{name} {network}")
            for size in CROP_SIZES if ratio and name == "val800" and network in OF_RATIO else ():
                small, title = open_network(network, weights, size), f"{name} {network} at {size} pixels"
                keep_crops(small, source, make_plan("5FC+40RC"), folder.with_name(f"{network}-256-{size}"), title)
    write_rows(kept, weights)


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("data", type=Path, help="folder of the sets")
    arguments.add_argument("weights", type=Path, help="folder of the weights")
    arguments.add_argument("kept", type=Path, help="folder in which the outputs of the crops are kept")
    arguments.add_argument("--networks", nargs="*", default=list(NETWORKS), help="which networks to forward now")
    arguments.add_argument("--sets", nargs="*", default=list(PLANS), help="which sets to forward now")
    arguments.add_argument("--ratio", action="store_true", help="forward the other crop sizes too")
    measure(**vars(arguments.parse_args()))
