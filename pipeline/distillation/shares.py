"""How a batch is shared by the processes of a run.  Torch-free."""

from __future__ import annotations

from pipeline.errors import SettingError


def count_processes(device: str, devices: int) -> int:
    """How many processes train together: ``devices``, or the GPUs that ``device`` lists.

    >>> count_processes("cpu", 2), count_processes("cuda:0,1", 1)
    (2, 2)
    """
    return max(devices, len(device.split(",")))


def check_shares(batch: int, device: str, devices: int) -> None:
    """Make sure that each process gets the same number of clips.

    Raises:
        SettingError: it does not, or the two settings contradict each other.
    """
    listed, n = len(device.split(",")), count_processes(device, devices)
    if listed > 1 and devices not in (1, listed):
        raise SettingError(f"--device {device} lists {listed} devices, but --devices asks for {devices}.")
    if batch % n or batch < 2 * n:
        raise SettingError(
            f"--batch {batch} cannot be shared by {n} processes: each needs the same number of clips, at least 2. "
            f"Use a multiple of {n}, such as {max(2, round(batch / n)) * n}."
        )
