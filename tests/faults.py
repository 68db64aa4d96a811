"""Real faults in real evaluations: processes killed, disks filled, files damaged. Each says which rows were left.

Evaluations are `mid evaluate` in separate processes, forked from one that has already imported the libraries.
"""

import contextlib
import ctypes
import errno
import multiprocessing
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from PIL import Image
from safetensors.torch import save_file
from timm import create_model

import mid_nbdev.data.reading
from mid_nbdev.errors import InputError
from mid_nbdev.evaluation.runs import Run, damaged_parts

HERE = Path(__file__).resolve().parent
RECIPES = "CC,130RC@logit"
IMAGES = 80

_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(
    [
        "mid_nbdev.evaluation.runs",
        "mid_nbdev.cli.evaluate",
        "mid_nbdev.evaluation.verify",
        "mid_nbdev.analysis.stats",
        "timm",
        "torchvision",
    ]
)


class Outcome(NamedTuple):
    "What became of a fault."

    fault: str
    times: int
    survived: int  # times after which the rows were those of an unbroken run, or a clear error named the file
    rows_lost: int
    answer: str = ""  # what the user is told


class Made(NamedTuple):
    "Images, labels and weights to evaluate, and what an unbroken run gives."

    folder: Path
    rows: object
    seconds: float


def rows_hash(rows):
    "A hash of merged rows, bit for bit."
    digest = blake2b(digest_size=8)
    for name in rows.columns:
        values = rows[name]
        digest.update(
            values.to_numpy().tobytes() if pd.api.types.is_numeric_dtype(values) else "\n".join(values).encode()
        )
    return digest.hexdigest()


def words(made, out, *more):
    "The command line of an evaluation."
    return list(
        map(
            str,
            [
                "evaluate",
                "timm/test_resnet",
                "--checkpoint",
                made / "weights.safetensors",
                "--data",
                made / "images",
                "--labels",
                made / "labels.csv",
                "--recipes",
                RECIPES,
                "--resize",
                40,
                "--crop",
                32,
                "--out",
                out,
                "--engine",
                "eager",
                "--batch-size",
                32,
                "--workers",
                1,
                "--device",
                "cpu",
                *more,
            ],
        )
    )


def _die_in(call, number):
    "Have this process killed in its so-many-th call of a function of `os`."
    real, calls = getattr(os, call), []

    def deadly(*args, **kwargs):
        calls.append(1)
        if len(calls) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **kwargs)

    setattr(os, call, deadly)


def _kill_threads(seed):
    "Now and then raise SystemExit in a thread that decodes."
    generator = np.random.default_rng(seed)

    def killer():
        while True:
            time.sleep(generator.uniform(0.02, 0.2))
            threads = [thread for thread in threading.enumerate() if thread.name.startswith("decode")]
            if threads:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(
                    ctypes.c_ulong(threads[0].ident), ctypes.py_object(SystemExit)
                )

    threading.Thread(target=killer, daemon=True).start()


def _refuse_reads(what, every):
    "Have reading fail for one image in so many, however often it is tried."
    real = Path.read_bytes

    def troubled(path):
        if path.suffix == ".png" and int(path.stem) % every == 0:
            raise MemoryError if what == "ENOMEM" else OSError(getattr(errno, what), os.strerror(getattr(errno, what)))
        return real(path)

    Path.read_bytes = troubled
    mid_nbdev.data.reading._WAITS = (0.01,) * 3


def _take_away(images, parts, seconds):
    "Once there is a part, have the folder of the images missing for some seconds."

    def taker():
        while not list(Path(parts).glob("*.parquet")):
            time.sleep(0.005)
        os.rename(images, f"{images}-away")
        time.sleep(seconds)
        os.rename(f"{images}-away", images)

    threading.Thread(target=taker).start()


def run_command(command, report, environment, die_in, kill_threads, patience, trouble, away):
    "In a new process: run a `mid` command, and write what it says into a file."
    signal.signal(signal.SIGINT, signal.default_int_handler)  # started in a shell's background, it would be ignored
    torch.set_num_threads(1)
    os.environ.update(environment)
    os.environ["IN_TEST"] = ""
    import mid_nbdev.cli.evaluate  # noqa: F401
    import mid_nbdev.cli.predict  # noqa: F401
    import mid_nbdev.evaluation.claims
    from mid_nbdev.cli.app import app

    mid_nbdev.evaluation.claims.PATIENCE = patience
    if die_in:
        _die_in(*die_in)
    if kill_threads is not None:
        _kill_threads(kill_threads)
    if trouble:
        _refuse_reads(*trouble)
    if away:
        _take_away(*away)
    with open(report, "w") as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
        try:
            app(command)
        finally:
            if str(report) != os.devnull:
                Path(f"{report}-memory").write_text(str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))


class Process:
    "A `mid` command in a process of its own."

    def __init__(
        self,
        command,
        environment=None,
        die_in=None,
        kill_threads=None,
        patience=10.0,
        report=os.devnull,
        trouble=None,
        away=None,
    ):
        arguments = (command, str(report), environment or {}, die_in, kill_threads, patience, trouble, away)
        self.report = Path(report)
        self.process = _processes.Process(target=run_command, args=arguments)
        self.process.start()

    def wait(self, timeout=120):
        "Its exit status; negative for a signal."
        self.process.join(timeout)
        if self.process.exitcode is None:
            self.process.kill()
            raise TimeoutError(f"still running after {timeout} s")
        return self.process.exitcode

    def signal(self, number):
        "Send a signal, if it still runs."
        if self.process.is_alive():
            os.kill(self.process.pid, number)

    def said(self):
        "What it printed."
        return self.report.read_text() if self.report.is_file() else ""


def make_data(folder):
    "Images, labels and weights, and an unbroken run."
    folder = Path(folder)
    generator = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    lines = ["file,label"]
    for number in range(IMAGES):
        size = generator.integers(40, 90, 2)
        Image.fromarray(generator.integers(0, 256, (*size, 3), dtype=np.uint8)).save(
            folder / "images" / f"{number:03}.png"
        )
        lines.append(f"{number:03}.png,{generator.integers(1000)}")
    (folder / "labels.csv").write_text("\n".join(lines))
    torch.manual_seed(0)
    save_file(create_model("test_resnet", num_classes=1000).state_dict(), folder / "weights.safetensors")
    Process(words(folder, folder / "first")).wait()  # imports what is left to import
    start = time.perf_counter()
    assert Process(words(folder, folder / "unbroken")).wait() == 0
    return Made(folder, Run.open(folder / "unbroken").rows(), time.perf_counter() - start)


def _resumed(made, out, **options):
    "Resume a run; rows lost and whether they are those of the unbroken run."
    report = made.folder / "resumed.txt"
    status = Process(words(made.folder, out), report=report, **options).wait()
    rows = Run.open(out).rows() if status == 0 else made.rows[:0]
    hidden = [path for path in Path(out).rglob(".*")]
    return len(made.rows) - len(rows), status == 0 and rows.equals(made.rows) and not hidden, Path(report).read_text()


def _tell(text):
    "The one line of a message that matters."
    lines = [line for line in text.strip().splitlines() if line.startswith(("error", "interrupted", "terminated"))]
    return lines[-1] if lines else ""


def killed_at_random(made, times, number=signal.SIGKILL, seed=0):
    "A run killed at random moments, then resumed."
    generator, lost, survived, answer = np.random.default_rng(seed), 0, 0, ""
    expected = {signal.SIGKILL: -9, signal.SIGINT: 130, signal.SIGTERM: 143}[number]
    name = signal.Signals(number).name
    for time_number in range(times):
        out, report = made.folder / f"{name}-{seed}-{time_number}", made.folder / f"{name}-{time_number}.txt"
        process = Process(words(made.folder, out), report=report)
        if number != signal.SIGKILL:
            while not (out / "parts").exists() and process.process.is_alive():
                time.sleep(0.005)
        time.sleep(generator.uniform(0, made.seconds))
        process.signal(number)
        status = process.wait()
        answer = _tell(process.said()) or answer
        missing, same, _ = _resumed(made, out)
        lost += missing
        survived += same and status in (0, expected) and "Traceback" not in process.said()
    return Outcome(f"{name} at a random moment", times, survived, lost, answer)


MOMENTS = {
    "before the manifest is linked": ("link", 1),
    "while the manifest is written": ("fsync", 1),
    "while the first part is written": ("fsync", 3),
    "before the first part is renamed": ("replace", 2),
    "while the third part is written": ("fsync", 5),
}


def killed_at(made, moment):
    "A run killed with SIGKILL at one certain moment, then resumed."
    out = made.folder / moment.replace(" ", "-")
    status = Process(words(made.folder, out), die_in=MOMENTS[moment]).wait()
    left = len(list(out.rglob(".*")))
    missing, same, _ = _resumed(made, out)
    return Outcome(f"SIGKILL {moment}", 1, int(status == -9 and left > 0 and same), missing)


@contextmanager
def small_disk(folder, size):
    "A disk of so many bytes; raises OSError where none can be mounted."
    folder = Path(folder)
    folder.mkdir(exist_ok=True)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True, text=True
    )
    if done.returncode:
        raise OSError(f"no tmpfs can be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def remount(folder, options):
    "Change a mounted disk."
    subprocess.run(["mount", "-o", f"remount,{options}", folder], check=True)


def full_disk(made):
    "A run onto a disk that is too small, resumed when the disk is larger."
    with small_disk(made.folder / "small", "16k") as disk:
        report = made.folder / "full.txt"
        status = Process(words(made.folder, disk / "run"), report=report).wait()
        text = _tell(report.read_text())
        remount(disk, "size=10m")
        missing, same, _ = _resumed(made, disk / "run")
    clear = (
        status == 2
        and "No space left on device" in text
        and str(disk) in text
        and "Traceback" not in report.read_text()
    )
    return Outcome("disk full", 1, int(clear and same), missing, text.replace(str(made.folder), ""))


def read_only_disk(made):
    """An unfinished run on a read-only disk, finished once the disk can be written.

    Then the same command on the finished run, read-only again.
    """
    with small_disk(made.folder / "frozen", "10m") as disk:
        run = disk / "run"
        Process(words(made.folder, run), die_in=("fsync", 5)).wait()
        remount(disk, "ro")
        report = made.folder / "frozen.txt"
        status = Process(words(made.folder, run), report=report).wait()
        text = _tell(report.read_text())
        remount(disk, "rw")
        missing, same, _ = _resumed(made, run)
        remount(disk, "ro")
        reported = [
            Process(command, report=report).wait()
            for command in (words(made.folder, run), ["report", str(run)], ["verify", str(run)])
        ]
        remount(disk, "rw")
    clear = status == 2 and "Read-only file system" in text and str(disk) in text
    return Outcome(
        "run folder on a read-only disk",
        1,
        int(clear and same and reported == [0, 0, 0]),
        missing,
        text.replace(str(made.folder), ""),
    )


def damaged_part(made, how, times=1, seed=0):
    "A part or the manifest damaged afterwards, found, and computed again; a damaged manifest is refused by name."
    generator, lost, survived, answer = np.random.default_rng(seed), 0, 0, ""
    out = made.folder / f"damaged-{how}"
    _resumed(made, out)
    for _ in range(times):
        path = out / "parts" / f"{generator.integers(len(Run.open(out).parts())):05}.parquet"
        content = bytearray(path.read_bytes())
        place = int(generator.integers(len(content)))
        if how == "bit-flipped":
            content[place] ^= 1 << int(generator.integers(8))
        path.write_bytes(content[:place] if how == "truncated" else content)
        found = damaged_parts(Run.open(out))
        missing, same, text = _resumed(made, out)
        lost += missing
        silent = not found and how == "bit-flipped"  # the flipped bit lies where nothing is read: the rows are right
        named = str(path) in "".join(map(str, found.values()))
        survived += same and (silent or (named and f"{path}: was damaged" in text))
        answer = str(next(iter(found.values()), answer))
    return Outcome(f"a part {how} afterwards", times, survived, lost, answer.replace(str(made.folder), ""))


def damaged_manifest(made):
    "A manifest with one digit changed is refused."
    out = made.folder / "damaged-manifest"
    _resumed(made, out)
    path = out / "manifest.json"
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 7'))
    try:
        Run.open(out)
    except InputError as error:
        return Outcome(
            "a manifest changed afterwards",
            1,
            int(str(path) in str(error)),
            0,
            str(error).replace(str(made.folder), ""),
        )
    return Outcome("a manifest changed afterwards", 1, 0, 0)


TROUBLES = ("EMFILE", "EIO", "ENOMEM")


def machine_in_trouble(made, what, every=4):
    "Reading fails for one image in so many as if the machine were in trouble; then the machine is well again."
    out, report = made.folder / f"trouble-{what}", made.folder / "trouble.txt"
    status = Process(words(made.folder, out), report=report, trouble=(what, every)).wait()
    told = [line for line in report.read_text().splitlines() if "because of machine trouble" in line]
    again = Process(words(made.folder, out), trouble=(what, every)).wait()  # nothing is computed, nothing forgotten
    missing, same, _ = _resumed(made, out)
    survived = status == again == 1 and bool(told) and same and not (out / "failed.csv").exists()
    return Outcome(f"{what} while reading", 1, int(survived), missing, told[0].replace(str(made.folder), ""))


def folder_away(made, seconds=1.0):
    "The folder of the images is not there for a while, in the middle of a run."
    out, report = made.folder / f"away-{seconds}", made.folder / "away.txt"
    away = (str(made.folder / "images"), str(out / "parts"), seconds)
    status = Process(words(made.folder, out), report=report, away=away).wait()
    missing, same, _ = _resumed(made, out)
    survived = same and status in (0, 1) and "Traceback" not in report.read_text()
    return Outcome(f"images not there for {seconds:g} s", 1, int(survived), missing)


def _refused(made, out, *more):
    "What a command says that is refused; nothing in the folder may have changed."
    before = {path: path.read_bytes() for path in Path(out).rglob("*") if path.is_file()}
    report = made.folder / "refused.txt"
    status = Process(words(made.folder, out, *more), report=report).wait()
    after = {path: path.read_bytes() for path in Path(out).rglob("*") if path.is_file()}
    return status == 2 and before == after, _tell(report.read_text()).replace(str(made.folder), "")


def manifest_gone(made):
    "A run whose manifest is gone: refused for another seed, taken up for the same."
    out = made.folder / "manifest-gone"
    _resumed(made, out)
    (out / "manifest.json").unlink()
    refused, answer = _refused(made, out, "--seed", 1)
    missing, same, _ = _resumed(made, out)
    return Outcome("manifest.json deleted, another seed asked for", 1, int(refused and same), missing, answer)


def others_part(made):
    "A part of another run, and then a copy of a neighbour, in a run's place."
    out, other = made.folder / "others-part", made.folder / "other-run"
    _resumed(made, out)
    Process(words(made.folder, other, "--seed", 1)).wait()
    own = Run.open(out).path(1).read_bytes()
    shutil.copy(Run.open(other).path(1), Run.open(out).path(1))
    refused, answer = _refused(made, out)
    shutil.copy(Run.open(out).path(0), Run.open(out).path(1))
    missing, same, text = _resumed(made, out)
    survived = refused and same and "was a copy of part 0" in text and Run.open(out).path(1).read_bytes() == own
    return Outcome("another run's part, or a neighbour, in a part's place", 1, int(survived), missing, answer)


def image_replaced(made):
    "An image is replaced by another of the same size, and is then as it was."
    out, report, path = made.folder / "replaced", made.folder / "replaced.txt", made.folder / "images" / "042.png"
    _resumed(made, out)
    content = path.read_bytes()
    path.write_bytes(content[:-20] + bytes(20))
    status = Process(["verify", str(out), "--all", "--images", "0"], report=report).wait()
    path.write_bytes(content)
    told = [line for line in report.read_text().splitlines() if "'042.png'" in line]
    missing, same, _ = _resumed(made, out)
    survived = status == 1 and bool(told) and same
    return Outcome("an image replaced by one of its size", 1, int(survived), missing, told[0])


def somebodys_folder(made):
    "A folder with files of somebody's own is refused and stays as it is."
    out = made.folder / "own"
    (out / "parts").mkdir(parents=True)
    pd.DataFrame({"mine": [1]}).to_parquet(out / "parts" / "00000.parquet")
    (out / ".backup.2024-05-01.7").write_text("mine")
    os.utime(out / ".backup.2024-05-01.7", (0, 0))
    refused, answer = _refused(made, out)
    return Outcome("--out on a folder of somebody's own", 1, int(refused), 0, answer)


def dying_threads(made, times):
    "Threads that decode die again and again."
    lost = survived = 0
    for number in range(times):
        out = made.folder / f"threads-{number}"
        status = Process(words(made.folder, out), kill_threads=number).wait()
        rows = Run.open(out).rows()
        lost, survived = lost + len(made.rows) - len(rows), survived + (status == 0 and rows.equals(made.rows))
    return Outcome("threads that decode die", times, survived, lost)


def shared(made, ranks, launcher="RANK", stop=None, patience=10.0):
    """Several processes on one run folder, and the hash of the merged rows.

    `stop` is a signal that one of them gets once it has claimed a part.
    """
    names = {
        "RANK": ("RANK", "WORLD_SIZE", "LOCAL_RANK"),
        "SLURM": ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID"),
    }.get(launcher)
    out = made.folder / f"shared-{ranks}-{launcher}-{stop}"
    places = [dict(zip(names, map(str, (rank, ranks, rank)), strict=True)) if names else {} for rank in range(ranks)]
    processes = [
        Process(words(made.folder, out), environment=place, patience=patience, report=made.folder / f"rank-{rank}.txt")
        for rank, place in enumerate(places)
    ]
    if stop is not None:
        last = processes[-1]
        while last.process.is_alive() and not any(
            path.read_text().endswith(f".{last.process.pid}") for path in _claims(out)
        ):
            time.sleep(0.005)
        last.signal(stop)
    statuses = [process.wait() for process in (processes if stop is None else processes[:-1])]
    if stop is not None:
        last.signal(signal.SIGKILL)
        last.wait()
    rows = Run.open(out).rows()
    said = ["points" in process.said() for process in processes]
    told = said == [True, *[not names] * (ranks - 1)] if stop is None else said[0]
    survived = set(statuses) == {0} and rows.equals(made.rows) and told
    who = f"{ranks} rank{'s' if ranks > 1 else ''} ({launcher})" if names else f"{ranks} processes on one folder"
    what = {
        None: "",
        signal.SIGKILL: ", one killed while it computes",
        signal.SIGSTOP: ", one stopped while it computes",
    }[stop]
    return Outcome(f"{who}{what}", 1, int(survived), len(made.rows) - len(rows)), rows_hash(rows)


def _claims(out):
    "Claims that can be read just now."
    found = []
    for path in (Path(out) / "parts").glob(".*.claim"):
        with contextlib.suppress(OSError):
            path.read_text()
            found.append(path)
    return found


def torchrun(made, ranks):
    "The real `torchrun`."
    out = made.folder / f"torchrun-{ranks}"
    environment = {**os.environ, "IN_TEST": "", "OMP_NUM_THREADS": "1"}
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        str(ranks),
        "-m",
        "mid_nbdev",
    ]
    done = subprocess.run(
        command + words(made.folder, out), env=environment, capture_output=True, text=True, timeout=300
    )
    rows = Run.open(out).rows()
    survived = done.returncode == 0 and rows.equals(made.rows) and done.stdout.count("timm/test_resnet on") == 1
    return Outcome(f"torchrun, {ranks} ranks", 1, int(survived), len(made.rows) - len(rows)), rows_hash(rows)


def predicted_again(made, seed=0):
    "Predictions killed at a random moment, then asked for again: the file is whole or not there."
    out, expected, report = (made.folder / name for name in ("predicted.csv", "unbroken.csv", "predicted.txt"))
    network = ["--model", "timm/test_resnet", "--checkpoint", made.folder / "weights.safetensors"]
    network += ["--resize", 40, "--crop", 32, "--recipe", "40RC", "--device", "cpu"]
    command = list(map(str, ["predict", made.folder / "images", *network, "--out", out]))
    if not expected.exists():
        assert Process(command, report=report).wait() == 0, report.read_text()
        out.rename(expected)
    process = Process(command)
    time.sleep(np.random.default_rng(seed).uniform(0, made.seconds))
    process.signal(signal.SIGKILL)
    process.wait()
    whole = not out.exists() or out.read_bytes() == expected.read_bytes()
    again = Process(command, report=report).wait() == 0 and out.read_bytes() == expected.read_bytes()
    return Outcome("predictions killed at a random moment", 1, int(whole and again), 0 if again else IMAGES)


def soak(made, minutes, seed=0):
    "One fault after the other for so many minutes: what came of each, and the memory of each process in MiB."
    generator, outcomes, memory = np.random.default_rng(seed), [], []
    kept = {path.name for path in made.folder.iterdir()} | {"unbroken.csv"}
    end = time.monotonic() + 60 * minutes
    while time.monotonic() < end or not outcomes:
        outcomes.append(_random_fault(made, generator))
        memory += [int(path.read_text()) / 1024 for path in made.folder.glob("*-memory")]
        for path in made.folder.iterdir():
            if path.name not in kept:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    return outcomes, memory


def _random_fault(made, generator):
    "One fault, drawn at random."
    number = int(generator.integers(2**31))
    faults = [
        lambda: killed_at_random(made, 1, signal.SIGKILL, number),
        lambda: killed_at_random(made, 1, signal.SIGTERM, number),
        lambda: killed_at(made, list(MOMENTS)[number % len(MOMENTS)]),
        lambda: full_disk(made),
        lambda: folder_away(made, number % 3 / 2),
        lambda: machine_in_trouble(made, TROUBLES[number % len(TROUBLES)]),
        lambda: predicted_again(made, number),
    ]
    return faults[int(generator.integers(len(faults)))]()
