"""Shards of a remote store, kept in a local cache once they have been read.

Whole shards are fetched, so that any web server will do, also one that knows no byte ranges; what
is not read is not fetched.  A cached shard is checked chunk by chunk like a local one.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import fsspec
import platformdirs

from pipeline.errors import StoreError
from pipeline.files import publishing
from pipeline.stores.schema import StoreMeta

CACHE_VARIABLE = "EAST_STORE_CACHE"


class RemoteFiles:
    """Files of one finished remote store by their path inside it.

    The cache folder is named by a digest of address, uuid and content, so that a store that
    changed at its address is fetched anew.
    """

    def __init__(self, url: str, meta: StoreMeta) -> None:
        self.url = url.rstrip("/")
        key = hashlib.sha256("\n".join((self.url, meta.uuid, meta.content_digest)).encode()).hexdigest()[:32]
        base = os.environ.get(CACHE_VARIABLE) or platformdirs.user_cache_path("east") / "stores"
        self.folder = Path(base) / key

    def fetch(self, name: str) -> Path | None:
        """The local copy of a file, fetched on first use; None where the store has no such file.

        Raises:
            StoreError: the connection failed, or the disk is full.
        """
        place = self.folder / name
        if place.exists():
            return place
        try:
            with (
                publishing(place) as draft,
                fsspec.open(f"{self.url}/{name}", "rb") as source,
                draft.open("wb") as sink,
            ):
                shutil.copyfileobj(source, sink, 1 << 20)
        except FileNotFoundError:
            return None
        except Exception as error:  # each file system raises its own kinds
            raise StoreError(f"{self.url}/{name} cannot be fetched: {error}. Try again; what came is kept.") from error
        return place
