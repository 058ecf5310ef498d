"""Tiny models of each architecture with random weights, saved as the transformers library saves them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers

from pipeline.audio.extractor import Extractor, Mode, build_extractor
from pipeline.cards import ExtractorCard
from pipeline.registry import find_teacher
from pipeline.weights.models import fetch_model

WAVE = {
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "conv_dim": (8, 8, 8, 8, 8, 8, 8),
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
    "num_codevectors_per_group": 4,
}
WHISPER = {
    "d_model": 16,
    "encoder_layers": 2,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 16,
    "max_source_positions": 100,
    "max_target_positions": 8,
    "vocab_size": 16,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 1,
}
AST = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_length": 128,
}
CLAP_AUDIO = {
    "num_mel_bins": 16,
    "spec_size": 64,
    "patch_embeds_hidden_size": 8,
    "depths": [1, 1],
    "num_attention_heads": [2, 2],
    "window_size": 4,
    "hidden_size": 16,
    "num_hidden_layers": 2,
}
CLAP_TEXT = {
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "intermediate_size": 8,
    "vocab_size": 8,
    "max_position_embeddings": 8,
}
CLAP_INPUT = {
    "feature_size": 16,
    "sampling_rate": 16_000,
    "hop_length": 160,
    "max_length_s": 2,
    "fft_window_size": 512,
    "frequency_max": 8000,
}


def _wave(name: str, *, do_normalize: bool = True, **changes: Any) -> tuple[Any, Any]:
    made = getattr(transformers, f"{name}Config")(**WAVE | changes)
    preprocessor = transformers.Wav2Vec2FeatureExtractor(do_normalize=do_normalize)
    return getattr(transformers, f"{name}Model")(made), preprocessor


def _whisper() -> tuple[Any, Any]:
    model = transformers.WhisperForConditionalGeneration(transformers.WhisperConfig(**WHISPER))
    return model, transformers.WhisperFeatureExtractor(chunk_length=2)


def _ast() -> tuple[Any, Any]:
    model = transformers.ASTForAudioClassification(transformers.ASTConfig(**AST))
    with warnings.catch_warnings():  # the published AST, too, has filters narrower than a bin
        warnings.filterwarnings("ignore", "At least one mel filter")
        return model, transformers.ASTFeatureExtractor(max_length=128)


def _clap(fusion: bool) -> tuple[Any, Any]:
    audio = CLAP_AUDIO | {"enable_fusion": fusion, "fusion_type": "aff_2d" if fusion else None}
    made = transformers.ClapConfig(audio_config=audio, text_config=CLAP_TEXT, projection_dim=8)
    truncation = "fusion" if fusion else "rand_trunc"
    return transformers.ClapModel(made), transformers.ClapFeatureExtractor(**CLAP_INPUT, truncation=truncation)


MODELS: dict[str, Callable[[], tuple[Any, Any]]] = {
    "wav2vec2-group": lambda: _wave("Wav2Vec2"),
    "wav2vec2-layer": lambda: _wave("Wav2Vec2", feat_extract_norm="layer", do_stable_layer_norm=True),
    "conformer": lambda: _wave("Wav2Vec2Conformer"),
    "hubert": lambda: _wave("Hubert"),
    "wavlm": lambda: _wave("WavLM"),
    "data2vec": lambda: _wave("Data2VecAudio", num_conv_pos_embeddings=2, conv_pos_kernel_size=5),
    "unispeech": lambda: _wave("UniSpeech", do_normalize=False),
    "unispeech-sat": lambda: _wave("UniSpeechSat"),
    "whisper": _whisper,
    "ast": _ast,
    "clap": lambda: _clap(fusion=False),
    "clap-fused": lambda: _clap(fusion=True),
}
"""Model, as it is published (with its head where that is usual), and its feature extractor."""


def save_model(name: str, folder: Path, *, seed: int = 0) -> Path:
    """A model of random weights in ``folder/name``, biases and norms among them."""
    torch.manual_seed(seed)
    model, preprocessor = MODELS[name]()
    with torch.no_grad():
        for key, tensor in model.state_dict().items():
            if not tensor.is_floating_point():
                continue
            if key.endswith("running_var"):
                tensor.uniform_(200, 400)
            elif key.endswith(("running_mean", "bias")):
                tensor.normal_(0, 0.1)
            elif "position_embeddings" in key or "token" in key:
                tensor.normal_(0, 0.5)
            elif tensor.ndim > 1 and "original" not in key:
                tensor.normal_(0, (1 / tensor[0].numel()) ** 0.5)
    transformers.utils.logging.disable_progress_bar()
    model.save_pretrained(folder / name)
    preprocessor.save_pretrained(folder / name)
    return folder / name


def build_model(request: str, path: Path, *, outputs: tuple[str, ...] = (), mode: Mode = "exact") -> Extractor:
    """What ``hf:FOLDER`` and settings give."""
    return build_extractor(
        find_teacher(f"hf:{path}{request}"), outputs=outputs, mode=mode, weights=fetch_model(str(path))
    )


def build(card: ExtractorCard, *, outputs: tuple[str, ...], mode: Mode, folder: Path) -> Extractor:
    del card
    path = folder / "wav2vec2-group"
    return build_model("", path if path.is_dir() else save_model("wav2vec2-group", folder), outputs=outputs, mode=mode)
