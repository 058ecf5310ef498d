"""Checks of what comes out: names, shapes, types, and zeros where there is nothing."""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.extraction.preflight.passes import Pass, Passes
from pipeline.extraction.preflight.result import Check, judged


def shapes(passes: Passes) -> Check:
    """Outputs in order; float32 [batch, frames, channels] as on the card, within the store's axis."""
    wrong = list(dict.fromkeys(text for one in passes.all() for text in _wrong(passes, one)))
    bad = f"{'; '.join(wrong[:3])}. Mend the extractor, or the outputs on its card."
    about = ", ".join(f"{name} {frames.features.shape[2]}" for name, frames in passes.together.frames.items())
    return judged("shapes", float(len(wrong)), 0.0, f"float32, channels as on the card: {about}", bad)


def _wrong(passes: Passes, one: Pass) -> list[str]:
    extractor = passes.extractor
    if tuple(one.frames) != extractor.outputs:
        return [f"gives {', '.join(one.frames) or 'nothing'} where {', '.join(extractor.outputs)} were asked for"]
    found = []
    for name, (features, n_frames) in one.frames.items():
        channels = extractor.card.output(name).channels
        if features.dtype != torch.float32 or n_frames.dtype != torch.int64:
            found.append(f"{name} is {features.dtype} with n_frames {n_frames.dtype}, not float32 with int64")
        if features.shape[2] != channels:
            found.append(f"{name} has {features.shape[2]} channels where the card says {channels}")
        axis = max(1, extractor.count_frames(name, one.audio.shape[1]))
        if features.shape[1] < int(n_frames.max()) or features.shape[1] > axis:
            found.append(
                f"{name} has {features.shape[1]} rows where up to {int(n_frames.max())} are valid and a clip as long "
                f"as the batch has {axis}"
            )
    return found


def zero_rows(passes: Passes) -> Check:
    """Rows at and beyond ``n_frames`` are zero, and a clip without samples has no other rows."""
    wrong = [name for one in passes.all() for name, frames in one.frames.items() if _beyond(*frames)]
    names = ", ".join(dict.fromkeys(wrong))
    bad = f"{names}: rows beyond a clip's frames are not zero. End with pipeline.audio.extractor.mask_frames."
    return judged("zero_rows", float(len(wrong)), 0.0, "rows beyond a clip's frames are zero", bad)


def _beyond(features: Tensor, n_frames: Tensor) -> bool:
    """Whether a row that is not valid holds anything."""
    beyond = torch.arange(features.shape[1])[None, :] >= n_frames[:, None]
    return bool(features[beyond].any())
