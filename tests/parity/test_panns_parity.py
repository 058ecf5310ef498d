"""Our CNN14 against panns-inference, with the same random weights.

Environment: this project's, and ``panns-inference==0.1.1`` and ``torchlibrosa==0.1.0`` installed
with ``pip install --no-deps``.  Largest difference seen at full width, with embeddings to 4.5: 4e-6
(exact) and 3e-5 (fast, on a pure tone, whose empty bands hold rounding noise alone).

Importing ``panns_inference`` fetches a label file with ``wget``; a stub for its configuration
module, put in place before the import, keeps it from that.
"""

from __future__ import annotations

import importlib.util
import math
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from narrow_panns import make_random_checkpoint

from pipeline.audio.extractor import Mode, build_extractor
from pipeline.registry import find_teacher

pytestmark = pytest.mark.parity
RATE_HZ = 32_000


@pytest.fixture(scope="module")
def original() -> Any:
    spec = importlib.util.find_spec("panns_inference")  # finds the folder, imports nothing
    if spec is None or importlib.util.find_spec("torchlibrosa") is None:
        pytest.skip("needs panns-inference 0.1.1 and torchlibrosa 0.1.0")
    package = types.ModuleType("panns_inference")
    package.__path__ = list(spec.submodule_search_locations or ())
    settings = types.ModuleType("panns_inference.config")
    settings.__dict__.update(sample_rate=RATE_HZ, labels=[], classes_num=527)
    sys.modules |= {"panns_inference": package, "panns_inference.config": settings}
    return importlib.import_module("panns_inference.models").Cnn14


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("mode", ["exact", "fast"])
def test_embeddings_are_the_package_s(original: Any, mode: Mode, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pth"
    make_random_checkpoint(path)
    theirs = original(
        sample_rate=RATE_HZ, window_size=1024, hop_size=320, mel_bins=64, fmin=50, fmax=14_000, classes_num=527
    ).eval()
    theirs.load_state_dict(torch.load(path, weights_only=True)["model"])
    ours = build_extractor(find_teacher("panns"), mode=mode, weights=(path,))
    time = torch.arange(2 * RATE_HZ) / RATE_HZ
    tone = 0.5 * torch.sin(2 * math.pi * 440 * time)
    noise = 0.1 * torch.randn(len(time), generator=torch.Generator().manual_seed(0))
    made = ours(torch.stack([tone, noise]), torch.full((2,), len(time)))["clip"].features[:, 0]
    with torch.no_grad():
        wanted = torch.cat([theirs(signal[None], None)["embedding"] for signal in (tone, noise)])
    difference = (made - wanted).abs().max()
    print(f"{mode}: largest difference {difference:.1e}, embeddings to {wanted.abs().max():.2f}")
    assert difference < 1e-5 * wanted.abs().max()
