"""What holds for all tests."""

from __future__ import annotations

import os
import signal

# A shell that runs the tests in the background has Ctrl-C ignored, and every process below inherits
# that; the tests that interrupt a command need it as a user has it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Workers of pytest-xdist stand side by side on the cores; more threads in each only wait for each other.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
