"""Real faults in a run: afterwards it has the rows of an unbroken run, or a clear error names the file.

MID_FAULTS=20 in the environment does the random ones twenty times instead of once or twice, and MID_SOAK=60 soaks the
commands in faults for an hour instead of one fault.
"""

import os
import signal

import faults
import pytest

pytestmark = pytest.mark.long
TIMES = int(os.environ.get("MID_FAULTS", 2))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return faults.make_data(tmp_path_factory.mktemp("faults") / "data")


def survived(outcome):
    assert (outcome.survived, outcome.rows_lost) == (outcome.times, 0), outcome
    return outcome


@pytest.mark.parametrize(
    "number, message", [(signal.SIGKILL, ""), (signal.SIGINT, "interrupted"), (signal.SIGTERM, "terminated")]
)
def test_killed_at_random_moments(made, number, message):
    survived(faults.killed_at_random(made, TIMES, number))


@pytest.mark.parametrize("moment", faults.MOMENTS)
def test_killed_while_writing(made, moment):
    survived(faults.killed_at(made, moment))


@pytest.mark.parametrize("fault", [faults.full_disk, faults.read_only_disk])
def test_disks(made, fault):
    try:
        survived(fault(made))
    except OSError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("how", ["truncated", "bit-flipped"])
def test_damaged_parts(made, how):
    survived(faults.damaged_part(made, how, TIMES))


def test_damaged_manifest(made):
    survived(faults.damaged_manifest(made))


@pytest.mark.parametrize("what", faults.TROUBLES)
def test_a_machine_in_trouble_loses_no_image(made, what):
    survived(faults.machine_in_trouble(made, what))


@pytest.mark.parametrize(
    "fault",
    [
        faults.folder_away,
        faults.manifest_gone,
        faults.others_part,
        faults.image_replaced,
        faults.somebodys_folder,
    ],
)
def test_nothing_lost_and_nothing_of_others(made, fault):
    survived(fault(made))


def test_threads_that_die(made):
    survived(faults.dying_threads(made, max(1, TIMES // 2)))


@pytest.mark.parametrize("ranks, launcher", [(1, "RANK"), (2, "SLURM"), (3, "RANK"), (5, "RANK"), (2, "none")])
def test_ranks_give_the_same_rows_bit_for_bit(made, ranks, launcher):
    outcome, merged = faults.shared(made, ranks, launcher)
    survived(outcome)
    assert merged == faults.rows_hash(made.rows)


@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGSTOP])
def test_a_rank_that_dies_or_hangs_stops_nobody(made, stop):
    survived(faults.shared(made, 3, stop=stop, patience=1.0)[0])


def test_torchrun(made):
    survived(faults.torchrun(made, 2)[0])


def test_soak(made):
    try:
        outcomes, memory = faults.soak(made, float(os.environ.get("MID_SOAK", 0)))
    except OSError as error:
        pytest.skip(str(error))
    for outcome in outcomes:
        survived(outcome)
    half = len(memory) // 2
    print(f"{len(outcomes)} faults; memory {min(memory):.0f} to {max(memory):.0f} MiB")
    assert half == 0 or max(memory[half:]) < 1.2 * max(memory[:half])
