"""How PyTorch and Lightning are set up for a run: precision, determinism, memory, quiet, interrupts."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import lightning.pytorch as lightning
import torch

from pipeline.distillation.processes import ALONE, Part
from pipeline.distillation.settings import TrainSettings
from pipeline.distillation.together import strategy
from pipeline.errors import SettingError, TrainingError

#: Warnings of Lightning that say nothing about a run, with the reason each is ignored.
_IGNORED_WARNINGS = (
    (FutureWarning, ".*LeafSpec.*"),  # Lightning 2.6 calls a torch function that torch 2.13 renames
    (UserWarning, ".*does not have many workers.*"),  # batches are gathered from memory, not by workers
    (UserWarning, ".*GPU available but not used.*"),  # the device was chosen by the user
    (UserWarning, ".*`training_step`.*enable.*"),
)
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
_LARGEST_INT = (1 << 31) - 1


def build_trainer(
    settings: TrainSettings, devices: Sequence[str], watcher: lightning.Callback, root: Path, part: Part = ALONE
) -> lightning.Trainer:
    """Lightning's loop without its own logging, checkpoints, bars and validation: the watcher does those.

    Args:
        devices: of each process: ``cpu``, ``cuda:N`` or ``mps``.

    Raises:
        SettingError: a precision that the device cannot give.
    """
    kind = devices[0].partition(":")[0]
    indices = [int(name.partition(":")[2]) for name in devices if ":" in name]
    if settings.precision == "16-mixed" and kind == "cpu":
        raise SettingError(
            "--precision 16-mixed needs a GPU: a CPU has no float16 gradients. Use bf16-mixed or 32-true."
        )
    return lightning.Trainer(
        accelerator={"cuda": "gpu"}.get(kind, kind),
        devices=indices or len(devices),
        strategy=strategy(part, kind),
        precision=settings.precision,  # type: ignore[arg-type]
        max_steps=settings.steps,
        max_epochs=-1,
        gradient_clip_val=settings.clip_norm or None,
        callbacks=[watcher],
        default_root_dir=root,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        limit_val_batches=0,
        use_distributed_sampler=False,
    )


@contextmanager
def deterministic(wanted: bool) -> Iterator[None]:
    """Only operations that give the same bits every time, where wanted; PyTorch's setting is put back.

    Raises:
        TrainingError: the run needs an operation that has no such form on this device.
    """
    if not wanted:
        yield
        return
    before, benchmark = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # else cuBLAS refuses
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    try:
        yield
    except RuntimeError as error:
        if "deterministic" not in str(error):
            raise
        reason = str(error).split(". ")[0]
        raise TrainingError(f"--deterministic: {reason}. Train without it, or on the CPU.") from error
    finally:
        torch.use_deterministic_algorithms(before)
        torch.backends.cudnn.benchmark = benchmark


def keep_freed_memory() -> None:
    """Let glibc keep memory that is freed, instead of giving it back to the system at every step.

    A training step frees and asks for the same large blocks over and over; pages that are given back
    must be zeroed and mapped again.  Other C libraries are left as they are.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return
    mallopt(_M_MMAP_THRESHOLD, 1 << 30)
    mallopt(_M_TRIM_THRESHOLD, _LARGEST_INT)


@contextmanager
def quiet() -> Iterator[None]:
    """Lightning's hints and its harmless warnings are not the user's concern."""
    names = ("lightning.pytorch", "lightning.fabric")
    levels = {name: logging.getLogger(name).level for name in names}
    with warnings.catch_warnings():
        for category, message in _IGNORED_WARNINGS:
            warnings.filterwarnings("ignore", message, category)
        for name in names:
            logging.getLogger(name).setLevel(logging.ERROR)
        try:
            yield
        finally:
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)


@contextmanager
def interruptible() -> Iterator[None]:
    """Lightning answers Ctrl-C and SIGTERM with an exit of its own and a deaf process: give both back."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as stop:
        if isinstance(stop.__context__, KeyboardInterrupt):
            signal.signal(signal.SIGINT, handler)
            raise type(stop.__context__) from stop
        raise
