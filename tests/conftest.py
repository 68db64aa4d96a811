"Tests run in two processes: each uses one thread, since more would compete for the same cores."

import os

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
