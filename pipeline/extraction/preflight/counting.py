"""Checks of how many frames a clip has: as counted, and counted as the card says."""

from __future__ import annotations

from pipeline.audio.extractor import Extractor
from pipeline.extraction.preflight.passes import Passes
from pipeline.extraction.preflight.result import Check, judged
from pipeline.extraction.preflight.signals import shortest

_STEP = 997
_UP_TO_S = 12
_NEAR_S, _FAR_S = 100, 1_100


def frames(passes: Passes) -> Check:
    """Every clip of every pass has as many frames as ``count_frames`` says."""
    count = passes.extractor.count_frames
    wrong, n_counted = [], 0
    for one in passes.all():
        for name, (_, n_frames) in one.frames.items():
            for n, found in zip(one.n_valid.tolist(), n_frames.tolist(), strict=True):
                n_counted += 1
                if count(name, n) != found:
                    wrong.append(f"{name} of {n} samples has {found} frames where count_frames says {count(name, n)}")
    bad = f"{wrong[0] if wrong else ''}. The store's axis is made from count_frames: both must be the same arithmetic."
    return judged("frames", float(len(wrong)), 0.0, f"{n_counted} clips have the frames that count_frames says", bad)


def counting(passes: Passes) -> Check:
    """``count_frames`` starts at one, never falls, and grows by the card's hop."""
    extractor = passes.extractor
    wrong = [text for output in extractor.outputs for text in _wrong_counts(extractor, output)]
    n_lengths = len(_lengths(extractor))
    bad = f"{wrong[0] if wrong else ''}. Mend count_frames, or hop_s and min_s on the card."
    return judged("counting", float(len(wrong)), 0.0, f"{n_lengths} lengths per output: by the hop on the card", bad)


def _lengths(extractor: Extractor) -> range:
    return range(shortest(extractor.card), _UP_TO_S * extractor.card.rate_hz, _STEP)


def _wrong_counts(extractor: Extractor, output: str) -> list[str]:
    """What is wrong with the counts of an output, in words."""
    card, found = extractor.card, []
    counts = [extractor.count_frames(output, n) for n in _lengths(extractor)]
    if extractor.count_frames(output, 0) != 0:
        found.append(f"{output}: {extractor.count_frames(output, 0)} frames of no samples")
    if counts[0] < 1:
        found.append(f"{output}: no frame of the shortest clip, {shortest(card)} samples")
    if counts != sorted(counts):
        found.append(f"{output}: fewer frames of a longer clip")
    if not card.output(output).hop_s and set(counts) != {1}:
        found.append(f"{output}: up to {max(counts)} frames a clip where the card's hop_s of 0 says one")
    if card.output(output).hop_s:
        found += _wrong_hop(extractor, output)
    return found


def _wrong_hop(extractor: Extractor, output: str) -> list[str]:
    """Over a thousand seconds; each window that a long input is cut into may cost a frame."""
    card = extractor.card
    near, far = (extractor.count_frames(output, seconds * card.rate_hz) for seconds in (_NEAR_S, _FAR_S))
    expected = (_FAR_S - _NEAR_S) / card.output(output).hop_s
    allowed = 1 + ((_FAR_S - _NEAR_S) / card.max_s if card.max_s else 0.0)
    if abs(far - near - expected) <= allowed + 1e-6:
        return []
    return [f"{output}: {far - near} frames in {_FAR_S - _NEAR_S} s where hop_s on the card says {expected:.1f}"]
