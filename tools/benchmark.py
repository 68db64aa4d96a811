"""Take what `mid bench` measured into the committed tables: `python tools/benchmark.py mid-bench/bench.csv NETWORK`.

The sections that the file has replace those of the same network in `nbs/benchmark/cpu.csv`; all else stays. `cpu.txt`
gets the name of this machine's processor.
"""

import sys
from datetime import date
from pathlib import Path

import pandas as pd

from mid_nbdev.networks.choose import processor

KEPT = Path(__file__).resolve().parent.parent / "nbs" / "benchmark" / "cpu.csv"


def take(measured: Path, network: str, kept: Path = KEPT) -> None:
    "Replace a network's sections by those of a file."
    read = {"dtype": str, "keep_default_na": False}
    new = pd.read_csv(measured, **read).assign(network=network, date=date.today().isoformat())
    old = pd.read_csv(kept, **read)
    stays = (old["network"] != network) | ~old["section"].isin(new["section"])
    pd.concat([old[stays], new[old.columns]]).to_csv(kept, index=False)


if __name__ == "__main__":
    take(Path(sys.argv[1]), sys.argv[2])
    KEPT.with_suffix(".txt").write_text(processor() + "\n", encoding="utf-8")
