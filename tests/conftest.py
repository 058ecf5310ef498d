"""What holds for all tests."""

from __future__ import annotations

import signal

# A shell that runs the tests in the background has Ctrl-C ignored, and every process below inherits
# that; the tests that interrupt a command need it as a user has it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
