"""Make ``musicnn.npz`` beside this file from a longer record of the original code.

    python tests/golden/make_musicnn.py SOURCE.npz

The source was made with TensorFlow 2.15.1 (numpy 1.26.4, librosa 0.11.0, Python 3.11) and the code
and checkpoints of the PyPI package ``musicnn`` 0.1.0, unpacked and not installed: ten seconds of a
synthetic signal at 16 kHz through ``librosa.feature.melspectrogram`` (512 / 256, 96 mels), cast to
float16 and back to float32, ``log10(10000 x + 1)``, cut into patches of 187 frames that do not
overlap, and ``models.define_model`` run on all patches at once (``is_training`` false).  It holds
the waveform, the log-mel and every layer; this copy keeps what the tests compare.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

KEPT = ("taggram", "penultimate", "mean_pool", "max_pool")


def main(source: Path) -> None:
    record = np.load(source, allow_pickle=False)
    arrays = {"waveform": record["waveform_int16_16khz"], "logmel": record["logmel"].astype(np.float32)}
    for model in ("MTT", "MSD"):
        arrays |= {f"{model}/{name}": record[f"{model}_musicnn/{name}"] for name in KEPT}
        arrays[f"{model}/labels"] = record[f"{model}_musicnn/labels"]
    target = Path(__file__).with_name("musicnn.npz")
    np.savez_compressed(target, **arrays)
    print(f"{target.name}: {target.stat().st_size:,} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
