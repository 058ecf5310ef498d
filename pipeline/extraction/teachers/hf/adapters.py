"""What differs between kinds of networks: how audio goes in, and how tokens become frames.

Sources: ``modeling_*.py`` of transformers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from pipeline.extraction.teachers.hf.architecture import Architecture
from pipeline.extraction.teachers.hf.front_ends import AstInput, ClapInput, FrontEnd, WaveInput, WhisperInput


@dataclass(frozen=True)
class Adapter:
    """One kind of network.

    Attributes:
        front_end: the class of its front end.
        encoder: path of the submodule that is used, empty for the model itself.
        layers: path of the list of layers in the encoder, by release of the library; none where the
            list cannot be shortened.
        frames: tokens as the network gives them -> [window, frame, channel].
        clip: tokens -> [window, channel], where a clip is not the mean of its frames.
    """

    front_end: type[FrontEnd]
    encoder: str
    layers: tuple[str, ...]
    frames: Callable[[Tensor, Architecture], Tensor]
    clip: Callable[[Tensor], Tensor] | None = None


def _as_they_are(tokens: Tensor, numbers: Architecture) -> Tensor:
    del numbers
    return tokens


def _mean_over_frequency(tokens: Tensor, numbers: Architecture) -> Tensor:
    """AST: two special tokens, then patches by frequency and time."""
    patches = tokens[:, 2:]
    return patches.reshape(len(patches), -1, numbers.limit_frames, patches.shape[2]).mean(1)


def _special_tokens(tokens: Tensor) -> Tensor:
    """AST: the mean of the class token and the distillation token."""
    return (tokens[:, 0] + tokens[:, 1]) / 2


def _mean_over_bins(tokens: Tensor, numbers: Architecture) -> Tensor:
    """CLAP: [window, channel, frequency, time]."""
    del numbers
    return tokens.mean(2).transpose(1, 2)


def _mean_of_map(tokens: Tensor) -> Tensor:
    return tokens.mean((2, 3))


ADAPTERS: dict[str, Adapter] = {
    "wave": Adapter(WaveInput, "", ("encoder.layers",), _as_they_are),
    "whisper": Adapter(WhisperInput, "encoder", ("layers",), _as_they_are),
    "ast": Adapter(AstInput, "", ("layers", "encoder.layer"), _mean_over_frequency, _special_tokens),
    "clap": Adapter(ClapInput, "", (), _mean_over_bins, _mean_of_map),
}
"""By :attr:`Architecture.adapter`."""
