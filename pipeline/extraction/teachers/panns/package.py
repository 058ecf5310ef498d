"""The network of the package ``panns_inference``, where it is installed.

Importing that package shells out to ``wget`` for a label file in the home folder, and so do its
constructors for weights.  Here its configuration module is replaced by one that fetches nothing
while its network is imported, and the network is built and filled directly.
"""

from __future__ import annotations

import importlib.util
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.audio.extractor import Frames, Mode
from pipeline.cards import ExtractorCard
from pipeline.errors import SettingError, require
from pipeline.extraction.teachers.panns.checkpoint import fill, read_state
from pipeline.extraction.teachers.panns.encoder import Encoder
from pipeline.extraction.teachers.panns.heads import over_segments
from pipeline.extraction.teachers.panns.variants import AUDIOSET_CLASSES, FFT, HIGH_HZ, HOP, LOW_HZ, MELS, RATE_HZ

PACKAGE = "panns_inference"


def build_package_encoder(card: ExtractorCard, mode: Mode, path: Path) -> Encoder:
    """The package's network with a checkpoint's weights.

    Raises:
        MissingExtraError: the package or torchlibrosa is not installed.
        SettingError: half precision, which the package does not have.
        WeightsError: not this network's file.
    """
    if mode == "half":
        raise SettingError(
            f"{card.name}: panns_inference computes in float32. Use the mode exact or fast (which are the same "
            "with backend=package), or backend=own."
        )
    name = str(card.parameters["network"])
    network: nn.Module = _network_class(name)(
        sample_rate=RATE_HZ,
        window_size=FFT,
        hop_size=HOP,
        mel_bins=MELS,
        fmin=LOW_HZ,
        fmax=HIGH_HZ,
        classes_num=AUDIOSET_CLASSES,
    )
    fill(network, read_state(path), path, name=name, width=64)
    return PackageEncoder(network.eval(), pooled=int(card.parameters["pooled"] or 0))


class PackageEncoder(Encoder):
    """Clips of one length at a time, since the package knows no other batches."""

    def __init__(self, network: nn.Module, *, pooled: int) -> None:
        super().__init__()
        self.network, self.pooled = network, pooled
        self._caught: Tensor | None = None
        network.get_submodule("conv_block6").register_forward_hook(self._catch)

    def _catch(self, module: nn.Module, arguments: Any, result: Tensor) -> None:
        self._caught = result.mean(3).transpose(1, 2)

    def encode(self, audio: Tensor, n_valid: Tensor, outputs: tuple[str, ...]) -> dict[str, Frames]:
        """See :class:`~pipeline.extraction.teachers.panns.encoder.Encoder`."""
        n_frames = (1 + n_valid // HOP) // self.pooled
        rows: dict[str, dict[int, Tensor]] = {name: {} for name in outputs}
        for length in sorted(set(n_valid.tolist())):
            chosen = (n_valid == length).nonzero()[:, 0]
            found = self._run(audio[chosen, :length])
            for name in outputs:
                rows[name] |= dict(zip(chosen.tolist(), found[name], strict=True))
        stacked = {name: _stack([each[row] for row in range(len(audio))]) for name, each in rows.items()}
        return {name: Frames(made, n_frames.clamp(max=made.shape[1])) for name, made in stacked.items()}

    def _run(self, audio: Tensor) -> dict[str, Tensor]:
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            result = self.network(audio, None)
        frames = self._caught
        assert frames is not None
        made = {"frames": frames, "tags": result["clipwise_output"][:, None]}
        if "embedding" in result:
            return made | {"clip": result["embedding"][:, None]}
        count = torch.full((len(frames),), frames.shape[1], device=frames.device)
        head = over_segments(
            self.network.get_submodule("fc1"), self.network.get_submodule("fc_audioset"), frames, count
        )
        repeated = result["framewise_output"][:, : frames.shape[1] * self.pooled]
        return made | {"clip": head["clip"](), "segments": repeated[:, :: self.pooled]}


def _stack(rows: list[Tensor]) -> Tensor:
    """[frames, channels] of differing lengths -> [clip, frames, channels], zero beyond each."""
    return nn.utils.rnn.pad_sequence(rows, batch_first=True)


def _network_class(name: str) -> Any:
    for needed in (PACKAGE, "torchlibrosa"):
        if importlib.util.find_spec(needed) is None:  # finds, imports nothing
            require(needed, extra="panns")
    with _no_fetching():
        return getattr(require(f"{PACKAGE}.models", extra="panns"), name)


@contextmanager
def _no_fetching() -> Iterator[None]:
    """A configuration that fetches nothing while the package is imported, and no trace of it after.

    A package that was imported before has done its fetching, and is used as it is.
    """
    spec = None if PACKAGE in sys.modules else importlib.util.find_spec(PACKAGE)
    if spec is None:
        yield
        return
    package = types.ModuleType(PACKAGE)
    package.__path__ = list(spec.submodule_search_locations or ())
    settings = types.ModuleType(f"{PACKAGE}.config")
    settings.__dict__.update(sample_rate=RATE_HZ, labels=[], classes_num=AUDIOSET_CLASSES)
    sys.modules |= {PACKAGE: package, settings.__name__: settings}
    try:
        yield
    finally:
        for module in [module for module in sys.modules if module.partition(".")[0] == PACKAGE]:
            del sys.modules[module]
