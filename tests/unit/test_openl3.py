"""OpenL3: windows as the original cuts them, decibels with known answers, settings."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from narrow_openl3 import make_random_weights, narrow
from torch import Tensor

from pipeline.audio.extractor import Mode, build_extractor
from pipeline.errors import MissingExtraError, SettingError
from pipeline.extraction.teachers.openl3.card import RATE_HZ, REPRESENTATIONS, WINDOW
from pipeline.extraction.teachers.openl3.extractor import OpenL3
from pipeline.extraction.teachers.openl3.front_end import FrontEnd
from pipeline.extraction.teachers.openl3.network import Network
from pipeline.extraction.teachers.tf_window import cosine, hann
from pipeline.registry import find_teacher


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_random_weights(tmp_path_factory.mktemp("openl3") / "narrow.h5.gz", width=2)


def build(name: str, weights: Path, *, mode: Mode = "fast") -> OpenL3:
    made = build_extractor(narrow(find_teacher(name), 2), mode=mode, weights=(weights,))
    assert isinstance(made, OpenL3)
    return made


def noise(n: int, seed: int = 0) -> Tensor:
    return 0.1 * torch.randn(n, generator=torch.Generator().manual_seed(seed))


def tone(frequency_hz: float) -> Tensor:
    time_s = torch.arange(WINDOW, dtype=torch.float64) / RATE_HZ
    return torch.sin(2 * math.pi * frequency_hz * time_s).float()


def embed(extractor: OpenL3, *clips: Tensor) -> list[Tensor]:
    n_valid = torch.tensor([len(clip) for clip in clips])
    audio = torch.nn.utils.rnn.pad_sequence(clips, batch_first=True)
    features, n_frames = extractor(audio, n_valid)["embedding"]
    return [row[:n] for row, n in zip(features, n_frames.tolist(), strict=True)]


# As many as openl3 0.4.2 gives: seconds of audio, centred, hop, embeddings.
COUNTS = [
    (1 / RATE_HZ, True, 0.1, 1),
    (0.5, True, 0.1, 1),
    (0.5 + 1 / RATE_HZ, True, 0.1, 2),
    (1.0, True, 0.1, 6),
    (3.0, True, 0.1, 26),
    (3.0, True, 0.96, 4),
    (3.0, False, 0.1, 21),
    (1.0, False, 0.96, 1),
    (0.2, False, 0.5, 1),
    (10.0, True, 0.96, 11),
]


@pytest.mark.parametrize(("seconds", "center", "hop", "wanted"), COUNTS)
def test_as_many_windows_as_the_original(seconds: float, center: bool, hop: float, wanted: int, weights: Path) -> None:
    extractor = build(f"openl3:hop={hop}:center={str(center).lower()}", weights)
    assert extractor.count_frames("embedding", round(seconds * RATE_HZ)) == wanted


def test_windows_are_centred_on_multiples_of_the_hop(weights: Path) -> None:
    """Each embedding is that of its own second, cut out by hand."""
    clip = noise(2 * RATE_HZ)
    centred, plain = build("openl3:hop=0.5", weights), build("openl3:hop=0.5:center=false", weights)
    rows = embed(centred, clip)[0]
    padded = torch.nn.functional.pad(clip, (RATE_HZ // 2, RATE_HZ))
    alone = [padded[k * RATE_HZ // 2 :][:WINDOW] for k in range(len(rows))]
    torch.testing.assert_close(rows, torch.cat(embed(plain, *alone)), rtol=1e-4, atol=1e-4)
    assert centred.card.output("embedding").offset_s == -0.5
    assert plain.card.output("embedding").offset_s == 0.0


def test_an_impulse_is_seen_only_by_windows_around_it(weights: Path) -> None:
    """In a clip of silence, at 2 s: by windows that begin after 1 s and before 2 s, in the card's times."""
    extractor = build("openl3:hop=0.25", weights)
    output = extractor.card.output("embedding")
    clip = torch.zeros(4 * RATE_HZ)
    clip[2 * RATE_HZ + 100] = 1.0
    rows = embed(extractor, clip)[0]
    silent = embed(extractor, torch.zeros(RATE_HZ))[0][0]
    starts = [output.offset_s + k * output.hop_s for k in range(len(rows))]
    seen = [bool((row - silent).abs().max() > 1e-3) for row in rows]
    assert seen == [start <= 2.0 < start + output.window_s for start in starts]
    assert sum(seen) == 4


def test_a_long_clip_does_not_need_room_for_all_its_windows(weights: Path) -> None:
    extractor = build("openl3:hop=0.1", weights)
    sizes: list[int] = []
    extractor.front_end.register_forward_pre_hook(lambda _, arguments: sizes.append(len(arguments[0])))
    rows = embed(extractor, noise(3 * RATE_HZ))[0]
    assert sum(sizes) == len(rows) == 26
    assert max(sizes) <= 2


@pytest.mark.parametrize("mode", ["exact", "fast"])
@pytest.mark.parametrize("name", list(REPRESENTATIONS))
def test_decibels_of_a_tone(name: str, mode: Mode) -> None:
    """0 dB at the tone, constant in time, and twenty times as quiet is 13 dB less: they count magnitude."""
    representation = REPRESENTATIONS[name]
    front_end = FrontEnd(representation, exact=mode == "exact")
    decibels = front_end((tone(3000) + 0.05 * tone(12_000))[None])[0]
    n_bins = representation.mels or representation.fft // 2 + 1
    assert decibels.shape == (n_bins, representation.frames)
    assert float(decibels.max()) == 0.0
    assert float(decibels.min()) >= -80.0
    if name == "linear":
        middle = decibels[:, 100]
        assert int(middle.argmax()) == 3000 * 512 // RATE_HZ
        assert float(middle[12_000 * 512 // RATE_HZ]) == pytest.approx(10 * math.log10(0.05), abs=0.01)
    else:
        assert int(decibels[:, 100].argmax()) == int(front_end.bank[3000 * 2048 // RATE_HZ].argmax())


@pytest.mark.parametrize("mode", ["exact", "fast"])
def test_silence_is_the_largest_there_is(mode: Mode) -> None:
    decibels = FrontEnd(REPRESENTATIONS["mel128"], exact=mode == "exact")(torch.zeros(2, WINDOW))
    assert not decibels.any()


def test_loudness_does_not_matter() -> None:
    front_end = FrontEnd(REPRESENTATIONS["mel128"], exact=False)
    window = noise(WINDOW)[None]
    torch.testing.assert_close(front_end(window), front_end(0.01 * window), rtol=0, atol=1e-3)


def test_the_cosine_is_a_cosine() -> None:
    angles = np.linspace(0, 2 * np.pi, 5000, dtype=np.float32)
    assert np.abs(cosine(angles) - np.cos(angles.astype(np.float64))).max() < 1e-7
    assert cosine(angles).dtype == np.float32


def test_the_window_is_that_of_tensorflow() -> None:
    """The sum of the bit patterns of ``tf.signal.hann_window(2048)``; other libraries round 83 of them otherwise."""
    window = hann(2048)
    assert window.dtype == np.float32
    assert int(window.view(np.uint32).astype(np.uint64).sum()) == 2_145_732_575_613
    assert np.abs(window - np.hanning(2049)[:-1]).max() < 3e-7


def test_tones_differ_between_modes_only_in_rounding_errors() -> None:
    """What the float32 transform adds to a tone is there in exact mode and cut off in fast mode."""
    exact, fast = (FrontEnd(REPRESENTATIONS["linear"], exact=mode)(tone(3000)[None])[0] for mode in (True, False))
    differ = (exact - fast).abs() > 0.01
    assert int(differ.sum()) > 0
    assert float(exact[differ].max()) < -60
    music_like = (tone(3000) + noise(WINDOW))[None]
    exact, fast = (FrontEnd(REPRESENTATIONS["linear"], exact=mode)(music_like)[0] for mode in (True, False))
    torch.testing.assert_close(exact, fast, rtol=0, atol=2e-3)


@pytest.mark.parametrize("name", list(REPRESENTATIONS))
def test_the_last_map_is_pooled_to_the_size_asked_for(name: str) -> None:
    representation = REPRESENTATIONS[name]
    for size, pool in representation.pools.items():
        bins = representation.mels or representation.fft // 2 + 1
        made = Network(2, pool).eval()(torch.zeros(1, bins, representation.frames))
        assert made.shape == (1, size * 2 // 64)


def test_parameters_are_counted() -> None:
    with torch.device("meta"):
        network = Network(64, (16, 24))
    tensors = [*network.parameters(), *(each for each in network.buffers() if each.ndim)]
    assert sum(tensor.numel() for tensor in tensors) == find_teacher("openl3").n_parameters


def test_the_long_embedding_is_pooled_to_the_short_one(weights: Path) -> None:
    """In the order of frequency, time, channel: 4 x 3 places of as many channels."""
    clip = noise(RATE_HZ)
    short, long = (embed(build(f"openl3:hop=0.5:size={size}", weights), clip)[0] for size in (512, 6144))
    torch.testing.assert_close(long.unflatten(1, (12, 16)).amax(1), short)


def test_settings_are_on_the_card() -> None:
    card = find_teacher("openl3-mel256:hop=0.96:size=6144:center=false")
    output = card.output("embedding")
    assert (output.hop_s, output.channels, output.offset_s) == (0.96, 6144, 0.0)
    assert (card.parameters["hop"], card.parameters["size"]) == (46_080, 6144)
    assert card.name == "openl3-mel256-centerfalse-hop0.96-size6144"
    assert card.parameters != find_teacher("openl3-mel256").parameters


def test_a_hop_is_cut_to_whole_samples_as_in_the_original() -> None:
    assert int(0.29 * RATE_HZ) == 13_919
    assert find_teacher("openl3:hop=0.29").output("embedding").hop_s == 13_919 / RATE_HZ


@pytest.mark.parametrize("hop", ["0", "-1", "nan", "inf", "0.0001", "1000"])
def test_hops_that_make_no_sense_are_told(hop: str) -> None:
    with pytest.raises(SettingError, match=r"openl3:hop=.*between 0\.01 and 60 seconds"):
        find_teacher(f"openl3:hop={hop}")


def test_sizes_there_are_not_are_told() -> None:
    with pytest.raises(SettingError, match=r"openl3:size=1024: one of 512, 6144"):
        find_teacher("openl3:size=1024")


def test_the_package_is_asked_for_by_its_extra(weights: Path) -> None:
    card = narrow(find_teacher("openl3:backend=package"), 2)
    with pytest.raises(MissingExtraError, match=r"openl3 is not installed.*east-music\[openl3\]"):
        build_extractor(card, mode="exact", weights=(weights,))


def test_the_package_has_no_half_precision(weights: Path) -> None:
    card = narrow(find_teacher("openl3:backend=package"), 2)
    with pytest.raises(SettingError, match="openl3 computes in float32"):
        build_extractor(card, mode="half", weights=(weights,))


def test_half_is_near(weights: Path) -> None:
    clip = noise(2 * RATE_HZ)
    fast, half = (embed(build("openl3:hop=0.5", weights, mode=mode), clip)[0] for mode in ("fast", "half"))
    difference = (fast - half).norm() / fast.norm()
    assert 0 < float(difference) < 0.05
