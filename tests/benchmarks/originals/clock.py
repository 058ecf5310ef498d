"""Times an original package over a folder of audio files, as its users run it: one file after the other."""

from __future__ import annotations

import json
import re
import resource
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
    print(json.dumps({"seconds_per_file": seconds, "peak_bytes": peak_bytes()}))


def peak_bytes() -> int:
    """Largest resident size of this process; ``ru_maxrss`` begins with that of the process that started it."""
    status = Path("/proc/self/status")
    if status.exists():
        return 1024 * int(re.search(r"VmHWM:\s+(\d+)", status.read_text()).group(1))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
