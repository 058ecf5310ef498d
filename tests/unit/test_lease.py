from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from pipeline.errors import StoreBusyError
from pipeline.stores.lease import LEASE, STALE_S, Lease


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "features").mkdir()
    return tmp_path


def forge(folder: Path, *, silent_s: float = 0.0, **changes: object) -> None:
    """A lease of some other writer."""
    with Lease(folder):
        content = json.loads((folder / LEASE).read_text())
    (folder / LEASE).write_text(json.dumps(content | {"owner": "theirs"} | changes))
    os.utime(folder / LEASE, (time.time() - silent_s,) * 2)


def ended_process() -> int:
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    return done.pid


def test_second_writer_is_told_who_holds_it(folder: Path) -> None:
    with Lease(folder), pytest.raises(StoreBusyError, match=rf"process {os.getpid()} on this machine.*Wait for it"):
        Lease(folder).__enter__()
    with Lease(folder):
        pass
    assert not (folder / LEASE).exists()


def test_owner_that_died_is_stale_at_once(folder: Path) -> None:
    forge(folder, process=ended_process())
    with Lease(folder):
        pass


def test_killed_owner_is_stale_even_before_it_is_reaped(folder: Path) -> None:
    code = "import sys, time; from pathlib import Path; from pipeline.stores.lease import Lease\n"
    code += "with Lease(Path(sys.argv[1])): print(flush=True); time.sleep(60)"
    child = subprocess.Popen([sys.executable, "-c", code, folder], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    with pytest.raises(StoreBusyError, match=f"process {child.pid} on this machine"):
        Lease(folder).__enter__()
    child.kill()
    time.sleep(0.2)
    with Lease(folder):
        pass
    child.wait()
    child.stdout.close()


def test_other_machine_is_believed_for_a_minute(folder: Path) -> None:
    forge(folder, machine="another", silent_s=STALE_S - 5)
    with pytest.raises(StoreBusyError, match=r"a process on another machine \(heartbeat 55 s ago\).*stale after 60 s"):
        Lease(folder).__enter__()
    forge_again = STALE_S + 1
    os.utime(folder / LEASE, (time.time() - forge_again,) * 2)
    with Lease(folder):
        pass


@pytest.mark.parametrize("content", ["", "{", "[]", '{"process": "x"}', '{"process": -1}'])
def test_unreadable_lease_is_believed_while_it_is_fresh(folder: Path, content: str) -> None:
    (folder / LEASE).write_text(content)
    with pytest.raises(StoreBusyError, match="is being written by"):
        Lease(folder).__enter__()
    os.utime(folder / LEASE, (0, 0))
    with Lease(folder):
        pass


def test_heartbeat_keeps_it_fresh(folder: Path) -> None:
    with Lease(folder, heartbeat_s=0.05):
        os.utime(folder / LEASE, (0, 0))
        time.sleep(0.5)
        assert time.time() - (folder / LEASE).stat().st_mtime < 10


def test_owner_that_slept_learns_that_it_lost_the_lease(folder: Path) -> None:
    with Lease(folder) as sleeper:
        os.utime(folder / LEASE, (0, 0))
        with Lease(folder) as other:
            other.require_held()
            with pytest.raises(StoreBusyError, match="taken over by another writer"):
                sleeper.require_held()
    assert not (folder / LEASE).exists()


def test_only_one_of_many_gets_it(folder: Path) -> None:
    """A stale lease and eight processes that want it at once."""
    forge(folder, process=ended_process())
    code = (
        "import sys; from pathlib import Path; from pipeline.errors import StoreBusyError\n"
        "from pipeline.stores.lease import Lease\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "try:\n"
        "    with Lease(Path(sys.argv[1])) as lease:\n"
        "        print('held', flush=True); sys.stdin.readline(); lease.require_held()\n"
        "except StoreBusyError: print('busy', flush=True)\n"
    )
    children = [
        subprocess.Popen([sys.executable, "-c", code, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(8)
    ]

    def hear() -> list[str]:
        return [child.stdout.readline().strip() for child in children if child.stdout is not None]

    def tell() -> None:
        for child in children:
            with suppress(BrokenPipeError):
                assert child.stdin is not None
                child.stdin.write("\n")
                child.stdin.flush()

    assert hear() == ["ready"] * 8
    tell()
    assert sorted(hear()) == ["busy"] * 7 + ["held"]  # it holds on until all have asked
    tell()
    assert [child.wait() for child in children] == [0] * 8
    for child in children:
        with suppress(BrokenPipeError):
            child.communicate()


def test_it_says_nothing_about_machine_or_user(folder: Path) -> None:
    with Lease(folder):
        content = json.loads((folder / LEASE).read_text())
    assert set(content) == {"owner", "machine", "process", "since"}
    assert len(content["machine"]) == 16
