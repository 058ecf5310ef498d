"""panns-inference 0.1.1 from file: ``python -P panns_original.py WEIGHTS FOLDER``."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
import types
from pathlib import Path

import librosa
import torch

sys.path.append(str(Path(__file__).parent))
from clock import measure

# Importing the package's configuration fetches a label file; a stand-in keeps it from that.
spec = importlib.util.find_spec("panns_inference")
package = types.ModuleType("panns_inference")
package.__path__ = list(spec.submodule_search_locations)
settings = types.ModuleType("panns_inference.config")
settings.__dict__.update(sample_rate=32_000, labels=[""] * 527, classes_num=527)
sys.modules |= {"panns_inference": package, "panns_inference.config": settings}
inference = types.ModuleType("matplotlib.pyplot")
sys.modules.setdefault("matplotlib.pyplot", inference)

from panns_inference.inference import AudioTagging

torch.set_num_threads(2)
with contextlib.redirect_stdout(sys.stderr):
    tagging = AudioTagging(checkpoint_path=sys.argv[1], device="cpu")


def embed(path: Path) -> None:
    """As the package's own example does."""
    audio, _ = librosa.core.load(path, sr=32_000, mono=True)
    tagging.inference(audio[None, :])


measure(sys.argv[2], embed)
