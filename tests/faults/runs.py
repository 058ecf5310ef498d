"""One run: a real extraction that is hit again and again, then goes on to its end; and what must hold of it."""

from __future__ import annotations

import math
import os
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from faults.disks import fill, limit_files, small_disk
from faults.ground import IN_FLIGHT_CLIPS, SHARD_CLIPS, Ground, N, east, start, store_path
from faults.plan import FULL, SURVIVED, Fault, RunPlan
from killing import family, lives, require_gone, workers

from pipeline.errors import StoreError
from pipeline.stores.checking.verify import VerifyOptions, verify_store
from pipeline.stores.info import describe_store
from pipeline.stores.journal import JOURNAL
from pipeline.stores.lease import LEASE
from pipeline.stores.target import working_path

_LONGEST_S = 180.0
_EVERY_COMMAND = 10
_POLL_S = 0.005
_STATUS = {
    "driver": {-signal.SIGKILL},
    "group": {-signal.SIGKILL},
    "terminated": {-signal.SIGTERM},
    "interrupted": {130},
    "full disk": {1},
    "size limit": {1},
}
_WORDS = {
    "interrupted": ("Interrupted. What was finished is kept",),
    "full disk": ("free some space", "Free some"),
    "size limit": ("free some space",),
}
_GAVE_UP = "killed its workers 3 times"


class Broken(Exception):  # noqa: N818 - not an error of the program under test
    """Something that must hold does not."""


@dataclass
class RunResult:
    """What came of one run.

    Attributes:
        hits: faults that hit, by kind; ``late``: those that came when the command had ended.
        resumes: commands beyond the first.
        again: clips computed more than once, each time counted; ``bound``: how many are allowed.
        most: how often the clip was computed that was computed most often.
    """

    plan: RunPlan
    hits: Counter[str] = field(default_factory=Counter)
    late: int = 0
    resumes: int = 0
    again: int = 0
    most: int = 0
    seconds: float = 0.0
    failure: str = ""

    @property
    def bound(self) -> int:
        """Clips that may be computed again: the shards in flight, for every fault that hit."""
        return self.hits.total() * IN_FLIGHT_CLIPS


def run_one(ground: Ground, plan: RunPlan, folder: Path) -> RunResult:
    """Carry a plan out in a folder of its own; what does not hold is in ``failure``."""
    began = time.monotonic()
    run = _Run(ground, plan, folder)
    with small_disk(folder / "home") if run.wants_disk() else _no_disk(folder / "home") as mounted:
        run.mounted = bool(mounted)
        try:
            run.through()
        except Broken as error:
            run.result.failure = f"{error}\n{run.said()}".rstrip()
        finally:
            run.end()
    run.result.seconds = time.monotonic() - began
    return run.result


class _no_disk:  # noqa: N801 - beside small_disk
    def __init__(self, place: Path) -> None:
        place.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> bool:
        return False

    def __exit__(self, *_: object) -> None:
        pass


class _Run:
    def __init__(self, ground: Ground, plan: RunPlan, folder: Path) -> None:
        self.ground, self.plan, self.folder, self.home = ground, plan, folder, folder / "home"
        self.path = store_path(self.home, plan.format)
        self.work = working_path(self.path)
        self.log = folder / "clips.log"
        self.log.touch()
        self.result = RunResult(plan)
        self.mounted = False
        self.n_commands = 0
        self.left: list[psutil.Process] = []
        self.process: subprocess.Popen[str] | None = None

    def wants_disk(self) -> bool:
        return any(fault.kind == "full disk" for fault in self.plan.faults)

    def said(self) -> str:
        """The last lines of what the commands said."""
        lines = []
        for path in sorted(self.folder.glob("said-*.txt")):
            lines += [f"{path.name}: {line}" for line in path.read_text(errors="replace").splitlines()[-12:]]
        return "\n".join(lines[-30:])

    def end(self) -> None:
        """Leave no process behind."""
        for process in self.left:
            if lives(process):
                with suppress(psutil.NoSuchProcess):
                    process.kill()
        if self.process is not None and self.process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def through(self) -> None:
        """All faults in turn, then to the end, then the checks."""
        waiting = list(self.plan.faults)
        done = False
        while not done:
            done = self._command(waiting)
            if self.n_commands > 3 * len(self.plan.faults) + 3:
                raise Broken("it never comes to an end")
        self._check_end()

    def _command(self, waiting: list[Fault]) -> bool:
        """One command with the faults that hit it; whether it came to the end of the work."""
        self._start()
        while waiting:
            fault = waiting.pop(0)
            if not self._wait_for(fault):
                self.result.late += 1 + len(waiting)
                waiting.clear()
                break
            if not self._strike(fault):
                self.result.late += 1
                continue
            if fault.kind not in SURVIVED:
                return self._after(fault)
        return self._ended()

    def _start(self) -> None:
        self.before = self._finished()
        self.n_logged = len(self._computed())
        self.process = self._give(f"said-{self.n_commands}.txt")
        self.n_commands += 1
        self.began = time.monotonic()
        self.result.resumes = self.n_commands - 1

    def _give(self, said: str) -> subprocess.Popen[str]:
        with (self.folder / said).open("w") as out:
            return start(self.ground.folder, self.home, self.plan.format, self.log, out)

    # When a fault hits.

    def _wait_for(self, fault: Fault) -> bool:
        """Wait for the fault's moment; False when the command ended before."""
        come = self._condition(fault)
        while not come():
            if not self._runs():
                return False
            time.sleep(_POLL_S)
        time.sleep(fault.moment.delay_s)
        return self._runs()

    def _condition(self, fault: Fault) -> Callable[[], bool]:
        phase = fault.moment.phase
        rest = N - self.before
        wanted = max(1, math.ceil(fault.moment.share * rest))
        if phase == "start":
            return (lambda: bool(workers(self._process()))) if fault.kind in SURVIVED else (lambda: True)
        if phase == "create" and not self.work.exists() and not self.path.exists():
            return lambda: self.path.parent.is_dir() and any(self.path.parent.iterdir())
        if phase == "end":
            return lambda: self._journalled() >= -(-rest // SHARD_CLIPS) and (rest > 0 or (self.work / LEASE).exists())
        return lambda: len(self._computed()) - self.n_logged >= (1 if phase == "create" else wanted)

    def _process(self) -> subprocess.Popen[str]:
        assert self.process is not None
        return self.process

    def _runs(self) -> bool:
        if time.monotonic() - self.began > _LONGEST_S:
            raise Broken(f"a command does not end within {_LONGEST_S:.0f} s")
        return self._process().poll() is None

    def _computed(self) -> list[str]:
        """Clips in the order they were begun; what is no clip (canaries, preflight) is left out."""
        return [clip for key in self.log.read_text().split() if (clip := self.ground.clips.get(key))]

    def _journalled(self) -> int:
        try:
            return (self.work / JOURNAL).read_bytes().count(b"\n")
        except OSError:
            return 0

    # How it hits.

    def _strike(self, fault: Fault) -> bool:
        """Hit; False when there is nothing left to hit."""
        process, kind = self._process(), fault.kind
        self.children = family(process)
        if kind in SURVIVED:
            found = workers(process)
            if not found:
                return False
            chosen = found if kind == "all workers" else [found[int(fault.pick * len(found))]]
            for worker in chosen:
                with suppress(psutil.NoSuchProcess):
                    worker.kill()
        elif kind == "driver":
            process.kill()
        elif kind == "terminated":
            process.terminate()
        elif kind in ("group", "interrupted"):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL if kind == "group" else signal.SIGINT)
        elif kind == "full disk" and self.mounted:
            fill(self.home, int(fault.pick**2 * (96 << 10)))
        else:
            limit_files([psutil.Process(process.pid), *self.children], 6_000 + int(fault.pick * 20_000))
        if kind in SURVIVED:
            self.result.hits[kind] += 1
        return True

    def _after(self, fault: Fault) -> bool:
        """After a fault that ends the command; whether the work was done all the same."""
        status = self._end_of(self._process())
        name = "size limit" if fault.kind in FULL and not self.mounted else fault.kind
        if status == 0 and name not in ("driver", "group"):
            self.result.late += 1
            self._make_room()
            return True
        self.result.hits[name] += 1
        self._check_said(self.n_commands - 1, name, status, fault)
        self.left += self.children
        if fault.waits:
            self._require_gone()
        self._peek()
        if fault.again and name == "full disk":
            said = f"said-{self.n_commands - 1}-full.txt"
            if (status := self._end_of(self._give(said))) != 0:
                self._require_words(said, name)
            self._peek()
        self._make_room()
        return False

    def _make_room(self) -> None:
        (self.home / "ballast").unlink(missing_ok=True)

    def _end_of(self, process: subprocess.Popen[str]) -> int:
        try:
            return process.wait(_LONGEST_S)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise Broken(f"a command does not end within {_LONGEST_S:.0f} s") from None

    def _ended(self) -> bool:
        """The command that nothing ended: it must have done all, or have given up on a shard that kept dying."""
        status = self._end_of(self._process())
        said = f"said-{self.n_commands - 1}.txt"
        if "Traceback" in (text := (self.folder / said).read_text()):
            raise Broken(f"a traceback in {said}")
        if status == 0:
            return True
        if _GAVE_UP in text and self.result.hits["worker"] + self.result.hits["all workers"] >= 3:
            return False
        raise Broken(f"nothing ended the command, and its status is {status}")

    # What must hold.

    def _check_said(self, number: int, name: str, status: int, fault: Fault) -> None:
        if name == "interrupted" and status == -signal.SIGINT:
            return  # Python was still importing, before a word of ours
        if status not in _STATUS[name]:
            raise Broken(f"after '{name}' at '{fault.moment.phase}' the status is {status}")
        if fault.moment.phase != "start" or name in FULL:
            self._require_words(f"said-{number}.txt", name)

    def _require_words(self, said: str, name: str) -> None:
        text = (self.folder / said).read_text()
        if "Traceback" in text:
            raise Broken(f"a traceback in {said} after '{name}'")
        if name in _WORDS and not any(words in " ".join(text.split()) for words in _WORDS[name]):
            raise Broken(f"{said} does not say what happened and what to do after '{name}'")

    def _place(self) -> Path | None:
        return next((place for place in (self.work, self.path) if place.exists()), None)

    def _finished(self) -> int:
        """Clips that the store says are done or failed."""
        if (place := self._place()) is None:
            return 0
        about = self._describe(place)
        return int(about["done"] + about["failed"])

    def _describe(self, place: Path) -> dict[str, object]:
        try:
            return describe_store(str(place))
        except StoreError as error:
            raise Broken(f"the half-made store does not open: {error}") from error

    def _peek(self) -> None:
        """The store as a fault left it: it opens, is not damaged, and is complete only if it is."""
        if (place := self._place()) is None:
            return
        about = self._describe(place)
        if about["complete"] and (about["pending"] or about["content_digest"] != self.ground.digest):
            raise Broken(f"a half-made store claims to be complete, {about['pending']} clips pending")
        if found := verify_store(place, VerifyOptions()).findings:
            raise Broken(f"verify finds damage in a half-made store: {found[0].file}: {found[0].text}")
        if self.plan.seed % _EVERY_COMMAND == 0:
            self._info_by_command(place)

    def _info_by_command(self, place: Path) -> None:
        """``east store info`` as a user calls it."""
        said = f"said-{self.n_commands - 1}-info.txt"
        with (self.folder / said).open("w") as out:
            status = self._end_of(east(self.ground.folder, self.home, "store", "info", place, out=out))
        if status != 0:
            raise Broken(f"east store info ends with status {status}")

    def _require_gone(self) -> None:
        try:
            require_gone(self.left, within_s=60.0)
        except AssertionError as error:
            raise Broken(f"processes stay behind: {error}") from None

    def _check_end(self) -> None:
        self._require_gone()
        about = self._describe(self.path)
        if not about["complete"] or about["content_digest"] != self.ground.digest:
            raise Broken(f"the content digest is {about['content_digest']!r}, not {self.ground.digest!r}")
        report = verify_store(self.path, VerifyOptions())
        if report.findings or report.notes:
            raise Broken(f"verify finds fault with the finished store: {report.text()}")
        if stray := self._strays():
            raise Broken(f"left behind: {', '.join(stray)}")
        self._count()

    def _strays(self) -> list[str]:
        inside = self.home.rglob("*")
        odd = [path for path in inside if path.name.startswith(".") or path.suffix in (".partial", ".tmp")]
        odd += [path for name in (LEASE, JOURNAL) if (path := self.path / name).exists()]
        odd += [path for path in self.path.parent.iterdir() if path != self.path]
        return sorted({path.relative_to(self.home).as_posix() for path in odd})

    def _count(self) -> None:
        """How much was computed again, and that it is no more than the shards in flight account for."""
        counts = Counter(self._computed())
        result, kills = self.result, self.result.hits.total()
        if missing := set(self.ground.clips.values()) - counts.keys():
            raise Broken(f"{len(missing)} clips were never computed, and the store has them")
        result.again, result.most = counts.total() - len(counts), max(counts.values())
        if result.most > kills + 1:
            raise Broken(f"a clip was computed {result.most} times, with {kills} faults")
        if result.again > result.bound:
            raise Broken(f"{result.again} clips were computed again; {kills} faults account for {result.bound}")


def remove(folder: Path) -> None:
    """Remove a run's folder."""
    shutil.rmtree(folder, ignore_errors=True)
