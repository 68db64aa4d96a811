"Tests run in two processes: each uses one thread, since more would compete for the same cores."

import os

import pytest
from browser import chromium

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="module")
def browser():
    "Chromium, opened once for all the tests of a file."
    with chromium() as opened:
        yield opened
