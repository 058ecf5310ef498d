"""Canaries: short signals whose features are kept in the store.

They bound what another library version, device or machine does to the numbers: before a store is
resumed or grown, its own canaries are computed again and compared.
"""

from __future__ import annotations

import numpy as np

from pipeline import registry
from pipeline.audio.canary import canary_signals, decode_canary, encode_canaries
from pipeline.audio.views import make_view, view_seed
from pipeline.errors import StoreError
from pipeline.extraction.jobs import ExtractorSpec
from pipeline.extraction.task import load_extractor, run_network

SHORTEST_S = 3.2
Arrays = dict[str, np.ndarray]


def make_canaries(spec: ExtractorSpec, device: str) -> dict[str, Arrays]:
    """Signals, two of them also as MP3 and OGG bytes, and their features, by output.

    Runs on a worker, on the device that does the work.
    """
    card = registry.find_extractor(spec.name)
    audio = canary_signals(card.rate_hz, max(card.min_s, SHORTEST_S))
    mp3, ogg = encode_canaries(audio, card.rate_hz)
    base: Arrays = {"audio": audio, "mp3": np.frombuffer(mp3, np.uint8), "ogg": np.frombuffer(ogg, np.uint8)}
    found = compute_canaries(spec, device, base)
    return {output: base | found[output] for output in spec.outputs}


def compute_canaries(spec: ExtractorSpec, device: str, stored: Arrays) -> dict[str, Arrays]:
    """Features of stored canaries, by output: ``features``, ``n_frames``, ``decoded_features``."""
    extractor = load_extractor(spec, device)
    audio = np.ascontiguousarray(stored["audio"], np.float32)
    decoded = np.zeros((2, audio.shape[1]), np.float32)
    for row, name in enumerate(("mp3", "ogg")):
        samples = decode_canary(stored[name].tobytes(), extractor.card.rate_hz)[: audio.shape[1]]
        decoded[row, : len(samples)] = samples
    heard, n_valid = _heard(np.concatenate([audio, decoded]), spec.view, extractor.card.rate_hz)
    found = run_network(extractor, heard, n_valid, device)
    return {
        output: {
            "features": features[: len(audio)],
            "decoded_features": features[len(audio) :],
            "n_frames": n_frames[: len(audio)].astype(np.int32),
        }
        for output, (features, n_frames) in found.items()
    }


def _heard(audio: np.ndarray, view: int, rate_hz: int) -> tuple[np.ndarray, np.ndarray]:
    """What the network hears of the canaries, and valid samples; a view's seeds follow from the rows."""
    if not view:
        return audio, np.full(len(audio), audio.shape[1], np.int64)
    views = [make_view(row, len(row), rate_hz, view_seed(b"canary %d" % k, view)) for k, row in enumerate(audio)]
    return np.stack([samples for samples, _ in views]), np.array([n for _, n in views], np.int64)


def largest_difference(left: np.ndarray, right: np.ndarray) -> float:
    """Largest absolute difference relative to the largest magnitude of ``left``."""
    if left.shape != right.shape:
        return float("inf")
    scale = float(np.abs(left).max(initial=0.0)) or 1.0
    return float(np.abs(left - right).max(initial=0.0)) / scale


def compare_canaries(where: str, stored: Arrays, found: Arrays, tolerance: float) -> str:
    """Hold recomputed canaries to the card's tolerance.

    Returns:
        A warning where only decoded MP3 or OGG differs (another version of the decoder), else "".

    Raises:
        StoreError: the extractor gives other numbers here; states the difference and the limit.
    """
    if not stored:
        return ""
    difference = largest_difference(stored["features"], found["features"])
    if not difference <= tolerance or not np.array_equal(stored["n_frames"], found["n_frames"]):
        raise StoreError(
            f"{where}: the extractor gives other numbers here than when the store was made: its canaries differ by "
            f"{difference:.2e} of their range, the card allows {tolerance:.0e}. Another library version, device or a "
            "changed extractor is likely. Write a new store, or work where the first one was made."
        )
    decoded = largest_difference(stored["decoded_features"], found["decoded_features"])
    if decoded <= tolerance:
        return ""
    return (
        f"{where}: MP3 or OGG decodes differently here than when the store was made (features differ by {decoded:.2e}, "
        f"the card allows {tolerance:.0e}): another version of the decoder. WAV and FLAC are not affected."
    )
