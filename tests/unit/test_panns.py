"""PANNs: strict checkpoints, and clips that are what they would be alone."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from narrow_panns import build, make_random_checkpoint, narrow

from pipeline.audio.extractor import build_extractor
from pipeline.cards import ExtractorCard
from pipeline.errors import WeightsError
from pipeline.extraction.teachers.panns.extractor import Panns
from pipeline.extraction.teachers.panns.network import Cnn14
from pipeline.registry import find_teacher

CARD = find_teacher("panns")
NARROW = narrow(CARD, 2)


def load(path: Path, card: ExtractorCard = NARROW) -> None:
    build_extractor(card, weights=(path,))


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    make_random_checkpoint(tmp_path / "net.pth", width=2)
    return tmp_path / "net.pth"


def change(path: Path, **tensors: torch.Tensor | None) -> Path:
    state = torch.load(path, weights_only=True)["model"]
    for name, tensor in tensors.items():
        key = name.replace("__", ".")
        state.pop(key, None)
        if tensor is not None:
            state[key] = tensor
    torch.save({"model": state}, path)
    return path


def test_official_names_and_sizes() -> None:
    with torch.device("meta"):
        full = {name: tuple(tensor.shape) for name, tensor in Cnn14().state_dict(keep_vars=True).items()}
    assert full["spectrogram_extractor.stft.conv_real.weight"] == (513, 1, 1024)
    assert full["logmel_extractor.melW"] == (513, 64)
    assert full["conv_block6.conv2.weight"] == (2048, 2048, 3, 3)
    assert full["fc_audioset.weight"] == (527, 2048)
    assert len(full) == 84


def test_missing_and_unexpected_names_are_listed(checkpoint: Path) -> None:
    change(checkpoint, fc1__weight=None, att_block__att__weight=torch.zeros(1))
    with pytest.raises(
        WeightsError, match=r"net\.pth is not PANNs Cnn14 of width 2: missing fc1\.weight; not expected att"
    ):
        load(checkpoint)


def test_counters_of_batches_may_be_missing(checkpoint: Path) -> None:
    load(change(checkpoint, bn0__num_batches_tracked=None))


def test_another_width_is_told_by_the_shape(checkpoint: Path) -> None:
    with pytest.raises(
        WeightsError, match=r"conv_block1\.conv1\.weight has shape \[2, 1, 3, 3\], expected \[4, 1, 3, 3\]"
    ):
        load(checkpoint, narrow(CARD, 4))


def test_values_that_are_not_finite_are_told(checkpoint: Path) -> None:
    change(checkpoint, fc1__bias=torch.full((64,), torch.nan))
    with pytest.raises(WeightsError, match=r"fc1\.bias holds values that are not finite"):
        load(checkpoint)


@pytest.mark.parametrize("content", [{"state_dict": {}}, [1, 2], {"model": {"a": 1}}])
def test_a_checkpoint_of_another_kind_is_told(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(WeightsError, match=r'does not hold \{"model": tensors\}'):
        load(tmp_path / "x.pth")


class Bomb:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.target,)


@pytest.mark.parametrize("save", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value, 2))])
def test_a_pickle_bomb_is_refused_and_does_not_go_off(tmp_path: Path, save: object) -> None:
    target, path = tmp_path / "boom", tmp_path / "bomb.pth"
    save({"model": {"fc1.weight": Bomb(target)}}, path)  # type: ignore[operator]
    with pytest.raises(WeightsError, match="refused and nothing in it was run"):
        load(path)
    assert not target.exists()


def test_half_a_file_is_told(checkpoint: Path) -> None:
    checkpoint.write_bytes(checkpoint.read_bytes()[:10_000])
    with pytest.raises(WeightsError, match=r"net\.pth"):
        load(checkpoint)


def test_the_clip_is_pooled_from_the_frames(tmp_path: Path) -> None:
    extractor = build(CARD, outputs=("clip", "frames"), mode="exact", folder=tmp_path)
    assert isinstance(extractor, Panns)
    audio = torch.randn(2, 60_000, generator=torch.Generator().manual_seed(0)) * 0.1
    n_valid = torch.tensor([60_000, 31_000])
    made = extractor(audio * (torch.arange(60_000) < n_valid[:, None]), n_valid)
    for index, n in enumerate(made["frames"].n_frames.tolist()):
        frames = made["frames"].features[index, :n]
        wanted = extractor.network.fc1(frames.amax(0) + frames.mean(0)).relu()
        torch.testing.assert_close(made["clip"].features[index, 0], wanted)
    assert made["frames"].n_frames.tolist() == [5, 3]


def test_the_tables_in_the_checkpoint_are_those_of_the_transform() -> None:
    """So that the fast mode may use an FFT where the exact one uses the checkpoint's table."""
    network = Cnn14(1)
    table = network.spectrogram_extractor.stft
    signal = torch.randn(1, 4096, generator=torch.Generator().manual_seed(0))
    by_table = network.spectrogram_extractor(signal)
    spectrum = torch.stft(signal, 1024, 320, window=torch.hann_window(1024), center=False, return_complex=True)
    torch.testing.assert_close(by_table, spectrum.abs().square().transpose(1, 2), rtol=1e-4, atol=1e-4)
    assert table.conv_real.weight.shape == (513, 1, 1024)
