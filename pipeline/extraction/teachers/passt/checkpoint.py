"""Reading an official PaSST checkpoint."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from pipeline.extraction.teachers.checkpoint import as_state, fill, read_checkpoint

_HINT = (
    "Other networks of the same releases do not fit: fewer blocks, other tasks, 20 s or 30 s, another hop of the "
    "spectrogram or of the patches."
)


def load_checkpoint(network: nn.Module, path: Path, what: str) -> None:
    """Fill a network from a file that is a dictionary of tensors by name.

    Args:
        what: the architecture, for the message.

    Raises:
        WeightsError: not such a file, one that holds more than tensors, another architecture, or
            values that are not finite.
    """
    state = as_state(read_checkpoint(path), path, "tensors by name as official PaSST checkpoints do")
    fill(network, state, path, what, hint=_HINT)
