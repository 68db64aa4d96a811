"""Build the sdist, the wheel from it, install that in a new environment and run it: `python tools/check_wheel.py`.

Downloads what the wheel needs. With `--here` only the wheel is new, and what it needs is what this environment has.
"""

import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def run(*words, folder: Path) -> str:
    "What a command prints; if it fails, so does the check."
    print("+", Path(words[0]).name, *words[1:], flush=True)
    return subprocess.run([*map(str, words)], cwd=folder, check=True, stdout=subprocess.PIPE, text=True).stdout


def build(folder: Path) -> Path:
    "The wheel, built from the sdist; it must hold what the clone's package holds."
    run(sys.executable, "setup.py", "-q", "egg_info", "--egg-base", folder, "sdist", "-d", folder, folder=ROOT)
    with tarfile.open(next(folder.glob("*.tar.gz"))) as archive:
        archive.extractall(folder / "sdist", filter="data")
    unpacked = next((folder / "sdist").iterdir())
    pip = (sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation")
    run(*pip, "-w", folder, unpacked, folder=folder)
    wheel = next(folder.glob("*.whl"))
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    everything = (ROOT / "mid_nbdev").rglob("*")
    endings = (".py", ".csv", ".parquet", ".html", ".css", ".js")
    files = [path for path in everything if path.suffix in endings or path.name == "py.typed"]
    kept = {path.relative_to(ROOT).as_posix() for path in files}
    if packed != kept:
        sys.exit(f"the wheel does not hold what the clone holds: {sorted(packed ^ kept)}")
    return wheel


def check(folder: Path, here: bool) -> None:
    "Build, install, run."
    wheel, made = build(folder), folder / "environment"
    venv.create(made, with_pip=True)
    python, mid = made / "bin" / "python", made / "bin" / "mid"
    if here:
        site = next(made.glob("lib/python*/site-packages"))
        (site / "here.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
        run(python, "-m", "pip", "install", "-q", "--no-deps", "--force-reinstall", wheel, folder=folder)
    else:
        run(python, "-m", "pip", "install", "-q", f"{wheel}[demo]", folder=folder)
    where = run(python, "-c", "import mid_nbdev; print(mid_nbdev.__file__)", folder=folder).strip()
    if not Path(where).is_relative_to(made):
        sys.exit(f"not the wheel is imported but {where}")
    for words in (["--version"], ["doctor", "--no-rate"], ["demo"]):
        print(run(mid, *words, folder=folder))
    if (folder / "mid-demo" / "crops.png").stat().st_size < 1000:
        sys.exit("the demo wrote no figure")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        check(Path(name), "--here" in sys.argv[1:])
    print("sdist and wheel build, install and run")
