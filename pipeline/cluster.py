"""Local or existing Dask cluster: how many workers, which device and threads each has."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import dask
import psutil
from distributed import Client, Nanny, Scheduler, SpecCluster

from pipeline.errors import PlanError, SettingError

_CPU_DEVICES = ("cpu",)
_CONNECT_S = 30
_SPAWN = "distributed.nanny.pre-spawn-environ"
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True)
class WorkerLayout:
    """What each worker is given.

    ``gpus`` holds one GPU index per worker, empty on CPUs; each worker sees only its own.  Without
    workers, ``own_gpu`` is the one that this process uses, among those it sees.
    """

    n_workers: int
    threads: int
    gpus: tuple[str, ...] = ()
    own_gpu: int = 0

    @property
    def device(self) -> str:
        """The device as the process that works names it."""
        if not self.gpus:
            return "cpu"
        return "cuda" if self.n_workers else f"cuda:{self.own_gpu}"


def n_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def choose_layout(n_workers: int | None, device: str) -> WorkerLayout:
    """Workers, threads and GPUs from what was asked for.

    Args:
        n_workers: None chooses; 0 works in this process.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:0,1``.  Never falls back silently.

    Raises:
        SettingError: a device that is not there, or text that names none.
    """
    if n_workers is not None and n_workers < 0:
        raise SettingError(f"--workers is {n_workers}; it must be 0 (in this process) or more.")
    gpus = find_gpus(device)
    if gpus and n_workers == 0:
        first = device.partition(":")[2].split(",")[0]
        return WorkerLayout(n_workers=0, threads=n_cores(), gpus=gpus[:1], own_gpu=int(first or 0))
    if gpus:
        n = len(gpus) if n_workers is None else min(n_workers, len(gpus))
        return WorkerLayout(n_workers=n, threads=max(1, n_cores() // n), gpus=gpus[:n])
    n = n_cores() if n_workers is None else n_workers
    return WorkerLayout(n_workers=n, threads=max(1, n_cores() // max(1, n)))


def find_gpus(device: str) -> tuple[str, ...]:
    """GPU indices that a device text asks for; empty for the CPU.

    Raises:
        SettingError: GPUs asked for that are not there.
    """
    if device in _CPU_DEVICES:
        return ()
    if not re.fullmatch(r"auto|cuda(:\d+(,\d+)*)?", device):
        raise SettingError(f"--device is {device!r}; it must be auto, cpu, cuda, or cuda:0,1 and the like.")
    import torch

    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device == "auto" and not there:
        return ()
    if not there:
        raise SettingError(
            f"--device {device}: PyTorch {torch.__version__} sees no GPU here. Check nvidia-smi, and that a CUDA build "
            "of PyTorch is installed; or use --device cpu."
        )
    wanted = device.partition(":")[2].split(",") if ":" in device else [str(index) for index in range(there)]
    if missing := [index for index in wanted if int(index) >= there]:
        raise SettingError(f"--device {device}: there are {there} GPUs, numbered from 0; no {', '.join(missing)}.")
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    names = visible.split(",") if visible else [str(index) for index in range(there)]
    return tuple(names[int(index)] for index in wanted)


@contextlib.contextmanager
def running(layout: WorkerLayout, *, scheduler: str | None, worker_bytes: int, preload: str) -> Iterator[Client]:
    """A client of a local cluster that lives as long as the block, or of an existing scheduler.

    Args:
        worker_bytes: what the plan expects one worker to need; a local worker is stopped only
            well beyond it.
        preload: module whose ``dask_setup`` each local worker runs first.

    Raises:
        PlanError: the scheduler does not answer.
    """
    if scheduler:
        with _connect(scheduler) as client:
            yield client
        return
    # Connections that close late, after the cluster has given its handlers back, are no news either.
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    with _environment_kept(), dask.config.set(_SETTINGS | {_SPAWN: _spawn_environment(layout)}):
        with _interrupt_later():
            cluster = SpecCluster(
                workers=_workers(layout, worker_bytes, preload),
                scheduler={"cls": Scheduler, "options": _LOCAL},
                silence_logs=50,
            )
        with cluster, Client(cluster) as client, _killed_on_error(cluster):
            yield client


@contextlib.contextmanager
def _killed_on_error(cluster: SpecCluster) -> Iterator[None]:
    """Workers end in order when all is done, and at once when the driver stops on an error or Ctrl-C.

    What a worker has not published by then does not count anyway.
    """
    try:
        yield
    except BaseException:
        for nanny in cluster.workers.values():
            nanny.auto_restart = False
            with contextlib.suppress(OSError, TypeError):
                os.kill(nanny.pid, signal.SIGKILL)
        raise


@contextlib.contextmanager
def _interrupt_later() -> Iterator[None]:
    """Hold Ctrl-C back inside the block; threads and processes started there never get it.

    A terminal sends it to all processes at once: only the driver is to answer.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_QUIET_TRACKER = "ignore::UserWarning:multiprocessing.resource_tracker"

#: Nothing listens on the network, and no port is fixed: several commands may run at once.
_LOCAL = {"host": "127.0.0.1", "dashboard": False, "dashboard_address": "127.0.0.1:0"}

#: One task at a time and none waiting at a worker: a dying worker then blames only its own task,
#: and does so at once, since another worker would only die of it as well.
_SETTINGS = {
    "distributed.scheduler.worker-saturation": 1.0,
    "distributed.scheduler.allowed-failures": 0,
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.scheduler.work-stealing": False,
    "distributed.admin.tick.limit": "60s",
    "distributed.comm.timeouts.connect": f"{_CONNECT_S}s",
}


def _workers(layout: WorkerLayout, worker_bytes: int, preload: str) -> dict[int, dict[str, Any]]:
    share = psutil.virtual_memory().total // max(1, layout.n_workers)
    return {
        index: {
            "cls": Nanny,
            "options": {
                **_LOCAL,
                "nthreads": 1,
                "memory_limit": max(3 * worker_bytes, share),
                "preload": [preload],
                "env": _environment(layout, index),
                "silence_logs": 50,
            },
        }
        for index in range(layout.n_workers)
    }


def _environment(layout: WorkerLayout, index: int) -> dict[str, str]:
    """A worker's own: each GPU worker sees one GPU."""
    return {"CUDA_VISIBLE_DEVICES": layout.gpus[index]} if layout.gpus else {}


def _spawn_environment(layout: WorkerLayout) -> dict[str, str]:
    """Read by libraries as they load, so set before the worker starts.

    Dask's own settings allow each library one thread, and make malloc hand memory back to the
    system at every chance: networks that allocate large tensors then fault every page in again,
    measured at 66 against 122 audio-seconds per second for MusiCNN on one core.
    """
    found = dict.fromkeys(_THREAD_VARIABLES, str(layout.threads))
    return found | {"MALLOC_TRIM_THRESHOLD_": str(1 << 32), "MALLOC_MMAP_THRESHOLD_": str(1 << 30)}


@contextlib.contextmanager
def _environment_kept() -> Iterator[None]:
    """Dask sets the variables in this process to hand them on; put back what was there.

    The helper process that Python starts beside workers is told not to count the semaphores that
    a killed driver leaves: it is there to remove them.
    """
    before = dict(os.environ)
    os.environ["PYTHONWARNINGS"] = ",".join(filter(None, [before.get("PYTHONWARNINGS", ""), _QUIET_TRACKER]))
    try:
        yield
    finally:
        for name in set(os.environ) - set(before):
            del os.environ[name]
        os.environ.update(before)


def _connect(address: str) -> Client:
    try:
        return Client(address, timeout=_CONNECT_S)
    except (OSError, ValueError) as error:
        raise PlanError(
            f"No Dask scheduler answers at {address} within {_CONNECT_S} s ({error}). Start one with `dask scheduler`, "
            "its workers with `dask worker ADDRESS`, in an environment with the same packages."
        ) from error
