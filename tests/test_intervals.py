"Intervals in the text of a page are in a table of the repository, and tables that share a quantity agree."

import json
import re
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from reference import notebook_files

ROOT = Path(__file__).resolve().parent.parent
NBS = ROOT / "nbs"
NUMBER = r"([+-]?\d+(?:\.\d+)?)"
INTERVAL = re.compile(rf"{NUMBER}[^\d\[\]|.;]{{0,40}}\[{NUMBER}, {NUMBER}\]")  # an estimate, some words, its interval
RESULTS = ("paper", "beyond", "benchmark")  # folders of pages with results
TABLES = [path for folder in RESULTS for path in sorted((NBS / folder).rglob("*.csv"))]
ESTIMATES = ("effect", "distance", "difference")  # of which `low` and `high` are the ends


def plain(text: str) -> str:
    return re.sub("<[^>]+>", " ", text).replace("−", "-").replace("top-1", "accuracy")


def intervals(text: str) -> list[tuple[str, str, str]]:
    return INTERVAL.findall(plain(text))


def of_table(path: Path) -> Iterator[np.ndarray]:
    table = pd.read_csv(path)
    for low in table.columns[table.columns.str.fullmatch("(.*_)?low")]:
        names = [low[:-4], f"{low[:-4]}_change"] if low != "low" else ESTIMATES
        for name in table.columns.intersection(names):
            yield table[[name, low, low[:-3] + "high"]].dropna().to_numpy(float)
    yield of_text(path.read_text())


def of_text(text: str) -> np.ndarray:
    return np.array(intervals(text), dtype=float).reshape(-1, 3)


def outputs(cell: dict) -> str:
    texts = [output.get("data", {}) | {"text": output.get("text", "")} for output in cell.get("outputs", ())]
    kinds = ("text/plain", "text/html", "text/markdown", "text")
    return "\n".join("".join(text.get(kind, "")) for text, kind in product(texts, kinds))


def markdown(cells: list[dict]) -> str:
    return "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")


def in_tables(known: np.ndarray, typed: tuple[str, str, str]) -> bool:
    "Is it one of the known intervals, rounded, perhaps as a percentage or in the other direction?"
    values, digits = np.array(typed, dtype=float), max(len(one.partition(".")[2]) for one in typed)
    other = -values[[0, 2, 1]]
    tried = [some / factor for some, factor in product((values, other), (1, 100))]
    steps = [10.0**-digits / factor for _, factor in product((values, other), (1, 100))]
    return any((abs(known - some).max(1) <= step * 0.501).any() for some, step in zip(tried, steps))


def in_columns(shown: str, typed: tuple[str, str, str]) -> bool:
    "Do the three numbers follow each other, as in a table with a column for each end?"
    return re.search(r"(?<![\d.])" + r"\s+".join(map(re.escape, typed)) + r"(?![\d.])", shown) is not None


def test_intervals_in_the_text_are_in_a_table():
    pages = {path: json.loads(path.read_text())["cells"] for path in notebook_files(ROOT)}
    shown = {path: "\n".join(map(outputs, cells)) for path, cells in pages.items() if path.parent.name in RESULTS}
    known = np.concatenate([*map(of_text, shown.values()), *(some for path in TABLES for some in of_table(path))])
    texts = {path: markdown(cells) for path, cells in pages.items()}
    texts |= {ROOT / name: (ROOT / name).read_text() for name in ("README.md", "CHANGELOG.md")}
    assert sum(len(intervals(text)) for text in texts.values()) > 75  # otherwise none would be found to be strange
    for path, text in texts.items():
        missing = [one for one in intervals(text) if not in_tables(known, one)]
        strange = [one for one in missing if not in_columns(plain(shown.get(path, "")), one)]
        assert not strange, f"{path.relative_to(ROOT)}: {strange} are in no table"


def test_tables_that_share_a_quantity_agree():
    beyond = NBS / "beyond"
    drawn = pd.read_csv(beyond / "figures" / "draws.csv").query("way == 'random'").set_index("crops")
    few = pd.read_csv(beyond / "figures" / "few_crops.csv").query("method.str.contains('draws')").set_index("crops")
    names = {"right": "gain", "right_low": "gain_low", "right_high": "gain_high", "nll": "nll"}
    assert np.allclose(drawn[[*names]], few.loc[drawn.index, [*names.values()]], rtol=1e-4)
    views = pd.read_csv(beyond / "larger_views.csv").query("data == 'val800' and baseline == 'CC'")
    timed = pd.read_csv(beyond / "accuracy_time.csv").query("dtype == 'float32'")
    timed["network"] = timed["network"].replace({"efficientnet_lite0": "lite0", "6 networks": "all"})
    both = timed.merge(views, on=["network", "recipe"])
    columns = ("gain", "gain_low", "gain_high", "nll_change", "nll_low", "nll_high")
    pooled = both[both["network"] == "all"]
    assert len(pooled) == 3 and all(np.allclose(pooled[f"{one}_x"], pooled[f"{one}_y"]) for one in columns)
    assert np.allclose(both["gain_x"], both["gain_y"], atol=1e-3)
    margins = pd.read_csv(beyond / "auto_margin.csv").query("data == 'val800' and network == 'all' and margin == 0.2")
    quoted = pd.read_csv(NBS / "paper" / "headline.csv").query("data == 'val800' and network == 'all'")
    quoted = quoted.query("recipe == 'auto' and baseline == '20RC'")
    columns = ["crops", "gain", "gain_low", "gain_high"], ["crops", "effect", "low", "high"]
    assert np.allclose(margins[columns[0]], quoted[columns[1]], atol=1e-3) and len(quoted) == 1
