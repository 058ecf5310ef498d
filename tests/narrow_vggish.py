"""A VGGish of any width with random weights, as the two official files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.audio.extractor import Extractor, Mode, build_extractor
from pipeline.cards import ExtractorCard
from pipeline.extraction.teachers.vggish.card import NETWORK, PCA
from pipeline.extraction.teachers.vggish.network import Vggish

LEGACY = {"_use_new_zipfile_serialization": False}
"""The official files are older than PyTorch's zip format."""


def random_state(*, width: int = 64, seed: int = 0) -> dict[str, Tensor]:
    """Weights that keep the signal's size through the layers."""
    generator = torch.Generator().manual_seed(seed)
    network = Vggish(width)
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.weight.data.normal_(0, (2 / module.weight[0].numel()) ** 0.5, generator=generator)
            module.bias.data.normal_(0, 0.2, generator=generator)
    return dict(network.state_dict())


def random_pca(*, width: int = 64, seed: int = 0) -> dict[str, np.ndarray]:
    """A rotation and scales that leave few values beyond +-2, as float64 arrays."""
    random = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(random.normal(size=(2 * width, 2 * width)))
    return {
        "pca_eigen_vectors": rotation * random.uniform(0.5, 1.5, (2 * width, 1)),
        "pca_means": random.normal(0, 0.5, 2 * width),
    }


def make_random_checkpoint(folder: Path, *, width: int = 64, seed: int = 0) -> tuple[Path, Path]:
    """Write ``vggish-10086976.pth`` and ``vggish_pca_params-970ea276.pth``."""
    files = folder / NETWORK.filename, folder / PCA.filename
    torch.save(random_state(width=width, seed=seed), files[0], **LEGACY)
    save_pca(random_pca(width=width, seed=seed), files[1])
    return files


def save_pca(content: object, path: Path) -> None:
    torch.save(content, path, pickle_protocol=2, **LEGACY)
    raw = path.read_bytes().replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")
    path.write_bytes(raw)  # what numpy's module was called when the official file was written


def build(card: ExtractorCard, *, outputs: tuple[str, ...], mode: Mode, folder: Path, width: int = 2) -> Extractor:
    files = make_random_checkpoint(folder, width=width)[: len(card.weights)]
    return build_extractor(narrow(card, width), outputs=outputs, mode=mode, weights=files)


def narrow(card: ExtractorCard, width: int) -> ExtractorCard:
    channels = tuple(replace(output, channels=2 * width) for output in card.outputs)
    return replace(card, outputs=channels, parameters={**card.parameters, "width": width})
