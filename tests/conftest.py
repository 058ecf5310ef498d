"""What holds for all tests."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator

import pytest

# A shell that runs the tests in the background has Ctrl-C ignored, and every process below inherits
# that; the tests that interrupt a command need it as a user has it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Workers of pytest-xdist stand side by side on the cores; more threads in each only wait for each other.
SIDE_BY_SIDE = "PYTEST_XDIST_WORKER" in os.environ
if SIDE_BY_SIDE:
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True, scope="session")
def caches_are_apart(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What is remembered of stores stays out of the user's own cache."""
    os.environ["EAST_STORE_CACHE"] = str(tmp_path_factory.mktemp("store-cache"))


@pytest.fixture(autouse=True)
def threads_stay_few() -> Iterator[None]:
    """Work in this process sets its threads; the next test has its own again."""
    yield
    if SIDE_BY_SIDE and "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
