"""A PaSST of any size with random weights, as an official checkpoint file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from pipeline.audio.extractor import Extractor, Mode, build_extractor
from pipeline.cards import ExtractorCard
from pipeline.extraction.teachers.passt import card as passt
from pipeline.extraction.teachers.passt.network import PaSST

WIDTH, DEPTH, HEADS = 8, 2, 2
CLASSES = passt.CLASSES


def make_random_checkpoint(path: Path, *, width: int = 768, depth: int = 12, heads: int = 12, seed: int = 0) -> None:
    """Write a state dictionary in which every norm, bias and position matters.

    Attention is sharper and the residual branches weaker than at the start of a training, so that
    tokens differ and neither branch drowns the other.
    """
    generator = torch.Generator().manual_seed(seed)
    network = PaSST(width, depth, heads)
    for name, parameter in network.named_parameters():
        if "token" in name or "embed" in name.split(".")[0] or name.endswith("bias"):
            parameter.data.normal_(0, 0.2, generator=generator)
    for module in network.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            fan_in = module.weight[0].numel()
            module.weight.data.normal_(0, fan_in**-0.5, generator=generator)
        if isinstance(module, nn.LayerNorm):
            module.weight.data.uniform_(0.5, 1.5, generator=generator)
    torch.save(network.state_dict(), path)


def build(card: ExtractorCard, *, outputs: tuple[str, ...], mode: Mode, folder: Path) -> Extractor:
    path = folder / card.weights[0].filename
    make_random_checkpoint(path, width=WIDTH, depth=DEPTH, heads=HEADS)
    return build_extractor(narrow(card), outputs=outputs, mode=mode, weights=(path,))


def narrow(card: ExtractorCard, *, width: int = WIDTH, depth: int = DEPTH, heads: int = HEADS) -> ExtractorCard:
    channels = {output.name: width + CLASSES * ("all" in output.name) for output in card.outputs}
    sizes = {"width": width, "depth": depth, "heads": heads}
    return replace(
        card,
        outputs=tuple(replace(output, channels=channels[output.name]) for output in card.outputs),
        parameters={**card.parameters, **sizes},
    )


CARDS = tuple(replace(narrow(card), name=f"{card.name}-narrow") for card in passt.CARDS)
"""For ``EAST_PLUGINS=narrow_passt``."""
