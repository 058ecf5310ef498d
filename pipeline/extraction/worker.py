"""What a local worker does first: ignore Ctrl-C (the driver handles it), quiet the decoders."""

from __future__ import annotations

import signal
from typing import Any

from pipeline.audio.quiet import quiet_decoders


def dask_setup(worker: Any) -> None:
    """Run by Dask in the worker's main thread before it takes work."""
    del worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    quiet_decoders()
