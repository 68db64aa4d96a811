"""Test stopping directly: `python tools/stopping_tests.py KEPT EARLIER WEIGHTS` writes two tables in `nbs/beyond`.

KEPT and EARLIER are those of `tools/larger_views.py`. `stopping_direct.csv` compares stopping over the ten fixed crops
with stopping over the center crop and 19 random ones, at equal budgets: margins are fitted without labels on every
other image and judged on the rest, both ways round, and the random order is the mean over draws. `auto_margin.csv` has
the crops per image and the differences from 20 random crops that each margin gives over the fixed crops.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from larger_views import ALL, JUDGED, SETS, averaged, read_views
from measure import NETWORKS, ROOT, open_network, read_crops
from tqdm.auto import tqdm

from mid_nbdev.averaging.adaptive import bisect_between
from mid_nbdev.crops.recipes import Policy
from mid_nbdev.paper.measured import image_values, read_rows
from mid_nbdev.paper.rows import paired_scores

DRAWS, SEED = 50, 0
BUDGETS = (1.5, 2, 3)  # crops per image
MARGINS = (0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.75, 1)
FEW = Policy().margin


class Course(NamedTuple):
    "The running average of each image's crops (images, crops)."

    lead: np.ndarray  # over the second class, times the root of the number of crops
    right: np.ndarray  # 0 or 1
    same: np.ndarray  # is it the answer of all crops, 0 or 1
    nll: np.ndarray  # nats

    def counts(self, margin: float) -> np.ndarray:
        "Crops per image."
        enough = self.lead > margin
        enough[:, -1] = True
        return enough.argmax(1) + 1

    def margin(self, budget: float) -> float:
        "The largest margin within a number of crops per image."
        return bisect_between(self.lead.shape[1] ** 0.5, 14, lambda margin: self.counts(margin).mean() > budget)[0]


class Outcome(NamedTuple):
    "What stopping gives each image."

    crops: np.ndarray
    right: np.ndarray
    same: np.ndarray
    nll: np.ndarray


class Kept(NamedTuple):
    "Softmax scores of one network (images, crops, classes), labels, and what 20 random crops give each image."

    fixed: torch.Tensor  # the ten fixed crops in the order of `auto`
    random: torch.Tensor
    labels: torch.Tensor
    twenty: Outcome


def course(scores: torch.Tensor, labels: torch.Tensor) -> Course:
    "What the crops give one by one, in their order."
    counts = torch.arange(1, scores.shape[1] + 1)
    means = scores.cumsum(1) / counts[:, None]
    first, second = means.topk(2, -1).values.unbind(-1)
    true = means[torch.arange(len(labels)), :, labels].clamp_min(1e-38)
    answer = means.argmax(-1)
    right, same = answer == labels[:, None], answer == answer[:, -1:]
    lead = (first - second) * counts.sqrt()
    return Course(lead.numpy(), right.float().numpy(), same.float().numpy(), -true.log().numpy())


def at(some: Course, counts: np.ndarray) -> Outcome:
    "The outcome after these numbers of crops."
    place = np.arange(len(counts)), counts - 1
    return Outcome(counts, *(values[place] for values in some[1:]))


def stopped(some: Course, budget: float | None) -> Outcome:
    "Every half with the margin that the other half gives for a budget; with the default margin if there is none."
    if budget is None:
        return at(some, some.counts(FEW))
    counts = np.zeros(len(some.lead), dtype=int)
    for fold in (0, 1):
        other, own = (Course(*[values[start::2] for values in some]) for start in (1 - fold, fold))
        counts[fold::2] = own.counts(other.margin(budget))
    return at(some, counts)


def mean_outcome(draws: list[Outcome]) -> Outcome:
    "The mean over draws, image by image."
    return Outcome(*(np.mean(values, axis=0) for values in zip(*draws)))


def read_views_kept(kept: Path, name: str) -> Iterator[tuple[str, Kept]]:
    "The networks of a set on which larger views were forwarded."
    for network in ALL:
        views, logits, _, labels = read_views(kept / name / f"{network}.npz", SETS[name])
        scores = logits.softmax(-1)
        numbers = {"fixed": [views.index(f"{kind}{number}") for kind, number in Policy.numbered]}
        numbers["random"] = [place for place, view in enumerate(views) if view.startswith("RC")]
        fixed, random = (scores[:, numbers[kind]] for kind in ("fixed", "random"))
        yield network, Kept(fixed, random, labels, at(course(random, labels), np.full(len(labels), random.shape[1])))


def read_kept(kept: Path, earlier: Path, weights: Path, name: str) -> Iterator[tuple[str, Kept]]:
    "Every network of a set; the paper's set comes with its rows of 20 random crops, the mean over draws."
    if name != JUDGED:
        yield from read_views_kept(kept, name)
        return
    rows = read_rows(ROOT / "nbs" / "paper" / "rows", name)
    right, nll = (image_values(rows, "20RC", column) for column in ("right", "nll"))
    for network in NETWORKS:
        found = read_crops(earlier / name / network, open_network(network, weights).head)
        if found is None:
            continue
        stored, labels = found[0], torch.from_numpy(found[0].labels).long()
        random = [place for place, (kind, _) in enumerate(stored.crops) if kind == "RC"]
        own = [values.loc[list(stored.images), network].to_numpy() for values in (right, nll)]
        scores = stored.logits[:, random].float().softmax(-1)
        yield (
            network,
            Kept(
                paired_scores(stored),
                scores,
                labels,
                Outcome(np.full(len(labels), 20), own[0], np.full(len(labels), np.nan), own[1]),
            ),
        )


def compared(pairs: list[tuple[Outcome, Outcome]]) -> dict[str, float]:
    "The first less the second, averaged over networks, with intervals over images."
    points, nats = zip(*((100.0 * (own.right - base.right), own.nll - base.nll) for own, base in pairs))
    return averaged(list(points), list(nats))


def both_orders(kept: Kept) -> dict[str, tuple[Outcome, Outcome]]:
    "Each rule over the fixed crops and over random ones."
    wishes = {f"budget {budget:g}": budget for budget in BUDGETS} | {f"margin {FEW:g}": None}
    fixed, noise = course(kept.fixed, kept.labels), np.random.default_rng(SEED)
    draws: dict[str, list[Outcome]] = {rule: [] for rule in wishes}
    for _ in range(DRAWS):
        drawn = torch.from_numpy(noise.random(kept.random.shape[:2]).argsort(1)[:, :19])
        crops = kept.random.gather(1, drawn[..., None].expand(-1, -1, kept.random.shape[2]))
        order = course(torch.cat([kept.fixed[:, :1], crops], 1), kept.labels)
        for rule, budget in wishes.items():
            draws[rule].append(stopped(order, budget))
    return {rule: (stopped(fixed, budget), mean_outcome(draws[rule])) for rule, budget in wishes.items()}


def margins(kept: Kept) -> dict[float, tuple[Outcome, Outcome]]:
    "What each margin gives over the fixed crops, beside 20 random crops."
    fixed = course(kept.fixed, kept.labels)
    return {margin: (at(fixed, fixed.counts(margin)), kept.twenty) for margin in MARGINS}


def lines(each: dict[str, dict], about: dict, title: str) -> list[dict]:
    "A line per case and network, and one for the mean over networks, `all`."
    found = []
    for case in next(iter(each.values())):
        for network, chosen in {"all": list(each), **{name: [name] for name in each}}.items():
            pairs = [each[one][case] for one in chosen]
            counts = {"networks": len(pairs), "images": len(pairs[0][0].crops)}
            crops = {
                f"{name}{end}": np.mean([getattr(pair[place], name).mean() for pair in pairs])
                for name, place, end in (("crops", 0, ""), ("crops", 1, "_baseline"), ("same", 0, ""))
            }
            found.append(about | {title: case, "network": network} | counts | crops | compared(pairs))
    return found


def joined(sets: list[dict[str, dict]]) -> dict[str, dict]:
    "The images of several sets, network by network and case by case."
    first, *_ = sets
    return {
        network: {
            case: tuple(map(concatenated, zip(*(some[network][case] for some in sets)))) for case in first[network]
        }
        for network in first
    }


def concatenated(outcomes: tuple[Outcome, ...]) -> Outcome:
    "The images of several outcomes."
    return Outcome(*map(np.concatenate, zip(*outcomes)))


def main(kept: Path, earlier: Path, weights: Path) -> None:
    "Write both tables."
    each: dict[str, tuple[dict, dict]] = {}
    for name in SETS:
        found = {one: (both_orders(some), margins(some)) for one, some in tqdm(read_kept(kept, earlier, weights, name))}
        each[name] = tuple({one: tests[place] for one, tests in found.items()} for place in (0, 1))
    chosen_on = [name for name in SETS if name != JUDGED]
    each[" + ".join(chosen_on)] = tuple(joined([each[name][place] for name in chosen_on]) for place in (0, 1))
    direct, curves = [], []
    for name, (orders, margin) in each.items():
        about = {"data": name, "format": "float32" if name == JUDGED else "bfloat16"}
        direct += lines(orders, about | {"draws": DRAWS, "seed": SEED}, "rule")
        curves += lines(margin, about, "margin")
    for rows, file in ((direct, "stopping_direct.csv"), (curves, "auto_margin.csv")):
        pd.DataFrame(rows).to_csv(ROOT / "nbs" / "beyond" / file, index=False, float_format="%.4f")


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("kept", type=Path, help="folder of what was forwarded")
    arguments.add_argument("earlier", type=Path, help="folder in which tools/measure.py kept its crops")
    arguments.add_argument("weights", type=Path, help="folder of the weights")
    main(**vars(arguments.parse_args()))
