"""Networks of the PANNs collection on signals: ``panns.py WEIGHTS SIGNALS.npz OUT.npz MODULE:CLASS``.

Originals: panns-inference 0.1.1 (Cnn14, Cnn14_DecisionLevelMax), epanns-inference 0.1.1
(Cnn14_pruned), and conette 0.3.2, which carries the whole ``models.py`` of the PANNs repository
(Cnn6, Cnn10, MobileNetV1, MobileNetV2).

Importing ``panns_inference`` fetches a label file with wget, and importing ``conette`` wants a
language model's packages: both are imported module by module, past their ``__init__``.
A signal shorter than one frame of the last map makes the originals fail, and is left out.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types
import warnings

import numpy as np
import torch

RATE_HZ = 32_000
SETTINGS = {
    "sample_rate": RATE_HZ,
    "window_size": 1024,
    "hop_size": 320,
    "mel_bins": 64,
    "fmin": 50,
    "fmax": 14_000,
    "classes_num": 527,
}
SHORTEST = 31 * 320
STEP = 32
"""Mel frames that the decision-level network repeats each of its segments for."""


def without_init(module: str) -> None:
    """Put empty packages in the place of a module's own, so that their ``__init__`` does not run."""
    parts = module.split(".")[:-1]
    for depth in range(1, len(parts) + 1):
        name = ".".join(parts[:depth])
        place = importlib.util.find_spec(name)
        package = types.ModuleType(name)
        package.__path__ = list(place.submodule_search_locations)
        sys.modules[name] = package


def load(reference: str, weights: str) -> torch.nn.Module:
    module, _, name = reference.partition(":")
    without_init(module)
    more = {"pre_trained": False} if name == "Cnn14_pruned" else {}
    network = getattr(importlib.import_module(module), name)(**SETTINGS, **more)
    state = torch.load(weights, weights_only=True)
    network.load_state_dict(state.get("model", state))
    return network.eval()


def run(network: torch.nn.Module, signal: torch.Tensor) -> dict[str, np.ndarray]:
    caught = {}
    blocks = [block for name, block in network.named_children() if name.startswith(("conv_block", "features"))]
    hooks = [
        blocks[-1].register_forward_hook(lambda _, __, result: caught.update(map=result.clone())),
        network.fc1.register_forward_hook(lambda _, __, result: caught.update(fc1=result.relu())),
    ]
    with torch.no_grad():
        logmel = network.logmel_extractor(network.spectrogram_extractor(signal[None]))
        result = network(signal[None], None)
    for hook in hooks:
        hook.remove()
    made = {
        "front_end": logmel[0, 0],
        "frames": caught["map"].mean(3)[0].T,
        "clip": result["embedding"] if "embedding" in result else caught["fc1"].mean(1),
        "tags": result["clipwise_output"],
    }
    if "framewise_output" in result:
        segments = len(made["frames"])
        made["segments"] = result["framewise_output"][0, : segments * STEP : STEP]
    return {name: value.numpy() for name, value in made.items()}


def main(weights: str, signals: str, out: str, reference: str) -> None:
    warnings.simplefilter("ignore")
    network = load(reference, weights)
    made = {}
    with np.load(signals) as stored:
        for name in stored.files:
            if len(stored[name]) >= SHORTEST:
                found = run(network, torch.from_numpy(stored[name]))
                made |= {f"{name}/{output}": value for output, value in found.items()}
    np.savez(out, **made)


if __name__ == "__main__":
    main(*sys.argv[1:])
