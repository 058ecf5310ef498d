"""Times an original package over a folder of audio files, as its users run it: one file after the other."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

N_FILES = 16


def measure(folder: str, embed: Callable[[Path], object]) -> None:
    """Print the seconds per file, after one file to warm up, and peak bytes."""
    paths = sorted(Path(folder).glob("*.wav"))[:N_FILES]
    embed(paths[0])
    began = time.perf_counter()
    for path in paths:
        embed(path)
    seconds = (time.perf_counter() - began) / len(paths)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    print(json.dumps({"seconds_per_file": seconds, "peak_bytes": peak}))
