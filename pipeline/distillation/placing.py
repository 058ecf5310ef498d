"""Where batches are made: features kept on the device, or batches copied there while the last one is trained on."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import torch

from pipeline.distillation.batches import Batch, Feed
from pipeline.distillation.features import FeatureSet
from pipeline.errors import SettingError
from pipeline.events import Listener, Note

_DEVICE_SHARE = 0.5  # of the device's free memory; the rest is the student's and its activations'
_BATCHES_AHEAD = 2


def place(feed: Feed, data_on: str, device: torch.device, listener: Listener) -> Iterable[Batch]:
    """A feed's batches where they are needed.

    On a CPU a batch is gathered when it is asked for: that takes a hundredth of a step, and a thread of
    its own would only take the core from it.  For a GPU the features are kept there where they fit;
    else a thread gathers, pins and copies batches ahead, in a stream of its own.

    Args:
        data_on: ``auto``, ``host`` or ``device``.

    Raises:
        SettingError: ``device``, but the features do not fit there.
    """
    if keeps_on_device(feed.features, data_on, device, free_bytes(device)):
        if device.type != "cpu":
            listener(Note(f"Features ({feed.features.n_bytes / (1 << 30):.2f} GiB) are kept on {device}."))
        feed.device = device
        return feed
    return feed if device.type == "cpu" else Ahead(feed, device)


def keeps_on_device(features: FeatureSet, data_on: str, device: torch.device, free: int | None) -> bool:
    """Whether whole stores lie on the device during training; decided before anything is read.

    Args:
        free: bytes of the device's own memory that are free; None where it has none of its own.

    Raises:
        SettingError: ``device`` is asked for, but they do not fit.
    """
    fits = features.resident and (free is None or features.n_bytes <= free * _DEVICE_SHARE)
    if data_on == "device" and not fits:
        needed, room = features.n_bytes / (1 << 30), (free or 0) * _DEVICE_SHARE / (1 << 30)
        why = f"{device} has room for {room:.2f} GiB" if features.resident else "they do not fit in memory, either"
        raise SettingError(f"--data-on device: the features take {needed:.2f} GiB, but {why}. Use --data-on auto.")
    return fits and (data_on == "device" or (data_on == "auto" and free is not None))


def free_bytes(device: torch.device) -> int | None:
    """Free memory of a GPU; None where the device uses the machine's own."""
    return int(torch.cuda.mem_get_info(device)[0]) if device.type == "cuda" else None


class _Copied(NamedTuple):
    """A batch on its way to a GPU; the event tells when it is there."""

    batch: Batch
    event: torch.cuda.Event | None


class Ahead:
    """Batches that a thread gathers, pins and copies to a device while earlier ones are trained on."""

    def __init__(self, batches: Iterable[Batch], device: torch.device) -> None:
        self.batches, self.device = batches, device

    def __iter__(self) -> Iterator[Batch]:
        stream = torch.cuda.Stream(self.device) if self.device.type == "cuda" else None  # type: ignore[no-untyped-call]
        source = iter(self.batches)
        with ThreadPoolExecutor(1, thread_name_prefix="batches") as pool:
            waiting: deque[Future[_Copied | None]] = deque()
            while len(waiting) < _BATCHES_AHEAD:
                waiting.append(pool.submit(self._copy, source, stream))
            while (copied := waiting.popleft().result()) is not None:
                waiting.append(pool.submit(self._copy, source, stream))
                yield self._here(copied)

    def _copy(self, source: Iterator[Batch], stream: torch.cuda.Stream | None) -> _Copied | None:
        batch = next(source, None)
        if batch is None:
            return None
        if stream is None:
            return _Copied(batch.to(self.device), None)
        with torch.cuda.stream(stream):
            return _Copied(batch.each(torch.Tensor.pin_memory).to(self.device), stream.record_event())

    def _here(self, copied: _Copied) -> Batch:
        """Wait on the device, not here, and keep the memory until training has used it."""
        if copied.event is None:
            return copied.batch
        present = torch.cuda.current_stream(self.device)
        present.wait_event(copied.event)

        def used(tensor: torch.Tensor) -> torch.Tensor:
            tensor.record_stream(present)
            return tensor

        return copied.batch.each(used)
