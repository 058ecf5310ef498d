"""One file over HTTP, resumed where an earlier attempt stopped."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from pathlib import Path

from pipeline.errors import WeightsError
from pipeline.events import Listener, TaskAdvanced, TaskFinished, TaskStarted

_BLOCK = 1 << 18
_TIMEOUT_S = 30.0
_ATTEMPTS = 4
_RANGE_NOT_SATISFIABLE = 416


def download(url: str, part: Path, *, listener: Listener) -> None:
    """Fetch ``url`` into ``part``, going on from the bytes already there.

    Raises:
        WeightsError: the server refuses, is not reachable, or keeps breaking off.
    """
    task = f"download {url.rsplit('/', 1)[-1] or url}"
    listener(TaskStarted(task, None, "B"))
    try:
        _download_in_attempts(url, part, task, listener)
    finally:
        listener(TaskFinished(task))


def _download_in_attempts(url: str, part: Path, task: str, listener: Listener) -> None:
    reason = ""
    for _ in range(_ATTEMPTS):
        try:
            if _read_on(url, part, task, listener):
                return
            reason = f"the connection broke off after {part.stat().st_size:,} bytes"
        except urllib.error.HTTPError as error:
            error.close()
            if error.code != _RANGE_NOT_SATISFIABLE:
                raise WeightsError(f"{url}: the server answers {error.code} {error.reason}") from error
            part.unlink(missing_ok=True)  # what is there is not the start of this file
            reason = "the server does not know the range asked for"
        except (OSError, http.client.HTTPException) as error:
            reason = str(getattr(error, "reason", error)) or type(error).__name__
    raise WeightsError(f"{url}: {reason}. What arrived is kept; try again to go on.")


def _read_on(url: str, part: Path, task: str, listener: Listener) -> bool:
    """Append what the server still has; True when all of it came."""
    have = part.stat().st_size if part.exists() else 0
    headers = {"Range": f"bytes={have}-"} if have else {}
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=_TIMEOUT_S) as answer:
        resumed = have > 0 and answer.status == http.client.PARTIAL_CONTENT
        start = have if resumed else 0
        length = answer.headers.get("Content-Length")
        if start:
            listener(TaskAdvanced(task, start, "resumed", found=True))
        with part.open("ab" if resumed else "wb") as sink:
            got = 0
            while block := answer.read(_BLOCK):
                sink.write(block)
                got += len(block)
                listener(TaskAdvanced(task, len(block)))
    return length is None or got == int(length)
