"""On a GPU: where networks run, how fast, and whether they agree with the CPU.

For each network (mel front end; CNN14, OpenL3, VGGish, YAMNet, PaSST of full width with random
weights; MusiCNN of few random filters): clips per second on the GPU over those on the CPU with all
cores, and the largest difference between the two, relative to the largest value, which the card's
tolerance bounds, or what the card says that the mode costs.  ``half`` is compared too, and only
reported.  Audio-hours per hour, and operations per second over those of a large matrix product on
the same GPU in the same precision, say how much of the GPU is used.

Runs from a plain folder of this repository with torch, numpy and librosa; nothing of ours needs to
be installed: ``python tests/benchmarks/bench_gpu.py``.
"""
# ruff: noqa: E402

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from pipeline import registry
from pipeline.audio.extractor import Extractor, Mode, build_extractor
from pipeline.cards import ExtractorCard

CLIP_S = 10.0
FULL_WIDTH = 64
Build = Callable[[Mode], Extractor]


def run(size: int = 32) -> dict[str, float]:
    """Speed-up and agreement by network, for batches of ``size`` clips; empty where there is no GPU.

    Raises:
        AssertionError: a network did not run on the GPU, or is outside its tolerance.
    """
    if not torch.cuda.is_available():
        return {}
    found: dict[str, float] = {}
    for name, card, build in networks():
        found |= {f"{name}: {key}": value for key, value in compare(card, build, size, "cuda").items()}
    return found


def networks(width: int = 64) -> Iterator[tuple[str, ExtractorCard, Build]]:
    """Name, card, and what builds it on the CPU in a mode; with a small width, only what has one."""
    import narrow_musicnn
    import narrow_panns

    mel = registry.find_front_end("mel-openmic")
    yield mel.name, mel, lambda mode: build_extractor(mel, mode=mode)
    panns, musicnn = registry.find_teacher("panns"), registry.find_teacher("musicnn")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        for module, card, more in ((narrow_panns, panns, {"width": width}), (narrow_musicnn, musicnn, {})):
            names = tuple(output.name for output in card.outputs)
            yield (
                card.name,
                card,
                lambda mode, m=module, c=card, o=names, k=more: m.build(c, outputs=o, mode=mode, folder=place, **k),
            )
        if width == FULL_WIDTH:
            yield from _full_size(place)


def _full_size(place: Path) -> Iterator[tuple[str, ExtractorCard, Build]]:
    import narrow_openl3
    import narrow_passt
    import narrow_vggish
    import narrow_yamnet

    passt = place / "passt.pt"
    narrow_passt.make_random_checkpoint(passt)
    files = {
        "openl3:hop=0.96": (narrow_openl3.make_random_weights(place / "openl3.h5"),),
        "vggish-relu": narrow_vggish.make_random_checkpoint(place)[:1],
        "yamnet": narrow_yamnet.make_random_checkpoint(place),
        "passt": (passt,),
    }
    for name, weights in files.items():
        card = registry.find_teacher(name)
        yield name, card, lambda mode, c=card, w=weights: build_extractor(c, mode=mode, weights=w)


def compare(card: ExtractorCard, build: Build, size: int, device: str) -> dict[str, float]:
    """Rates and differences of one network on a device and on the CPU."""
    generator = torch.Generator().manual_seed(0)
    audio = 0.3 * torch.randn(size, int(CLIP_S * card.rate_hz), generator=generator)
    n_valid = torch.full((size,), audio.shape[1])
    n_valid[-1] = audio.shape[1] // 2
    audio[-1, audio.shape[1] // 2 :] = 0
    found: dict[str, float] = {}
    reference = build("exact").eval()(audio, n_valid)
    modes: tuple[Mode, ...] = ("exact", "fast", "half")
    for mode in modes:
        network = build(mode).eval().to(device)
        placed = {tensor.device.type for tensor in (*network.parameters(), *network.buffers())}
        assert placed <= {device}, f"{card.name} is on {placed}, not on {device}"
        outputs = network(audio.to(device), n_valid.to(device))
        largest = 0.0
        for name, frames in outputs.items():
            assert frames.features.device.type == device
            assert torch.equal(frames.n_frames.cpu(), reference[name].n_frames)
            largest = max(largest, _difference(reference[name].features, frames.features.float().cpu()))
        found[f"{mode} differs by (tolerance {card.tolerance:g})"] = largest
        limit = max(card.tolerance, card.mode_errors.get(mode, 0.0))
        assert mode == "half" or largest <= limit, f"{card.name} {mode}: {largest} > {limit}"
        rate = _rate(network, audio.to(device), n_valid.to(device))
        found[f"{mode} clips/s"] = rate
        found[f"{mode} audio-hours per hour"] = rate * CLIP_S
        if device == "cuda":
            done = rate * _operations(network, audio.to(device), n_valid.to(device)) / size
            found[f"{mode} operations / matrix product"] = done / _matrix_rate(mode == "half")
    few = min(size, 4)
    found["CPU clips/s"] = _rate(build("fast").eval(), audio[:few], n_valid[:few])
    found["GPU / CPU"] = found["fast clips/s"] / found["CPU clips/s"]
    return found


def _difference(reference: Tensor, found: Tensor) -> float:
    return float((reference - found).abs().max() / reference.abs().max().clamp(min=1e-9))


def _rate(network: Extractor, audio: Tensor, n_valid: Tensor, rounds: int = 3) -> float:
    """Clips per second, the best of a few rounds after one to warm up."""
    best = 0.0
    for number in range(rounds + 1):
        began = time.perf_counter()
        outputs = network(audio, n_valid)
        float(sum(frames.features.sum() for frames in outputs.values()))  # waits for the device
        if number:
            best = max(best, len(audio) / (time.perf_counter() - began))
    return best


def _operations(network: Extractor, audio: Tensor, n_valid: Tensor) -> float:
    """Floating-point operations of matrix products, convolutions and attention in one pass."""
    with FlopCounterMode(display=False) as counter:
        network(audio, n_valid)
    return float(counter.get_total_flops())


def _matrix_rate(half: bool, size: int = 8192, rounds: int = 8) -> float:
    """Operations per second of a large product, as fast as the GPU has shown in this precision."""
    left = torch.randn(size, size, device="cuda", dtype=torch.bfloat16 if half else torch.float32)
    best = 0.0
    for _ in range(rounds):
        torch.cuda.synchronize()
        began = time.perf_counter()
        torch.mm(left, left)
        torch.cuda.synchronize()
        best = max(best, 2.0 * size**3 / (time.perf_counter() - began))
    return best


if __name__ == "__main__":
    if not torch.cuda.is_available():
        print(f"PyTorch {torch.__version__} sees no GPU here; there is nothing to measure.")
        sys.exit(0)
    print(f"{torch.cuda.get_device_name()}, PyTorch {torch.__version__}")
    for name, value in run(*map(int, sys.argv[1:2])).items():
        print(f"{name:<60} {value:,.6g}")
