"""One writer at a time, of a store or of a run: a lease file with an owner and a heartbeat.

The lease names no host and no user, since stores are shared: the machine is a digest.  A lease
whose process is gone on this machine is stale at once, one of another machine after a minute
without a heartbeat.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import threading
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from pipeline.errors import StoreBusyError, StoreError
from pipeline.stores.guard import MAX_LEASE_BYTES, load_json, read_file

LEASE = "features/lease.json"
HEARTBEAT_S = 5.0
STALE_S = 60.0
_LATEST_S = float(1 << 36)


class Lease:
    """Context manager that holds a store, or another folder, for writing.

    Args:
        file: of the lease, below the folder.

    Raises:
        StoreError: the folder of the lease is a link.
        StoreBusyError: a living writer holds it; says who, since when, and what to do.
    """

    def __init__(self, folder: Path, *, heartbeat_s: float = HEARTBEAT_S, file: str = LEASE) -> None:
        self.folder, self.path, self.heartbeat_s = folder, folder / file, heartbeat_s
        self.owner = uuid.uuid4().hex
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Lease:
        if self.path.parent.is_symlink():
            raise StoreError(f"{self.path.parent} is a link: a store's folders are not written through links.")
        for _ in range(3):
            if self._claim():
                self._thread = threading.Thread(target=self._beat, daemon=True, name="store-lease")
                self._thread.start()
                return self
            self._remove_if_stale()
        raise StoreBusyError(f"{self.folder.name} is claimed by several writers at once. Try again in a minute.")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        if self._holder().get("owner") == self.owner:
            self.path.unlink(missing_ok=True)

    def require_held(self) -> None:
        """Refuse to go on when another writer took over, which happens after a long sleep of this one.

        Raises:
            StoreBusyError: the lease is not this one's any more.
        """
        if self._holder().get("owner") != self.owner:
            raise StoreBusyError(
                f"{self.folder.name} was taken over by another writer while this process did not run for more than "
                f"{STALE_S:.0f} s (a sleeping machine, perhaps). This one stops; what it had finished is kept."
            )

    def _claim(self) -> bool:
        try:
            handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        except FileExistsError:
            return False
        content = {"owner": self.owner, "machine": _machine(), "process": os.getpid(), "since": time.time()}
        with os.fdopen(handle, "w") as out:
            json.dump(content, out)
        return True

    def _remove_if_stale(self) -> None:
        holder = self._holder()
        try:
            silent_s = time.time() - self.path.stat().st_mtime
        except FileNotFoundError:
            return
        here = holder.get("machine") == _machine()
        if (here and not _alive(holder.get("process"))) or silent_s > STALE_S:
            self._remove(holder)
            return
        who = f"process {holder.get('process')} on this machine" if here else "a process on another machine"
        raise StoreBusyError(
            f"{self.folder.name} is being written by {who} (heartbeat {silent_s:.0f} s ago). Wait for it, or "
            f"stop it; a lease of another machine counts as stale after {STALE_S:.0f} s without a heartbeat."
        )

    def _remove(self, stale: dict[str, object]) -> None:
        """Take a stale lease away; put it back if another writer replaced it in the meantime."""
        aside = self.path.with_name(f".lease.{self.owner}.tmp")
        try:
            self.path.rename(aside)
        except FileNotFoundError:
            return
        try:
            if _read(aside).get("owner") != stale.get("owner"):
                os.link(aside, self.path)
        except FileExistsError:
            pass
        finally:
            aside.unlink(missing_ok=True)

    def _holder(self) -> dict[str, object]:
        return _read(self.path)

    def _beat(self) -> None:
        while not self._stop.wait(self.heartbeat_s):
            try:
                os.utime(self.path)
            except OSError:
                return


@dataclass(frozen=True)
class Holder:
    """Who holds a store, as its lease says; it may come from anyone.

    Attributes:
        here: whether it is a process of this machine.
        since_s: when the lease was taken, seconds of the epoch; 0 where that makes no sense.
        silent_s: since the last heartbeat.
        alive: not stale: the process is there, or another machine's heartbeat is young enough.
    """

    here: bool
    process: int
    since_s: float
    silent_s: float
    alive: bool

    def words(self) -> str:
        """``process N on this machine``, or that it is another machine's."""
        return f"process {self.process} on this machine" if self.here else "a process on another machine"


def holder_of(folder: Path) -> Holder | None:
    """Who holds a store; None where nobody does, or the lease cannot be read."""
    path = folder / LEASE
    found = _read(path)
    try:
        silent_s = max(0.0, time.time() - path.lstat().st_mtime)
    except OSError:
        return None
    if not found:
        return None
    here, process, since = found.get("machine") == _machine(), found.get("process"), found.get("since")
    number = process if type(process) is int and 0 < process < 1 << 31 else 0
    known = isinstance(since, int | float) and 0 < since < _LATEST_S
    alive = silent_s <= STALE_S and (_alive(number) if here else True)
    return Holder(here, number, float(since) if known and isinstance(since, int | float) else 0.0, silent_s, alive)


def _read(path: Path) -> dict[str, object]:
    try:
        value = load_json(read_file(path, MAX_LEASE_BYTES), str(path))
    except (OSError, StoreError):
        return {}
    return value if isinstance(value, dict) else {}


def _machine() -> str:
    """A digest that tells machines, reboots and containers apart and says nothing about them."""
    text = platform.node()
    with contextlib.suppress(OSError):
        text += Path("/proc/sys/kernel/random/boot_id").read_text()
        text += str(Path("/proc/self/ns/pid").readlink())
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _alive(process: object) -> bool:
    if not isinstance(process, int) or not 0 < process < 1 << 31:
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return not _is_zombie(process)


def _is_zombie(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except (OSError, IndexError):
        return False
