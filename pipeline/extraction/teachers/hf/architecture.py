"""What a model's configuration says in numbers, read without the transformers library or torch.

Sources: ``configuration_*.py`` of transformers for the names and defaults of the fields; the counting
of frames follows from the strides and kernels there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.errors import WeightsError

_KALDI_FRAME_S = 0.025
_KALDI_HOP_S = 0.010
_MERT_OF_ITS_OWN = ("feature_extractor_cqt", "deepnorm")


@dataclass(frozen=True)
class Architecture:
    """Numbers of one model; lengths are in samples at ``rate_hz``.

    Attributes:
        adapter: how audio goes in and frames come out, a key of ``adapters.ADAPTERS``.
        model_class: name of the class in transformers.
        n_layers: hidden states are 0 (what goes into the first layer) to ``n_layers``; 0 where only
            the last is to be had.
        hop: from one frame to the next.
        field, offset: what a frame sees before attention, and where that begins.
        needed: a clip of ``needed + k * hop`` samples has ``k + 1`` frames.
        limit, limit_frames: the one length that the model takes, and its frames; 0 for any length.
        n_parameters: estimated from the widths, biases and norms left out.
    """

    adapter: str
    model_class: str
    rate_hz: int
    channels: int
    n_layers: int
    hop: int
    field: int
    offset: int
    needed: int
    limit: int
    limit_frames: int
    n_parameters: int

    def count_frames(self, n_samples: int) -> int:
        """Frames of a clip; at least one where there is a sample."""
        return 0 if n_samples <= 0 else max(1, 1 + (n_samples - self.needed) // self.hop)


Settings = Mapping[str, Any]


def read_architecture(config: Settings, preprocessor: Settings, where: str) -> Architecture:
    """The numbers of a model.

    Args:
        config: ``config.json``.
        preprocessor: ``preprocessor_config.json``.
        where: the model, for messages.

    Raises:
        WeightsError: not an audio encoder known here, or the two files contradict each other.
    """
    model_type = str(config.get("model_type", ""))
    if model_type not in _READERS:
        raise WeightsError(
            f"{where}: config.json has model_type {model_type!r}, which is no audio encoder known here. "
            f"Known: {', '.join(sorted(_READERS))}. Code that comes with a model is never run."
        )
    if "sampling_rate" not in preprocessor:
        raise WeightsError(f"{where}: preprocessor_config.json has no sampling_rate; is it an audio model's?")
    model_class, read = _READERS[model_type]
    try:
        return read(config, preprocessor, model_class, where)
    except (TypeError, ValueError, ZeroDivisionError, KeyError, IndexError) as error:
        raise WeightsError(f"{where}: config.json or preprocessor_config.json makes no sense: {error!r}.") from error


def _read_wave(config: Settings, preprocessor: Settings, model_class: str, where: str) -> Architecture:
    """A stack of convolutions over the waveform, then a transformer."""
    if config.get("model_type") == "mert_model" and any(config.get(name) for name in _MERT_OF_ITS_OWN):
        raise WeightsError(
            f"{where}: this MERT has {' or '.join(_MERT_OF_ITS_OWN)} switched on, which needs the model's own code. "
            "Models without (MERT-v1-95M, MERT-v0) work."
        )
    kernels = _numbers(config.get("conv_kernel", (10, 3, 3, 3, 3, 2, 2)))
    strides = _numbers(config.get("conv_stride", (5, 2, 2, 2, 2, 2, 2)))
    widths = _numbers(config.get("conv_dim", (512,) * len(kernels)))
    field, hop = 1, 1
    for kernel, stride in zip(kernels, strides, strict=True):
        field, hop = field + (kernel - 1) * hop, hop * stride
    width, n_layers = int(config.get("hidden_size", 768)), int(config.get("num_hidden_layers", 12))
    convolutions = sum(n * a * b for n, a, b in zip(kernels, (1, *widths[:-1]), widths, strict=True))
    groups = int(config.get("num_conv_pos_embedding_groups", 16))
    positions = int(config.get("num_conv_pos_embeddings", 128))
    if model_class == "Data2VecAudioModel":
        positions *= int(config.get("conv_pos_kernel_size", 19))
    if model_class == "Wav2Vec2ConformerModel":
        transformer = _conformer(config, width, n_layers)
    else:
        transformer = width * width * positions // groups + _transformer(
            width, int(config.get("intermediate_size", 3072)), n_layers
        )
    return Architecture(
        adapter="wave",
        model_class=model_class,
        rate_hz=int(preprocessor["sampling_rate"]),
        channels=width,
        n_layers=n_layers,
        hop=hop,
        field=field,
        offset=0,
        needed=field,
        limit=0,
        limit_frames=0,
        n_parameters=convolutions + widths[-1] * width + transformer,
    )


def _read_whisper(config: Settings, preprocessor: Settings, model_class: str, where: str) -> Architecture:
    """Mel frames of a window of one length, two convolutions, a transformer. Only the encoder is used."""
    rate_hz, hop = int(preprocessor["sampling_rate"]), int(preprocessor.get("hop_length", 160))
    fft, mels = int(preprocessor.get("n_fft", 400)), int(preprocessor.get("feature_size", 80))
    window = int(preprocessor.get("chunk_length", 30)) * rate_hz
    frames = int(config.get("max_source_positions", 1500))
    _require_equal(where, "mel bands", int(config.get("num_mel_bins", 80)), mels)
    _require_equal(where, "mel frames of a window", 2 * frames, window // hop)
    width, n_layers = int(config.get("d_model", 384)), int(config.get("encoder_layers", 4))
    return Architecture(
        adapter="whisper",
        model_class=model_class,
        rate_hz=rate_hz,
        channels=width,
        n_layers=n_layers,
        hop=2 * hop,
        field=4 * hop + fft,
        offset=-(2 * hop + fft // 2),
        needed=1,
        limit=window,
        limit_frames=frames,
        n_parameters=(3 * (mels + width) + frames) * width
        + _transformer(width, int(config.get("encoder_ffn_dim", 4 * width)), n_layers),
    )


def _read_ast(config: Settings, preprocessor: Settings, model_class: str, where: str) -> Architecture:
    """Overlapping patches of a spectrogram of one length."""
    rate_hz = int(preprocessor["sampling_rate"])
    frame, hop = round(_KALDI_FRAME_S * rate_hz), round(_KALDI_HOP_S * rate_hz)
    mels, length = int(config.get("num_mel_bins", 128)), int(config.get("max_length", 1024))
    _require_equal(where, "mel bands", mels, int(preprocessor.get("num_mel_bins", 128)))
    _require_equal(where, "mel frames", length, int(preprocessor.get("max_length", 1024)))
    patch, stride = int(config.get("patch_size", 16)), int(config.get("time_stride", 10))
    width, n_layers = int(config.get("hidden_size", 768)), int(config.get("num_hidden_layers", 12))
    times = 1 + (length - patch) // stride
    patches = times * (1 + (mels - patch) // int(config.get("frequency_stride", 10)))
    return Architecture(
        adapter="ast",
        model_class=model_class,
        rate_hz=rate_hz,
        channels=width,
        n_layers=n_layers,
        hop=stride * hop,
        field=(patch - 1) * hop + frame,
        offset=0,
        needed=(patch - 1) * hop + frame,
        limit=(length - 1) * hop + frame,
        limit_frames=times,
        n_parameters=(patch * patch + patches) * width
        + _transformer(width, int(config.get("intermediate_size", 3072)), n_layers),
    )


def _read_clap(config: Settings, preprocessor: Settings, model_class: str, where: str) -> Architecture:
    """The Swin transformer of CLAP over a folded spectrogram of one length; its last map has the frames."""
    audio: Settings = config.get("audio_config") or config
    rate_hz, mels = int(preprocessor["sampling_rate"]), int(audio.get("num_mel_bins", 64))
    _require_equal(where, "mel bands", mels, int(preprocessor.get("feature_size", 64)))
    size, depths = int(audio.get("spec_size", 256)), _numbers(audio.get("depths", (2, 2, 6, 2)))
    width = int(audio.get("patch_embeds_hidden_size", 96))
    stride = _numbers(audio.get("patch_stride", (4, 4)))
    frames = size // stride[-1] // 2 ** (len(depths) - 1) * (size // mels)
    window = int(preprocessor.get("max_length_s", 10)) * rate_hz
    if 1 + window // int(preprocessor.get("hop_length", 480)) > size * (size // mels):
        raise WeightsError(f"{where}: a window of {window} samples has more mel frames than the model takes.")
    hop = math.ceil(window / frames)
    ratio = float(audio.get("mlp_ratio", 4.0))
    stages = sum(_transformer(width << i, int(ratio * (width << i)), depth) for i, depth in enumerate(depths))
    return Architecture(
        adapter="clap",
        model_class=model_class,
        rate_hz=rate_hz,
        channels=width << (len(depths) - 1),
        n_layers=0,
        hop=hop,
        field=hop,
        offset=0,
        needed=1,
        limit=window,
        limit_frames=frames,
        n_parameters=stages + sum(8 * (width << i) ** 2 for i in range(len(depths) - 1)),
    )


def _transformer(width: int, inner: int, n_layers: int) -> int:
    return n_layers * (4 * width * width + 2 * width * inner)


def _conformer(config: Settings, width: int, n_layers: int) -> int:
    inner = int(config.get("intermediate_size", 3072))
    relative = 1 if config.get("position_embeddings_type", "relative") == "relative" else 0
    return n_layers * ((7 + relative) * width * width + 4 * width * inner)


def _numbers(value: Any) -> tuple[int, ...]:
    return (int(value),) if isinstance(value, int) else tuple(int(item) for item in value)


def _require_equal(where: str, what: str, of_model: int, of_preprocessor: int) -> None:
    if of_model != of_preprocessor:
        raise WeightsError(
            f"{where}: {of_model} {what} in config.json, but {of_preprocessor} in preprocessor_config.json. "
            "The files belong to different models."
        )


_Reader = Callable[[Settings, Settings, str, str], Architecture]

#: ``model_type`` in config.json -> class in transformers, and who reads the numbers.
_READERS: dict[str, tuple[str, _Reader]] = {
    "wav2vec2": ("Wav2Vec2Model", _read_wave),
    "wav2vec2-conformer": ("Wav2Vec2ConformerModel", _read_wave),
    "hubert": ("HubertModel", _read_wave),
    "mert_model": ("HubertModel", _read_wave),
    "wavlm": ("WavLMModel", _read_wave),
    "data2vec-audio": ("Data2VecAudioModel", _read_wave),
    "unispeech": ("UniSpeechModel", _read_wave),
    "unispeech-sat": ("UniSpeechSatModel", _read_wave),
    "whisper": ("WhisperModel", _read_whisper),
    "audio-spectrogram-transformer": ("ASTModel", _read_ast),
    "clap": ("ClapAudioModelWithProjection", _read_clap),
    "clap_audio_model": ("ClapAudioModel", _read_clap),
}
