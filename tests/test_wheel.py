"The sdist builds the wheel, and the wheel runs in an environment of its own, outside the clone."

import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).resolve().parent.parent / "tools" / "check_wheel.py"


@pytest.mark.long
def test_wheel_runs_outside_the_clone():
    done = subprocess.run([sys.executable, TOOL, "--here"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "too few to measure a gain" in done.stdout and "weights package: efficientnet_lite0" in done.stdout
