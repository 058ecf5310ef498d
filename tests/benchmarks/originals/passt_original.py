"""hear21passt 0.0.26 from file, windows of 0.96 s: ``python -P passt_original.py WEIGHTS FOLDER``."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import librosa
import torch

sys.path.append(str(Path(__file__).parent))
from clock import measure

PARITY = Path(__file__).resolve().parents[2] / "parity" / "originals" / "passt.py"
spec = importlib.util.spec_from_file_location("passt_parity", PARITY)
parity = importlib.util.module_from_spec(spec)
spec.loader.exec_module(parity)

torch.set_num_threads(2)
parity.stand_in()
model = parity.load(sys.argv[1], 960, 960)


def embed(path: Path) -> None:
    """The paper's windows: 0.96 s every 0.96 s."""
    audio, _ = librosa.core.load(path, sr=32_000, mono=True)
    with torch.no_grad():
        model.get_timestamp_embeddings(torch.from_numpy(audio)[None])


measure(sys.argv[2], embed)
