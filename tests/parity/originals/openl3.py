"""openl3 0.4.2: decibels and embeddings, with the weights of a file of ours.

``python openl3.py WEIGHTS SIGNALS.npz OUT.npz REPRESENTATION SIZE``.  The front end is the output of
the model's layer before its first batch-norm, for every window of 0.96 s; embeddings are given for hops
of 0.1 s and of 0.96 s, and for windows that are not centred.
"""

import gzip
import os
import sys
import tempfile
import warnings
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["TF_NUM_INTRAOP_THREADS"] = "1"

import numpy as np
import openl3
import tensorflow as tf


def load(path, representation, size):
    """A model with the weights of that file; Keras knows HDF5 by the end of its name."""
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "weights.h5"
        content = path.read_bytes()
        plain.write_bytes(gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content)
        return openl3.models.load_audio_embedding_model_from_path(str(plain), representation, size)


def main(weights, signals, out, representation, size):
    """Write the arrays."""
    warnings.simplefilter("ignore")
    model = load(Path(weights), representation, int(size))
    norm = next(layer for layer in model.layers if isinstance(layer, tf.keras.layers.BatchNormalization))
    front_end = tf.keras.Model(model.input, norm.input)
    made = {}
    for name, audio in np.load(signals).items():
        windows = openl3.core._preprocess_audio_batch(audio, 48_000, center=True, hop_size=0.96)
        made[f"{name}/front_end"] = front_end.predict(windows, verbose=0)[..., 0]
        for output, options in {
            "embedding": {"hop_size": 0.1},
            "paper": {"hop_size": 0.96},
            "from_start": {"hop_size": 0.5, "center": False},
        }.items():
            made[f"{name}/{output}"], _ = openl3.get_audio_embedding(
                audio, 48_000, model=model, verbose=False, **options
            )
    np.savez(out, **made)


if __name__ == "__main__":
    main(*sys.argv[1:])
