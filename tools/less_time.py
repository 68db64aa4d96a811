"""Time the policy of larger views: `python tools/less_time.py IMAGES LABELS WEIGHTS` writes `nbs/beyond/less_time.csv`.

IMAGES is a folder and LABELS its CSV; WEIGHTS has the files that `paper_weights.csv` names. Each case is an evaluation
from files to rows by OpenVINO, in turn, several times; what is written is the median, and the float32 center crop is 1.
The larger views are matched on other images of the folder, without labels, before the clock starts. Networks that the
file has are not measured again.
"""

import argparse
import time
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from measure import NETWORKS, open_network
from tqdm.auto import tqdm

from mid_nbdev import Classifier, ImageSource, find_source, load_classifier
from mid_nbdev.benchmark.bench import warm
from mid_nbdev.crops.recipes import make_plan
from mid_nbdev.data.images import spread_numbers
from mid_nbdev.errors import InputError
from mid_nbdev.evaluation.compute import Compute, fitted_on
from mid_nbdev.evaluation.evaluate import evaluate_parts, match_to_source, parts_of
from mid_nbdev.networks.choose import load_engine, processor

KEPT = Path(__file__).resolve().parent.parent / "nbs" / "beyond" / "less_time.csv"
POLICY = "MFULL+CC+4RC~0.8"
FORMATS = ("float32", "bfloat16", "int8")
TIMED, ROUNDS = 96, 5


def spread(source: ImageSource, count: int, shift: int = 0) -> ImageSource:
    "Evenly spread images."
    return source.take([number + shift for number in spread_numbers(len(source) - 1, count)])


def run(classifier: Classifier, source: ImageSource, recipe: str, engine) -> tuple[float, float]:
    "Seconds of an evaluation from files to rows, and crops per image."
    plan = make_plan(recipe)
    start = time.perf_counter()
    parts = evaluate_parts(classifier, source, plan, parts_of(source, plan), dtype=engine.dtype, engine=engine)
    rows = pd.concat([part.rows for part in parts])
    return time.perf_counter() - start, rows["crops"].mean()


def measure(network: str, classifier: Classifier, source: ImageSource) -> list[dict]:
    "A line for each recipe and format of a network."
    timed, others = spread(source, TIMED), spread(source, 200, 1)
    calibration = fitted_on(Compute(), classifier, source)
    engines = {}
    for dtype in FORMATS:
        fitted = calibration if dtype == "int8" else None
        try:
            engines[dtype] = load_engine(classifier, "openvino", dtype, 4, calibration=fitted)
        except InputError as error:  # a format that changes the answers too much
            tqdm.write(str(error))
        else:
            warm(engines[dtype])
    match_to_source(classifier, others, engine=engines["float32"])
    cases = [*product(("CC", POLICY), engines), ("20RC", "float32")]
    taken: dict[tuple, list[tuple[float, float]]] = {case: [] for case in cases}
    for number in range(ROUNDS + 1):  # the first is not counted
        for recipe, dtype in cases:
            if recipe == "20RC" and number != 1:
                continue  # takes long, and is far from 1
            measured = run(classifier, timed, recipe, engines[dtype])
            if number:
                taken[recipe, dtype].append(measured)
    center = [seconds for seconds, _ in taken["CC", "float32"]]
    lines = []
    for (recipe, dtype), found in taken.items():
        seconds = [some for some, _ in found]
        ratios = np.array(seconds) / np.array(center[: len(seconds)])
        lines.append(
            {
                "network": network,
                "recipe": recipe,
                "dtype": dtype,
                "views": found[-1][1],
                "milliseconds": 1e3 * np.median(seconds) / len(timed),
                "times_center": np.median(ratios),
                "lowest": ratios.min(),
                "highest": ratios.max(),
                "images": len(timed),
                "rounds": len(seconds),
            }
        )
    return lines


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("images", "labels", "weights"):
        arguments.add_argument(name)
    given = arguments.parse_args()
    source, lines = find_source(given.images, labels=given.labels), []
    if KEPT.exists():
        lines = pd.read_csv(KEPT).to_dict("records")
    done = {line["network"] for line in lines}
    for network in tqdm([name for name in ("efficientnet_lite0", *NETWORKS) if name not in done]):
        packaged = network == "efficientnet_lite0"
        classifier = load_classifier(network) if packaged else open_network(network, Path(given.weights))
        lines += measure(network, classifier, source)
        pd.DataFrame(lines).assign(processor=processor()).round(4).to_csv(KEPT, index=False)
