"""Time the policy of larger views: `python tools/less_time.py IMAGES LABELS WEIGHTS` writes `nbs/beyond/less_time.csv`.

IMAGES is a folder and LABELS its CSV; WEIGHTS has the files that `paper_weights.csv` names. Each case is an evaluation
from files to rows by OpenVINO, in turn, several times; what is written is the median, and the float32 center crop is 1.
The larger views are matched on other images of the folder, without labels, before the clock starts. Networks that the
file has are measured again only with `--again`, which replaces a network's lines as soon as it is measured. All six
take at most `--minutes`: a network that has used its share gets no more rounds than three.
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
from mid_nbdev.networks.engines import Engine

KEPT = Path(__file__).resolve().parent.parent / "nbs" / "beyond" / "less_time.csv"
POLICY = "MFULL+CC+4RC~0.8"
FORMATS = ("float32", "bfloat16", "int8")
TIMED, TIMED_RANDOM = 96, 32  # photographs; 20 random crops take long, and are far from 1
LEAST, MOST = 3, 5  # rounds


def spread(source: ImageSource, count: int, shift: int = 0) -> ImageSource:
    "Evenly spread images."
    return source.take([number + shift for number in spread_numbers(len(source) - 1, count)])


def run(classifier: Classifier, source: ImageSource, recipe: str, engine: Engine) -> tuple[float, float]:
    "Seconds per photograph of an evaluation from files to rows, and crops per image."
    plan = make_plan(recipe)
    start = time.perf_counter()
    parts = evaluate_parts(classifier, source, plan, parts_of(source, plan), dtype=engine.dtype, engine=engine)
    rows = pd.concat([part.rows for part in parts])
    return (time.perf_counter() - start) / len(source), rows["crops"].mean()


def load_engines(classifier: Classifier, source: ImageSource) -> dict[str, Engine]:
    "An engine for each format that computes the network well enough."
    calibration, engines = fitted_on(Compute(), classifier, source), {}
    for dtype in FORMATS:
        fitted = calibration if dtype == "int8" else None
        try:
            engines[dtype] = load_engine(classifier, "openvino", dtype, 4, calibration=fitted)
        except InputError as error:  # a format that changes the answers too much
            tqdm.write(str(error))
        else:
            warm(engines[dtype])
    return engines


def take_turns(classifier: Classifier, source: ImageSource, engines: dict[str, Engine], until: float) -> dict:
    "Seconds per photograph and crops per image of each case, round by round."
    timed, few = spread(source, TIMED), spread(source, TIMED_RANDOM)
    cases = list(product(("CC", POLICY), engines))
    taken: dict[tuple[str, str], list[tuple[float, float]]] = {case: [] for case in [*cases, ("20RC", "float32")]}
    for number in range(MOST + 1):  # the first is not counted
        if number > LEAST and time.monotonic() > until:
            break
        for recipe, dtype in cases:
            measured = run(classifier, timed, recipe, engines[dtype])
            if number:
                taken[recipe, dtype].append(measured)
        if number == 1:
            taken["20RC", "float32"].append(run(classifier, few, "20RC", engines["float32"]))
    return taken


def measure(network: str, classifier: Classifier, source: ImageSource, until: float) -> list[dict]:
    "A line for each recipe and format of a network."
    engines = load_engines(classifier, source)
    match_to_source(classifier, spread(source, 200, 1), engine=engines["float32"])
    taken = take_turns(classifier, source, engines, until)
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
                "milliseconds": 1e3 * np.median(seconds),
                "times_center": np.median(ratios),
                "lowest": ratios.min(),
                "highest": ratios.max(),
                "images": TIMED_RANDOM if recipe == "20RC" else TIMED,
                "rounds": len(seconds),
            }
        )
    return lines


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("images", "labels", "weights"):
        arguments.add_argument(name)
    arguments.add_argument("--again", action="store_true", help="measure the networks that the file has, too")
    arguments.add_argument("--minutes", type=float, default=11, help="at most, unless three rounds take longer")
    given = arguments.parse_args()
    source = find_source(given.images, labels=given.labels)
    lines = pd.read_csv(KEPT).to_dict("records") if KEPT.exists() else []
    done = set() if given.again else {line["network"] for line in lines}
    networks = ["efficientnet_lite0", *NETWORKS]
    missing, begun = [name for name in networks if name not in done], time.monotonic()
    for number, network in enumerate(tqdm(missing), 1):
        until = begun + 60 * given.minutes * number / len(missing)  # what quick networks leave is for later ones
        packaged = network == "efficientnet_lite0"
        classifier = load_classifier(network) if packaged else open_network(network, Path(given.weights))
        found = pd.DataFrame(measure(network, classifier, source, until)).assign(processor=processor()).round(4)
        lines = [line for line in lines if line["network"] != network] + found.to_dict("records")
        places = {name: place for place, name in enumerate(networks)}
        order = sorted(lines, key=lambda line: places.get(line["network"], len(places)))
        pd.DataFrame(order).to_csv(KEPT, index=False)
