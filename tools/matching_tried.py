"""What was tried for matching: `python tools/matching_tried.py KEPT WEIGHTS` writes `nbs/beyond/matching_tried.csv`.

KEPT and WEIGHTS are those of `tools/larger_views.py`. Each way is fitted without labels on some images, and judged by
what `FULL` then changes over the center crop on images that it was not fitted on; never on the set that nothing was
chosen on. Where the images to fit on are drawn, the effect on an image is the mean over the draws that judge it.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from larger_views import ALL, CENTER, FULL, JUDGED, SETS, averaged, opened, read_views
from measure import ROOT

DRAWS, SEED = 20, 0
SIZES = (25, 50, 100, 200)  # images to fit on
FLOORS = (0, 0.01, 0.1, 1)  # times the mean variance, added to every variance
CHOSEN = "channels, floor 0.01"
Change = Callable[[torch.Tensor], torch.Tensor]


def ways(larger: torch.Tensor, crops: torch.Tensor) -> dict[str, Change]:
    "Ways to bring features of the larger view to those of crops, fitted on the features of some images."
    place, own_place, spread, own = larger.mean(0), crops.mean(0), larger.var(0), crops.var(0)

    def moved(ratio: torch.Tensor) -> Change:
        return lambda features: (features - place) * ratio + own_place

    found = {}
    for floor in FLOORS:
        least = (floor * spread.mean()).clamp_min(1e-12)
        found[f"channels, floor {floor:g}"] = moved(((own + least) / (spread + least)).sqrt())
    one = moved((own.sum() / spread.sum()).sqrt())
    scaled = crops.norm(dim=1).mean() / larger.norm(dim=1).mean()
    found |= {"means, one ratio": one, "means, one ratio, no negative features": lambda some: one(some).clamp_min(0)}
    return found | {"one scale": lambda features: features * scaled}


class Network:
    "What is kept of one network and set."

    def __init__(self, file: Path, number_format: str, head: torch.nn.Module):
        views, logits, self.features, self.labels = read_views(file, number_format)
        self.head, center = head, logits[:, views.index("FC4")].softmax(-1)
        self.base = self.scored(center, torch.arange(len(center)))

    def scored(self, probabilities: torch.Tensor, images: torch.Tensor) -> np.ndarray:
        "Points of top-1 and nats of each image (2, images)."
        labels = self.labels[images]
        true = probabilities[torch.arange(len(labels)), labels].clamp_min(1e-38)
        return np.stack([100.0 * (probabilities.argmax(-1) == labels).numpy(), -true.log().numpy()])

    def changed(self, change: Change, images: torch.Tensor) -> np.ndarray:
        "What a way changes over the center crop (2, images), NaN for images that are not judged."
        found = np.full_like(self.base, np.nan)
        answers = self.head(change(self.features[images, FULL])).softmax(-1)
        found[:, images] = self.scored(answers, images) - self.base[:, images]
        return found


def tried(own: Network, other: Network) -> dict[tuple[str, str], np.ndarray]:
    "Points and nats of each image (2, images), by way and by what it was fitted on."
    noise, count = np.random.default_rng(SEED), len(own.labels)
    found: dict[tuple[str, str], list[np.ndarray]] = {}
    for _ in range(DRAWS):
        order = torch.from_numpy(noise.permutation(count))
        for size in SIZES:
            larger, crops = (own.features[order[:size], place] for place in (FULL, CENTER))
            for way, change in ways(larger, crops).items():
                if way == CHOSEN or size == SIZES[-1]:
                    found.setdefault((way, f"{size} images"), []).append(own.changed(change, order[SIZES[-1] :]))
    change = ways(other.features[:, FULL], other.features[:, CENTER])[CHOSEN]
    found[CHOSEN, "the other set"] = [own.changed(change, torch.arange(count))]
    return {case: np.nanmean(values, axis=0) for case, values in found.items()}


@torch.no_grad()
def main(kept: Path, weights: Path) -> None:
    "Write a line per set, way and network; the network `all` is the mean over the networks."
    names, lines = [name for name in SETS if name != JUDGED], []
    each: dict[str, dict[str, dict[tuple[str, str], np.ndarray]]] = {name: {} for name in names}
    for network in ALL:
        head = opened(network, weights).head
        sets = {name: Network(kept / name / f"{network}.npz", SETS[name], head) for name in names}
        for name, other in zip(names, names[::-1]):
            each[name][network] = tried(sets[name], sets[other])
    for name, networks in each.items():
        for way, fit_on in networks[ALL[0]]:
            for title, chosen in {"all": ALL, **{network: (network,) for network in ALL}}.items():
                effects = [networks[network][way, fit_on] for network in chosen]
                points, nats = ([pd.Series(some[place]) for some in effects] for place in (0, 1))
                about = {"data": name, "way": way, "fitted_on": fit_on, "network": title, "images": len(points[0])}
                lines.append(about | averaged(points, nats))
    pd.DataFrame(lines).to_csv(ROOT / "nbs" / "beyond" / "matching_tried.csv", index=False, float_format="%.4f")


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("kept", type=Path, help="folder of what was forwarded")
    arguments.add_argument("weights", type=Path, help="folder of the weights")
    main(**vars(arguments.parse_args()))
