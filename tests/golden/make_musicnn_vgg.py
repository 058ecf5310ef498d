"""Make ``musicnn_vgg.npz`` beside this file with the original code.

    python tests/golden/make_musicnn_vgg.py

Ten seconds, the waveform of ``musicnn.npz``, through ``parity/originals/musicnn.py`` in the parity
tests' TensorFlow environment (2.15.1, numpy 1.26.4, librosa 0.11.0, Python 3.11), with the
checkpoints ``MTT_vgg`` and ``MSD_vgg`` of the PyPI package ``musicnn`` 0.1.0: what it gives for five
patches 93 frames apart, and the frames of the whole clip.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE.parents[1])]


def main() -> None:
    from parity.comparing import SCRIPTS
    from parity.environments import build
    from parity.musicnn import cases

    waveform = np.load(HERE / "musicnn.npz", allow_pickle=False)["waveform"].astype(np.float32) / 32768
    arrays = {}
    for case in cases():
        (model,) = case.arguments
        if not model.endswith("_vgg"):
            continue
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder)
            np.savez(place / "signals.npz", golden=waveform)
            paths = (str(case.weights(place)), str(place / "signals.npz"), str(place / "out.npz"))
            build(case.environment).run(SCRIPTS / case.original, *paths, model)
            made = dict(np.load(place / "out.npz", allow_pickle=False))
        arrays |= {f"{model}/{key.partition('/')[2]}": made[key] for key in made if not key.endswith("/front_end")}
    np.savez_compressed(HERE / "musicnn_vgg.npz", **arrays)
    print(f"musicnn_vgg.npz: {(HERE / 'musicnn_vgg.npz').stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
