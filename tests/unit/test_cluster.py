from __future__ import annotations

import os
import signal

import pytest

from pipeline import cluster
from pipeline.cluster import WorkerLayout, choose_layout, n_cores
from pipeline.errors import SettingError


def test_cores_are_shared_among_workers() -> None:
    assert choose_layout(None, "cpu") == WorkerLayout(n_cores(), 1)
    assert choose_layout(1, "cpu") == WorkerLayout(1, n_cores())
    assert choose_layout(0, "cpu") == WorkerLayout(0, n_cores())
    assert choose_layout(1_000, "cpu").threads == 1


def test_negative_workers_are_refused() -> None:
    with pytest.raises(SettingError, match=r"--workers is -1; it must be 0 \(in this process\) or more"):
        choose_layout(-1, "cpu")


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:a", "cuda:0;1", "CPU", ""])
def test_odd_devices_are_refused(device: str) -> None:
    with pytest.raises(SettingError, match="it must be auto, cpu, cuda, or cuda:0,1"):
        choose_layout(None, device)


def test_a_gpu_that_is_not_there_is_never_replaced_silently() -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    with pytest.raises(SettingError, match=r"--device cuda:0: PyTorch .* sees no GPU here.*nvidia-smi"):
        choose_layout(None, "cuda:0")
    assert choose_layout(None, "auto").device == "cpu"


def test_devices_as_the_working_process_names_them() -> None:
    assert WorkerLayout(2, 1, ("0", "3")).device == "cuda"
    assert WorkerLayout(0, 4, ("3",), own_gpu=1).device == "cuda:1"


def test_environment_and_signals_are_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)  # what the user sets would win
    before, mask = dict(os.environ), signal.pthread_sigmask(signal.SIG_BLOCK, set())
    layout = WorkerLayout(1, 2)
    with cluster.running(layout, scheduler=None, worker_bytes=1 << 28, preload="pipeline.extraction.worker") as client:
        seen = client.submit(os.environ.get, "OMP_NUM_THREADS", pure=False).result()
        blocked = client.submit(_ignores_interrupts, pure=False).result()
    assert seen == "2"
    assert blocked
    assert dict(os.environ) == before
    assert signal.pthread_sigmask(signal.SIG_BLOCK, set()) == mask


def _ignores_interrupts() -> bool:
    return os.getpid() > 0 and signal.getsignal(signal.SIGINT) == signal.SIG_IGN
