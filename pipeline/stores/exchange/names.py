"""File names for clips whose ids may hold anything."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

_SAFE = re.compile(r"[^A-Za-z0-9._@+-]+")
_MOST = 120
#: Names that Windows keeps for devices.
_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)


def file_names(clip_ids: Sequence[str]) -> list[str]:
    """A name for each id, fit for any file system: no folders, no odd characters, none twice.

    An id that is fit stays as it is. Others lose what is odd and get eight digits of their SHA-256, and so
    do those that differ from another one in upper and lower case alone.

    >>> file_names(["one.wav@0", "../etc/passwd"])
    ['one.wav@0', 'etc_passwd-7fef78f5']
    >>> file_names(["A", "a"])[0].startswith("A-")
    True
    """
    lowered = [clip_id.lower() for clip_id in clip_ids]
    seen: dict[str, int] = {}
    for name in lowered:
        seen[name] = seen.get(name, 0) + 1
    return [_name(clip_id, seen[low] > 1) for clip_id, low in zip(clip_ids, lowered, strict=True)]


def _name(clip_id: str, twice: bool) -> str:
    clean = _SAFE.sub("_", clip_id).strip("._")[:_MOST].rstrip(".")
    if clean == clip_id and not twice and not _DEVICES.match(clean) and not _LIKE_MADE.search(clean):
        return clean
    return f"{clean or 'clip'}-{hashlib.sha256(clip_id.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"


#: An id that looks like a name made here gets digits too, so that it cannot meet one.
_LIKE_MADE = re.compile(r"-[0-9a-f]{8}$")
