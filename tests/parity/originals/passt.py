"""PaSST by hear21passt 0.0.26: ``python passt.py WEIGHTS SIGNALS.npz OUT.npz WINDOW_MS HOP_MS [LONG]``.

Stand-ins: of timm, a module with the one name that is imported and never used without a download; of
torchaudio, whose compiled part does not load beside this torch, its own ``compliance/kaldi.py`` by
path (the mel filters are torchaudio's), and masks that are only used in training.
"""

import importlib.util
import sys
import types
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import nn


class TrainingOnly(nn.Module):
    def __init__(self, *_: object, **__: object) -> None:
        super().__init__()


def stand_in() -> None:
    for name in ("timm", "timm.models", "timm.models._hub"):
        sys.modules[name] = types.ModuleType(name)
    sys.modules["timm.models._hub"].download_cached_file = None
    package = importlib.util.find_spec("torchaudio")
    path = Path(package.submodule_search_locations[0]) / "compliance" / "kaldi.py"
    torchaudio = sys.modules["torchaudio"] = types.ModuleType("torchaudio")
    spec = importlib.util.spec_from_file_location("torchaudio.compliance.kaldi", path)
    kaldi = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(kaldi)
    torchaudio.compliance = types.SimpleNamespace(kaldi=kaldi)
    torchaudio.transforms = types.SimpleNamespace(FrequencyMasking=TrainingOnly, TimeMasking=TrainingOnly)


def load(weights: str, window_ms: float, hop_ms: float) -> nn.Module:
    from hear21passt import base

    def model(arch: str) -> nn.Module:
        from hear21passt.models.passt import get_model

        net = get_model(arch, pretrained=False)
        net.load_state_dict(torch.load(weights, weights_only=True))
        return net

    base.get_model_passt = model
    return base.get_basic_model(mode="all", timestamp_window=window_ms, timestamp_hop=hop_ms).eval()


def parts(embedding: torch.Tensor, name: str, both: str) -> dict[str, np.ndarray]:
    """Both modes of the original out of one run: ``embed_only`` is what follows the 527 logits in ``all``."""
    array = embedding.numpy()
    return {name: array[..., 527:], both: array}


def embed(model: nn.Module, signal: np.ndarray, long: bool) -> dict[str, np.ndarray]:
    audio = torch.from_numpy(signal)[None]
    made = {"front_end": model.mel(audio)[0].T.numpy()}
    if len(signal) > model.timestamp_window // 2:  # its mirrored padding takes no shorter one
        embedding, timestamps = model.get_timestamp_embeddings(audio)
        made |= parts(embedding[0], "embedding", "all") | {"timestamps": timestamps[0, :, None].numpy() / 1000}
    if len(signal) > 4800:  # nor its patches
        made |= parts(model.get_scene_embeddings(audio), "scene", "scene_all")
    if long:
        made |= parts(model.get_scene_embeddings(audio.tile(1, 4)), "scene_long", "scene_all_long")
    return made


def main() -> None:
    weights, signals, out, window_ms, hop_ms, *long = sys.argv[1:]
    warnings.simplefilter("ignore")
    stand_in()
    model = load(weights, float(window_ms), float(hop_ms))
    with np.load(signals) as given, torch.inference_mode():
        made = {
            f"{name}/{output}": array
            for name in given
            for output, array in embed(model, given[name], bool(long) and name == "music").items()
        }
    np.savez(out, **made)


if __name__ == "__main__":
    main()
