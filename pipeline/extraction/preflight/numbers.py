"""Checks of the numbers: the same twice, alone and in any batch, whatever the padding; finite."""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.extraction.preflight.comparing import Difference, largest_difference, same_bits
from pipeline.extraction.preflight.passes import PADDED, Pass, Passes
from pipeline.extraction.preflight.result import Check, judged, skipped
from pipeline.extraction.preflight.signals import EXTREMES, TOGETHER
from pipeline.extraction.preflight.signals import shortest as shortest_samples

FLOAT32_LIMIT = 1e-5
CUDA_LIMIT = 1e-4
"""cuDNN and cuBLAS choose another algorithm for another batch size; each rounds in its own order."""
HALF_LIMIT = 2e-2
"""bfloat16 keeps 8 bits: one rounding is 2^-8 = 4e-3, and another batch size sums in another order
in every layer.  A clip that leaks into its neighbours moves them by far more."""
FLOAT16_LIMIT = 1e-3
"""Rounding to float16 costs 2^-11 = 5e-4 at most; more means values too small for it."""
FLOAT16_MAX = 65_504.0


def runs(passes: Passes) -> Check:
    """The large batch goes through at all."""
    reason = passes.crashes.get("runs")
    if reason:
        return Check("runs", "failed", None, None, f"stopped on the first batch, {reason}")
    n_passes = len(passes.all())
    return Check("runs", "passed", float(n_passes), None, f"{n_passes} forward passes, of {_shape(passes)} and less")


def deterministic(passes: Passes) -> Check:
    """The same batch, first and last of all passes, gives the same bits."""
    first, last = passes.together, passes.made["deterministic"][0]
    difference = largest_difference(passes, first, last)
    bad = (
        f"the same batch gave other numbers the second time: {difference.text()}. Dropout or noise left on, or "
        "something kept from pass to pass: call eval(), and keep no state between calls."
    )
    ok = same_bits(first, last)
    good = "the same batch gives the same bits, first and last of all passes"
    return Check("deterministic", "passed" if ok else "failed", difference.value, 0.0, good if ok else bad)


def batch(passes: Passes) -> Check:
    """A clip alone, among two, three or seven others, and in another order."""
    worst = _worst(passes, [(passes.together, one) for one in passes.made["batch"]])
    bad = (
        f"{worst.text()} between the large batch and a smaller one or none. Something mixes clips: normalisation over "
        "the batch, batch statistics, or a mask of the batch's longest clip. Compute each clip from its own samples."
    )
    return judged("batch", worst.value, _limit(passes), "alone, among 3, 4 and 8, in another order: the same", bad)


def padding(passes: Passes) -> Check:
    """A clip alone with no zeros behind it, with some and with more."""
    if "padding" not in passes.made:
        return skipped("padding", "does not apply to mels: clips of a store have one length")
    alone = passes.made["padding"]
    pairs = [(alone[3 * at], alone[3 * at + step]) for at in range(len(PADDED)) for step in (1, 2)]
    worst = _worst(passes, pairs)
    bad = (
        f"{worst.text()} with the zeros behind it. Cut or mask beyond n_valid: in the front end, before any mean or "
        "maximum over time, and in every layer that looks ahead."
    )
    return judged("padding", worst.value, _limit(passes), "without, with and with more zeros behind it: the same", bad)


def finite(passes: Passes) -> Check:
    """Silence, full scale square and alternating samples, near silence, DC, one click."""
    extremes = passes.made["finite"][0]
    bad = {EXTREMES[row] for row in _odd_rows(extremes)}
    bad |= {TOGETHER[row][0] for row in _odd_rows(passes.together)}
    sentence = (
        f"NaN or infinity for {', '.join(sorted(bad))}. A logarithm or a division of zero is likely: add a floor "
        "where the original has one."
    )
    return judged("finite", float(len(bad)), 0.0, f"finite for {', '.join(EXTREMES)}", sentence)


def responds(passes: Passes) -> Check:
    """Other sounds give other numbers, in every output."""
    dead = [name for name in passes.together.frames if _spread(passes, name) == 0.0]
    bad = (
        f"{', '.join(dead)}: a chord, noise and a chirp give the same numbers, or all zeros. Weights that were not "
        "loaded are likely."
    )
    return judged("responds", float(len(dead)), 0.0, "a chord, noise and a chirp give different numbers", bad)


def shortest(passes: Passes) -> Check:
    """The shortest clip gives a frame, one sample does no harm, and both stay finite."""
    *_, last = passes.made["shortest"]
    without = [name for name, frames in last.frames.items() if int(frames.n_frames[0]) < 1]
    odd = [one for one in passes.made["shortest"] if _odd_rows(one)]
    n = shortest_samples(passes.extractor.card)
    said = f"{', '.join(without)}: no frame" if without else "NaN or infinity"
    bad = f"{said} for a clip of at most {n} samples. Pad it with silence as the original does, or raise min_s."
    return judged(
        "shortest", float(len(without) + len(odd)), 0.0, f"the shortest clip, n = {n}, gives a finite frame", bad
    )


def longest(passes: Passes) -> Check:
    """An input longer than ``max_s`` is cut into windows and stays finite."""
    max_s = passes.extractor.card.max_s
    if not max_s:
        return skipped("longest", "does not apply: the card sets no max_s")
    n_odd = len(_odd_rows(passes.made["longest"][0]))
    bad = f"NaN or infinity for a clip longer than the card's max_s of {max_s:g} s. Cut it into windows."
    return judged("longest", float(n_odd), 0.0, f"a clip of more than {max_s:g} s goes through", bad)


def float16(passes: Passes) -> Check:
    """What storing as float16 costs; a warning names float32."""
    values = {name: _all_values(passes, name) for name in passes.together.frames}
    largest = max((float(value.abs().amax()) for value in values.values() if value.numel()), default=0.0)
    errors = {name: float16_error(value) for name, value in values.items()}
    name, error = max(errors.items(), key=lambda item: item[1], default=("", 0.0))
    if largest > FLOAT16_MAX:
        text = f"values up to {largest:.3g}; float16 holds {FLOAT16_MAX:,.0f}. Write float32 stores: --dtype float32."
        return Check("float16", "warned", largest, FLOAT16_MAX, text)
    if error > FLOAT16_LIMIT:
        text = f"{name} loses {error:.2e} of its largest magnitude in float16. Write float32 stores: --dtype float32."
        return Check("float16", "warned", error, FLOAT16_LIMIT, text)
    text = f"float16 costs at most {error:.1e} of the largest magnitude; values up to {largest:.3g}"
    return Check("float16", "passed", error, FLOAT16_LIMIT, text)


def float16_error(values: Tensor) -> float:
    """Largest error of a round trip through float16, relative to the largest magnitude."""
    scale = float(values.abs().amax()) if values.numel() else 0.0
    return float((values - values.half().to(values.dtype)).abs().amax()) / scale if scale else 0.0


def _worst(passes: Passes, pairs: list[tuple[Pass, Pass]]) -> Difference:
    return max(largest_difference(passes, left, right) for left, right in pairs)


def _limit(passes: Passes) -> float:
    if passes.extractor.mode == "half":
        return HALF_LIMIT
    return CUDA_LIMIT if passes.device.startswith("cuda") else FLOAT32_LIMIT


def _odd_rows(one: Pass) -> list[int]:
    """Rows with a feature that is not finite."""
    good = torch.ones(len(one.audio), dtype=torch.bool)
    for features, _ in one.frames.values():
        good &= torch.isfinite(features).flatten(1).all(1)
    return torch.nonzero(~good).flatten().tolist()


def _all_values(passes: Passes, output: str) -> Tensor:
    parts = [one.frames[output].features.flatten() for one in passes.all() if output in one.frames]
    values = torch.cat(parts).double()
    return values[torch.isfinite(values)]


def _spread(passes: Passes, output: str) -> float:
    """Largest difference between the first frames of the chord, the noise and the chirp; 0 for all zeros."""
    features = passes.together.frames[output].features[[0, 1, 4], :1].double()
    return float((features.amax(0) - features.amin(0)).nan_to_num(1.0).amax()) if features.numel() else 0.0


def _shape(passes: Passes) -> str:
    audio = passes.together.audio
    return f"{len(audio)} x {audio.shape[1] / passes.extractor.card.rate_hz:.4g} s"
