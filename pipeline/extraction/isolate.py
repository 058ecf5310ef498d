"""Finding the clips that kill their worker, in processes of their own.

A decoder that crashes takes its process with it.  The clips of the shard that killed its worker
are decoded again in a subprocess, which says before each one that it begins: the last one named
is the one that killed it, and the next subprocess goes on behind it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict

from pipeline.extraction.jobs import ClipJob
from pipeline.interpreter import python, python_path

_TIMEOUT_S = 900


def find_killers(clips: Sequence[ClipJob], clip_s: float) -> dict[int, str]:
    """Positions of clips whose decoding kills the process, with the reason in words."""
    killers: dict[int, str] = {}
    start = 0
    while start < len(clips):
        begun, reason = _decode_apart(clips[start:], clip_s)
        if not reason:
            break
        killers[start + begun] = reason
        start += begun + 1
    return killers


def _decode_apart(clips: Sequence[ClipJob], clip_s: float) -> tuple[int, str]:
    """The clip that was begun last, and how the process died there; empty when it lived."""
    request = json.dumps({"clip_s": clip_s, "clips": [asdict(clip) for clip in clips]})
    command = python("-m", "pipeline.extraction.isolate")
    try:
        done = subprocess.run(
            command,
            input=request.encode(),
            capture_output=True,
            timeout=_TIMEOUT_S,
            check=False,
            start_new_session=True,
            env=os.environ | python_path(),
        )
    except subprocess.TimeoutExpired as error:
        return _last(error.stdout), f"the decoder did not come back within {_TIMEOUT_S} s"
    return _last(done.stdout), _how_it_ended(done.returncode)


def _how_it_ended(status: int) -> str:
    if status == 0:
        return ""
    if status < 0:
        return f"the decoder's process was killed by {signal.Signals(-status).name}"
    return f"the decoder's process ended with status {status}"


def _last(said: bytes | None) -> int:
    lines = (said or b"").split()
    return int(lines[-1]) if lines else 0


def main() -> None:
    """Decode the clips described on standard input; one that merely fails is no matter."""
    from pipeline.extraction.decoding import decode_groups

    request = json.load(sys.stdin)
    for number, clip in enumerate(request["clips"]):
        sys.stdout.write(f"{number}\n")
        sys.stdout.flush()
        for _ in decode_groups([ClipJob(**clip)], clip_s=request["clip_s"], rates_hz=[16000], group_clips=1, dead={}):
            pass


if __name__ == "__main__":
    main()
