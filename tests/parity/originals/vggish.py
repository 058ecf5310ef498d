"""VGGish of torchvggish 0.2 on signals: ``vggish.py FOLDER SIGNALS.npz OUT.npz {raw,relu,quantised}``.

``FOLDER`` holds the two files of the release.  The package fetches them from GitHub; its network is
built without that, and its post-processor gets its file from the folder.  A signal shorter than one
patch gives nothing, and is left out.  The package ends with a ReLU; ``raw`` is what goes into it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from torchvggish import torchvggish
from torchvggish.vggish_input import waveform_to_examples


def read(folder: Path, url: str) -> dict:
    """The file that an address ends with; written by the harness, so that unpickling it is safe."""
    return torch.load(folder / url.rpartition("/")[2], weights_only=False)


def main(folder: str, signals: str, out: str, variant: str) -> None:
    torchvggish.hub.load_state_dict_from_url = lambda url, **_: read(Path(folder), url)
    network = torchvggish.VGG(torchvggish.make_layers(), postprocess=variant == "quantised").eval()
    network.load_state_dict(read(Path(folder), torchvggish.VGGISH_WEIGHTS))
    if variant == "raw":
        network.embeddings = network.embeddings[:-1]
    found = {}
    for name, signal in np.load(signals, allow_pickle=False).items():
        examples = waveform_to_examples(signal.astype(np.float64), 16_000)
        if not len(examples):
            continue
        with torch.no_grad():
            embedding = network(examples).reshape(len(examples), -1)
        found[f"{name}/front_end"] = examples[:, 0].detach().numpy()
        found[f"{name}/embedding"] = ((embedding - 128) / 256 if variant == "quantised" else embedding).numpy()
    np.savez(out, **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
