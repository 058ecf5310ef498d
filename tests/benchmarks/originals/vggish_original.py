"""torchvggish 0.2 from file: ``python -P vggish_original.py WEIGHTS_FOLDER FOLDER``."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

sys.path.append(str(Path(__file__).parent))
from clock import measure
from torchvggish import torchvggish, vggish_input

torch.set_num_threads(2)
model = torchvggish.VGG(torchvggish.make_layers(), postprocess=False)
model.load_state_dict(torch.load(Path(sys.argv[1]) / "vggish-10086976.pth", weights_only=True))
model.eval()


def embed(path: Path) -> None:
    """Soundfile, resampy, log-mel in numpy, network: what the package does with a file."""
    with torch.no_grad():
        model(vggish_input.wavfile_to_examples(str(path)))


measure(sys.argv[2], embed)
