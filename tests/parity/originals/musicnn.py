"""The musicnn package's own spectrograms and networks: MODEL is MTT_musicnn, MSD_musicnn, MTT_vgg or MSD_vgg.

    python musicnn.py WEIGHTS SIGNALS.npz OUT.npz MODEL

WEIGHTS is a folder with ``.index`` and ``.data-00000-of-00001``.  The log-mel comes from
``extractor.batch_data`` (by way of a sound file, with patches 93 frames apart), the layers from
``models``.  ``extractor.extractor`` itself is not used: with its batch of one patch it repeats the
first one.  ``frames`` are the maps of a network over the whole clip.  A clip shorter than a patch
gives no patches there, only a spectrogram and frames.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import soundfile

PATCH_FRAMES, PATCH_HOP_FRAMES, RATE_HZ = 187, 93, 16_000


def main(weights: Path, signals: Path, out: Path, model: str) -> None:
    made = {}
    for name, signal in np.load(signals, allow_pickle=False).items():
        patches, logmel = log_mel(signal)
        made[f"{name}/front_end"] = logmel
        parts = whole_clip(weights, model, logmel)
        if len(patches):
            parts |= of_patches(weights, model, patches)
        made |= {f"{name}/{key}": values.astype(np.float32) for key, values in parts.items()}
    np.savez(out, **made)


def log_mel(signal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    from musicnn.extractor import batch_data

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "signal.wav"
        soundfile.write(path, signal, RATE_HZ, subtype="FLOAT")
        if 1 + len(signal) // 256 < PATCH_FRAMES:  # batch_data fails where there is no patch
            whole = 1 + len(signal) // 256
            batch, logmel = batch_data(str(path), whole, whole)
            return batch[:0], logmel.astype(np.float32)
        batch, logmel = batch_data(str(path), PATCH_FRAMES, PATCH_HOP_FRAMES)
    return batch.astype(np.float32), logmel.astype(np.float32)


def of_patches(weights: Path, model: str, patches: np.ndarray) -> dict[str, np.ndarray]:
    taggram, *features = run(weights, model, patches)
    if model.endswith("_vgg"):
        layers = np.concatenate([pool.mean((1, 2)) for pool in features], 1)
        return {"taggram": taggram, "pool5": features[4].reshape(len(patches), -1), "layers": layers}
    *_, mean_pool, max_pool, penultimate = features
    return {"taggram": taggram, "pools": np.concatenate([mean_pool, max_pool], 1), "penultimate": penultimate}


def whole_clip(weights: Path, model: str, logmel: np.ndarray) -> dict[str, np.ndarray]:
    if model.endswith("_vgg"):
        if len(logmel) < 18:
            return {}
        (pool4,) = run(weights, model, logmel[None], only=4)
        return {"frames": pool4[0].mean(1)}
    _, *maps = run(weights, model, logmel[None])
    return {"frames": np.concatenate([part[0].reshape(len(logmel), -1) for part in maps[:5]], 1)}


def run(weights: Path, model: str, batch: np.ndarray, only: int = 0) -> list[np.ndarray]:
    """Tags and features; with ``only``, the feature of that number, without the layer of tags.

    The VGG's layer of tags has a shape of its own for each length, so it is not restored then.
    """
    import tensorflow as tf
    from musicnn import models

    tf.compat.v1.reset_default_graph()
    with tf.name_scope("model"):
        x = tf.compat.v1.placeholder(tf.float32, [None, *batch.shape[1:]])
        logits, *features = models.define_model(x, tf.constant(False), model, 50)
    wanted = [features[only - 1]] if only else [tf.sigmoid(logits), *features]
    variables = [v for v in tf.compat.v1.global_variables() if not only or not v.name.startswith("dense")]
    with tf.compat.v1.Session() as session:
        tf.compat.v1.train.Saver(variables).restore(session, f"{weights}/")
        return session.run(wanted, feed_dict={x: batch})


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]), sys.argv[4])
