"""Finding the clip that kills its worker, by halves, in processes of their own.

A decoder that crashes takes its process with it.  The shard that killed its workers is decoded
again in subprocesses: a half that survives is innocent, one that dies is halved again.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict

from pipeline.extraction.jobs import ClipJob

_TIMEOUT_S = 900


def find_killers(clips: Sequence[ClipJob], clip_s: float) -> dict[int, str]:
    """Positions of clips whose decoding kills the process, with the reason in words."""
    return _search(list(enumerate(clips)), clip_s)


def _search(numbered: list[tuple[int, ClipJob]], clip_s: float) -> dict[int, str]:
    died = _decode_apart([clip for _, clip in numbered], clip_s)
    if not died:
        return {}
    if len(numbered) == 1:
        return {numbered[0][0]: died}
    middle = len(numbered) // 2
    return _search(numbered[:middle], clip_s) | _search(numbered[middle:], clip_s)


def _decode_apart(clips: list[ClipJob], clip_s: float) -> str:
    """How the process that decoded these clips died; empty when it lived."""
    request = json.dumps({"clip_s": clip_s, "clips": [asdict(clip) for clip in clips]})
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pipeline.extraction.isolate"],
            input=request.encode(),
            capture_output=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"the decoder did not come back within {_TIMEOUT_S} s"
    if done.returncode == 0:
        return ""
    if done.returncode < 0:
        return f"the decoder's process was killed by {signal.Signals(-done.returncode).name}"
    return f"the decoder's process ended with status {done.returncode}"


def main() -> None:
    """Decode the clips described on standard input; a clip that merely fails is no matter."""
    from pipeline.extraction.decoding import decode_groups

    request = json.load(sys.stdin)
    clips = [ClipJob(**clip) for clip in request["clips"]]
    for _ in decode_groups(clips, clip_s=request["clip_s"], rates_hz=[16000], group_clips=1, dead={}):
        pass


if __name__ == "__main__":
    main()
