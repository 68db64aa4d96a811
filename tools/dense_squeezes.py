"""Dense averaging of networks with squeeze-and-excitation: `python tools/dense_squeezes.py DATA WEIGHTS`.

DATA has the folder of the set that nothing was chosen on, WEIGHTS the files that `paper_weights.csv` names. Writes
`nbs/beyond/dense_squeezes.csv`: dense averaging over the strip, squeezed over the whole strip and nearby, less the
center crop and less 20 random crops, the mean of the draws in `nbs/paper/rows`.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from larger_views import JUDGED, averaged, rows_of
from measure import ROOT, open_network

from mid_nbdev import find_source
from mid_nbdev.averaging.dense import DenseMID
from mid_nbdev.evaluation.evaluate import wrapper_probabilities
from mid_nbdev.paper.measured import image_values, read_rows

NETWORKS = ("tf_efficientnet_b0", "mobilenet_v3_small")
SQUEEZED = {"over the strip": False, "nearby": True}


def main(data: Path, weights: Path) -> None:
    "Write a line per network, way to squeeze and baseline."
    source = find_source(data / JUDGED / "images", data / JUDGED / "labels.csv")
    rows, lines = read_rows(ROOT / "nbs" / "paper" / "rows", JUDGED), []
    for network in NETWORKS:
        classifier, found = open_network(network, weights), {}
        for squeezed, nearby in SQUEEZED.items():
            probabilities = wrapper_probabilities(DenseMID(classifier, nearby=nearby), source)
            own = rows_of(probabilities, torch.tensor(source.labels)).set_axis(list(source.names))
            found[squeezed] = 100.0 * (own["rank"] == 0), -np.log(own["p_true"].clip(1e-38))
        for baseline in ("CC", "20RC"):
            right, nll = (image_values(rows, baseline, column)[network] for column in ("right", "nll"))
            found[baseline] = 100 * right.loc[list(source.names)], nll.loc[list(source.names)]
        pairs = [(squeezed, baseline) for squeezed in SQUEEZED for baseline in ("CC", "20RC")]
        for squeezed, baseline in [*pairs, ("nearby", "over the strip")]:
            about = {"network": network, "squeezed": squeezed, "baseline": baseline, "images": len(source)}
            points, nats = (own - base for own, base in zip(found[squeezed], found[baseline]))
            lines.append(about | averaged([points], [nats]))
    pd.DataFrame(lines).to_csv(ROOT / "nbs" / "beyond" / "dense_squeezes.csv", index=False, float_format="%.4f")


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("data", type=Path, help="folder of the sets of images")
    arguments.add_argument("weights", type=Path, help="folder of the weights")
    main(**vars(arguments.parse_args()))
