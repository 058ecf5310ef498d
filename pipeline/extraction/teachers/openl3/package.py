"""The network of the package ``openl3``, where it is installed (it needs TensorFlow).

The package loads weights from its own folder, which its setup fills by a download.  Here its function
for a given path is called instead, with the file of weights that was asked for.
"""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from pipeline.audio.extractor import Frames, Mode
from pipeline.cards import ExtractorCard
from pipeline.errors import SettingError, require
from pipeline.extraction.teachers.openl3.card import RATE_HZ, REPRESENTATIONS
from pipeline.extraction.teachers.openl3.checkpoint import load_checkpoint, read_content
from pipeline.extraction.teachers.openl3.extractor import Windowed, only_file
from pipeline.extraction.teachers.openl3.network import Network


def build(card: ExtractorCard, *, outputs: tuple[str, ...], mode: Mode, weights: tuple[Path, ...]) -> PackageOpenL3:
    """The package's model with a file's weights.

    Raises:
        MissingExtraError: the package is not installed.
        SettingError: half precision, which the package does not have.
        WeightsError: not one file, or not this network's.
    """
    path = only_file(card, weights)
    if mode == "half":
        raise SettingError(
            f"{card.name}: openl3 computes in float32. Use the mode exact or fast (which are the same with "
            "backend=package), or backend=own."
        )
    representation, size = str(card.parameters["representation"]), int(card.parameters["size"] or 0)
    width = int(card.parameters["width"] or 0)
    # Keras takes what it is given: a file is judged by the strict reader first.
    load_checkpoint(Network(width, REPRESENTATIONS[representation].pools[size]), path, f"OpenL3 of width {width}")
    package = require("openl3", extra="openl3")
    return PackageOpenL3(card, outputs=outputs, mode=mode, package=package, model=_model(path, representation, size))


class PackageOpenL3(Windowed):
    """Clips one after the other, each as the package's own function embeds it, on TensorFlow's device."""

    def __init__(
        self, card: ExtractorCard, *, outputs: tuple[str, ...], mode: Mode, package: ModuleType, model: Any
    ) -> None:
        super().__init__(card, outputs=outputs, mode=mode)
        self._embed, self._model = package.get_audio_embedding, model
        # The package multiplies by the rate and cuts off: half a sample more comes out as the hop itself.
        self._options = {"center": bool(card.parameters["center"]), "hop_size": (self.hop + 0.5) / RATE_HZ}

    def extract(self, audio: Tensor, n_valid: Tensor) -> dict[str, Frames]:
        """See :class:`~pipeline.audio.extractor.Extractor`."""
        n_frames = torch.tensor([self.count_frames("embedding", n) for n in n_valid.tolist()], dtype=torch.int64)
        most = int(n_frames.max()) if len(n_frames) else 0
        features = audio.new_zeros(len(audio), most, self.card.output("embedding").channels)
        for row, (n_samples, n) in enumerate(zip(n_valid.tolist(), n_frames.tolist(), strict=True)):
            if n:
                features[row, :n] = self._embedding(audio[row, :n_samples]).to(audio.device)
        return {"embedding": Frames(features, n_frames.to(n_valid.device))}

    def _embedding(self, clip: Tensor) -> Tensor:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of silence and of clips shorter than a window
            made, _ = self._embed(clip.cpu().numpy(), RATE_HZ, model=self._model, verbose=False, **self._options)
        return torch.from_numpy(made)


def _model(path: Path, representation: str, size: int) -> Any:
    """Keras knows HDF5 by the end of its name, and does not unzip."""
    models = require("openl3.models", extra="openl3")
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "weights.h5"
        plain.write_bytes(read_content(path))
        return models.load_audio_embedding_model_from_path(str(plain), representation, size)
