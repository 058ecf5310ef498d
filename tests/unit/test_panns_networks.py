"""PANNs' networks: folding, pooling over a clip's own end, the heads, windows."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from narrow_panns import build, narrow
from torch import Tensor, nn

from pipeline.audio.extractor import Frames, build_extractor
from pipeline.cards import ExtractorCard
from pipeline.errors import SettingError
from pipeline.extraction.teachers.panns.card import CARDS
from pipeline.extraction.teachers.panns.encoder import OwnEncoder
from pipeline.extraction.teachers.panns.extractor import Panns
from pipeline.extraction.teachers.panns.layers import Chain, ConvBlock, convolution, cut, pointwise
from pipeline.extraction.teachers.panns.network import Network
from pipeline.extraction.teachers.panns.windows import Windows
from pipeline.registry import find_teacher

RATE_HZ = 32_000
NAMES = [card.name for card in CARDS]


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def shaken(module: nn.Module) -> nn.Module:
    """In eval mode, with batch-norm statistics that matter."""
    for number, norm in enumerate(each for each in module.modules() if isinstance(each, nn.BatchNorm2d)):
        for at, name in enumerate(("running_mean", "running_var", "weight", "bias")):
            value = noise(norm.num_features, seed=10 * number + at).abs() + 0.5
            getattr(norm, name).data.copy_(value)
    return module.eval().requires_grad_(False)


def network_of(extractor: Panns) -> Network:
    assert isinstance(extractor.encoder, OwnEncoder)
    return extractor.encoder.network


def make(name: str, folder: Path, *, mode: str = "exact") -> Panns:
    card = find_teacher(name)
    outputs = tuple(output.name for output in card.outputs)
    made = build(card, outputs=outputs, mode=mode, folder=folder)  # type: ignore[arg-type]
    assert isinstance(made, Panns)
    return made


BLOCKS = {
    "two convolutions": lambda: ConvBlock(3, (4, 5)),
    "one of 5 x 5": lambda: ConvBlock(3, (4,), kernel=5),
    "no pooling": lambda: ConvBlock(3, (4, 5), pool=1),
    "first of a MobileNet": lambda: Chain(convolution(3, 4, stride=2, act=nn.ReLU)),
    "channel by channel": lambda: Chain([*convolution(3, 3, stride=2, groups=3, act=nn.ReLU6), *pointwise(3, 4)]),
    "without a stride": lambda: Chain([*convolution(3, 3, groups=3, act=nn.ReLU), *pointwise(3, 4, nn.ReLU)]),
}


@pytest.mark.parametrize("kind", BLOCKS)
@pytest.mark.parametrize("shape", [(16, 8), (13, 7), (2, 2)])
def test_a_folded_block_is_what_it_was(kind: str, shape: tuple[int, int]) -> None:
    block, x = shaken(BLOCKS[kind]()), noise(2, 3, *shape)
    wanted, _ = block(x.clone(), None)
    block.fold()  # type: ignore[operator]
    made, _ = block(x.clone(), None)
    assert not any(isinstance(each, nn.BatchNorm2d | nn.AvgPool2d) for each in block.modules())
    torch.testing.assert_close(made, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("folded", [False, True])
@pytest.mark.parametrize("kind", BLOCKS)
@pytest.mark.parametrize("length", [2, 7, 8, 13])
def test_a_block_ends_where_the_clip_does(kind: str, length: int, folded: bool) -> None:
    """A clip's part of the map is that of the clip alone, whatever lies behind it."""
    block, x = shaken(BLOCKS[kind]()), noise(2, 3, 13, 6)
    if folded:
        block.fold()  # type: ignore[operator]
    alone, _ = block(x[:1, :, :length].clone(), None)
    made, lengths = block(x.clone(), torch.tensor([length, 13]))
    assert int(lengths[0]) == alone.shape[2]
    torch.testing.assert_close(made[:1, :, : alone.shape[2]], alone, rtol=1e-5, atol=1e-5)


def test_cut_zeroes_what_lies_beyond() -> None:
    made = cut(torch.ones(2, 1, 3, 2), torch.tensor([1, 3]))
    assert made.sum((1, 2, 3)).tolist() == [2, 6]
    assert made[0, 0, 0].tolist() == [1, 1]


@pytest.mark.parametrize("name", [name for name in NAMES if name != "panns-decision"])
def test_the_clip_is_pooled_from_the_frames(name: str, tmp_path: Path) -> None:
    extractor = make(name, tmp_path)
    network = network_of(extractor)
    audio, n_valid = noise(2, 60_000) * 0.1, torch.tensor([60_000, 31_000])
    made = extractor(audio * (torch.arange(60_000) < n_valid[:, None]), n_valid)
    for index, n in enumerate(made["frames"].n_frames.tolist()):
        frames = made["frames"].features[index, :n]
        wanted = network.fc1(frames.amax(0) + frames.mean(0)).relu()
        torch.testing.assert_close(made["clip"].features[index, 0], wanted)
        logits = network.fc_audioset(wanted)
        classes = logits.softmax(-1) if name == "epanns" else logits.sigmoid()
        torch.testing.assert_close(made["tags"].features[index, 0], classes)
    halves = 2 if name in ("panns-cnn10", "panns-cnn6") else 1
    assert made["frames"].n_frames.tolist() == [(1 + n // 320) * halves // 32 for n in (60_000, 31_000)]


def test_decisions_are_made_from_three_frames_at_a_time(tmp_path: Path) -> None:
    extractor = make("panns-decision", tmp_path)
    network = network_of(extractor)
    audio, n_valid = noise(2, 60_000) * 0.1, torch.tensor([60_000, 42_000])
    made = extractor(audio * (torch.arange(60_000) < n_valid[:, None]), n_valid)
    for index, n in enumerate(made["frames"].n_frames.tolist()):
        padded = F.pad(made["frames"].features[index, :n], (0, 0, 1, 1))  # frames are not negative
        threes = padded.unfold(0, 3, 1)
        embeddings = network.fc1(threes.amax(-1) + threes.mean(-1)).relu()
        segments = network.fc_audioset(embeddings).sigmoid()
        torch.testing.assert_close(made["segments"].features[index, :n], segments)
        torch.testing.assert_close(made["tags"].features[index, 0], segments.amax(0))
        torch.testing.assert_close(made["clip"].features[index, 0], embeddings.mean(0))
    assert made["segments"].n_frames.tolist() == [5, 4]


@pytest.mark.parametrize("name", NAMES)
def test_half_precision_goes_the_same_way(name: str, tmp_path: Path) -> None:
    time = torch.arange(RATE_HZ) / RATE_HZ
    audio = torch.stack([0.3 * torch.sin(2 * math.pi * 330 * time), 0.1 * noise(RATE_HZ)])
    n_valid = torch.tensor([RATE_HZ, RATE_HZ])
    exact, half = (make(name, tmp_path, mode=mode)(audio, n_valid) for mode in ("exact", "half"))
    for output, (wanted, _) in exact.items():
        assert half[output].features.dtype == torch.float32
        assert F.cosine_similarity(half[output].features, wanted, dim=-1).min() > 0.99
        assert not torch.equal(half[output].features, wanted)


@pytest.mark.parametrize(
    ("n_samples", "count"), [(0, 0), (1, 1), (49, 1), (50, 1), (89, 1), (90, 2), (99, 2), (100, 2), (129, 2), (130, 3)]
)
def test_windows_are_at_least_half_audio(n_samples: int, count: int) -> None:
    windows = Windows(length=100, hop=40)
    assert windows.count(n_samples) == count
    assert windows.counts(torch.tensor([n_samples])).tolist() == [count]
    if n_samples:
        assert windows.view(torch.ones(1, n_samples)).shape == (1, count, 100)


def windowed(request: str, folder: Path, outputs: tuple[str, ...] = ("clip", "tags")) -> Panns:
    base = find_teacher(request.partition(":")[0])
    build(base, outputs=("clip",), mode="fast", folder=folder, width=2)
    made = build_extractor(
        narrow(find_teacher(request), 2), outputs=outputs, weights=(folder / base.weights[0].filename,)
    )
    assert isinstance(made, Panns)
    return made


def test_a_window_is_embedded_as_if_it_were_a_clip(tmp_path: Path) -> None:
    by_window = windowed("panns:window=0.96:hop=0.5", tmp_path)
    whole = windowed("panns", tmp_path)
    n_valid = torch.tensor([96_000, 40_000])
    audio = 0.1 * noise(2, 96_000) * (torch.arange(96_000) < n_valid[:, None])
    made: dict[str, Frames] = by_window(audio, n_valid)
    assert made["clip"].n_frames.tolist() == [6, 2] == [by_window.count_frames("clip", n) for n in (96_000, 40_000)]
    assert not made["clip"].features[1, 2:].any()
    for clip, window in ((0, 0), (0, 3), (0, 5), (1, 1)):
        alone = F.pad(audio[clip : clip + 1], (0, 30_720))[:, window * 16_000 :][:, :30_720]
        wanted = whole(alone, torch.tensor([30_720]))
        for output in ("clip", "tags"):
            torch.testing.assert_close(made[output].features[clip, window], wanted[output].features[0, 0])


def test_the_card_of_a_window_says_its_times() -> None:
    card = find_teacher("panns-cnn10:window=0.96")
    assert card.name == "panns-cnn10-window0.96"
    assert [(output.name, output.hop_s, output.window_s) for output in card.outputs] == [
        ("clip", 0.96, 0.96),
        ("tags", 0.96, 0.96),
    ]
    assert card.parameters["window_s"] == 0.96
    assert find_teacher("panns:window=0.96:hop=0.1").output("clip").hop_s == 0.1
    assert find_teacher("panns:window=0.0").outputs == find_teacher("panns").outputs


def test_windows_of_many_clips_go_through_in_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    extractor = windowed("panns:window=0.32", tmp_path, ("clip",))
    audio, n_valid = 0.1 * noise(3, 40_000), torch.tensor([40_000, 0, 25_000])
    audio *= torch.arange(40_000) < n_valid[:, None]
    wanted = extractor(audio, n_valid)["clip"]
    monkeypatch.setattr("pipeline.extraction.teachers.panns.extractor._CHUNK_S", 1)
    made = extractor(audio, n_valid)["clip"]
    assert wanted.n_frames.tolist() == [4, 0, 2]
    torch.testing.assert_close(made.features, wanted.features)


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        ("panns:window=0.2", r"panns:window=0\.2: the network pools 0\.32 s into one frame\. Use a window of 0\.32 s"),
        ("panns:window=-1", "Use a window of"),
        ("panns:window=inf", "Use a window of"),
        ("panns:window=nan", "Use a window of"),
        ("panns:hop=0.5", "says nothing without a window"),
        ("panns:window=0.96:hop=1", "a longer hop would leave audio out"),
        ("panns:window=0.96:hop=0.001", r"from 0\.01 s \(one mel frame\) to the window"),
        ("panns:window=0.96:hop=nan", r"from 0\.01 s"),
        ("panns:backend=theirs", "one of own, package"),
    ],
)
def test_settings_without_sense_are_refused(request_: str, says: str) -> None:
    with pytest.raises(SettingError, match=says):
        find_teacher(request_)


def test_only_the_package_s_own_networks_have_a_backend() -> None:
    def has_backend(card: ExtractorCard) -> bool:
        return any(option.name == "backend" for option in card.options)

    assert [card.name for card in CARDS if has_backend(card)] == ["panns", "panns-decision"]


def test_cudnn_stays_on_without_tf32(tmp_path: Path) -> None:
    """``torch.backends.cudnn.flags`` switches it off unless told, which only a GPU would show."""
    extractor, seen = make("panns", tmp_path), []
    cudnn = torch.backends.cudnn
    network_of(extractor).bn0.register_forward_hook(lambda *_: seen.append((cudnn.enabled, cudnn.allow_tf32)))
    extractor(noise(1, RATE_HZ), torch.tensor([RATE_HZ]))
    assert seen == [(True, False)]
