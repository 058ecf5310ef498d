"""PaSST: windows, front end, network and outputs against what is known of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from narrow_passt import CLASSES, DEPTH, HEADS, WIDTH, build, narrow
from torch import Tensor, nn

from pipeline.audio.extractor import Frames, Mode
from pipeline.audio.mel import kaldi_filters
from pipeline.errors import SettingError
from pipeline.extraction.teachers.passt import extractor as module
from pipeline.extraction.teachers.passt.card import LONGEST, RATE_HZ, SHORTEST
from pipeline.extraction.teachers.passt.extractor import Passt
from pipeline.extraction.teachers.passt.front_end import LogMel
from pipeline.extraction.teachers.passt.network import PaSST
from pipeline.extraction.teachers.passt.windows import Windows
from pipeline.registry import find_teacher

CARD = find_teacher("passt")
HEAR = find_teacher("passt:window=0.16:hop=0.05")
NAMES = ("embedding", "all", "scene", "scene_all")


def noise(*shape: int, seed: int = 0) -> Tensor:
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def made(folder: Path, *names: str, mode: Mode = "fast", request: str = "passt") -> Passt:
    extractor = build(find_teacher(request), outputs=names or NAMES, mode=mode, folder=folder)
    assert isinstance(extractor, Passt)
    return extractor.eval()


def run(extractor: Passt, audio: Tensor) -> dict[str, Frames]:
    found: dict[str, Frames] = extractor(audio, torch.full((len(audio),), audio.shape[1]))
    return found


def test_the_paper_s_windows_give_eleven_frames_in_ten_seconds() -> None:
    output = CARD.output("embedding")
    assert (output.channels, output.hop_s, output.window_s, output.offset_s) == (768, 0.96, 0.96, -0.48)
    assert Windows(30_720, 30_720).count(10 * RATE_HZ) == 11


def test_hear_s_windows_are_an_option() -> None:
    output = HEAR.output("all")
    assert (output.channels, output.hop_s, output.window_s, output.offset_s) == (1295, 0.05, 0.16, -0.08)
    assert (HEAR.parameters["window"], HEAR.parameters["hop"]) == (5120, 1600)
    assert HEAR.name == "passt-hop0.05-window0.16"
    assert HEAR.output("scene") == CARD.output("scene")


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("window=10.001", r"passt:window=10.001: .*at most 10 s: the network has learnt 99 positions.*passt/scene"),
        ("window=0.15", r"at least 0\.1500 s"),
        ("window=nan", "a finite number of seconds is needed"),
        ("window=-1", "at least"),
        ("hop=0", "the hop is at least one sample"),
        ("hop=-0.5", "the hop is at least one sample"),
        ("hop=inf", "a finite number of seconds is needed"),
    ],
)
def test_windows_that_the_network_cannot_take_are_refused(setting: str, says: str) -> None:
    with pytest.raises(SettingError, match=says):
        find_teacher(f"passt:{setting}")


@pytest.mark.parametrize("length", [8, 7])
@pytest.mark.parametrize("hop", [1, 3, 8, 11])
@pytest.mark.parametrize("n", [5, 8, 23])
def test_windows_are_those_of_a_mirrored_signal(n: int, hop: int, length: int) -> None:
    """And two clips of different lengths are each mirrored at their own end."""
    signal = np.arange(1, n + 1)
    mirrored = np.pad(signal, length // 2, mode="reflect")
    wanted = np.lib.stride_tricks.sliding_window_view(mirrored, length)[::hop]
    windows, n_valid = Windows(length, hop), torch.tensor([n, 30])
    audio = torch.zeros(2, 30)
    audio[0, :n], audio[1] = torch.from_numpy(signal), 99
    clips, frames = windows.pairs(windows.count(n_valid))
    cut = windows.cut(audio, n_valid, clips, frames)
    assert windows.count(n) == len(wanted)
    np.testing.assert_array_equal(cut[clips == 0], wanted)
    assert (cut[clips == 1] == 99).all()


def test_a_clip_of_half_a_window_has_silence_behind_it() -> None:
    windows, n_valid = Windows(8, 2), torch.tensor([3])
    clips, frames = windows.pairs(windows.count(n_valid))
    cut = windows.cut(torch.tensor([[1.0, 2, 3]]), n_valid, clips, frames)
    assert cut.tolist() == [[0, 0, 3, 2, 1, 2, 3, 0], [3, 2, 1, 2, 3, 0, 0, 0]]


def test_filters_are_kaldi_s_up_to_a_kilohertz_below_the_nyquist_frequency() -> None:
    filters = LogMel(CARD).filters
    assert filters.shape == (128, 513)
    assert filters[-1].nonzero()[-1] * RATE_HZ / 1024 == 15_000
    torch.testing.assert_close(
        filters, torch.from_numpy(kaldi_filters(RATE_HZ, 1024, 128, 0, 15_000)), atol=2e-5, rtol=0
    )


def test_front_end_of_silence_and_of_a_frame_by_hand() -> None:
    front_end = LogMel(CARD)
    torch.testing.assert_close(front_end(torch.zeros(1, 5000)), torch.full((1, 128, 16), (np.log(1e-5) + 4.5) / 5))
    signal = noise(1, 9000)
    emphasised = np.convolve(signal[0].double(), [1, -0.97], mode="valid")
    window = np.zeros(1024)
    window[112:912] = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(800) / 799)
    power = np.abs(np.fft.rfft(emphasised[320 * 10 - 512 : 320 * 10 + 512] * window)) ** 2
    wanted = (np.log(front_end.filters.double().numpy() @ power + 1e-5) + 4.5) / 5
    np.testing.assert_allclose(front_end(signal)[0, :, 10], wanted, atol=2e-5)


def test_blocks_are_torch_s_transformer_layers(tmp_path: Path) -> None:
    """An implementation of the same layers that shares nothing with ours."""
    network = made(tmp_path).network
    x = tokens = network.tokens(noise(3, 128, 40, seed=1))
    assert tokens.shape == (3, 2 + 12 * 3, WIDTH)
    for block in network.blocks:
        layer = nn.TransformerEncoderLayer(
            WIDTH, HEADS, 4 * WIDTH, 0.0, "gelu", layer_norm_eps=1e-6, batch_first=True, norm_first=True
        )
        ours = block.state_dict()
        names = {"self_attn.in_proj_": "attn.qkv.", "self_attn.out_proj.": "attn.proj."}
        names |= {"norm1.": "norm1.", "norm2.": "norm2.", "linear1.": "mlp.fc1.", "linear2.": "mlp.fc2."}
        layer.load_state_dict({a + kind: ours[b + kind] for a, b in names.items() for kind in ("weight", "bias")})
        x = layer(x)
    wanted = network.norm(x)[:, :2].mean(1)
    for fast in (False, True):
        torch.testing.assert_close(network.features(noise(3, 128, 40, seed=1), fast=fast), wanted, atol=2e-6, rtol=1e-5)


def test_tokens_carry_the_positions_of_their_row_and_column() -> None:
    network = PaSST(2, 1, 1)
    nn.init.zeros_(network.patch_embed["proj"].weight)
    nn.init.zeros_(network.patch_embed["proj"].bias)
    network.time_new_pos_embed.data[0, 0, 0] = torch.arange(99.0)
    network.freq_new_pos_embed.data[0, 1, :, 0] = torch.arange(12.0)
    network.new_pos_embed.data[0] = torch.tensor([[1.0, 2], [3, 4]])
    network.dist_token.data += 10
    found = network.tokens(torch.zeros(1, 128, 16 + 2 * 10 + 9))[0]
    assert found[:2].tolist() == [[1, 2], [13, 14]]
    assert found[2:].tolist() == [[column, row] for row in range(12) for column in range(3)]


def test_short_windows_use_the_first_columns_only(tmp_path: Path) -> None:
    extractor, audio = made(tmp_path, "embedding", "scene"), noise(1, 2 * RATE_HZ)
    before = run(extractor, audio)
    extractor.network.time_new_pos_embed.data[:, 0, :, 9:] += 1
    after = run(extractor, audio)
    assert torch.equal(before["embedding"].features, after["embedding"].features)
    assert (before["scene"].features - after["scene"].features).abs().max() > 0.01


def test_all_is_the_logits_then_the_embedding(tmp_path: Path) -> None:
    extractor = made(tmp_path)
    found = run(extractor, noise(2, 70_000))
    for embedding, both in (("embedding", "all"), ("scene", "scene_all")):
        features = found[embedding].features
        assert features.shape[2] == WIDTH
        assert torch.equal(found[both].features[..., CLASSES:], features)
        torch.testing.assert_close(found[both].features[..., :CLASSES], extractor.network.logits(features))


def test_a_scene_of_ten_seconds_is_one_window_and_longer_ones_are_averaged(tmp_path: Path) -> None:
    extractor = made(tmp_path, "scene_all")
    windows = made(tmp_path, "all", request="passt:window=10:hop=2.5")
    audio = noise(1, LONGEST + RATE_HZ)
    whole = run(extractor, audio[:, :LONGEST])["scene_all"].features[0, 0]
    torch.testing.assert_close(run(windows, audio[:, :LONGEST])["all"].features.shape, (1, 5, CLASSES + WIDTH))
    mel = extractor.front_end(audio[:, :LONGEST])
    assert mel.shape == (1, 128, 1000)
    torch.testing.assert_close(whole[CLASSES:], extractor.network.features(mel, fast=True)[0])
    longer = run(extractor, audio)["scene_all"].features[0, 0]
    torch.testing.assert_close(longer, run(windows, audio)["all"].features[0].mean(0), atol=1e-5, rtol=1e-5)
    assert (longer - whole).abs().max() > 1e-3


def test_scenes_of_several_lengths_in_a_batch_are_their_own(tmp_path: Path) -> None:
    extractor, audio = made(tmp_path, "scene"), noise(5, LONGEST + 5)
    n_valid = torch.tensor([3, 40_000, LONGEST + 5, 40_000, 0])
    audio *= torch.arange(audio.shape[1]) < n_valid[:, None]
    together = extractor(audio, n_valid)["scene"]
    assert together.n_frames.tolist() == [1, 1, 1, 1, 0]
    for index, n in enumerate(n_valid[:4].tolist()):
        alone = extractor(audio[index : index + 1, :n], n_valid[index : index + 1])["scene"].features[0]
        torch.testing.assert_close(together.features[index], alone, atol=1e-5, rtol=1e-5)


def test_how_many_windows_go_at_once_does_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    extractor, audio = made(tmp_path), noise(2, 3 * RATE_HZ)
    many = run(extractor, audio)
    monkeypatch.setattr(module, "_TOKENS_AT_ONCE", 1)
    for name, frames in run(extractor, audio).items():
        torch.testing.assert_close(frames.features, many[name].features, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("n", [1, 2, SHORTEST - 1, SHORTEST, 15_360, 15_361, 21 * RATE_HZ + 1])
def test_any_length_gives_finite_numbers(tmp_path: Path, n: int) -> None:
    extractor = made(tmp_path)
    for name, (features, n_frames) in run(extractor, noise(1, n)).items():
        assert n_frames.tolist() == [features.shape[1]] == [extractor.count_frames(name, n)]
        assert torch.isfinite(features).all()
        assert features.any()


def test_half_is_near_exact_and_its_residual_stream_is_float32(tmp_path: Path) -> None:
    exact, half = made(tmp_path, mode="exact"), made(tmp_path, mode="half")
    assert {p.dtype for p in half.network.blocks.parameters()} == {torch.bfloat16, torch.float32}
    audio = noise(1, 2 * RATE_HZ)
    for name, frames in run(exact, audio).items():
        difference = (run(half, audio)[name].features - frames.features).abs().max()
        assert 0 < difference < 0.03 * frames.features.abs().max()


def test_the_card_says_how_far_the_modes_are_from_exact() -> None:
    assert set(CARD.mode_errors) == {"fast", "half"}
    assert 0 < CARD.mode_errors["fast"] < CARD.tolerance
    assert CARD.max_s == LONGEST / RATE_HZ == 10


def test_narrow_cards_are_narrow() -> None:
    card = narrow(CARD)
    assert [output.channels for output in card.outputs] == [WIDTH, CLASSES + WIDTH, WIDTH, CLASSES + WIDTH]
    assert card.parameters["depth"] == DEPTH
