"""A CNN14 of any width with random weights, as an official checkpoint file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from pipeline.audio.extractor import Extractor, Mode, build_extractor
from pipeline.cards import ExtractorCard
from pipeline.extraction.teachers.panns.network import Cnn14


def make_random_checkpoint(path: Path, *, width: int = 64, seed: int = 0) -> None:
    """Write ``{"model": state_dict}`` with batch-norm statistics that matter."""
    generator = torch.Generator().manual_seed(seed)
    network = Cnn14(width)
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            fan_in = module.weight[0].numel()
            module.weight.data.normal_(0, (2 / fan_in) ** 0.5, generator=generator)
        if isinstance(module, nn.Linear):
            module.bias.data.normal_(0, 0.2, generator=generator)
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.2, generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
            module.weight.data.uniform_(0.5, 1.5, generator=generator)
            module.bias.data.normal_(0, 0.2, generator=generator)
    assert network.bn0.running_mean is not None
    assert network.bn0.running_var is not None
    network.bn0.running_mean.fill_(-40)
    network.bn0.running_var.fill_(400)
    torch.save({"model": network.state_dict()}, path)


def build(card: ExtractorCard, *, outputs: tuple[str, ...], mode: Mode, folder: Path, width: int = 2) -> Extractor:
    path = folder / card.weights[0].filename
    make_random_checkpoint(path, width=width)
    return build_extractor(narrow(card, width), outputs=outputs, mode=mode, weights=(path,))


def narrow(card: ExtractorCard, width: int) -> ExtractorCard:
    channels = tuple(replace(output, channels=32 * width) for output in card.outputs)
    return replace(card, outputs=channels, parameters={**card.parameters, "width": width})
