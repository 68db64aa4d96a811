"""Accuracy against time: `python tools/accuracy_time.py KEPT WEIGHTS EARLIER DATA RUNS` writes a table for the figure.

KEPT, WEIGHTS, EARLIER and DATA are those of `tools/larger_views.py`; what was forwarded there gives the fixed recipes
in float32 and bfloat16. The policy is evaluated here in every format, and the center crop in int8, on 800 validation
images: features of larger views are matched on the other half of the images, int8 is fitted on other photographs. Rows
are kept in RUNS, so that what was stopped goes on. The table is `nbs/beyond/accuracy_time.csv`; `accuracy_draws.csv`
compares the policy with the mean of 20 draws of 20 random crops, for the networks that have them in `nbs/paper/rows`.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from larger_views import ALL, averaged, averages, opened, pooled, read_views, rows_of
from less_time import FORMATS, POLICY
from measure import ROOT

from mid_nbdev import Classifier, ImageSource, evaluate, find_source
from mid_nbdev.errors import InputError
from mid_nbdev.evaluation.compute import Compute, fitted_on
from mid_nbdev.evaluation.evaluate import match_to_source
from mid_nbdev.networks.choose import load_engine
from mid_nbdev.networks.formats import Calibration
from mid_nbdev.paper.measured import image_values, read_rows

CROPS = {"CC": 1, "5FC+5MFC": 10, "20RC": 20}
SETS = ("val800", "eli500")
COLUMNS = ["recipe", "image", "rank", "p_true", "prediction", "crops"]


def evaluated(classifier: Classifier, source: ImageSource, dtype: str, fitted: Calibration) -> pd.DataFrame:
    "Rows of the policy, and in int8 of the center crop, each half matched on the other."
    engine = load_engine(classifier, "openvino", dtype, 4, calibration=fitted if dtype == "int8" else None)
    halves = [range(start, len(source), 2) for start in (0, 1)]
    found = []
    for own, other in (halves, halves[::-1]):
        match_to_source(classifier, source.take(other), engine=engine)
        recipes = [POLICY] if dtype != "int8" else [POLICY, "CC"]
        rows = [evaluate(classifier, source.take(own), recipe, engine=engine).rows for recipe in recipes]
        found.append(pd.concat(rows)[COLUMNS])
    return pd.concat(found).astype({"recipe": str, "image": str})


def kept_rows(file: Path, earlier: Path, network: str, names: list[str]) -> dict[tuple[str, str], pd.DataFrame]:
    "Rows of the fixed recipes that were forwarded before, by recipe and format."
    views, logits, _, labels = read_views(file, "f32")
    found = {(recipe, "float32"): some for recipe, some in averages(views, logits, earlier, network).items()}
    views, logits, _, _ = read_views(file, "bf16")
    fixed = [place for place, view in enumerate(views) if view[:-1] in ("FC", "MFC")]
    found["CC", "bfloat16"] = logits[:, views.index("FC4")].softmax(-1)
    found["5FC+5MFC", "bfloat16"] = logits[:, fixed].softmax(-1).mean(1)
    return {
        (recipe, dtype): rows_of(some, labels).set_axis(names).assign(crops=CROPS[recipe])
        for (recipe, dtype), some in found.items()
        if recipe in CROPS
    }


def all_rows(given: argparse.Namespace, network: str) -> dict[tuple[str, str], pd.DataFrame]:
    "Rows of every recipe and format of a network, by image."
    data = {name: find_source(given.data / name / "images", given.data / name / "labels.csv") for name in SETS}
    classifier = opened(network, given.weights)
    fitted = fitted_on(Compute(), classifier, data["eli500"])  # read when it is needed
    names = list(data["val800"].names)
    found = kept_rows(given.kept / "val800" / f"{network}.npz", given.earlier / "val800", network, names)
    for dtype in given.formats:
        if not (file := given.runs / f"{network}-{dtype}.parquet").exists():
            try:
                evaluated(classifier, data["val800"], dtype, fitted).to_parquet(file)
            except InputError as error:  # a format that changes the answers too much
                print(error)
                continue
        for recipe, rows in pd.read_parquet(file).groupby("recipe"):
            found[str(recipe), dtype] = rows.set_index("image").loc[names]
    return found


def judge(given: argparse.Namespace) -> pd.DataFrame:
    "A line per network, recipe and format: gain over the float32 center crop, and predictions that the format changes."
    each = {network: all_rows(given, network) for network in ALL}
    cases = sorted({case for rows in each.values() for case in rows}, key=lambda case: (FORMATS.index(case[1]), case))
    lines = []
    for recipe, dtype in cases:
        about = {"recipe": recipe, "dtype": dtype}
        there = {network: rows for network, rows in each.items() if (recipe, dtype) in rows}
        for network, rows in there.items():
            own = rows[recipe, dtype]
            exact = rows.get((recipe, "float32"), own)
            found = pooled([own], [rows["CC", "float32"]])
            changed = int((own["prediction"] != exact["prediction"]).sum())
            counts = {"images": len(own), "crops": own["crops"].mean(), "changed": changed}
            title = network.replace("lite0", "efficientnet_lite0")
            lines.append({"network": title, **about, **found, **counts})
        beside = (recipe, dtype), ("CC", "float32"), ("20RC", "float32")
        own, base, twenty = ([rows[case] for rows in there.values()] for case in beside)
        against = {f"over_20RC_{name}": value for name, value in pooled(own, twenty).items()}
        counts = {"images": len(own[0]), "crops": np.mean([some["crops"].mean() for some in own])}
        lines.append({"network": f"{len(own)} networks", **about, **pooled(own, base), **counts, **against})
    return pd.DataFrame(lines)


def against_draws(runs: Path) -> pd.DataFrame:
    "A line per format: the policy less the mean of 20 draws of 20 random crops, pooled over networks."
    rows, lines = read_rows(ROOT / "nbs" / "paper" / "rows"), []
    correct, nll = image_values(rows, "20RC"), image_values(rows, "20RC", "nll")
    for dtype in FORMATS:
        differences = []
        for network in correct.columns:
            own = pd.read_parquet(runs / f"{network}-{dtype}.parquet").query("recipe == @POLICY").set_index("image")
            own = own.loc[correct.index]
            top1, likelihood = 100.0 * ((own["rank"] == 0) - correct[network]), -np.log(own["p_true"]) - nll[network]
            differences.append((top1, likelihood))
        counts = {"networks": len(differences), "images": len(correct), "draws": int(rows["draws"].max())}
        lines.append({"recipe": POLICY, "dtype": dtype, **counts, **averaged(*map(list, zip(*differences)))})
    return pd.DataFrame(lines)


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name in ("kept", "weights", "earlier", "data", "runs"):
        arguments.add_argument(name, type=Path)
    arguments.add_argument("--formats", nargs="*", default=FORMATS, help="formats to evaluate now")
    given = arguments.parse_args()
    given.runs.mkdir(parents=True, exist_ok=True)
    table = judge(given)
    against_draws(given.runs).to_csv(ROOT / "nbs" / "beyond" / "accuracy_draws.csv", index=False, float_format="%.4f")
    table.to_csv(ROOT / "nbs" / "beyond" / "accuracy_time.csv", index=False, float_format="%.4f")
