"""Run notebooks from top to bottom and keep what they print: `python tools/execute.py [NOTEBOOK ...]`.

Without names, every notebook under nbs/. Stops at the first cell that fails. Outputs are then cleaned by nbdev_clean.
"""

import os
import subprocess
import sys
from pathlib import Path

from execnb.nbio import read_nb, write_nb
from execnb.shell import CaptureShell
from nbdev.clean import nbdev_clean
from reference import notebook_files

# Figures are SVG, sharp on every screen, and the same from run to run.
FIGURES = """
import matplotlib
set_matplotlib_formats("svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
matplotlib.rcParams["svg.hashsalt"] = "mid_nbdev"
"""
ROOT = Path(__file__).resolve().parent.parent


def execute(path: Path) -> None:
    "Run one notebook in its own folder and write its outputs back, without this machine's paths."
    notebook = read_nb(path)
    os.chdir(path.parent)
    for cell in notebook.cells:  # a cell that shows nothing any more would keep what it showed before
        if cell.cell_type == "code":
            cell.outputs = []
    shell = CaptureShell(path)
    shell.run(FIGURES)
    shell.run_all(notebook, exc_stop=True)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [o for o in cell.get("outputs", []) if o.get("name") != "stderr"]
    write_nb(notebook, path)
    nbdev_clean(str(path))


if __name__ == "__main__":
    names = [Path(name).resolve() for name in sys.argv[1:]] or notebook_files(ROOT)
    for name in names:
        print(f"running {name.relative_to(ROOT)}", flush=True)
        if len(names) == 1:
            execute(name)
        else:  # in a process of its own: what ran before moves a figure's text by hundredths of a point
            subprocess.run([sys.executable, __file__, name], check=True, stdout=subprocess.DEVNULL)
